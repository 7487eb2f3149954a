//! One state for all policies that behave alike.
//!
//! Time only ever matters as a distance from now, a version only as the current
//! one or not, a mark only as the same as another or not. So the model's clock
//! stands still at [`NOW`] and the past moves away from it, and after every
//! action what a policy remembers is replaced by the canonical form of it. That
//! makes the state space finite without a horizon: the model runs for ever.
//!
//! Nothing is lost by it but this: chance is fixed, and every pause after a
//! failure ends at the next [`STEP`], as the first five do.

use std::time::Duration;

use super::super::cover::{self, Cover};
use super::super::{InFlight, Phase, Policy, Seen};
use super::deployment::{CURRENT, STALE};
use crate::backoff::{self, Backoff, Random};
use crate::clock::Time;
use crate::cluster::{InUse, Request, ResourceVersion};

/// The idle TTL.
pub const TTL: Duration = Duration::from_secs(10);

/// How far time moves at once: a poll, half a cover's renewal rounded up to
/// the grid, a quarter of a cover, the fail-open, and a fifth of the TTL.
pub const STEP: Duration = Duration::from_secs(2);

/// The present, at all times.
pub const NOW: Time = Time::from_millis(1_000_000);

/// Moves everything that a policy remembers one step into the past.
pub fn age(policy: &mut Policy) {
    let Policy {
        config: _,
        phase,
        connections: _,
        idle_since,
        dialable: _,
        seen,
        generation: _,
        cover,
        uncovered: _,
        told: _,
        in_flight: _,
        next_id: _,
        due,
        excused_until,
        backoff: _,
        nonces: _,
        commands: _,
    } = policy;
    let since = match phase {
        Phase::Starting { since } | Phase::Waking { since, .. } => Some(since),
        Phase::Awake | Phase::Judging | Phase::Falling | Phase::Asleep { .. } => None,
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
        Some(due),
        Some(excused_until),
    ];
    for time in times.into_iter().flatten().chain(times_of(cover)) {
        *time = *time - STEP;
    }
}

fn times_of(cover: &mut Cover) -> impl Iterator<Item = &mut Time> {
    let Cover {
        ttl: _,
        until,
        sent,
        due,
        via: _,
        retry_ways,
        proven: _,
        forbidden_since,
        sought_since,
        somebody_waits: _,
        failed,
        not_before,
        unanswered: _,
        backoff: _,
    } = cover;
    let times = [
        until.as_mut(),
        Some(sent),
        due.as_mut(),
        retry_ways.as_mut(),
        forbidden_since.as_mut(),
        sought_since.as_mut(),
        Some(failed),
        Some(not_before),
    ];
    times.into_iter().flatten()
}

/// Forgets what makes no difference to anything that the policy will do.
pub fn normalise(policy: &mut Policy) {
    match &mut policy.phase {
        // For the log only.
        Phase::Starting { since } | Phase::Waking { since, .. } => *since = NOW,
        _ => {}
    }
    policy.told = true;
    policy.connections.accepted = 0;
    policy.idle_since = policy.idle_since.map(|since| since.max(NOW - TTL));
    if let Some(seen) = &mut policy.seen {
        seen.since = seen.since.max(NOW - TTL);
        seen.last = seen.last.max(NOW - TTL);
    }
    policy.due = on_grid(policy.due);
    policy.excused_until = policy.excused_until.max(NOW);
    forget_chance(policy);
    policy.next_id = 0;
    if let Some(InFlight { id, request }) = &mut policy.in_flight {
        *id = 0;
        forget_nonce(request);
    }
    normalise_cover(&mut policy.cover);
}

/// Makes chance the same every time, and every failure the second.
pub fn forget_chance(policy: &mut Policy) {
    policy.nonces = Random::new(0);
    policy.cover.backoff = Backoff::new(0);
    policy.backoff = same_from_one_failure_on(&policy.backoff);
}

fn normalise_cover(cover: &mut Cover) {
    cover.until = cover.until.filter(|&until| until > NOW).map(on_grid);
    let oldest = NOW - Cover::length(TTL);
    cover.sent = cover.sent.max(oldest);
    cover.due = cover.due.map(on_grid);
    cover.not_before = cover.not_before.max(NOW);
    cover.failed = cover.failed.max(NOW - cover::FRESH - STEP);
    let oldest = NOW - cover::FAIL_OPEN_AFTER - STEP;
    cover.sought_since = cover.sought_since.map(|since| since.max(oldest));
}

/// What is due later is due at a tick; what was due earlier is due now.
fn on_grid(due: Time) -> Time {
    let steps = due.since(NOW).as_millis().div_ceil(STEP.as_millis());
    NOW + STEP * steps as u32
}

fn same_from_one_failure_on(backoff: &Backoff) -> Backoff {
    let mut same = Backoff::new(0);
    if backoff.failures() > 0 {
        same.pause(backoff::LONGEST);
    }
    same
}

/// All announcements are alike: it is the server that makes marks unique.
pub fn forget_nonce(request: &mut Request) {
    if let Request::Announce { nonce, .. } = request {
        *nonce = 0;
    }
}

/// The versions that a policy remembers.
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
        Request::Read | Request::Announce { .. } => None,
    }
}

/// The mark that a policy has seen last.
pub fn seen_mark(policy: &mut Policy) -> Option<&mut InUse> {
    policy.seen.as_mut()?.in_use.as_mut()
}

/// Gives a version its canonical name.
pub fn rename_version(name: &mut ResourceVersion, current: &ResourceVersion) {
    let canonical = if name == current { CURRENT } else { STALE };
    if name.0 != canonical {
        name.0 = canonical.to_owned();
    }
}
