//! The cost of the proxy, as ratios and distributions that one run measures.
//!
//! `cargo bench --bench bench` runs everything in some twenty minutes; with
//! `QUICK=1` in the environment, in two; with `WRITE=1`, it writes what it has found
//! into NUMBERS.md beside this file, and a summary into README.md. Words after `--`
//! choose parts, rows, and the proxies to compare with:
//! `cargo bench --bench bench -- wake bulk-1 nginx`.
//!
//! The real binary runs as a child process between this process's clients and
//! servers, all on loopback, and for some rows in network namespaces, which take root;
//! so do HAProxy, nginx and socat, as far as they are
//! installed, each with one thread, and other builds of `zpa` that
//! `ZPA_BENCH_ALSO` names, separated by colons. Every byte is checked, by the
//! client or by the server. Speed is reported, never asserted.
//!
//! ```text
//! wake          sleeping app: connection → PATCH, pod ready → first byte
//! gates         a wake by the kubelet's probe, and by the first connection that is accepted
//! relay         throughput, round trips and connections through each contender: the rows
//! network       some rows on a network, where connections leave something behind:
//!               network_rows
//! ratios        zpa against each other contender
//! system_calls  how many for a round trip, a connection, a GiB
//! idle          memory, descriptors and wake-ups of open connections
//! stalled       memory of connections whose bytes nobody takes
//! fleet         1, 50 and 500 sleeping apps: what they cost, how fast one wakes
//! storm         a quiet app beside one that storms
//!
//! rows          what is measured       load       the clients
//! proxies       the contenders         server     the server
//! protocol      requests and replies   turns      the queue of readable sockets
//! cores         which to run on        other_load what else the machine did
//! stats         medians                report     tables
//! numbers       writes NUMBERS.md and README.md
//! ```

mod cores;
mod fleet;
mod gates;
mod idle;
mod load;
mod network;
mod network_rows;
mod numbers;
mod other_load;
mod protocol;
mod proxies;
mod ratios;
mod relay;
mod report;
mod rows;
mod server;
mod stalled;
mod stats;
mod storm;
mod system_calls;
mod turns;
mod wake;

use std::process::ExitCode;
use std::time::Instant;

use network::Network;
use network_rows::NETWORK_ROWS;
use proxies::Kind;
use report::Report;
use rows::ROWS;

/// Whatever goes wrong ends the run, with words.
type Error = Box<dyn std::error::Error + Send + Sync>;
type Result<T> = std::result::Result<T, Error>;

/// What can be chosen, besides the rows of the relay.
const PARTS: [&str; 9] = [
    "wake",
    "gates",
    "relay",
    "network",
    "system-calls",
    "idle",
    "stalled",
    "fleet",
    "storm",
];

/// How much is to be measured.
struct Plan {
    quick: bool,
    /// Parts and rows; empty: all.
    chosen: Vec<String>,
    /// The proxies to compare with; empty: all.
    other_proxies: Vec<Kind>,
}

impl Plan {
    fn from_environment() -> Plan {
        // cargo bench adds `--bench`.
        let words = std::env::args()
            .skip(1)
            .filter(|word| !word.starts_with("--"));
        let other = |word: &String| Kind::ALL.into_iter().find(|kind| kind.word() == word);
        let (other_proxies, chosen): (Vec<_>, Vec<_>) =
            words.partition(|word| other(word).is_some());
        Plan {
            quick: is_set("QUICK"),
            chosen,
            other_proxies: other_proxies.iter().filter_map(other).collect(),
        }
    }

    /// Whether there is what was asked for, and it is fit to be written down
    /// if it is to be.
    fn check(&self) -> Result<()> {
        let far = NETWORK_ROWS.iter().map(|it| it.row.name);
        let rows = ROWS.iter().map(|row| row.name).chain(far);
        let known: Vec<&str> = PARTS.into_iter().chain(rows).collect();
        let is_unknown = |word: &&String| !known.contains(&word.as_str());
        if let Some(word) = self.chosen.iter().find(is_unknown) {
            let other_proxies = Kind::ALL.map(Kind::word).join(", ");
            let known = known.join(", ");
            return Err(format!("there is no {word}, but {known}; {other_proxies}").into());
        }
        match numbers::objection(self).filter(|_| numbers::are_wanted()) {
            Some(objection) => Err(objection.into()),
            None => Ok(()),
        }
    }

    /// Whether the part or one of its rows was asked for.
    fn includes(&self, name: &str) -> bool {
        self.chosen.is_empty() || self.chosen.iter().any(|word| word == name)
    }

    /// Those of `kinds` that are to be compared with.
    fn other_proxies(&self, kinds: &[Kind]) -> Vec<Kind> {
        let wanted =
            |kind: &&Kind| self.other_proxies.is_empty() || self.other_proxies.contains(kind);
        kinds.iter().filter(wanted).copied().collect()
    }

    /// One value for a full run, one for a quick one.
    fn choose<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }
}

/// Whether a variable of the environment says yes.
fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| !value.is_empty() && value != "0")
}

fn main() -> ExitCode {
    let begin = Instant::now();
    match run(&Plan::from_environment()) {
        Ok(()) => {
            println!("The run took {} s.", begin.elapsed().as_secs());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(plan: &Plan) -> Result<()> {
    plan.check()?;
    // The proxies inherit it.
    support::descriptors::raise_to_hard_limit()?;
    let mut report = Report::default();
    report.add(&report::machine(plan.quick, &proxies::versions()));
    if plan.includes("wake") {
        report.add(&wake::measure(plan)?);
    }
    if plan.includes("gates") {
        report.add(&gates::measure(plan)?);
    }
    let rows = relay::rows(plan);
    let mut summary = None;
    if !rows.is_empty() {
        let tables = relay::measure(plan, &rows)?;
        report.add_folded("What each way came to", &tables.measured);
        report.add(&tables.ratios);
        summary = Some(tables.summary);
    }
    let far = relay::network_rows(plan);
    if !far.is_empty() {
        match Network::make() {
            Ok(network) => {
                let tables = relay::measure_network(plan, network, &far)?;
                report.add_folded("What each way came to on a network", &tables.measured);
                report.add(&tables.ratios);
                if let Some(summary) = &mut summary {
                    summary.append(tables.summary);
                }
            }
            Err(why) => report.add(&format!("The rows on a network are skipped: {why}.\n")),
        }
    }
    if plan.includes("system-calls") {
        let calls = system_calls::measure(plan)?;
        report.add_folded("System calls", &calls);
    }
    if plan.includes("idle") {
        report.add(&idle::measure(plan)?);
    }
    if plan.includes("stalled") {
        for table in stalled::measure(plan)? {
            report.add(&table);
        }
    }
    if plan.includes("fleet") {
        report.add(&fleet::measure(plan)?);
    }
    if plan.includes("storm") {
        report.add(&storm::measure(plan)?);
    }
    if let Some(summary) = summary.filter(|_| numbers::are_wanted()) {
        numbers::write(report.text(), &summary)?;
    }
    Ok(())
}
