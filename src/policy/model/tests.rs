//! The runs of the checker: the protocol as it is, within a bound, and each
//! broken variant until its counterexample is found.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::thread;
use std::time::Instant;

use stateright::{Checker, Expectation, HasDiscoveries, Model, Path};

use super::canonical::{self, NOW, STEP};
use super::deployment::Variant;
use super::properties::{BLIND, COVER};
use super::proxy::{Proxy, STEPS_PER_TTL};
use super::world::World;
use super::{ANY, Action, Budget, Eras, Storm};
use crate::backoff::Random;
use crate::clock::Time;
use crate::cluster::{InUse, Outcome, ResourceVersion, Scale};
use crate::policy::{Command, Connections, Policy};

/// One connection, nothing goes wrong, everything is answered within the step.
const FAIR: Budget = Budget {
    connections: 1,
    faults: 0,
    delays: 0,
    touches: 0,
};

/// One connection, one thing that goes wrong, one late answer.
const ROUGH: Budget = Budget {
    faults: 1,
    delays: 1,
    ..FAIR
};

/// From the start of both proxies, for as long as it may take.
fn from_the_start(budget: Budget) -> Storm {
    Storm {
        variant: Variant::Sound,
        budget,
        eras: None,
        quiet: 0,
        late_reads: true,
        free_pods: false,
    }
}

/// From the moment at which both proxies may put the app to sleep, for so many
/// steps, with calm ones after them.
fn on_the_verge(storm: u8, budget: Budget) -> Storm {
    Storm {
        eras: Some(Eras { storm, calm: 3 }),
        quiet: STEPS_PER_TTL,
        ..from_the_start(budget)
    }
}

/// Whether the whole space is to be explored, as `make model` does.
fn is_full() -> bool {
    std::env::var_os("ZPA_MODEL").is_some_and(|bound| bound == "full")
}

/// Explores all of it, and states how much that was.
fn holds(name: &str, storm: Storm) {
    let started = Instant::now();
    let checker = storm
        .checker()
        .threads(thread::available_parallelism().map_or(1, usize::from))
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    println!(
        "{name}: {} states, up to {} actions deep, in {:.1} s",
        checker.unique_state_count(),
        checker.max_depth() - 1,
        started.elapsed().as_secs_f32(),
    );
    for property in checker.model().properties() {
        let path = checker.discovery(property.name);
        match property.expectation {
            Expectation::Sometimes => assert!(path.is_some(), "never seen: {}", property.name),
            _ => assert!(path.is_none(), "{}: {:?}", property.name, actions(path)),
        }
    }
}

/// Sees to it that the checker finds the shortest way to break the rule.
fn fails(rule: &'static str, storm: Storm) {
    let variant = storm.variant;
    let checker = storm
        .checker()
        .finish_when(HasDiscoveries::AnyOf(BTreeSet::from([rule])))
        .spawn_bfs()
        .join();
    let path = checker.discovery(rule);
    assert!(path.is_some(), "{variant:?} passes for sound: {rule}");
    let actions = actions(path);
    println!(
        "{variant:?} breaks {rule}, in {} actions: {actions:?}",
        actions.len()
    );
}

fn actions(path: Option<Path<World, Action>>) -> Vec<Action> {
    path.map_or(Vec::new(), Path::into_actions)
}

// --- The protocol as it is ---

#[test]
fn the_rules_hold_at_all_times_while_nothing_goes_wrong() {
    holds("a fair run", from_the_start(FAIR));
}

#[test]
fn the_rules_hold_and_whoever_waits_is_served_in_the_end_if_something_goes_wrong_at_the_sleep() {
    let budget = Budget { delays: 0, ..ROUGH };
    holds("a fault on the verge of sleep", on_the_verge(1, budget));
}

/// Minutes on two cores, some gigabytes.
#[test]
fn the_rules_hold_in_the_whole_of_the_large_bound() {
    if !is_full() {
        return;
    }
    for (name, storm) in large() {
        holds(name, storm);
    }
}

