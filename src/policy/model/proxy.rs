//! A [`Proxy`] of the model: the real policy with its connections and its request in flight.

use std::cmp::Ordering;
use std::time::Duration;

use super::super::{Command, Config, Connections, Phase, Policy};
use super::canonical::{self, CONFIRMED_AFTER, NOW, STEP};
use super::deployment::{Breach, CURRENT, Deployment, SEEN, TTL, Variant};
use crate::cluster::{
    LeaseStore, LeaseToken, Observation, Outcome, Renewal, Request, ResourceVersion, Scale,
};
use crate::refusal::RefusalClock;

/// Steps in a TTL, the shorter one where they differ.
pub const STEPS_PER_TTL: u8 = steps_in(TTL);

/// Steps in which a process is away so long that it cannot be mistaken for the
/// API server's being slow.
const LONG_AWAY: u8 = 2;

const fn steps_in(time: Duration) -> u8 {
    (time.as_millis() / STEP.as_millis()) as u8
}

/// Whether the process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Life {
    /// It does.
    Running,
    /// It was sent a SIGSTOP: it keeps its connections and does nothing.
    Stopped,
    /// It has crashed.
    Down,
}

/// The policy's request, or the answer to it, on its way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Call {
    pub request: Request,
    /// `None` while the request is on its way.
    pub outcome: Option<Outcome>,
}

/// What is noted of a proxy in order to state the properties. It has no
/// influence on what happens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ghost {
    /// How many steps ago the process has started, at most a TTL.
    pub steps: u8,
    /// A write of the scale has failed since the last look at the Deployment.
    pub unread: bool,
    /// Since a renewal of its was last answered in time, one has failed
    /// or was not answered within a step.
    pub hindered: bool,
    /// How many steps ago the first write was sent that has not
    /// succeeded, with none since that has; at most one.
    pub in_vain: Option<u8>,
    /// Since then, the process was stopped for a step or more.
    pub away: bool,
    /// How many steps it has been stopped for by now, at most two.
    pub absent: u8,
}

/// One proxy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Proxy {
    pub policy: Policy,
    pub life: Life,
    pub call: Option<Call>,
    /// What its watch has sent and not delivered.
    pub event: Option<Scale>,
    /// Whether connections wait.
    pub waiting: bool,
    /// Whether connections were handed over and are open.
    pub served: bool,
    /// Whether a wake would lead to an address that it may dial.
    pub can_wake: bool,
    pub ghost: Ghost,
}

impl Proxy {
    /// One that was never started.
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

    /// One that starts now.
    pub fn start(config: Config, watches: bool) -> Self {
        let mut proxy = Proxy::down(config);
        proxy.starts(Variant::Sound, watches);
        proxy
    }

    /// It is started, with what stands in the way of a wake.
    pub fn starts(&mut self, variant: Variant, watches: bool) -> Effects {
        self.life = Life::Running;
        self.policy.watching = watches;
        if variant != Variant::HiddenPort {
            self.policy.can_wake = self.can_wake;
        }
        self.wakes_up()
    }

    /// It is killed.
    pub fn crashes(&mut self) {
        *self = Proxy {
            can_wake: self.can_wake,
            ..Proxy::down(self.policy.config.clone())
        };
    }

    /// A wake would lead to an address that it may dial, or would not.
    pub fn sees_port(&mut self, can_wake: bool, variant: Variant) -> Effects {
        self.can_wake = can_wake;
        self.tells_policy(|policy| {
            if variant != Variant::HiddenPort {
                policy.set_can_wake(can_wake, NOW);
            }
        })
    }

    pub fn ttl(&self) -> Duration {
        self.policy.config.idle_ttl
    }

    pub fn runs(&self) -> bool {
        self.life == Life::Running
    }

    /// Whether its connections are protected, as far as it knows.
    pub fn holds_lease(&self) -> bool {
        self.life != Life::Down && self.policy.lease.is_valid(NOW)
    }

