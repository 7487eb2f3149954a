//! `zpa manifests --take-over`: the Service of the clients stays as it is but for its selector,
//! which merges with whatever else writes it, and leads to the proxy and to nothing else.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::generated::{printed, yaml};
use super::rendering::find;

const SERVICE: &str = "tests/manifests/printed/service.json";

/// A Service in a file of its own, removed at the end.
struct File(PathBuf);

impl File {
    fn write(label: &str, service: &Value) -> File {
        let name = format!("service-{}-{label}.json", std::process::id());
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::write(&path, service.to_string()).unwrap();
        File(path)
    }

    fn args(&self) -> [String; 2] {
        let file = self.0.display();
        [
            "--deployment=my-app".to_owned(),
            format!("--take-over={file}"),
        ]
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn service() -> Value {
    serde_json::from_str(&fs::read_to_string(SERVICE).unwrap()).unwrap()
}

/// What is printed for that Service with these arguments more, or why nothing is.
fn taken_over(label: &str, service: &Value, more: &[&str]) -> Result<String, Vec<String>> {
    let file = File::write(label, service);
    let args = file.args();
    let args = args.iter().map(String::as_str).chain(more.iter().copied());
    printed(&args.collect::<Vec<_>>())
}

fn objects(yaml: &str) -> Vec<Value> {
    let documents = yaml.split("\n---\n").skip(1);
    documents
        .map(|document| serde_saphyr::from_str(document).unwrap())
        .collect()
}

/// The patches of the two switches in the head: to the proxy, and back.
fn switches(yaml: &str) -> [Value; 2] {
    let mut patches = yaml.lines().filter_map(|line| {
        let (_, patch) = line.split_once("patch service my-app --type=merge -p '")?;
        serde_json::from_str(patch.strip_suffix('\'')?).ok()
    });
    [(); 2].map(|()| patches.next().expect("there are two switches"))
}

/// RFC 7396.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(entries) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let object = target.as_object_mut().unwrap();
    for (key, value) in entries {
        if value.is_null() {
            object.remove(key);
        } else {
            merge(object.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

fn selects(selector: &Value, labels: &Value) -> bool {
    let selector = selector.as_object().unwrap();
    !selector.is_empty() && selector.iter().all(|(key, value)| labels[key] == *value)
}

fn pod_labels(objects: &[Value]) -> Value {
    let proxy = find(objects, "Deployment", "my-app-zpa");
    proxy["spec"]["template"]["metadata"]["labels"].clone()
}

#[test]
fn the_switch_changes_the_selector_alone_and_the_undoing_restores_it() {
    for (label, selector) in [
        ("one-key", json!({ "app": "my-app" })),
        ("own-keys", json!({ "app": "my-app", "tier": "web" })),
        (
            "keys-of-zpa",
            json!({ "app.kubernetes.io/name": "my-app", "app.kubernetes.io/instance": "shop" }),
        ),
        ("name-alone", json!({ "app.kubernetes.io/name": "my-app" })),
        (
            "instance-alone",
            json!({ "app.kubernetes.io/instance": "shop" }),
        ),
    ] {
        let mut live = service();
        live["spec"]["selector"] = selector.clone();
        let yaml = taken_over(label, &live, &[]).unwrap();
        let [there, back] = switches(&yaml);
        let mut switched = live.clone();
        merge(&mut switched, &there);
        let objects = objects(&yaml);
        let labels = pod_labels(&objects);
        let new = switched["spec"]["selector"].clone();
        assert!(selects(&new, &labels), "{label}: {new}");
        // Neither the app's pods nor the proxies of other apps.
        let mut of_the_app = selector.clone();
        of_the_app["app.kubernetes.io/instance"] = "my-app".into();
        assert!(!selects(&new, &of_the_app), "{label}: {new}");
        let other = json!({
            "app.kubernetes.io/name": "zero-pod-autoscaler",
            "app.kubernetes.io/instance": "other",
            "app": "other-zpa",
            "tier": "other-zpa",
        });
        assert!(!selects(&new, &other), "{label}: {new}");
        assert!(
            !selects(&selector, &labels),
            "{label}: it would dial itself"
        );

        let mut rest = switched.clone();
        rest["spec"]["selector"] = live["spec"]["selector"].clone();
        assert_eq!(rest, live, "{label}: nothing else is changed");
        merge(&mut switched, &back);
        assert_eq!(switched, live, "{label}");
        // kubectl apply and Helm set the keys of their own selector, and take none away that
        // they do not know.
        let mut applied = live.clone();
        merge(&mut applied, &there);
        merge(&mut applied, &json!({ "spec": { "selector": selector } }));
        let is_mixed = applied["spec"]["selector"] != selector;
        assert_eq!(is_mixed, yaml.contains("# Step 3 adds "), "{label}");
    }
}

#[test]
fn the_proxy_listens_on_every_port_that_the_service_leads_to_and_dials_the_same() {
    let yaml = yaml(&["--deployment=my-app", &format!("--take-over={SERVICE}")]);
    let objects = objects(&yaml);
    let live = service();
    let names: Vec<(&Value, &Value)> = objects
        .iter()
        .filter(|it| it["kind"] == "Service")
        .map(|it| (&it["kind"], &it["metadata"]["name"]))
        .collect();
    assert_eq!(names, [(&json!("Service"), &json!("my-app-pods"))]);
    let container =
        &find(&objects, "Deployment", "my-app-zpa")["spec"]["template"]["spec"]["containers"][0];
    let ports = container["ports"].as_array().unwrap();
    for port in live["spec"]["ports"].as_array().unwrap() {
        let target = &port["targetPort"];
        let is_there = |it: &Value| it["name"] == *target || it["containerPort"] == *target;
        assert!(ports.iter().any(is_there), "{target}");
    }
    let env = container["env"].as_array().unwrap();
    for (name, value) in [
        ("ZPA_SERVICE", "my-app-pods"),
        ("ZPA_LISTEN", "[::]:8080=http,[::]:5432=sql"),
    ] {
        assert!(
            env.contains(&json!({ "name": name, "value": value })),
            "{name}"
        );
    }
    let pods = &find(&objects, "Service", "my-app-pods")["spec"];
    for field in [
        "selector",
        "sessionAffinity",
        "sessionAffinityConfig",
        "ipFamilies",
    ] {
        assert_eq!(pods[field], live["spec"][field], "{field}");
    }
    for field in ["type", "clusterIP", "externalTrafficPolicy"] {
        assert!(pods[field].is_null(), "{field}");
    }
    for (ours, theirs) in pods["ports"]
        .as_array()
        .unwrap()
        .iter()
        .zip(live["spec"]["ports"].as_array().unwrap())
    {
        assert!(ours["nodePort"].is_null());
        for field in ["name", "port", "targetPort", "appProtocol"] {
            assert_eq!(ours[field], theirs[field], "{field}");
        }
    }
    let rules = &find(&objects, "Role", "my-app-zpa")["rules"];
    assert_eq!(rules[2]["resourceNames"], json!(["my-app-pods"]));
}

#[test]
fn what_is_known_of_the_app_is_in_the_service_of_its_pods_after_the_switch() {
    let live = service();
    let first = taken_over("first", &live, &[]).unwrap();
    let mut switched = live;
    merge(&mut switched, &switches(&first)[0]);
    let why = taken_over("switched", &switched, &[]).unwrap_err();
    assert!(why[0].contains("a file has to have that one"), "{why:?}");
    let pods = find(&objects(&first), "Service", "my-app-pods").clone();
    let again = taken_over("pods", &pods, &[]).unwrap();
    assert_eq!(objects(&again), objects(&first));
}

#[test]
fn whoever_else_writes_the_service_is_named() {
    let mut live = service();
    live["metadata"]["ownerReferences"] = json!([{ "kind": "Database", "name": "db" }]);
    let yaml = taken_over("writers", &live, &[]).unwrap();
    assert!(
        yaml.contains("# my-app is written by Helm, the Database db too: put the selector"),
        "{yaml}"
    );
}

#[test]
fn a_service_whose_clients_would_lose_something_is_refused() {
    let edited = |at: &str, value: Value| {
        let mut service = service();
        *service.pointer_mut(at).unwrap() = value;
        service
    };
    for (label, service, more, why) in [
        (
            "udp",
            edited("/spec/ports/1/protocol", "UDP".into()),
            &[][..],
            "port 5432: is not for TCP",
        ),
        (
            "headless",
            edited("/spec/clusterIP", "None".into()),
            &[],
            "is headless",
        ),
        (
            "local",
            edited("/spec/internalTrafficPolicy", "Local".into()),
            &[],
            "internalTrafficPolicy: Local",
        ),
        (
            "selector",
            edited("/spec/selector", json!({})),
            &[],
            "no selector",
        ),
        (
            "ports",
            edited("/spec/ports", json!([])),
            &[],
            "has no port",
        ),
        (
            "proxy",
            edited(
                "/spec/selector",
                json!({ "app.kubernetes.io/instance": "my-app" }),
            ),
            &[],
            "selects the proxy's pods",
        ),
        (
            "admin-number",
            edited("/spec/ports/1/targetPort", 8081.into()),
            &[],
            "use another one, e.g. --admin-listen=:9081",
        ),
        (
            "admin-name",
            edited("/spec/ports/0/targetPort", "admin".into()),
            &[],
            "its targetPort is called admin",
        ),
        (
            "other",
            edited("/metadata/name", "other".into()),
            &[],
            "is not the Service my-app",
        ),
        (
            "kind",
            edited("/kind", "List".into()),
            &[],
            "is not the Service my-app",
        ),
        (
            "listen",
            service(),
            &["--listen=:80"],
            "--listen: follows from the Service",
        ),
        (
            "port",
            service(),
            &["--port", "sql"],
            "--port: follows from the Service",
        ),
        (
            "service-port",
            service(),
            &["--service-port=80"],
            "--service-port: follows from the Service",
        ),
    ] {
        let errors = taken_over(label, &service, more).unwrap_err().join("\n");
        assert!(errors.contains(why), "{label}: {errors}");
    }
    for (value, why) in [
        ("auto", "takes --lookup"),
        ("app=my-app:80", "it takes auto with --lookup, or the file"),
    ] {
        let take_over = format!("--take-over={value}");
        let errors = printed(&["--deployment=my-app", &take_over]).unwrap_err();
        assert!(errors[0].contains(why), "{errors:?}");
    }
}
