//! What a proxy of many apps costs while they sleep, and how fast one of them wakes: for 1, 50
//! and 500 apps, side by side.

use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use support::fleet::{self, Fleet};
use support::process::{Busy, Memory, watch};
use support::sandbox::{LoggedRequest, Options, anything, on};

use crate::report::{Table, number};
use crate::stats::Latencies;
use crate::wake::Served;
use crate::{Plan, Result};

/// How many apps each of the proxies has.
const APPS: [usize; 3] = [1, 50, 500];
/// The shortest that there is: that a single app can be woken again and again.
const WAKE_TTL: (&str, &str) = ("ZPA_IDLE_TTL", "1s");
/// From a pod's creation until it is ready: time enough for the reply to the PATCH.
const START_DELAY: Duration = Duration::from_millis(20);
/// For what a start or a sleep leaves to be done.
const REST: Duration = Duration::from_millis(50);
const SETTLED: Duration = Duration::from_secs(3);
/// How long anything may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How far the next app to be woken is from the last one, in their list.
const STRIDE: usize = 37;

/// What a proxy takes while its apps sleep.
struct Idle {
    memory: Memory,
    threads: usize,
    busy: Busy,
    requests: usize,
}

/// What the wakes of a proxy's apps took.
#[derive(Default)]
struct Wakes {
    /// From before the client's connect to the arrival of the PATCH.
    patch: Vec<Duration>,
    /// From the moment the slices listed the pod as ready to the client's first byte.
    first_byte: Vec<Duration>,
}

/// Measures; the table.
pub fn measure(plan: &Plan) -> Result<Table> {
    let idle = idle(plan.choose(Duration::from_secs(60), Duration::from_secs(3)))?;
    let wakes = wakes(plan.choose(60, 3))?;
    let head = APPS.map(|apps| match apps {
        1 => "1 app".to_owned(),
        _ => format!("{apps} apps"),
    });
    let first = "a proxy of sleeping apps".to_owned();
    let mut table = Table::new([first].into_iter().chain(head).collect());
    for (label, cell) in idle_lines() {
        table.add(row(label, idle.iter().map(cell)));
    }
    for (label, latencies) in wake_lines(&wakes) {
        let ms = |percent| {
            let all = latencies.iter();
            let cells: Vec<f64> = all.map(|it| it.percentile_us(percent) / 1e3).collect();
            cells
        };
        for (share, percent) in [("p50", 50.0), ("p99", 99.0)] {
            let cells = ms(percent).into_iter().map(number);
            table.add(row(&format!("{label}, {share}, ms"), cells));
        }
    }
    let counts = wakes.iter().map(|it| it.first_byte.len().to_string());
    table.add(row("wakes", counts));
    Ok(table)
}

fn row(label: &str, cells: impl Iterator<Item = String>) -> Vec<String> {
    [label.to_owned()].into_iter().chain(cells).collect()
}

fn start(settings: &[(&str, &str)]) -> Vec<Fleet> {
    let options = Options {
        start_delay: Some(START_DELAY),
        ..Options::default()
    };
    let program = env!("CARGO_BIN_EXE_zpa");
    APPS.map(|apps| Fleet::start(program, apps, options.clone(), settings))
        .into()
}

// --- Asleep ---

/// All of them at the same time.
fn idle(time: Duration) -> Result<Vec<Idle>> {
    let fleets = start(&[]);
    thread::sleep(SETTLED);
    thread::scope(|scope| {
        let each = fleets.iter().map(|fleet| {
            let work = move || idle_of(fleet, time);
            scope.spawn(work)
        });
        let each: Vec<_> = each.collect();
        let found = each.into_iter().map(|thread| match thread.join() {
            Ok(found) => found,
            Err(_) => Err("fleet: the thread that looks has panicked".into()),
        });
        found.collect()
    })
}

