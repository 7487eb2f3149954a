//! The rules about the connections of a process, and the lease that they need.

use std::time::Duration;

use zpa::clock::Time;

use super::Oracle;

/// A dial.
#[derive(Clone, Copy, Debug)]
pub struct Dial {
    /// When it began.
    pub at: Time,
    /// Whether under a lease.
    pub leased: bool,
}

/// How far a time may be off that was converted from one clock to another.
const ROUNDING: Duration = Duration::from_millis(1);

impl Oracle {
    /// What it has open now.
    pub fn open(&mut self, pid: usize, open: usize) {
        self.shadows[pid].open = open;
    }

    /// Whoever leaves before there is a lease has left too early to stop a sleep
    /// that was on its way when he came.
    pub(super) fn closed(&mut self, pid: usize, now: Time) {
        let leased = self.has_lease(pid, now);
        let shadow = &mut self.shadows[pid];
        shadow.last_close = Some(now);
        if leased {
            shadow.last_leased = Some(now);
        }
    }

    /// It dials for a client; whether under a lease.
    pub fn dialled(&mut self, pid: usize, now: Time) -> bool {
        let leased = self.has_lease(pid, now);
        if !leased && !self.may_lack_lease(pid, now) {
            let lease = self.shadows[pid].lease;
            let what = format!("p{pid} dials, and its lease is {lease:?}");
            self.violated("nothing is forwarded without a lease", what, now);
        }
        leased
    }

    /// It has read all replies. What it has dialled before it did was under the
    /// lease that it knew of. It may claim less of a lease than its renewals would give,
    /// here until `claimed`: it lets nothing through without one.
    pub fn turned(&mut self, pid: usize, claimed: Time) {
        let shadow = &mut self.shadows[pid];
        if std::mem::take(&mut shadow.lease_ends) {
            shadow.lease = None;
        }
        if let Some((_, until)) = &mut shadow.lease
            && claimed + ROUNDING < *until
        {
            *until = claimed;
        }
    }

    pub(super) fn has_lease(&self, pid: usize, now: Time) -> bool {
        self.shadows[pid]
            .lease
            .is_some_and(|(_, until)| now < until)
    }

    fn may_lack_lease(&self, pid: usize, now: Time) -> bool {
        self.is_in_trouble(pid, now)
    }
}
