use serde_json::{Value, json};

use super::*;
use crate::kube::inspect::{Attributes, Fault};
use crate::settings::{self, Invocation};

/// An app, its Service and its proxy, all as they should be.
fn facts() -> Facts {
    let labels = json!({ "app": "my-app" });
    let proxy_labels = json!({ "app.kubernetes.io/name": "zero-pod-autoscaler" });
    Facts {
        version: Ok(json!({ "gitVersion": "v1.36.0" })),
        target: Ok(json!({
            "metadata": { "name": "my-app" },
            "spec": { "template": {
                "metadata": { "labels": labels },
                "spec": { "containers": [{ "readinessProbe": { "tcpSocket": {} } }] },
            } },
        })),
        service: Ok(json!({
            "spec": { "selector": labels, "ports": [{ "name": "http", "port": 80 }] },
        })),
        proxies: Ok(vec![json!({
            "metadata": { "name": "my-app-zpa" },
            "spec": { "template": {
                "metadata": { "labels": proxy_labels },
                "spec": { "containers": [{
                    "image": "zpa:1",
                    "env": [
                        { "name": "ZPA_DEPLOYMENT", "value": "my-app" },
                        { "name": "ZPA_IDLE_TTL", "value": "1h" },
                    ],
                }] },
            } },
            "status": { "readyReplicas": 2 },
        })]),
        autoscalers: Ok(vec![json!({
            "metadata": { "name": "web" },
            "spec": { "minReplicas": 1, "scaleTargetRef": { "name": "my-app" } },
        })]),
        account: Some("my-app-zpa".to_owned()),
        permissions: vec![(need(), Ok(true))],
    }
}

fn need() -> RequiredPermission {
    RequiredPermission {
        attributes: Attributes {
            verb: "patch",
            group: "apps".to_owned(),
            resource: "deployments".to_owned(),
            subresource: "scale".to_owned(),
            name: "my-app".to_owned(),
        },
        is_optional: false,
    }
}

fn results(facts: &Facts, args: &[&str]) -> Vec<CheckResult> {
    let args = [&["--deployment=my-app"], args].concat();
    let args = args.iter().map(std::ffi::OsString::from);
    let Ok(Invocation::Run(settings)) = settings::parse(args, |_| None) else {
        panic!("settings");
    };
    let subject = Subject {
        settings: &settings,
        before_install: false,
    };
    examine(&subject, facts)
}

/// The verdict on `code` after `change`; all others are as they were.
fn verdict(code: &str, args: &[&str], change: impl FnOnce(&mut Facts)) -> Verdict {
    let mut changed = facts();
    change(&mut changed);
    let all = results(&changed, args);
    all.into_iter().find(|it| it.code == code).unwrap().verdict
}

fn set(object: &mut Result<Value, Fault>, pointer: &str, value: Value) {
    *object.as_mut().unwrap().pointer_mut(pointer).unwrap() = value;
}

fn bad(why: &str) -> Verdict {
    Verdict::Bad(why.to_owned())
}

#[test]
fn where_all_is_as_it_should_be_nothing_is_found() {
    for finding in results(&facts(), &[]) {
        assert_eq!(finding.verdict, Verdict::Good, "{}", finding.code);
    }
}

#[test]
fn each_trouble_of_the_app_is_found() {
    assert_eq!(
        verdict("TARGET", &[], |it| it.target = Err(Fault::NotFound)),
        bad("not found")
    );
    assert_eq!(
        verdict("PROBE", &[], |it| set(
            &mut it.target,
            "/spec/template/spec/containers/0",
            json!({ "name": "web" })
        )),
        bad("no container has one")
    );
    let owner = json!({ "kind": "Postgres", "name": "db", "controller": true });
    assert_eq!(
        verdict("OWNER", &[], |it| set(
            &mut it.target,
            "/metadata",
            json!({ "ownerReferences": [owner] })
        )),
        bad("Postgres db does")
    );
    let autoscaler = |it: &mut Facts| {
        let zero = json!({
            "metadata": { "name": "web" },
            "spec": { "minReplicas": 0, "scaleTargetRef": { "name": "my-app" } },
        });
        it.autoscalers = Ok(vec![zero]);
    };
    assert_eq!(
        verdict("HPA", &[], autoscaler),
        bad("web has minReplicas 0")
    );
}

#[test]
fn whoever_sets_replicas_again_and_again_is_named_and_whoever_did_once_is_not() {
    for (manager, operation, field, expected) in [
        (
            "kubectl-client-side-apply",
            "Update",
            "f:replicas",
            Some("kubectl-client-side-apply does"),
        ),
        (
            "argocd-controller",
            "Apply",
            "f:replicas",
            Some("argocd-controller does"),
        ),
        ("argocd-controller", "Apply", "f:template", None),
        ("kubectl-create", "Update", "f:replicas", None),
        ("zpa", "Apply", "f:replicas", None),
    ] {
        let entry = json!({
            "manager": manager,
            "operation": operation,
            "fieldsV1": { "f:spec": { field: {} } },
        });
        let verdict = verdict("REPLICAS", &[], |it| {
            set(
                &mut it.target,
                "/metadata",
                json!({ "managedFields": [entry] }),
            );
        });
        assert_eq!(verdict, expected.map_or(Verdict::Good, bad), "{manager}");
    }
}

