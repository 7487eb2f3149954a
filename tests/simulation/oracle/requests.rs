//! The rules about the requests of a process: their order, and their number in a minute.

use std::time::Duration;

use zpa::clock::Time;
use zpa::cluster::{Outcome, Request, Scale};
use zpa::policy;
use zpa::policy::lease::Lease;

use super::Oracle;
use super::shadow::number;
use crate::deployment;

/// Requests in a minute, at most: asleep, awake, and under whatever faults. Where reads and
/// renewals come more often than once in [`policy::POLL`], as many more of each as that
/// makes ([`Oracle::more_than_polls`]).
const ASLEEP: usize = 10;
const ASLEEP_WATCHED: usize = 4;
const AWAKE: usize = 20;
/// Where neither place takes a lease, renewals alternate between them.
const STORM: usize = 120;
const MINUTE: Duration = Duration::from_secs(60);

impl Oracle {
    /// A request has been sent.
    pub fn sent(&mut self, pid: usize, id: u64, request: &Request, now: Time) {
        let shadow = &mut self.shadows[pid];
        shadow.stirred = now;
        match request {
            Request::Read | Request::ReadScale => {}
            Request::RenewLease(_) => {
                // A hedged request counts from the first one.
                shadow.renewing.entry(id).or_insert(now);
            }
            Request::WriteScale { guard, replicas } => {
                if *replicas == 0 {
                    // Who puts the app to sleep gives its own lease up first.
                    shadow.lease = None;
                }
                if !shadow.read.contains(guard) {
                    let what = format!("p{pid} writes at {guard}, and has not seen that since");
                    self.violated("every write follows a fresh read", what, now);
                }
            }
        }
        self.counted(pid, deployment::asked(request), now);
    }

    /// A request to the API server counts, whatever it is.
    pub fn counted(&mut self, pid: usize, kind: String, now: Time) {
        let calm_since = self.calm_since(pid);
        let replicas = self.last_change;
        let short_ttl = 2 * self.more_than_polls(pid);
        let watched_poll = (self.ttl_of(pid) / 4).min(policy::POLL_WATCHED);
        let watched_short_ttl = polls(watched_poll) - polls(policy::POLL_WATCHED);
        let shadow = &mut self.shadows[pid];
        shadow.requests.push_back((now, kind));
        while shadow
            .requests
            .front()
            .is_some_and(|(at, _)| now.since(*at) > MINUTE)
        {
            shadow.requests.pop_front();
        }
        let count = shadow.requests.len();
        self.most_requests = self.most_requests.max(count);
        let quiet = replicas.map_or(Time::default(), |change| change.at);
        let quiet = quiet.max(self.pods_fail);
        let is_calm = now.since(calm_since.max(quiet)) > MINUTE * 2;
        let asleep = replicas.is_some_and(|change| change.to == 0);
        let watches_since = shadow.watches_since;
        let is_watched = watches_since.is_some_and(|since| now.since(since) > MINUTE);
        let ceiling = match (is_calm, asleep) {
            (true, true) if shadow.open == 0 && is_watched => ASLEEP_WATCHED + watched_short_ttl,
            (true, true) if shadow.open == 0 => ASLEEP + short_ttl,
            (true, false) => AWAKE + short_ttl,
            _ => STORM + short_ttl,
        };
        if count > ceiling {
            let all: Vec<_> = shadow
                .requests
                .iter()
                .map(|(_, kind)| kind.as_str())
                .collect();
            let what = format!("p{pid}: {count} > {ceiling}: {}", all.join(", "));
            self.violated("requests per minute have a ceiling", what, now);
        }
    }

    /// How many more reads in a minute than polls a process may make: five in its TTL, and two
    /// in the shortest TTL of all if its own is longer, since that one may hide its lease.
    fn more_than_polls(&self, pid: usize) -> usize {
        let own = self.ttl_of(pid);
        let shorter = self.ttls.iter().copied().min().filter(|ttl| *ttl < own);
        let interval = (own / 5).min(shorter.map_or(own, |ttl| ttl / 2));
        polls(interval.min(policy::POLL)) - polls(policy::POLL)
    }

    /// The reply has come in; `rate` is how fast the proxy's clock runs.
    pub fn received(
        &mut self,
        pid: usize,
        id: u64,
        asked: &Request,
        outcome: &Outcome,
        rate: f64,
        now: Time,
    ) {
        let length = Lease::duration(self.ttl_of(pid)).div_f64(rate);
        let shadow = &mut self.shadows[pid];
        shadow.stirred = now;
        let sent = shadow.renewing.remove(&id);
        match outcome {
            Outcome::Scale(scale) => {
                shadow.read.push(scale.version.clone());
                shadow.newest = shadow.newest.max(number(&scale.version));
                shadow.shown.reply(scale, now);
                if scale.replicas == 0 {
                    shadow.lease_ends = true;
                } else if let Some(sent) = sent {
                    shadow.lease = Some((sent, sent + length));
                }
            }
            // Nothing was written, so that what was seen still stands.
            Outcome::Busy { .. } | Outcome::Unreachable => {}
            Outcome::Forbidden | Outcome::Unauthorized => {}
            // What a watch has shown meanwhile is newer than what the write may have done,
            // or is what it has done: under its guard it is not done any more.
            _ => {
                if let Request::WriteScale { guard, .. } = asked {
                    shadow.read.retain(|seen| number(seen) > number(guard));
                }
            }
        }
    }

    /// A watch has shown the Deployment. What is older than a reply says nothing.
    pub fn observed(&mut self, pid: usize, scale: &Scale, now: Time) {
        let shadow = &mut self.shadows[pid];
        if number(&scale.version) > shadow.newest {
            shadow.newest = number(&scale.version);
            shadow.read.push(scale.version.clone());
            shadow.shown.reply(scale, now);
            if scale.replicas == 0 {
                shadow.zero_shown = Some(now);
            }
        }
    }

    /// Since when a process watches the Deployment, as far as it knows.
    pub fn watches(&mut self, pid: usize, since: Option<Time>) {
        self.shadows[pid].watches_since = since;
    }
}

/// How often something comes in a minute that comes once in that interval.
fn polls(interval: Duration) -> usize {
    (MINUTE.as_millis() / interval.as_millis()) as usize
}
