//! [`Lease`]: the lease of this proxy. While it is valid, no other proxy scales the app to zero.
//!
//! A proxy *renews* its lease by writing a new token onto the scale target. The target has
//! room for one token: each renewal, of any proxy, replaces the last one. A proxy that scales to
//! zero must have seen the same token for a whole TTL, and the precondition of its write is the
//! resourceVersion at which it has seen that token last. So after a successful renewal that shows
//! replicas above zero, no proxy scales to zero for a TTL from the write of the token. The time of
//! that write is unknown, but it is later than the sending of the request. The lease is counted
//! from the sending, and ends after 0.8 TTL: the rest allows for clocks of different speeds.
//!
//! If no renewal has succeeded for two seconds, connections are let through without a lease,
//! because no proxy can scale to zero while the API server is down. If renewing is forbidden in
//! every store, they are let through at once.

use std::time::Duration;

use super::config::{Config, MAX_PAUSE_WAITING, POLL_FORBIDDEN};
use super::permission::{PermissionState, retry_after};
use crate::backoff::Backoff;
use crate::clock::Time;
use crate::cluster::LeaseStore;

/// The time without a successful renewal after which connections are let through without a
/// lease.
pub const FAIL_OPEN_AFTER: Duration = Duration::from_secs(2);

/// The longest delay with which the event loop notices that [`FAIL_OPEN_AFTER`] has passed. After
/// a longer one the process did not run (SIGSTOP, suspend, starvation), and the reply may have come
/// meanwhile.
const MAX_DELAY: Duration = Duration::from_millis(200);

/// The most renewals of a proxy in a TTL, not counting those that fail and those of a hidden
/// lease ([`Lease::on_hidden`]).
const RENEWALS_PER_TTL: u32 = 10;

/// While a connection is open, the longest pause after half a TTL without a successful renewal,
/// whatever `Retry-After` says, as a part of the TTL; but not less than a second.
const RETRIES_PER_TTL: u32 = 8;
const MIN_RETRY: Duration = Duration::from_secs(1);

/// How long a failed renewal is *recent*. While it is, the next one is expected to fail too,
/// so that later connections need not wait for it.
pub(super) const RECENT: Duration = Duration::from_secs(10);

/// The state of a proxy's lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The idle TTL of this proxy.
    pub(super) ttl: Duration,
    /// Whether a lease is needed: there may be other proxies.
    pub(super) needed: bool,
    /// Whether the status is to be written, and an annotation only where that is forbidden.
    pub(super) uses_status: bool,
    /// How long a permission must be refused until it counts as missing.
    pub(super) confirmed_after: Duration,
    /// When the lease ends; `None` if there is none.
    pub(super) valid_until: Option<Time>,
    /// When the renewal in flight, or the last one, was sent.
    pub(super) sent_at: Time,
    /// When the next renewal is to be sent, if one is.
    pub(super) due_at: Option<Time>,
    /// The permission to write it into the status.
    pub(super) status_permission: PermissionState,
    /// The permission to write it into an annotation.
    pub(super) annotation_permission: PermissionState,
    /// Since when connections have waited for a lease.
    pub(super) waiting_since: Option<Time>,
    /// Whether connections wait now.
    pub(super) has_waiting: bool,
    /// When a renewal failed last.
    pub(super) failed_at: Time,
    /// The earliest time of the next attempt, by the `Retry-After` of the last reply.
    pub(super) earliest: Time,
    /// Whether the last renewal is in flight, or has failed and is to be repeated.
    pub(super) is_renewal_outstanding: bool,
    /// Whether the next renewal only makes a hidden lease visible again, without extending it.
    pub(super) republishes_only: bool,
    pub(super) backoff: Backoff,
}

