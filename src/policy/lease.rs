//! The lease: whether other proxies leave the app awake for this one.
//!
//! A proxy *renews* its lease by writing a token that nobody has written before onto
//! the scale target. Whoever wants to scale to zero must have seen one and the same
//! token for a whole TTL, and must write under the version at which it was seen last.
//! So a proxy whose renewal was answered, with replicas above zero, is safe for a TTL
//! from the moment at which the token was written. That moment is not known here, but
//! it is not before the request was sent: the lease is counted from there, and ends
//! at 0.8 TTL, which leaves the rest to clocks that run at different speeds.
//!
//! Where no renewal succeeds, connections are let through without a lease after two
//! seconds: an API server that is down for everybody lets nobody scale to zero.
//! Where renewing is not allowed in any place, they are let through at once. Either
//! is counted by the daemon, which asks [`Lease::holds`].

use std::time::Duration;

use super::config::{Config, LONGEST_PAUSE_WAITING, POLL_FORBIDDEN};
use super::permission::{PermissionState, retry_after};
use crate::backoff::Backoff;
use crate::clock::Time;
use crate::cluster::LeaseStore;

/// How long no renewal may have succeeded before connections are let
/// through all the same.
pub const FAIL_OPEN_AFTER: Duration = Duration::from_secs(2);

/// How late the end of these two seconds may be noticed. Later than this the
/// process did not run (SIGSTOP, suspend, starvation), and the answer may have
/// come meanwhile.
const LATE_WAKEUP: Duration = Duration::from_millis(200);

/// How many renewals a proxy may make in a TTL, beside those that fail.
const RENEWALS_PER_TTL: u32 = 10;

/// For how long a failed renewal shows that the next one is going to fail
/// as well, so that those who come later need not wait for that.
pub(super) const FRESH: Duration = Duration::from_secs(10);

