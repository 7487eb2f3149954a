//! The right to let connections through while other proxies may want to put
//! the app to sleep.
//!
//! A proxy *renews* by writing a token that nobody has written before onto
//! the Deployment. Whoever wants to scale to zero must have seen one and the
//! same token for a whole TTL, and must write under the version at which it was
//! seen last. So a proxy whose renewal was answered, with replicas above
//! zero, is safe for a TTL from the moment at which the token was written. That
//! moment is not known here, but it is not before the request was sent: the
//! *lease* is counted from there, and ends at 0.8 TTL, which leaves the rest to
//! clocks that run at different speeds.

use std::time::Duration;

use crate::backoff::Backoff;
use crate::clock::Time;
use crate::cluster::LeaseStore;

/// How long no renewal may have succeeded before connections are let
/// through all the same: if the API server is down for everybody, nobody can
/// put the app to sleep.
pub const FAIL_OPEN_AFTER: Duration = Duration::from_secs(2);

/// How late the end of these two seconds may be noticed. Later than this the
/// process did not run (SIGSTOP, suspend, starvation), and the answer may have
/// come meanwhile.
const LATE_WAKEUP: Duration = Duration::from_millis(200);

/// How many renewals a proxy may make in a TTL, beside those that fail.
const RENEWALS_PER_TTL: u32 = 10;

/// How long a renewal that has succeeded before must be forbidden until
/// that is believed: an API server that has just started refuses everything
/// until it has read the roles.
const BELIEVED_AFTER: Duration = Duration::from_secs(30);

/// For how long a failed renewal shows that the next one is going to fail
/// as well, so that those who come later need not wait for that.
pub(super) const FRESH: Duration = Duration::from_secs(10);

/// When to try again what was forbidden.
const FORBIDDEN_FOR: Duration = Duration::from_secs(300);

/// The state of a proxy's lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    pub(super) ttl: Duration,
    pub(super) until: Option<Time>,
    /// When the renewal that is on its way, or was the last one, was sent.
    pub(super) sent: Time,
    /// When the next renewal is to be sent, if one is.
    pub(super) due: Option<Time>,
    /// Where it is to be written; `None` where that is forbidden everywhere.
    pub(super) store: Option<LeaseStore>,
    /// When to try the first way again, if it is forbidden now.
    pub(super) retry_ways: Option<Time>,
    /// Whether a renewal has succeeded by the present way.
    pub(super) proven: bool,
    /// Since when the present way has been forbidden.
    pub(super) forbidden_since: Option<Time>,
    /// Since when somebody has waited for a lease that does not come.
    pub(super) sought_since: Option<Time>,
    /// Whether somebody waits now.
    pub(super) somebody_waits: bool,
    /// When a renewal has failed last.
    pub(super) failed: Time,
    /// What the server has asked for when it refused the last one.
    pub(super) not_before: Time,
    /// Whether the last renewal has failed, or is not answered yet.
    pub(super) unanswered: bool,
    pub(super) backoff: Backoff,
}

impl Lease {
    /// No lease, and nobody who needs one.
    pub fn new(ttl: Duration, seed: u64) -> Self {
        Lease {
            ttl,
            until: None,
            sent: Time::default(),
            due: None,
            store: Some(LeaseStore::Status),
            retry_ways: None,
            proven: false,
            forbidden_since: None,
            sought_since: None,
            somebody_waits: false,
            failed: Time::default(),
            not_before: Time::default(),
            unanswered: false,
            backoff: Backoff::new(seed),
        }
    }

    /// How long a lease lasts from the moment of sending.
    pub fn length(ttl: Duration) -> Duration {
        ttl * 4 / 5
    }

    /// How long after a renewal the next one is sent while there is a
    /// connection.
    pub fn renewal(ttl: Duration) -> Duration {
        ttl / 4
    }

    /// Whether nobody can put the app to sleep at this moment. Where renewing
    /// is forbidden, a proxy knows of no other and needs no lease.
    pub fn holds(&self, now: Time) -> bool {
        self.store.is_none() || self.until.is_some_and(|until| now < until)
    }

    /// How long it holds still; `None` where renewing is forbidden.
    pub fn left(&self, now: Time) -> Option<Duration> {
        let until = self.until.unwrap_or_default();
        self.store.map(|_| until.since(now))
    }

    /// Whether a lease was sought in vain for so long that connections are to be
    /// let through without it.
    pub fn fails_open(&self, now: Time) -> bool {
        let in_vain = self.fails_open_at().is_some_and(|at| now >= at);
        in_vain && !self.holds(now) && (self.somebody_waits || self.is_fresh(now))
    }

