//! [`scale`] reads the scale target, or its Scale: the replicas, the version, and the leases
//! on it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::rfc3339;
use crate::cluster::{AnnotationOverrides, LeaseToken, OverrideKey, ResourceVersion, Scale};
use crate::duration;

/// The type of the condition that holds the lease.
pub(super) const LEASE_CONDITION: &str = "zero-pod-autoscaler/InUse";
/// The annotation that says it where the status may not be patched.
pub(super) const LEASE_ANNOTATION: &str = "zero-pod-autoscaler/in-use";
/// The type of the condition that says how many replicas there were before the sleep.
pub(super) const PREVIOUS_CONDITION: &str = "zero-pod-autoscaler/PreviousReplicas";
/// The annotation that says it where the status may not be patched.
pub(super) const PREVIOUS_ANNOTATION: &str = "zero-pod-autoscaler/previous-replicas";

/// The most replicas that an object can have: the field is an `int32`.
const MAX_REPLICAS: u32 = i32::MAX as u32;

/// The position of the duration among the words of a lease token.
const TTL_WORD: usize = 2;
/// The position of the word that announces a sleep.
const SLEEP_WORD: usize = 3;
/// The longest time for which a lease is respected, whatever its token states: everybody who
/// may write the status could keep the app awake for ever.
const MAX_LEASE_TTL: Duration = Duration::from_secs(30 * 24 * 3600);

/// How many characters of the annotation that orders a wake are compared: an annotation may
/// have 256 KiB.
const MAX_WAKE_VALUE_LEN: usize = 100;

/// A Scale or a scale target; both have the same names for these fields.
#[derive(Debug, Deserialize)]
struct Scalable {
    kind: String,
    metadata: ScalableMetadata,
    spec: Option<ScalableSpec>,
    status: Option<ScalableStatus>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ScalableMetadata {
    resource_version: String,
    generation: Option<u64>,
    annotations: Option<Annotations>,
}

#[derive(Debug, Deserialize)]
struct Annotations {
    /// [`LEASE_ANNOTATION`].
    #[serde(rename = "zero-pod-autoscaler/in-use")]
    lease_token: Option<String>,
    /// [`PREVIOUS_ANNOTATION`].
    #[serde(rename = "zero-pod-autoscaler/previous-replicas")]
    previous_replicas: Option<String>,
    /// [`OverrideKey::Pause`].
    #[serde(rename = "zero-pod-autoscaler/pause")]
    pause: Option<String>,
    /// [`OverrideKey::KeepAwakeUntil`].
    #[serde(rename = "zero-pod-autoscaler/keep-awake-until")]
    keep_awake_until: Option<String>,
    /// Any value: a change of it orders a wake.
    #[serde(rename = "zero-pod-autoscaler/wake")]
    wake: Option<String>,
}

#[derive(Debug, Deserialize)]
struct ScalableSpec {
    replicas: Option<u32>,
}

#[derive(Debug, Deserialize)]
struct ScalableStatus {
    conditions: Option<Vec<Condition>>,
}

/// A condition in the status of a Deployment.
#[derive(Debug, Deserialize)]
struct Condition {
    r#type: String,
    message: Option<String>,
}

/// The scale in a reply, if its body is a Scale or an object with `spec.replicas`.
///
/// An absent `spec.replicas` has several meanings. In a Scale it is zero (an integer with
/// `omitempty` in `autoscaling/v1`). In the kinds of `apps` it would be one: there it is a
/// pointer, which the server sets to the default of 1 when the object is created (`apps/v1`
/// `SetDefaults_Deployment`), and a zero is shown. A custom kind may have its replicas in
/// another field.
pub(super) fn scale(body: &[u8]) -> Option<Scale> {
    let object: Scalable = serde_json::from_slice(body).ok()?;
    object.scale()
}

/// The scale of an object that was parsed already.
pub(super) fn scale_of(object: &Value) -> Option<Scale> {
    Scalable::deserialize(object).ok()?.scale()
}

/// The tokens in the condition and in the annotation.
type LeaseTexts<'a> = [&'a str; 2];

