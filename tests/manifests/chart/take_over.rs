//! The chart with `takeOver`: the app's Service is not its own, and changes in its selector alone.

use serde_json::{Value, json};

use super::super::rendering::{find, text};
use super::{app, notes, objects, templated};

/// The app's Service as kubectl prints it.
pub(super) fn service() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "my-app", "namespace": "shop", "resourceVersion": "7",
            "annotations": { "service.kubernetes.io/topology-mode": "Auto", "a": "b" },
        },
        "spec": {
            "type": "LoadBalancer", "clusterIP": "10.0.0.1", "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": { "clientIP": { "timeoutSeconds": 60 } },
            "ports": [
                { "name": "http", "port": 80, "targetPort": "http", "protocol": "TCP",
                  "appProtocol": "http", "nodePort": 30080 },
                { "name": "sql", "port": 5432, "targetPort": 5432 },
                { "name": "web", "port": 8080, "targetPort": "web" },
                { "name": "alt", "port": 81, "targetPort": "http" },
            ],
            "selector": { "app": "my-app", "tier": "web" },
        },
    })
}

pub(super) fn taken_over(service: &Value) -> Value {
    json!({ "takeOver": { "service": service } })
}

/// The selectors of the notes: to the proxy, and back.
fn switches(values: &Value) -> Option<[Value; 2]> {
    let notes = notes(values)?;
    let mut selectors = notes.lines().filter_map(|line| {
        let (_, patch) = line.split_once("patch service my-app --type=merge -p '")?;
        let patch: Value = serde_json::from_str(patch.strip_suffix('\'')?).ok()?;
        Some(patch["spec"]["selector"].clone())
    });
    Some([(); 2].map(|()| selectors.next().expect("there are two")))
}

fn selects(selector: &Value, labels: &Value) -> bool {
    let mut selector = selector.as_object().unwrap().iter();
    selector.all(|(key, value)| labels[key] == *value)
}

#[test]
fn the_pods_get_a_service_with_all_that_is_said_of_them_and_the_proxy_listens_on_its_ports() {
    let Some(objects) = objects(&app(taken_over(&service()))) else {
        return;
    };
    let services = objects.iter().filter(|it| it["kind"] == "Service");
    assert_eq!(services.count(), 1, "the app's own is not the chart's");
    let pods = find(&objects, "Service", "my-app-pods");
    assert_eq!(
        pods["metadata"]["annotations"],
        json!({ "service.kubernetes.io/topology-mode": "Auto" })
    );
    assert_eq!(
        pods["spec"],
        json!({
            "ports": [
                { "name": "http", "port": 80, "targetPort": "http", "appProtocol": "http" },
                { "name": "sql", "port": 5432, "targetPort": 5432 },
                { "name": "web", "port": 8080, "targetPort": "web" },
                { "name": "alt", "port": 81, "targetPort": "http" },
            ],
            "selector": { "app": "my-app", "tier": "web" },
            "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": { "clientIP": { "timeoutSeconds": 60 } },
        })
    );
    let template = &find(&objects, "Deployment", "my-app-zpa")["spec"]["template"];
    let container = &template["spec"]["containers"][0];
    // The names are those that the Service leads to; 8081 is the admin port.
    assert_eq!(
        container["ports"],
        json!([
            { "name": "http", "containerPort": 8080 },
            { "name": "proxy-5432", "containerPort": 5432 },
            { "name": "web", "containerPort": 8082 },
            { "name": "admin", "containerPort": 8081 },
        ])
    );
    let env = container["env"].as_array().unwrap();
    for (name, value) in [
        ("ZPA_SERVICE", "my-app-pods"),
        ("ZPA_LISTEN", "8080=http,5432=sql,8082=web"),
    ] {
        assert!(
            env.contains(&json!({ "name": name, "value": value })),
            "{env:#?}"
        );
    }
    let rules = find(&objects, "Role", "my-app-zpa")["rules"]
        .as_array()
        .unwrap();
    assert!(
        rules
            .iter()
            .any(|it| it["resourceNames"] == json!(["my-app-pods"]))
    );
}

