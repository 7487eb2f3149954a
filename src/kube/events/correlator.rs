//! [`Correlator`]: the pure part of the recorder. It counts equal Events about an object as one
//! series, as client-go's recorders do, and limits how many are written about an object.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use serde_json::{Value, json};

use super::super::rfc3339;
use crate::clock::Time;
use crate::cluster::{Event, EventType, ObjectReference, cut};

/// How long after the last Event of a series another one belongs to it. The API server keeps
/// an Event for that long after it was written (`--event-ttl`).
const SERIES_FOR: Duration = Duration::from_secs(3600);

/// The most series, and the most objects, that are known (client-go: `maxLruCacheEntries`).
const MAX_SERIES: usize = 4096;

/// How many Events about an object are written at once at most, and the time after which
/// there may be one more (client-go: `EventSourceObjectSpamFilter`).
const BURST: u32 = 25;
const REFILL: Duration = Duration::from_secs(300);

/// The longest name of the object within that of an Event: 253 bytes are allowed, with a dot
/// and 16 digits.
const MAX_NAME_LEN: usize = 236;

/// What is written to the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) namespace: String,
    /// The name of the Event.
    pub(super) name: String,
    /// How often it has happened.
    pub(super) count: u32,
    /// The whole Event.
    pub(super) object: Value,
}

impl Write {
    /// The patch that makes the Event with this name say it; `None`: it is to be created.
    pub(super) fn series(&self) -> Option<Value> {
        let series = &self.object["series"];
        series.is_object().then(|| json!({ "series": series }))
    }
}

/// A series: equal Events about the same object.
#[derive(Debug)]
struct Series {
    name: String,
    /// In seconds since 1970.
    first: u64,
    count: u32,
    last: Time,
}

/// A token bucket.
#[derive(Debug)]
struct Bucket {
    tokens: u32,
    refilled: Time,
}

/// Counts and limits Events.
#[derive(Debug)]
pub(super) struct Correlator {
    /// The name of the pod.
    instance: String,
    series: BTreeMap<(ObjectReference, Event), Series>,
    /// By the UID of the object and the type of the Event, so that an app that sleeps and wakes all
    /// the time leaves room for warnings.
    buckets: BTreeMap<(String, EventType), Bucket>,
}

impl Correlator {
    pub(super) fn new(instance: &str) -> Correlator {
        Correlator {
            instance: instance.to_owned(),
            series: BTreeMap::new(),
            buckets: BTreeMap::new(),
        }
    }

    /// What is to be written after `event` at the time `now`, in seconds since 1970 `unix`;
    /// `None`: nothing now, because there were so many about the object. The next one that is
    /// written of the series has the whole count.
    pub(super) fn record(
        &mut self,
        regarding: ObjectReference,
        event: Event,
        now: Time,
        unix: u64,
    ) -> Option<Write> {
        self.forget(now);
        let is_allowed = self.take_token(&regarding.uid, event.event_type, now);
        let key = (regarding, event);
        let is_over = |it: &Series| now.since(it.last) >= SERIES_FOR;
        // One that all proxies share is not counted: each would count by itself.
        if key.1.is_shared || self.series.get(&key).is_none_or(is_over) {
            let name = self.name(&key.0, &key.1, unix);
            let begun = Series {
                name,
                first: unix,
                count: 0,
                last: now,
            };
            self.series.insert(key.clone(), begun);
        }
        let series = self.series.get_mut(&key)?;
        (series.count, series.last) = (series.count.saturating_add(1), now);
        let series = self.series.get(&key)?;
        is_allowed.then(|| self.write(&key.0, &key.1, series, unix))
    }

    /// Forgets what is over, if much is known.
    fn forget(&mut self, now: Time) {
        if self.series.len() >= MAX_SERIES {
            self.series.retain(|_, it| now.since(it.last) < SERIES_FOR);
        }
        if self.series.len() >= MAX_SERIES {
            self.series.clear();
        }
        if self.buckets.len() >= MAX_SERIES {
            self.buckets.clear();
        }
    }

