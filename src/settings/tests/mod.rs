use super::*;
use proptest::prelude::*;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

mod annotations;
mod apps;
mod clients;
mod command_line;
mod dialects;
mod targets;
mod values;

fn os(texts: &[&str]) -> Vec<OsString> {
    texts.iter().map(OsString::from).collect()
}

fn parse_with(args: &[&str], env: &[(&str, &str)]) -> Result<Invocation, Errors> {
    parse(os(args), |name| {
        let (_, value) = env.iter().find(|(known, _)| *known == name)?;
        Some(OsString::from(value))
    })
}

fn settings(args: &[&str], env: &[(&str, &str)]) -> Settings {
    match parse_with(args, env) {
        Ok(Invocation::Run(settings)) => *settings,
        other => panic!("{args:?} {env:?}: {other:?}"),
    }
}

/// The settings of one flag next to `--deployment=app`.
fn with(flag: &str, value: &str) -> Settings {
    settings(&["--deployment=app", &format!("--{flag}={value}")], &[])
}

fn errors(args: &[&str], env: &[(&str, &str)]) -> Vec<String> {
    let errors = parse_with(args, env).expect_err(&format!("{args:?} {env:?}"));
    errors.lines().map(str::to_owned).collect()
}

/// The only error of one flag next to `--deployment=app`.
fn error(flag: &str, value: &str) -> String {
    let argument = format!("--{flag}={value}");
    let errors = errors(&["--deployment=app", &argument], &[]);
    assert_eq!(errors.len(), 1, "{argument}: {errors:?}");
    errors[0].clone()
}

/// The only address that is listened on.
fn listener(address: &str) -> Vec<Listener> {
    vec![Listener {
        address: address.parse().unwrap(),
        port: None,
    }]
}

#[test]
fn a_deployment_is_all_that_has_to_be_said() {
    let expected = Settings {
        dialect: Dialect::Zpa,
        namespace: None,
        target_ref: TargetRef::deployment("app"),
        service: Some("app".into()),
        port: None,
        listen: listener("[::]:8080"),
        server_names: ServerNames::default(),
        admin_listen: Some("[::]:8081".parse().unwrap()),
        admin_is_optional: false,
        ping_path: None,
        metrics_path: None,
        target: None,
        backup_target: None,
        pods_first: false,
        idle_ttl: Duration::from_secs(3600),
        hold_timeout: Duration::from_secs(300),
        abort_on_close: false,
        fail_fast: false,
        connect_timeout: Duration::from_secs(2),
        wake_replicas: WakeReplicas::Replicas(NonZeroU32::MIN),
        ready_gate: ReadyGate::Probe,
        min_ready: NonZeroU32::MIN,
        min_ready_time: Duration::ZERO,
        min_awake: Duration::ZERO,
        min_asleep: Duration::ZERO,
        keep_awake: Schedule::default(),
        no_wake: Schedule::default(),
        wakes_per_minute: None,
        rules: Rules::default(),
        single_proxy: false,
        dry_run: false,
        webhook: None,
        webhook_ca: None,
        state_configmap: None,
        max_connections: None,
        drain_delay: Duration::from_secs(5),
        drain_timeout: Duration::from_secs(20),
        zone: None,
        node: None,
        kube: KubeconfigFlags::default(),
        api_server: None,
        credentials: "/var/run/secrets/kubernetes.io/serviceaccount".into(),
        log: "info".into(),
        log_format: LogFormat::Text,
        apps: None,
        warnings: Vec::new(),
        all_namespaces: false,
        discover: None,
        origin: Origin::CommandLine,
        defaults: Defaults::default(),
        parts: Parts::default(),
    };
    assert_eq!(settings(&["--deployment", "app"], &[]), expected);
    assert_eq!(settings(&[], &[("ZPA_DEPLOYMENT", "app")]), expected);
}

#[test]
fn a_flag_beats_a_variable_and_a_variable_beats_the_default() {
    let env = [("ZPA_DEPLOYMENT", "app"), ("ZPA_IDLE_TTL", "2m")];
    assert_eq!(settings(&[], &env).idle_ttl.as_secs(), 120);
    assert_eq!(settings(&["--idle-ttl=3m"], &env).idle_ttl.as_secs(), 180);
    let masked = [("ZPA_DEPLOYMENT", "app"), ("ZPA_IDLE_TTL", "wrong")];
    assert_eq!(
        settings(&["--idle-ttl=3m"], &masked).idle_ttl.as_secs(),
        180
    );
}

