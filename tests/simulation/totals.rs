//! [`Totals`]: the sums over a set of runs.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::oracle::ClientResult;

/// Sums over runs.
#[derive(Default)]
pub struct Totals {
    /// Runs.
    pub seeds: u64,
    /// The apps of all runs.
    pub apps: u64,
    /// Simulated time.
    pub time: Duration,
    /// Clients.
    pub connections: u64,
    /// Bytes that came back to them.
    pub bytes: u64,
    /// Requests to the API server.
    pub requests: u64,
    /// Effective wakes by a proxy.
    pub wakes: u64,
    /// Sleeps by a proxy.
    pub sleeps: u64,
    /// The most requests of one process in one minute.
    pub most_requests: usize,
    /// Faults by kind.
    pub faults: BTreeMap<String, u64>,
    /// The number of clients by result.
    pub results: BTreeMap<ClientResult, u64>,
}

impl Totals {
    /// Adds those of another run.
    pub fn add(&mut self, other: Totals) {
        self.seeds += other.seeds;
        self.apps += other.apps;
        self.time += other.time;
        self.connections += other.connections;
        self.bytes += other.bytes;
        self.requests += other.requests;
        self.wakes += other.wakes;
        self.sleeps += other.sleeps;
        self.most_requests = self.most_requests.max(other.most_requests);
        for (fault, count) in other.faults {
            *self.faults.entry(fault).or_default() += count;
        }
        for (result, count) in other.results {
            *self.results.entry(result).or_default() += count;
        }
    }

    /// The number of clients with that result.
    pub fn count(&self, result: ClientResult) -> u64 {
        self.results.get(&result).copied().unwrap_or(0)
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} seeds with {} apps, {:.1} simulated hours, {} connections, {} MB back",
            self.seeds,
            self.apps,
            self.time.as_secs_f64() / 3600.0,
            self.connections,
            self.bytes / 1_000_000
        )?;
        writeln!(
            f,
            "{} wakes, {} sleeps, {} requests, at most {} of one process in a minute",
            self.wakes, self.sleeps, self.requests, self.most_requests
        )?;
        writeln!(f, "clients by result:")?;
        for (result, count) in &self.results {
            writeln!(f, "{count:>9}  {result:?}")?;
        }
        writeln!(f, "faults:")?;
        for (fault, count) in &self.faults {
            writeln!(f, "{count:>9}  {fault}")?;
        }
        Ok(())
    }
}
