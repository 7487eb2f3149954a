//! The system calls of a proxy for each unit of work, counted by strace(1).
//!
//! A proxy that is traced is slower by far, so that more waits for it at each
//! call than else; it is the same for all of them.

use std::fmt;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use support::process::Process;

use crate::load::{Group, Load, MESSAGE_BYTES, Outcome};
use crate::network::Place;
use crate::proxies::{Contender, Kind, Role};
use crate::report::{Table, factor, number};
use crate::{Plan, Result};

/// More than any task has.
const CONNECTIONS: usize = 100;
const MIB: u64 = 1 << 20;

/// Something, or why nothing can be counted.
type Counted<T> = std::result::Result<T, String>;

/// What is done while the calls are counted.
struct Task {
    /// What they are counted for.
    label: &'static str,
    group: Group,
    /// How many of that there were.
    count: fn(&Outcome) -> f64,
}

const EACH: fn(&Outcome) -> f64 = |outcome| outcome.requests as f64;
const GIB: fn(&Outcome) -> f64 = |outcome| outcome.bytes as f64 / (1024 * MIB) as f64;

const TASKS: [Task; 6] = [
    Task {
        label: "64 B round trip, 1 connection",
        group: Group::round_trips(1, MESSAGE_BYTES),
        count: EACH,
    },
    Task {
        label: "64 B round trip, 64 connections",
        group: Group::round_trips(64, MESSAGE_BYTES),
        count: EACH,
    },
    Task {
        label: "connect, 64 B, close, 1 at a time",
        group: Group::connections(1),
        count: EACH,
    },
    Task {
        label: "connect, 64 B, close, 64 at once",
        group: Group::connections(64),
        count: EACH,
    },
    Task {
        label: "GiB down, 1 stream",
        group: Group::streams_down(1, 32 * MIB),
        count: GIB,
    },
    Task {
        label: "GiB down, 16 streams",
        group: Group::streams_down(16, 8 * MIB),
        count: GIB,
    },
];

/// Counts; the table, or why there is none.
pub fn measure(plan: &Plan) -> Result<Table> {
    let mut contenders = Contender::zpas(&Place::Loopback, 1)?;
    for kind in plan.other_proxies(&[Kind::HaProxy, Kind::HaProxyTuned, Kind::Nginx]) {
        contenders.extend(Contender::other_proxy(&Place::Loopback, kind, 1, CONNECTIONS)?.ok());
    }
    let mut head = vec!["system calls for each".to_owned()];
    head.extend(contenders.iter().map(|contender| contender.name.clone()));
    head.push("`zpa` is better by".to_owned());
    let mut table = Table::new(head);
    let time = Duration::from_millis(plan.choose(500, 100));
    for task in &TASKS {
        match row(task, &contenders, time)? {
            Ok(row) => table.add(row),
            Err(why) => {
                table.note(&why);
                return Ok(table);
            }
        }
    }
    table.note(
        "Counted by strace on the thread that relays; those that failed, mostly with EAGAIN, \
         in parentheses. What is traced is slow, so that more waits for it at each call. \
         \"Better by\" is what the best of the others makes to what `zpa` makes.",
    );
    Ok(table)
}

/// The cells of a task, or why nothing can be counted.
fn row(task: &Task, contenders: &[Contender], time: Duration) -> Result<Counted<Vec<String>>> {
    let mut cells = vec![task.label.to_owned()];
    let (mut zpa, mut best) = (f64::NAN, f64::NAN);
    for contender in contenders {
        let calls = match count(task, contender, time)? {
            Ok(calls) => calls,
            Err(why) => return Ok(Err(why)),
        };
        let total = calls.iter().map(|call| call.each).sum();
        match contender.role {
            Role::Zpa => zpa = total,
            Role::OtherProxy(_) => best = best.min(total),
            Role::Direct | Role::Build => {}
        }
        cells.push(cell(&calls, total));
    }
    cells.push(factor(best / zpa));
    Ok(Ok(cells))
}

/// What a way makes for a task, on average, or why nothing can be counted.
fn count(task: &Task, contender: &Contender, time: Duration) -> Result<Counted<Vec<Calls>>> {
    let process = contender.process().ok_or("nobody to trace")?;
    let mut load = Load::open(contender.address, &[task.group])?;
    let tracer = match Tracer::attach(process)? {
        Ok(tracer) => tracer,
        Err(why) => return Ok(Err(why)),
    };
    let (outcomes, _) = load.run(time)?;
    let mut calls = tracer.detach()?;
    let count = (task.count)(&outcomes[0]);
    for call in &mut calls {
        call.each /= count;
        call.failed /= count;
    }
    Ok(Ok(calls))
}

fn cell(calls: &[Calls], total: f64) -> String {
    // What happens now and then does not belong to what was asked.
    let regular = calls.iter().filter(|call| call.each > total / 200.0);
    let shown: Vec<String> = regular.map(Calls::to_string).collect();
    format!("**{}**: {}", number(total), shown.join(", "))
}

/// How often a system call was made.
struct Calls {
    name: String,
    each: f64,
    failed: f64,
}

impl Calls {
    /// From a line of `strace -c`: share, seconds, µs per call, calls, errors
    /// if there were any, name.
    fn parse(line: &str) -> Option<Calls> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (name, failed) = match fields[..] {
            [_, _, _, _, name] => (name, 0.0),
            [_, _, _, _, failed, name] => (name, failed.parse().ok()?),
            _ => return None,
        };
        (name != "total").then_some(())?;
        Some(Calls {
            name: name.to_owned(),
            each: fields[3].parse().ok()?,
            failed,
        })
    }
}

impl fmt::Display for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, number(self.each))?;
        if self.failed * 200.0 > self.each {
            write!(f, " ({})", number(self.failed))
        } else {
            Ok(())
        }
    }
}

/// A running strace.
struct Tracer {
    child: Child,
    output: BufReader<ChildStderr>,
}

impl Tracer {
    /// Begins to count the calls of a process's first thread, which in each of
    /// the proxies is the one that relays; or why that can't be.
    fn attach(process: Process) -> Result<Counted<Tracer>> {
        let spawned = Command::new("strace")
            .args(["-c", "-p", &process.0.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = match spawned {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return Ok(Err("strace is not installed.".to_owned()));
            }
            spawned => spawned?,
        };
        let output = child.stderr.take().ok_or("strace says nothing")?;
        let mut tracer = Tracer {
            child,
            output: BufReader::new(output),
        };
        let mut line = String::new();
        tracer.output.read_line(&mut line)?;
        if line.contains("attached") {
            Ok(Ok(tracer))
        } else {
            Ok(Err(format!("strace may not attach: {}.", line.trim())))
        }
    }

    /// Ends counting.
    fn detach(mut self) -> Result<Vec<Calls>> {
        // SAFETY: it has not been waited for, so that its id is still its own.
        unsafe { libc::kill(self.child.id().cast_signed(), libc::SIGINT) };
        let mut output = String::new();
        self.output.read_to_string(&mut output)?;
        let mut calls: Vec<Calls> = output.lines().filter_map(Calls::parse).collect();
        calls.sort_by(|one, other| other.each.total_cmp(&one.each));
        Ok(calls)
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