/// The state of a proxy's lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    pub(super) ttl: Duration,
    /// Whether one is needed: whether there may be other proxies.
    pub(super) needed: bool,
    /// Whether it may be written to the status at all.
    pub(super) uses_status: bool,
    pub(super) believed_after: Duration,
    pub(super) until: Option<Time>,
    /// When the renewal that is on its way, or was the last one, was sent.
    pub(super) sent: Time,
    /// When the next renewal is to be sent, if one is.
    pub(super) due: Option<Time>,
    /// The permission to write it into the status.
    pub(super) status: PermissionState,
    /// The permission to write it into an annotation.
    pub(super) annotation: PermissionState,
    /// Since when somebody has waited for a lease that does not come.
    pub(super) unavailable_since: Option<Time>,
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
    pub fn new(config: &Config, seed: u64) -> Self {
        Lease {
            ttl: config.idle_ttl,
            needed: !config.single,
            uses_status: config.lease_store == LeaseStore::Status,
            believed_after: config.refusal_believed_after,
            until: None,
            sent: Time::default(),
            due: None,
            status: PermissionState::Granted,
            annotation: PermissionState::Granted,
            unavailable_since: None,
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

    /// Whether nobody can put the app to sleep at this moment, or there is nobody
    /// else.
    pub fn holds(&self, now: Time) -> bool {
        !self.needed || self.until.is_some_and(|until| now < until)
    }

    /// How long it holds still; `None` where none is needed.
    pub fn left(&self, now: Time) -> Option<Duration> {
        let until = self.until.unwrap_or_default();
        self.needed.then(|| until.since(now))
    }

    /// Whether connections are to be let through without a lease: one was sought in
    /// vain for long enough, or there is none to be had.
    pub fn fails_open(&self, now: Time) -> bool {
        if self.holds(now) {
            return false;
        }
        let in_vain = self.fails_open_at().is_some_and(|at| now >= at);
        self.store().is_none() || (in_vain && (self.somebody_waits || self.is_fresh(now)))
    }

    /// Until when connections pass that pass now, under a lease or without, if that
    /// ends though nothing happens.
    pub fn passes_until(&self, now: Time) -> Option<Time> {
        if self.holds(now) {
            return self.until.filter(|_| self.needed);
        }
        let passes_anyway = self.store().is_none() || self.somebody_waits;
        // The failure is fresh up to and including that time.
        (!passes_anyway).then(|| self.failed + FRESH + Duration::from_millis(1))
    }

    /// When [`Lease::fails_open`] becomes true if nothing succeeds until then.
    pub fn fails_open_at(&self) -> Option<Time> {
        let since = self.unavailable_since.filter(|_| self.store().is_some());
        since.map(|since| since + FAIL_OPEN_AFTER)
    }

    // --- Where it is written ---

    /// Where it is written now; `None` where that is missing everywhere.
    pub fn store(&self) -> Option<LeaseStore> {
        if self.uses_status && !self.status.is_missing() {
            Some(LeaseStore::Status)
        } else if !self.annotation.is_missing() {
            Some(LeaseStore::Annotation)
        } else {
            None
        }
    }

    fn permission(&mut self, store: LeaseStore) -> &mut PermissionState {
        match store {
            LeaseStore::Status => &mut self.status,
            LeaseStore::Annotation => &mut self.annotation,
        }
    }

    /// Where to try it now: in the first place that is not missing, or missing for so
    /// long that it is tried again. Where all are missing, the one that was tried first.
    fn next_store(&self, now: Time) -> LeaseStore {
        if self.uses_status && self.status.may_be_asked(now) {
            LeaseStore::Status
        } else if !self.uses_status
            || self.annotation.may_be_asked(now)
            || self.annotation.next_attempt() < self.status.next_attempt()
        {
            LeaseStore::Annotation
        } else {
            LeaseStore::Status
        }
    }

    // --- When it is renewed ---

    /// When the next renewal is to be sent, if one is.
    pub fn due(&self) -> Option<Time> {
        self.due
    }

    /// Where the renewal that is due is to be written.
    pub fn ask(&self, now: Time) -> Option<LeaseStore> {
        let is_due = self.due.is_some_and(|due| due <= now);
        is_due.then(|| self.next_store(now))
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
            self.unavailable_since = None;
        } else if waiting {
            self.unavailable_since.get_or_insert(now);
            self.not_before = self.not_before.min(now + LONGEST_PAUSE_WAITING);
            self.advance_retry(self.sent + FAIL_OPEN_AFTER);
        }
    }

    /// Starts the two seconds again if nobody was there to see them end: what
    /// failed then was this process, not the API server.
    pub fn restart_after_absence(&mut self, now: Time) {
        if self
            .fails_open_at()
            .is_some_and(|at| now > at + LATE_WAKEUP)
        {
            self.unavailable_since = Some(now);
        }
    }

    /// Nobody waits any more. Whoever comes next is let through like those
    /// before, for as long as the failure is fresh.
    pub fn unwanted(&mut self, now: Time) {
        self.somebody_waits = false;
        if !self.unanswered || !self.is_fresh(now) {
            self.unavailable_since = None;
        }
    }

    /// The API server has answered something else: what has failed before is
    /// worth a try at once, instead of after its pause.
    pub fn server_is_back(&mut self, now: Time) {
        self.advance_retry(now);
    }

    /// Has what has failed tried again no later than then, or as soon as the
    /// server allows. What is allowed nowhere has a pace of its own.
    fn advance_retry(&mut self, at: Time) {
        if self.unanswered && self.store().is_some() {
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
        if self.needed && !paused {
            self.due = Some(now.max(self.sent + self.ttl / RENEWALS_PER_TTL));
        }
    }

    /// Keeps the lease up while a connection lives.
    pub fn keep_up(&mut self, now: Time) {
        if self.unanswered || !self.needed {
            return;
        }
        let at = if self.until.is_some_and(|until| now < until) {
            self.sent + Self::renewal(self.ttl)
        } else {
            now
        };
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    // --- How a renewal ended ---

    /// The renewal that was sent then was written, and the app is awake.
    pub fn granted(&mut self, sent: Time) {
        self.sent = sent;
        self.until = Some(sent + Self::length(self.ttl));
        self.unavailable_since = None;
        self.unanswered = false;
        self.backoff.reset();
    }

    /// The app is at zero, or about to be put there from here: there is nothing that
    /// needs a lease, and none is held.
    pub fn void(&mut self) {
        self.until = None;
        self.due = None;
        self.unavailable_since = None;
        self.unanswered = false;
    }

    /// The renewal has failed; `at_least` is what the server asks for.
    pub fn failed(&mut self, at_least: Duration, longest: Duration, now: Time) {
        let at_least = if self.somebody_waits {
            at_least.min(LONGEST_PAUSE_WAITING)
        } else {
            at_least
        };
        self.unanswered = true;
        self.failed = now;
        self.not_before = now + at_least;
        self.due = Some(self.not_before.max(now + self.backoff.pause(longest)));
    }

    /// The renewal was refused. If the permission is missing, the next place is tried at
    /// once, and what lease there is holds meanwhile. If there is none left, all are
    /// tried again and again, also while nobody is connected: only a proxy that may
    /// renew may put the app to sleep.
    pub fn forbidden(&mut self, store: LeaseStore, longest: Duration, now: Time) {
        self.refused(store, now);
        self.failed(Duration::ZERO, longest, now);
        if store == LeaseStore::Annotation {
            // Neither is allowed: the one that is worth more may be granted first.
            self.status.retry_now(now);
        }
        if self.store().is_none() {
            let is_last = store == LeaseStore::Annotation;
            self.due = Some(if is_last { now + POLL_FORBIDDEN } else { now });
        } else if self.permission(store).is_missing() {
            self.due = Some(now);
            self.unanswered = false;
        }
    }

    /// To write there was refused.
    pub(super) fn refused(&mut self, store: LeaseStore, now: Time) {
        let (believed_after, retry) = (self.believed_after, retry_after(self.believed_after));
        self.permission(store).refused(believed_after, retry, now);
    }

    /// To write there was allowed.
    pub(super) fn allowed(&mut self, store: LeaseStore) {
        self.permission(store).granted();
    }

    /// To write there has failed in a way that says nothing of permissions.
    pub(super) fn interrupted(&mut self, store: LeaseStore) {
        self.permission(store).interrupted();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(100);

    fn at(seconds: u64) -> Time {
        Time::new(Duration::from_secs(seconds))
    }

    fn new() -> Lease {
        let config = Config {
            idle_ttl: TTL,
            ..Config::default()
        };
        Lease::new(&config, 1)
    }

    fn granted(sent: Time) -> Lease {
        let mut lease = new();
        lease.sent(sent);
        lease.granted(sent);
        lease
    }

    /// Refused in that place for as long as it takes to be believed, and a moment.
    fn refused_for_good(lease: &mut Lease, store: LeaseStore, from: u64) -> u64 {
        for second in 0..=30 {
            lease.forbidden(store, TTL, at(from + second));
        }
        from + 30
    }

    #[test]
    fn lease_is_counted_from_the_sending_and_ends_at_four_fifths_of_the_ttl() {
        let lease = granted(at(1000));
        assert!(lease.holds(at(1079)));
        assert!(!lease.holds(at(1080)));
    }

    #[test]
    fn what_is_left_of_it_ends_with_it_and_is_nothing_where_none_is_needed() {
        let lease = granted(at(1000));
        assert_eq!(lease.left(at(1020)), Some(Duration::from_secs(60)));
        assert_eq!(lease.left(at(1081)), Some(Duration::ZERO));
        assert_eq!(new().left(at(5)), Some(Duration::ZERO));
        let single = Config {
            single: true,
            ..Config::default()
        };
        assert_eq!(Lease::new(&single, 1).left(at(11)), None);
    }

    #[test]
    fn there_is_none_before_the_answer_and_none_once_the_app_is_at_zero() {
        let mut lease = new();
        lease.sent(at(1000));
        assert!(!lease.holds(at(1001)));
        lease.granted(at(1000));
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
                lease.granted(now);
                sent += 1;
            }
        }
        assert_eq!(sent, 9, "at 1010, 1020 and so on");
    }

    #[test]
    fn two_seconds_in_vain_let_connections_through_and_not_a_moment_less() {
        let mut lease = new();
        lease.wanted(true, at(10));
        lease.failed(Duration::ZERO, TTL, at(10));
        assert!(!lease.fails_open(at(11)));
        assert!(lease.fails_open(at(12)));
        lease.unwanted(at(12));
        assert!(lease.fails_open(at(13)), "the next one need not wait anew");
        lease.sent(at(14));
        lease.granted(at(14));
        assert!(
            !lease.fails_open(at(1000)),
            "a success ends it, also after the lease has"
        );
    }

    #[test]
    fn when_connections_stop_passing_by_themselves_is_known_before() {
        let mut lease = granted(at(1000));
        assert_eq!(lease.passes_until(at(1079)), Some(at(1080)), "it ends");
        lease = new();
        lease.wanted(true, at(10));
        lease.failed(Duration::ZERO, TTL, at(10));
        assert_eq!(lease.passes_until(at(12)), None, "somebody waits");
        lease.unwanted(at(12));
        let until = lease.passes_until(at(12)).unwrap();
        assert!(lease.fails_open(at(10) + FRESH));
        assert!(until > at(10) + FRESH && !lease.fails_open(until));
    }

    #[test]
    fn two_seconds_whose_end_nobody_was_there_to_see_begin_again() {
        let mut lease = new();
        lease.wanted(true, at(10));
        lease.restart_after_absence(at(12));
        assert!(lease.fails_open(at(12)));
        lease.restart_after_absence(at(30));
        assert!(!lease.fails_open(at(30)));
        assert!(lease.fails_open(at(32)));
    }

    #[test]
    fn one_refusal_moves_it_nowhere() {
        let mut lease = new();
        lease.forbidden(LeaseStore::Status, TTL, at(10));
        assert_eq!(lease.store(), Some(LeaseStore::Status));
        assert!(!lease.holds(at(10)));
    }

    #[test]
    fn what_is_forbidden_in_one_place_for_good_is_written_to_another_and_in_the_end_nowhere() {
        let mut lease = new();
        lease.last_close(at(10));
        let believed = refused_for_good(&mut lease, LeaseStore::Status, 10);
        assert_eq!(lease.store(), Some(LeaseStore::Annotation));
        assert_eq!(lease.ask(at(believed)), Some(LeaseStore::Annotation));
        assert!(!lease.holds(at(believed)) && !lease.fails_open(at(believed)));
        let believed = refused_for_good(&mut lease, LeaseStore::Annotation, believed);
        assert_eq!(lease.store(), None);
        assert!(!lease.holds(at(believed)), "what is let through is counted");
        assert!(lease.fails_open(at(believed)), "nobody waits for nothing");
        assert_eq!(lease.left(at(believed)), Some(Duration::ZERO));
    }

    #[test]
    fn a_missing_permission_is_tried_again_each_minute_and_the_lease_holds_meanwhile() {
        let mut lease = new();
        let believed = refused_for_good(&mut lease, LeaseStore::Status, 10);
        lease.sent(at(believed));
        lease.granted(at(believed));
        let retry = believed + 60;
        lease.last_close(at(retry - 1));
        assert_eq!(lease.ask(at(retry - 1)), Some(LeaseStore::Annotation));
        assert_eq!(lease.ask(at(retry)), Some(LeaseStore::Status));
        lease.sent(at(retry));
        lease.forbidden(LeaseStore::Status, TTL, at(retry));
        assert!(lease.holds(at(retry)), "no gate is shut for it");
        assert_eq!(lease.ask(at(retry)), Some(LeaseStore::Annotation));
        lease.allowed(LeaseStore::Status);
        assert_eq!(lease.store(), Some(LeaseStore::Status));
    }

    #[test]
    fn where_there_is_no_other_proxy_none_is_needed_and_none_is_renewed() {
        let config = Config {
            single: true,
            ..Config::default()
        };
        let mut lease = Lease::new(&config, 1);
        lease.keep_up(at(1));
        lease.last_close(at(2));
        assert_eq!(lease.due(), None);
        assert!(lease.holds(at(1_000_000)));
    }

    #[test]
    fn a_retry_after_is_waited_for_unless_somebody_waits() {
        let minute = Duration::from_secs(60);
        for (waiting, due) in [(false, 70), (true, 15)] {
            let mut lease = new();
            lease.wanted(waiting, at(10));
            lease.failed(minute, Duration::from_secs(1), at(10));
            assert_eq!(lease.due(), Some(at(due)), "{waiting}");
        }
        let mut lease = new();
        lease.failed(minute, Duration::from_secs(1), at(10));
        lease.wanted(true, at(20));
        assert_eq!(lease.due(), Some(at(25)), "also who comes later");
    }
}
