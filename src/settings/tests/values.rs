//! The rules of single values, through the flags.

use super::*;

#[test]
fn names_are_held_to_the_rules_of_kubernetes() {
    let (label, subdomain) = ("a".repeat(63), ["abcdefg"; 32].join(".")[..253].to_owned());
    assert_eq!(with("namespace", &label).namespace, Some(label.clone()));
    assert_eq!(with("service", "1-a").service.as_deref(), Some("1-a"));
    let long = settings(&["--service=app", "--deployment", &subdomain], &[]);
    assert_eq!(long.target_ref, TargetRef::deployment(&subdomain));
    let cases = [
        ("namespace", label.clone() + "a", "is longer than the 63"),
        ("service", "a.b".into(), "has \".\""),
        ("namespace", "Default".into(), "has \"D\""),
        ("service", "app-".into(), "does not begin and end"),
        ("service", "-app".into(), "does not begin and end"),
        ("deployment", subdomain + "a", "is longer than the 253"),
        ("deployment", "a..b".into(), "does not begin and end"),
        ("deployment", "a_b".into(), "has \"_\""),
        ("deployment", "b/..".into(), "has \"/\""),
    ];
    for (flag, value, expected) in cases {
        let args = [
            "--deployment=app".into(),
            "--service=app".into(),
            format!("--{flag}={value}"),
        ];
        let errors = errors(&args.each_ref().map(String::as_str), &[]);
        assert!(errors[0].contains(expected), "{value}: {errors:?}");
    }
}

#[test]
fn a_deployment_that_cannot_name_a_service_needs_one_named() {
    let errors = errors(&["--deployment=my.app"], &[]);
    assert_eq!(errors.len(), 1);
    assert!(
        errors[0].starts_with("--service (ZPA_SERVICE): is not set, and"),
        "{errors:?}"
    );
    assert!(errors[0].contains("\"my.app\""), "{errors:?}");
}

#[test]
fn a_port_is_a_number_or_a_name() {
    for number in [1, 80, 65535] {
        assert_eq!(
            with("port", &number.to_string()).port,
            Some(PortRef::Number(number))
        );
    }
    for name in ["http", "80-a", "a-name-beyond-fifteen-characters"] {
        assert_eq!(with("port", name).port, Some(PortRef::Name(name.into())));
    }
    for wrong in [
        "0",
        "65536",
        "99999999999999999999999",
        "+80",
        "HTTP",
        "a b",
    ] {
        assert!(
            error("port", wrong).ends_with("; use e.g. http, 80"),
            "{wrong}"
        );
    }
}

#[test]
fn a_listen_address_is_an_ip_address_and_a_port_or_a_port_after_a_colon() {
    let cases = [
        (":8080", "[::]:8080"),
        (":0", "[::]:0"),
        ("127.0.0.1:0", "127.0.0.1:0"),
        ("localhost:80", "127.0.0.1:80"),
        ("[::1]:65535", "[::1]:65535"),
    ];
    for (text, expected) in cases {
        assert_eq!(with("listen", text).listen[0].to_string(), expected);
    }
    for wrong in [
        "8080",
        ":",
        ":65536",
        ":+1",
        "my-host:80",
        "localhost:",
        "localhost:65536",
        "::1:80",
        "127.0.0.1",
    ] {
        assert!(error("listen", wrong).starts_with("--listen="), "{wrong}");
    }
}

#[test]
fn a_list_of_listen_addresses_says_where_each_leads() {
    for (label, text, expected) in [
        (
            "by name and by number",
            "8080=http,5432=5432",
            &["[::]:8080=http", "[::]:5432=5432"][..],
        ),
        ("one alone", ":8080=http", &["[::]:8080=http"]),
        (
            "addresses of each family, and blanks",
            "127.0.0.1:80=http, [::1]:80=grpc",
            &["127.0.0.1:80=http", "[::1]:80=grpc"],
        ),
        (
            "ports of the kernel's choice",
            "127.0.0.1:0=a,127.0.0.1:0=b",
            &["127.0.0.1:0=a", "127.0.0.1:0=b"],
        ),
    ] {
        let listeners = with("listen", text).listen;
        let listeners: Vec<String> = listeners.iter().map(Listener::to_string).collect();
        assert_eq!(listeners, expected, "{label}");
    }
    let many: Vec<String> = (1..=65).map(|port| format!("{port}=p{port}")).collect();
    for (label, wrong, expected) in [
        (
            "an address without its port",
            "8080=http,5432",
            "\"5432\" does not say which",
        ),
        (
            "no port after the sign",
            "8080=",
            "\"8080=\": does not begin and end",
        ),
        ("no address", "=http", "\"=http\": is not an IP address"),
        ("a comma too many", "8080=http,", "\"\" does not say which"),
        (
            "an address twice",
            "8080=http,:8080=db",
            "has the address [::]:8080 twice",
        ),
        (
            "a port twice",
            "8080=http,8081=http",
            "has the Service's port http twice",
        ),
        (
            "a port that is none",
            "8080=70000",
            "\"8080=70000\": is not a port",
        ),
        ("too many", &many.join(","), "has more than 64 addresses"),
    ] {
        let error = error("listen", wrong);
        assert!(error.contains(expected), "{label}: {error}");
        let example = "; use e.g. :8080, 0.0.0.0:8080, [::1]:8080, 8080=http,5432=postgres";
        assert!(error.ends_with(example), "{label}: {error}");
    }
}

