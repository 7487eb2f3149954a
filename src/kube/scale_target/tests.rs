use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::super::client::Client;
use super::super::credentials::Credentials;
use super::super::testing::{self, Asked, recorded_body, reply, serve};
use super::*;
use crate::cluster::{LeaseStore, LeaseToken, Renewal, Scale};
use crate::workload::Resource;

/// `METHOD path` of each request, and what to answer it with.
type Table = &'static [(&'static str, u16, &'static str)];

/// A server that answers as the table says, each entry once and in order.
struct Scripted {
    client: Client,
}

impl Scripted {
    fn new(server: SocketAddr) -> Scripted {
        let credentials = Credentials::new(testing::access(server), testing::clock);
        Scripted {
            client: Client::new(Arc::new(credentials.unwrap()), Arc::default()),
        }
    }
}

fn script(table: Table) -> Scripted {
    let place = Mutex::new(0);
    let answer = move |asked: &Asked, stream: &mut std::net::TcpStream| {
        let mut place = place.lock().unwrap();
        let Some((request, status, body)) = table.get(*place) else {
            return reply(
                stream,
                500,
                "",
                &format!("{} was not expected", asked.target),
            );
        };
        *place += 1;
        let asked = format!("{} {}", asked.method, asked.target);
        if asked != *request {
            return reply(stream, 500, "", &format!("{asked} in place of {request}"));
        }
        let recorded = body.strip_prefix('=').map(recorded_body);
        let body = recorded.map_or((*body).to_owned(), |body| String::from_utf8(body).unwrap());
        reply(stream, *status, "", &body)
    };
    Scripted::new(serve(answer))
}

fn deployment() -> Target {
    Target::new("default", TargetRef::deployment("myapp"))
}

fn rollout() -> Target {
    let resource = Resource {
        plural: "rollouts".to_owned(),
        group: "argoproj.io".to_owned(),
    };
    let name = "web".to_owned();
    Target::new("rec2", TargetRef::Object { resource, name })
}

/// What the reply shows, or its status and words.
fn shown(answer: CallResult) -> Result<Scale, String> {
    let reply = answer.map_err(|failure| failure.text)?;
    match scaled::scale(&reply.body).filter(|_| reply.is_success()) {
        Some(scale) => Ok(scale),
        None => Err(reply.explanation()),
    }
}

const FORBIDDEN: &str = r#"{"message":"not for you"}"#;
const ONE: &str =
    r#"{"kind":"Deployment","metadata":{"resourceVersion":"9"},"spec":{"replicas":1}}"#;

fn guard() -> ResourceVersion {
    ResourceVersion("8".into())
}

#[test]
fn a_deployment_is_read_without_being_looked_for() {
    let server = script(&[(
        "GET /apis/apps/v1/namespaces/default/deployments/myapp",
        200,
        "=03-deployment-get-zero",
    )]);
    let scale = shown(deployment().read(&server.client.calls())).unwrap();
    assert_eq!((scale.replicas, scale.version.0.as_str()), (0, "10295"));
}

#[test]
fn replicas_go_into_the_object_itself_where_its_scale_is_refused_and_there_first_from_then_on() {
    const SCALE: &str = "PATCH /apis/apps/v1/namespaces/default/deployments/myapp/scale";
    const WHOLE: &str = "PATCH /apis/apps/v1/namespaces/default/deployments/myapp";
    let server = script(&[
        (SCALE, 403, FORBIDDEN),
        (WHOLE, 200, ONE),
        (WHOLE, 200, ONE),
        // The Role has been changed the other way round.
        (WHOLE, 403, FORBIDDEN),
        (SCALE, 200, "=10-scale-patch-to-one"),
        (SCALE, 409, FORBIDDEN),
    ]);
    let target = deployment();
    let calls = server.client.calls();
    let write = || shown(target.write_replicas(&calls, 1, &guard())).map(|it| it.replicas);
    for expected in [Ok(1), Ok(1), Ok(1), Err("409 not for you".to_owned())] {
        assert_eq!(write(), expected);
    }
}

#[test]
fn where_both_are_refused_the_refusal_is_that_of_the_scale() {
    let server = script(&[
        (
            "PATCH /apis/apps/v1/namespaces/default/deployments/myapp/scale",
            403,
            r#"{"message":"no scale"}"#,
        ),
        (
            "PATCH /apis/apps/v1/namespaces/default/deployments/myapp",
            403,
            FORBIDDEN,
        ),
    ]);
    let refused = shown(deployment().write_replicas(&server.client.calls(), 0, &guard()));
    assert_eq!(refused, Err("403 no scale".to_owned()));
}