#[test]
fn of_a_repeated_flag_the_last_one_counts() {
    let args = [
        "--deployment=a",
        "--idle-ttl=wrong",
        "--deployment=b",
        "--idle-ttl=2m",
    ];
    let settings = settings(&args, &[]);
    assert_eq!(
        (settings.target_ref, settings.idle_ttl.as_secs()),
        (TargetRef::deployment("b"), 120)
    );
}

#[test]
fn an_empty_variable_counts_as_unset_and_an_empty_flag_is_an_error() {
    let env = [
        ("ZPA_DEPLOYMENT", "app"),
        ("ZPA_IDLE_TTL", ""),
        ("ZPA_TARGET", ""),
    ];
    assert_eq!(settings(&[], &env), settings(&["--deployment=app"], &[]));
    assert_eq!(
        error("idle-ttl", ""),
        "--idle-ttl: needs a value; use e.g. 90s, 5m, 1h30m"
    );
}

#[test]
fn a_service_named_zpa_does_no_harm() {
    let env = [
        ("ZPA_DEPLOYMENT", "app"),
        ("ZPA_SERVICE_HOST", "10.0.0.1"),
        ("ZPA_SERVICE_PORT", "80"),
        ("ZPA_PORT", "tcp://10.0.0.1:80"),
        ("ZPA_PORT_80_TCP", "tcp://10.0.0.1:80"),
        ("ZPA_SOMETHING_ELSE", "x"),
    ];
    assert_eq!(settings(&[], &env), settings(&["--deployment=app"], &[]));
    for link in ["udp://10.0.0.1:53", "sctp://10.0.0.1:53"] {
        assert_eq!(
            settings(&["--deployment=app"], &[("ZPA_PORT", link)]).port,
            None
        );
    }
}

#[test]
fn what_looks_like_a_service_link_is_one_only_in_zpa_port() {
    let errors = errors(
        &["--deployment=app", "--port=tcp://a:1"],
        &[("ZPA_TARGET", "tcp://a:1")],
    );
    assert_eq!(errors.len(), 2, "{errors:?}");
}

#[test]
fn kubeconfig_has_a_second_variable() {
    let app = ["--deployment=app"];
    let both = [("KUBECONFIG", "/theirs"), ("ZPA_KUBECONFIG", "/ours")];
    assert_eq!(
        settings(&app, &both[..1]).kube.kubeconfig,
        Some("/theirs".into())
    );
    assert_eq!(settings(&app, &both).kube.kubeconfig, Some("/ours".into()));
}

#[test]
fn all_that_is_wrong_is_said_in_one_run() {
    let args = ["--listen", "8080", "--idel-ttl", "5m", "stray"];
    let env = [("ZPA_IDLE_TTL", "5x"), ("ZPA_WAKE_REPLICAS", "0")];
    assert_eq!(
        errors(&args, &env),
        [
            "\"--idel-ttl\": there is no such flag; did you mean --idle-ttl?",
            "\"stray\": stands alone; every setting is a flag, e.g. --deployment=my-app",
            "--deployment (ZPA_DEPLOYMENT): is not set, nor is --scale-target, and has no default; use e.g. my-app",
            "--listen=\"8080\": is a port alone; put a colon before it, :8080; \
             use e.g. :8080, 0.0.0.0:8080, [::1]:8080, 8080=http,5432=postgres",
            "ZPA_IDLE_TTL=\"5x\": unknown unit \"x\"; use e.g. 90s, 5m, 1h30m",
            "ZPA_WAKE_REPLICAS=\"0\": is not a whole number from 1 to 2147483647; \
             use e.g. 1, 3, previous",
        ]
    );
}

#[test]
fn help_and_version_are_obeyed_whatever_else_is_wrong() {
    for args in [
        &["--help"][..],
        &["-h"],
        &["-help"],
        &["--bogus", "-h"],
        &["--listen", "--help"],
    ] {
        assert_eq!(parse_with(args, &[]), Ok(Invocation::Help), "{args:?}");
    }
    for args in [
        &["--version"][..],
        &["-V"],
        &["--version", "--help"],
        &["--version=x", "y"],
    ] {
        assert_eq!(parse_with(args, &[]), Ok(Invocation::Version), "{args:?}");
    }
}