#[test]
fn which_port_a_listener_leads_to_is_said_once() {
    for (other, flag) in [("--port=http", "--port"), ("--target=db:1", "--target")] {
        let args = ["--deployment=app", "--listen=8080=http", other];
        let errors = errors(&args, &[]);
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].contains("both say which port"), "{errors:?}");
        assert!(errors[0].contains(flag), "{errors:?}");
    }
}

#[test]
fn metrics_call_a_port_by_the_services_and_else_by_its_own_number() {
    for (args, expected) in [
        (&["--listen=8080=http,1=2"][..], &["http", "2"][..]),
        (&["--listen=:8080"], &["8080"]),
        (&["--listen=:8080", "--port=web"], &["web"]),
    ] {
        let settings = settings(&[&["--deployment=app"], args].concat(), &[]);
        let port = settings.port.as_ref();
        let labels: Vec<String> = settings.listen.iter().map(|it| it.label(port)).collect();
        assert_eq!(labels, expected, "{args:?}");
    }
}

#[test]
fn the_least_and_the_most_of_each_number() {
    assert_eq!(with("idle-ttl", "1s").idle_ttl, Duration::from_secs(1));
    assert!(error("idle-ttl", "999ms").contains("is too short: the least is 1s"));
    assert_eq!(
        with("hold-timeout", "1ns").hold_timeout,
        Duration::from_nanos(1)
    );
    assert!(error("hold-timeout", "0").contains("must be more than zero"));
    assert!(error("connect-timeout", "0s").contains("must be more than zero"));
    assert_eq!(with("drain-delay", "0").drain_delay, Duration::ZERO);
    assert_eq!(with("drain-timeout", "0").drain_timeout, Duration::ZERO);
    assert_eq!(
        with("wake-replicas", "2147483647")
            .wake_replicas
            .to_string(),
        "2147483647"
    );
    assert_eq!(with("max-connections", "1").max_connections, Some(1));
    for (flag, wrong) in [
        ("wake-replicas", "2147483648"),
        ("wake-replicas", "-1"),
        ("wake-replicas", "1.5"),
        ("max-connections", "0"),
        ("max-connections", "+1"),
        ("max-connections", "99999999999999999999999"),
    ] {
        assert!(
            error(flag, wrong).contains("is not a whole number"),
            "{flag} {wrong}"
        );
    }
}

#[test]
fn plain_http_is_for_loopback() {
    let proxy = with("api-server", "http://127.0.0.1:8001").api_server;
    assert_eq!(proxy.map(|server| server.tls), Some(false));
    assert!(error("api-server", "http://10.96.0.1").contains("sends the token in the clear"));
}

#[test]
fn a_log_filter_that_env_logger_would_misread_is_refused() {
    for filter in [
        "off",
        "INFO",
        "debug",
        "warn,zpa=debug",
        "zpa::engine=error",
    ] {
        assert_eq!(with("log", filter).log, filter);
    }
    for (wrong, expected) in [
        ("trace", "trace is not in this build"),
        ("info,zpa=trace", "trace is not in this build"),
        ("inof", "\"inof\" is not one of"),
        ("zpa", "\"zpa\" is not one of"),
        ("zpa=", "\"\" is not one of"),
        ("info,", "\"\" is not one of"),
        ("info/text", "\"info/text\" is not one of"),
        ("=info", "\"\" is not a module's name"),
        ("a b=info", "\"a b\" is not a module's name"),
    ] {
        assert!(error("log", wrong).contains(expected), "{wrong}");
    }
}
