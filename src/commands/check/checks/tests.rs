mod proxies;

use serde_json::{Value, json};

use super::super::installed::{InFront, Proxy};
use super::super::review::{Answer, RequiredPermission, Review, Weight};
use super::*;
use crate::kube::inspect::{Attributes, Fault, Reviewed};
use crate::settings::{self, Invocation};

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// An app, its Service and its proxy, all as they should be.
fn facts() -> Facts {
    let labels = json!({ "app": "my-app" });
    Facts {
        target: Ok(json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": { "name": "my-app" },
            "spec": { "template": {
                "metadata": { "labels": labels },
                "spec": { "containers": [{
                    "ports": [{ "containerPort": 8000 }],
                    "readinessProbe": { "tcpSocket": {} },
                }] },
            } },
        })),
        service: Ok(json!({
            "metadata": { "name": "my-app" },
            "spec": { "selector": labels, "ports": [{ "name": "http", "port": 80 }] },
        })),
        proxies: Ok(vec![in_front(proxy("my-app-zpa"))]),
        broken: Vec::new(),
        autoscalers: Ok(vec![autoscaler("Deployment", 1)]),
        reviews: vec![review(Ok(vec![(need(), Answer::Allowed)]))],
        install: None,
    }
}

/// The Deployment of a proxy, with two ready replicas.
fn proxy(name: &str) -> Value {
    let labels = json!({ "app.kubernetes.io/name": "zero-pod-autoscaler" });
    json!({
        "metadata": { "name": name, "namespace": "default" },
        "spec": {
            "replicas": 2,
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": { "containers": [{
                    "name": "zpa",
                    "image": "zpa:latest",
                    "env": [
                        { "name": "ZPA_DEPLOYMENT", "value": "my-app" },
                        { "name": "ZPA_IDLE_TTL", "value": "1h" },
                        { "name": "ZPA_LISTEN", "value": ":8080" },
                    ],
                }] },
            },
        },
        "status": { "readyReplicas": 2 },
    })
}

fn in_front(deployment: Value) -> InFront {
    let proxy = Proxy::of_one_app(deployment).unwrap();
    InFront {
        app: proxy.apps().first().cloned(),
        proxy,
        problem: None,
    }
}

fn autoscaler(kind: &str, min: u32) -> Value {
    json!({
        "metadata": { "name": "web" },
        "spec": { "minReplicas": min, "scaleTargetRef": {
            "apiVersion": "apps/v1", "kind": kind, "name": "my-app" } },
    })
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
        weight: Weight::Required,
        instead: None,
    }
}

fn review(answers: Result<Vec<(RequiredPermission, Answer)>, Fault>) -> Review {
    Review {
        whose: Reviewed::ServiceAccount {
            namespace: "default".to_owned(),
            name: "my-app-zpa".to_owned(),
        },
        namespace: Some("default".to_owned()),
        answers,
    }
}

fn results(facts: &Facts, args: &[&str]) -> Vec<CheckResult> {
    let args = [&["--deployment=my-app", "--namespace=default"], args].concat();
    let args = args.iter().map(std::ffi::OsString::from);
    let Ok(Invocation::Run(settings)) = settings::parse(args, |_| None) else {
        panic!("settings");
    };
    let before_install = false;
    of_app(&Case {
        settings: &settings,
        before_install,
        facts,
    })
}

/// The result of `code` after `change`; all others are as they were.
fn result(code: &str, args: &[&str], change: impl FnOnce(&mut Facts)) -> CheckResult {
    let mut changed = facts();
    change(&mut changed);
    let all = results(&changed, args);
    all.into_iter().find(|it| it.code == code).unwrap()
}

fn verdict(code: &str, args: &[&str], change: impl FnOnce(&mut Facts)) -> Verdict {
    result(code, args, change).verdict
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
        let (code, hint) = (finding.code, finding.hint);
        assert_eq!(finding.verdict, Verdict::Good, "{code}");
        assert_eq!(hint, "", "{code}");
    }
}

#[test]
fn the_version_of_kubernetes_is_judged() {
    let of = |major: &str, minor: &str| {
        let version = json!({ "major": major, "minor": minor, "gitVersion": "v1" });
        let results = of_cluster(&Ok(version));
        results.into_iter().nth(1).unwrap().verdict
    };
    for (minor, expected) in [
        ("21", Verdict::Good),
        ("36+", Verdict::Good),
        ("20", bad("it is v1")),
        ("9", bad("it is v1")),
        (
            "x",
            Verdict::Unknown("its version has no number".to_owned()),
        ),
    ] {
        assert_eq!(of("1", minor), expected, "{minor}");
    }
    assert_eq!(of("2", "0"), Verdict::Good);
}

