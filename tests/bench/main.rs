//! What the proxy costs, as ratios and distributions that one run measures.
//!
//! `cargo bench --bench bench` runs everything in a few minutes; with `QUICK=1`
//! in the environment, in less than one. Words after `--` choose parts, rows,
//! and whom to compare with: `cargo bench --bench bench -- bulk-1 wake nginx`.
//! The real binary runs as a child process between this process's clients and
//! servers, all on loopback; so do those of HAProxy, nginx and socat that are
//! installed, each with one thread, and other builds of `zpa` that
//! `ZPA_BENCH_ALSO` names, separated by colons.
//!
//! Every byte that comes back is checked. Speed is reported, never asserted.
//!
//! ```text
//! wake      sleeping app: connection → PATCH, pod ready → first byte
//! relay     throughput, round trips, connections: direct, zpa, HAProxy
//! idle      memory, descriptors and wake-ups of open connections
//! load      the client            server    what it talks to
//! protocol  what they say         proxies   who stands in between
//! process   what /proc says       limits    open files
//! stats     medians               report    tables
//! ```

#[path = "../sandbox/mod.rs"]
mod sandbox;

#[allow(dead_code, reason = "the benches don't read the log")]
#[path = "../e2e/process.rs"]
mod zpa_process;

mod cores;
mod idle;
mod limits;
mod load;
mod process;
mod protocol;
mod proxies;
mod ratios;
mod relay;
mod report;
mod rows;
mod server;
mod stats;
mod system_calls;
mod turns;
mod wake;

use std::process::ExitCode;

use proxies::Kind;

/// Whatever goes wrong ends the run, with words.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// How much is to be measured.
struct Plan {
    quick: bool,
    /// Parts and rows; empty: all.
    chosen: Vec<String>,
    /// Whom to compare with; empty: all.
    rivals: Vec<Kind>,
}

impl Plan {
    fn from_environment() -> Plan {
        // cargo bench adds `--bench`.
        let words = std::env::args()
            .skip(1)
            .filter(|word| !word.starts_with("--"));
        let rival = |word: &String| Kind::ALL.into_iter().find(|kind| kind.word() == word);
        let (rivals, chosen): (Vec<_>, Vec<_>) = words.partition(|word| rival(word).is_some());
        Plan {
            quick: std::env::var_os("QUICK").is_some_and(|value| !value.is_empty() && value != "0"),
            chosen,
            rivals: rivals.iter().filter_map(rival).collect(),
        }
    }

    /// Whether the part or one of its rows was asked for.
    fn includes(&self, name: &str) -> bool {
        self.chosen.is_empty() || self.chosen.iter().any(|word| word == name)
    }

    /// Those of `kinds` that are to be compared with.
    fn rivals(&self, kinds: &[Kind]) -> Vec<Kind> {
        let wanted = |kind: &&Kind| self.rivals.is_empty() || self.rivals.contains(kind);
        kinds.iter().filter(wanted).copied().collect()
    }

    /// One value for a full run, one for a quick one.
    fn choose<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }
}

fn main() -> ExitCode {
    match run(&Plan::from_environment()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(plan: &Plan) -> Result<()> {
    println!("{}", report::machine(plan.quick, &proxies::versions()));
    if plan.includes("wake") {
        println!("{}", wake::measure(plan)?);
    }
    let rows = relay::rows(plan);
    if !rows.is_empty() {
        for table in relay::measure(plan, &rows)? {
            println!("{table}");
        }
    }
    if plan.includes("system-calls") {
        println!("{}", system_calls::measure(plan)?);
    }
    if plan.includes("idle") {
        println!("{}", idle::measure(plan)?);
    }
    Ok(())
}
