//! When the API server is asked, and what.
//!
//! One request is out at a time. A wake and an announcement take the place of a
//! read that is out; a read waits until it is due and nothing is out.

use std::time::Duration;

use super::{Command, Config, Phase, Policy};
use crate::clock::Time;
use crate::cluster::Request;

/// How often the Deployment is read when nothing happens: it shows what others
/// have done, and keeps the API connection warm for the next write.
pub const POLL: Duration = Duration::from_secs(10);

/// How often it is read while somebody waits for a pod.
pub const POLL_STARTING: Duration = Duration::from_secs(5);

/// How many times in a TTL it is read at least: another proxy's last
/// announcement is seen a fifth of a TTL late at most. It was made a tenth late
/// at most, and so the app sleeps between 1 and 1.3 TTL after the last
/// connection anywhere.
const POLLS_PER_TTL: u32 = 5;

/// When to ask again what was forbidden: rights come with a human's hand.
pub const POLL_FORBIDDEN: Duration = Duration::from_secs(30);

/// The longest pause between two attempts while somebody waits for a pod, or
/// for the cover of a connection that is open.
pub(super) const LONGEST_PAUSE_WAITING: Duration = Duration::from_secs(5);

/// The request that is on its way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct InFlight {
    pub(super) id: u64,
    pub(super) request: Request,
}

impl Policy {
    pub(super) fn ask_what_is_due(&mut self, now: Time) {
        if let Phase::Waking {
            version: Some(guard),
            ..
        } = &self.phase
        {
            if now >= self.due && self.may_ask_urgently() {
                let (replicas, guard) = (self.config.wake_replicas, guard.clone());
                self.ask(Request::WriteScale { replicas, guard });
            }
        } else if self.is_in_use()
            && self.may_ask_urgently()
            && let Some(via) = self.cover.ask(now)
        {
            self.cover.sent(now);
            let nonce = self.nonces.bits();
            self.ask(Request::Announce { nonce, via });
        } else if now >= self.due && self.in_flight.is_none() {
            self.ask(Request::Read);
        }
    }

    /// Somebody's cold start does not wait for the end of a poll.
    pub(super) fn may_ask_urgently(&self) -> bool {
        self.in_flight
            .as_ref()
            .is_none_or(|asked| asked.request == Request::Read)
    }

    pub(super) fn ask(&mut self, request: Request) {
        let id = self.next_id;
        self.next_id += 1;
        self.in_flight = Some(InFlight {
            id,
            request: request.clone(),
        });
        self.commands.push_back(Command::Ask { id, request });
    }
}

impl Config {
    /// How often the Deployment is read when nothing happens.
    pub(super) fn poll(&self) -> Duration {
        POLL.min(self.idle_ttl / POLLS_PER_TTL)
    }
}
