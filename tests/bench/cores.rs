//! The cores on which the threads run.

use std::io;
use std::mem::{size_of, zeroed};

use support::process::Process;

use crate::Result;

/// Keeps this process and another on one core, until it is dropped.
pub struct OneCore {
    processes: Vec<Process>,
    before: libc::cpu_set_t,
}

impl OneCore {
    /// Moves all threads there. What they start inherits it.
    pub fn share(other: Option<Process>) -> Result<OneCore> {
        let before = allowed()?;
        let processes = other.into_iter().chain([Process(std::process::id())]);
        let shared = OneCore {
            processes: processes.collect(),
            before,
        };
        shared.allow(&last_of(&before));
        Ok(shared)
    }

    fn allow(&self, cores: &libc::cpu_set_t) {
        for process in &self.processes {
            // Threads come and go meanwhile; those that matter don't.
            for thread in process.threads().unwrap_or_default() {
                // SAFETY: `cores` is a valid set that outlives the call.
                unsafe { libc::sched_setaffinity(thread, size_of::<libc::cpu_set_t>(), cores) };
            }
        }
    }
}

impl Drop for OneCore {
    fn drop(&mut self) {
        self.allow(&self.before);
    }
}

/// Where this thread may run.
fn allowed() -> Result<libc::cpu_set_t> {
    // SAFETY: a set of bits, for which zero is valid.
    let mut cores: libc::cpu_set_t = unsafe { zeroed() };
    // SAFETY: `cores` is a valid set that outlives the call.
    let status = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut cores) };
    match status {
        0 => Ok(cores),
        _ => Err(io::Error::last_os_error().into()),
    }
}

/// The last of them alone: the first has most of the interrupts.
fn last_of(cores: &libc::cpu_set_t) -> libc::cpu_set_t {
    // SAFETY: a set of bits, for which zero is valid; the numbers are those of
    // bits that it has.
    unsafe {
        let mut one: libc::cpu_set_t = zeroed();
        let numbers = 0..libc::CPU_SETSIZE as usize;
        if let Some(last) = numbers.rev().find(|&n| libc::CPU_ISSET(n, cores)) {
            libc::CPU_SET(last, &mut one);
        }
        one
    }
}