#[test]
fn each_trouble_of_the_app_is_found_with_the_command_that_mends_it() {
    let missing = result("TARGET", &[], |it| it.target = Err(Fault::NotFound));
    assert_eq!(missing.verdict, bad("not found"));
    let command = "kubectl -n default get deployments.apps shows";
    assert!(missing.hint.starts_with(command), "{}", missing.hint);

    let without_probe = |it: &mut Facts| {
        let containers = "/spec/template/spec/containers/0/readinessProbe";
        set(&mut it.target, containers, Value::Null);
    };
    let probe = result("PROBE", &[], without_probe);
    assert_eq!(probe.verdict, bad("no container has one"));
    let command = "kubectl -n default patch deployments.apps/my-app --type=json -p '[{\"op\":\
                   \"add\",\"path\":\"/spec/template/spec/containers/0/readinessProbe\",\"value\":\
                   {\"tcpSocket\":{\"port\":8000},\"periodSeconds\":1}}]'\n";
    assert!(probe.hint.starts_with(command), "{}", probe.hint);
    let by_dialling = verdict("PROBE", &["--ready-gate=accept"], without_probe);
    assert!(matches!(by_dialling, Verdict::Skipped(_)));

    let owner = json!({ "apiVersion": "acid.zalan.do/v1", "kind": "Postgres", "name": "db",
                        "controller": true });
    let owned = result("OWNER", &[], |it| {
        set(
            &mut it.target,
            "/metadata",
            json!({ "ownerReferences": [owner] }),
        );
    });
    assert_eq!(owned.verdict, bad("Postgres db does"));
    let scale = "--scale-target PLURAL.acid.zalan.do/db";
    assert!(owned.hint.contains(scale), "{}", owned.hint);
}

