//! A [`Patch`]: the body of a PATCH of the scale target.

use serde_json::{Value, json};

use super::rfc3339;
use super::scaled::{LEASE_ANNOTATION, LEASE_CONDITION, PREVIOUS_ANNOTATION, PREVIOUS_CONDITION};
use crate::cluster::{Renewal, ResourceVersion};
use crate::duration;

/// The longest name of a pod, in characters: a DNS subdomain.
const MAX_WRITER_LEN: usize = 253;

/// The body of a PATCH, and which kind of patch it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Patch {
    pub(super) content_type: &'static str,
    pub(super) body: String,
}

impl Patch {
    /// Sets `spec.replicas` of a Scale that is still at `guard`.
    pub(super) fn scale(replicas: u32, guard: &ResourceVersion) -> Patch {
        let body = json!({
            "metadata": { "resourceVersion": guard.0 },
            "spec": { "replicas": replicas },
        });
        Patch {
            content_type: "application/merge-patch+json",
            body: body.to_string(),
        }
    }

    /// Writes `token` into a condition of the status, with the time `unix` in seconds since
    /// 1970. A strategic merge patch merges conditions by their type; a merge patch would
    /// replace the whole list.
    pub(super) fn condition(token: &str, renewal: &Renewal, unix: u64) -> Patch {
        let now = rfc3339::utc(unix);
        let (status, reason) = if renewal.in_use {
            ("True", "Connections")
        } else {
            ("False", "NoConnections")
        };
        let condition = json!({
            "type": LEASE_CONDITION,
            "status": status,
            "reason": reason,
            "message": token,
            "lastUpdateTime": now,
            "lastTransitionTime": now,
        });
        let mut conditions = vec![condition];
        if let Some(replicas) = renewal.previous_replicas {
            conditions.push(json!({
                "type": PREVIOUS_CONDITION,
                "status": "True",
                "reason": "Sleep",
                "message": replicas.to_string(),
                "lastUpdateTime": now,
                "lastTransitionTime": now,
            }));
        }
        let mut body = json!({ "status": { "conditions": conditions } });
        if let Some(guard) = &renewal.guard {
            body["metadata"] = json!({ "resourceVersion": guard.0 });
        }
        Patch {
            content_type: "application/strategic-merge-patch+json",
            body: body.to_string(),
        }
    }

    /// Writes `token` into an annotation of the object.
    pub(super) fn annotation(token: &str, renewal: &Renewal) -> Patch {
        let mut body = json!({ "metadata": { "annotations": { LEASE_ANNOTATION: token } } });
        if let Some(replicas) = renewal.previous_replicas {
            body["metadata"]["annotations"][PREVIOUS_ANNOTATION] = json!(replicas.to_string());
        }
        if let Some(guard) = &renewal.guard {
            body["metadata"]["resourceVersion"] = json!(guard.0);
        }
        Patch {
            content_type: "application/merge-patch+json",
            body: body.to_string(),
        }
    }
}

impl Patch {
    /// A merge patch of any object.
    pub(super) fn merge(body: &Value) -> Patch {
        Patch {
            content_type: "application/merge-patch+json",
            body: body.to_string(),
        }
    }

    /// A strategic merge patch of any object that is not of a custom kind.
    pub(super) fn strategic(body: &Value) -> Patch {
        Patch {
            content_type: "application/strategic-merge-patch+json",
            body: body.to_string(),
        }
    }

    /// Writes `text` into the annotation `key` of any object.
    pub(super) fn annotate(key: &str, text: &str) -> Patch {
        let body = json!({ "metadata": { "annotations": { key: text } } });
        Patch {
            content_type: "application/merge-patch+json",
            body: body.to_string(),
        }
    }

    /// The same patch of annotations with one more.
    pub(super) fn and_annotation(self, key: &str, text: &str) -> Patch {
        let mut body: Value = serde_json::from_str(&self.body).unwrap_or_default();
        body["metadata"]["annotations"][key] = json!(text);
        Patch {
            body: body.to_string(),
            ..self
        }
    }
}

/// The token of a renewal: the name of the writer (the pod of this proxy), the nonce, the TTL
/// that other proxies add to the time at which they see it, and `sleep` if a sleep follows.
pub(super) fn token(writer: &str, renewal: &Renewal) -> String {
    let ttl = duration::display(renewal.ttl);
    let sleep = if renewal.guard.is_some() {
        " sleep"
    } else {
        ""
    };
    format!("{writer} {:x} {ttl}{sleep}", renewal.nonce)
}

