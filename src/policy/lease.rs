//! The [`Lease`] of this proxy: while it holds, no other proxy scales the app to zero.
//!
//! A proxy *renews* its lease by writing a new token onto the scale target. A proxy that
//! scales to zero must have seen the same token for a whole TTL, and guards its write with the
//! version at which it was seen last. So after a successful renewal that shows replicas above
//! zero, no proxy scales to zero for a TTL from the write of the token. The time of that write
//! is not known, but it is not before the request was sent. The lease is counted from there,
//! and ends after 0.8 TTL: the rest allows for clocks of different speeds.
//!
//! If no renewal has succeeded for two seconds, connections are let through without a lease,
//! because no proxy can scale to zero while the API server is down. If renewing is forbidden in
//! every place, they are let through at once. The daemon counts both by [`Lease::holds`].

use std::time::Duration;

use super::config::{Config, LONGEST_PAUSE_WAITING, POLL_FORBIDDEN};
use super::permission::{PermissionState, retry_after};
use crate::backoff::Backoff;
use crate::clock::Time;
use crate::cluster::LeaseStore;

/// The time without a successful renewal after which connections are let through without a
/// lease.
pub const FAIL_OPEN_AFTER: Duration = Duration::from_secs(2);

/// The most by which the end of that time may be noticed late. If it is later, the process did
/// not run (SIGSTOP, suspend, starvation), and the reply may have come meanwhile.
const LATE_WAKEUP: Duration = Duration::from_millis(200);

/// The most renewals of a proxy in a TTL, not counting those that fail and those that
/// show a hidden lease again.
const RENEWALS_PER_TTL: u32 = 10;

/// How long after a failed renewal the next one is expected to fail too, so that later
/// connections need not wait for it.
pub(super) const FRESH: Duration = Duration::from_secs(10);

/// The state of a proxy's lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    pub(super) ttl: Duration,
    /// Whether a lease is needed: there may be other proxies.
    pub(super) needed: bool,
    /// Whether it may be written to the status at all.
    pub(super) uses_status: bool,
    pub(super) believed_after: Duration,
    pub(super) until: Option<Time>,
    /// When the renewal in flight, or the last one, was sent.
    pub(super) sent: Time,
    /// When the next renewal is to be sent, if one is.
    pub(super) due: Option<Time>,
    /// The permission to write it into the status.
    pub(super) status: PermissionState,
    /// The permission to write it into an annotation.
    pub(super) annotation: PermissionState,
    /// Since when connections have waited for a lease.
    pub(super) unavailable_since: Option<Time>,
    /// Whether connections wait now.
    pub(super) somebody_waits: bool,
    /// When a renewal has failed last.
    pub(super) failed: Time,
    /// The `Retry-After` of the last refusal.
    pub(super) not_before: Time,
    /// Whether the last renewal has failed, or has no reply yet.
    pub(super) unanswered: bool,
    /// Whether the next renewal shows what is left of the lease, and lengthens it not.
    pub(super) only_shown: bool,
    pub(super) backoff: Backoff,
}

impl Lease {
    /// No lease, and no connections.
    pub fn new(config: &Config, seed: u64) -> Self {
        Lease {
            ttl: config.idle_ttl,
            needed: !config.single,
            uses_status: config.lease_store == LeaseStore::Status,
            believed_after: config.refusal_believed_after,
            until: None,
            sent: Time::default(),
            due: None,
            status: PermissionState::default(),
            annotation: PermissionState::default(),
            unavailable_since: None,
            somebody_waits: false,
            failed: Time::default(),
            not_before: Time::default(),
            unanswered: false,
            only_shown: false,
            backoff: Backoff::new(seed),
        }
    }

    /// The duration of a lease, from the moment at which the renewal is sent.
    pub fn length(ttl: Duration) -> Duration {
        ttl * 4 / 5
    }

    /// The interval between renewals while a connection is open.
    pub fn renewal(ttl: Duration) -> Duration {
        ttl / 4
    }

    /// Whether there is a lease now, or none is needed.
    pub fn holds(&self, now: Time) -> bool {
        !self.needed || self.until.is_some_and(|until| now < until)
    }

    /// The rest of the lease; `None` if none is needed.
    pub fn left(&self, now: Time) -> Option<Duration> {
        let until = self.until.unwrap_or_default();
        self.needed.then(|| until.since(now))
    }

    /// Whether connections are to be let through without a lease: renewals have failed for
    /// long enough, or are forbidden.
    pub fn fails_open(&self, now: Time) -> bool {
        if self.holds(now) {
            return false;
        }
        let in_vain = self.fails_open_at().is_some_and(|at| now >= at);
        self.store().is_none() || (in_vain && (self.somebody_waits || self.is_fresh(now)))
    }

    /// Until when connections may pass that may pass now, with a lease or without, if that
    /// ends without an event.
    pub fn passes_until(&self, now: Time) -> Option<Time> {
        if self.holds(now) {
            return self.until.filter(|_| self.needed);
        }
        let passes_anyway = self.store().is_none() || self.somebody_waits;
        // The failure is recent up to and including that time.
        (!passes_anyway).then(|| self.failed + FRESH + Duration::from_millis(1))
    }