const GROUP: (&str, u16, &str) = ("GET /apis/argoproj.io", 200, "=51-group-discovery");
const VERSION: (&str, u16, &str) = (
    "GET /apis/argoproj.io/v1alpha1",
    200,
    "=52-group-version-discovery",
);
const ROLLOUT: &str = "GET /apis/argoproj.io/v1alpha1/namespaces/rec2/rollouts/web";

#[test]
fn a_custom_kind_is_looked_for_once_and_again_when_it_is_gone() {
    let server = script(&[
        GROUP,
        VERSION,
        (ROLLOUT, 200, "=57-custom-annotation-merge-patch"),
        (ROLLOUT, 404, FORBIDDEN),
        GROUP,
        VERSION,
        (ROLLOUT, 200, "=57-custom-annotation-merge-patch"),
    ]);
    let target = rollout();
    assert!(target.found().is_none());
    let calls = server.client.calls();
    let expected = Some(LeaseToken(r#""" "zpa-1 3f2a""#.into()));
    assert_eq!(shown(target.read(&calls)).unwrap().lease_token, expected);
    assert_eq!(
        target.place(&calls).unwrap().object.to_string(),
        "rollouts.argoproj.io/web"
    );
    assert!(shown(target.read(&calls)).is_err(), "gone");
    assert_eq!(shown(target.read(&calls)).unwrap().lease_token, expected);
}

#[test]
fn a_count_that_stands_elsewhere_is_taken_from_the_scale_of_the_same_version() {
    const SCALE: &str = "GET /apis/argoproj.io/v1alpha1/namespaces/rec2/rollouts/web/scale";
    const OBJECT: &str = r#"{"kind":"Cache","metadata":{"resourceVersion":"7","annotations":
        {"zero-pod-autoscaler/in-use":"zpa 1"}},"spec":{"size":3}}"#;
    const SAME: &str =
        r#"{"kind":"Scale","metadata":{"resourceVersion":"7"},"spec":{"replicas":3}}"#;
    const LATER: &str =
        r#"{"kind":"Scale","metadata":{"resourceVersion":"8"},"spec":{"replicas":4}}"#;
    let server = script(&[
        GROUP,
        VERSION,
        (ROLLOUT, 200, OBJECT),
        (SCALE, 200, SAME),
        (ROLLOUT, 200, OBJECT),
        (SCALE, 200, LATER),
        (ROLLOUT, 200, OBJECT),
        (SCALE, 403, FORBIDDEN),
        // `spec.replicas` would mean nothing there.
        (
            "PATCH /apis/argoproj.io/v1alpha1/namespaces/rec2/rollouts/web/scale",
            403,
            FORBIDDEN,
        ),
    ]);
    let target = rollout();
    let calls = server.client.calls();
    let token = Some(LeaseToken(r#""" "zpa 1""#.into()));
    for (label, expected) in [
        ("both of one version", Ok((3, "7", token))),
        (
            "a write between the two: no lease is shown",
            Ok((4, "8", None)),
        ),
        ("the Scale is refused", Err("403 not for you")),
    ] {
        let shown = shown(target.read(&calls));
        let shown = shown
            .as_ref()
            .map(|it| (it.replicas, it.version.0.as_str(), it.lease_token.clone()))
            .map_err(String::as_str);
        assert_eq!(shown, expected, "{label}");
    }
    let refused = shown(target.write_replicas(&calls, 0, &guard()));
    assert_eq!(refused, Err("403 not for you".to_owned()));
}

#[test]
fn an_object_that_cannot_be_found_fails_every_request_with_that() {
    let empty = json!({ "metadata": {}, "items": [] }).to_string();
    let server = Scripted::new(serve(move |_, stream| reply(stream, 200, "", &empty)));
    let selector = "app=guestbook".to_owned();
    let target = Target::new("default", TargetRef::ReplicaSetOwner { selector });
    let calls = server.client.calls();
    let renewal = Renewal {
        nonce: 1,
        ttl: Duration::from_secs(300),
        in_use: true,
        previous_replicas: None,
        guard: None,
        store: LeaseStore::Annotation,
    };
    let patch = Patch::annotation("zpa 1", &renewal);
    for answer in [
        target.read(&calls),
        target.read_scale(&calls),
        target.write_replicas(&calls, 1, &guard()),
        target.patch_object(&calls, &patch),
        target.patch_status(&calls, &patch),
    ] {
        let why = "404 there is none: the owner of the ReplicaSet with the labels app=guestbook";
        assert_eq!(shown(answer), Err(why.to_owned()));
    }
    assert!(target.found().is_none());
}
