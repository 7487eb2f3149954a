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
/// How much later than it is asked for a renewal may be sent: it waits so long for a read.
const SENT_LATER: Duration = Duration::from_millis(4);
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
    /// lease that it knew of. It claims a lease until `claimed`: less than its renewals would
    /// give only if it has no connection, so that a renewal shows what is left of its lease
    /// and lengthens it not, or has been shown that the app is at zero.
    pub fn turned(&mut self, pid: usize, claimed: Time, now: Time) {
        let shadow = &mut self.shadows[pid];
        if std::mem::take(&mut shadow.lease_ends) {
            shadow.lease = None;
        }
        let Some((sent, until)) = shadow.lease else {
            return;
        };
        if claimed + ROUNDING >= until {
            return;
        }
        shadow.lease = Some((sent, claimed));
        let is_over = shadow.zero_shown.is_some_and(|shown| shown >= sent);
        if shadow.open > 0 && !is_over && claimed + SENT_LATER + ROUNDING < until {
            let what = format!("p{pid} claims a lease until {claimed:?}, and has one to {until:?}");
            let rule = "a proxy with connections uses the lease that it has renewed";
            self.violated(rule, what, now);
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
