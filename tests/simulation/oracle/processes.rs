//! The lifecycle of the processes, and the faults that affect them.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use zpa::clock::Time;

use super::Oracle;
use super::shadow::{Shadow, Shown};

impl Oracle {
    /// A process has started.
    pub fn started(&mut self, slot: usize, now: Time) {
        self.shadows.push(Shadow {
            slot,
            started: now,
            alive: true,
            stopped: false,
            renewing: BTreeMap::new(),
            lease: None,
            lease_ends: false,
            zero_shown: None,
            trouble: Time::default(),
            own_trouble: Time::default(),
            last_stop: None,
            stirred: now,
            read: Vec::new(),
            newest: 0,
            watches_since: None,
            shown: Shown::default(),
            open: 0,
            last_close: None,
            last_leased: None,
            requests: VecDeque::new(),
        });
    }

    /// A process has ended, and with it all that it had open.
    pub fn died(&mut self, pid: usize, now: Time) {
        if std::mem::take(&mut self.shadows[pid].open) > 0 {
            self.closed(pid, now);
        }
        self.shadows[pid].alive = false;
    }

    /// A process was stopped.
    pub fn stopped(&mut self, pid: usize, now: Time) {
        self.shadows[pid].stopped = true;
        self.shadows[pid].last_stop = Some(now);
    }

    /// It goes on.
    pub fn resumed(&mut self, pid: usize, now: Time) {
        let shadow = &mut self.shadows[pid];
        (shadow.stopped, shadow.trouble, shadow.stirred) = (false, now, now);
    }

    /// One request of that process will have met with trouble; `alone` if not
    /// because everybody's does.
    pub fn troubled(&mut self, pid: usize, until: Time, alone: bool) {
        let shadow = &mut self.shadows[pid];
        shadow.trouble = until.max(shadow.trouble);
        if alone {
            shadow.own_trouble = until.max(shadow.own_trouble);
        }
    }

    /// One place, or everybody, is in trouble until then.
    pub fn hit(&mut self, slot: Option<usize>, until: Time) {
        let trouble = match slot {
            Some(slot) => self.slots.entry(slot).or_default(),
            None => &mut self.world,
        };
        *trouble = until.max(*trouble);
    }

    /// The controllers are slow until then.
    pub fn slowed(&mut self, until: Time) {
        self.slow = until;
        self.hit(None, until + Duration::from_secs(30));
    }

    /// A pod that is listed fails until then.
    pub fn pod_fails(&mut self, until: Time) {
        self.pods_fail = until.max(self.pods_fail);
    }
}