impl Lease {
    /// No lease, and no connections.
    pub fn new(config: &Config, seed: u64) -> Self {
        Lease {
            ttl: config.idle_ttl,
            needed: config.needs_leases(),
            uses_status: config.lease_store == LeaseStore::Status,
            confirmed_after: config.refusal_confirmed_after,
            valid_until: None,
            sent_at: Time::default(),
            due_at: None,
            status_permission: PermissionState::default(),
            annotation_permission: PermissionState::default(),
            waiting_since: None,
            has_waiting: false,
            failed_at: Time::default(),
            earliest: Time::default(),
            is_renewal_outstanding: false,
            republishes_only: false,
            backoff: Backoff::new(seed),
        }
    }

    /// The duration of a lease, from the moment at which its renewal is sent.
    pub fn duration(ttl: Duration) -> Duration {
        ttl * 4 / 5
    }

    /// The interval between renewals while a connection is open.
    pub fn renew_interval(ttl: Duration) -> Duration {
        ttl / 4
    }

    /// Whether the lease is valid now, or none is needed.
    pub fn is_valid(&self, now: Time) -> bool {
        !self.needed || self.valid_until.is_some_and(|until| now < until)
    }

    /// The rest of the lease; `None` if none is needed.
    pub fn remaining(&self, now: Time) -> Option<Duration> {
        let until = self.valid_until.unwrap_or_default();
        self.needed.then(|| until.since(now))
    }

    /// Whether connections are to be let through without a lease: renewals have failed for
    /// long enough, or are forbidden.
    pub fn fails_open(&self, now: Time) -> bool {
        if self.is_valid(now) {
            return false;
        }
        let has_lasted = self.fails_open_at().is_some_and(|at| now >= at);
        self.store().is_none()
            || (has_lasted && (self.has_waiting || self.has_failed_recently(now)))
    }

    /// When the gate, which this lease opens now, shuts though nothing happens; `None` if only an
    /// event shuts it.
    pub fn open_until(&self, now: Time) -> Option<Time> {
        if self.is_valid(now) {
            return self.valid_until.filter(|_| self.needed);
        }
        let ends_by_event = self.store().is_none() || self.has_waiting;
        // The failure is recent up to and including `RECENT`.
        (!ends_by_event).then(|| self.failed_at + RECENT + Duration::from_millis(1))
    }

    /// When [`Lease::fails_open`] becomes true if nothing succeeds until then.
    pub fn fails_open_at(&self) -> Option<Time> {
        let since = self.waiting_since.filter(|_| self.store().is_some());
        since.map(|since| since + FAIL_OPEN_AFTER)
    }

    // --- The store ---

    /// Where the lease is written; `None` if that is forbidden everywhere.
    pub fn store(&self) -> Option<LeaseStore> {
        if self.uses_status && !self.status_permission.is_missing() {
            Some(LeaseStore::Status)
        } else if !self.annotation_permission.is_missing() {
            Some(LeaseStore::Annotation)
        } else {
            None
        }
    }

    fn permission(&mut self, store: LeaseStore) -> &mut PermissionState {
        match store {
            LeaseStore::Status => &mut self.status_permission,
            LeaseStore::Annotation => &mut self.annotation_permission,
        }
    }

    /// The store to try now: the first one whose permission is not missing, or is due to be
    /// tried again. If none is, the one that is due first.
    fn next_store(&self, now: Time) -> LeaseStore {
        if self.uses_status && self.status_permission.may_be_tried(now) {
            LeaseStore::Status
        } else if !self.uses_status
            || self.annotation_permission.may_be_tried(now)
            || self.annotation_permission.next_attempt() < self.status_permission.next_attempt()
        {
            LeaseStore::Annotation
        } else {
            LeaseStore::Status
        }
    }

    // --- The next renewal ---

    /// When the next renewal is to be sent, if one is.
    pub fn due(&self) -> Option<Time> {
        self.due_at
    }

    /// The store to renew in, if a renewal is due.
    pub fn due_store(&self, now: Time) -> Option<LeaseStore> {
        let is_due = self.due_at.is_some_and(|due| due <= now);
        is_due.then(|| self.next_store(now))
    }