/// The writer's name in a token: `name`, in which characters that are not allowed in the name
/// of a pod are replaced by hyphens.
pub(super) fn writer(name: &str) -> String {
    let plain = |char: char| match char {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '.' | '_' => char,
        _ => '-',
    };
    let name: String = name.chars().take(MAX_WRITER_LEN).map(plain).collect();
    if name.is_empty() {
        return "zpa".to_owned();
    }
    name
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::testing::{recorded_content_type, recorded_patch};
    use super::*;
    use crate::cluster::LeaseStore;

    fn as_recorded(patch: &Patch, recording: &str, renamed: [&str; 2]) {
        let recorded = recorded_patch(recording).replace(renamed[0], renamed[1]);
        let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        assert_eq!(json(&patch.body), json(&recorded), "{recording}");
        assert_eq!(patch.content_type, recorded_content_type(recording));
    }

    #[test]
    fn patches_are_those_that_a_real_server_has_taken() {
        let guard = ResourceVersion("10320".into());
        let guarded = Patch::scale(0, &guard);
        as_recorded(&guarded, "18-scale-patch-guarded-to-zero", ["", ""]);
        let renewal = renewal(true, None);
        let condition = Patch::condition("zpa-5d9c7 3f2a", &renewal, 1_795_313_581);
        as_recorded(&condition, "16-status-patch-condition", ["", ""]);
        let annotation = Patch::annotation("2026-11-22T02:13:01Z", &renewal);
        let key = ["scale-down-at", "in-use"];
        as_recorded(&annotation, "19-annotation-patch", key);
    }

    fn renewal(in_use: bool, guard: Option<&str>) -> Renewal {
        Renewal {
            nonce: 0x3f2a,
            ttl: Duration::from_secs(300),
            in_use,
            previous_replicas: None,
            guard: guard.map(|version| ResourceVersion(version.to_owned())),
            store: LeaseStore::Status,
        }
    }

    #[test]
    fn the_last_renewal_says_that_nobody_is_there_and_is_guarded_if_asked_for() {
        for (in_use, guard, status, reason) in [
            (true, None, "True", "Connections"),
            (false, None, "False", "NoConnections"),
            (false, Some("7"), "False", "NoConnections"),
        ] {
            let renewal = renewal(in_use, guard);
            let condition = Patch::condition("t", &renewal, 0);
            let annotation = Patch::annotation("t", &renewal);
            for patch in [&condition, &annotation] {
                let body: Value = serde_json::from_str(&patch.body).unwrap();
                let version = body["metadata"]["resourceVersion"].as_str();
                assert_eq!(version, guard, "{}", patch.body);
            }
            let body: Value = serde_json::from_str(&condition.body).unwrap();
            let condition = &body["status"]["conditions"][0];
            assert_eq!(condition["status"], status);
            assert_eq!(condition["reason"], reason);
        }
    }

    #[test]
    fn a_token_is_the_writer_the_nonce_in_hex_and_the_ttl() {
        let renewal = renewal(true, None);
        assert_eq!(token("zpa-5d9c7", &renewal), "zpa-5d9c7 3f2a 5m0s");
        let before_sleep = Renewal {
            guard: Some(ResourceVersion("5".to_owned())),
            ..renewal.clone()
        };
        let announces = "zpa-5d9c7 3f2a 5m0s sleep";
        assert_eq!(token("zpa-5d9c7", &before_sleep), announces);
        let largest = Renewal {
            nonce: u64::MAX,
            ttl: Duration::from_millis(1500),
            ..renewal
        };
        assert_eq!(token("zpa", &largest), "zpa ffffffffffffffff 1.5s");
    }

    #[test]
    fn a_writer_has_nothing_but_what_a_pods_name_may_have() {
        for (name, expected) in [
            ("zpa-5d9c7", "zpa-5d9c7"),
            ("node.example", "node.example"),
            ("my laptop\n\"é\"", "my-laptop----"),
            ("", "zpa"),
        ] {
            assert_eq!(writer(name), expected, "{name:?}");
        }
        assert_eq!(writer(&"é".repeat(10_000)).len(), MAX_WRITER_LEN);
    }
}
