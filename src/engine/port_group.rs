//! A [`PortGroup`] is what the ports of an app share: how many connections each pod has over
//! all of them, the pod of each recent client, and the pace of a release.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};

use super::affinity::Affinity;
use crate::clock::Time;
use crate::rules::release::{Release, ReleaseRate};

/// What the ports of an app share.
#[derive(Default)]
pub struct PortGroup {
    /// The connections to each backend.
    pub pods: PodConnections,
    /// The backend of each recent client.
    pub affinity: Affinity,
    /// At how many ports each backend is listed.
    listed: RefCell<HashMap<Rc<str>, usize>>,
    release: Cell<Release>,
    /// How many of the ports are ready.
    ready: Cell<usize>,
}

/// How many connections there are to each backend, by [`BackendSpec::id`], which is that of the
/// pod at every port.
///
/// [`BackendSpec::id`]: super::BackendSpec::id
#[derive(Default)]
pub struct PodConnections(RefCell<HashMap<String, Weak<Cell<u32>>>>);

impl PodConnections {
    /// The number of connections to a backend, which every port of the group counts.
    pub fn of(&self, id: &str) -> Rc<Cell<u32>> {
        let mut pods = self.0.borrow_mut();
        if let Some(count) = pods.get(id).and_then(Weak::upgrade) {
            return count;
        }
        if pods.len() == pods.capacity() {
            // In place of growing: those of which no port has a backend any more.
            pods.retain(|_, count| count.strong_count() > 0);
        }
        let count = Rc::default();
        pods.insert(id.to_owned(), Rc::downgrade(&count));
        count
    }
}

impl PortGroup {
    /// A backend is listed at a port.
    pub fn note_listed(&self, id: &Rc<str>) {
        *self.listed.borrow_mut().entry(id.clone()).or_default() += 1;
    }

    /// It is listed there no more.
    pub fn note_unlisted(&self, id: &str) {
        let mut listed = self.listed.borrow_mut();
        if let Some(ports) = listed.get_mut(id) {
            *ports -= 1;
            if *ports == 0 {
                listed.remove(id);
            }
        }
    }

    /// Whether a backend is listed at any port.
    pub fn is_listed(&self, id: &str) -> bool {
        self.listed.borrow().contains_key(id)
    }

    /// Sets the rate. If it is another one, no release is in progress after that.
    pub fn set_release_rate(&self, rate: ReleaseRate) {
        if self.release.get().rate() != rate {
            self.release.set(Release::new(rate));
        }
    }

    /// A port is ready. A release that another port has begun goes on.
    pub fn begin_release(&self, now: Time) {
        let ready = self.ready.get();
        self.ready.set(ready + 1);
        let mut release = self.release.get();
        if ready == 0 || !release.is_in_progress() {
            release.begin(now);
            self.release.set(release);
        }
    }

    /// A port is not ready any more.
    pub fn note_unready(&self) {
        self.ready.set(self.ready.get().saturating_sub(1));
    }

    /// The release in progress, if there is one.
    pub fn release(&self) -> Release {
        self.release.get()
    }

    /// Counts a connection that is dialled.
    pub fn record_released(&self) {
        let mut release = self.release.get();
        release.record_released();
        self.release.set(release);
    }

    /// Ends the release. To be called when no connection is held.
    pub fn end_release(&self) {
        let mut release = self.release.get();
        release.end();
        self.release.set(release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Time = Time::from_millis;

    #[test]
    fn a_pod_has_one_count_at_all_ports_and_none_once_no_port_has_it() {
        let pods = PodConnections::default();
        let (one, other) = (pods.of("a"), pods.of("b"));
        one.set(3);
        assert_eq!((pods.of("a").get(), other.get()), (3, 0));
        drop(one);
        assert_eq!(pods.of("a").get(), 0);
        for name in 0..1000 {
            pods.of(&name.to_string());
        }
        assert!(pods.0.borrow().capacity() < 20, "no more than there are");
        assert_eq!(pods.of("b").get(), other.get());
    }

    #[test]
    fn a_port_that_is_ready_later_joins_the_release_and_the_next_wake_begins_anew() {
        let group = PortGroup::default();
        group.set_release_rate("2".parse().unwrap());
        group.begin_release(MS(0));
        group.record_released();
        group.begin_release(MS(100));
        group.set_release_rate("2".parse().unwrap());
        assert_eq!(group.release().next_at(), Some(MS(500)), "it is the same");
        group.end_release();
        group.note_unready();
        group.begin_release(MS(200));
        assert_eq!(group.release().next_at(), Some(MS(200)), "it had ended");
        group.record_released();
        group.note_unready();
        group.note_unready();
        group.begin_release(MS(9000));
        assert_eq!(group.release().next_at(), Some(MS(9000)), "another wake");
    }
}
