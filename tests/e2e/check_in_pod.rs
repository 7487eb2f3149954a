//! `zpa check` in the pod of the proxy.

use serde_json::Value;
use support::sandbox::Rule;

use super::check_installed::{command, documents, install, printed, sandbox};

/// As with `kubectl exec`: with the variables and the permissions of the proxy alone.
#[test]
fn in_its_pod_the_proxy_checks_its_own_permissions() {
    let sandbox = sandbox(Vec::new());
    let yaml = install(&sandbox, &[]);
    let (_, objects) = yaml.split_once("---\n").unwrap();
    let objects = documents(objects);
    let of_kind = |kind: &str| objects.iter().find(|it| it["kind"] == kind).unwrap();
    let texts = |value: &Value| {
        let texts = value.as_array().into_iter().flatten();
        texts.map(|it| it.as_str().unwrap().to_owned()).collect()
    };
    let rules = of_kind("Role")["rules"].as_array().unwrap().iter();
    let rules = rules.map(|rule| Rule {
        groups: texts(&rule["apiGroups"]),
        resources: texts(&rule["resources"]),
        verbs: texts(&rule["verbs"]),
        names: texts(&rule["resourceNames"]),
    });
    sandbox.set_rules(rules.collect());
    sandbox.set_cluster_rules(Vec::new());
    let container = &of_kind("Deployment")["spec"]["template"]["spec"]["containers"][0];
    let check = |output: &str| {
        let args = ["check", output];
        let mut in_pod = command(&sandbox, env!("CARGO_BIN_EXE_zpa"), &args);
        for variable in container["env"].as_array().unwrap() {
            let [name, value] = ["name", "value"].map(|key| variable[key].as_str());
            in_pod.envs(name.zip(value));
        }
        in_pod.env("KUBERNETES_SERVICE_HOST", "10.96.0.1");
        let output = in_pod.output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        printed(&output)
    };
    assert_eq!(check("--output=short"), "");
    let table = check("--output=table");
    for line in [
        "- a proxy in front of the app is ready (skipped: Deployments may not be listed)",
        "√ the permissions of these credentials can be asked for (SelfSubjectAccessReview)",
        "√ these credentials may patch deployments/scale my-app",
    ] {
        assert!(table.lines().any(|it| it == line), "{line}\n{table}");
    }
}