    pub fn may_hand_over(&self) -> bool {
        self.runs() && self.waiting && self.policy.gate_open(NOW)
    }

    /// Whether it knows its pods to be quarantined, so that only new ones are
    /// dialled.
    pub fn has_quarantined(&self) -> bool {
        matches!(
            self.policy.phase,
            Phase::Asleep { .. } | Phase::Waking { .. }
        )
    }

    /// Whether an event of the Deployment as it is would tell it anything.
    pub fn lacks_event_of(&self, deployment: &Deployment) -> bool {
        let lacks = |known: Option<&ResourceVersion>| known != Some(&deployment.version);
        let sent = self.event.as_ref().map(|event| &event.version);
        let seen = self.policy.seen.as_ref().map(|seen| &seen.version);
        self.policy.watching && lacks(sent) && lacks(seen)
    }

    /// Whether that is older or newer than what it has seen.
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

    // --- What happens to it ---

    /// Time has passed, or the process runs again.
    pub fn wakes_up(&mut self) -> Effects {
        self.tells_policy(|policy| policy.handle_timeout(NOW))
    }

    /// A step of time lies behind it.
    pub fn ages(&mut self) {
        if self.life == Life::Down {
            return;
        }
        canonical::age(&mut self.policy);
        if self.life == Life::Stopped {
            self.ghost.away = true;
            self.ghost.absent = LONG_AWAY.min(self.ghost.absent + 1);
        }
        self.ghost.in_vain = self.ghost.in_vain.map(|_| 1);
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
    pub fn stops(&mut self) {
        self.life = Life::Stopped;
    }

    /// SIGCONT. Whoever was away for long has not seen the API server fail.
    pub fn goes_on(&mut self) -> Effects {
        self.life = Life::Running;
        let absent = std::mem::take(&mut self.ghost.absent);
        self.ghost.hindered &= absent < LONG_AWAY || self.policy.without_lease;
        self.wakes_up()
    }

    /// Whether the app's going to zero now cuts a connection that the protocol
    /// was to protect.
    pub fn is_cut(&self) -> bool {
        self.runs() && self.served && !self.ghost.hindered && !self.ghost.away
    }

    /// A connection comes.
    pub fn opens(&mut self) -> Effects {
        self.waiting = true;
        self.counts(1)
    }

    /// Those who wait give up.
    pub fn leaves(&mut self) -> Effects {
        self.waiting = false;
        self.counts(0)
    }

    /// Those who were served are done.
    pub fn closes(&mut self) -> Effects {
        self.served = false;
        self.counts(0)
    }

    /// Whoever waits is forwarded to a pod.
    pub fn hands_over(&mut self) -> Effects {
        let in_vain = self.ghost.in_vain == Some(1);
        let fails_open = self.policy.without_lease && self.ghost.hindered && in_vain;
        let allowed = self.holds_lease() || fails_open;
        self.waiting = false;
        self.served = true;
        let mut effects = self.counts(0);
        if !allowed {
            effects.breach = Some(Breach::WithoutLease);
        }
        effects
    }

    fn counts(&mut self, accepted: u64) -> Effects {
        let connections = Connections {
            accepted: self.policy.connections.accepted + accepted,
            open: usize::from(self.waiting) + usize::from(self.served),
            waiting: self.waiting.into(),
            resuming: 0,
        };
        self.tells_policy(|policy| policy.update_connections(connections, NOW))
    }

    pub fn sees_pods(&mut self, dialable: bool) -> Effects {
        self.tells_policy(|policy| policy.set_dialable(dialable, NOW))
    }

    /// The answer arrives, or the failure to get one.
    pub fn receives(&mut self, outcome: Outcome) -> Effects {
        let Some(call) = self.call.take() else {
            return Effects::default();
        };
        let shown = match &outcome {
            Outcome::Scale(scale) => Some(scale.replicas),
            _ => None,
        };
        match outcome {
            Outcome::Scale(_) => self.ghost.unread = false,
            Outcome::Unknown { .. } | Outcome::Conflict => self.ghost.unread |= call.writes_scale(),
            _ => {}
        }
        let id = self.policy.in_flight.as_ref().map_or(0, |asked| asked.id);
        let before = self.seen_version();
        self.policy.reply(id, outcome, NOW);
        if shown.is_some() && call.writes_scale() {
            self.ghost.in_vain = None;
        }
        if matches!(call.request, Request::RenewLease(_)) {
            self.ghost.hindered |= shown.is_none() && call.renews();
            if self.holds_lease() {
                (self.ghost.hindered, self.ghost.away) = (false, false);
                self.ghost.in_vain = None;
            }
        }
        self.execute_commands(self.seen_version() != before)
    }

    /// It is shown what its watch has sent.
    pub fn observes(&mut self) -> Effects {
        let event = self.event.take();
        self.tells_policy(|policy| {
            if let Some(event) = event {
                policy.observe(Observation::Scale(event), NOW);
            }
        })
    }

    fn tells_policy(&mut self, what: impl FnOnce(&mut Policy)) -> Effects {
        let before = self.seen_version();
        what(&mut self.policy);
        self.execute_commands(self.seen_version() != before)
    }

    fn seen_version(&self) -> Option<ResourceVersion> {
        let seen = self.policy.seen.as_ref();
        seen.map(|seen| seen.version.clone())
    }

    /// The answer is late, and the client reports that nothing was sent.
    pub fn receives_never_sent(&mut self) -> Effects {
        self.ghost.unread |= self.call.as_ref().is_some_and(Call::writes_scale);
        self.receives(Outcome::Unreachable)
    }

    /// Carries out what the policy has decided; `looked` if it has been shown a newer
    /// version before that.
    fn execute_commands(&mut self, looked: bool) -> Effects {
        let mut effects = Effects::default();
        while let Some(command) = self.policy.poll_command() {
            match command {
                Command::Ask { request, .. } => self.ask(request, looked, &mut effects),
                Command::QuarantinePods => self.policy.set_dialable(false, NOW),
                Command::EndQuarantine | Command::GaveUp(_) | Command::Log(_) => {}
            }
        }
        if self.policy.in_flight.is_none() {
            self.loses_interest(&mut effects);
        }
        self.ghost.unread &= !looked;
        effects
    }

    /// The policy waits no longer for what is on its way: it has given it up, or a
    /// read was superseded.
    fn loses_interest(&mut self, effects: &mut Effects) {
        let Some(call) = self.call.take() else {
            return;
        };
        self.ghost.unread |= call.writes_scale();
        self.ghost.hindered |= call.renews();
        if call.outcome.is_none() {
            effects.replaced = Some(call.request);
        }
    }

    fn ask(&mut self, mut request: Request, looked: bool, effects: &mut Effects) {
        self.loses_interest(effects);
        self.ghost.unread &= !looked;
        if let Request::WriteScale { replicas, .. } = request {
            if self.ghost.unread {
                effects.breach = Some(Breach::Unread);
            } else if replicas == 0 && self.ghost.steps < steps_in(self.ttl()) {
                effects.breach = Some(Breach::Hasty);
            } else if replicas == 0 && !self.can_wake {
                effects.breach = Some(Breach::Unwakeable);
            }
        }
        canonical::forget_nonce(&mut request);
        let call = Call {
            request,
            outcome: None,
        };
        if !call.request.is_read() {
            self.ghost.in_vain.get_or_insert(0);
        }
        self.call = Some(call);
    }

    /// Counts the lease that is about to be granted from the reply.
    pub fn counts_from_the_reply(&mut self) {
        if let Some(asked) = &mut self.policy.in_flight {
            asked.sent = NOW;
        }
    }

    /// Takes the refusal that is about to come for the last one of many.
    pub fn confirm_refusal(&mut self) {
        let refused = RefusalClock::Unconfirmed {
            since: NOW - CONFIRMED_AFTER,
            last: NOW,
        };
        let Policy {
            lease,
            reads,
            scale_writes,
            ..
        } = &mut self.policy;
        let right = match self.call.as_ref().map(|call| &call.request) {
            Some(Request::RenewLease(renewal)) => match renewal.store {
                LeaseStore::Status => &mut lease.status_permission,
                LeaseStore::Annotation => &mut lease.annotation_permission,
            },
            Some(Request::WriteScale { .. }) => scale_writes,
            _ => reads,
        };
        if !right.is_missing() {
            right.clock = refused;
        }
    }

    // --- The canonical form ---

    /// Gives versions and tokens their canonical names.
    pub fn rename(&mut self, deployment: &Deployment) {
        let Proxy {
            policy,
            call,
            event,
            ..
        } = self;
        let guards = canonical::versions(policy).chain(call.iter_mut().filter_map(Call::guard));
        for version in guards {
            canonical::rename_version(version, &deployment.version);
        }
        let watches = policy.watching;
        let (seen, observed) = canonical::shown(policy);
        let answer = call.as_mut().and_then(Call::shown);
        let (answered, answered_token) = answer.map_or((None, None), |scale| {
            (Some(&mut scale.version), scale.lease_token.as_mut())
        });
        let (observed, observed_token) = observed.map_or((None, None), |scale| {
            (Some(&mut scale.version), scale.lease_token.as_mut())
        });
        let (sent, sent_token) = event.as_mut().map_or((None, None), |scale| {
            (Some(&mut scale.version), scale.lease_token.as_mut())
        });
        let (seen, seen_token) = seen.map_or((None, None), |seen| {
            // Without a watch, it is compared with no other.
            (
                Some(&mut seen.version).filter(|_| watches),
                seen.lease_token.as_mut(),
            )
        });
        let shown = [seen, answered, observed, sent];
        canonical::rank_versions(shown.into_iter().flatten(), &deployment.version);
        let tokens = [
            (SEEN, seen_token),
            ("shown", answered_token),
            ("waiting", observed_token),
            ("sent", sent_token),
        ];
        rename_tokens(tokens, &deployment.token);
    }

    /// Forgets what makes no difference to what it will do. That the process
    /// has started earlier than the last sign of use that it knows is forgotten
    /// as well: the rule that is judged by its start is the stricter for it.
    pub fn forget(&mut self) {
        canonical::normalise(&mut self.policy);
        let unused = canonical::steps_unused(&self.policy);
        self.ghost.steps = self.ghost.steps.min(unused);
    }
}

impl Call {
    pub fn writes_scale(&self) -> bool {
        matches!(self.request, Request::WriteScale { .. })
    }