fn large() -> [(&'static str, Storm); 7] {
    let fair = Budget {
        connections: ANY,
        ..FAIR
    };
    let slow = Budget {
        delays: ANY,
        touches: ANY,
        ..FAIR
    };
    let faulty = Budget {
        faults: 2,
        delays: 0,
        ..ROUGH
    };
    let touched = Budget {
        touches: ANY,
        ..ROUGH
    };
    let busy = Budget {
        connections: 2,
        delays: 0,
        ..ROUGH
    };
    let with_pods = Storm {
        free_pods: true,
        ..from_the_start(Budget { delays: 0, ..ROUGH })
    };
    let crowded = Budget {
        connections: 2,
        touches: 1,
        ..ROUGH
    };
    [
        ("any number of connections", from_the_start(fair)),
        ("any delay", from_the_start(slow)),
        ("one fault, one delay, any touch", from_the_start(touched)),
        ("two faults", from_the_start(faulty)),
        ("two connections, one fault", from_the_start(busy)),
        ("one fault, failing pods", with_pods),
        ("two connections on the verge", on_the_verge(2, crowded)),
    ]
}

// --- The protocol with a rule taken away ---

fn broken(variant: Variant) -> Storm {
    Storm {
        variant,
        quiet: STEPS_PER_TTL,
        ..from_the_start(FAIR)
    }
}

#[test]
fn without_announcements_a_sleep_breaks_a_cover() {
    fails(COVER, broken(Variant::NoAnnounce));
}

#[test]
fn without_guards_a_sleep_breaks_a_cover() {
    fails(COVER, broken(Variant::NoGuard));
}

#[test]
fn with_the_nonce_on_another_object_a_sleep_breaks_a_cover() {
    fails(COVER, broken(Variant::NonceElsewhere));
}

#[test]
fn with_a_cover_that_is_counted_from_the_reply_a_sleep_breaks_it() {
    let mut storm = broken(Variant::CoverFromReply);
    (storm.quiet, storm.late_reads) = (0, false);
    storm.budget.delays = 2;
    fails(COVER, storm);
}

#[test]
fn with_a_conflict_that_is_sent_again_unjudged_a_sleep_breaks_a_cover() {
    fails(COVER, broken(Variant::RetryConflict));
}

#[test]
fn with_a_judgement_on_what_was_seen_before_a_sleep_breaks_a_cover() {
    fails(COVER, broken(Variant::NoFreshRead));
}

#[test]
fn with_a_late_write_taken_for_none_another_is_sent_blindly() {
    let mut storm = broken(Variant::LateMeansNever);
    storm.budget.faults = 1;
    fails(BLIND, storm);
}

// --- The canonical form ---

/// Lets a policy that remembers all and one that is kept canonical live
/// through the same, and compares what they do. Chance and the length of
/// pauses, which the canonical form does without, are taken from both.
#[test]
fn a_canonical_policy_behaves_like_one_that_remembers_everything() {
    let mut random = Random::new(1);
    for _ in 0..300 {
        let mut twins = Twins::start();
        for _ in 0..100 {
            twins.live(&mut random);
        }
    }
}

/// The first in its own time, the second in the model's.
struct Twins {
    policies: [Policy; 2],
    now: [Time; 2],
    connections: Connections,
    mark: u64,
}

impl Twins {
    fn start() -> Self {
        let policies = [Proxy::down().policy, Proxy::down().policy];
        let mut twins = Twins {
            policies,
            now: [NOW; 2],
            connections: Connections::default(),
            mark: 0,
        };
        twins.both(Policy::tick);
        twins
    }

    fn both(&mut self, event: impl Fn(&mut Policy, Time)) {
        let mut deeds = Vec::new();
        for (policy, now) in self.policies.iter_mut().zip(self.now) {
            event(policy, now);
            deeds.push(deeds_of(policy, now));
            canonical::forget_chance(policy);
        }
        canonical::normalise(&mut self.policies[1]);
        assert_eq!(deeds[0], deeds[1]);
    }

    fn live(&mut self, random: &mut Random) {
        match random.bits() % 10 {
            0..3 => self.passes(),
            3 => self.counts(|now| now.waiting = 1),
            4 => self.counts(|now| now.waiting = 0),
            5 => self.counts(|now| (now.open, now.waiting) = (0, 0)),
            6 => {
                let dialable = random.bits().is_multiple_of(2);
                self.both(|policy, now| policy.dialable(dialable, now));
            }
            _ => self.answers(random),
        }
    }

    fn passes(&mut self) {
        self.now[0] = self.now[0] + STEP;
        canonical::age(&mut self.policies[1]);
        self.both(Policy::tick);
    }

    fn counts(&mut self, change: impl Fn(&mut Connections)) {
        let before = self.connections;
        change(&mut self.connections);
        self.connections.open = self.connections.open.max(self.connections.waiting);
        let came = u64::from(self.connections.waiting > before.waiting);
        let connections = self.connections;
        self.both(|policy, now| {
            let accepted = policy.connections.accepted + came;
            policy.connections(
                Connections {
                    accepted,
                    ..connections
                },
                now,
            );
        });
    }

    fn answers(&mut self, random: &mut Random) {
        self.mark += u64::from(random.bits().is_multiple_of(4));
        let outcome = match random.bits() % 8 {
            0 => Outcome::Conflict,
            1 => Outcome::Unreachable,
            2 => Outcome::Unknown { retry_after: None },
            other => Outcome::Scale(Scale {
                generation: None,
                replicas: u32::from(other != 3),
                version: ResourceVersion(String::new()),
                in_use: (other != 4).then(|| InUse(self.mark.to_string())),
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
/// gate, its cover, and when it wants to be heard again, as far as a step goes.
fn deeds_of(policy: &mut Policy, now: Time) -> impl PartialEq + Debug + use<> {
    let commands: Vec<_> = std::iter::from_fn(|| policy.poll_command())
        .filter_map(|command| match command {
            Command::Ask { mut request, .. } => {
                canonical::forget_nonce(&mut request);
                Some(Command::Ask { id: 0, request })
            }
            Command::Say(_) => None,
            command => Some(command),
        })
        .collect();
    let phase = std::mem::discriminant(policy.phase());
    let gate = policy.gate_open(now);
    (
        commands,
        phase,
        gate,
        policy.cover.holds(now),
        policy.uncovered,
    )
}
