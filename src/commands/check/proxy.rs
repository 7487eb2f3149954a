//! The settings of an installed proxy, as its Deployment shows them.

use std::ffi::OsString;

use serde_json::Value;

use crate::settings::{self, Invocation, Settings};

/// The programs of the image, which a manifest may name as the command.
const PROGRAMS: [&str; 2] = ["zpa", "zero-pod-autoscaler"];

/// The settings that the arguments and variables of a proxy's container make, as the program
/// in it reads them: flags of any dialect, and variables. `None` if no container runs with
/// them.
pub fn settings_of(deployment: &Value) -> Option<Settings> {
    container_of(deployment).map(|(_, settings)| settings)
}

/// The container of the proxy, with its settings: the first that runs with its arguments and
/// variables.
pub fn container_of(deployment: &Value) -> Option<(&Value, Settings)> {
    let mut containers = containers(deployment);
    containers.find_map(|it| Some((it, read(it, deployment).ok()?)))
}

/// Why no container runs with its arguments and variables, by the first of them.
pub fn errors_of(deployment: &Value) -> Option<String> {
    let first = containers(deployment).next()?;
    read(first, deployment).err()
}

fn containers(deployment: &Value) -> impl Iterator<Item = &Value> {
    let containers = &deployment["spec"]["template"]["spec"]["containers"];
    containers.as_array().into_iter().flatten()
}

fn read(container: &Value, deployment: &Value) -> Result<Settings, String> {
    let variable = |name: &str| variable(container, deployment, name);
    let texts = |key: &str| {
        let texts = container[key].as_array().into_iter().flatten();
        let texts = texts.filter_map(Value::as_str);
        texts.map(|text| expanded(text, &variable)).collect()
    };
    let command: Vec<String> = texts("command");
    if let Some(program) = command.first() {
        let name = program.rsplit('/').next().unwrap_or_default();
        if !PROGRAMS.contains(&name) {
            return Err(format!("{program} is another program"));
        }
    }
    let args = command.into_iter().skip(1).chain(texts("args"));
    let parsed = settings::parse(args.map(OsString::from), |name| {
        variable(name).map(OsString::from)
    });
    match parsed {
        Ok(Invocation::Run(settings)) => Ok(*settings),
        Ok(Invocation::Help | Invocation::Version) => Err("it prints a text and ends".to_owned()),
        Err(errors) => Err(errors.lines().collect::<Vec<_>>().join("; ")),
    }
}

/// The value of a variable. One with another `valueFrom` than the namespace counts as unset.
fn variable(container: &Value, deployment: &Value, name: &str) -> Option<String> {
    let mut env = container["env"].as_array()?.iter();
    let variable = env.find(|variable| variable["name"] == name)?;
    let is_namespace = variable["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.namespace";
    let value = match is_namespace {
        true => &deployment["metadata"]["namespace"],
        false => &variable["value"],
    };
    value.as_str().map(str::to_owned)
}

/// A text in which the references `$(NAME)` to known variables are replaced, as Kubernetes does.
fn expanded(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> String {
    let Some((before, rest)) = text.split_once("$(") else {
        return text.to_owned();
    };
    let Some((name, after)) = rest.split_once(')') else {
        return text.to_owned();
    };
    let value = variable(name).unwrap_or_else(|| format!("$({name})"));
    format!("{before}{value}{}", expanded(after, variable))
}

/// The service account of the pods; Kubernetes gives them `default` where none is named.
pub fn account_of(deployment: &Value) -> &str {
    let pod = &deployment["spec"]["template"]["spec"];
    pod["serviceAccountName"].as_str().unwrap_or("default")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment(container: &Value) -> Value {
        json!({
            "metadata": { "namespace": "shop" },
            "spec": { "template": { "spec": { "containers": [container] } } },
        })
    }

    #[test]
    fn what_a_proxy_scales_is_read_as_the_proxy_reads_it() {
        let variables = json!({ "env": [
            { "name": "ZPA_DEPLOYMENT", "value": "my-app" },
            { "name": "ZPA_TOKEN", "valueFrom": { "secretKeyRef": {} } },
        ] });
        let cases = [
            ("variables", variables, "deployments.apps/my-app"),
            (
                "flags",
                json!({ "args": ["--deployment=my-app"] }),
                "deployments.apps/my-app",
            ),
            (
                "the flags of an ancestor",
                json!({ "args": ["--deployment=my-app", "--endpoints=my-app", "--target=my-app:80"] }),
                "deployments.apps/my-app",
            ),
            (
                "a command, and references to variables",
                json!({
                    "command": ["/bin/zero-pod-autoscaler", "--deployment=$(APP)"],
                    "env": [{ "name": "APP", "value": "my-app" }],
                }),
                "deployments.apps/my-app",
            ),
            (
                "another kind of the same name",
                json!({ "args": ["--scale-target=statefulsets.apps/my-app"] }),
                "statefulsets.apps/my-app",
            ),
        ];
        for (label, container, expected) in cases {
            let settings = settings_of(&deployment(&container));
            let target = settings.map(|it| it.target_ref.to_string());
            assert_eq!(target.as_deref(), Some(expected), "{label}");
        }
    }

    #[test]
    fn a_reference_to_the_namespace_is_that_of_the_deployment() {
        let own = json!({ "name": "NS", "valueFrom": { "fieldRef": {
            "fieldPath": "metadata.namespace" } } });
        let args = ["--deployment=my-app", "--namespace=$(NS)"];
        let settings = settings_of(&deployment(&json!({ "args": args, "env": [own] })));
        assert_eq!(settings.unwrap().namespace.as_deref(), Some("shop"));
    }

    #[test]
    fn the_container_of_the_proxy_need_not_be_the_first() {
        let sidecar = json!({ "name": "sidecar", "args": ["--port=80"] });
        let mut proxy = deployment(&sidecar);
        let containers = &mut proxy["spec"]["template"]["spec"]["containers"];
        let own = json!({ "name": "zpa", "args": ["--deployment=my-app"] });
        containers.as_array_mut().unwrap().push(own);
        let (container, _) = container_of(&proxy).unwrap();
        assert_eq!(container["name"], "zpa");
    }

    #[test]
    fn what_does_not_run_has_no_settings() {
        for container in [
            json!({}),
            json!({ "args": ["--nonsense"] }),
            json!({ "command": ["/other"], "args": ["--deployment=my-app"] }),
            json!(7),
        ] {
            assert_eq!(settings_of(&deployment(&container)), None, "{container}");
        }
        let wrong = deployment(&json!({ "args": ["--deployment=my-app", "--idle-ttl=5x"] }));
        let errors = errors_of(&wrong).unwrap();
        assert!(errors.starts_with("--idle-ttl"), "{errors}");
    }

    #[test]
    fn pods_without_a_service_account_have_the_default_one() {
        assert_eq!(account_of(&deployment(&json!({}))), "default");
        let named = json!({ "spec": { "template": { "spec": { "serviceAccountName": "zpa" } } } });
        assert_eq!(account_of(&named), "zpa");
    }
}
