//! When the API server is asked, and what.
//!
//! One request is out at a time. A wake and a renewal take the place of a
//! read that is out; a read waits until it is due and nothing is out.

use super::Policy;
use super::command::Command;
use super::phase::Phase;
use crate::clock::Time;
use crate::cluster::Request;

/// The request that is on its way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct InFlight {
    pub(super) id: u64,
    pub(super) request: Request,
}

impl Policy {
    pub(super) fn send_due_request(&mut self, now: Time) {
        if let Phase::Waking {
            version: Some(guard),
            ..
        } = &self.phase
        {
            if now >= self.due && self.may_ask_urgently() {
                let (replicas, guard) = (self.config.wake_replicas, guard.clone());
                self.ask(Request::WriteScale { replicas, guard });
            }
        } else if self.is_up()
            && self.may_ask_urgently()
            && let Some(store) = self.lease.ask(now)
        {
            self.lease.sent(now);
            let nonce = self.nonces.bits();
            self.ask(Request::RenewLease { nonce, store });
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
