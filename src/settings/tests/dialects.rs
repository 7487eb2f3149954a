//! The flags of the ancestors: what they mean, and what has become of them.

use super::*;
use crate::kubeconfig_flags::Secret;
use crate::workload::Resource;

/// The args of zero-pod-autoscaler's own page.
const GO_PAGE: [&str; 5] = [
    "--namespace=$(NAMESPACE)",
    "--address=0.0.0.0:80",
    "--deployment=myapp",
    "--endpoints=myapp",
    "--target=myapp:80",
];

/// The args of traffic-pod-autoscaler's own page.
const PYTHON_PAGE: [&str; 10] = [
    "--namespace=my-app",
    "--local-port=80",
    "--deployment=my-app-deployment",
    "--endpoint=my-app-svc",
    "--target-address=my-app-svc",
    "--target-port=80",
    "--expiration-time=600",
    "--check-interval=30",
    "--max-retry=120",
    "--log-level=INFO",
];

/// Those of its example.
const PYTHON_EXAMPLE: [&str; 9] = [
    "--namespace=webapp",
    "--local-port=9000",
    "--rs-label-selector='app=guestbook'",
    "--endpoint=frontend-svc",
    "--target-address=frontend-svc",
    "--target-port=80",
    "--expiration-time=300",
    "--check-interval=30",
    "--log-level=DEBUG",
];

fn target(text: &str) -> Option<HostPort> {
    Some(text.parse().unwrap())
}

#[test]
fn the_go_page_means_what_it_means_there() {
    let read = settings(&GO_PAGE, &[]);
    let expected = Settings {
        dialect: Dialect::Go,
        namespace: None,
        target_ref: TargetRef::deployment("myapp"),
        service: Some("myapp".into()),
        target: target("myapp:80"),
        pods_first: true,
        listen: listener("0.0.0.0:80"),
        admin_is_optional: true,
        admin_listen: Some("127.0.0.1:8080".parse().unwrap()),
        warnings: vec![
            "--namespace=\"$(NAMESPACE)\" counts as not given: the pod has no variable of that name"
                .into(),
        ],
        ..settings(&["--deployment=myapp"], &[])
    };
    assert_eq!(read, expected);
    assert_eq!(read.idle_ttl, Duration::from_secs(3600));
}

#[test]
fn the_python_page_means_what_it_means_there() {
    let read = settings(&PYTHON_PAGE, &[]);
    let expected = Settings {
        dialect: Dialect::PythonDeployment,
        namespace: Some("my-app".into()),
        target_ref: TargetRef::deployment("my-app-deployment"),
        service: Some("my-app-svc".into()),
        target: target("my-app-svc:80"),
        pods_first: true,
        listen: listener("0.0.0.0:80"),
        admin_is_optional: true,
        idle_ttl: Duration::from_secs(600),
        hold_timeout: Duration::from_secs(180),
        warnings: vec![
            "accepted, but without effect here: --check-interval (the end of the expiration \
             time is kept to the moment, not looked for at intervals)"
                .into(),
        ],
        ..settings(&["--deployment=my-app-deployment", "--service=x"], &[])
    };
    assert_eq!(read, expected);
}

#[test]
fn the_python_example_means_what_it_means_there() {
    let read = settings(&PYTHON_EXAMPLE, &[]);
    let expected = Settings {
        dialect: Dialect::PythonLabels,
        namespace: Some("webapp".into()),
        target_ref: TargetRef::ReplicaSetOwner {
            selector: "app=guestbook".into(),
        },
        service: Some("frontend-svc".into()),
        target: target("frontend-svc:80"),
        pods_first: true,
        state_configmap: Some("traffic-pod-autoscaler-cm".into()),
        listen: listener("0.0.0.0:9000"),
        admin_is_optional: true,
        admin_listen: Some("0.0.0.0:8080".parse().unwrap()),
        ping_path: Some("/ping".into()),
        metrics_path: Some("/metrics".into()),
        idle_ttl: Duration::from_secs(300),
        hold_timeout: Duration::from_secs(90),
        log: "debug".into(),
        warnings: read.warnings.clone(),
        ..settings(&["--deployment=x"], &[])
    };
    assert_eq!(read, expected);
}

