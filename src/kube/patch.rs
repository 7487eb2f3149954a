//! What is written to the Deployment.

use serde_json::json;

use super::objects::{LEASE_ANNOTATION, LEASE_CONDITION};
use super::rfc3339;
use crate::cluster::ResourceVersion;

/// The longest name of a pod, in characters: a DNS subdomain.
const LONGEST_WRITER: usize = 253;

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

    /// Puts `token` into a condition of the Deployment's status, at `unix`
    /// seconds since 1970. A merge patch would replace the whole list: only a
    /// strategic one knows that conditions are told apart by their type.
    pub(super) fn condition(token: &str, unix: u64) -> Patch {
        let now = rfc3339::utc(unix);
        let condition = json!({
            "type": LEASE_CONDITION,
            "status": "True",
            "reason": "Connections",
            "message": token,
            "lastUpdateTime": now,
            "lastTransitionTime": now,
        });
        Patch {
            content_type: "application/strategic-merge-patch+json",
            body: json!({ "status": { "conditions": [condition] } }).to_string(),
        }
    }

    /// Puts `token` into an annotation of the Deployment.
    pub(super) fn annotation(token: &str) -> Patch {
        let body = json!({ "metadata": { "annotations": { LEASE_ANNOTATION: token } } });
        Patch {
            content_type: "application/merge-patch+json",
            body: body.to_string(),
        }
    }
}

/// What `writer` leaves in a renewal: its name, and what makes this one
/// different from every other.
pub(super) fn token(writer: &str, nonce: u64) -> String {
    format!("{writer} {nonce:x}")
}

/// `name` as it may stand in a token: what no pod's name has becomes a hyphen.
pub(super) fn writer(name: &str) -> String {
    let plain = |char: char| match char {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '.' | '_' => char,
        _ => '-',
    };
    let name: String = name.chars().take(LONGEST_WRITER).map(plain).collect();
    if name.is_empty() {
        return "zpa".to_owned();
    }
    name
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::testing::{recorded_content_type, recorded_patch};
    use super::*;

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
        let condition = Patch::condition("zpa-5d9c7 3f2a", 1_795_313_581);
        as_recorded(&condition, "16-status-patch-condition", ["", ""]);
        let annotation = Patch::annotation("2026-11-22T02:13:01Z");
        let key = ["scale-down-at", "in-use"];
        as_recorded(&annotation, "19-annotation-patch", key);
    }

    #[test]
    fn a_mark_is_the_writer_and_the_nonce_in_hex() {
        assert_eq!(token("zpa-5d9c7", 0x3f2a), "zpa-5d9c7 3f2a");
        assert_eq!(token("zpa", u64::MAX), "zpa ffffffffffffffff");
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
        assert_eq!(writer(&"é".repeat(10_000)).len(), LONGEST_WRITER);
    }
}
