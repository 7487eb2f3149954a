//! The annotations of a Service.

use std::collections::BTreeMap;

use super::*;
use crate::rules::answer::HoldAnswer;

fn process(args: &[&str]) -> Settings {
    let args = ["--discover=zero-pod-autoscaler/enabled=true"]
        .iter()
        .chain(args);
    match parse(args.map(|arg| OsString::from(*arg)), |_| None) {
        Ok(Invocation::Run(settings)) => *settings,
        other => panic!("{other:?}"),
    }
}

fn read(args: &[&str], annotations: &[(&str, &str)]) -> Result<Settings, Vec<String>> {
    let annotations = annotations.iter();
    let annotations = annotations.map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    let annotations: BTreeMap<String, String> = annotations.collect();
    let read = process(args).read_annotations("team", "shop", &annotations);
    read.map_err(|errors| errors.lines().map(str::to_owned).collect())
}

#[test]
fn however_many_annotations_are_wrong_the_errors_are_few_and_short() {
    let names = ('a'..='z').flat_map(|a| ('a'..='z').map(move |b| format!("{a}{b}")));
    let names: Vec<String> = names.collect();
    let long = "x".repeat(6000);
    let mut given: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
    given.extend([("listen", ":8080"), ("idle-ttl", &long), (&long, "")]);
    let lines = read(&[], &given).unwrap_err();
    assert_eq!(lines.len(), 11);
    assert!(lines.iter().all(|line| line.len() < 300), "{lines:?}");
    assert_eq!(
        lines[10],
        format!("and {} more errors", names.len() + 2 - 10)
    );
}

#[test]
fn annotations_are_read_like_a_command_line_with_the_defaults_of_the_process() {
    let app = read(
        &[
            "--idle-ttl=5m",
            "--hold-timeout=1m",
            "--deny-sources=10.0.0.0/8",
        ],
        &[
            ("listen", "8080=http,5432=postgres"),
            ("idle-ttl", "10m"),
            ("deny-sources", "192.0.2.1\n192.0.2.2"),
        ],
    );
    let app = app.unwrap();
    assert_eq!(app.namespace.as_deref(), Some("team"));
    assert_eq!(app.service.as_deref(), Some("shop"));
    assert_eq!(app.target_ref, TargetRef::deployment("shop"));
    assert_eq!(app.listen.len(), 2);
    assert_eq!(app.idle_ttl, Duration::from_secs(600));
    assert_eq!(app.hold_timeout, Duration::from_secs(60));
    assert_eq!(app.origin(), Origin::Annotations);
    let shown = in_force_of(Scope::App, &app).find(|(flag, _)| *flag == "deny-sources");
    assert_eq!(
        shown.unwrap().1.as_deref(),
        Some("192.0.2.1/32,192.0.2.2/32")
    );
}

#[test]
fn the_target_is_the_deployment_of_the_services_name_or_what_an_annotation_names() {
    for (target, expected) in [
        (None, "deployments.apps/shop"),
        (Some("deployments.apps/web"), "deployments.apps/web"),
        (Some("statefulsets.apps/db"), "statefulsets.apps/db"),
    ] {
        let mut annotations = vec![("listen", ":1")];
        annotations.extend(target.map(|target| ("target", target)));
        let app = read(&[], &annotations).unwrap();
        assert_eq!(app.target_ref.to_string(), expected);
        assert_eq!(app.target, None, "nothing is dialled in place of the pods");
    }
}

/// Who may write a Service may not write to the proxy.
#[test]
fn what_is_wrong_or_not_of_an_annotation_is_said_in_one_go() {
    for (name, value, why) in [
        ("listen", ":1x", "zero-pod-autoscaler/listen=\":1x\": "),
        (
            "listen",
            "",
            "zero-pod-autoscaler/listen: needs a value; use e.g. :8080",
        ),
        (
            "idle-tll",
            "1h",
            "did you mean zero-pod-autoscaler/idle-ttl?",
        ),
        (
            "enabled",
            "true",
            "zero-pod-autoscaler/enabled\": there is no such setting",
        ),
        ("log", "debug", "belongs to the process and not to an app"),
        ("namespace", "other", "is the Service's own"),
        ("service", "other", "is the Service itself"),
        (
            "deployment",
            "web",
            "is written as zero-pod-autoscaler/target",
        ),
        (
            "scale-target",
            "a.b/c",
            "is written as zero-pod-autoscaler/target",
        ),
        (
            "target",
            "10.0.0.1:80",
            "zero-pod-autoscaler/target=\"10.0.0.1:80\": is not of the form",
        ),
        ("target", "web", "is not of the form PLURAL.GROUP/NAME"),
        (
            "hold-answer",
            "/var/run/secrets/kubernetes.io/serviceaccount/token",
            "names a file of the proxy",
        ),
        ("waiting-page", "/etc/passwd", "names a file of the proxy"),
        (
            "ignore-sources",
            "@/etc/passwd",
            "names a file of the proxy",
        ),
        (
            "deny-sources",
            "10.0.0.0/8,@/x",
            "names a file of the proxy",
        ),
        (
            "webhook",
            "http://10.0.0.1/",
            "is an address that the proxy connects to",
        ),
        (
            "backup-target",
            "10.0.0.1:6443",
            "is an address that the proxy connects clients to",
        ),
        ("ping-path", "/x", "there is no such setting"),
    ] {
        let lines = read(&[], &[("listen", ":1"), (name, value)]).unwrap_err();
        assert_eq!(lines.len(), 1, "{name}={value}: {lines:?}");
        assert!(lines[0].contains(why), "{name}={value}: {lines:?}");
    }
    let several = [("listen", ":1x"), ("idle-ttl", "5x"), ("a\u{1b}[31m", "")];
    let lines = read(&[], &several).unwrap_err();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(!lines.concat().contains('\u{1b}'), "{lines:?}");
    let default = read(&["--hold-answer=/etc/zpa/answer"], &[("listen", ":1")]);
    assert!(default.is_ok(), "the proxy's own settings may name a file");
}