#[test]
fn an_unknown_flag_is_one_error_and_names_the_nearest_flag() {
    let cases = [
        (&["--idle_ttl=5m"][..], "did you mean --idle-ttl?"),
        (&["--idle", "5m"], "did you mean --idle-ttl?"),
        (&["-idle-ttl", "5m"], "did you mean --idle-ttl?"),
        (&["-idle-ttl=5m"], "did you mean --idle-ttl?"),
        (&["-version"], "did you mean --version?"),
        (&["--metrics-address", ":9090"], "--help lists them"),
        (&["-x"], "--help lists them"),
    ];
    for (args, expected) in cases {
        let all = [&["--deployment=app"], args].concat();
        let errors = errors(&all, &[]);
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].ends_with(expected), "{errors:?}");
    }
}

#[test]
fn a_flag_does_not_swallow_the_next_flag() {
    let forgotten = errors(&["--idle-ttl", "--deployment", "app"], &[]);
    assert_eq!(
        forgotten,
        ["--idle-ttl: needs a value; use e.g. 90s, 5m, 1h30m"]
    );
    let at_the_end = errors(&["--deployment"], &[]);
    assert_eq!(at_the_end, ["--deployment: needs a value; use e.g. my-app"]);
    let negative = errors(&["--deployment=app", "--drain-delay", "-5s"], &[]);
    assert_eq!(
        negative,
        ["--drain-delay=\"-5s\": is negative; use e.g. 5s, 0"]
    );
}

#[test]
fn a_value_is_shown_escaped_and_cut() {
    let shown = error("idle-ttl", "\u{1b}[2J\n\u{202e}\"");
    assert!(
        shown.starts_with(r#"--idle-ttl="\u{1b}[2J\n\u{202e}\"": "#),
        "{shown}"
    );
    let shown = error("idle-ttl", &"é".repeat(10_000));
    assert!(
        shown.starts_with(&format!("--idle-ttl=\"{}...\": ", "é".repeat(60))),
        "{shown}"
    );
    assert!(error("idle-ttl", &format!("1{}", "x".repeat(10_000))).len() < 200);
}

#[test]
fn a_value_that_is_not_utf8_is_an_error_even_for_a_path() {
    let value = OsStr::from_bytes(b"/tmp/\xff").to_owned();
    let args = os(&["--deployment=app"]);
    let errors = parse(args, |name| {
        (name == "ZPA_CREDENTIALS").then(|| value.clone())
    });
    assert_eq!(
        errors.unwrap_err().to_string(),
        "ZPA_CREDENTIALS=\"/tmp/\\xff\": is not UTF-8; \
         use e.g. /var/run/secrets/kubernetes.io/serviceaccount"
    );
}

/// A dialect's own values for a setting: what it takes if nothing is said.
fn default(setting: &Setting, dialect: Dialect) -> Option<&'static str> {
    match setting.unset(dialect) {
        Unset::Default(default) => Some(default),
        Unset::Means(_) => None,
    }
}

#[test]
fn every_row_of_the_table_is_in_order() {
    for setting in TABLE {
        let flag = setting.flag;
        let variable = format!("ZPA_{}", flag.to_uppercase().replace('-', "_"));
        assert_eq!(
            setting.is_own().then_some(variable.as_str()),
            setting.variables.first().copied()
        );
        assert!(!setting.examples.is_empty(), "--{flag} has an example");
        assert!(
            !setting.help.contains('|'),
            "--{flag} fits in a Markdown table"
        );
        for dialect in Dialect::ALL {
            let given = setting.is_own() || setting.names(dialect).next().is_some();
            if let Some(text) = default(setting, dialect).filter(|_| given) {
                let stored = setting.store(dialect)(&mut Settings::blank(), text);
                assert_eq!(stored, Ok(()), "--{flag}={text}");
            }
            let columns = setting.columns.iter();
            let in_columns = columns.filter(|column| column.dialects.contains(&dialect));
            assert!(
                in_columns.count() <= 1,
                "--{flag} has one column for {dialect}"
            );
        }
        for text in setting.examples.iter().chain(setting.choices) {
            let stored = (setting.store)(&mut Settings::blank(), text);
            assert_eq!(stored, Ok(()), "--{flag}={text}");
        }
    }
}

