use super::*;
use crate::settings::{self, Invocation};

fn process() -> Settings {
    let args = ["--apps=/apps.json"].map(Into::into);
    match settings::parse(args, |_| None) {
        Ok(Invocation::Run(settings)) => *settings,
        other => panic!("{other:?}"),
    }
}

fn specs(list: &str) -> Vec<AppSpec> {
    of_list(
        &process(),
        list.as_bytes(),
        "default",
        &SourceLists::default(),
    )
    .unwrap()
}

/// The apps of a list, by the places in it.
fn present(list: &str) -> BTreeMap<AppId, AppSpec> {
    (0..).map(AppId).zip(specs(list)).collect()
}

fn names(specs: &[AppSpec]) -> Vec<&str> {
    specs
        .iter()
        .map(|it| it.settings.target_ref.label())
        .collect()
}

const BEFORE: &str = r#"[{"deployment": "a", "listen": ":1"},
    {"deployment": "b", "listen": ":2", "idle-ttl": "5m"},
    {"deployment": "c", "listen": ":3"}]"#;

#[test]
fn a_list_with_the_same_apps_in_another_order_and_words_changes_nothing() {
    let after = r#"[{"listen": ":3", "deployment": "c", "idle-ttl": "1h"},
        {"scale-target": "deployments.apps/a", "listen": ":1", "service": "a"},
        {"deployment": "b", "listen": "[::]:2", "idle-ttl": 300, "namespace": "default"}]"#;
    assert_eq!(changes(&present(BEFORE), specs(after)), Changes::default());
}

#[test]
fn an_app_is_gone_or_new_by_what_is_scaled() {
    let after = r#"[{"deployment": "a", "listen": ":1"},
        {"deployment": "d", "listen": ":3"},
        {"deployment": "b", "listen": ":2", "namespace": "other", "idle-ttl": "5m"}]"#;
    let changes = changes(&present(BEFORE), specs(after));
    assert_eq!(changes.removed, [AppId(1), AppId(2)]);
    assert_eq!(names(&changes.added), ["d", "b"]);
    assert_eq!(changes.updated, []);
}

#[test]
fn an_app_that_leads_elsewhere_starts_anew_and_one_with_other_limits_does_not() {
    for (setting, is_anew, is_policy_changed) in [
        (r#""listen": ":9""#, true, false),
        (r#""listen": ":1=http""#, true, false),
        (r#""listen": ":1", "port": "http""#, true, false),
        (r#""listen": ":1", "service": "web""#, true, false),
        (r#""listen": ":1", "target": "a:80""#, true, false),
        (r#""listen": ":1", "server-name": "a.example""#, true, false),
        (r#""listen": ":1", "idle-ttl": "2m""#, false, true),
        (r#""listen": ":1", "single-proxy": true"#, false, true),
        (r#""listen": ":1", "min-awake": "2m""#, false, true),
        (r#""listen": ":1", "wake-replicas": 2"#, false, true),
        (r#""listen": ":1", "wakes-per-minute": 2"#, false, true),
        (r#""listen": ":1", "hold-timeout": "2m""#, false, false),
        (r#""listen": ":1", "abort-on-close": true"#, false, false),
        (r#""listen": ":1", "fail-fast": true"#, false, false),
        (r#""listen": ":1", "max-per-source": 2"#, false, false),
        (r#""listen": ":1", "hold-answer": "http""#, false, false),
    ] {
        let after = format!(r#"[{{"deployment": "a", {setting}}}]"#);
        let present = present(r#"[{"deployment": "a", "listen": ":1"}]"#);
        let changes = changes(&present, specs(&after));
        assert_eq!(changes.removed.len(), usize::from(is_anew), "{setting}");
        assert_eq!(changes.added.len(), usize::from(is_anew), "{setting}");
        let live: Vec<bool> = changes
            .updated
            .iter()
            .map(|it| it.is_policy_changed)
            .collect();
        let expected: &[bool] = if is_anew { &[] } else { &[is_policy_changed] };
        assert_eq!(live, expected, "{setting}");
    }
}

#[test]
fn what_is_wrong_names_the_file() {
    let wrong = of_list(&process(), b"[{}]", "default", &SourceLists::default()).unwrap_err();
    assert_eq!(wrong.len(), 2, "{wrong:?}");
    for line in wrong {
        assert!(
            line.starts_with("--apps (ZPA_APPS) /apps.json: app 1: "),
            "{line}"
        );
    }
    let answer = r#"[{"deployment": "a", "listen": ":1", "hold-answer": "/nowhere/answer"}]"#;
    let wrong = of_list(
        &process(),
        answer.as_bytes(),
        "default",
        &SourceLists::default(),
    )
    .unwrap_err();
    assert!(
        wrong[0].contains("a: hold-answer /nowhere/answer: "),
        "{wrong:?}"
    );
}

#[test]
fn names_change_while_an_app_runs() {
    let named = |names: &str| {
        format!(r#"[{{"deployment": "a", "listen": ":1", "server-name": "{names}"}}]"#)
    };
    let changes = changes(&present(&named("a.example")), specs(&named("b.example")));
    assert_eq!((changes.removed.len(), changes.added.len()), (0, 0));
    assert!(!changes.updated[0].is_policy_changed);
}
