//! The load of other processes on the machine during a measurement.

use std::thread;
use std::time::Instant;

use support::process::{Process, cpu_seconds_of_all};

use crate::Result;
use crate::proxies::Contender;

/// The others, since then.
pub struct OtherLoad {
    since: Instant,
    cpu_seconds: f64,
}

impl OtherLoad {
    pub fn watch(contenders: &[Contender]) -> Result<OtherLoad> {
        Ok(OtherLoad {
            since: Instant::now(),
            cpu_seconds: of_others(contenders)?,
        })
    }

    /// What share of the processors they have taken.
    pub fn share(&self, contenders: &[Contender]) -> Result<f64> {
        let processors = thread::available_parallelism()?.get() as f64;
        let all = self.since.elapsed().as_secs_f64() * processors;
        Ok((of_others(contenders)? - self.cpu_seconds) / all)
    }
}

/// What all have taken so far but this process and the proxies.
fn of_others(contenders: &[Contender]) -> Result<f64> {
    let proxies = contenders
        .iter()
        .filter(|contender| contender.process().is_some());
    let proxies: f64 = proxies.map(Contender::cpu_seconds).sum::<Result<f64>>()?;
    let ours = Process(std::process::id()).cpu_seconds()?;
    Ok(cpu_seconds_of_all()? - ours - proxies)
}
