//! The syntax of a command line: references that were not expanded, quotes, short and
//! repeated flags, and flags that are refused.

use super::*;

#[test]
fn every_part_is_of_a_setting_that_exists() {
    for (row, whole) in TABLE.iter().filter_map(|row| Some((row, row.part_of?))) {
        let found = TABLE
            .iter()
            .any(|other| other.flag == whole && other.is_own());
        assert!(found && !row.is_own(), "--{} of --{whole}", row.flag);
    }
}

#[test]
fn what_kubernetes_has_not_expanded_counts_as_not_given_with_a_warning() {
    let flag = settings(
        &["--deployment=app", "--idle-ttl=$(TTL)"],
        &[("ZPA_IDLE_TTL", "2m")],
    );
    assert_eq!(
        flag.idle_ttl,
        Duration::from_secs(120),
        "the variable is next"
    );
    let expected =
        "--idle-ttl=\"$(TTL)\" counts as not given: the pod has no variable of that name";
    assert_eq!(flag.warnings, [expected]);
    let variable = settings(&["--deployment=app"], &[("ZPA_NAMESPACE", "$(NS)")]);
    assert_eq!(variable.namespace, None);
    assert_eq!(variable.warnings.len(), 1);
    let needed = errors(&["--deployment=$(APP)"], &[]);
    assert_eq!(
        needed,
        [
            "--deployment (ZPA_DEPLOYMENT): is not set, nor is --scale-target, and has no default; use e.g. my-app"
        ]
    );
    for value in ["$(A)b", "$()", "$A", "($(A))", "$(A)$(B)"] {
        let argument = format!("--target={value}");
        assert_eq!(
            errors(&["--deployment=app", &argument], &[]).len(),
            1,
            "{value}"
        );
    }
}

#[test]
fn quotes_that_survive_yaml_are_taken_away() {
    for (value, expected) in [("'5m'", 300), ("\"5m\"", 300), ("5m", 300)] {
        assert_eq!(
            with("idle-ttl", value).idle_ttl.as_secs(),
            expected,
            "{value}"
        );
    }
    for value in ["'5m\"", "'", "''5m''"] {
        let argument = format!("--idle-ttl={value}");
        assert_eq!(
            errors(&["--deployment=app", &argument], &[]).len(),
            1,
            "{value}"
        );
    }
}

#[test]
fn what_cannot_be_had_is_refused_with_the_reason_and_no_secret_is_shown() {
    for (argument, expected) in [
        (
            "--insecure-skip-tls-verify",
            "name the certificates to trust",
        ),
        (
            "--insecure-skip-tls-verify=true",
            "name the certificates to trust",
        ),
        (
            "--username=admin",
            "know no passwords since Kubernetes 1.19",
        ),
        (
            "--password=canary",
            "know no passwords since Kubernetes 1.19",
        ),
    ] {
        let errors = errors(&["-l", "app=web", argument], &[]);
        assert_eq!(errors.len(), 1, "{errors:?}");
        let flag = argument.split('=').next().unwrap();
        assert!(
            errors[0].starts_with(&format!("{flag}: is refused: ")),
            "{errors:?}"
        );
        assert!(errors[0].contains(expected), "{errors:?}");
        assert!(!errors[0].contains("canary"), "{errors:?}");
    }
    let token = OsStr::from_bytes(b"canary\xff").to_owned();
    let wrong = parse(os(&["--deployment=app"]), |name| {
        (name == "ZPA_TOKEN").then(|| token.clone())
    });
    let said = wrong.unwrap_err().to_string();
    assert!(said.starts_with("ZPA_TOKEN: is not UTF-8"), "{said}");
    let settings = settings(&["--deployment=app", "--token=canary"], &[]);
    assert!(!format!("{settings:?}").contains("canary"));
}

#[test]
fn groups_are_repeated_flags_or_lines_of_the_variable() {
    let app = ["--deployment=app"];
    let env = [("ZPA_AS_GROUP", "a\nCN=b,OU=c\n")];
    let groups = |args: &[&str]| settings(args, &env).kube.impersonate_groups;
    assert_eq!(groups(&app), ["a", "CN=b,OU=c"]);
    assert_eq!(groups(&["--deployment=app", "--as-group=d"]), ["d"]);
}

#[test]
fn a_short_flag_takes_its_value_in_each_form() {
    for args in [&["-n", "web"][..], &["-n=web"], &["-nweb"]] {
        let read = settings(&[&["--deployment=app"], args].concat(), &[]);
        assert_eq!(read.namespace.as_deref(), Some("web"), "{args:?}");
        assert_eq!(read.dialect, Dialect::Zpa, "it is zpa's as well");
    }
    for prefixed in ["ns/web", "namespace/web", "namespaces/web"] {
        assert_eq!(
            with("namespace", prefixed).namespace.as_deref(),
            Some("web")
        );
    }
    assert_eq!(
        errors(&["--deployment=app", "-n"], &[]),
        ["-n: needs a value; use e.g. default"]
    );
}

#[test]
fn mixed_dialects_are_one_error_whatever_else_is_wrong() {
    let errors = errors(&["--listen=wrong", "--endpoints=a", "--bogus"], &[]);
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(
        errors[0].starts_with("flags of several programs are mixed: "),
        "{errors:?}"
    );
}
