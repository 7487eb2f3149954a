//! The protocol of several proxies, explored by a model checker.
//!
//! # What is modelled
//!
//! Two proxies, each with the *real* [`Policy`](super::Policy), and the API
//! server with one Deployment: a version, replicas, and the token of the last
//! renewal. There is no second copy of the rules. The model plays all that
//! is around the policy, and everything of that may happen in every order:
//! - a request is carried out, its answer arrives, each at any later time;
//! - the client gives up and reports [`Outcome::Unknown`], while its request, or
//!   the answer, is still on its way; the request may be carried out at any
//!   later time ([`world::Late`]), after others of the same proxy and of the other one,
//!   or never, which is how a request is lost;
//! - a policy gives a request up by itself, since somebody waits for its reply;
//! - the API server cannot be reached, or refuses a request with 401 or 403. Any
//!   request may be refused, to either proxy: for a moment or until that is confirmed,
//!   one permission or several, at start and later;
//! - a connection comes, is forwarded, leaves before or after that;
//! - pods appear and vanish with the scale, each proxy seeing that at any later
//!   time; before a proxy has seen a zero, it may be shown the old pods;
//! - a proxy crashes, and starts again at any later time; its request stays on
//!   its way; it is stopped (SIGSTOP) and goes on at any later time, while others
//!   go on and its request may be carried out;
//! - others write to the Deployment, which moves its version;
//! - where proxies have a watch, it shows each of them the Deployment as it was at some
//!   time, at any later time: before or after the replies that show the same or more, or
//!   never. Events of one watch keep their order; one may be lost, as by a list;
//! - a proxy learns that a wake would lead nowhere (the Service has lost its port), or
//!   that it would;
//! - time passes in steps of a fifth of the TTL, for both proxies at once.
//!
//! Time has no horizon: see [`canonical`] for how the space is finite all the
//! same, and its `tests` for a proof by trial that this changes nothing. That two
//! proxies which change places make no difference halves it.
//!
//! # What is left out
//!
//! - Per run, the [`Budget`]: how many connections come, how much goes wrong, how
//!   many steps pass while somebody waits for an answer. [`ANY`] is no bound.
//! - Each proxy has at most one connection that waits and one that is served;
//!   more would make no difference to the policy, which asks only whether there
//!   are any.
//! - Of renewals that nobody waits for, one may be on its way at a time; a
//!   second one is lost.
//! - Pauses after the fifth failure in a row and later: all end at the next step.
//! - Time between the steps: a renewal that is due after a quarter of the TTL
//!   is sent after two fifths. What is later than it should be makes leases
//!   shorter, never sleeps earlier.
//! - The generation: no answer shows it, so that a sleep and a wake between two
//!   looks are noticed by nobody.
//! - More proxies than two.
//! - 404, 429, and an operator on the scale; these are in the tests of the policy.
//! - Of unequal TTLs, all but one that is twice as long as the other.
//! - A refusal is confirmed after 4 s instead of 30: less than a TTL, as it is with all
//!   but the shortest TTLs.
//! - The place of a lease: the status and an annotation are refused separately, and to
//!   write to either is the same.
//!
//! # The rest of it
//!
//! [`properties`] states the invariants of the design, [`deployment::Variant`]
//! the ways to break the protocol, and `tests` what is run: a small bound by
//! `cargo test`, a large one with `ZPA_MODEL=full` in the environment.

mod calm;
mod canonical;
mod deployment;
mod properties;
mod proxy;
mod tests;
mod world;

use std::time::Duration;

use stateright::{Model, Property};

use self::canonical::CONFIRMED_AFTER;
use self::deployment::{Deployment, Variant, WAKE_REPLICAS};
use self::proxy::{Call, Life, Proxy};
use self::world::{Late, LateRequest, UNKNOWN, World};
use super::Config;
use crate::cluster::{Outcome, Request};

/// No bound: the budget does not shrink.
const ANY: u8 = u8::MAX;

/// How much may happen in one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Budget {
    /// Connections that come.
    connections: u8,
    /// Requests lost, refused or given up, crashes, SIGSTOPs.
    faults: u8,
    /// Steps of time that pass while a request or an answer is on its way.
    delays: u8,
    /// Requests that are answered with 401 or 403.
    refusals: u8,
    /// Writes by others, that move the version and nothing else.
    touches: u8,
    /// Events of the proxies' watches.
    events: u8,
    /// Ports of the Service that come or go for a proxy.
    ports: u8,
}

/// How long a run lasts, in steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Steps {
    /// While anything may happen that the budget allows.
    faulty: u8,
    /// While everything is answered within the step in which it was asked, and
    /// nothing new happens.
    calm: u8,
}

/// What is explored.
#[derive(Clone, Debug)]
struct Scenario {
    variant: Variant,
    /// The idle TTL of each proxy.
    ttls: [Duration; 2],
    budget: Budget,
    /// Without a bound on time if there are none.
    steps: Option<Steps>,
    /// How many calm steps lie behind the proxies at the beginning.
    quiet: u8,
    /// Whether reads, too, may be on their way for longer than a step.
    late_reads: bool,
    /// Whether pods may fail by themselves.
    free_pods: bool,
    /// Whether the proxies watch the Deployment.
    watches: bool,
}