    /// To be called when a renewal is sent.
    pub fn on_sent(&mut self, now: Time) {
        self.sent_at = now;
        self.due_at = None;
        self.is_renewal_outstanding = true;
    }

    /// To be called while connections are open, with whether some of them wait. If they wait
    /// for a lease, a longer pause after a failure is shortened: a renewal is to be tried
    /// before connections are let through without a lease. So is one that began without a
    /// connection and is longer than the lease allows.
    pub fn on_open_connections(&mut self, waiting: bool, now: Time) {
        self.has_waiting = waiting;
        let latest = self.latest_retry(now);
        self.earliest = self.earliest.min(latest);
        self.retry_by(latest);
        if self.is_valid(now) {
            self.waiting_since = None;
        } else if waiting {
            self.waiting_since.get_or_insert(now);
            // From the failure on, so that who comes long after it is not let through without a
            // lease before another attempt.
            let earliest = now.max(self.failed_at + MAX_PAUSE_WAITING);
            self.earliest = self.earliest.min(earliest);
            self.retry_by(self.sent_at + FAIL_OPEN_AFTER);
        }
    }

    /// Starts [`FAIL_OPEN_AFTER`] again if this process did not run when it ended: then the
    /// process has stalled, and not the API server.
    pub fn restart_after_stall(&mut self, now: Time) {
        if self.fails_open_at().is_some_and(|at| now > at + MAX_DELAY) {
            self.waiting_since = Some(now);
        }
    }

    /// To be called while no connection waits. After a recent failure the next connections
    /// are let through without a lease, too.
    pub fn on_none_waiting(&mut self, now: Time) {
        self.has_waiting = false;
        if !self.is_renewal_outstanding || !self.has_failed_recently(now) {
            self.waiting_since = None;
        }
    }

    /// To be called when the API server has answered another request: a renewal that has
    /// failed is tried again at once.
    pub fn on_server_reachable(&mut self, now: Time) {
        self.retry_by(now);
    }

    /// Until when a pause after a failed renewal may last while a connection is open: a TTL after
    /// the last successful one another proxy may put the app to sleep under it.
    pub(super) fn latest_retry(&self, now: Time) -> Time {
        let soon = now + (self.ttl / RETRIES_PER_TTL).max(MIN_RETRY);
        let left = self.valid_until.map(|until| until.since(now));
        // The lease began when its renewal was sent.
        let after_half = Self::duration(self.ttl) - self.ttl / 2;
        left.map_or(soon, |left| soon.max(now + left.saturating_sub(after_half)))
    }

    /// Tries a failed renewal again by that time, or as soon as the server allows. A renewal
    /// that is forbidden everywhere has its own interval.
    fn retry_by(&mut self, at: Time) {
        if self.is_renewal_outstanding && self.store().is_some() {
            let at = at.max(self.earliest);
            self.due_at = self.due_at.map(|due| due.min(at));
        }
    }

    /// Whether the last failure is recent.
    fn has_failed_recently(&self, now: Time) -> bool {
        now.since(self.failed_at) <= RECENT
    }

    /// To be called when the last connection has ended. Schedules a renewal, from which the
    /// other proxies count their idle time: at once, or a tenth of a TTL after the last one, so
    /// that not every short connection costs a renewal.
    pub fn on_last_close(&mut self, now: Time) {
        self.republishes_only = false;
        let is_retry_due = self.is_renewal_outstanding && self.due_at.is_some();
        if self.needed && !is_retry_due {
            self.due_at = Some(now.max(self.sent_at + self.ttl / RENEWALS_PER_TTL));
        }
    }

    /// To be called when the token on the scale target is that of a proxy with a shorter TTL,
    /// which has replaced this proxy's and *hides* this lease from every proxy that has not
    /// seen it before. Schedules a renewal, `interval` after the last one at the soonest.
    /// While no connection is open the renewal does not extend the lease: two unused proxies
    /// would otherwise renew in turn for ever.
    pub fn on_hidden(&mut self, is_used: bool, interval: Duration, now: Time) {
        if self.needed && !self.is_renewal_outstanding && (is_used || self.is_valid(now)) {
            self.due_at = Some(now.max(self.sent_at + interval));
            self.republishes_only = !is_used;
        }
    }

