//! The canonical form of a policy: one state for all policies that behave alike.
//!
//! A time matters only as a distance from now, a version only as current or not, a token only as
//! equal to another or not. So the clock of the model stands still at [`NOW`], and [`age`] moves
//! the times of a policy into the past; after every event the state of a policy is replaced by its
//! canonical form. So the state space is finite though time is unbounded.
//!
//! Two things are lost: random numbers are fixed, and every pause after a failure ends at the next
//! [`STEP`], as the first five do. For everything else the functions give the reason, and `tests`
//! try it: a state that is made canonical after each event and one that is made canonical at the
//! end are equal.

use std::time::Duration;

use super::super::config::MAX_PAUSE_WAITING;
use super::super::lease::{self, Lease};
use super::super::permission::PermissionState;
use super::super::seen::{MAX_GAP, RENEWALS_PER_SHORTER_TTL};
use super::super::{InFlight, Phase, Policy, Seen, SeenTtl};
use super::deployment::{CURRENT, STALE};
use crate::backoff::{self, Backoff, Random};
use crate::clock::Time;
use crate::cluster::{LeaseToken, Observation, Request, ResourceVersion, Scale};
use crate::refusal::RefusalClock;

/// The longer idle TTL where the proxies have unequal ones.
pub const LONGER_TTL: Duration = Duration::from_secs(20);

/// How long a permission must be refused until the refusal is confirmed.
pub const CONFIRMED_AFTER: Duration = Duration::from_secs(4);

/// The length of a step: the interval of a poll, of a renewal (rounded up) and of the fail-open, a
/// quarter of a lease, and a fifth of the TTL.
pub const STEP: Duration = Duration::from_secs(2);

/// The present, at all times.
pub const NOW: Time = Time::from_millis(1_000_000);

/// Moves all times of a policy one step into the past.
pub fn age(policy: &mut Policy) {
    let Policy {
        config: _,
        spread: _,
        is_spread_out: _,
        phase,
        connections: _,
        idle_since,
        dialable: _,
        can_wake: _,
        seen,
        would_sleep: _,
        undone_sleeps: _,
        woken_by_others: _,
        longer_leases,
        shorter_ttl,
        ancestor_until,
        wake_limits,
        overrides,
        rollout: _,
        delay,
        previous_replicas: _,
        unknown_previous_logged: _,
        is_missing: _,
        generation: _,
        lease,
        reads,
        scale_reads_refused: _,
        scale_writes,
        final_renewal_written: _,
        without_lease: _,
        scale_logged: _,
        leases_logged: _,
        other_ttl_logged: _,
        watching: _,
        observed: _,
        in_flight,
        next_id: _,
        due,
        backoff: _,
        random: _,
        commands: _,
    } = policy;
    let since = match phase {
        Phase::Starting { since } | Phase::Waking { since, .. } => Some(since),
        Phase::Awake | Phase::ConfirmingIdle | Phase::ScalingDown | Phase::Asleep { .. } => None,
    };
    let (seen, last) = match seen {
        Some(Seen { since, last, .. }) => (Some(since), Some(last)),
        None => (None, None),
    };
    let times = [
        since,
        idle_since.as_mut(),
        seen,
        last,
        ancestor_until.as_mut(),
        delay.as_mut().and_then(|delay| delay.until.as_mut()),
        Some(due),
        in_flight.as_mut().map(|asked| &mut asked.sent),
    ];
    let permissions = times_of_permission(reads).chain(times_of_permission(scale_writes));
    let ttls = longer_leases.seen.iter_mut().chain(shorter_ttl);
    let ttls = ttls.map(|seen| &mut seen.until);
    let times = times.into_iter().flatten().chain(permissions).chain(ttls);
    for time in times
        .chain(times_of(lease))
        .chain(wake_limits.times())
        .chain(overrides.times())
    {
        *time = *time - STEP;
    }
}

fn times_of_permission(permission: &mut PermissionState) -> impl Iterator<Item = &mut Time> {
    let PermissionState { clock, retry } = permission;
    let (since, last) = match clock {
        RefusalClock::Granted => (None, None),
        RefusalClock::Unconfirmed { since, last } => (Some(since), Some(last)),
        RefusalClock::Confirmed { since } => (Some(since), None),
    };
    [since, last, retry.as_mut()].into_iter().flatten()
}

fn times_of(lease: &mut Lease) -> impl Iterator<Item = &mut Time> {
    let Lease {
        ttl: _,
        needed: _,
        uses_status: _,
        confirmed_after: _,
        valid_until,
        sent_at,
        due_at,
        status_permission,
        annotation_permission,
        waiting_since,
        has_waiting: _,
        failed_at,
        earliest,
        is_renewal_outstanding: _,
        republishes_only: _,
        backoff: _,
    } = lease;
    let times = [
        valid_until.as_mut(),
        Some(sent_at),
        due_at.as_mut(),
        waiting_since.as_mut(),
        Some(failed_at),
        Some(earliest),
    ];
    let permissions =
        times_of_permission(status_permission).chain(times_of_permission(annotation_permission));
    times.into_iter().flatten().chain(permissions)
}