#[test]
fn each_trouble_of_the_service_is_found() {
    assert_eq!(
        verdict("SERVICE", &[], |it| it.service = Err(Fault::NotFound)),
        bad("not found")
    );
    let other = json!({ "app": "other" });
    assert_eq!(
        verdict("SELECTOR", &[], |it| set(
            &mut it.service,
            "/spec/selector",
            other
        )),
        bad(r#"it selects {"app":"other"}, and the pods have {"app":"my-app"}"#)
    );
    assert_eq!(
        verdict("SELECTOR", &[], |it| set(
            &mut it.service,
            "/spec/selector",
            json!({})
        )),
        bad(r#"it selects {}, and the pods have {"app":"my-app"}"#)
    );
    let ours = json!({ "app.kubernetes.io/name": "zero-pod-autoscaler" });
    assert_eq!(
        verdict("LOOP", &[], |it| set(
            &mut it.service,
            "/spec/selector",
            ours
        )),
        bad("it selects the pods of my-app-zpa")
    );
    let ports = json!([{ "name": "http", "port": 80 }, { "name": "sql", "port": 5432 }]);
    for (args, expected) in [
        (&[][..], bad("it has 2: http (80), sql (5432)")),
        (&["--port=sql"], Verdict::Good),
        (&["--port=5432"], Verdict::Good),
        (
            &["--port=web"],
            bad("it has no web, but http (80), sql (5432)"),
        ),
    ] {
        let ports = ports.clone();
        let verdict = verdict("PORT", args, |it| {
            set(&mut it.service, "/spec/ports", ports)
        });
        assert_eq!(verdict, expected, "{args:?}");
    }
}

#[test]
fn each_trouble_of_the_proxies_is_found() {
    assert_eq!(
        verdict("PROXY", &[], |it| it.proxies = Ok(Vec::new())),
        bad("there is none")
    );
    let unready = |it: &mut Facts| {
        it.proxies.as_mut().unwrap()[0]["status"] = json!({});
    };
    assert_eq!(verdict("PROXY", &[], unready), bad("none of my-app-zpa is"));
    let another = |pointer: &'static str, value: Value| {
        move |it: &mut Facts| {
            let proxies = it.proxies.as_mut().unwrap();
            let mut second = proxies[0].clone();
            *second.pointer_mut(pointer).unwrap() = value;
            proxies.push(second);
        }
    };
    let ttl = "/spec/template/spec/containers/0/env/1/value";
    assert_eq!(
        verdict("TTL", &[], another(ttl, json!("5m"))),
        bad("5m0s, 1h0m0s")
    );
    let image = "/spec/template/spec/containers/0/image";
    assert_eq!(
        verdict("IMAGE", &[], another(image, json!("zpa:2"))),
        bad("zpa:1, zpa:2")
    );
}

#[test]
fn a_permission_that_is_missing_is_bad_and_one_that_cannot_be_asked_for_is_unknown() {
    let answered = |answer: Result<bool, Fault>| {
        verdict("PERMISSION", &[], |it| {
            it.permissions = vec![(need(), answer)]
        })
    };
    assert_eq!(answered(Ok(false)), bad("RBAC does not allow it"));
    let refused = Fault::Refused("403 no".to_owned());
    assert_eq!(
        answered(Err(refused)),
        Verdict::Unknown("403 no".to_owned())
    );
    let nobody = verdict("PERMISSION", &[], |it| it.permissions.clear());
    assert!(matches!(nobody, Verdict::Skipped(_)));
    let all = results(&facts(), &[]);
    let permission = all.iter().find(|it| it.code == "PERMISSION").unwrap();
    assert_eq!(
        permission.description,
        "my-app-zpa may patch deployments/scale my-app"
    );
}

#[test]
fn without_an_api_server_one_check_says_so_and_the_others_are_skipped() {
    let mut silent = facts();
    silent.version = Err(Fault::Failed("refused".to_owned()));
    for finding in results(&silent, &[]) {
        let expected = match finding.code {
            "API" => Verdict::Unknown("refused".to_owned()),
            _ => Verdict::Skipped("the API server does not answer"),
        };
        assert_eq!(finding.verdict, expected, "{}", finding.code);
    }
}

#[test]
fn what_cannot_be_read_is_not_taken_for_good() {
    let refused = || Err(Fault::Refused("403 no".to_owned()));
    for (code, expected) in [
        ("TARGET", Verdict::Unknown("403 no".to_owned())),
        ("PROBE", Verdict::Skipped("it could not be read")),
    ] {
        let verdict = verdict(code, &[], |it| it.target = refused());
        assert_eq!(verdict, expected, "{code}");
    }
}

#[test]
fn every_code_is_explained_and_stands_once() {
    let mut codes = codes();
    for code in &codes {
        let text = explain(&code.to_lowercase()).unwrap();
        assert!(text.contains("To mend it: "), "{code}: {text}");
    }
    let count = codes.len();
    codes.sort_unstable();
    codes.dedup();
    assert_eq!(codes.len(), count);
    assert_eq!(explain("nothing"), None);
}