    /// When [`Lease::fails_open`] becomes true if nothing succeeds until then.
    pub fn fails_open_at(&self) -> Option<Time> {
        let since = self.unavailable_since.filter(|_| self.store().is_some());
        since.map(|since| since + FAIL_OPEN_AFTER)
    }

    // --- Where it is written ---

    /// Where it is written now; `None` if that is forbidden everywhere.
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

    /// The place to try now: the first one whose permission is not missing, or is due to be
    /// tried again. If all are missing, the first one.
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

    /// The place for the renewal, if one is due.
    pub fn ask(&self, now: Time) -> Option<LeaseStore> {
        let is_due = self.due.is_some_and(|due| due <= now);
        is_due.then(|| self.next_store(now))
    }

    /// A renewal was sent.
    pub fn sent(&mut self, now: Time) {
        self.sent = now;
        self.due = None;
        self.unanswered = true;
    }

    /// Connections are open; some of them may wait. No connection is let through without a
    /// lease before a renewal was tried: a pause that began while none waited is over.
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

    /// Starts the two seconds again if this process did not run when they ended: then the
    /// process has failed, not the API server.
    pub fn restart_after_absence(&mut self, now: Time) {
        if self
            .fails_open_at()
            .is_some_and(|at| now > at + LATE_WAKEUP)
        {
            self.unavailable_since = Some(now);
        }
    }

    /// No connection waits any more. While the failure is recent, the next ones are let
    /// through without a lease too.
    pub fn unwanted(&mut self, now: Time) {
        self.somebody_waits = false;
        if !self.unanswered || !self.is_fresh(now) {
            self.unavailable_since = None;
        }
    }

    /// The API server has answered another request: a renewal that has failed is tried again
    /// at once.
    pub fn server_is_back(&mut self, now: Time) {
        self.advance_retry(now);
    }

    /// Tries a failed renewal again at that time, or as soon as the server allows. A renewal
    /// that is forbidden everywhere has its own interval.
    fn advance_retry(&mut self, at: Time) {
        if self.unanswered && self.store().is_some() {
            let at = at.max(self.not_before);
            self.due = self.due.map(|due| due.min(at));
        }
    }

    /// Whether a renewal has failed recently.
    fn is_fresh(&self, now: Time) -> bool {
        now.since(self.failed) <= FRESH
    }

    /// The last connection has ended: renews, so that the idle clocks of the other proxies
    /// start here, or a little later if the last renewal is recent. Otherwise each short
    /// connection would cost a renewal.
    pub fn last_close(&mut self, now: Time) {
        self.only_shown = false;
        let paused = self.unanswered && self.due.is_some();
        if self.needed && !paused {
            self.due = Some(now.max(self.sent + self.ttl / RENEWALS_PER_TTL));
        }
    }

    /// The last renewal on the object is that of a proxy with a shorter TTL, which hides this
    /// lease from every proxy that has not seen it before. The lease is renewed, `pace` after
    /// its last renewal at the soonest. While no connection is open that does not extend it:
    /// two unused proxies would otherwise answer each other for ever.
    pub fn hidden(&mut self, is_used: bool, pace: Duration, now: Time) {
        if self.needed && !self.unanswered && (is_used || self.holds(now)) {
            self.due = Some(now.max(self.sent + pace));
            self.only_shown = !is_used;
        }
    }

    /// Schedules the next renewal while a connection is open.
    pub fn keep_up(&mut self, now: Time) {
        self.only_shown = false;
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

    /// The renewal that was sent at `sent` was written, and the app is awake.
    pub fn granted(&mut self, sent: Time) {
        self.sent = sent;
        if !std::mem::take(&mut self.only_shown) {
            self.until = Some(sent + Self::length(self.ttl));
        }
        self.unavailable_since = None;
        self.unanswered = false;
        self.backoff.reset();
    }

    /// The app is at zero, or is being put there from here: ends the lease.
    pub fn void(&mut self) {
        self.until = None;
        self.due = None;
        self.unavailable_since = None;
        self.unanswered = false;
    }

    /// The renewal has failed; `at_least` is the `Retry-After`.
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

    /// The renewal was refused. If the permission is missing, the next place is tried at once;
    /// an existing lease holds meanwhile. If no place is left, all are tried again and again,
    /// even without connections, because only a proxy that may renew may put the app to sleep.
    pub fn forbidden(&mut self, store: LeaseStore, longest: Duration, now: Time) {
        self.refused(store, now);
        self.failed(Duration::ZERO, longest.min(POLL_FORBIDDEN), now);
        if store == LeaseStore::Annotation {
            // Neither is allowed: the more valuable permission may be granted first.
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

    /// The permission for that place was refused.
    pub(super) fn refused(&mut self, store: LeaseStore, now: Time) {
        let (believed_after, retry) = (self.believed_after, retry_after(self.believed_after));
        self.permission(store).refused(believed_after, retry, now);
    }

    /// The permission for that place was granted.
    pub(super) fn allowed(&mut self, store: LeaseStore) {
        self.permission(store).granted();
    }

    /// A renewal in that place has failed for another reason than its permission.
    pub(super) fn interrupted(&mut self, store: LeaseStore) {
        self.permission(store).interrupted();
    }
}

#[cfg(test)]
mod tests;