#[test]
fn what_is_in_force_is_shown_as_a_text_that_means_the_same() {
    let shown = TABLE
        .iter()
        .filter(|setting| setting.is_own() && setting.takes != ValueKind::Secret);
    for setting in shown {
        let flag = setting.flag;
        for text in setting
            .examples
            .iter()
            .copied()
            .chain(default(setting, Dialect::Zpa))
        {
            let (mut once, mut again) = (Settings::blank(), Settings::blank());
            (setting.store)(&mut once, text).unwrap();
            let Some(shown) = (setting.show)(&once) else {
                // Zero: as if nothing had been said.
                assert_eq!(once, again, "--{flag}={text}");
                continue;
            };
            assert_eq!(
                (setting.store)(&mut again, &shown),
                Ok(()),
                "--{flag}={shown}"
            );
            assert_eq!(once, again, "--{flag}={text} is shown as {shown}");
        }
    }
    let settings = settings(&["--deployment=app", "--token=canary"], &[]);
    let unsaid: Vec<_> = in_force(&settings)
        .filter_map(|(flag, shown)| shown.is_none().then_some(flag))
        .collect();
    let expected = [
        "scale-target",
        "namespace",
        "server-name",
        "port",
        "target",
        "keep-awake",
        "no-wake",
        "wakes-per-minute",
        "webhook",
        "ignore-sources",
        "deny-sources",
        "max-per-source",
        "max-connections-per-pod",
        "idle-timeout",
        "half-close-timeout",
        "silent-after",
        "send-proxy-protocol",
        "accept-proxy-protocol",
        "probe-answer",
        "probe-paths",
        "backup-target",
        "backup-after",
        "hold-answer",
        "apps",
        "discover",
        "max-connections",
        "zone",
        "node",
        "webhook-ca",
        "kubeconfig",
        "context",
        "cluster",
        "user",
        "server",
        "token",
        "certificate-authority",
        "client-certificate",
        "client-key",
        "as",
        "as-group",
        "request-timeout",
        "api-server",
    ];
    assert_eq!(unsaid, expected);
}

#[test]
fn the_admin_port_can_be_elsewhere_and_off() {
    assert_eq!(with("admin-listen", "off").admin_listen, None);
    let elsewhere = with("admin-listen", ":9090").admin_listen;
    assert_eq!(elsewhere.map(|it| it.to_string()), Some("[::]:9090".into()));
    let expected = "; use e.g. :8081, 0.0.0.0:8081, 127.0.0.1:9090, off";
    assert!(error("admin-listen", "OFF").ends_with(expected));
    assert!(error("admin-listen", "none").ends_with(expected));
}

#[test]
fn no_name_is_given_twice() {
    for dialect in Dialect::ALL {
        let flags = TABLE.iter().flat_map(|setting| setting.names(dialect));
        let mut names: Vec<_> = variables().chain(flags).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count, "{dialect}");
    }
}

#[test]
fn help_and_readme_have_every_flag_variable_and_default() {
    let (help, markdown) = (help(""), markdown_table());
    assert!(help.lines().all(|line| line.len() <= 100), "{help}");
    let own = || TABLE.iter().filter(|setting| setting.is_own());
    assert_eq!(markdown.lines().count(), own().count() + 2);
    let defaults = own().map(|setting| match setting.unset {
        Unset::Default(text) | Unset::Means(text) => text,
    });
    // In the help a default of several words may span two lines.
    let flat = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let flags = own().map(|setting| setting.flag);
    for text in flags.chain(variables()).chain(defaults) {
        assert!(flat.contains(&text.replace('`', "")), "{text} in the help");
        assert!(markdown.contains(text), "{text} in the table of settings");
    }
    assert!(
        help.trim_end()
            .ends_with("Documentation: README.md in the program's source")
    );
}