/// What happens next; the number is the proxy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// A step of time passes.
    Pass,
    /// The API server carries out a request.
    Apply(usize),
    /// Its answer arrives.
    Answer(usize),
    /// The client gives up; the request or its answer is still on its way.
    GiveUp(usize),
    /// The API server cannot be reached.
    Refuse(usize),
    /// The API server answers 403.
    Forbid(usize),
    /// The API server answers 401.
    Deny(usize),
    /// A request that was given up is carried out after all.
    ApplyLate(LateRequest),
    /// Somebody else writes to the Deployment.
    Touch,
    /// The watch begins to send the Deployment as it is, in place of an event that it
    /// has not delivered.
    Emit(usize),
    /// The proxy is shown what was sent.
    Observe(usize),
    /// A connection comes.
    Open(usize),
    /// It is forwarded.
    HandOver(usize),
    /// It ends without having been forwarded.
    Leave(usize),
    /// It ends after having been forwarded.
    Close(usize),
    /// A pod may be dialled, or none any more.
    Pods(usize, bool),
    /// The Service has the proxy's port, or has it no more.
    Port(usize, bool),
    /// The process is killed.
    Crash(usize),
    /// It is started anew.
    Start(usize),
    /// SIGSTOP.
    Stop(usize),
    /// SIGCONT.
    Continue(usize),
}

impl Action {
    /// Whether the budget of faults is charged with it.
    fn is_fault(self) -> bool {
        matches!(
            self,
            Action::GiveUp(_) | Action::Refuse(_) | Action::Crash(_) | Action::Stop(_)
        )
    }
}

impl Scenario {
    /// Whether a step of time may pass.
    fn may_pass(&self, world: &World) -> bool {
        if !world.allows_faults() {
            return world.is_settled();
        }
        let may_be_late = |call: &Call| self.late_reads || call.request != Request::Read;
        world.awaited().next().is_none()
            || (world.left.delays > 0 && world.awaited().all(may_be_late))
    }

    fn config(ttl: Duration) -> Config {
        Config {
            idle_ttl: ttl,
            wake_replicas: WAKE_REPLICAS,
            refusal_confirmed_after: CONFIRMED_AFTER,
            undone_sleep_doublings: 0,
            ..Config::default()
        }
    }

    /// Both proxies have just started.
    fn begin(&self, replicas: u32) -> World {
        let start = |ttl| Proxy::start(Self::config(ttl), self.watches);
        let proxies = self.ttls.map(start);
        let mut world = World {
            deployment: Deployment::new(replicas),
            proxies,
            late: Late::default(),
            left: self.budget,
            steps: None,
            breach: None,
        };
        world.normalise();
        world.stays_calm(self.quiet);
        world.steps = self.steps;
        world
    }

    /// What can happen around one proxy.
    fn actions_of(&self, world: &World, p: usize, actions: &mut Vec<Action>) {
        let proxy = &world.proxies[p];
        let faults = world.allows_faults() && world.left.faults > 0;
        let refusals = world.allows_faults() && world.left.refusals > 0;
        let ports = world.allows_faults() && world.left.ports > 0;
        let opens = world.allows_faults() && world.left.connections > 0;
        let requests = proxy.request().is_some();
        let pending = proxy.call.is_some();
        let runs = proxy.runs();
        let up = proxy.life != Life::Down;
        let stopped = proxy.life == Life::Stopped;
        let pods = self.pods(world, proxy);
        let sends = world.allows_faults() && world.left.events > 0;
        let can = [
            (requests, Action::Apply(p)),
            (runs && proxy.has_answer(), Action::Answer(p)),
            (runs && pending && faults, Action::GiveUp(p)),
            (runs && requests && faults, Action::Refuse(p)),
            (runs && requests && refusals, Action::Forbid(p)),
            (runs && requests && refusals, Action::Deny(p)),
            (runs && opens && !proxy.waiting, Action::Open(p)),
            (proxy.may_hand_over(), Action::HandOver(p)),
            (
                runs && world.allows_faults() && proxy.waiting,
                Action::Leave(p),
            ),
            (
                runs && world.allows_faults() && proxy.served,
                Action::Close(p),
            ),
            (runs && pods.contains(&true), Action::Pods(p, true)),
            (runs && pods.contains(&false), Action::Pods(p, false)),
            (
                up && sends && proxy.lacks_event_of(&world.deployment),
                Action::Emit(p),
            ),
            (
                runs && world.allows_faults() && proxy.event.is_some(),
                Action::Observe(p),
            ),
            (runs && ports, Action::Port(p, !proxy.can_wake)),
            (up && faults, Action::Crash(p)),
            (!up && world.allows_faults(), Action::Start(p)),
            (runs && faults, Action::Stop(p)),
            (stopped && world.allows_faults(), Action::Continue(p)),
        ];
        actions.extend(
            can.into_iter()
                .filter(|(can, _)| *can)
                .map(|(_, action)| action),
        );
    }

