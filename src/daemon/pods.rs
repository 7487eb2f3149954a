//! [`Pods`]: the pods of a Service, and which of them may be dialled.
//!
//! After a scale to zero, EndpointSlices list the old pods as ready for a while, although they will
//! be killed. Those pods are *quarantined*: after a wake they are not dialled until they leave the
//! list, or have stayed ready for [`QUARANTINE_AFTER_WAKE`]. They do stay if the scale goes from
//! one to zero and back so fast that the controller never deletes the pod.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::clock::Time;
use crate::cluster::Pod;

/// How long a quarantined pod must have been ready, with the scale above zero, to be
/// released: several times as long as the controllers take to mark a pod as terminating.
pub const QUARANTINE_AFTER_WAKE: Duration = Duration::from_secs(2);

/// The pods behind the Service, and those among them that are quarantined.
#[derive(Default)]
pub struct Pods {
    listed: Vec<Pod>,
    /// Quarantined pods by UID, with the time since which each has been ready.
    quarantined: HashMap<String, Option<Time>>,
    /// The UIDs of the pods that were listed as ready. One of them that is not ready now is not
    /// starting.
    were_ready: HashSet<String>,
    /// The UIDs of pods that were never ready and have accepted a connection.
    accepting: HashSet<String>,
    /// When the scale was first seen above zero.
    awake_since: Option<Time>,
    /// When the first list after that was received.
    listed_awake: Option<Time>,
}

impl Pods {
    /// Replaces the list. Returns whether pods have come or gone.
    pub fn update(&mut self, listed: Vec<Pod>, now: Time) -> bool {
        self.end_quarantines(now);
        if self.awake_since.is_some() {
            self.listed_awake.get_or_insert(now);
        }
        let is_ready = |uid: &str| listed.iter().any(|pod| pod.uid == uid && pod.is_ready());
        self.quarantined
            .retain(|uid, _| listed.iter().any(|pod| pod.uid == *uid));
        for (uid, ready_since) in &mut self.quarantined {
            *ready_since = is_ready(uid).then(|| ready_since.unwrap_or(now));
        }
        let is_listed = |uid: &str| listed.iter().any(|pod| pod.uid == uid);
        self.were_ready.retain(|uid| is_listed(uid));
        let ready = listed.iter().filter(|pod| pod.is_ready());
        self.were_ready.extend(ready.map(|pod| pod.uid.clone()));
        let were_ready = &self.were_ready;
        let starts = |uid: &str| {
            let is_it = |pod: &Pod| pod.uid == uid && !pod.unready_addresses.is_empty();
            !were_ready.contains(uid) && listed.iter().any(is_it)
        };
        self.accepting.retain(|uid| starts(uid));
        fn uids(pods: &[Pod]) -> impl Iterator<Item = &str> {
            pods.iter().map(|pod| pod.uid.as_str())
        }
        let have_changed = uids(&self.listed).ne(uids(&listed));
        self.listed = listed;
        have_changed
    }

    /// Records that a starting pod has accepted a connection. The report may be of before a sleep.
    pub fn accepts(&mut self, uid: String, now: Time) {
        let may_be_dialled = |pod: &Pod| self.is_starting(pod) && !self.is_quarantined(pod, now);
        let mut listed = self.listed.iter();
        if listed.any(|pod| pod.uid == uid && may_be_dialled(pod)) {
            self.accepting.insert(uid);
        }
    }

    /// The number of listed pods, ready or not.
    pub fn listed(&self) -> usize {
        self.listed.len()
    }

    /// Quarantines every listed pod, because the scale was seen at zero.
    pub fn quarantine(&mut self, now: Time) {
        self.awake_since = None;
        self.listed_awake = None;
        self.accepting.clear();
        for pod in &self.listed {
            let ready_since = self.quarantined.entry(pod.uid.clone()).or_default();
            *ready_since = pod.is_ready().then(|| ready_since.unwrap_or(now));
        }
    }

    /// From now on the quarantine of pods that stay ready can end, because the scale was seen
    /// above zero. Returns whether a new list is needed for that: the old one may come from a
    /// watch on a dead connection.
    pub fn set_awake(&mut self, now: Time) -> bool {
        let is_new = self.awake_since.is_none();
        self.awake_since.get_or_insert(now);
        is_new && !self.quarantined.is_empty()
    }

    /// Whether the list is awaited with which the quarantine of pods that stay ready can end.
    pub fn awaits_list(&self) -> bool {
        let is_listed = self.listed_awake.is_some();
        self.awake_since.is_some() && !is_listed && !self.quarantined.is_empty()
    }

    /// The pods that may be dialled: the ready ones, or else those that have accepted.
    pub fn dialable(&self, now: Time) -> impl Iterator<Item = &Pod> {
        let has_ready = self.has_ready(now);
        let may_dial = move |pod: &&Pod| match has_ready {
            true => self.is_ready(pod, now),
            false => self.accepting.contains(&pod.uid),
        };
        self.listed.iter().filter(may_dial)
    }

