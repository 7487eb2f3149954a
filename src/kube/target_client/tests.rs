use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};

use serde_json::Value;

use super::super::access::{Access, TokenSource};
use super::super::client::Client;
use super::super::credentials::Credentials;
use super::super::reply::Reply;
use super::super::testing::{
    self, Asked, Directory, recorded_body, recorded_content_type, recorded_patch, recorded_target,
    reply, serve,
};
use super::*;
use std::time::Duration;

use crate::cluster::{LeaseToken, Permission, Scale};

const OBJECT: &str = "/apis/apps/v1/namespaces/default/deployments/myapp";
/// What a renewal writes, and what it wrote when it was recorded.
const TOKEN: &str = "zpa-5d9c7 3f2a 5m0s";
const RECORDED_TOKEN: &str = "zpa-5d9c7 3f2a";
const SCALE: &str = "/apis/apps/v1/namespaces/default/deployments/myapp/scale";

/// A Deployment and the client to come to it with.
struct Fixture {
    target: TargetClient,
    client: Client,
}

impl Fixture {
    fn new(access: Access) -> Self {
        let credentials = Credentials::new(access, testing::clock).unwrap();
        Fixture {
            target: TargetClient::new(&testing::config(), testing::writer()),
            client: Client::new(Arc::new(credentials), Arc::default()),
        }
    }

    fn ask(&self, request: &Request) -> Outcome {
        let answer = self.target.execute(&self.client.calls(), request);
        self.target.log_answer(request, &answer);
        classify(&answer)
    }

    fn read(&self) -> Outcome {
        self.ask(&Request::Read)
    }
}

/// A server with the status and the body that `answer` finds for each request,
/// and the requests that it has seen.
fn serving(
    answer: impl Fn(&Asked) -> (u16, Vec<u8>) + Send + Sync + 'static,
) -> (SocketAddr, Receiver<Asked>) {
    let (sender, seen) = mpsc::channel();
    let server = serve(move |asked, stream| {
        let (status, body) = answer(asked);
        let _ = sender.send(asked.clone());
        reply(stream, status, "", &String::from_utf8(body).unwrap())
    });
    (server, seen)
}

fn targets(seen: &Receiver<Asked>) -> Vec<String> {
    seen.try_iter().map(|asked| asked.target).collect()
}

fn forbidden() -> (u16, Vec<u8>) {
    (403, recorded_body("23-forbidden-scale"))
}

fn scale_of(outcome: &Outcome) -> &Scale {
    match outcome {
        Outcome::Scale(scale) => scale,
        other => panic!("{other:?}"),
    }
}

fn renewal(store: LeaseStore) -> Request {
    Request::RenewLease(Renewal {
        nonce: 0x3f2a,
        ttl: Duration::from_secs(300),
        in_use: true,
        previous_replicas: None,
        guard: None,
        store,
    })
}