fn lease(deployment: &Scalable) -> LeaseTexts<'_> {
    let annotations = deployment.metadata.annotations.as_ref();
    let annotation = annotations.and_then(|annotations| annotations.lease_token.as_deref());
    let condition = deployment.message_of(LEASE_CONDITION);
    [condition.unwrap_or(""), annotation.unwrap_or("")]
}

/// The number of replicas before the last sleep: the larger one, if proxies with different
/// permissions have written to both places.
fn previous_replicas(object: &Scalable) -> Option<u32> {
    let annotations = object.metadata.annotations.as_ref();
    let annotation = annotations.and_then(|annotations| annotations.previous_replicas.as_deref());
    let condition = object.message_of(PREVIOUS_CONDITION);
    let texts = [condition, annotation].into_iter().flatten();
    let counts = texts.filter_map(|text| text.parse().ok());
    counts
        .filter(|count| (1..=MAX_REPLICAS).contains(count))
        .max()
}

/// What the annotations of an object order. A value that cannot be read orders nothing.
fn overrides(object: &Scalable) -> AnnotationOverrides {
    let Some(annotations) = &object.metadata.annotations else {
        return AnnotationOverrides::default();
    };
    let pause = annotations.pause.as_deref().map(str::trim);
    let until = annotations.keep_awake_until.as_deref();
    let keep_awake_until = until.and_then(rfc3339::unix);
    let invalid = match (pause, until) {
        (Some(pause), _) if !matches!(pause, "" | "true" | "false") => Some(OverrideKey::Pause),
        (_, Some(until)) if keep_awake_until.is_none() && !until.trim().is_empty() => {
            Some(OverrideKey::KeepAwakeUntil)
        }
        _ => None,
    };
    let wake = annotations.wake.as_deref().filter(|wake| !wake.is_empty());
    AnnotationOverrides {
        is_paused: pause == Some("true"),
        keep_awake_until,
        wake: wake.map(|wake| wake.chars().take(MAX_WAKE_VALUE_LEN).collect()),
        invalid,
    }
}

/// The annotation `key` of an object.
pub(super) fn annotation(body: &[u8], key: &str) -> Option<String> {
    let annotated: Annotated = serde_json::from_slice(body).ok()?;
    annotated.metadata.annotations?.remove(key)
}

#[derive(Debug, Deserialize)]
struct Annotated {
    metadata: AnnotatedMetadata,
}

#[derive(Debug, Deserialize)]
struct AnnotatedMetadata {
    annotations: Option<BTreeMap<String, String>>,
}

impl Scalable {
    fn scale(&self) -> Option<Scale> {
        let (absent, shows_lease) = match self.kind.as_str() {
            "Scale" => (Some(0), false),
            "Deployment" | "StatefulSet" | "ReplicaSet" => (Some(1), true),
            _ => (None, true),
        };
        let lease = shows_lease.then(|| lease(self));
        let version = &self.metadata.resource_version;
        if version.is_empty() {
            return None;
        }
        Some(Scale {
            replicas: self
                .spec
                .as_ref()
                .and_then(|spec| spec.replicas)
                .or(absent)?,
            version: ResourceVersion(version.clone()),
            lease_token: lease.map(token),
            lease_ttl: lease.and_then(ttl),
            is_final_renewal: lease.is_some_and(is_final_renewal),
            ancestor_in_use_for: None,
            overrides: shows_lease.then(|| overrides(self)),
            previous_replicas: previous_replicas(self),
            generation: self.metadata.generation,
        })
    }

