use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};

use serde_json::Value;

use super::super::access::TokenSource;
use super::super::client::Client;
use super::super::credentials::Credentials;
use super::super::testing::{
    self, Asked, Directory, recorded_body, recorded_content_type, recorded_patch, recorded_target,
    reply, serve,
};
use super::*;
use crate::cluster::{LeaseToken, Scale};

const OBJECT: &str = "/apis/apps/v1/namespaces/default/deployments/myapp";
const SCALE: &str = "/apis/apps/v1/namespaces/default/deployments/myapp/scale";

/// A Deployment and the client to come to it with.
struct Fixture {
    deployment: Deployment,
    client: Client,
}

impl Fixture {
    fn new(config: &Config) -> Self {
        let credentials = Credentials::new(config.access.clone(), testing::clock).unwrap();
        Fixture {
            deployment: Deployment::new(config),
            client: Client::new(Arc::new(credentials), Arc::default()),
        }
    }

    fn ask(&self, request: &Request, seconds: u64) -> Outcome {
        let now = Time::new(Duration::from_secs(seconds));
        let answer = self.deployment.execute(&self.client.calls(), request, now);
        self.deployment.say(request, &answer);
        classify(&answer)
    }

    fn read(&self, seconds: u64) -> Outcome {
        self.ask(&Request::Read, seconds)
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
    Request::RenewLease {
        nonce: 0x3f2a,
        store,
    }
}

#[test]
fn a_read_shows_the_deployment_and_what_was_renewed() {
    let (server, seen) = serving(|_| (200, recorded_body("30-deployment-get-after")));
    let outcome = Fixture::new(&testing::config(server)).read(0);
    let scale = scale_of(&outcome);
    assert_eq!((scale.replicas, scale.version.0.as_str()), (0, "10343"));
    let token = LeaseToken(r#""zpa-5d9c7 3f2a" """#.into());
    assert_eq!(scale.lease_token, Some(token));
    assert_eq!(targets(&seen), [OBJECT]);
}

#[test]
fn where_the_deployment_may_not_be_read_its_scale_is_and_after_5_minutes_both_are_tried() {
    let (server, seen) = serving(|asked| match asked.target.as_str() {
        SCALE => (200, recorded_body("13-scale-get-one")),
        _ => forbidden(),
    });
    let fixture = Fixture::new(&testing::config(server));
    for (seconds, expected) in [
        (1000, &[OBJECT, SCALE][..]),
        (1010, &[SCALE]),
        (1299, &[SCALE]),
        (1300, &[OBJECT, SCALE]),
        (1599, &[SCALE]),
        (1600, &[OBJECT, SCALE]),
    ] {
        let outcome = fixture.read(seconds);
        let scale = scale_of(&outcome);
        assert_eq!(
            (scale.replicas, &scale.lease_token),
            (1, &None),
            "{seconds}"
        );
        assert_eq!(targets(&seen), expected, "{seconds}");
    }
}

#[test]
fn once_the_deployment_may_be_read_its_scale_is_left_alone() {
    let granted = Arc::new(Mutex::new(false));
    let ours = granted.clone();
    let (server, seen) = serving(move |asked| match asked.target.as_str() {
        SCALE => (200, recorded_body("13-scale-get-one")),
        _ if *ours.lock().unwrap() => (200, recorded_body("16-status-patch-condition")),
        _ => forbidden(),
    });
    let fixture = Fixture::new(&testing::config(server));
    fixture.read(1000);
    *granted.lock().unwrap() = true;
    targets(&seen);
    for seconds in [1300, 1310, 1320] {
        let outcome = fixture.read(seconds);
        assert!(scale_of(&outcome).lease_token.is_some(), "{seconds}");
        assert_eq!(targets(&seen), [OBJECT], "{seconds}");
    }
}

#[test]
fn a_failure_of_the_second_attempt_is_no_permission_and_no_refusal() {
    let (sender, statuses) = mpsc::channel();
    let statuses = Mutex::new(statuses);
    let (server, seen) = serving(move |asked| match asked.target.as_str() {
        SCALE => (200, recorded_body("13-scale-get-one")),
        _ => (statuses.lock().unwrap().recv().unwrap(), b"{}".to_vec()),
    });
    let fixture = Fixture::new(&testing::config(server));
    for status in [403, 500, 403] {
        sender.send(status).unwrap();
    }
    fixture.read(1000);
    let unknown = Outcome::Unknown { retry_after: None };
    assert_eq!(fixture.read(1300), unknown);
    assert!(matches!(fixture.read(1301), Outcome::Scale(_)));
    assert_eq!(targets(&seen), [OBJECT, SCALE, OBJECT, OBJECT, SCALE]);
}

#[test]
fn nothing_but_a_403_has_the_scale_read_in_place_of_the_deployment() {
    let unknown = Outcome::Unknown { retry_after: None };
    for (status, outcome) in [
        (401, Outcome::Forbidden),
        (404, Outcome::NotFound),
        (429, Outcome::Busy { retry_after: None }),
        (500, unknown.clone()),
        (200, unknown),
    ] {
        let (server, seen) = serving(move |_| (status, b"{}".to_vec()));
        let fixture = Fixture::new(&testing::config(server));
        assert_eq!(fixture.read(0), outcome, "{status}");
        assert_eq!(targets(&seen), [OBJECT], "{status}");
    }
}

#[test]
fn where_neither_may_be_read_the_read_is_forbidden() {
    let (server, seen) = serving(|_| forbidden());
    let fixture = Fixture::new(&testing::config(server));
    assert_eq!(fixture.read(0), Outcome::Forbidden);
    assert_eq!(targets(&seen), [OBJECT, SCALE]);
}

#[test]
fn a_renewal_in_the_status_is_the_one_that_was_recorded() {
    let recording = "16-status-patch-condition";
    let (server, seen) = serving(move |_| (200, recorded_body(recording)));
    let fixture = Fixture::new(&testing::config(server));
    let outcome = fixture.ask(&renewal(LeaseStore::Status), 0);
    assert_eq!(scale_of(&outcome).replicas, 1);
    assert!(scale_of(&outcome).lease_token.is_some());
    let asked = seen.recv_timeout(testing::DEADLINE).unwrap();
    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    assert_eq!(asked.method, "PATCH");
    assert_eq!(asked.target, recorded_target(recording));
    assert_eq!(asked.content_type, recorded_content_type(recording));
    assert_eq!(json(&asked.body), json(&recorded_patch(recording)));
}

#[test]
fn a_renewal_by_annotation_is_a_merge_patch_of_the_deployment() {
    let recording = "19-annotation-patch";
    let (server, seen) = serving(move |_| (200, recorded_body(recording)));
    let fixture = Fixture::new(&testing::config(server));
    let outcome = fixture.ask(&renewal(LeaseStore::Annotation), 0);
    assert!(scale_of(&outcome).lease_token.is_some());
    let asked = seen.recv_timeout(testing::DEADLINE).unwrap();
    assert_eq!(asked.method, "PATCH");
    assert_eq!(asked.target, recorded_target(recording));
    assert_eq!(asked.content_type, recorded_content_type(recording));
    assert_eq!(
        asked.body,
        r#"{"metadata":{"annotations":{"zero-pod-autoscaler/in-use":"zpa-5d9c7 3f2a"}}}"#
    );
}

#[test]
fn a_refused_renewal_is_forbidden_and_touches_nothing_else() {
    for store in [LeaseStore::Status, LeaseStore::Annotation] {
        let (server, seen) = serving(|_| forbidden());
        let fixture = Fixture::new(&testing::config(server));
        let outcome = fixture.ask(&renewal(store), 0);
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
        "renewing the lease in the Deployment's status: 403 deployments.apps \
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
    let mut config = testing::config(server);
    config.access.token = TokenSource::File {
        path,
        otherwise: None,
    };
    let fixture = Fixture::new(&config);
    assert!(matches!(fixture.read(0), Outcome::Scale(_)));
    assert_eq!(targets(&seen), [OBJECT, OBJECT]);
}

/// The rights that an answer has refused or granted, and whether there was
/// trouble.
fn told(news: Vec<Report>) -> (Vec<(Permission, bool)>, bool) {
    let trouble = news.iter().any(|it| matches!(it, Report::Trouble(_)));
    let right = |report| match report {
        Report::Right {
            permission,
            refusal,
        } => Some((permission, refusal.is_none())),
        _ => None,
    };
    (news.into_iter().filter_map(right).collect(), trouble)
}

#[test]
fn a_right_is_refused_by_a_403_and_granted_by_whatever_looks_beyond_it() {
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
    let server = serve(|_, _| false);
    for (request, permission) in [
        (write, Permission::PatchScale),
        (renewal(LeaseStore::Status), Permission::PatchStatus),
        (renewal(LeaseStore::Annotation), Permission::PatchDeployment),
    ] {
        let deployment = Deployment::new(&testing::config(server));
        for (label, status, right, trouble) in [
            ("refused", 403, Some(false), true),
            ("refused again", 403, Some(false), true),
            ("an outage says nothing of rights", 503, None, true),
            ("who is not known is not refused", 401, None, true),
            ("a conflict comes after the right", 409, Some(true), false),
            ("no news: granted", 200, None, false),
            ("refused once more", 403, Some(false), true),
            ("no such Deployment", 404, Some(true), true),
        ] {
            let news = told(deployment.news(&request, &answer(status)));
            let rights: Vec<_> = right.map(|right| (permission, right)).into_iter().collect();
            assert_eq!(news, (rights, trouble), "{permission}: {label}");
        }
    }
}

#[test]
fn where_only_the_scale_may_be_read_the_other_right_is_the_one_that_is_refused() {
    let status = Arc::new(Mutex::new(200));
    let ours = status.clone();
    let (server, _seen) = serving(move |asked| match asked.target.as_str() {
        SCALE => (*ours.lock().unwrap(), recorded_body("13-scale-get-one")),
        _ => forbidden(),
    });
    let fixture = Fixture::new(&testing::config(server));
    let read = |seconds| {
        let now = Time::new(Duration::from_secs(seconds));
        let calls = fixture.client.calls();
        let answer = fixture.deployment.execute(&calls, &Request::Read, now);
        told(fixture.deployment.news(&Request::Read, &answer))
    };
    assert_eq!(read(0), (vec![(Permission::GetDeployment, false)], false));
    *status.lock().unwrap() = 403;
    let both = vec![
        (Permission::GetDeployment, false),
        (Permission::GetScale, false),
    ];
    assert_eq!(read(10), (both, true));
    *status.lock().unwrap() = 200;
    let one = vec![
        (Permission::GetDeployment, false),
        (Permission::GetScale, true),
    ];
    assert_eq!(read(20), (one, false));
}