#[test]
fn a_read_shows_the_deployment_and_what_was_renewed() {
    let (server, seen) = serving(|_| (200, recorded_body("30-deployment-get-after")));
    let outcome = Fixture::new(testing::access(server)).read();
    let scale = scale_of(&outcome);
    assert_eq!((scale.replicas, scale.version.0.as_str()), (0, "10343"));
    let token = LeaseToken(r#""zpa-5d9c7 3f2a" """#.into());
    assert_eq!(scale.lease_token, Some(token));
    assert_eq!(targets(&seen), [OBJECT]);
}

#[test]
fn a_read_of_the_scale_shows_the_scale_and_no_lease() {
    let (server, seen) = serving(|_| (200, recorded_body("13-scale-get-one")));
    let outcome = Fixture::new(testing::access(server)).ask(&Request::ReadScale);
    let scale = scale_of(&outcome);
    assert_eq!((scale.replicas, &scale.lease_token), (1, &None));
    assert_eq!(targets(&seen), [SCALE]);
}

/// What follows from a refusal is the policy's matter.
#[test]
fn each_request_is_one_call_whatever_comes_back() {
    let unknown = Outcome::Unknown { retry_after: None };
    for (status, outcome) in [
        (401, Outcome::Unauthorized),
        (403, Outcome::Forbidden),
        (404, Outcome::NotFound),
        (429, Outcome::Busy { retry_after: None }),
        (500, unknown.clone()),
        (200, unknown),
    ] {
        for (request, target) in [(Request::Read, OBJECT), (Request::ReadScale, SCALE)] {
            let (server, seen) = serving(move |_| (status, b"{}".to_vec()));
            let fixture = Fixture::new(testing::access(server));
            assert_eq!(fixture.ask(&request), outcome, "{status}");
            assert_eq!(targets(&seen), [target], "{status}");
        }
    }
}

#[test]
fn a_renewal_in_the_status_is_the_one_that_was_recorded() {
    let recording = "16-status-patch-condition";
    let (server, seen) = serving(move |_| (200, recorded_body(recording)));
    let fixture = Fixture::new(testing::access(server));
    let outcome = fixture.ask(&renewal(LeaseStore::Status));
    assert_eq!(scale_of(&outcome).replicas, 1);
    assert!(scale_of(&outcome).lease_token.is_some());
    let asked = seen.recv_timeout(testing::DEADLINE).unwrap();
    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    assert_eq!(asked.method, "PATCH");
    assert_eq!(asked.target, recorded_target(recording));
    assert_eq!(asked.content_type, recorded_content_type(recording));
    let recorded = recorded_patch(recording).replace(RECORDED_TOKEN, TOKEN);
    assert_eq!(json(&asked.body), json(&recorded));
}

#[test]
fn a_renewal_by_annotation_is_a_merge_patch_of_the_deployment() {
    let recording = "19-annotation-patch";
    let (server, seen) = serving(move |_| (200, recorded_body(recording)));
    let fixture = Fixture::new(testing::access(server));
    let outcome = fixture.ask(&renewal(LeaseStore::Annotation));
    assert!(scale_of(&outcome).lease_token.is_some());
    let asked = seen.recv_timeout(testing::DEADLINE).unwrap();
    assert_eq!(asked.method, "PATCH");
    assert_eq!(asked.target, recorded_target(recording));
    assert_eq!(asked.content_type, recorded_content_type(recording));
    assert_eq!(
        asked.body,
        format!(r#"{{"metadata":{{"annotations":{{"zero-pod-autoscaler/in-use":"{TOKEN}"}}}}}}"#)
    );
}

#[test]
fn a_refused_renewal_is_forbidden_and_touches_nothing_else() {
    for store in [LeaseStore::Status, LeaseStore::Annotation] {
        let (server, seen) = serving(|_| forbidden());
        let fixture = Fixture::new(testing::access(server));
        let outcome = fixture.ask(&renewal(store));
        assert_eq!(outcome, Outcome::Forbidden, "{store:?}");
        assert_eq!(targets(&seen).len(), 1, "{store:?}");
    }
}

#[test]
fn a_refusal_to_renew_names_the_verb_the_resource_and_the_namespace() {
    let answer = Ok(Reply {
        status: 403,
        retry_after: None,
        body: recorded_body("23-forbidden-scale"),
    });
    assert_eq!(
        format!(
            "{}: {}",
            described(&renewal(LeaseStore::Status)),
            explanation(&answer)
        ),
        "renewing the lease in the status: 403 deployments.apps \
         \"myapp\" is forbidden: User \"system:serviceaccount:default:nobody\" cannot get \
         resource \"deployments/scale\" in API group \"apps\" in the namespace \"default\""
    );
}

#[test]
fn a_401_is_tried_once_more_with_the_token_as_it_is_now() {
    let directory = Directory::new("token");
    let path = directory.write("token", "old");
    let rotated = path.clone();
    let (server, seen) = serving(move |asked| {
        if asked.token.as_deref() == Some("new") {
            return (200, recorded_body("03-deployment-get-zero"));
        }
        std::fs::write(&rotated, "new\n").unwrap();
        (401, recorded_body("22-unauthorized-bad-token"))
    });
    let mut access = testing::access(server);
    access.token = TokenSource::File {
        path,
        fallback: None,
    };
    let fixture = Fixture::new(access);
    assert!(matches!(fixture.read(), Outcome::Scale(_)));
    assert_eq!(targets(&seen), [OBJECT, OBJECT]);
}

/// The permissions that an answer has refused or granted, and whether there was
/// trouble.
fn permission_changes(reports: Vec<Report>) -> (Vec<(Permission, bool)>, bool) {
    let trouble = reports
        .iter()
        .any(|it| matches!(it, Report::RequestFailed(_)));
    let permission = |report| match report {
        Report::Permission {
            permission,
            refusal,
        } => Some((permission, refusal.is_none())),
        _ => None,
    };
    (
        reports.into_iter().filter_map(permission).collect(),
        trouble,
    )
}

#[test]
fn a_permission_is_refused_by_a_403_and_granted_by_whatever_looks_beyond_it() {
    let answer = |status: u16| {
        Ok(Reply {
            status,
            retry_after: None,
            body: recorded_body("30-deployment-get-after"),
        })
    };
    let write = Request::WriteScale {
        replicas: 0,
        guard: crate::cluster::ResourceVersion("1".into()),
    };
    for (request, permission) in [
        (Request::Read, Permission::GetTarget),
        (Request::ReadScale, Permission::GetScale),
        (write, Permission::PatchScale),
        (renewal(LeaseStore::Status), Permission::PatchStatus),
        (renewal(LeaseStore::Annotation), Permission::PatchTarget),
    ] {
        let target = TargetClient::new(&testing::config(), testing::writer());
        for (label, status, granted, trouble) in [
            ("refused", 403, Some(false), true),
            ("refused again", 403, Some(false), true),
            ("an outage says nothing of permissions", 503, None, true),
            ("who is not known is not refused", 401, None, true),
            (
                "a conflict comes after the permission",
                409,
                Some(true),
                false,
            ),
            ("no reports: granted", 200, None, false),
            ("refused once more", 403, Some(false), true),
            ("no such Deployment", 404, Some(true), true),
        ] {
            let reports = permission_changes(target.side_reports(&request, &answer(status)));
            let permissions: Vec<_> = granted
                .map(|granted| (permission, granted))
                .into_iter()
                .collect();
            assert_eq!(reports, (permissions, trouble), "{permission}: {label}");
        }
    }
}

/// A sleep that has failed leaves the app awake, unless it is not known what was written.
#[test]
fn the_line_about_a_sleep_that_has_failed_says_what_becomes_of_the_app() {
    let write = |replicas| Request::WriteScale {
        replicas,
        guard: crate::cluster::ResourceVersion("1".into()),
    };
    let refused = || {
        Ok(Reply {
            status: 403,
            retry_after: None,
            body: b"no such permission".to_vec(),
        })
    };
    let lost = |sent| {
        Err(Failure {
            sent,
            stale: false,
            too_large: false,
            text: "reset".to_owned(),
        })
    };
    for (label, request, answer, is_said) in [
        ("a sleep that is refused", write(0), refused(), true),
        ("a sleep that was not sent", write(0), lost(false), true),
        ("a sleep whose reply is lost", write(0), lost(true), false),
        ("a wake that is refused", write(1), refused(), false),
        ("a read that is refused", Request::Read, refused(), false),
    ] {
        let line = failure(&request, &answer);
        assert_eq!(
            line.ends_with("; the app stays awake"),
            is_said,
            "{label}: {line}"
        );
    }
}
