//! `zpa check` against the sandbox.

use std::process::{Command, Output};

use serde_json::Value;
use support::sandbox::{Options, Sandbox, SandboxApp};

/// As in a pod, so that the permissions of the service account itself are asked for.
fn check(sandbox: &Sandbox, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_zpa"))
        .env_clear()
        .envs(sandbox.env())
        .env("KUBERNETES_SERVICE_HOST", "10.96.0.1")
        .arg("check")
        .args(args)
        .output()
        .unwrap()
}

fn findings(output: &Output) -> Vec<(String, String)> {
    let list: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = list.as_array().unwrap().iter();
    list.map(|it| (text(&it["description"]), text(&it["result"])))
        .collect()
}

#[test]
fn before_the_proxy_is_installed_a_good_app_is_found_good() {
    let sandbox = Sandbox::start(Options::default());
    let output = check(&sandbox, &["--pre", "--output=json"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let findings = findings(&output);
    for good in [
        "the API server answers",
        "what is to be scaled exists",
        "the Service selects the pods that are scaled",
        "these credentials may patch deployments/scale myapp",
        "these credentials may watch endpointslices",
    ] {
        let expected = (good.to_owned(), "good".to_owned());
        assert!(findings.contains(&expected), "{good}: {findings:#?}");
    }
}

#[test]
fn what_is_missing_is_found_and_the_exit_code_says_so() {
    let sandbox = Sandbox::start(Options::default());
    sandbox.deny("patch", "deployments/scale");
    let output = check(&sandbox, &["--service=nothing", "--output=short"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    for line in [
        "× SERVICE: the app's Service exists: not found",
        "× PROXY: a proxy in front of the app is ready: there is none",
        "× PERMISSION: these credentials may patch deployments/scale myapp: RBAC does not allow it",
    ] {
        assert!(text.lines().any(|it| it == line), "{line}\n{text}");
    }
}

#[test]
fn from_a_laptop_the_permissions_of_a_service_account_are_asked_for() {
    let sandbox = Sandbox::start(Options::default());
    sandbox.set_account("my-app-zpa");
    for (account, expected) in [("my-app-zpa", "good"), ("another", "bad")] {
        let account_flag = format!("--service-account={account}");
        let output = check(&sandbox, &["--pre", &account_flag, "--output=json"]);
        let findings = findings(&output);
        let description = format!("{account} may patch deployments/status myapp");
        let expected = (description, expected.to_owned());
        assert!(findings.contains(&expected), "{findings:#?}");
    }
}

#[test]
fn an_api_server_that_does_not_answer_could_not_be_checked() {
    let sandbox = Sandbox::start(Options::default());
    let output = check(
        &sandbox,
        &["--api-server=http://127.0.0.1:1", "--output=short"],
    );
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.starts_with("? API: the API server answers: "),
        "{text}"
    );
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[test]
fn each_app_of_a_list_is_checked_and_what_is_wrong_in_the_list_is_said() {
    let sandbox = Sandbox::start(Options {
        further_apps: vec![SandboxApp::new("blog", 0)],
        ..Options::default()
    });
    let list = std::env::temp_dir().join(format!("zpa-check-{}.json", std::process::id()));
    let check_list = |text: &str, more: &str| {
        std::fs::write(&list, text).unwrap();
        Command::new(env!("CARGO_BIN_EXE_zpa"))
            .env_clear()
            .envs(sandbox.env())
            .env_remove("ZPA_DEPLOYMENT")
            .env_remove("ZPA_SERVICE")
            .env("KUBERNETES_SERVICE_HOST", "10.96.0.1")
            .args(["check", "--pre", more, "--apps"])
            .arg(&list)
            .output()
            .unwrap()
    };
    let good = r#"[{"deployment": "myapp", "listen": ":8080"},
                   {"deployment": "blog", "listen": ":8081"}]"#;
    let output = check_list(good, "--output=short");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");

    let output = check_list(&good.replace("blog", "gone"), "--output=json");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let findings: Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = findings.as_array().unwrap().iter();
    let bad = findings.filter(|it| it["result"] == "bad");
    let bad: Vec<_> = bad.map(|it| (&it["app"], &it["code"])).collect();
    let gone = Value::from("default/gone");
    assert_eq!(
        bad,
        [
            (&gone, &Value::from("TARGET")),
            (&gone, &Value::from("SERVICE"))
        ]
    );

    let output = check_list(&good.replace("8081", "8080"), "--output=short");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("app 2 (\"blog\"): listen"), "{text}");
    std::fs::remove_file(&list).unwrap();
}

#[test]
fn of_apps_that_are_found_the_annotations_are_checked_and_each_app_as_one_by_itself() {
    let sandbox = super::apps_file::three(0);
    let listen = |port: u16| ("listen".to_owned(), format!("127.0.0.1:{port}"));
    let text = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    for (name, created, annotations) in [
        ("myapp", "2026-01-01", vec![listen(7001)]),
        ("blog", "2026-01-02", vec![listen(7001)]),
        (
            "news",
            "2026-01-03",
            vec![listen(7002), text("idle-ttl", "5x")],
        ),
    ] {
        sandbox.edit_service(name, |service| {
            let metadata = &mut service["metadata"];
            metadata["labels"]["enabled"] = "true".into();
            metadata["creationTimestamp"] = format!("{created}T00:00:00Z").into();
            for (name, value) in annotations {
                metadata["annotations"][format!("zero-pod-autoscaler/{name}")] = value.into();
            }
        });
    }
    let check = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_zpa"));
        command.env_clear().envs(sandbox.env());
        command
            .env_remove("ZPA_DEPLOYMENT")
            .env_remove("ZPA_SERVICE");
        command.env("KUBERNETES_SERVICE_HOST", "10.96.0.1");
        let args = ["check", "--pre"].iter().chain(args);
        command.args(args).output().unwrap()
    };
    let output = check(&["--discover=enabled=true", "--output=json"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let findings = findings(&output);
    for (description, result) in [
        ("the Services with enabled=true can be listed", "good"),
        ("the annotations of default/myapp describe an app", "good"),
        ("the annotations of default/blog describe an app", "bad"),
        ("the annotations of default/news describe an app", "bad"),
        ("what is to be scaled exists", "good"),
        (
            "these credentials may patch deployments/scale myapp",
            "good",
        ),
    ] {
        let expected = (description.to_owned(), result.to_owned());
        assert!(findings.contains(&expected), "{description}: {findings:#?}");
    }
    let exist = findings
        .iter()
        .filter(|(it, _)| it == "what is to be scaled exists");
    assert_eq!(exist.count(), 1, "of the app that is right");
    let output = check(&["--discover=enabled=true", "--output=short"]);
    let text = String::from_utf8(output.stdout).unwrap();
    for line in [
        "× DISCOVERY: the annotations of default/blog describe an app: listen=127.0.0.1:7001: needs \
         another port, or a server-name in both, since that is of the older Service default/myapp \
         too",
        "× DISCOVERY: the annotations of default/news describe an app: \
         zero-pod-autoscaler/idle-ttl=\"5x\": unknown unit \"x\"; use e.g. 90s, 5m, 1h30m",
    ] {
        assert!(text.lines().any(|it| it == line), "{line}\n{text}");
    }
    let output = check(&["--discover=enabled=nobody", "--output=short"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("a Service with enabled=nobody is an app: there is none"),
        "{text}"
    );
    let of_all = check(&["--discover=enabled=true", "--namespace=*", "--output=short"]);
    assert_eq!(of_all.status.code(), Some(1), "{of_all:?}");
    let text = String::from_utf8(of_all.stdout).unwrap();
    let refused = "? DISCOVERY: the Services with enabled=true can be listed: 403 services is \
                   forbidden";
    assert!(text.starts_with(refused), "{text}");
    let missing = "× PERMISSION: these credentials may list services: RBAC does not allow it";
    assert!(text.lines().any(|it| it == missing), "{text}");
}
