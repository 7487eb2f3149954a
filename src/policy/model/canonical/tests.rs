//! Whether the canonical form forgets too much.

use std::collections::{BTreeSet, HashSet};
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use stateright::Model;

use super::super::deployment::TTL;
use super::super::deployment::Variant;
use super::super::proxy::{Proxy, STEPS_PER_TTL};
use super::super::tests::is_full;
use super::super::world::World;
use super::super::{ANY, Action, Budget, Scenario, Steps, properties};
use super::{LONGER_TTL, NOW, STEP};
use crate::backoff::Random;
use crate::clock::Time;
use crate::cluster::{LeaseToken, Outcome, Scale};
use crate::policy::{Command, Connections, Policy};

// --- Worlds ---

/// Lets a world that remembers everything and one that is kept canonical live
/// through the same, whatever it is.
#[test]
fn forgetting_before_an_action_is_the_same_as_forgetting_after_it() {
    let mut random = Random::new(2);
    let walks = if is_full() { 5_000 } else { 100 };
    for variant in [Variant::Sound, Variant::LeaseFromReply, Variant::NoGuard] {
        for ttls in [[TTL; 2], [TTL, LONGER_TTL]] {
            for walked in 0..walks {
                walk(&anything(variant, ttls, walked % 2 == 0), 150, &mut random);
            }
        }
    }
}

fn anything(variant: Variant, ttls: [Duration; 2], watches: bool) -> Scenario {
    Scenario {
        variant,
        ttls,
        budget: Budget {
            connections: ANY,
            faults: ANY,
            delays: ANY,
            touches: ANY,
            refusals: ANY,
            events: ANY,
            ports: ANY,
        },
        steps: None,
        quiet: 0,
        late_reads: true,
        free_pods: true,
        watches,
    }
}

fn walk(scenario: &Scenario, actions: u32, random: &mut Random) {
    let mut whole = scenario.begin((random.bits() % 2) as u32);
    let mut canonical = whole.clone();
    for _ in 0..actions {
        let possible = possible(scenario, &whole);
        let Some(&action) = pick(&possible, random) else {
            return;
        };
        remember(scenario, &mut whole, action);
        canonical = scenario.next_state(&canonical, action).unwrap();
        assert_eq!(forgetful(&whole), canonical, "after {action:?}");
        assert_eq!(forgetful(&canonical), canonical, "once more");
        assert_eq!(verdicts(scenario, &whole), verdicts(scenario, &canonical));
    }
}

fn possible(scenario: &Scenario, world: &World) -> Vec<Action> {
    let mut actions = Vec::new();
    scenario.actions(world, &mut actions);
    actions
}

/// Faults more rarely than the rest: much is seen only after a while without.
fn pick<'a>(actions: &'a [Action], random: &mut Random) -> Option<&'a Action> {
    let mut pick = || actions.get((random.bits() as usize).checked_rem(actions.len())?);
    pick().filter(|action| !action.is_fault()).or_else(pick)
}

/// What becomes of a world that forgets nothing but names and chance.
fn remember(scenario: &Scenario, world: &mut World, action: Action) {
    scenario.take(world, action);
    world.rename();
    for proxy in &mut world.proxies {
        super::forget_chance(&mut proxy.policy);
        super::forget_names(&mut proxy.policy);
    }
}

fn forgetful(world: &World) -> World {
    let mut forgetful = world.clone();
    forgetful.normalise();
    forgetful
}

/// Whether each of the rules holds.
fn verdicts(scenario: &Scenario, world: &World) -> Vec<bool> {
    let rules = properties::rules();
    let holds = |rule: &stateright::Property<Scenario>| (rule.condition)(scenario, world);
    rules.iter().map(holds).collect()
}

/// Explores everything twice, once with worlds that remember everything and are
/// made canonical in the end: what is reached is the same, to a state, and so is
/// what is to be said of it.
#[test]
fn worlds_that_remember_everything_reach_what_canonical_ones_reach() {
    let faults = u8::from(is_full());
    let budget = Budget {
        connections: 1,
        faults,
        delays: 0,
        refusals: 0,
        touches: 1,
        events: 0,
        ports: 0,
    };
    let watched = Budget {
        touches: 0,
        events: 1,
        ..budget
    };
    let equal = [TTL; 2];
    let mut all = vec![
        (Variant::Sound, equal, false, budget),
        (Variant::NoRenew, equal, false, budget),
        (Variant::Sound, [TTL, LONGER_TTL], false, budget),
    ];
    if is_full() {
        all.push((Variant::Sound, equal, true, watched));
    }
    for (variant, ttls, watches, budget) in all {
        let scenario = Scenario {
            variant,
            ttls,
            budget,
            steps: Some(Steps {
                faulty: 1,
                calm: 1 + faults,
            }),
            quiet: STEPS_PER_TTL,
            late_reads: true,
            free_pods: false,
            watches,
        };
        let canonical = reached(&scenario, |world, action| {
            scenario.next_state(world, action).unwrap()
        });
        let whole = reached(&scenario, |world, action| {
            let mut next = world.clone();
            remember(&scenario, &mut next, action);
            next
        });
        println!(
            "{variant:?} {ttls:?}, {watches}: {} states",
            canonical.len()
        );
        assert!(canonical == whole);
    }
}