fn idle_of(fleet: &Fleet, time: Duration) -> Result<Idle> {
    let process = fleet.process();
    let before = fleet.sandbox.count(&anything());
    let busy = watch(process, time)?;
    Ok(Idle {
        requests: fleet.sandbox.count(&anything()) - before,
        memory: process.memory()?,
        threads: process.threads()?.len(),
        busy,
    })
}

type Cell = fn(&Idle) -> String;

fn idle_lines() -> [(&'static str, Cell); 5] {
    [
        ("resident, MiB (of its own)", |idle| {
            let mib = |bytes: u64| number(bytes as f64 / f64::from(1 << 20));
            let Memory {
                resident,
                anonymous,
            } = idle.memory;
            format!("{} ({})", mib(resident), mib(anonymous))
        }),
        ("threads", |idle| idle.threads.to_string()),
        ("requests a minute to the API server", |idle| {
            number(idle.requests as f64 * 60.0 / idle.busy.time.as_secs_f64())
        }),
        ("processor time, ms/s", |idle| {
            number(idle.busy.cpu.as_secs_f64() * 1e3 / idle.busy.time.as_secs_f64())
        }),
        ("wake-ups of its threads per s", |idle| {
            number(idle.busy.wake_ups as f64 / idle.busy.time.as_secs_f64())
        }),
    ]
}

// --- A wake ---

fn wake_lines(wakes: &[Wakes]) -> [(&'static str, Vec<Latencies>); 2] {
    let all = |of: fn(&Wakes) -> &Vec<Duration>| {
        let latencies = wakes.iter().map(|it| Latencies::new(of(it).clone()));
        latencies.collect()
    };
    [
        ("connect → PATCH at the API server", all(|it| &it.patch)),
        (
            "pod listed as ready → client's first byte",
            all(|it| &it.first_byte),
        ),
    ]
}

/// In rounds, in which each proxy has one of its apps woken, one proxy after the other, when
/// all apps sleep.
fn wakes(rounds: usize) -> Result<Vec<Wakes>> {
    let fleets = start(&[WAKE_TTL]);
    let mut wakes: Vec<Wakes> = fleets.iter().map(|_| Wakes::default()).collect();
    let mut order: Vec<usize> = (0..fleets.len()).collect();
    for round in 0..rounds {
        let number = |fleet: usize| round * STRIDE % APPS[fleet];
        let mut clients = Vec::new();
        for &n in &order {
            thread::sleep(REST);
            clients.push(wake(&fleets[n], number(n), &mut wakes[n])?);
        }
        drop(clients);
        for &n in &order {
            fall_asleep(&fleets[n], &fleet::name(number(n)))?;
        }
        order.rotate_left(1);
    }
    Ok(wakes)
}

fn fall_asleep(fleet: &Fleet, name: &str) -> Result<()> {
    let is_asleep = fleet.sandbox.wait_until(TIMEOUT, |state| {
        state.replicas_of(name) == 0 && state.pods_of(name) == 0
    });
    match is_asleep {
        true => Ok(()),
        false => Err(format!("{name} does not fall asleep within {TIMEOUT:?}").into()),
    }
}

fn wake(fleet: &Fleet, number: usize, wakes: &mut Wakes) -> Result<TcpStream> {
    let name = fleet::name(number);
    let (logged, listed) = {
        let state = fleet.sandbox.state();
        (state.log.len(), state.listed_of(&name).len())
    };
    let Served {
        client,
        connecting,
        first_byte,
    } = Served::by(fleet.addresses[number], logged as u64)?;
    let state = fleet.sandbox.state();
    let wakes_up = on("patch", "deployments/scale").with(|e| e.replicas() == Some(1));
    let patches = state.log[logged..].iter().filter(|e| wakes_up.is(e));
    let patches: Vec<&LoggedRequest> = patches.collect();
    let ready = state
        .listed_of(&name)
        .get(listed)
        .ok_or("no pod got ready")?;
    wakes.first_byte.push(first_byte - ready.at);
    // After a conflict it is another measurement: see `wake`.
    if let [patch] = patches[..] {
        wakes.patch.push(patch.at - connecting);
    }
    drop(state);
    Ok(client)
}