    /// The starting pods, if no pod may be dialled; without pods from before the sleep.
    pub fn starting(&self, now: Time) -> impl Iterator<Item = &Pod> {
        let is_awaited = !self.has_ready(now) && self.accepting.is_empty();
        let may_try = move |pod: &&Pod| self.is_starting(pod) && !self.is_quarantined(pod, now);
        self.listed
            .iter()
            .filter(move |_| is_awaited)
            .filter(may_try)
    }

    fn is_starting(&self, pod: &Pod) -> bool {
        !pod.unready_addresses.is_empty() && !self.were_ready.contains(&pod.uid)
    }

    fn has_ready(&self, now: Time) -> bool {
        self.listed.iter().any(|pod| self.is_ready(pod, now))
    }

    fn is_ready(&self, pod: &Pod, now: Time) -> bool {
        pod.is_ready() && !self.is_quarantined(pod, now)
    }

    /// When [`Pods::dialable`] changes without an update.
    pub fn poll_timeout(&self, now: Time) -> Option<Time> {
        let ends = self
            .quarantined
            .values()
            .filter_map(|&since| quarantine_end(since, self.listed_awake));
        ends.filter(|&at| at > now).min()
    }

    /// Releases the pods whose time has passed.
    fn end_quarantines(&mut self, now: Time) {
        let listed = self.listed_awake;
        self.quarantined
            .retain(|_, &mut since| quarantine_end(since, listed).is_none_or(|at| now < at));
    }

    fn is_quarantined(&self, pod: &Pod, now: Time) -> bool {
        self.quarantined.get(&pod.uid).is_some_and(|&ready_since| {
            quarantine_end(ready_since, self.listed_awake).is_none_or(|at| now < at)
        })
    }
}