    /// What the proxy may see next of its pods. The old ones may still be
    /// listed after the app was put to sleep.
    fn pods(&self, world: &World, proxy: &Proxy) -> Vec<bool> {
        let dialable = proxy.policy.dialable;
        let awake = world.deployment.replicas > 0;
        let listed = awake || (world.allows_faults() && !proxy.has_quarantined());
        let next = [
            (!dialable && listed).then_some(true),
            (dialable && (!awake || (self.free_pods && world.allows_faults()))).then_some(false),
        ];
        next.into_iter().flatten().collect()
    }

    fn act(&self, world: &mut World, action: Action) {
        match action {
            Action::Pass => world.pass(),
            Action::Apply(p) => world.apply(p, self.variant),
            Action::Answer(p) => world.answer(p, self.variant),
            Action::GiveUp(p) => self.give_up(world, p),
            Action::Refuse(p) => world.receive(p, Outcome::Unreachable),
            Action::Forbid(p) => {
                if self.variant == Variant::ConfirmsAtOnce {
                    world.proxies[p].confirm_refusal();
                }
                world.receive(p, Outcome::Forbidden);
            }
            Action::Deny(p) => world.receive(p, Outcome::Unauthorized),
            Action::ApplyLate(request) => world.apply_late(request, self.variant),
            Action::Touch => world.deployment.touch(),
            Action::Emit(p) => world.proxies[p].event = Some(world.deployment.event()),
            Action::Observe(p) => world.at(p, Proxy::observes),
            Action::Open(p) => world.at(p, Proxy::opens),
            Action::HandOver(p) => world.at(p, Proxy::hands_over),
            Action::Leave(p) => world.at(p, Proxy::leaves),
            Action::Close(p) => world.at(p, Proxy::closes),
            Action::Pods(p, dialable) => world.at(p, |proxy| proxy.sees_pods(dialable)),
            Action::Crash(p) => self.crash(world, p),
            Action::Port(p, can_wake) => {
                world.at(p, |proxy| proxy.sees_port(can_wake, self.variant));
            }
            Action::Start(p) => world.at(p, |proxy| proxy.starts(self.variant, self.watches)),
            Action::Stop(p) => world.proxies[p].stops(),
            Action::Continue(p) => world.at(p, Proxy::goes_on),
        }
    }

    fn give_up(&self, world: &mut World, p: usize) {
        self.leave_on_its_way(world, p);
        if self.variant == Variant::LateMeansNever {
            world.at(p, Proxy::receives_never_sent);
        } else {
            world.receive(p, UNKNOWN);
        }
    }

    fn crash(&self, world: &mut World, p: usize) {
        self.leave_on_its_way(world, p);
        world.proxies[p].crashes();
    }

    fn leave_on_its_way(&self, world: &mut World, p: usize) {
        if let Some(request) = world.proxies[p].request().cloned() {
            world.late.add(&request);
        }
    }

    fn take(&self, world: &mut World, action: Action) {
        self.spend(world, action);
        self.act(world, action);
    }

    fn spend(&self, world: &mut World, action: Action) {
        let is_late = world.awaited().next().is_some();
        let left = &mut world.left;
        let budget = match action {
            Action::Open(_) => &mut left.connections,
            fault if fault.is_fault() => &mut left.faults,
            Action::Forbid(_) | Action::Deny(_) => &mut left.refusals,
            Action::Touch => &mut left.touches,
            Action::Emit(_) => &mut left.events,
            Action::Port(..) => &mut left.ports,
            Action::Pass if is_late => &mut left.delays,
            _ => return,
        };
        if *budget != ANY {
            *budget = budget.saturating_sub(1);
        }
    }
}

impl Model for Scenario {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![self.begin(1), self.begin(0)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.breach.is_some() || matches!(world.steps, Some(Steps { faulty: 0, calm: 0 })) {
            return;
        }
        for p in 0..world.proxies.len() {
            self.actions_of(world, p, actions);
        }
        actions.extend(world.late.all().map(Action::ApplyLate));
        if world.allows_faults() && world.left.touches > 0 {
            actions.push(Action::Touch);
        }
        if self.may_pass(world) {
            actions.push(Action::Pass);
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        self.take(&mut next, action);
        next.normalise();
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = properties::rules();
        if self.watches && self.variant == Variant::Sound && self.steps.is_none() {
            properties.extend(properties::sights_of_a_watch());
        }
        if self.steps.is_some() {
            properties.push(properties::end());
        }
        if self.budget.faults > 0 && self.variant == Variant::Sound {
            properties.extend(properties::reachable_states());
        }
        if self.budget.faults > 0 && self.budget.connections > 1 && self.steps.is_none() {
            properties.extend(properties::rare_reachable_states());
        }
        properties
    }
}