#[test]
fn what_is_not_said_is_what_that_ancestor_takes() {
    for (dialect, args, expected) in [
        (
            Dialect::Go,
            &["-l", "app=web"][..],
            [
                ("listen", "127.0.0.1:3000"),
                ("admin-listen", "127.0.0.1:8080"),
                ("idle-ttl", "1h0m0s"),
                ("hold-timeout", "5m0s"),
                ("wake-replicas", "1"),
                ("log", "info"),
            ],
        ),
        (
            Dialect::PythonDeployment,
            &["--deployment=web", "--endpoint=web"],
            [
                ("listen", "0.0.0.0:80"),
                ("admin-listen", "[::]:8081"),
                ("idle-ttl", "30m0s"),
                ("hold-timeout", "1m30s"),
                ("wake-replicas", "1"),
                ("log", "info"),
            ],
        ),
        (
            Dialect::PythonLabels,
            &["--rs-label-selector=app=web"],
            [
                ("listen", "0.0.0.0:80"),
                ("admin-listen", "0.0.0.0:8080"),
                ("idle-ttl", "30m0s"),
                ("hold-timeout", "1m30s"),
                ("wake-replicas", "1"),
                ("log", "info"),
            ],
        ),
    ] {
        let read = settings(args, &[]);
        assert_eq!(read.dialect, dialect);
        let shown: Vec<_> = in_force(&read).collect();
        for (flag, value) in expected {
            let found = (flag, Some(value.to_owned()));
            assert!(shown.contains(&found), "{dialect}: {found:?} in {shown:?}");
        }
    }
}

#[test]
fn every_flag_of_the_go_ancestor_is_read() {
    let args = [
        "--address=:1",
        "--admin-address=localhost:2",
        "-l=app=web",
        "--endpoints=web",
        "--target=[::1]:3",
        "--ttl=2h",
        "-n",
        "ns/prod",
        "--kubeconfig=/config",
        "--context=a",
        "--cluster=b",
        "--user=c",
        "--server=https://d",
        "--token=canary",
        "--certificate-authority=/ca",
        "--client-certificate=/crt",
        "--client-key=/key",
        "--request-timeout=7",
        "--as=jane",
        "--as-group=x",
        "--as-group=CN=y,OU=z",
        "--insecure-skip-tls-verify=false",
    ];
    let read = settings(&args, &[]);
    assert_eq!(read.dialect, Dialect::Go);
    assert_eq!(read.listen[0].to_string(), "[::]:1");
    assert_eq!(read.admin_listen, Some("127.0.0.1:2".parse().unwrap()));
    assert_eq!(
        read.target_ref,
        TargetRef::Labels {
            resource: Resource::deployments(),
            selector: "app=web".into(),
        }
    );
    assert_eq!(read.service.as_deref(), Some("web"));
    assert_eq!(read.target, target("[::1]:3"));
    assert_eq!(read.idle_ttl, Duration::from_secs(7200));
    assert_eq!(read.namespace.as_deref(), Some("prod"));
    assert_eq!(
        read.kube,
        KubeconfigFlags {
            kubeconfig: Some("/config".into()),
            context: Some("a".into()),
            cluster: Some("b".into()),
            user: Some("c".into()),
            server: Some("https://d".into()),
            token: Some(Secret::new("canary")),
            certificate_authority: Some("/ca".into()),
            client_certificate: Some("/crt".into()),
            client_key: Some("/key".into()),
            request_timeout: Some(Duration::from_secs(7)),
            impersonate: Some("jane".into()),
            impersonate_groups: vec!["x".into(), "CN=y,OU=z".into()],
        }
    );
    assert_eq!(read.warnings, [""; 0]);
}

#[test]
fn every_flag_of_the_python_ancestor_is_read() {
    let args = [
        "--namespace=prod",
        "--rs-label-selector=\"app=web\"",
        "--endpoint=web",
        "--target-address=db",
        "--target-port=5432",
        "--target-timeout=120",
        "--min-replicas=3",
        "--config-map=my-cm",
        "--local-address=127.0.0.1",
        "--local-port=9000",
        "--sock-max-handle-buffer=200",
        "--update-annotation-refresh-interval=20",
        "--check-interval=60",
        "--pods-check-interval=5",
        "--expiration-time=900",
        "--log-level=WARNING",
        "--max-retry=10",
        "--waiting-time=500",
        "--http-server-port=8088",
        "--metrics-url=/numbers",
        "--ping-url=alive",
    ];
    let read = settings(&args, &[]);
    assert_eq!(
        read.target_ref,
        TargetRef::ReplicaSetOwner {
            selector: "app=web".into()
        }
    );
    assert_eq!(read.target, target("db:5432"));
    assert_eq!(read.wake_replicas.to_string(), "3");
    assert_eq!(read.state_configmap.as_deref(), Some("my-cm"));
    assert_eq!(read.listen[0].to_string(), "127.0.0.1:9000");
    assert_eq!(read.idle_ttl, Duration::from_secs(900));
    assert_eq!(read.log, "warn");
    assert_eq!(read.hold_timeout, Duration::from_secs(65));
    assert_eq!(read.admin_listen, Some("0.0.0.0:8088".parse().unwrap()));
    assert_eq!(read.metrics_path.as_deref(), Some("/numbers"));
    assert_eq!(read.ping_path.as_deref(), Some("/alive"));
    let [warning] = &read.warnings[..] else {
        panic!("one warning lists them all: {:?}", read.warnings);
    };
    for flag in [
        "--target-timeout (",
        "--sock-max-handle-buffer (",
        "--update-annotation-refresh-interval (",
        "--check-interval (",
        "--pods-check-interval (",
    ] {
        assert!(warning.contains(flag), "{flag}: {warning}");
    }
}

