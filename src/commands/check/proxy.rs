//! The settings of an installed proxy, as its Deployment shows them.

use std::ffi::OsString;

use serde_json::Value;

use crate::settings::{self, Invocation, Settings};

/// The settings that the arguments and variables of the first container make, as the program
/// in it reads them: flags of any dialect, and variables. `None` if it does not run with
/// them. A variable with a `valueFrom` counts as unset.
pub fn settings_of(deployment: &Value) -> Option<Settings> {
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let args = container["args"].as_array().into_iter().flatten();
    let args = args.filter_map(Value::as_str).map(OsString::from);
    let variable = |name: &str| {
        let mut env = container["env"].as_array()?.iter();
        let variable = env.find(|variable| variable["name"] == name)?;
        variable["value"].as_str().map(OsString::from)
    };
    match settings::parse(args, variable) {
        Ok(Invocation::Run(settings)) => Some(*settings),
        Ok(Invocation::Help | Invocation::Version) | Err(_) => None,
    }
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
        json!({ "spec": { "template": { "spec": { "containers": [container] } } } })
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
    fn what_does_not_run_has_no_settings() {
        for container in [json!({}), json!({ "args": ["--nonsense"] }), json!(7)] {
            assert_eq!(settings_of(&deployment(&container)), None, "{container}");
        }
    }

    #[test]
    fn pods_without_a_service_account_have_the_default_one() {
        assert_eq!(account_of(&deployment(&json!({}))), "default");
        let named = json!({ "spec": { "template": { "spec": { "serviceAccountName": "zpa" } } } });
        assert_eq!(account_of(&named), "zpa");
    }
}
