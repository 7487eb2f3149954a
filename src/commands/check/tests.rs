use std::ffi::OsString;

use super::*;
use crate::kube::testing;

fn with<R>(
    is_terminal: bool,
    variables: &[(&str, &str)],
    work: impl FnOnce(&Environment<'_>) -> R,
) -> R {
    let env = |name: &str| {
        let (_, value) = variables.iter().find(|(known, _)| *known == name)?;
        Some(OsString::from(value))
    };
    work(&Environment {
        env: &env,
        clock: testing::clock,
        wall: || 0,
        is_terminal,
    })
}

fn options(args: &[&str]) -> Options {
    let args: Vec<OsString> = args.iter().map(OsString::from).collect();
    Options::take(&OPTIONS, &args).unwrap()
}

#[test]
fn colours_are_for_terminals_without_a_no_color_that_is_not_empty() {
    for (is_terminal, variables, expected) in [
        (true, &[][..], true),
        (true, &[("NO_COLOR", "")], true),
        (true, &[("NO_COLOR", "1")], false),
        (true, &[("NO_COLOR", "0")], false),
        (false, &[], false),
    ] {
        let format = with(is_terminal, variables, |it| format(&options(&[]), it));
        let expected = Format::Table { colours: expected };
        assert_eq!(format, Ok(expected), "{is_terminal} {variables:?}");
    }
}

#[test]
fn the_account_is_that_of_the_pod_of_the_proxy_or_the_one_that_is_given() {
    let in_a_pod = [("KUBERNETES_SERVICE_HOST", "10.96.0.1")];
    let named =
        |namespace: Option<&str>| Account::Named(namespace.map(str::to_owned), "zpa".to_owned());
    for (variables, args, expected) in [
        (&[][..], &[][..], Account::OfTheProxy),
        (&in_a_pod, &[], Account::Caller),
        (&in_a_pod, &["--service-account=zpa"], named(None)),
        (&[], &["--service-account=ops/zpa"], named(Some("ops"))),
    ] {
        let account = with(false, variables, |it| account(&options(args), it));
        assert_eq!(account, Ok(expected), "{args:?}");
    }
    let wrong = with(false, &[], |it| {
        account(&options(&["--service-account=A b"]), it)
    });
    assert!(
        wrong
            .unwrap_err()
            .starts_with("--service-account: \"A b\" ")
    );
}

/// The settings that a proxy with `found` has, with what the caller gives in their place.
fn over(found: &[&str], given: &[&str]) -> Result<Settings, Vec<String>> {
    let parse = |args: &[&str]| {
        let args = args.iter().map(OsString::from).collect();
        super::super::process_settings(&COMMAND, args, &|_| None).unwrap()
    };
    with(false, &[], |environment| {
        let given = given.iter().map(OsString::from).collect();
        let given = Given::new(given, environment)?;
        given.over(&parse(found), environment)
    })
}

#[test]
fn what_is_given_counts_in_place_of_what_the_proxy_has() {
    let found = [
        "--deployment=my-app",
        "--service=my-app-pods",
        "--fail-fast",
    ];
    let settings = over(&found, &["--deployment=my-app"]).unwrap();
    assert_eq!(settings.service.as_deref(), Some("my-app-pods"));
    assert!(settings.fail_fast);
    let settings = over(&found, &["--deployment=my-app", "--service=web"]).unwrap();
    assert_eq!(settings.service.as_deref(), Some("web"));

    let of_two_ports = ["--deployment=my-app", "--listen=8080=http,8082=sql"];
    let settings = over(&of_two_ports, &["--deployment=my-app"]).unwrap();
    assert_eq!(settings.listen.len(), 2);
    let settings = over(&of_two_ports, &["--deployment=my-app", "--port=http"]).unwrap();
    let port = settings.port.map(|it| it.to_string());
    assert_eq!((port.as_deref(), settings.listen.len()), (Some("http"), 1));

    let ancestor = ["--deployment=my-app", "--endpoints=web", "--target=web:80"];
    let settings = over(&ancestor, &["--deployment=my-app"]).unwrap();
    assert!(settings.pods_first, "its target is the way to the pods");
    assert_eq!(settings.service.as_deref(), Some("web"));

    let process = ["--discover=enabled=true", "--idle-ttl=5m"];
    let settings = over(&process, &["--discover=enabled=true"]).unwrap();
    assert_eq!(settings.idle_ttl, Duration::from_secs(300));
}
