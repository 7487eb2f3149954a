//! What else the machine did meanwhile.

use std::thread;
use std::time::Instant;

use support::process::{Process, cpu_seconds_of_all};

use crate::Result;
use crate::proxies::Way;

/// The others, since then.
pub struct Others {
    since: Instant,
    cpu_seconds: f64,
}

impl Others {
    pub fn watch(ways: &[Way]) -> Result<Others> {
        Ok(Others {
            since: Instant::now(),
            cpu_seconds: of_others(ways)?,
        })
    }

    /// What share of the processors they have taken.
    pub fn share(&self, ways: &[Way]) -> Result<f64> {
        let processors = thread::available_parallelism()?.get() as f64;
        let all = self.since.elapsed().as_secs_f64() * processors;
        Ok((of_others(ways)? - self.cpu_seconds) / all)
    }
}

/// What all have taken so far but this process and the proxies.
fn of_others(ways: &[Way]) -> Result<f64> {
    let proxies = ways.iter().filter(|way| way.process().is_some());
    let proxies: f64 = proxies.map(Way::cpu_seconds).sum::<Result<f64>>()?;
    let ours = Process(std::process::id()).cpu_seconds()?;
    Ok(cpu_seconds_of_all()? - ours - proxies)
}