    /// Whether it is a renewal under which connections are to be let through.
    fn renews(&self) -> bool {
        matches!(
            self.request,
            Request::RenewLease(Renewal { guard: None, .. })
        )
    }

    fn guard(&mut self) -> Option<&mut ResourceVersion> {
        canonical::guard(&mut self.request)
    }

    fn shown(&mut self) -> Option<&mut Scale> {
        match &mut self.outcome {
            Some(Outcome::Scale(scale)) => Some(scale),
            _ => None,
        }
    }
}

/// Tokens are only ever compared with one another, and one that was overwritten never
/// comes back: each is called after the first place at which it is.
fn rename_tokens(tokens: [(&str, Option<&mut LeaseToken>); 4], current: &LeaseToken) {
    let mut names = vec![(current.0.clone(), CURRENT.to_owned())];
    for (place, token) in tokens {
        let Some(LeaseToken(token)) = token else {
            continue;
        };
        let name = names.iter().find(|(known, _)| known == token);
        let name = name.map_or(place.to_owned(), |(_, name)| name.clone());
        names.push((std::mem::replace(token, name.clone()), name));
    }
}

/// What an event at a proxy has led to beyond itself.
#[derive(Debug, Default)]
pub struct Effects {
    /// A request that was still on its way when the policy asked for another.
    pub replaced: Option<Request>,
    pub breach: Option<Breach>,
}
