//! The install for a list of apps: that the list can be read with the settings of its
//! container, and that Role and Service have what it names, and no more.

use std::collections::BTreeSet;
use std::ffi::OsString;

use serde_json::{Value, json};
use zpa::settings::{self, Invocation, Settings};

use super::rendering::{find, rendered, text};

/// The settings that the environment of the container is.
pub(super) fn process(deployment: &Value) -> Settings {
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let environment = container["env"].as_array().unwrap();
    let variable = |name: &str| {
        let found = environment.iter().find(|it| it["name"] == name)?;
        found["value"].as_str().map(OsString::from)
    };
    match settings::parse([], variable) {
        Ok(Invocation::Run(settings)) => *settings,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_install_for_a_list_names_what_its_apps_need_and_no_more() {
    let Some(objects) = rendered("manifests/example/list") else {
        return;
    };
    let deployment = find(&objects, "Deployment", "apps-zpa");
    let process = process(deployment);
    let list = find(&objects, "ConfigMap", "apps-zpa-list");
    let list = list["data"]["apps.json"].as_str().unwrap().to_owned();
    let apps = process.read_apps(list.as_bytes(), "default");
    let apps = apps.unwrap_or_else(|errors| panic!("{errors}"));
    assert!(apps.len() > 1, "a list");

    // The file is where the variable says.
    let pod = &deployment["spec"]["template"]["spec"];
    let mount = &pod["containers"][0]["volumeMounts"][0];
    let path = format!("{}/apps.json", mount["mountPath"].as_str().unwrap());
    assert_eq!(process.apps.as_ref().unwrap().to_str(), Some(&*path));
    assert_eq!(mount["subPath"], Value::Null, "it would never change");
    let volume = &pod["volumes"][0];
    assert_eq!(volume["name"], mount["name"]);
    assert_eq!(volume["configMap"], json!({ "name": "apps-zpa-list" }));

    let targets: BTreeSet<&str> = apps.iter().map(|app| app.target_ref.label()).collect();
    let services: BTreeSet<&str> = apps
        .iter()
        .filter_map(|app| app.service.as_deref())
        .collect();
    let role = find(&objects, "Role", "apps-zpa");
    for rule in role["rules"].as_array().unwrap() {
        let Some(names) = rule["resourceNames"].as_array() else {
            let resources = text(&rule["resources"][0]);
            assert!(matches!(resources, "endpointslices" | "events"), "by label");
            continue;
        };
        let names: BTreeSet<&str> = names.iter().filter_map(Value::as_str).collect();
        let of_services = rule["resources"] == json!(["services"]);
        let expected = if of_services { &services } else { &targets };
        assert_eq!(names, *expected, "{rule}");
    }

    let service = find(&objects, "Service", "apps-zpa");
    let ports = service["spec"]["ports"].as_array().unwrap().iter();
    let led_to: BTreeSet<u64> = ports.filter_map(|it| it["targetPort"].as_u64()).collect();
    let listeners = apps.iter().flat_map(|app| &app.listen);
    let listening: BTreeSet<u64> = listeners.map(|it| it.address.port().into()).collect();
    assert_eq!(led_to, listening);
}
