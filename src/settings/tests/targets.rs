//! The ways to name the scale target, and the Service that goes with each.

use super::*;

#[test]
fn what_is_scaled_is_named_once() {
    for (label, args, env, expected) in [
        (
            "anything that can be scaled",
            &["--scale-target=rollouts.argoproj.io/web"][..],
            &[][..],
            "rollouts.argoproj.io/web",
        ),
        (
            "by its variable",
            &[],
            &[("ZPA_SCALE_TARGET", "statefulsets.apps/web")],
            "statefulsets.apps/web",
        ),
        (
            "a flag beats a variable of another row",
            &["--deployment=web"],
            &[("ZPA_SCALE_TARGET", "statefulsets.apps/db")],
            "deployments.apps/web",
        ),
        (
            "a name beats labels",
            &["--deployment=web", "-l", "app=web", "--endpoints=web"],
            &[],
            "deployments.apps/web",
        ),
        (
            "labels",
            &["--selector", "app=web"],
            &[],
            "the deployments.apps with the labels app=web",
        ),
    ] {
        let read = settings(args, env);
        assert_eq!(read.target_ref.to_string(), expected, "{label}");
    }
    let lost = settings(&["--deployment=web", "-l", "app=web"], &[]).warnings;
    assert_eq!(
        lost,
        ["accepted, but without effect here: -l (the Deployment is found by its name)"]
    );
    assert_eq!(
        errors(&["--deployment=a", "--scale-target=b.c/d"], &[]),
        ["--deployment and --scale-target: both say what to scale; give one of them"]
    );
    assert_eq!(
        errors(&["--rs-label-selector=''", "--endpoint=a"], &[]),
        ["--rs-label-selector=\"\\'\\'\": needs a value; use e.g. app=my-app"]
    );
    assert_eq!(
        errors(&["--ping-url=/p", "--endpoint=a"], &[]),
        ["--rs-label-selector: is not set, and has no default; use e.g. app=my-app"]
    );
    for wrong in [
        "web",
        "statefulsets/web",
        "a.b",
        "a.b/c/d",
        ".b/c",
        "a./c",
        "A.b/c",
    ] {
        let argument = format!("--scale-target={wrong}");
        assert_eq!(errors(&[&argument], &[]).len(), 1, "{wrong}");
    }
}

#[test]
fn where_labels_say_what_is_scaled_the_target_names_the_service() {
    for (target, expected) in [
        ("web:80", Some("web")),
        ("WEB:80", Some("web")),
        ("web.prod.svc:80", Some("web")),
        ("web.prod.svc.cluster.local:80", Some("web")),
        ("web.example:80", None),
        ("web.example.com:80", None),
        ("web_1:80", None),
        ("10.0.0.7:80", None),
        ("[::1]:80", None),
    ] {
        let read = settings(&["-l", "app=web", "--target", target], &[]);
        assert_eq!(read.service.as_deref(), expected, "{target}");
    }
    let named = settings(&["-l=app=web", "--endpoints=a", "--target=b:80"], &[]);
    assert_eq!(
        named.service.as_deref(),
        Some("a"),
        "if no endpoints are named"
    );
}