    fn message_of(&self, condition: &str) -> Option<&str> {
        let conditions = self.status.as_ref()?.conditions.as_ref()?;
        let condition = conditions.iter().find(|one| one.r#type == condition)?;
        condition.message.as_deref()
    }
}

/// One token of both, because proxies with different permissions write to different places.
/// They are quoted, so that no two pairs make the same token.
fn token(texts: LeaseTexts<'_>) -> LeaseToken {
    match texts {
        ["", ""] => LeaseToken::default(),
        [condition, annotation] => LeaseToken(format!("{condition:?} {annotation:?}")),
    }
}

/// Whether the renewal announces a sleep: in both places, if there is a token in both.
fn is_final_renewal(texts: LeaseTexts<'_>) -> bool {
    let announces = |text: &str| text.split(' ').nth(SLEEP_WORD) == Some("sleep");
    let mut there = texts.into_iter().filter(|text| !text.is_empty()).peekable();
    there.peek().is_some() && there.all(announces)
}

/// The longer duration of the two; it is the third word of a token of zpa
/// ([`super::patch::token`]).
fn ttl(texts: LeaseTexts<'_>) -> Option<Duration> {
    let ttl = |text: &str| {
        let word = text.split(' ').nth(TTL_WORD)?;
        Some(duration::parse(word).ok()?.min(MAX_LEASE_TTL))
    };
    texts.into_iter().filter_map(ttl).max()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::testing::recorded_body;
    use super::*;

    fn shown(name: &str) -> (u32, String, Option<LeaseToken>) {
        let scale = scale(&recorded_body(name)).unwrap();
        (scale.replicas, scale.version.0, scale.lease_token)
    }

    #[test]
    fn recordings_show_the_scale_and_the_renewal() {
        let none = Some(LeaseToken::default());
        let renewed = Some(LeaseToken(r#""zpa-5d9c7 3f2a" """#.into()));
        let (empty, of_condition) = (none.clone(), renewed.clone());
        let of_annotation = Some(LeaseToken(r#""" "zpa-1 3f2a""#.into()));
        for (name, replicas, version, lease_token) in [
            ("02-scale-get-zero", 0, "10295", None),
            ("10-scale-patch-to-one", 1, "10299", None),
            ("17-scale-get-current", 1, "10320", None),
            ("18-scale-patch-guarded-to-zero", 0, "10321", None),
            ("03-deployment-get-zero", 0, "10295", none),
            ("16-status-patch-condition", 1, "10320", renewed.clone()),
            ("19-annotation-patch", 0, "10341", renewed.clone()),
            ("30-deployment-get-after", 0, "10343", renewed),
            (
                "46-deployment-patch-replicas-guarded",
                1,
                "9609",
                empty.clone(),
            ),
            (
                "48-statefulset-status-patch-condition",
                1,
                "9643",
                of_condition,
            ),
            ("50-statefulset-get-condition-gone", 0, "9651", empty),
            ("54-custom-scale-patch-to-zero", 0, "9661", None),
            ("57-custom-annotation-merge-patch", 0, "9662", of_annotation),
        ] {
            let expected = (replicas, version.to_owned(), lease_token);
            assert_eq!(shown(name), expected, "{name}");
        }
    }

    #[test]
    fn a_kind_of_apps_without_replicas_has_the_default_of_1_a_scale_has_0() {
        for (kind, replicas) in [("Deployment", 1), ("StatefulSet", 1), ("Scale", 0)] {
            for spec in [r#","spec":{}"#, r#","spec":{"replicas":null}"#, ""] {
                let body =
                    format!(r#"{{"kind":"{kind}","metadata":{{"resourceVersion":"1"}}{spec}}}"#);
                let scale = scale(body.as_bytes()).unwrap();
                assert_eq!(scale.replicas, replicas, "{body}");
            }
        }
    }

    fn with_token(conditions: Value, annotations: Value) -> String {
        let body = json!({
            "kind": "Deployment",
            "metadata": { "resourceVersion": "1", "annotations": annotations },
            "status": { "conditions": conditions },
        });
        let scale = scale(body.to_string().as_bytes()).unwrap();
        scale.lease_token.unwrap().0
    }

    #[test]
    fn a_renewal_is_seen_in_either_place_and_in_both() {
        let annotation = |text: &str| json!({ LEASE_ANNOTATION: text, "other": "z" });
        let other = json!({ "type": "Available", "message": "y" });
        let condition = |text: &str| json!([other, { "type": LEASE_CONDITION, "message": text }]);
        for (conditions, annotations, token) in [
            (Value::Null, Value::Null, ""),
            (json!([]), json!({}), ""),
            (json!([other]), json!({ "other": "z" }), ""),
            (json!([{ "type": LEASE_CONDITION }]), Value::Null, ""),
            (condition(""), annotation(""), ""),
            (condition("a 1"), json!({}), r#""a 1" """#),
            (json!([]), annotation("a 1"), r#""" "a 1""#),
            (condition("a 1"), annotation("b 2"), r#""a 1" "b 2""#),
            (condition("a\"\n"), annotation("b"), r#""a\"\n" "b""#),
        ] {
            let label = format!("{conditions} {annotations}");
            assert_eq!(with_token(conditions, annotations), token, "{label}");
        }
    }

    proptest! {
        #[test]
        fn two_pairs_of_texts_never_make_the_same_mark(
            one in ("[ab\" \\\\\n]{0,4}", "[ab\" \\\\\n]{0,4}"),
            two in ("[ab\" \\\\\n]{0,4}", "[ab\" \\\\\n]{0,4}"),
        ) {
            let of = |(condition, annotation): &(String, String)| with_token(
                json!([{ "type": LEASE_CONDITION, "message": condition }]),
                json!({ LEASE_ANNOTATION: annotation }),
            );
            prop_assert_eq!(of(&one) == of(&two), one == two);
        }
    }

    #[test]
    fn a_lease_says_for_how_long_it_is_to_be_respected_and_the_longest_counts() {
        let seconds = |s| Some(Duration::from_secs(s));
        for (condition, annotation, ttl) in [
            ("", "", None),
            ("zpa-a 3f2a", "", None),
            ("zpa-a 3f2a 30s", "", seconds(30)),
            ("zpa-a 3f2a 5m", "zpa-b 1 30s", seconds(300)),
            ("zpa-a 3f2a 30s", "zpa-b 1 5m", seconds(300)),
            ("zpa-a 3f2a 30", "", seconds(30)),
            ("zpa-a 3f2a soon", "zpa-b 1 -5s", None),
            ("zpa-a 3f2a 2540400h", "", Some(MAX_LEASE_TTL)),
        ] {
            let body = json!({
                "kind": "Deployment",
                "metadata": { "resourceVersion": "1", "annotations": { LEASE_ANNOTATION: annotation } },
                "status": { "conditions": [{ "type": LEASE_CONDITION, "message": condition }] },
            });
            let shown = scale(body.to_string().as_bytes()).unwrap().lease_ttl;
            assert_eq!(shown, ttl, "{condition:?} {annotation:?}");
        }
    }

    #[test]
    fn a_lease_that_announces_a_sleep_does_so_wherever_there_is_one() {
        for (condition, annotation, announces) in [
            ("", "", false),
            ("zpa-a 3f2a 30s", "", false),
            ("zpa-a 3f2a 30s sleep", "", true),
            ("", "zpa-a 3f2a 30s sleep", true),
            ("zpa-a 3f2a 30s sleep", "zpa-b 1 30s", false),
            ("zpa-a 3f2a 30s sleep", "zpa-b 1 30s sleep", true),
            ("zpa-a sleep 30s", "", false),
        ] {
            let body = json!({
                "kind": "Deployment",
                "metadata": { "resourceVersion": "1", "annotations": { LEASE_ANNOTATION: annotation } },
                "status": { "conditions": [{ "type": LEASE_CONDITION, "message": condition }] },
            });
            let shown = scale(body.to_string().as_bytes()).unwrap();
            assert_eq!(
                shown.is_final_renewal, announces,
                "{condition:?} {annotation:?}"
            );
        }
    }

    #[test]
    fn the_replicas_before_the_sleep_are_seen_in_either_place_if_they_are_a_count() {
        for (condition, annotation, previous) in [
            (Value::Null, Value::Null, None),
            ("3".into(), Value::Null, Some(3)),
            (Value::Null, "3".into(), Some(3)),
            ("3".into(), "5".into(), Some(5)),
            ("0".into(), "2147483648".into(), None),
            ("-1".into(), "2147483647".into(), Some(2_147_483_647)),
            ("three".into(), "".into(), None),
        ] {
            let body = json!({
                "kind": "Deployment",
                "metadata": {
                    "resourceVersion": "1",
                    "annotations": { PREVIOUS_ANNOTATION: annotation },
                },
                "status": { "conditions": [{ "type": PREVIOUS_CONDITION, "message": condition }] },
            });
            let shown = scale(body.to_string().as_bytes())
                .unwrap()
                .previous_replicas;
            assert_eq!(shown, previous, "{body}");
        }
    }

    #[test]
    fn annotations_order_a_pause_a_time_awake_and_a_wake() {
        let ordered = |annotations: Value| {
            let body = json!({
                "kind": "Deployment",
                "metadata": { "resourceVersion": "1", "annotations": annotations },
            });
            scale(body.to_string().as_bytes()).unwrap().overrides
        };
        let none = AnnotationOverrides::default();
        let pause = |text: &str| json!({ "zero-pod-autoscaler/pause": text });
        let until = |text: &str| json!({ "zero-pod-autoscaler/keep-awake-until": text });
        let wake = |text: &str| json!({ "zero-pod-autoscaler/wake": text });
        let invalid = |key| AnnotationOverrides {
            invalid: Some(key),
            ..none.clone()
        };
        for (annotations, orders) in [
            (Value::Null, none.clone()),
            (json!({ "other": "true" }), none.clone()),
            (
                pause("true"),
                AnnotationOverrides {
                    is_paused: true,
                    ..none.clone()
                },
            ),
            (pause("false"), none.clone()),
            (pause(""), none.clone()),
            (pause("yes"), invalid(OverrideKey::Pause)),
            (
                until("2026-11-25T03:00:00Z"),
                AnnotationOverrides {
                    keep_awake_until: Some(1_795_575_600),
                    ..none.clone()
                },
            ),
            (
                until(" 2026-11-25T05:00:00+02:00 "),
                AnnotationOverrides {
                    keep_awake_until: Some(1_795_575_600),
                    ..none.clone()
                },
            ),
            (until(""), none.clone()),
            (until("18:00"), invalid(OverrideKey::KeepAwakeUntil)),
            (
                wake("now"),
                AnnotationOverrides {
                    wake: Some("now".to_owned()),
                    ..none.clone()
                },
            ),
            (wake(""), none.clone()),
        ] {
            assert_eq!(ordered(annotations.clone()), Some(orders), "{annotations}");
        }
        let long = ordered(wake(&"x".repeat(1000))).unwrap();
        assert_eq!(long.wake.unwrap().len(), MAX_WAKE_VALUE_LEN);
        let scale = scale(&recorded_body("17-scale-get-current")).unwrap();
        assert_eq!(
            scale.overrides, None,
            "a Scale has no annotations of the object"
        );
    }

    #[test]
    fn an_annotation_is_found_by_its_key_on_any_object() {
        let go = "zero-pod-autoscaler/scale-down-at";
        let deployment = recorded_body("42-json-patch-replace-missing-key");
        let time = Some("2026-11-25T03:00:00Z".to_owned());
        assert_eq!(annotation(&deployment, go), time);
        assert_eq!(annotation(&deployment, "other"), None);
        let python = "traffic-pod-autoscaler/last-call-at";
        let config_map = recorded_body("44-configmap-annotation-merge-patch");
        let time = Some("2026-11-25T03:00:00.000000+00:00".to_owned());
        assert_eq!(annotation(&config_map, python), time);
        assert_eq!(annotation(b"{}", python), None);
    }

    #[test]
    fn what_shows_no_replicas_is_none() {
        for name in ["25-not-found", "06-deployment-list-one"] {
            assert_eq!(scale(&recorded_body(name)), None, "{name}");
        }
        for body in [
            "",
            "null",
            "{}",
            r#"{"kind":"Scale","metadata":{}}"#,
            r#"{"kind":"Scale","metadata":{"resourceVersion":""}}"#,
            r#"{"kind":"Rollout","metadata":{"resourceVersion":"1"},"spec":{}}"#,
            r#"{"kind":"Rollout","metadata":{"resourceVersion":"1"}}"#,
            r#"{"kind":"Status","metadata":{},"code":404}"#,
            r#"{"kind":"Scale","metadata":{"resourceVersion":"1"},"spec":{"replicas":-1}}"#,
            r#"{"kind":"Deployment","metadata":{"resourceVersion":"1"},"spec":{"replicas":-1}}"#,
        ] {
            assert_eq!(scale(body.as_bytes()), None, "{body}");
        }
    }
}
