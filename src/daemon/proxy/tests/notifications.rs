//! The events of which others are notified.

use super::*;

impl Rig {
    /// The events so far.
    fn notified(&self) -> Vec<String> {
        let calls = self.calls.borrow();
        let events = calls
            .iter()
            .filter_map(|(_, call)| call.strip_prefix("notify: "));
        events.map(str::to_owned).collect()
    }

    /// Sees the shop at zero, and a connection to it.
    fn begin_wake(&mut self) {
        self.count(SHOP, 1);
        self.turn(&[], 1);
        self.reply(SHOP, Outcome::Scale(Scale::of(0, "2")), 1);
    }

    /// The wake is written, the lease renewed, and a pod ready.
    fn end_wake(&mut self, second: u64) {
        for version in ["3", "4"] {
            self.reply(SHOP, Outcome::Scale(Scale::of(1, version)), second);
        }
        self.turn(&[(SHOP, pods(0))], second);
    }
}

#[test]
fn a_wake_and_its_end_are_notified_once() {
    let mut rig = Rig::new();
    rig.begin_wake();
    rig.count(SHOP, 2);
    rig.turn(&[], 2);
    assert_eq!(rig.notified(), ["waking at Some(0)"]);
    rig.end_wake(3);
    rig.turn(&[], 310);
    let events = ["waking at Some(0)", "awake at Some(1)"];
    assert_eq!(rig.notified(), events, "it has not failed");
}

#[test]
fn a_wake_without_a_pod_has_failed_at_the_hold_limit() {
    let mut rig = Rig::new();
    rig.begin_wake();
    rig.reply(SHOP, Outcome::Scale(Scale::of(1, "3")), 2);
    rig.turn(&[], 300);
    assert_eq!(rig.notified(), ["waking at Some(0)"]);
    let until = rig.proxy.poll_timeout().expect("a deadline");
    assert!(until <= at(301), "{until:?}");
    rig.turn(&[], 301);
    let events = ["waking at Some(0)", "wake-failed at Some(1)"];
    assert_eq!(rig.notified(), events);
}
