//! The simulation: the real composition and the real policy over a simulated network, API server,
//! controllers, pods and clients, with simulated time and seeded random numbers. It runs days of
//! faults in seconds.
//!
//! This is deterministic simulation testing, as FoundationDB has it. What is real:
//! `zpa::daemon::proxy` and `zpa::policy`, as they run in the cluster. What is simulated, after the
//! rules of the real thing: the engine (`sockets` of an app, `process_sockets` of all), the API
//! threads (`api`, `requests`), the watch of the endpoints and the controllers (`controllers`), the
//! Deployment (`deployment`) and the watches of it (`target_watch`), clients (`traffic`) and
//! everybody else (`actions`). `oracle` has the rules, `detours` the one about pods that fail while
//! they are listed, `mutants` tests the rules. `world` is the queue of events, with the processes
//! and the apps, `trouble` the faults of requests, `plan` what is drawn from a seed, `scenarios`
//! and `ttls` are runs of their own, `shrink` makes a failing plan smaller.
//!
//! A run has one to three apps, which have nothing in common but the processes: each has its own
//! Deployment, controllers, pods, clients, API threads, faults and oracle (`app`). So the rules
//! are as strict for an app as if it were alone, whatever befalls the others; and its run is even
//! the same to the last event (`several`).
//!
//! `ZPA_SIM_SEEDS=n` plays n seeds, `ZPA_SIM_FROM=x` from x on,
//! `ZPA_SIM_SEED=x` plays one and prints all that happens. A failure prints
//! its seed, the rule, and the trace of the smallest plan that still fails.

mod actions;
mod api;
mod app;
mod balancer;
mod controllers;
mod deployment;
mod detours;
mod mutants;
mod oracle;
mod plan;
mod pods;
mod process;
mod process_sockets;
mod processes;
mod queue;
mod refusals;
mod requests;
mod rng;
mod scenarios;
mod several;
mod shrink;
mod sockets;
mod target_watch;
mod totals;
mod traffic;
mod trouble;
mod ttls;
mod world;

use std::fmt::Write;

use plan::Plan;
use shrink::{play, seconds, shrink};
use totals::Totals;
use world::End;

/// How many seeds `cargo test` plays.
const SEEDS: u64 = 200;
/// How much of a trace a failure prints.
const LINES: usize = 200;

fn from_environment(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name}={value}: not a number")),
    )
}

#[test]
fn whatever_happens_every_client_is_served_or_closed_for_a_reason() {
    if let Some(seed) = from_environment("ZPA_SIM_SEED") {
        let end = play(&Plan::draw(seed), true);
        println!("{}{}", listing(&end, usize::MAX), end.totals);
        assert_eq!(end.violation, None, "seed {seed}");
        return;
    }
    let from = from_environment("ZPA_SIM_FROM").unwrap_or(0);
    let seeds = from_environment("ZPA_SIM_SEEDS").unwrap_or(SEEDS);
    let mut totals = Totals::default();
    for seed in from..from + seeds {
        let plan = Plan::draw(seed);
        let end = play(&plan, false);
        if end.violation.is_some() {
            panic!("{}", report(&plan, &end));
        }
        totals.add(end.totals);
    }
    println!("{totals}");
}

/// What is to be known of a failure.
fn report(plan: &Plan, end: &End) -> String {
    let mut text = format!("seed {}: replay it with ZPA_SIM_SEED={0}\n", plan.seed);
    if let Some(violation) = &end.violation {
        let smallest = shrink(plan, violation);
        let _ = writeln!(
            text,
            "{:.6} {}: {}",
            seconds(violation.at),
            violation.rule,
            violation.what
        );
        let _ = writeln!(
            text,
            "the smallest plan that breaks this rule: {smallest:#?}"
        );
        text += &listing(&play(&smallest, true), LINES);
    }
    text
}

/// The last lines of what has happened.
fn listing(end: &End, lines: usize) -> String {
    let mut text = String::new();
    let skipped = end.trace.len().saturating_sub(lines);
    for line in &end.trace[skipped..] {
        let app = line.app.map_or(String::new(), |app| format!("app-{app}"));
        let (at, what) = (seconds(line.at), &line.what);
        let _ = writeln!(text, "{at:>12.6}  {app:<6} {what}");
    }
    if let Some(violation) = &end.violation {
        let _ = writeln!(
            text,
            "{:>12.6}  BROKEN: {}: {}",
            seconds(violation.at),
            violation.rule,
            violation.what
        );
    }
    text
}
