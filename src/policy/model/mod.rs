//! [`Scenario`]: a model of the protocol between proxies for the model checker stateright.
//!
//! # What is modelled
//!
//! Two proxies, each with the *real* [`Policy`](super::Policy), and the API
//! server with one Deployment: a version, replicas, and the token of the last
//! renewal. The rules have no second copy. The model is the environment of the
//! policies; its events may happen in every order:
//! - a request is executed, and its reply arrives, each at any later time;
//! - the client gives up and reports [`Outcome::Unknown`] while the request or its reply is in
//!   flight; the request may be executed at any later time ([`world::Late`]), after others of the
//!   same proxy and of the other one, or never: then it is lost;
//! - a policy gives up a request itself, because a connection waits for the reply;
//! - the API server cannot be reached, or refuses a request with 401 or 403. Any
//!   request may be refused, to either proxy: for a moment or until that is confirmed,
//!   one permission or several, at start and later;
//! - a connection opens, is forwarded, and ends before or after that;
//! - pods appear and vanish with the scale, each proxy seeing that at any later
//!   time; before a proxy has seen a zero, it may be shown the old pods;
//! - a proxy crashes, and starts again at any later time; its request stays in flight. It is
//!   stopped (SIGSTOP) and continues at any later time; meanwhile the other one runs and its
//!   request may be executed;
//! - others write to the Deployment, which changes its version;
//! - where proxies have a watch, it shows each of them the Deployment as it was at some
//!   time, at any later time: before or after the replies that show the same or more, or
//!   never. Events of one watch keep their order; one may be lost, as by a list;
//! - the Service loses the port of a proxy, so that it could not wake the app, or gets it back;
//! - time passes in steps of a fifth of the TTL, for both proxies at once.
//!
//! Time is unbounded. [`canonical`] explains why the state space is finite all the same, and its
//! `tests` try that it loses nothing. States in which the two proxies are exchanged count as one,
//! which halves the space.
//!
//! # What is left out
//!
//! - Events beyond the [`Budget`] of a run: of connections, of faults, and of steps that pass
//!   while a reply is awaited. [`ANY`] is no bound.
//! - More than one waiting and one forwarded connection for each proxy: the policy asks only
//!   whether there are any.
//! - More than one renewal that was given up and may still be executed; a second one is lost.
//! - Pauses longer than a step, after more than five failures in a row: all end at the next step.
//! - Time between the steps: a renewal that is due after a quarter of the TTL
//!   is sent after two fifths. What is later than it should be makes leases
//!   shorter, never sleeps earlier.
//! - The generation: no reply shows it, so that a sleep and a wake between two reads are not
//!   noticed.
//! - More proxies than two.
//! - 404, 429, and an operator on the scale; these are in the tests of the policy.
//! - Unequal TTLs, except one that is twice as long as the other.
//! - A refusal is confirmed after 4 s instead of 30: less than a TTL, as it is with all
//!   but the shortest TTLs.
//! - The place of a lease: status and annotation are refused separately, but a write to either
//!   has the same effect.
//!
//! # The other modules
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

/// The most events of each kind in one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Budget {
    /// Connections that open.
    connections: u8,
    /// Requests lost, refused or given up, crashes, SIGSTOPs.
    faults: u8,
    /// Steps of time that pass while a request or a reply is in flight.
    delays: u8,
    /// Requests that are answered with 401 or 403.
    refusals: u8,
    /// Writes by others, which change the version and nothing else.
    touches: u8,
    /// Events of the proxies' watches.
    events: u8,
    /// Changes of whether the Service has the port of a proxy.
    ports: u8,
}

/// The length of a run, in steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Steps {
    /// The steps in which every event of the budget may happen.
    faulty: u8,
    /// The steps in which every request is answered within the step, and no fault or connection
    /// is new.
    calm: u8,
}

/// A model to explore.
#[derive(Clone, Debug)]
struct Scenario {
    variant: Variant,
    /// The idle TTL of each proxy.
    ttls: [Duration; 2],
    budget: Budget,
    /// The length of a run; `None`: no bound.
    steps: Option<Steps>,
    /// The calm steps that the proxies have run at the beginning.
    quiet: u8,
    /// Whether reads, too, may be in flight for longer than a step.
    late_reads: bool,
    /// Whether pods may fail by themselves.
    free_pods: bool,
    /// Whether the proxies watch the Deployment.
    watches: bool,
}

