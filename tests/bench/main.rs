//! What the proxy costs, as ratios and distributions that one run measures.
//!
//! `cargo bench --bench bench` runs everything in a few minutes; with `QUICK=1`
//! in the environment, in less than one. Words after `--` choose parts or
//! rows: `cargo bench --bench bench -- wake bulk-1`. The real binary runs as a
//! child process between this process's clients and servers, all on loopback;
//! where HAProxy is installed, it runs the same rows with one thread.
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
mod turns;
mod wake;

use std::process::ExitCode;

/// Whatever goes wrong ends the run, with words.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// How much is to be measured.
struct Plan {
    quick: bool,
    /// Parts and rows; empty: all.
    chosen: Vec<String>,
}

impl Plan {
    fn from_environment() -> Plan {
        let words = std::env::args().skip(1);
        Plan {
            quick: std::env::var_os("QUICK").is_some_and(|value| !value.is_empty() && value != "0"),
            // cargo bench adds `--bench`.
            chosen: words.filter(|word| !word.starts_with("--")).collect(),
        }
    }

    /// Whether the part or one of its rows was asked for.
    fn includes(&self, name: &str) -> bool {
        self.chosen.is_empty() || self.chosen.iter().any(|word| word == name)
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
    if plan.includes("idle") {
        println!("{}", idle::measure(plan)?);
    }
    Ok(())
}