    fn take_token(&mut self, uid: &str, event_type: EventType, now: Time) -> bool {
        let full = Bucket {
            tokens: BURST,
            refilled: now,
        };
        let bucket = self
            .buckets
            .entry((uid.to_owned(), event_type))
            .or_insert(full);
        let passed = now.since(bucket.refilled).as_secs() / REFILL.as_secs();
        let more = u32::try_from(passed).unwrap_or(u32::MAX);
        bucket.tokens = bucket.tokens.saturating_add(more).min(BURST);
        bucket.refilled = bucket.refilled + Duration::from_secs(passed * REFILL.as_secs());
        let is_left = bucket.tokens > 0;
        bucket.tokens = bucket.tokens.saturating_sub(1);
        is_left
    }

    /// The name of an Event: the same of all proxies and starts if they share it, so that the
    /// API server takes one of them; else one that no other has.
    fn name(&self, regarding: &ObjectReference, event: &Event, unix: u64) -> String {
        let mut hasher = DefaultHasher::new();
        (regarding, event).hash(&mut hasher);
        if !event.is_shared {
            (&self.instance, unix).hash(&mut hasher);
        }
        let name = &regarding.name;
        let name = cut(name, MAX_NAME_LEN).trim_end_matches(['.', '-']);
        format!("{name}.{:016x}", hasher.finish())
    }