#[test]
fn the_notes_lead_the_clients_to_the_proxy_and_back() {
    for selector in [
        json!({ "app": "my-app", "tier": "web" }),
        json!({ "app.kubernetes.io/name": "my-app", "app.kubernetes.io/instance": "shop" }),
        json!({ "app.kubernetes.io/name": "my-app" }),
    ] {
        let mut service = service();
        service["spec"]["selector"] = selector.clone();
        let values = app(taken_over(&service));
        let (Some([there, back]), Some(objects)) = (switches(&values), objects(&values)) else {
            return;
        };
        let proxy = find(&objects, "Deployment", "my-app-zpa");
        let labels = &proxy["spec"]["template"]["metadata"]["labels"];
        assert!(selects(&there, labels), "{there} of {labels}");
        assert!(!selects(&selector, labels), "it would dial itself");
        let mut app_pods = selector.clone();
        app_pods["app.kubernetes.io/instance"] = json!("my-app");
        assert!(!selects(&there, &app_pods), "{there}");
        // RFC 7396: what is null is taken away.
        let mut restored = there.as_object().unwrap().clone();
        restored.extend(back.as_object().unwrap().clone());
        restored.retain(|_, value| !value.is_null());
        assert_eq!(Value::from(restored), selector);
        // The selector of a Deployment never changes.
        let own = proxy["spec"]["selector"]["matchLabels"]
            .as_object()
            .unwrap();
        assert_eq!(own.len(), 2);
    }
}

#[test]
fn one_port_is_called_proxy_and_keeps_its_number() {
    let mut service = service();
    service["spec"]["ports"] = json!([{ "port": 443 }]);
    let Some(objects) = objects(&app(taken_over(&service))) else {
        return;
    };
    let pods = &find(&objects, "Service", "my-app-pods")["spec"]["ports"];
    assert_eq!(*pods, json!([{ "port": 443, "targetPort": 443 }]));
    let pod = &find(&objects, "Deployment", "my-app-zpa")["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"]["sysctls"][0]["value"], "0");
    let port = &pod["containers"][0]["ports"][0];
    assert_eq!(*port, json!({ "name": "proxy", "containerPort": 443 }));
    let env = pod["containers"][0]["env"].as_array().unwrap();
    let listen = env.iter().find(|it| it["name"] == "ZPA_LISTEN").unwrap();
    assert_eq!(text(&listen["value"]), ":443");
}

#[test]
fn a_service_that_cannot_be_taken_over_is_refused_with_the_reason() {
    let edits = [
        (
            "/metadata/name",
            json!("other"),
            "takeOver.service is the Service other",
        ),
        ("/spec/selector", json!({}), "has no selector"),
        ("/spec/ports", json!([]), "has no port"),
        (
            "/spec/ports/0",
            json!({ "port": 53, "protocol": "UDP" }),
            "is not for TCP",
        ),
        (
            "/spec/ports/0",
            json!({ "port": 80, "targetPort": 8081 }),
            "set settings.admin-listen",
        ),
        (
            "/spec/ports/0",
            json!({ "port": 80, "targetPort": "admin" }),
            "is called admin",
        ),
        ("/spec/clusterIP", json!("None"), "is headless"),
        (
            "/spec/selector",
            json!({ "app": "my-app-zpa", "tier": "my-app-zpa" }),
            "leads to the proxy already",
        ),
    ];
    for (pointer, value, expected) in edits {
        let mut service = service();
        *service.pointer_mut(pointer).unwrap() = value;
        let Some(templated) = templated(&app(taken_over(&service)), &[]) else {
            return;
        };
        let why = templated.expect_err(expected);
        assert!(why.contains(expected), "{why}");
    }
    let mut values = app(taken_over(&service()));
    values["settings"]["listen"] = json!(":80");
    let Some(templated) = templated(&values, &[]) else {
        return;
    };
    let why = templated.unwrap_err();
    assert!(
        why.contains("settings.listen follows from the Service"),
        "{why}"
    );
}