#[test]
fn beside_a_selector_the_settings_of_one_app_are_refused() {
    let errors = |args: &[&str]| {
        let parsed = parse(args.iter().map(OsString::from), |_| None);
        parsed.unwrap_err().to_string()
    };
    let selector = "--discover=a=b";
    for (args, why) in [
        (
            vec![selector, "--deployment=x"],
            "--deployment=\"x\": is of one app, and cannot be the default of several (--discover \
             (ZPA_DISCOVER)); make it an annotation of the app's Service",
        ),
        (
            vec![selector, "--listen=:1"],
            "--listen=\":1\": is of one app",
        ),
        (
            vec![selector, "--apps=/a.json"],
            "--apps and --discover: both say which apps there are",
        ),
        (
            vec!["--deployment=x", "--namespace=*"],
            "--namespace (ZPA_NAMESPACE): * is all namespaces, in which apps are found by --discover",
        ),
        (vec!["--apps=/a.json", "-n=*"], "* is all namespaces"),
        (
            vec!["--discover="],
            "--discover: needs a value; use e.g. zero-pod",
        ),
        (vec!["--discover=a=\u{7}"], "which no label has"),
    ] {
        let errors = errors(&args);
        assert!(errors.contains(why), "{args:?}: {errors}");
    }
}

#[test]
fn of_all_namespaces_an_app_has_that_of_its_service() {
    let process = process(&["--namespace=*"]);
    assert!(process.all_namespaces);
    assert_eq!(process.namespace, None);
    let app = read(&["--namespace=*"], &[("listen", ":1")]).unwrap();
    assert_eq!(
        (app.namespace.as_deref(), app.all_namespaces),
        (Some("team"), false)
    );
    let list = settings(&["--apps=/a.json"], &[]);
    let entry = br#"[{"deployment": "a", "listen": ":1", "namespace": "*"}]"#;
    let errors = list.read_apps(entry, "default").unwrap_err().to_string();
    assert!(
        errors.contains("namespace: * is all namespaces"),
        "{errors}"
    );
}

proptest! {
    /// Who may write a Service is not trusted with the proxy, whatever they write.
    #[test]
    fn no_annotation_reaches_beyond_its_service(
        given in prop::collection::vec(annotation(), 0..6),
    ) {
        let process = process(&[]);
        let mut annotations: BTreeMap<String, String> = given.into_iter().collect();
        annotations.entry("listen".to_owned()).or_insert_with(|| ":8080".to_owned());
        if let Ok(app) = process.read_annotations("team", "shop", &annotations) {
            prop_assert_eq!(app.namespace.as_deref(), Some("team"));
            prop_assert_eq!(app.service.as_deref(), Some("shop"));
            prop_assert_eq!(&app.target, &None);
            prop_assert_eq!(&app.webhook, &None);
            prop_assert!(app.rules.sources.files.is_empty());
            prop_assert!(!matches!(app.rules.hold_answer, Some(HoldAnswer::File(_))));
            let of_process = |it: &Settings| {
                in_force_of(Scope::Process, it).collect::<Vec<_>>()
            };
            prop_assert_eq!(of_process(&app), of_process(&process));
        }
    }
}

/// A setting with one of its examples, or any text.
fn annotation() -> impl Strategy<Value = (String, String)> {
    let value = prop_oneof![Just(None), "\\PC{0,40}".prop_map(Some)];
    (0..TABLE.len(), value, any::<usize>()).prop_map(|(row, value, example)| {
        let setting = &TABLE[row];
        let examples = setting.examples;
        let example = examples.get(example % examples.len().max(1));
        let value = value.or_else(|| example.map(|it| (*it).to_owned()));
        (setting.flag.to_owned(), value.unwrap_or_default())
    })
}
