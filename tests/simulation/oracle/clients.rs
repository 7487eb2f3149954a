//! The rules about clients: which results are allowed, and when a connection may be cut.

use zpa::clock::Time;
use zpa::daemon::pods::QUARANTINE_AFTER_WAKE;

use super::{Dial, Oracle};
use crate::deployment::{Change, Who};
use crate::pods::Cause;
use crate::sockets::End;

/// The result for a client, by the rule that allows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClientResult {
    /// It got every byte.
    Served,
    /// It has reset the connection itself.
    ResetByItself,
    /// No proxy was there to connect to.
    NoProxy,
    /// No pod took it up to the hold limit.
    HoldLimit,
    /// Its proxy was killed.
    ProxyKilled,
    /// Its proxy has been drained past the deadline.
    Drained,
    /// Its pod has crashed.
    PodCrashed,
    /// Its pod was killed by an operator, or by a controller that is not ours.
    ScaledByOthers,
    /// A proxy with a shorter TTL has put the app to sleep that has seen no lease of
    /// its proxy: other renewals have hidden them, and its proxy was stopped or in
    /// trouble, so that it could not renew again.
    LeaseHidden,
    /// Its proxy was stopped for so long that its lease has run out.
    ProxyStopped,
    /// Its proxy could not renew for longer than its lease, others could:
    /// the unavoidable loss.
    CutOff,
    /// It was let through without a lease, because its proxy could not renew.
    FailedOpen,
    /// The controllers have left a pod listed as ready for longer after a wake
    /// than any pod that is about to die should be.
    SlowControllers,
}

impl Oracle {
    /// Records a result that needs no excuse.
    pub fn record_result(&mut self, result: ClientResult) {
        *self.results.entry(result).or_default() += 1;
    }

    /// A proxy has closed a client's connection; the pod that it had last
    /// dialled for it has ended because of `cause`, if it has.
    pub fn ended(
        &mut self,
        client: usize,
        pid: usize,
        end: End,
        dial: Option<Dial>,
        cause: Option<Cause>,
        now: Time,
    ) {
        self.closed(pid, now);
        let result = match (end, cause) {
            (End::Finished, _) => Some(ClientResult::Served),
            (End::ClientGone, _) => Some(ClientResult::ResetByItself),
            (End::HeldTooLong, _) => Some(ClientResult::HoldLimit),
            (End::Drained, _) => Some(ClientResult::Drained),
            (End::BackendGone, Some(Cause::Crashed)) => Some(ClientResult::PodCrashed),
            (
                End::BackendGone,
                Some(Cause::Scaled(Change {
                    by: Who::Proxy(_),
                    at,
                    ..
                })),
            ) => self.cut_by_a_sleep(pid, at, dial),
            (End::BackendGone, Some(Cause::Scaled(_))) => Some(ClientResult::ScaledByOthers),
            (End::BackendGone, None) => None,
        };
        match result {
            Some(result) => self.record_result(result),
            None => {
                let what = format!("c{client} at p{pid}, {dial:?}: {end:?} by {cause:?}");
                self.violated("nobody is cut off by a sleep", what, now);
            }
        }
    }

    /// A connection that went to the pod after the sleep went to one that was
    /// about to die.
    fn cut_by_a_sleep(&self, pid: usize, slept: Time, dial: Option<Dial>) -> Option<ClientResult> {
        match (dial, self.excuses.get(&(slept, pid))) {
            (Some(dial), _) if !dial.leased => Some(ClientResult::FailedOpen),
            (Some(dial), Some(&excuse)) if dial.at < slept => Some(excuse),
            // Its lease counts as valid until it receives the reply that shows the sleep.
            (Some(_), Some(&excuse @ ClientResult::LeaseHidden)) => Some(excuse),
            (Some(dial), _) if slept < self.slow && dial.at >= slept + QUARANTINE_AFTER_WAKE => {
                Some(ClientResult::SlowControllers)
            }
            _ => None,
        }
    }
}