#[test]
fn an_abbreviation_is_understood_where_argparse_understands_it() {
    let python = ["--deployment=app", "--endpoint=app"];
    let read = settings(
        &[&python[..], &["--expiration=600", "--local-p", "81"]].concat(),
        &[],
    );
    assert_eq!(
        (read.idle_ttl.as_secs(), read.listen[0].address.port()),
        (600, 81)
    );
    for (label, args, expected) in [
        (
            "several begin so",
            [&python[..], &["--local=x"]].concat(),
            "\"--local\": there is no such flag; did you mean --local-address?",
        ),
        (
            "zpa's own flags are never abbreviated",
            vec!["--deployment=app", "--idle=5m"],
            "\"--idle\": there is no such flag; did you mean --idle-ttl?",
        ),
        (
            "nor are those of Go",
            vec!["--deployment=app", "--endpoints=app", "--tt=5m"],
            "\"--tt\": there is no such flag; did you mean --ttl?",
        ),
        (
            "the newer code has it alone",
            [&python[..], &["--config=x"]].concat(),
            "\"--config\": there is no such flag; --help lists them",
        ),
    ] {
        assert_eq!(errors(&args, &[]), [expected], "{label}");
    }
}

#[test]
fn a_variable_is_zpas_own_in_every_dialect() {
    let env = [
        ("ZPA_IDLE_TTL", "2s"),
        ("ZPA_LISTEN", "127.0.0.1:7"),
        ("ZPA_ADMIN_LISTEN", "off"),
        ("ZPA_LOG", "warn,zpa=debug"),
        ("ZPA_DRAIN_DELAY", "1s"),
        ("ZPA_HOLD_TIMEOUT", "9s"),
    ];
    let labels = ["--rs-label-selector=app=web", "--endpoint=web"];
    for args in [&GO_PAGE[2..], &PYTHON_PAGE[2..6], &labels] {
        let read = settings(args, &env);
        assert_eq!(read.idle_ttl, Duration::from_secs(2), "{args:?}");
        assert_eq!(read.listen[0].to_string(), "127.0.0.1:7", "{args:?}");
        assert_eq!(read.admin_listen, None, "{args:?}");
        assert_eq!(read.log, "warn,zpa=debug", "{args:?}");
        assert_eq!(read.drain_delay, Duration::from_secs(1), "{args:?}");
        assert_eq!(read.hold_timeout, Duration::from_secs(9), "{args:?}");
    }
    let flags = settings(&PYTHON_PAGE, &env);
    assert_eq!(flags.idle_ttl, Duration::from_secs(600), "a flag beats it");
    assert_eq!(flags.listen[0].to_string(), "127.0.0.1:80", "in its part");
    assert_eq!(flags.hold_timeout, Duration::from_secs(180));
}

#[test]
fn an_admin_port_that_nobody_has_named_is_optional_in_an_ancestors_dialect() {
    let labels = ["--rs-label-selector=a=b", "--endpoint=a"];
    for (label, args, env, optional) in [
        ("zpa's default", &["--deployment=a"][..], &[][..], false),
        ("Go's default", &["-l=a=b"], &[], true),
        ("a flag", &["-l=a=b", "--admin-address=:1"], &[], false),
        (
            "a variable",
            &["-l=a=b"],
            &[("ZPA_ADMIN_LISTEN", ":1")],
            false,
        ),
        ("Python's default", &labels, &[], true),
    ] {
        assert_eq!(settings(args, env).admin_is_optional, optional, "{label}");
    }
}

#[test]
fn an_error_names_a_setting_as_its_dialect_does() {
    for (flag, dialect, expected) in [
        ("listen", Dialect::Zpa, "--listen (ZPA_LISTEN)"),
        ("listen", Dialect::Go, "--address (ZPA_LISTEN)"),
        (
            "listen",
            Dialect::PythonLabels,
            "--local-address and --local-port (ZPA_LISTEN)",
        ),
        ("drain-delay", Dialect::Go, "ZPA_DRAIN_DELAY"),
        ("ping-url", Dialect::PythonLabels, "--ping-url"),
    ] {
        assert_eq!(given(flag, dialect), expected);
    }
}
