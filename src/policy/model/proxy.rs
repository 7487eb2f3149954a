//! [`Proxy`]: a proxy of the model that the checker explores ([`super`]): the real policy, its
//! connections and its request in flight. For it, it is always [`NOW`]: a step of time moves the
//! times in the policy back, so that states that differ only in their age are one.

mod calls;
mod names;

use std::cmp::Ordering;
use std::time::Duration;

pub use self::calls::Call;
use super::super::{Config, Connections, Phase, Policy};
use super::canonical::{self, NOW, STEP};
use super::deployment::{Breach, Deployment, TTL, Variant};
use crate::cluster::{Observation, Request, ResourceVersion, Scale};

/// Steps in a TTL, the shorter one where they differ.
pub const STEPS_PER_TTL: u8 = steps_in(TTL);

/// From so many steps on the policy recognises that its process was stopped, and does not take
/// the missing replies for an outage of the API server, in which it would fail open.
const STALL_STEPS: u8 = 2;

const fn steps_in(time: Duration) -> u8 {
    (time.as_millis() / STEP.as_millis()) as u8
}

/// The state of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Life {
    /// It runs.
    Running,
    /// It was sent a SIGSTOP: it keeps its connections and does nothing.
    Stopped,
    /// It has crashed.
    Down,
}

/// The ghost variables of a proxy: they are needed to state the properties, and have no effect on
/// its behaviour.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ghost {
    /// How many steps ago the process has started, at most a TTL.
    pub steps: u8,
    /// Whether a write of the scale has failed and no newer version was seen since: another write
    /// must wait for that.
    pub needs_read: bool,
    /// Since its last renewal that was answered with a lease, one has failed or was not answered
    /// within a step.
    pub hindered: bool,
    /// How many steps ago (at most 1) the first write was sent that no successful write has
    /// followed; `None`: there is none.
    pub unanswered_write: Option<u8>,
    /// Whether the process was stopped for a step or more since that renewal.
    pub was_stopped: bool,
    /// How many steps it has been stopped for by now, at most two.
    pub stopped_for: u8,
}

/// One proxy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Proxy {
    pub policy: Policy,
    pub life: Life,
    pub call: Option<Call>,
    /// The event that its watch has sent and not delivered.
    pub event: Option<Scale>,
    /// Whether connections wait.
    pub waiting: bool,
    /// Whether connections were forwarded and are open.
    pub served: bool,
    /// Whether a wake would lead to an address that it may dial.
    pub can_wake: bool,
    pub ghost: Ghost,
}

impl Proxy {
    /// A proxy that was never started.
    pub fn down(config: Config) -> Self {
        let mut policy = Policy::new(config, 0, NOW);
        canonical::normalise(&mut policy);
        Proxy {
            policy,
            life: Life::Down,
            call: None,
            event: None,
            waiting: false,
            served: false,
            can_wake: true,
            ghost: Ghost::default(),
        }
    }

    /// A proxy that starts now.
    pub fn started(config: Config, watches: bool) -> Self {
        let mut proxy = Proxy::down(config);
        proxy.start(Variant::Sound, watches);
        proxy
    }

    /// The process is started, and learns whether it could wake the app.
    pub fn start(&mut self, variant: Variant, watches: bool) -> Effects {
        self.life = Life::Running;
        self.policy.watching = watches;
        if variant != Variant::HiddenPort {
            self.policy.can_wake = self.can_wake;
        }
        self.handle_timeout()
    }

    /// The process is killed.
    pub fn crash(&mut self) {
        *self = Proxy {
            can_wake: self.can_wake,
            ..Proxy::down(self.policy.config.clone())
        };
    }

    /// The proxy learns whether a wake would lead to an address that it may dial.
    pub fn set_can_wake(&mut self, can_wake: bool, variant: Variant) -> Effects {
        self.can_wake = can_wake;
        self.update_policy(|policy| {
            if variant != Variant::HiddenPort {
                policy.set_can_wake(can_wake, NOW);
            }
        })
    }

    pub fn ttl(&self) -> Duration {
        self.policy.config.idle_ttl
    }

    pub fn is_running(&self) -> bool {
        self.life == Life::Running
    }

    /// Whether it has a valid lease by its own clock.
    pub fn holds_lease(&self) -> bool {
        self.life != Life::Down && self.policy.lease.is_valid(NOW)
    }

    pub fn may_forward(&self) -> bool {
        self.is_running() && self.waiting && self.policy.gate_open(NOW)
    }

    /// Whether it has its pods in quarantine, so that only new ones are dialled.
    pub fn has_quarantined(&self) -> bool {
        matches!(
            self.policy.phase,
            Phase::Asleep { .. } | Phase::Waking { .. }
        )
    }

