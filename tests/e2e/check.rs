//! `zpa check` before the sandbox.

use std::process::{Command, Output};

use serde_json::Value;
use support::sandbox::{Options, OtherApp, Sandbox};

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
        "× PROXY: a proxy before the app is ready: there is none",
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
        text.starts_with("× API: the API server answers: "),
        "{text}"
    );
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[test]
fn each_app_of_a_list_is_checked_and_what_is_wrong_in_the_list_is_said() {
    let sandbox = Sandbox::start(Options {
        other_apps: vec![OtherApp::new("blog", 0)],
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