    /// Schedules the next renewal while a connection is open.
    pub fn schedule_renewal(&mut self, now: Time) {
        self.republishes_only = false;
        if self.is_renewal_outstanding || !self.needed {
            return;
        }
        let at = if self.valid_until.is_some_and(|until| now < until) {
            self.sent_at + Self::renew_interval(self.ttl)
        } else {
            now
        };
        self.due_at = Some(self.due_at.map_or(at, |due| due.min(at)));
    }

    // --- The outcome of a renewal ---

    /// To be called when the renewal that was sent at `sent` is written, and the scale is above
    /// zero.
    pub fn on_renewed(&mut self, sent: Time) {
        self.sent_at = sent;
        if !std::mem::take(&mut self.republishes_only) {
            self.valid_until = Some(sent + Self::duration(self.ttl));
        }
        self.waiting_since = None;
        self.is_renewal_outstanding = false;
        self.backoff.reset();
    }

    /// Ends the lease: the scale is zero, or this proxy is about to write zero. The next renewal
    /// is cancelled, except where renewing is forbidden everywhere: there it stays scheduled,
    /// because only an attempt can show that renewing is allowed again, and after the next wake
    /// there may be no connection here that schedules one.
    pub fn end(&mut self) {
        self.valid_until = None;
        self.due_at = self.due_at.filter(|_| self.store().is_none());
        self.waiting_since = None;
        self.is_renewal_outstanding = false;
    }

    /// To be called when a renewal has failed. `retry_after` is what the reply asks for, and
    /// `longest` the longest pause.
    pub fn on_failed(&mut self, retry_after: Duration, longest: Duration, now: Time) {
        let retry_after = if self.has_waiting {
            retry_after.min(MAX_PAUSE_WAITING)
        } else {
            retry_after
        };
        self.is_renewal_outstanding = true;
        self.failed_at = now;
        self.earliest = now + retry_after;
        self.due_at = Some(self.earliest.max(now + self.backoff.pause(longest)));
    }

    /// To be called when a renewal is forbidden (403). If the permission counts as missing, the
    /// next store is tried at once; an existing lease stays valid meanwhile. If no store is
    /// left, all are tried again and again, even without connections, because only a proxy that
    /// may renew may put the app to sleep.
    pub fn on_forbidden(&mut self, store: LeaseStore, longest: Duration, now: Time) {
        self.on_permission_refused(store, now);
        self.on_failed(Duration::ZERO, longest.min(POLL_FORBIDDEN), now);
        if store == LeaseStore::Annotation {
            // Both are refused. The Role of `manifests/base` grants the status, so that its
            // permission is the more likely one to be granted.
            self.status_permission.retry_now(now);
        }
        if self.store().is_none() {
            let all_were_tried = store == LeaseStore::Annotation;
            self.due_at = Some(if all_were_tried {
                now + POLL_FORBIDDEN
            } else {
                now
            });
        } else if self.permission(store).is_missing() {
            self.due_at = Some(now);
            self.is_renewal_outstanding = false;
        }
    }

    /// To be called when the permission for that store is refused.
    pub(super) fn on_permission_refused(&mut self, store: LeaseStore, now: Time) {
        let (confirmed_after, retry) = (self.confirmed_after, retry_after(self.confirmed_after));
        self.permission(store).refused(confirmed_after, retry, now);
    }

    /// To be called when the permission for that store is granted.
    pub(super) fn on_permission_granted(&mut self, store: LeaseStore) {
        self.permission(store).granted();
    }

    /// To be called when a renewal in that store has failed for another reason than its
    /// permission.
    pub(super) fn on_inconclusive(&mut self, store: LeaseStore) {
        self.permission(store).interrupted();
    }
}

#[cfg(test)]
mod tests;
