//! The runs of the checker: the protocol as it is, within a bound, and each
//! broken variant until its counterexample is found.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use stateright::{Checker, Expectation, HasDiscoveries, Model, Path};

use super::canonical::LONGER_TTL;
use super::deployment::TTL;
use super::deployment::Variant;
use super::properties::{FORWARDED, LEASE, UNREAD, UNWAKEABLE};
use super::proxy::STEPS_PER_TTL;
use super::world::World;
use super::{ANY, Action, Budget, Scenario, Steps};

/// One connection, nothing goes wrong, everything is answered within the step.
const FAIR: Budget = Budget {
    connections: 1,
    faults: 0,
    delays: 0,
    refusals: 0,
    touches: 0,
    events: 0,
    ports: 0,
};

/// One connection, one thing that goes wrong, one late answer.
const ROUGH: Budget = Budget {
    faults: 1,
    delays: 1,
    ..FAIR
};

/// The same with two connections.
const CROWDED: Budget = Budget {
    connections: 2,
    ..ROUGH
};

/// From the start of both proxies, for as long as it may take.
fn from_the_start(budget: Budget) -> Scenario {
    Scenario {
        variant: Variant::Sound,
        ttls: [TTL; 2],
        budget,
        steps: None,
        quiet: 0,
        late_reads: true,
        free_pods: false,
        watches: false,
    }
}

/// The same, of proxies that watch the Deployment and are shown some of its changes.
fn watched(events: u8, scenario: Scenario) -> Scenario {
    let budget = Budget {
        events,
        ..scenario.budget
    };
    Scenario {
        budget,
        watches: true,
        ..scenario
    }
}

/// The same, where one proxy has twice the TTL of the other.
fn unequal(budget: Budget) -> Scenario {
    Scenario {
        ttls: [TTL, LONGER_TTL],
        ..from_the_start(budget)
    }
}

/// From the moment at which both proxies may put the app to sleep, for so many
/// steps, with calm ones after them.
fn on_the_verge(faulty: u8, budget: Budget) -> Scenario {
    Scenario {
        steps: Some(Steps { faulty, calm: 3 }),
        quiet: STEPS_PER_TTL,
        ..from_the_start(budget)
    }
}

/// How often the size of a long run is printed.
const PROGRESS: Duration = Duration::from_secs(60);

/// Whether the whole space is to be explored, as `make model` does.
pub fn is_full() -> bool {
    std::env::var_os("ZPA_MODEL").is_some_and(|bound| bound == "full")
}

/// Explores all of it, and says how much that was.
fn holds(name: &str, scenario: Scenario) -> usize {
    let builder = scenario
        .checker()
        .threads(thread::available_parallelism().map_or(1, usize::from))
        .finish_when(HasDiscoveries::AnyFailures);
    // Depth first has to remember the paths alone, and breadth first whole levels, which
    // takes up to 2.7 KB a state. Its trace is the shortest, though.
    if is_full() {
        explore(name, builder.spawn_dfs())
    } else {
        explore(name, builder.spawn_bfs())
    }
}

fn explore(name: &str, checker: impl Checker<Scenario>) -> usize {
    let started = Instant::now();
    let mut printed = started;
    while !checker.is_done() {
        thread::sleep(Duration::from_millis(5));
        if printed.elapsed() >= PROGRESS {
            printed = Instant::now();
            let (states, seconds) = (checker.unique_state_count(), started.elapsed().as_secs());
            println!("{name}: {states} states after {seconds} s");
        }
    }
    let checker = checker.join();
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
    checker.unique_state_count()
}