#[test]
fn an_hpa_at_zero_of_the_same_object_is_found_and_one_of_another_kind_is_not() {
    let hpa = |kind: &str| {
        let zero = autoscaler(kind, 0);
        result("HPA", &[], |it| it.autoscalers = Ok(vec![zero]))
    };
    let found = hpa("Deployment");
    assert_eq!(found.verdict, bad("web has minReplicas 0"));
    let command = r#"kubectl -n default patch hpa web -p '{"spec":{"minReplicas":1}}'"#;
    assert_eq!(found.hint, command);
    assert_eq!(hpa("StatefulSet").verdict, Verdict::Good);
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

/// Whether the recorded Deployment has replicas in what was applied last or not is put in here.
fn recorded(name: &str, replicas: Option<u32>) -> Verdict {
    let body = crate::kube::testing::recorded_body(name);
    let mut object: Value = serde_json::from_slice(&body).unwrap();
    let annotation = &mut object["metadata"]["annotations"][LAST_APPLIED];
    let mut applied: Value = serde_json::from_str(annotation.as_str().unwrap()).unwrap();
    let spec = applied["spec"].as_object_mut().unwrap();
    spec.remove("replicas");
    spec.extend(replicas.map(|it| ("replicas".to_owned(), it.into())));
    *annotation = applied.to_string().into();
    verdict("REPLICAS", &[], |it| it.target = Ok(object))
}

#[test]
fn what_was_applied_with_replicas_is_found_before_and_after_the_first_write() {
    let before = recorded("03-deployment-get-zero", Some(3));
    assert_eq!(before, bad("kubectl-client-side-apply does"));
    let after = recorded("30-deployment-get-after", Some(3));
    let why = "kubectl-client-side-apply does: what it applied last has replicas: 3";
    assert_eq!(after, bad(why));
    assert_eq!(recorded("30-deployment-get-after", None), Verdict::Good);
    let alone = json!({ LAST_APPLIED: r#"{"spec":{"replicas":3}}"# });
    let alone = result("REPLICAS", &[], |it| {
        set(&mut it.target, "/metadata", json!({ "annotations": alone }));
    });
    let why = "kubectl apply does: what it applied last has replicas: 3";
    assert_eq!(alone.verdict, bad(why));
    let command = "kubectl -n default apply edit-last-applied deployments.apps/my-app";
    assert!(alone.hint.contains(command), "{}", alone.hint);
}

#[test]
fn each_trouble_of_the_service_is_found() {
    assert_eq!(
        verdict("SERVICE", &[], |it| it.service = Err(Fault::NotFound)),
        bad("not found")
    );
    for selector in [json!({ "app": "other" }), json!({})] {
        let why = format!(r#"it selects {selector}, and the pods have {{"app":"my-app"}}"#);
        let result = result("SELECTOR", &[], |it| {
            set(&mut it.service, "/spec/selector", selector);
        });
        assert_eq!(result.verdict, bad(&why));
        let edit = "kubectl -n default edit service my-app";
        assert!(result.hint.contains(edit), "{}", result.hint);
    }
    let ours = json!({ "app.kubernetes.io/name": "zero-pod-autoscaler" });
    assert_eq!(
        verdict("LOOP", &[], |it| set(
            &mut it.service,
            "/spec/selector",
            ours
        )),
        bad("it selects the pods of my-app-zpa")
    );
    let elsewhere = "/metadata/namespace";
    let other = json!({ "app.kubernetes.io/name": "zero-pod-autoscaler" });
    let of_other = verdict("LOOP", &[], |it| {
        set(&mut it.service, "/spec/selector", other);
        proxies::of_proxy(|it| *it.pointer_mut(elsewhere).unwrap() = "dev".into())(it);
    });
    assert_eq!(of_other, Verdict::Good, "of another namespace");
}

#[test]
fn each_listener_has_its_port_of_the_service() {
    let ports = json!([{ "name": "http", "port": 80 }, { "name": "sql", "port": 5432 }]);
    for (args, expected) in [
        (&[][..], bad("it has 2: http (80), sql (5432)")),
        (&["--port=sql"], Verdict::Good),
        (&["--port=5432"], Verdict::Good),
        (&["--listen=8080=http,8082=sql"], Verdict::Good),
        (&["--listen=8080=80,8082=5432"], Verdict::Good),
        (
            &["--listen=8080=http,8082=web"],
            bad("it has no web, but http (80), sql (5432)"),
        ),
        (
            &["--port=web"],
            bad("it has no web, but http (80), sql (5432)"),
        ),
        (&["--endpoints=my-app", "--target=my-app:80"], Verdict::Good),
        (
            &["--endpoints=my-app", "--target=my-app:81"],
            bad("it has no 81, but http (80), sql (5432)"),
        ),
        (
            &["--target=db.example.com:80"],
            Verdict::Skipped("--target is dialled in place of the pods".to_owned()),
        ),
    ] {
        let ports = ports.clone();
        let result = result("PORT", args, |it| {
            set(&mut it.service, "/spec/ports", ports)
        });
        assert_eq!(result.verdict, expected, "{args:?}");
        if result.verdict.is_trouble() {
            let hint = "give one of them, e.g. --port http, or each, e.g. --listen \
                        8080=http,8082=sql";
            assert_eq!(result.hint, hint);
        }
    }
}

#[test]
fn without_an_api_server_one_check_says_so_and_the_others_are_skipped() {
    let silent = of_cluster(&Err(Fault::Failed("refused".to_owned())));
    let all: Vec<_> = silent.into_iter().chain(of_silence()).collect();
    assert!(all.len() > 10);
    for finding in all {
        let expected = match finding.code {
            "API" => Verdict::Unknown("refused".to_owned()),
            _ => Verdict::Skipped("the API server does not answer".to_owned()),
        };
        assert_eq!(finding.verdict, expected, "{}", finding.code);
    }
}

#[test]
fn what_cannot_be_read_is_not_taken_for_good() {
    let refused = || Err(Fault::Refused("403 no".to_owned()));
    for (code, expected) in [
        ("TARGET", Verdict::Unknown("403 no".to_owned())),
        (
            "PROBE",
            Verdict::Skipped("what is scaled could not be read".to_owned()),
        ),
    ] {
        let verdict = verdict(code, &[], |it| it.target = refused());
        assert_eq!(verdict, expected, "{code}");
    }
}

/// Users look for codes, and write them into runbooks: a code never changes, and none goes.
#[test]
fn the_codes_stay_as_they_are() {
    let golden = [
        "API",
        "VERSION",
        "TARGET",
        "PROBE",
        "OWNER",
        "REPLICAS",
        "HPA",
        "SERVICE",
        "SELECTOR",
        "LOOP",
        "PORT",
        "PROXY",
        "ROLLOUT",
        "LOWPORT",
        "TTL",
        "IMAGE",
        "PERMISSION",
        "INSTALL",
        "DISCOVERY",
        "PULL",
        "CRASH",
        "SCHEDULE",
        "CONFIG",
        "QUOTA",
        "READINESS",
        "REFUSED",
        "FULL",
        "LIST",
        "PANIC",
    ];
    assert_eq!(crate::commands::codes(), golden);
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