    /// When [`Lease::fails_open`] becomes true if nothing succeeds until then.
    pub fn fails_open_at(&self) -> Option<Time> {
        let since = self.sought_since.filter(|_| self.store.is_some());
        since.map(|since| since + FAIL_OPEN_AFTER)
    }

    /// When the next renewal is to be sent, if one is.
    pub fn due(&self) -> Option<Time> {
        self.due.filter(|_| self.store.is_some())
    }

    /// Where the renewal that is due is to be written.
    pub fn ask(&mut self, now: Time) -> Option<LeaseStore> {
        if self.retry_ways.is_some_and(|at| now >= at) {
            self.retry_ways = None;
            self.store = Some(LeaseStore::Status);
        }
        self.due.filter(|&due| due <= now).and(self.store)
    }

    /// A renewal is on its way.
    pub fn sent(&mut self, now: Time) {
        self.sent = now;
        self.due = None;
        self.unanswered = true;
    }

    /// Connections are open; some of them may wait. Nobody is let through
    /// without a lease before it was tried to get it: a pause that began when
    /// nobody waited is over.
    pub fn wanted(&mut self, waiting: bool, now: Time) {
        self.somebody_waits = waiting;
        if self.holds(now) {
            self.sought_since = None;
        } else if waiting {
            self.sought_since.get_or_insert(now);
            self.hurry(self.sent + FAIL_OPEN_AFTER);
        }
    }

    /// Starts the two seconds again if nobody was there to see them end: what
    /// failed then was this process, not the API server.
    pub fn restart_after_absence(&mut self, now: Time) {
        if self
            .fails_open_at()
            .is_some_and(|at| now > at + LATE_WAKEUP)
        {
            self.sought_since = Some(now);
        }
    }

    /// Nobody waits any more. Whoever comes next is let through like those
    /// before, for as long as the failure is fresh.
    pub fn unwanted(&mut self, now: Time) {
        self.somebody_waits = false;
        if !self.unanswered || !self.is_fresh(now) {
            self.sought_since = None;
        }
    }

    /// The API server has answered something else: what has failed before is
    /// worth a try at once, instead of after its pause.
    pub fn server_is_back(&mut self, now: Time) {
        self.hurry(now);
    }

    /// Has what has failed tried again no later than then, or as soon as the
    /// server allows.
    fn hurry(&mut self, at: Time) {
        if self.unanswered {
            let at = at.max(self.not_before);
            self.due = self.due.map(|due| due.min(at));
        }
    }

    /// Whether a renewal has failed just now.
    fn is_fresh(&self, now: Time) -> bool {
        now.since(self.failed) <= FRESH
    }

    /// Our last connection has ended: the other proxies' clocks are to start
    /// here, or a little later if the last renewal is young. Clients that
    /// come one after the other would else cost one each.
    pub fn last_close(&mut self, now: Time) {
        let paused = self.unanswered && self.due.is_some();
        if !paused {
            self.due = Some(now.max(self.sent + self.ttl / RENEWALS_PER_TTL));
        }
    }