    /// Whether an event of the Deployment as it is would be new to it.
    pub fn lacks_event_of(&self, deployment: &Deployment) -> bool {
        let lacks = |known: Option<&ResourceVersion>| known != Some(&deployment.version);
        let sent = self.event.as_ref().map(|event| &event.version);
        let seen = self.policy.seen.as_ref().map(|seen| &seen.version);
        self.policy.watching && lacks(sent) && lacks(seen)
    }

    /// Whether the event is older or newer than the version that it has seen.
    pub fn order_of(&self, event: &Scale) -> Option<Ordering> {
        event.version.compare(&self.policy.seen.as_ref()?.version)
    }

    pub fn request(&self) -> Option<&Request> {
        let call = self.call.as_ref()?;
        call.outcome.is_none().then_some(&call.request)
    }

    pub fn has_answer(&self) -> bool {
        self.call
            .as_ref()
            .is_some_and(|call| call.outcome.is_some())
    }

    // --- Events ---

    /// Time has passed, or the process runs again.
    pub fn handle_timeout(&mut self) -> Effects {
        self.update_policy(|policy| policy.handle_timeout(NOW))
    }

    /// A step of time has passed.
    pub fn age(&mut self) {
        if self.life == Life::Down {
            return;
        }
        canonical::age(&mut self.policy);
        if self.life == Life::Stopped {
            self.ghost.was_stopped = true;
            self.ghost.stopped_for = STALL_STEPS.min(self.ghost.stopped_for + 1);
        }
        self.ghost.unanswered_write = self.ghost.unanswered_write.map(|_| 1);
        self.ghost.steps = steps_in(self.ttl()).min(self.ghost.steps + 1);
        if self
            .call
            .as_ref()
            .is_some_and(|call| call.request != Request::Read)
        {
            self.ghost.hindered = true;
        }
    }

    /// SIGSTOP.
    pub fn stop(&mut self) {
        self.life = Life::Stopped;
    }

    /// SIGCONT. A process that was stopped for long has not seen the API server fail.
    pub fn resume(&mut self) -> Effects {
        self.life = Life::Running;
        let stopped_for = std::mem::take(&mut self.ghost.stopped_for);
        self.ghost.hindered &= stopped_for < STALL_STEPS || self.policy.without_lease;
        self.handle_timeout()
    }

    /// Whether a scale to zero now would cut a connection that the protocol has to protect.
    pub fn would_be_cut(&self) -> bool {
        self.is_running() && self.served && !self.ghost.hindered && !self.ghost.was_stopped
    }

    /// A connection comes.
    pub fn open(&mut self) -> Effects {
        self.waiting = true;
        self.update_connections(1)
    }

    /// The waiting clients give up.
    pub fn leave(&mut self) -> Effects {
        self.waiting = false;
        self.update_connections(0)
    }

    /// The forwarded connections end.
    pub fn close(&mut self) -> Effects {
        self.served = false;
        self.update_connections(0)
    }

    /// The waiting connections are forwarded to a pod.
    pub fn forward(&mut self) -> Effects {
        let is_unanswered = self.ghost.unanswered_write == Some(1);
        let fails_open = self.policy.without_lease && self.ghost.hindered && is_unanswered;
        let allowed = self.holds_lease() || fails_open;
        self.waiting = false;
        self.served = true;
        let mut effects = self.update_connections(0);
        if !allowed {
            effects.breach = Some(Breach::WithoutLease);
        }
        effects
    }

    fn update_connections(&mut self, accepted: u64) -> Effects {
        let connections = Connections {
            uses: self.policy.connections.uses + accepted,
            open: usize::from(self.waiting) + usize::from(self.served),
            waiting: self.waiting.into(),
            resuming: 0,
        };
        self.update_policy(|policy| policy.update_connections(connections, NOW))
    }

    pub fn set_dialable(&mut self, dialable: bool) -> Effects {
        self.update_policy(|policy| policy.set_dialable(dialable, NOW))
    }

    /// Its watch delivers the event that it has sent.
    pub fn observe(&mut self) -> Effects {
        let event = self.event.take();
        self.update_policy(|policy| {
            if let Some(event) = event {
                policy.observe(Observation::Scale(event), NOW);
            }
        })
    }

    fn update_policy(&mut self, what: impl FnOnce(&mut Policy)) -> Effects {
        let before = self.seen_version();
        what(&mut self.policy);
        self.execute_commands(self.seen_version() != before)
    }

    fn seen_version(&self) -> Option<ResourceVersion> {
        let seen = self.policy.seen.as_ref();
        seen.map(|seen| seen.version.clone())
    }
}

/// The effects of an event at a proxy on the rest of the model.
#[derive(Debug, Default)]
pub struct Effects {
    /// A request that was still in flight when the policy made another one.
    pub replaced: Option<Request>,
    pub breach: Option<Breach>,
}