/// Sees to it that the checker finds the shortest way to break the rule.
fn fails(rule: &'static str, scenario: Scenario) {
    let variant = scenario.variant;
    let checker = scenario
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
fn the_rules_hold_while_any_one_request_is_refused() {
    let budget = Budget {
        refusals: 1,
        ..FAIR
    };
    holds("one refusal", from_the_start(budget));
}

#[test]
fn the_rules_hold_while_a_port_comes_and_goes() {
    let budget = Budget { ports: 2, ..FAIR };
    holds("two changes of a port", from_the_start(budget));
}

#[test]
fn the_rules_hold_between_proxies_with_unequal_ttls() {
    holds("unequal TTLs", unequal(FAIR));
}

#[test]
fn the_rules_hold_and_whoever_waits_is_served_in_the_end_if_something_goes_wrong_at_the_sleep() {
    let budget = Budget { delays: 0, ..ROUGH };
    holds("a fault on the verge of sleep", on_the_verge(1, budget));
}

#[test]
fn the_rules_hold_while_watches_show_changes_early_late_or_never() {
    holds("a watch", watched(1, on_the_verge(1, FAIR)));
}

/// Minutes on one core, some gigabytes.
#[test]
fn the_rules_hold_in_the_whole_of_the_large_bound() {
    if !is_full() {
        return;
    }
    let started = Instant::now();
    let wanted = std::env::var("ZPA_MODEL_RUN").unwrap_or_default();
    let runs: Vec<_> = match wanted.as_str() {
        "" => large(),
        name => {
            let all = large().into_iter().chain(larger());
            all.filter(|(it, _)| it.contains(name)).collect()
        }
    };
    assert!(!runs.is_empty(), "no run is called {wanted}");
    let states: usize = runs
        .into_iter()
        .map(|(name, scenario)| holds(name, scenario))
        .sum();
    println!(
        "in all: {states} states in {:.1} s, in at most {} MiB of memory",
        started.elapsed().as_secs_f32(),
        peak_memory_mib(),
    );
}

/// What the process has used at most (`VmHWM` in proc(5)).
fn peak_memory_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = peak.and_then(|peak| peak.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default() / 1024
}

/// The large bound: what ends within minutes. Not explored is what takes
/// - more than three refusals, of which three make a permission a missing one;
/// - a refusal and more than one fault, or a refusal and a late answer or a second
///   connection;
/// - two faults;
/// - two late answers and a fault, or two connections, a fault and a late answer;
/// - writes by others and two faults, or such writes and a second connection;
/// - a watch that shows an event and a fault, more than two events, or events and
///   refusals.
///
/// [`larger`] has some of that.
fn large() -> Vec<(&'static str, Scenario)> {
    let refused = Budget {
        refusals: 3,
        ..FAIR
    };
    let refused_and_faulty = Budget {
        refusals: 1,
        faults: 1,
        ..FAIR
    };
    let touched = Budget {
        touches: ANY,
        ..ROUGH
    };
    let with_pods = Scenario {
        free_pods: true,
        ..from_the_start(Budget {
            delays: 0,
            ..CROWDED
        })
    };
    vec![
        ("three refusals", from_the_start(refused)),
        ("one refusal, one fault", from_the_start(refused_and_faulty)),
        ("one fault, one delay, any touch", from_the_start(touched)),
        ("two connections, one fault, failing pods", with_pods),
        ("a watch, two events", watched(2, from_the_start(FAIR))),
    ]
}

/// Runs that were not brought to their end yet, and are played by their names alone: any
/// violation on the way is found all the same.
fn larger() -> Vec<(&'static str, Scenario)> {
    let busy = Budget {
        connections: ANY,
        faults: 1,
        ..FAIR
    };
    let slow = Budget {
        delays: ANY,
        touches: ANY,
        ..FAIR
    };
    let faulty = Budget { faults: 2, ..ROUGH };
    let touched_once = Budget {
        touches: 1,
        ..CROWDED
    };
    vec![
        ("any number of connections, one fault", from_the_start(busy)),
        ("any delay, any touch", from_the_start(slow)),
        ("two faults, one delay", from_the_start(faulty)),
        (
            "two connections, one fault, one delay",
            from_the_start(CROWDED),
        ),
        (
            "two connections on the verge",
            on_the_verge(2, touched_once),
        ),
        (
            "a watch, one event, one fault, one delay",
            watched(1, from_the_start(ROUGH)),
        ),
        (
            "a watch, two events, two connections on the verge",
            watched(2, on_the_verge(2, touched_once)),
        ),
    ]
}

// --- The protocol with a rule taken away ---

fn broken(variant: Variant) -> Scenario {
    Scenario {
        variant,
        quiet: STEPS_PER_TTL,
        ..from_the_start(FAIR)
    }
}

#[test]
fn without_renewals_a_sleep_breaks_a_lease() {
    fails(LEASE, broken(Variant::NoRenew));
}

#[test]
fn without_guards_a_sleep_breaks_a_lease() {
    fails(LEASE, broken(Variant::NoGuard));
}

#[test]
fn with_the_nonce_on_another_object_a_sleep_breaks_a_lease() {
    fails(LEASE, broken(Variant::NonceElsewhere));
}

#[test]
fn with_a_lease_that_is_counted_from_the_reply_a_sleep_breaks_it() {
    let mut scenario = broken(Variant::LeaseFromReply);
    (scenario.quiet, scenario.late_reads) = (0, false);
    scenario.budget.delays = 2;
    fails(LEASE, scenario);
}

#[test]
fn with_a_conflict_that_is_sent_again_unjudged_a_sleep_breaks_a_lease() {
    fails(LEASE, broken(Variant::RetryConflict));
}

#[test]
fn with_an_idle_check_on_what_was_seen_before_a_sleep_breaks_a_lease() {
    fails(LEASE, broken(Variant::NoFreshRead));
}

#[test]
fn with_a_late_write_taken_for_none_another_is_sent_blindly() {
    let mut scenario = broken(Variant::LateMeansNever);
    scenario.budget.faults = 1;
    fails(UNREAD, scenario);
}

#[test]
fn with_leases_that_are_taken_for_none_a_sleep_breaks_a_lease() {
    fails(LEASE, broken(Variant::HiddenLeases));
}

#[test]
fn with_leases_whose_length_is_not_shown_a_sleep_breaks_a_longer_one() {
    let mut scenario = unequal(FAIR);
    scenario.variant = Variant::HiddenTtls;
    fails(LEASE, scenario);
}

#[test]
fn with_a_first_refusal_confirmed_a_connection_is_forwarded_at_once() {
    let mut scenario = broken(Variant::ConfirmsAtOnce);
    scenario.budget.refusals = 2;
    fails(FORWARDED, scenario);
}

#[test]
fn without_news_of_its_port_a_proxy_puts_an_app_to_sleep_that_it_cannot_wake() {
    let mut scenario = broken(Variant::HiddenPort);
    scenario.budget.ports = 1;
    fails(UNWAKEABLE, scenario);
}