/// Removes the differences that have no effect on later behaviour.
pub fn normalise(policy: &mut Policy) {
    forget_chance(policy);
    forget_log_state(policy);
    forget_names(policy);
    forget_last_seen(policy);
    unify_idleness(policy);
    forget_the_seen_version(policy);
    normalise_permission(&mut policy.reads);
    normalise_permission(&mut policy.scale_writes);
    policy.due = match asked(policy) {
        // Nothing supersedes it, and its reply sets when the next request is due.
        Some(Request::WriteScale { .. }) => NOW,
        _ => on_grid(policy.due),
    };
    if let Some(asked) = &mut policy.in_flight {
        let horizon = horizon_of(&asked.request, policy.config.idle_ttl);
        asked.sent = asked.sent.max(NOW - horizon);
    }
    normalise_lease(&mut policy.lease);
}

fn asked(policy: &Policy) -> Option<&Request> {
    policy.in_flight.as_ref().map(|asked| &asked.request)
}

/// Fixes the random numbers, and makes every failure the first.
pub fn forget_chance(policy: &mut Policy) {
    policy.random = Random::new(0);
    policy.lease.backoff = Backoff::new(0);
    policy.backoff = same_from_one_failure_on(&policy.backoff);
}

fn forget_log_state(policy: &mut Policy) {
    // Without doublings, they are counted for the log alone.
    (policy.undone_sleeps, policy.woken_by_others) = (0, false);
    policy.leases_logged = (None, false);
    policy.scale_logged = true;
    if let Phase::Starting { since } | Phase::Waking { since, .. } = &mut policy.phase {
        *since = NOW;
    }
}

/// Resets numbers that are only compared with one another: the model counts connections from the
/// policy's own count, and gives each reply the id of the request in flight.
pub fn forget_names(policy: &mut Policy) {
    policy.connections.uses = 0;
    policy.next_id = 0;
    if let Some(InFlight { id, request, .. }) = &mut policy.in_flight {
        *id = 0;
        forget_nonce(request);
    }
}

/// Resets the version that was seen last: without a watch it is compared with no other.
fn forget_the_seen_version(policy: &mut Policy) {
    if let Some(seen) = policy.seen.as_mut().filter(|_| !policy.watching) {
        STALE.clone_into(&mut seen.version.0);
    }
}

/// Sets the time of our last connection and that of the last change of the Deployment to the later
/// one: only that one matters, since the next of either kind is later than both.
/// - While a connection is open, its end will be the later one.
/// - While the Deployment is at zero, or was not seen yet, the first replicas that are seen will
///   be:
///   they are a change.
fn unify_idleness(policy: &mut Policy) {
    let Policy {
        idle_since, seen, ..
    } = policy;
    let ttl = policy.config.idle_ttl;
    let longest = policy.longer_leases.seen.first().map_or(ttl, |it| it.ttl);
    let up = seen.as_ref().filter(|seen| seen.replicas > 0);
    let later = up.and_then(|seen| Some(seen.since.max((*idle_since)?)));
    let since = later.map_or(NOW, |later| later.max(NOW - longest));
    *idle_since = idle_since.map(|_| since);
    if let Some(seen) = seen {
        seen.since = since;
    }
}

/// Resets when the Deployment was seen last, and whether a read has failed since, where the next
/// read does not depend on it: while it is at zero, and after too long a gap.
fn forget_last_seen(policy: &mut Policy) {
    let Policy {
        seen: Some(seen),
        longer_leases,
        shorter_ttl,
        config,
        watching,
        ..
    } = policy
    else {
        return;
    };
    let longest = config.idle_ttl / MAX_GAP;
    let is_awake_or_starting = seen.replicas > 0;
    let last = if is_awake_or_starting {
        at_most_just_beyond(seen.last, longest)
    } else {
        NOW
    };
    longer_leases.seen.retain(|lease| lease.until > NOW);
    seen.interrupted &= is_awake_or_starting && NOW.since(last) <= longest;
    seen.last = last;
    // It is read twice in a TTL of that length anyway.
    let is_slower = |it: &SeenTtl| it.ttl / RENEWALS_PER_SHORTER_TTL < config.poll();
    *shorter_ttl = shorter_ttl.filter(|it| *watching || is_slower(it));
}

/// The steps since the last use of the app that a canonical policy knows of.
pub fn steps_unused(policy: &Policy) -> u8 {
    let since = policy.idle_since.unwrap_or(NOW);
    (NOW.since(since).as_millis() / STEP.as_millis()) as u8
}

fn normalise_lease(lease: &mut Lease) {
    lease.valid_until = lease.valid_until.filter(|&until| until > NOW).map(on_grid);
    lease.sent_at = lease.sent_at.max(NOW - horizon_of_sending(lease));
    lease.due_at = lease.due_at.map(on_grid);
    lease.earliest = lease.earliest.max(NOW);
    lease.failed_at = at_most_just_beyond(lease.failed_at, lease::RECENT);
    lease.waiting_since = lease
        .waiting_since
        .map(|since| at_most_just_beyond(since, lease::FAIL_OPEN_AFTER));
    // Used only while a lease is sought, and set again when that begins.
    lease.has_waiting &= lease.waiting_since.is_some();
    normalise_permission(&mut lease.status_permission);
    normalise_permission(&mut lease.annotation_permission);
}

