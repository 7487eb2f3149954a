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
        assert_eq!(with("listen", text).listen.to_string(), expected);
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