/// The canonical form of each state that is reached, and the verdicts on it.
fn reached(
    scenario: &Scenario,
    next: impl Fn(&World, Action) -> World,
) -> BTreeSet<(u64, Vec<bool>)> {
    let mut pending = scenario.init_states();
    let mut met = HashSet::new();
    let mut reached = BTreeSet::new();
    while let Some(world) = pending.pop() {
        reached.insert((hash(&forgetful(&world)), verdicts(scenario, &world)));
        let nexts = possible(scenario, &world)
            .into_iter()
            .map(|action| next(&world, action));
        pending.extend(nexts.filter(|next| met.insert(hash(next))));
    }
    reached
}

fn hash(world: &World) -> u64 {
    let mut hasher = DefaultHasher::new();
    world.hash(&mut hasher);
    hasher.finish()
}

// --- Policies, among answers that no API server gives ---

/// Lets a policy that remembers all and one that is kept canonical live
/// through the same, and compares what they do. Chance and the length of
/// pauses, which the canonical form does without, are taken from both.
#[test]
fn a_canonical_policy_behaves_like_one_that_remembers_everything() {
    let mut random = Random::new(1);
    for ttl in [TTL, LONGER_TTL] {
        for _ in 0..300 {
            let mut twins = Twins::start(ttl);
            for _ in 0..100 {
                twins.live(&mut random);
            }
        }
    }
}

/// The first in its own time, the second in the model's.
struct Twins {
    policies: [Policy; 2],
    now: [Time; 2],
    connections: Connections,
    token: u64,
}

impl Twins {
    fn start(ttl: Duration) -> Self {
        let config = Scenario::config(ttl);
        let policies = [(); 2].map(|()| Proxy::down(config.clone()).policy);
        let mut twins = Twins {
            policies,
            now: [NOW; 2],
            connections: Connections::default(),
            token: 0,
        };
        twins.both(Policy::handle_timeout);
        twins
    }

    fn both(&mut self, event: impl Fn(&mut Policy, Time)) {
        let mut actions = Vec::new();
        for (policy, now) in self.policies.iter_mut().zip(self.now) {
            event(policy, now);
            actions.push(actions_of(policy, now));
            super::forget_chance(policy);
        }
        super::normalise(&mut self.policies[1]);
        assert_eq!(actions[0], actions[1]);
    }

    fn live(&mut self, random: &mut Random) {
        match random.bits() % 10 {
            0..3 => self.passes(),
            3 => self.update_connections(|now| now.waiting = 1),
            4 => self.update_connections(|now| now.waiting = 0),
            5 => self.update_connections(|now| (now.open, now.waiting) = (0, 0)),
            6 => {
                let dialable = random.bits().is_multiple_of(2);
                self.both(|policy, now| policy.set_dialable(dialable, now));
            }
            _ => self.answers(random),
        }
    }

    fn passes(&mut self) {
        self.now[0] = self.now[0] + STEP;
        super::age(&mut self.policies[1]);
        self.both(Policy::handle_timeout);
    }

    fn update_connections(&mut self, change: impl Fn(&mut Connections)) {
        let before = self.connections;
        change(&mut self.connections);
        self.connections.open = self.connections.open.max(self.connections.waiting);
        let came = u64::from(self.connections.waiting > before.waiting);
        let connections = self.connections;
        self.both(|policy, now| {
            let uses = policy.connections.uses + came;
            policy.update_connections(
                Connections {
                    uses,
                    ..connections
                },
                now,
            );
        });
    }

    fn answers(&mut self, random: &mut Random) {
        self.token += u64::from(random.bits().is_multiple_of(4));
        let outcome = match random.bits() % 12 {
            0 => Outcome::Conflict,
            1 => Outcome::Unreachable,
            2 => Outcome::Unknown { retry_after: None },
            3 => Outcome::Unauthorized,
            4..=6 => Outcome::Forbidden,
            other => Outcome::Scale(Scale {
                lease_token: (other != 7).then(|| LeaseToken(self.token.to_string())),
                lease_ttl: (other != 7).then_some([TTL, LONGER_TTL][self.token as usize % 2]),
                ..Scale::of(u32::from(other != 8), "")
            }),
        };
        self.both(|policy, now| {
            if let Some(id) = policy.in_flight.as_ref().map(|asked| asked.id) {
                policy.reply(id, outcome.clone(), now);
            }
        });
    }
}

/// All that can be seen of a policy: what it asks and says, its phase, its
/// gate, its lease, and its next deadline, as far as a step goes.
fn actions_of(policy: &mut Policy, now: Time) -> impl PartialEq + Debug + use<> {
    let commands: Vec<_> = std::iter::from_fn(|| policy.poll_command())
        .filter_map(|command| match command {
            Command::Send { mut request, .. } => {
                super::forget_nonce(&mut request);
                Some(Command::Send { id: 0, request })
            }
            Command::Log(_) => None,
            command => Some(command),
        })
        .collect();
    let phase = std::mem::discriminant(policy.phase());
    let gate = policy.gate_open(now);
    (
        commands,
        phase,
        gate,
        policy.lease.is_valid(now),
        policy.without_lease,
    )
}