/// Removes old refusals, which count as none, and the time of confirmed ones, which has no effect.
fn normalise_permission(permission: &mut PermissionState) {
    let PermissionState { clock, retry } = permission;
    if clock.is_stale(CONFIRMED_AFTER, NOW) {
        clock.granted();
    }
    match clock {
        RefusalClock::Granted => {}
        RefusalClock::Unconfirmed { since, .. } => *since = (*since).max(NOW - CONFIRMED_AFTER),
        RefusalClock::Confirmed { since } => *since = NOW,
    }
    *retry = retry.map(on_grid);
}

/// The age of a request in flight beyond which its age has no effect: then it is given up as soon
/// as a connection waits, and a renewal grants no lease any more.
fn horizon_of(request: &Request, ttl: Duration) -> Duration {
    let given_up = STEP * MAX_PAUSE_WAITING.as_millis().div_ceil(STEP.as_millis()) as u32;
    match request {
        Request::RenewLease(_) => given_up.max(Lease::duration(ttl)),
        Request::Read | Request::ReadScale | Request::WriteScale { .. } => given_up,
    }
}

/// The age of the last renewal beyond which its age has no effect: then everything is due that
/// depends on it: the renewal of a valid lease, the next attempt while connections wait, and the
/// renewal of the last close, which is due before either.
fn horizon_of_sending(lease: &Lease) -> Duration {
    match lease.valid_until {
        Some(_) => Lease::renew_interval(lease.ttl).max(lease::FAIL_OPEN_AFTER),
        None => lease::FAIL_OPEN_AFTER,
    }
}

/// `time`, but at most one step further back than `longest`.
fn at_most_just_beyond(time: Time, longest: Duration) -> Time {
    let steps = longest.as_millis() / STEP.as_millis() + 1;
    time.max(NOW - STEP * steps as u32)
}

/// `due` at the next step; now if it is in the past.
fn on_grid(due: Time) -> Time {
    let steps = due.since(NOW).as_millis().div_ceil(STEP.as_millis());
    NOW + STEP * steps as u32
}

fn same_from_one_failure_on(backoff: &Backoff) -> Backoff {
    let mut same = Backoff::new(0);
    if backoff.failures() > 0 {
        same.pause(backoff::MAX_PAUSE);
    }
    same
}

/// Resets the nonce of a renewal: in the model the server makes tokens unique.
pub fn forget_nonce(request: &mut Request) {
    if let Request::RenewLease(renewal) = request {
        renewal.nonce = 0;
    }
}

/// The versions that a policy has stored.
pub fn versions(policy: &mut Policy) -> impl Iterator<Item = &mut ResourceVersion> {
    let known = match &mut policy.phase {
        Phase::Asleep { version } => Some(version),
        Phase::Waking { version, .. } => version.as_mut(),
        _ => None,
    };
    let guard = policy
        .in_flight
        .as_mut()
        .and_then(|asked| guard(&mut asked.request));
    [known, guard].into_iter().flatten()
}

/// The version that a request depends on.
pub fn guard(request: &mut Request) -> Option<&mut ResourceVersion> {
    match request {
        Request::WriteScale { guard, .. } => Some(guard),
        Request::RenewLease(renewal) => renewal.guard.as_mut(),
        Request::Read | Request::ReadScale => None,
    }
}

/// The last object that a policy has seen, and the observation that it has not handled yet.
pub fn shown(policy: &mut Policy) -> (Option<&mut Seen>, Option<&mut Scale>) {
    let observed = match &mut policy.observed {
        Some(Observation::Scale(scale)) => Some(scale),
        Some(Observation::Changed) | None => None,
    };
    (policy.seen.as_mut(), observed)
}

/// The token that a policy has seen last.
pub fn seen_token(policy: &mut Policy) -> Option<&mut LeaseToken> {
    policy.seen.as_mut()?.lease_token.as_mut()
}

/// Gives versions that are compared their canonical names, in the same order.
pub fn rank_versions<'a>(
    versions: impl Iterator<Item = &'a mut ResourceVersion>,
    current: &ResourceVersion,
) {
    let versions: Vec<_> = versions.collect();
    let mut stale: Vec<String> = versions.iter().map(|version| version.0.clone()).collect();
    stale.retain(|version| *version != current.0);
    stale.sort_unstable();
    stale.dedup();
    for version in versions {
        let rank = stale.iter().position(|stale| *stale == version.0);
        version.0 = rank.map_or(CURRENT.to_owned(), |rank| (rank + 1).to_string());
    }
}

/// Gives a version its canonical name.
pub fn rename_version(name: &mut ResourceVersion, current: &ResourceVersion) {
    let canonical = if name == current { CURRENT } else { STALE };
    if name.0 != canonical {
        name.0 = canonical.to_owned();
    }
}

mod tests;
