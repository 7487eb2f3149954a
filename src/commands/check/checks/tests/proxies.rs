//! The checks of proxies and of their permissions.

use serde_json::{Value, json};

use super::*;

/// A change of the Deployment of the proxy.
pub(super) fn of_proxy(change: impl FnOnce(&mut Value)) -> impl FnOnce(&mut Facts) {
    |facts| {
        let mut deployment = proxy("my-app-zpa");
        change(&mut deployment);
        facts.proxies = Ok(vec![in_front(deployment)]);
    }
}

/// A second proxy, which differs in one thing.
fn another(pointer: &'static str, value: Value) -> impl FnOnce(&mut Facts) {
    move |facts| {
        let mut second = proxy("other");
        *second.pointer_mut(pointer).unwrap() = value;
        facts.proxies.as_mut().unwrap().push(in_front(second));
    }
}

#[test]
fn where_no_proxy_is_found_the_command_that_installs_it_is_printed() {
    let args = [
        "--idle-ttl=20m",
        "--service=web",
        "--keep-awake=09:00-18:00 Mon-Fri",
    ];
    let none = result("PROXY", &args, |it| it.proxies = Ok(Vec::new()));
    assert_eq!(none.verdict, bad("there is none"));
    assert_eq!(
        none.hint,
        "zpa manifests --deployment my-app --namespace default --service web --idle-ttl 20m0s \
         --keep-awake '09:00-18:00 Mon-Fri' --image IMAGE | kubectl apply -f -"
    );
    let broken = verdict("PROXY", &[], |it| {
        it.proxies = Ok(Vec::new());
        it.broken = vec!["default/zpa does not run: --idle-ttl".to_owned()];
    });
    assert_eq!(
        broken,
        bad("there is none; default/zpa does not run: --idle-ttl")
    );
    let refused = |fault: Fault| verdict("PROXY", &[], |it| it.proxies = Err(fault));
    let skipped = "Deployments may not be listed".to_owned();
    assert_eq!(
        refused(Fault::Refused("403".to_owned())),
        Verdict::Skipped(skipped)
    );
    let failed = refused(Fault::Failed("timed out".to_owned()));
    assert_eq!(failed, Verdict::Unknown("timed out".to_owned()));
}

#[test]
fn replicas_that_are_not_ready_are_counted_with_the_reason_of_their_pods() {
    let ready = |ready: u32, problem: Option<(&'static str, &str)>| {
        let mut deployment = proxy("my-app-zpa");
        deployment["status"]["readyReplicas"] = ready.into();
        let mut it = in_front(deployment);
        it.problem = problem.map(|(code, text)| (code, text.to_owned()));
        move |facts: &mut Facts| facts.proxies = Ok(vec![it])
    };
    let pull = ("PULL", "pod a, container zpa: ErrImagePull: not found");
    let none = result("PROXY", &[], ready(0, Some(pull)));
    let why = "none of 2 replicas of my-app-zpa is: pod a, container zpa: ErrImagePull: not found \
               (PULL)";
    assert_eq!(none.verdict, bad(why));
    let command = "kubectl -n default set image deployment/my-app-zpa zpa=IMAGE";
    assert!(none.hint.starts_with(command), "{}", none.hint);
    assert_eq!(verdict("PROXY", &[], ready(1, None)), Verdict::Good);
    let one = result("ROLLOUT", &[], ready(1, Some(("SCHEDULE", "no node"))));
    let why = "1 of 2 replicas of my-app-zpa are: no node (SCHEDULE)";
    assert_eq!((one.severity, one.verdict), (Severity::Warning, bad(why)));
    let command = "kubectl -n default describe pods -l app.kubernetes.io/name=zero-pod-autoscaler";
    assert!(one.hint.starts_with(command), "{}", one.hint);
    let unexplained = result("PROXY", &[], ready(0, None));
    assert_eq!(
        unexplained.verdict,
        bad("none of 2 replicas of my-app-zpa is")
    );
    let command = "kubectl -n default logs -l app.kubernetes.io/name=zero-pod-autoscaler";
    assert!(
        unexplained.hint.starts_with(command),
        "{}",
        unexplained.hint
    );
}

#[test]
fn proxies_that_differ_are_found_with_the_commands_that_make_them_the_same() {
    let ttl = "/spec/template/spec/containers/0/env/1/value";
    let ttls = result("TTL", &[], another(ttl, json!("5m")));
    assert_eq!(ttls.verdict, bad("5m0s, 1h0m0s"));
    let command = "kubectl -n default set env deployment/other ZPA_IDLE_TTL=1h0m0s";
    assert_eq!(ttls.hint, command);
    let image = "/spec/template/spec/containers/0/image";
    let images = verdict("IMAGE", &[], another(image, json!("zpa:2")));
    assert_eq!(images, bad("zpa:2, zpa:latest"));
}