    /// The Event, as recording 31 has one.
    fn write(
        &self,
        regarding: &ObjectReference,
        event: &Event,
        series: &Series,
        unix: u64,
    ) -> Write {
        let ObjectReference {
            api_version,
            kind,
            namespace,
            name,
            uid,
        } = regarding;
        let mut object = json!({
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": { "name": series.name, "namespace": namespace },
            "eventTime": rfc3339::utc_with_microseconds(series.first),
            "reportingController": "zero-pod-autoscaler",
            "reportingInstance": self.instance,
            "action": event.action,
            "reason": event.reason,
            "type": event.event_type.name(),
            "note": event.note,
            "regarding": {
                "apiVersion": api_version,
                "kind": kind,
                "namespace": namespace,
                "name": name,
                "uid": uid,
            },
        });
        // The API server takes no series of one (`validateV1EventSeries`).
        if series.count > 1 {
            object["series"] = json!({
                "count": series.count,
                "lastObservedTime": rfc3339::utc_with_microseconds(unix),
            });
        }
        Write {
            namespace: namespace.clone(),
            name: series.name.clone(),
            count: series.count,
            object,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::recorded_patch;
    use super::*;

    fn deployment(name: &str) -> ObjectReference {
        ObjectReference {
            api_version: "apps/v1".to_owned(),
            kind: "Deployment".to_owned(),
            namespace: "default".to_owned(),
            name: name.to_owned(),
            uid: format!("uid of {name}"),
        }
    }

    fn event(note: &str) -> Event {
        Event::new(EventType::Normal, "ScaledToZero", "ScaleDown", note)
    }

    /// The correlator and its clock.
    struct Rig(Correlator, u64);

    impl Rig {
        fn new() -> Rig {
            Rig(Correlator::new("zpa-1"), 1000)
        }

        fn pass(&mut self, seconds: u64) -> &mut Rig {
            self.1 += seconds;
            self
        }

        fn record(&mut self, object: &str, event: Event) -> Option<Write> {
            let now = Time::from_millis(self.1 * 1000);
            self.0
                .record(deployment(object), event, now, 1_795_313_591 + self.1)
        }
    }

    #[test]
    fn an_event_is_created_with_the_fields_that_were_recorded() {
        let write = Rig::new().record("myapp", event("idle")).unwrap();
        assert_eq!(write.series(), None);
        let recorded: Value = serde_json::from_str(&recorded_patch("31-event-create")).unwrap();
        let keys =
            |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
        assert_eq!(keys(&write.object), keys(&recorded));
        assert_eq!(
            keys(&write.object["regarding"]),
            keys(&recorded["regarding"])
        );
        assert_eq!(write.object["type"], "Normal");
        assert_eq!(write.object["note"], "idle");
        assert_eq!(write.object["regarding"]["uid"], "uid of myapp");
    }

    #[test]
    fn equal_events_are_one_series_until_the_api_server_has_forgotten_them() {
        let mut rig = Rig::new();
        let first = rig.record("myapp", event("idle")).unwrap();
        let second = rig.pass(600).record("myapp", event("idle")).unwrap();
        assert_eq!((&second.name, second.count), (&first.name, 2));
        let series = second.series().unwrap();
        assert_eq!(series["series"]["count"], 2);
        assert_eq!(second.object["eventTime"], first.object["eventTime"]);
        assert_ne!(
            series["series"]["lastObservedTime"],
            first.object["eventTime"]
        );
        for (label, other) in [
            ("another text", rig.record("myapp", event("other"))),
            ("another object", rig.record("blog", event("idle"))),
        ] {
            let other = other.unwrap();
            assert_ne!(other.name, first.name, "{label}");
            assert_eq!(other.count, 1, "{label}");
        }
        let third = rig.pass(3599).record("myapp", event("idle")).unwrap();
        assert_eq!((&third.name, third.count), (&first.name, 3));
        let anew = rig.pass(3600).record("myapp", event("idle")).unwrap();
        assert_eq!(anew.count, 1);
        assert_ne!(anew.name, first.name);
    }

    #[test]
    fn a_proxy_beside_this_one_has_events_of_its_own_except_for_those_that_are_shared() {
        let (mut ours, mut theirs) = (Rig::new(), Rig::new());
        theirs.0 = Correlator::new("zpa-2");
        let names = |rig: &mut Rig, event: Event| rig.record("myapp", event).unwrap().name;
        assert_ne!(
            names(&mut ours, event("idle")),
            names(&mut theirs, event("idle"))
        );
        theirs.pass(77);
        let shared = || event("idle").shared();
        assert_eq!(names(&mut ours, shared()), names(&mut theirs, shared()));
        let again = ours.record("myapp", shared()).unwrap();
        assert_eq!(
            again.series(),
            None,
            "it is created again, once it was forgotten"
        );
    }

    #[test]
    fn few_are_written_about_an_object_and_the_next_one_has_the_whole_count() {
        let mut rig = Rig::new();
        let written = (0..100).filter_map(|_| rig.pass(1).record("myapp", event("idle")));
        assert_eq!(written.count(), BURST as usize);
        assert!(
            rig.record("blog", event("idle")).is_some(),
            "another object"
        );
        assert!(rig.record("myapp", event("other")).is_none());
        let warning = Event {
            event_type: EventType::Warning,
            ..event("trouble")
        };
        assert!(rig.record("myapp", warning).is_some(), "room for warnings");
        let next = rig.pass(300).record("myapp", event("idle")).unwrap();
        assert_eq!(next.count, 101);
        assert!(rig.record("myapp", event("idle")).is_none());
        let other = rig.pass(300).record("myapp", event("other")).unwrap();
        assert_eq!(other.count, 2, "the first was counted");
    }

    #[test]
    fn a_name_is_one_that_the_api_server_takes_and_memory_has_a_limit() {
        let mut rig = Rig::new();
        let long = rig.record(&format!("{}-.tail", "a".repeat(235)), event("idle"));
        let name = long.unwrap().name;
        assert_eq!(name.len(), 235 + 1 + 16, "{name}");
        for object in 0..10_000 {
            rig.record(&object.to_string(), event("idle")).unwrap();
        }
        assert!(rig.0.series.len() <= MAX_SERIES && rig.0.buckets.len() <= MAX_SERIES);
    }
}