#[test]
fn the_settings_of_an_app_come_before_those_of_the_process() {
    let scopes: Vec<Scope> = TABLE
        .iter()
        .filter(|setting| setting.is_own())
        .map(|setting| setting.scope)
        .collect();
    assert!(scopes.is_sorted_by_key(|scope| *scope == Scope::Process));
    let scope = |flag| table::find(Dialect::Zpa, flag).map(|(setting, _)| setting.scope);
    for flag in ["deployment", "listen", "idle-ttl", "max-per-source"] {
        assert_eq!(scope(flag), Some(Scope::App), "{flag}");
    }
    for flag in ["admin-listen", "max-connections", "drain-delay", "server"] {
        assert_eq!(scope(flag), Some(Scope::Process), "{flag}");
    }
}

proptest! {
    #[test]
    fn no_command_line_panics(args in prop::collection::vec("(--?[a-z-]{0,12}=?)?.{0,8}", 0..6)) {
        let _ = parse(args.into_iter().map(OsString::from), |_| None);
    }

    #[test]
    fn no_value_panics_or_shows_a_control_character(value in any::<String>()) {
        if let Err(errors) = parse([], |_| Some(OsString::from(&value))) {
            prop_assert!(errors.lines().all(|line| !line.contains(char::is_control)));
        }
    }
}

fn unknown(environment: &[(&str, &str)]) -> Vec<String> {
    let owned = environment
        .iter()
        .map(|(name, value)| (name.into(), value.into()));
    unknown_variables(owned)
}

#[test]
fn a_misspelt_variable_is_reported_with_the_one_that_was_meant() {
    for (name, cure) in [
        ("ZPA_IDLE_TLL", "did you mean ZPA_IDLE_TTL?"),
        ("ZPA_IDLE", "did you mean ZPA_IDLE_TTL?"),
        ("ZPA_idle_ttl", "did you mean ZPA_IDLE_TTL?"),
        ("ZPA_DEPLOYMNET", "did you mean ZPA_DEPLOYMENT?"),
        ("ZPA_KUBECONFG", "did you mean ZPA_KUBECONFIG?"),
        ("ZPA_VERSION", "--help lists them"),
        ("ZPA_COFFEE", "--help lists them"),
        ("ZPA_", "--help lists them"),
    ] {
        let expected =
            format!("the variable \"{name}\" is ignored: there is no such setting; {cure}");
        assert_eq!(unknown(&[(name, "canary")]), [expected]);
    }
    assert!(unknown(&[("ZPA_\u{1b}[31m", "")])[0].contains("ZPA_\\u{1b}[31m"));
}

#[test]
fn neither_settings_nor_what_kubernetes_sets_nor_what_others_set_is_unknown() {
    for name in variables() {
        assert_eq!(unknown(&[(name, "x")]), [""; 0], "{name}");
    }
    for (name, value) in [
        ("PATH", "/bin"),
        ("MY_ZPA_IDLE_TLL", "1s"),
        ("ZPA_SERVICE_HOST", "10.0.0.1"),
        ("ZPA_SERVICE_PORT", "80"),
        ("ZPA_SERVICE_PORT_HTTP_ALT", "80"),
        ("ZPA_PORT_80_TCP", "tcp://10.0.0.1:80"),
        ("ZPA_PORT_80_TCP_ADDR", "10.0.0.1"),
        ("ZPA_PORT_80_TCP_PORT", "80"),
        ("ZPA_PORT_80_TCP_PROTO", "tcp"),
        ("ZPA_MY_APP_SERVICE_HOST", "10.0.0.1"),
        ("ZPA_MY_APP_PORT", "udp://10.0.0.1:53"),
        ("ZPA_MY_APP_PORT_53_UDP_ADDR", "10.0.0.1"),
        ("ZPA_PORT_PORT_80_SCTP", "sctp://10.0.0.1:80"),
    ] {
        assert_eq!(unknown(&[(name, value)]), [""; 0], "{name}");
    }
    for (name, value) in [
        ("ZPA_TARGET_PORT", "80"),
        ("ZPA_PORT_80", "tcp://10.0.0.1:80"),
        ("ZPA_PORT_HTTP_TCP", "tcp://10.0.0.1:80"),
        ("ZPA_PORT_80_TCP_COLOUR", "red"),
        ("ZPA_PORT_80_TCP_PORT_RANGE", "red"),
    ] {
        assert_eq!(unknown(&[(name, value)]).len(), 1, "{name}");
    }
}