#[test]
fn the_version_in_a_tag_is_that_of_the_program() {
    let own = env!("CARGO_PKG_VERSION");
    let older = "registry.example.com:5000/zpa:v0.0.1@sha256:0".to_owned();
    let why = format!("{older} is, and this zpa is {own}");
    for (image, expected) in [
        (format!("registry.example.com/zpa:{own}"), Verdict::Good),
        (format!("zpa:v{own}"), Verdict::Good),
        ("registry.example.com:5000/zpa".to_owned(), Verdict::Good),
        ("zpa:stable".to_owned(), Verdict::Good),
        (older, bad(&why)),
    ] {
        let pointer = "/spec/template/spec/containers/0/image";
        let label = image.clone();
        let change = of_proxy(|it| *it.pointer_mut(pointer).unwrap() = image.into());
        assert_eq!(verdict("IMAGE", &[], change), expected, "{label}");
    }
}

#[test]
fn a_low_port_of_a_proxy_that_is_not_ready_takes_a_sysctl() {
    let low = |security: Value, ready: u32| {
        result(
            "LOWPORT",
            &[],
            of_proxy(move |it| {
                it["spec"]["template"]["spec"]["securityContext"] = security;
                it["spec"]["template"]["spec"]["containers"][0]["env"][2]["value"] = ":80".into();
                it["status"]["readyReplicas"] = ready.into();
            }),
        )
    };
    let found = low(json!({}), 0);
    let why = "my-app-zpa is to listen on port 80, is not ready, and runs without the sysctl \
               net.ipv4.ip_unprivileged_port_start";
    assert_eq!(found.verdict, bad(why));
    let patch = r#"kubectl -n default patch deployment my-app-zpa -p '{"spec":{"template":{"spec":{"securityContext":{"sysctls":[{"name":"net.ipv4.ip_unprivileged_port_start","value":"0"}]}}}}}'"#;
    assert_eq!(found.hint, patch);
    let sysctl = json!({ "sysctls": [{
        "name": "net.ipv4.ip_unprivileged_port_start", "value": "0" }] });
    for (label, security, ready) in [
        ("with the sysctl", sysctl, 0),
        ("as root", json!({ "runAsUser": 0 }), 0),
        ("it listens", json!({}), 1),
    ] {
        assert_eq!(low(security, ready).verdict, Verdict::Good, "{label}");
    }
}

#[test]
fn a_permission_that_is_missing_is_bad_and_one_that_cannot_be_asked_for_is_unknown() {
    let found = |review: Review| {
        let mut changed = facts();
        changed.reviews = vec![review];
        let all = results(&changed, &[]).into_iter();
        all.filter(|it| it.code == PERMISSION).collect::<Vec<_>>()
    };
    let answered = |answer: Answer, weight: Weight| {
        let need = RequiredPermission { weight, ..need() };
        let all = found(review(Ok(vec![(need, answer)])));
        let [asked, result] = <[CheckResult; 2]>::try_from(all).unwrap();
        let description =
            "the permissions of my-app-zpa can be asked for (LocalSubjectAccessReview)";
        assert_eq!(asked.description, description);
        assert_eq!(asked.verdict, Verdict::Good);
        assert_eq!(
            result.description,
            "my-app-zpa may patch deployments/scale my-app"
        );
        result
    };
    let missing = answered(Answer::Refused, Weight::Required);
    assert_eq!(missing.verdict, bad("RBAC does not allow it"));
    assert_eq!(
        missing.hint,
        "add to a Role of my-app-zpa: {apiGroups: [apps], resources: [deployments/scale], \
         resourceNames: [my-app], verbs: [patch]}"
    );
    assert!(missing.may_still_pass());
    let optional = answered(Answer::Refused, Weight::Optional);
    assert_eq!(optional.severity, Severity::Warning);
    assert!(
        !optional.may_still_pass(),
        "it makes no difference to the exit code"
    );
    for (answer, weight) in [
        (Answer::Refused, Weight::OnRequest),
        (Answer::Replaced, Weight::Required),
    ] {
        let verdict = answered(answer, weight).verdict;
        assert!(matches!(verdict, Verdict::Skipped(_)), "{verdict:?}");
    }
    let refused = found(review(Err(Fault::Refused("403 no".to_owned()))));
    let [asked] = <[CheckResult; 1]>::try_from(refused).unwrap();
    assert_eq!(asked.verdict, Verdict::Unknown("403 no".to_owned()));
    let nobody = verdict(PERMISSION, &[], |it| it.reviews.clear());
    assert!(matches!(nobody, Verdict::Skipped(_)));
}