/// When the quarantine of a pod ends that has been ready since `ready_since`;
/// `listed_awake` is the time of the first list after the wake.
fn quarantine_end(ready_since: Option<Time>, listed_awake: Option<Time>) -> Option<Time> {
    Some(ready_since?.max(listed_awake?) + QUARANTINE_AFTER_WAKE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, ready: bool) -> Pod {
        let last = name.bytes().next_back().unwrap_or(0);
        let address = ([10, 0, 0, last], 80).into();
        Pod {
            uid: name.to_owned(),
            addresses: ready.then_some(address).into_iter().collect(),
            unready_addresses: (!ready).then_some(address).into_iter().collect(),
            ..Pod::default()
        }
    }

    /// The UIDs of those that are tried.
    fn starting(pods: &Pods, now: Time) -> Vec<&str> {
        pods.starting(now).map(|pod| pod.uid.as_str()).collect()
    }

    /// The UIDs of those that may be dialled.
    fn dialable(pods: &Pods, now: Time) -> Vec<&str> {
        pods.dialable(now).map(|pod| pod.uid.as_str()).collect()
    }

    fn at(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    #[test]
    fn only_ready_pods_are_dialled() {
        let mut pods = Pods::default();
        pods.update(vec![pod("a", true), pod("b", false)], at(0));
        assert_eq!(dialable(&pods, at(0)), ["a"]);
    }

    #[test]
    fn a_pod_that_accepts_is_dialled_as_long_as_none_is_ready() {
        let mut pods = Pods::default();
        pods.update(vec![pod("a", false), pod("b", false)], at(0));
        assert_eq!(starting(&pods, at(0)), ["a", "b"]);
        pods.accepts("b".to_owned(), at(0));
        assert_eq!(dialable(&pods, at(0)), ["b"]);
        assert!(starting(&pods, at(0)).is_empty(), "one is enough");
        pods.update(vec![pod("a", true), pod("b", false)], at(1));
        assert_eq!(
            dialable(&pods, at(1)),
            ["a"],
            "a pod that the kubelet calls ready goes first"
        );
        assert!(starting(&pods, at(1)).is_empty());
    }

    #[test]
    fn once_a_pod_was_ready_what_it_accepted_before_counts_no_more() {
        let mut pods = Pods::default();
        pods.update(vec![pod("a", false)], at(0));
        pods.accepts("a".to_owned(), at(0));
        pods.update(vec![pod("a", true)], at(1));
        pods.update(vec![pod("a", false)], at(2));
        assert!(dialable(&pods, at(2)).is_empty());
        assert!(starting(&pods, at(2)).is_empty(), "it wants no connections");
    }

    #[test]
    fn no_pod_of_before_the_sleep_is_tried() {
        let mut pods = Pods::default();
        pods.update(vec![pod("a", false), pod("b", false)], at(0));
        pods.accepts("a".to_owned(), at(0));
        pods.quarantine(at(1));
        pods.set_awake(at(2));
        pods.update(
            vec![pod("a", false), pod("b", false), pod("c", false)],
            at(3),
        );
        assert!(dialable(&pods, at(3)).is_empty());
        assert_eq!(starting(&pods, at(3)), ["c"]);
    }

    #[test]
    fn a_pod_that_has_left_or_terminates_accepts_in_vain() {
        let mut pods = Pods::default();
        let mut ending = pod("a", false);
        ending.unready_addresses.clear();
        pods.update(vec![ending], at(0));
        pods.accepts("a".to_owned(), at(0));
        pods.accepts("gone".to_owned(), at(0));
        assert!(dialable(&pods, at(0)).is_empty() && starting(&pods, at(0)).is_empty());
    }

    #[test]
    fn a_pod_of_before_the_sleep_is_not_dialled_after_the_wake() {
        let mut pods = Pods::default();
        pods.update(vec![pod("old", true)], at(0));
        pods.quarantine(at(10));
        assert!(
            dialable(&pods, at(9_000_000)).is_empty(),
            "while the scale is zero: never"
        );
        pods.set_awake(at(10_000_000));
        assert!(dialable(&pods, at(10_000_000)).is_empty());
    }

    /// The dial had begun before the scale was seen at zero.
    #[test]
    fn a_pod_that_accepts_after_the_sleep_is_not_dialled_after_the_wake() {
        let mut pods = Pods::default();
        pods.update(vec![pod("old", false)], at(0));
        pods.quarantine(at(10));
        pods.accepts("old".to_owned(), at(11));
        pods.set_awake(at(20));
        assert!(dialable(&pods, at(20)).is_empty());
    }

    #[test]
    fn a_pod_that_comes_after_the_wake_is_dialled_at_once() {
        let mut pods = Pods::default();
        pods.update(vec![pod("old", true)], at(0));
        pods.quarantine(at(10));
        pods.set_awake(at(20));
        pods.update(vec![pod("old", true), pod("new", true)], at(30));
        assert_eq!(dialable(&pods, at(30)), ["new"]);
    }

    #[test]
    fn a_lasting_pod_is_dialled_two_seconds_after_the_wake_and_not_before() {
        let mut pods = Pods::default();
        pods.update(vec![pod("lasting pod", true)], at(0));
        pods.quarantine(at(10));
        assert!(pods.set_awake(at(90)), "a list is wanted");
        assert_eq!(pods.poll_timeout(at(90)), None, "the old one may be stale");
        pods.update(vec![pod("lasting pod", true)], at(100));
        assert_eq!(pods.poll_timeout(at(100)), Some(at(2100)));
        assert!(dialable(&pods, at(2099)).is_empty());
        assert_eq!(dialable(&pods, at(2100)).len(), 1);
        assert_eq!(pods.poll_timeout(at(2100)), None);
    }

    #[test]
    fn a_quarantined_pod_that_stops_being_ready_begins_its_two_seconds_again() {
        let mut pods = Pods::default();
        pods.update(vec![pod("a", true)], at(0));
        pods.quarantine(at(0));
        pods.set_awake(at(0));
        pods.update(vec![pod("a", false)], at(1000));
        pods.update(vec![pod("a", true)], at(1500));
        assert!(dialable(&pods, at(3499)).is_empty());
        assert_eq!(dialable(&pods, at(3500)).len(), 1);
    }

    #[test]
    fn a_pod_that_left_is_forgotten() {
        let mut pods = Pods::default();
        pods.update(vec![pod("a", true)], at(0));
        pods.quarantine(at(0));
        pods.update(vec![], at(5));
        pods.set_awake(at(10));
        pods.update(vec![pod("a", true)], at(20));
        assert_eq!(dialable(&pods, at(20)).len(), 1);
    }

    #[test]
    fn a_lasting_pod_leaves_the_quarantine_for_good() {
        let mut pods = Pods::default();
        pods.update(vec![pod("a", true)], at(0));
        pods.quarantine(at(0));
        pods.set_awake(at(90));
        pods.update(vec![pod("a", true)], at(100));
        pods.update(vec![pod("a", false)], at(3_600_000));
        pods.update(vec![pod("a", true)], at(3_601_000));
        assert_eq!(dialable(&pods, at(3_601_000)).len(), 1);
    }

    #[test]
    fn seeing_the_same_zero_again_does_not_prolong_anything_after_the_wake() {
        let mut pods = Pods::default();
        pods.update(vec![pod("a", true)], at(0));
        pods.quarantine(at(0));
        pods.set_awake(at(90));
        pods.update(vec![pod("a", true)], at(100));
        assert!(!pods.set_awake(at(900)));
        assert_eq!(dialable(&pods, at(2100)).len(), 1);
    }
}
