//! [`Process`]: the values in `/proc` of a process.

use std::ffi::OsString;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

/// What reading `/proc` returns.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// How long a consistent reading of the children may take.
const MAX_READ_TIME: Duration = Duration::from_secs(5);
/// The unit of times in /proc: USER_HZ, which every Linux but that on Alpha has
/// the same.
const TICKS_PER_SECOND: f64 = 100.0;

/// A process to look at.
#[derive(Clone, Copy, Debug)]
pub struct Process(pub u32);

/// What a process holds.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Resident, in bytes.
    pub resident: u64,
    /// Of that, what is the process's own: heap and stacks, no files.
    pub anonymous: u64,
}

impl Process {
    /// Processor time of all its threads so far, user and system, in seconds.
    pub fn cpu_seconds(self) -> Result<f64> {
        // Exact to this moment, where /proc counts in ticks, or up to the last.
        let mut clock: libc::clockid_t = 0;
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: both are valid for writing and outlive the calls.
        let status = unsafe {
            match libc::clock_getcpuclockid(self.0.cast_signed(), &mut clock) {
                0 => libc::clock_gettime(clock, &mut time),
                error => error,
            }
        };
        if status != 0 {
            return Err(format!("process {} has no clock", self.0).into());
        }
        Ok(time.tv_sec as f64 + time.tv_nsec as f64 / 1e9)
    }

    /// The same together with its children's, those that have ended included.
    pub fn cpu_seconds_with_children(self) -> Result<f64> {
        let deadline = Instant::now() + MAX_READ_TIME;
        while Instant::now() < deadline {
            let (ended, children) = (self.cpu_seconds_of_the_ended()?, self.children()?);
            let living: Result<f64> = children.iter().map(|child| child.cpu_seconds()).sum();
            // One that ends in between would be missed, or count twice.
            let is_consistent = ended == self.cpu_seconds_of_the_ended()?;
            if let (Ok(living), true) = (living, is_consistent) {
                return Ok(self.cpu_seconds()? + ended + living);
            }
            thread::sleep(Duration::from_millis(1));
        }
        Err(format!("the children of process {} come and go", self.0).into())
    }

    /// Of those children that have been waited for.
    fn cpu_seconds_of_the_ended(self) -> Result<f64> {
        let stat = self.read("stat")?;
        // After the name, which is in parentheses and may have anything in it,
        // the 14th and 15th field (proc_pid_stat(5)).
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        let mut fields = after_name.split_whitespace().skip(13);
        let mut ticks = || first_number(fields.next().unwrap_or_default());
        Ok((ticks()? + ticks()?) as f64 / TICKS_PER_SECOND)
    }

    fn children(self) -> Result<Vec<Process>> {
        let children = self.read(&format!("task/{}/children", self.0))?;
        let ids = children
            .split_whitespace()
            .map(|id| Ok(Process(id.parse()?)));
        ids.collect()
    }

    /// What it holds in memory.
    pub fn memory(self) -> Result<Memory> {
        let rollup = self.read("smaps_rollup")?;
        let bytes = |name: &str| field(&rollup, name).map(|kib| kib * 1024);
        Ok(Memory {
            resident: bytes("Rss:")?,
            anonymous: bytes("Anonymous:")?,
        })
    }

    /// How many descriptors it has open.
    pub fn descriptors(self) -> Result<usize> {
        Ok(fs::read_dir(self.path("fd"))?.count())
    }

    /// How many of them are ends of pipes.
    pub fn pipe_ends(self) -> Result<usize> {
        let links = fs::read_dir(self.path("fd"))?.map_while(|entry| entry.ok());
        let targets = links.filter_map(|link| fs::read_link(link.path()).ok());
        let is_pipe = |target: &std::path::PathBuf| target.to_string_lossy().starts_with("pipe:");
        Ok(targets.filter(is_pipe).count())
    }

    /// How often its threads have gone to sleep so far, which is how often
    /// they were woken.
    pub fn wake_ups(self) -> Result<u64> {
        let mut total = 0;
        for thread in self.threads()? {
            let status = self.read(&format!("task/{thread}/status"))?;
            total += field(&status, "voluntary_ctxt_switches:")?;
        }
        Ok(total)
    }

    /// The same of its first thread, which is the loop of `zpa`.
    pub fn loop_wake_ups(self) -> Result<u64> {
        let status = self.read(&format!("task/{}/status", self.0))?;
        field(&status, "voluntary_ctxt_switches:")
    }

    /// The ids of its threads; the first is its own.
    pub fn threads(self) -> Result<Vec<i32>> {
        let threads = fs::read_dir(self.path("task"))?;
        let id = |name: OsString| Ok(name.to_string_lossy().parse()?);
        threads.map(|thread| id(thread?.file_name())).collect()
    }

    fn read(self, file: &str) -> Result<String> {
        let path = self.path(file);
        fs::read_to_string(&path).map_err(|e| format!("{path}: {e}").into())
    }

    fn path(self, file: &str) -> String {
        format!("/proc/{}/{file}", self.0)
    }
}

/// Processor time that all processes together have taken so far, in seconds;
/// interrupts are nobody's.
pub fn cpu_seconds_of_all() -> Result<f64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let all = stat.lines().find_map(|line| line.strip_prefix("cpu "));
    // User, nice, system (proc_stat(5)).
    let ticks = all
        .ok_or("/proc/stat has no cpu")?
        .split_whitespace()
        .take(3);
    let ticks: u64 = ticks.map(first_number).sum::<Result<u64>>()?;
    Ok(ticks as f64 / TICKS_PER_SECOND)
}

/// What the kernel holds of sockets and files and to poll them, in bytes; NaN
/// without permission. What sockets hold is not in it: an idle one has
/// nothing. All of its small objects would be too many: others make them too.
pub fn kernel_memory() -> f64 {
    const CACHES: [&str; 5] = [
        "TCP",
        "sock_inode_cache",
        "filp",
        "eventpoll_epi",
        "eventpoll_pwq",
    ];
    let Ok(caches) = fs::read_to_string("/proc/slabinfo") else {
        return f64::NAN;
    };
    // Name, objects in use, objects, size of one (slabinfo(5)).
    let bytes = caches.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        let is_one = CACHES.contains(&fields.next()?);
        let (used, size) = (fields.next()?, fields.nth(1)?);
        is_one.then_some(used.parse::<f64>().ok()? * size.parse::<f64>().ok()?)
    });
    bytes.sum()
}

/// The number after `name` at the start of a line.
fn field(text: &str, name: &str) -> Result<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    first_number(value.ok_or_else(|| format!("/proc has no {name}"))?)
}

fn first_number(text: &str) -> Result<u64> {
    let number = text.split_whitespace().next().unwrap_or_default();
    number
        .parse()
        .map_err(|_| format!("/proc: not a number: {number}").into())
}

/// How busy a process was over a time.
#[derive(Clone, Copy, Debug)]
pub struct Busy {
    pub time: Duration,
    pub cpu: Duration,
    pub wake_ups: u64,
}

/// Looks at a process that should have nothing to do, for `time`.
pub fn watch(process: Process, time: Duration) -> Result<Busy> {
    let (cpu, wake_ups) = (process.cpu_seconds()?, process.wake_ups()?);
    thread::sleep(time);
    Ok(Busy {
        time,
        cpu: Duration::from_secs_f64((process.cpu_seconds()? - cpu).max(0.0)),
        wake_ups: process.wake_ups()? - wake_ups,
    })
}