    /// Keeps the lease up while a connection lives.
    pub fn keep_up(&mut self, now: Time) {
        if self.unanswered {
            return;
        }
        let at = if self.holds(now) {
            self.sent + Self::renewal(self.ttl)
        } else {
            now
        };
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// The renewal was written, and the app is awake.
    pub fn granted(&mut self) {
        self.until = Some(self.sent + Self::length(self.ttl));
        self.sought_since = None;
        self.proven = true;
        self.forbidden_since = None;
        self.unanswered = false;
        self.backoff.reset();
    }

    /// The app is at zero: there is nothing that needs one.
    pub fn void(&mut self) {
        self.until = None;
        self.due = None;
        self.sought_since = None;
        self.unanswered = false;
    }

    /// The renewal has failed; `at_least` is what the server asks for.
    pub fn failed(&mut self, at_least: Duration, longest: Duration, now: Time) {
        self.unanswered = true;
        self.failed = now;
        self.not_before = now + at_least;
        self.due = Some(self.not_before.max(now + self.backoff.pause(longest)));
    }

    /// The renewal is forbidden. Falls back to the next way, if there is
    /// one, and returns whether it has; if the present way has worked before,
    /// only once that is believed.
    pub fn forbidden(&mut self, longest: Duration, now: Time) -> bool {
        let since = *self.forbidden_since.get_or_insert(now);
        if self.proven && now.since(since) < BELIEVED_AFTER {
            self.failed(Duration::ZERO, longest, now);
            return false;
        }
        self.store = match self.store {
            Some(LeaseStore::Status) => Some(LeaseStore::Annotation),
            _ => None,
        };
        self.retry_ways.get_or_insert(now + FORBIDDEN_FOR);
        self.due = Some(now);
        self.unanswered = false;
        self.proven = false;
        self.forbidden_since = None;
        true
    }

    /// Where renewals are written now; `None` for nowhere.
    pub fn store(&self) -> Option<LeaseStore> {
        self.store
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(100);

    fn at(seconds: u64) -> Time {
        Time::new(Duration::from_secs(seconds))
    }

    fn granted(sent: Time) -> Lease {
        let mut lease = Lease::new(TTL, 1);
        lease.sent(sent);
        lease.granted();
        lease
    }

    #[test]
    fn lease_is_counted_from_the_sending_and_ends_at_four_fifths_of_the_ttl() {
        let lease = granted(at(1000));
        assert!(lease.holds(at(1079)));
        assert!(!lease.holds(at(1080)));
    }

    #[test]
    fn what_is_left_of_it_ends_with_it_and_is_nothing_where_there_is_none_to_be_had() {
        let lease = granted(at(1000));
        assert_eq!(lease.left(at(1020)), Some(Duration::from_secs(60)));
        assert_eq!(lease.left(at(1081)), Some(Duration::ZERO));
        assert_eq!(Lease::new(TTL, 1).left(at(5)), Some(Duration::ZERO));
        let mut forbidden = Lease::new(TTL, 1);
        while forbidden.store().is_some() {
            forbidden.forbidden(TTL, at(10));
        }
        assert_eq!(forbidden.left(at(11)), None);
    }

    #[test]
    fn there_is_none_before_the_answer_and_none_once_the_app_is_at_zero() {
        let mut lease = Lease::new(TTL, 1);
        lease.sent(at(1000));
        assert!(!lease.holds(at(1001)));
        lease.granted();
        lease.void();
        assert!(!lease.holds(at(1001)));
    }

    #[test]
    fn it_is_renewed_at_a_quarter_of_the_ttl_while_a_connection_lives() {
        let mut lease = granted(at(1000));
        lease.keep_up(at(1001));
        assert_eq!(lease.due(), Some(at(1025)));
        assert_eq!(lease.ask(at(1024)), None);
        assert_eq!(lease.ask(at(1025)), Some(LeaseStore::Status));
    }

    #[test]
    fn clients_that_come_one_after_the_other_cost_ten_renewals_a_ttl() {
        let mut lease = granted(at(1000));
        let mut sent = 0;
        for now in (1000..1100).map(at) {
            lease.keep_up(now);
            lease.last_close(now);
            if lease.ask(now).is_some() {
                lease.sent(now);
                lease.granted();
                sent += 1;
            }
        }
        assert_eq!(sent, 9, "at 1010, 1020 and so on");
    }

    #[test]
    fn two_seconds_in_vain_let_connections_through_and_not_a_moment_less() {
        let mut lease = Lease::new(TTL, 1);
        lease.wanted(true, at(10));
        lease.failed(Duration::ZERO, TTL, at(10));
        assert!(!lease.fails_open(at(11)));
        assert!(lease.fails_open(at(12)));
        lease.unwanted(at(12));
        assert!(lease.fails_open(at(13)), "the next one need not wait anew");
        lease.sent(at(14));
        lease.granted();
        assert!(
            !lease.fails_open(at(1000)),
            "a success ends it, also after the lease has"
        );
    }

    #[test]
    fn two_seconds_whose_end_nobody_was_there_to_see_begin_again() {
        let mut lease = Lease::new(TTL, 1);
        lease.wanted(true, at(10));
        lease.restart_after_absence(at(12));
        assert!(lease.fails_open(at(12)));
        lease.restart_after_absence(at(30));
        assert!(!lease.fails_open(at(30)));
        assert!(lease.fails_open(at(32)));
    }

    #[test]
    fn what_is_forbidden_in_one_place_is_written_to_another_and_in_the_end_nowhere() {
        let mut lease = Lease::new(TTL, 1);
        lease.last_close(at(10));
        assert_eq!(lease.ask(at(10)), Some(LeaseStore::Status));
        assert!(lease.forbidden(TTL, at(10)));
        assert_eq!(lease.ask(at(10)), Some(LeaseStore::Annotation));
        assert!(!lease.holds(at(10)));
        assert!(lease.forbidden(TTL, at(10)));
        assert_eq!(lease.store(), None);
        assert!(lease.holds(at(10)), "it knows of no other proxy");
        assert_eq!(lease.due(), None);
        assert_eq!(
            lease.ask(at(310)),
            Some(LeaseStore::Status),
            "five minutes later it tries again"
        );
    }
}