/// An event; the number is that of the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// A step of time passes.
    Pass,
    /// The API server executes a request.
    Apply(usize),
    /// The reply arrives.
    Answer(usize),
    /// The client gives up; the request or its reply is still in flight.
    GiveUp(usize),
    /// The API server cannot be reached.
    Refuse(usize),
    /// The API server answers 403.
    Forbid(usize),
    /// The API server answers 401.
    Deny(usize),
    /// A request that was given up is executed after all.
    ApplyLate(LateRequest),
    /// Another client writes to the Deployment.
    Touch,
    /// The watch sends the Deployment as it is, in place of an event that it has not delivered.
    Emit(usize),
    /// The event that was sent is delivered.
    Observe(usize),
    /// A connection opens.
    Open(usize),
    /// It is forwarded.
    Forward(usize),
    /// It ends without having been forwarded.
    Leave(usize),
    /// It ends after having been forwarded.
    Close(usize),
    /// The proxy learns that a pod may be dialled, or that none may.
    Pods(usize, bool),
    /// The Service gets or loses the port of the proxy.
    Port(usize, bool),
    /// The process is killed.
    Crash(usize),
    /// It is started again.
    Start(usize),
    /// SIGSTOP.
    Stop(usize),
    /// SIGCONT.
    Continue(usize),
}

impl Action {
    /// Whether it counts against the budget of faults.
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
            delays_refused_sleeps: false,
            longest_undone_wake_pause: Duration::ZERO,
            ..Config::default()
        }
    }

    /// Both proxies have just started.
    fn begin(&self, replicas: u32) -> World {
        let start = |ttl| Proxy::started(Self::config(ttl), self.watches);
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
        world.stay_calm(self.quiet);
        world.steps = self.steps;
        world
    }

    /// The events that are possible at one proxy.
    fn actions_of(&self, world: &World, p: usize, actions: &mut Vec<Action>) {
        let proxy = &world.proxies[p];
        let faults = world.allows_faults() && world.left.faults > 0;
        let refusals = world.allows_faults() && world.left.refusals > 0;
        let ports = world.allows_faults() && world.left.ports > 0;
        let opens = world.allows_faults() && world.left.connections > 0;
        let requests = proxy.request().is_some();
        let pending = proxy.call.is_some();
        let runs = proxy.is_running();
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
            (proxy.may_forward(), Action::Forward(p)),
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

    /// Whether the proxy may learn next that a pod may be dialled, and that none may. The old
    /// pods may still be listed after the app was scaled to zero.
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
            Action::Observe(p) => world.at(p, Proxy::observe),
            Action::Open(p) => world.at(p, Proxy::open),
            Action::Forward(p) => world.at(p, Proxy::forward),
            Action::Leave(p) => world.at(p, Proxy::leave),
            Action::Close(p) => world.at(p, Proxy::close),
            Action::Pods(p, dialable) => world.at(p, |proxy| proxy.set_dialable(dialable)),
            Action::Crash(p) => self.crash(world, p),
            Action::Port(p, can_wake) => {
                world.at(p, |proxy| proxy.set_can_wake(can_wake, self.variant));
            }
            Action::Start(p) => world.at(p, |proxy| proxy.start(self.variant, self.watches)),
            Action::Stop(p) => world.proxies[p].stop(),
            Action::Continue(p) => world.at(p, Proxy::resume),
        }
    }

    fn give_up(&self, world: &mut World, p: usize) {
        self.leave_on_its_way(world, p);
        if self.variant == Variant::LateMeansNever {
            world.at(p, Proxy::receive_unsent);
        } else {
            world.receive(p, UNKNOWN);
        }
    }

    fn crash(&self, world: &mut World, p: usize) {
        self.leave_on_its_way(world, p);
        world.proxies[p].crash();
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
            properties.extend(properties::reachable_events());
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
