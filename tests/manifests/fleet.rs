//! The install for apps that are found by their Services: that its Role has what the proxy asks
//! for, and no more; and that what its example describes are apps that clients can reach.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use zpa::settings::Settings;
use zpa::settings::apps::clash;
use zpa::workload::ANNOTATION_PREFIX;

use super::list::process;
use super::rendering::{find, rendered, text};

const FLEET: &str = "manifests/fleet";
/// The same for all namespaces.
const OF_ALL: &str = "manifests/fleet-all-namespaces";
const EXAMPLE: &str = "manifests/fleet/example";

/// What both grant. `tests/e2e/discover.rs` has the proxy make do with it.
fn rules() -> Value {
    let all = |group: &str, resources: &[&str], verbs: &[&str]| json!({ "apiGroups": [group], "resources": resources, "verbs": verbs });
    let scaling = ["deployments/scale", "deployments/status"];
    json!([
        all("apps", &["deployments"], &["get", "list", "watch"]),
        all("apps", &scaling, &["patch"]),
        all("", &["services"], &["get", "list", "watch"]),
        all("discovery.k8s.io", &["endpointslices"], &["list", "watch"]),
        all("events.k8s.io", &["events"], &["create", "patch"]),
    ])
}

#[test]
fn for_all_namespaces_the_same_is_granted_in_all_to_a_proxy_in_a_namespace_of_its_own() {
    let Some(objects) = rendered(OF_ALL) else {
        return;
    };
    let deployment = find(&objects, "Deployment", "fleet-zpa");
    let settings = process(deployment);
    assert!(settings.all_namespaces && settings.discover.is_some());
    let own = find(&objects, "Namespace", "zero-pod-autoscaler");
    assert_eq!(deployment["metadata"]["namespace"], own["metadata"]["name"]);
    let role = find(&objects, "ClusterRole", "fleet-zpa");
    assert_eq!(role["rules"], rules());
    let binding = find(&objects, "ClusterRoleBinding", "fleet-zpa");
    assert_eq!(binding["roleRef"]["name"], role["metadata"]["name"]);
    let account = find(&objects, "ServiceAccount", "fleet-zpa");
    assert_eq!(
        binding["subjects"],
        json!([{ "kind": "ServiceAccount", "name": account["metadata"]["name"],
                 "namespace": own["metadata"]["name"] }])
    );
    let kinds: BTreeSet<&str> = objects.iter().map(|it| text(&it["kind"])).collect();
    assert!(
        !kinds.contains("Role") && !kinds.contains("RoleBinding"),
        "{kinds:?}"
    );
}

#[test]
fn the_fleet_finds_the_services_with_the_label_by_a_role_that_never_writes_a_pod_template() {
    let Some(objects) = rendered(FLEET) else {
        return;
    };
    let deployment = find(&objects, "Deployment", "fleet-zpa");
    let process = process(deployment);
    assert_eq!(
        process.discover.as_deref(),
        Some("zero-pod-autoscaler/enabled=true")
    );
    let pod = &deployment["spec"]["template"]["spec"];
    assert_eq!(pod["containers"][0]["image"], "zero-pod-autoscaler:latest");
    assert_eq!(
        pod["containers"][0]["ports"],
        json!([{ "name": "admin", "containerPort": 8081 }])
    );
    let role = find(&objects, "Role", "fleet-zpa");
    assert_eq!(role["rules"], rules());
    let account = find(&objects, "ServiceAccount", "fleet-zpa");
    let binding = find(&objects, "RoleBinding", "fleet-zpa");
    assert_eq!(pod["serviceAccountName"], account["metadata"]["name"]);
    assert_eq!(
        binding["subjects"],
        json!([{ "kind": "ServiceAccount", "name": "fleet-zpa" }])
    );
    assert_eq!(binding["roleRef"]["name"], role["metadata"]["name"]);
    let kinds = objects.iter().map(|object| text(&object["kind"]));
    assert!(!kinds.collect::<Vec<_>>().contains(&"Service"));
}

/// The apps of a rendered example, by the names of their Services.
fn apps(objects: &[Value], process: &Settings) -> BTreeMap<String, Settings> {
    let services = objects.iter().filter(|object| {
        object["kind"] == "Service"
            && object["metadata"]["labels"]["zero-pod-autoscaler/enabled"] == "true"
    });
    let read = services.map(|service| {
        let name = text(&service["metadata"]["name"]);
        let annotations = service["metadata"]["annotations"].as_object().unwrap();
        let ours = annotations.iter().filter_map(|(key, value)| {
            let key = key.strip_prefix(ANNOTATION_PREFIX)?;
            Some((key.to_owned(), text(value).to_owned()))
        });
        let app = process.read_annotations("default", name, &ours.collect());
        let app = app.unwrap_or_else(|errors| panic!("{name}: {errors}"));
        (name.to_owned(), app)
    });
    read.collect()
}

#[test]
fn the_apps_of_the_example_are_reached_by_their_fronts_and_have_nothing_in_common() {
    let (Some(fleet), Some(example)) = (rendered(FLEET), rendered(EXAMPLE)) else {
        return;
    };
    let deployment = find(&fleet, "Deployment", "fleet-zpa");
    let apps = apps(&example, &process(deployment));
    assert_eq!(apps.len(), 2, "{:?}", apps.keys());
    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    for (name, app) in &apps {
        let target = app.target_ref.deployment_name().unwrap();
        let scaled = find(&example, "Deployment", target);
        assert_eq!(scaled["spec"]["replicas"], Value::Null);
        let own = find(&example, "Service", name);
        let pods = &scaled["spec"]["template"]["metadata"]["labels"];
        assert_eq!(&own["spec"]["selector"], pods, "{name}");
        let front = find(&example, "Service", &format!("{name}-front"));
        assert_eq!(&front["spec"]["selector"], labels, "{name}");
        let ports = front["spec"]["ports"].as_array().unwrap().iter();
        let led_to: BTreeSet<u64> = ports.filter_map(|it| it["targetPort"].as_u64()).collect();
        let listeners = app.listen.iter().map(|it| it.address.port().into());
        assert_eq!(led_to, listeners.collect(), "{name}");
    }
    let [one, other] = [0, 1].map(|place| apps.values().nth(place).unwrap());
    assert_eq!(clash(one, other), None);
}
