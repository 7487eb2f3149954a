//! The relay: the same load directly to the server and through each proxy, in rounds, so that other
//! load on the machine affects all alike.

use std::thread;
use std::time::Duration;

use crate::cores::OneCore;
use crate::load::Load;
use crate::network::{Distance, Network, Place};
use crate::network_rows::{NETWORK_ROWS, NetworkRow};
use crate::other_load::OtherLoad;
use crate::proxies::{Contender, Kind, Missing, Role, builds};
use crate::ratios::Ratios;
use crate::report::{Table, number};
use crate::rows::{BenchRow, ROWS, Sample};
use crate::stats::Summary;
use crate::{Plan, Result};

/// More than any row has.
const CONNECTIONS: usize = 2000;
/// Time for the machine to come to rest after connections were closed.
const REST: Duration = Duration::from_millis(20);

/// The rows that were asked for.
pub fn rows(plan: &Plan) -> Vec<BenchRow> {
    let all = plan.includes("relay");
    let wanted = |row: &BenchRow| all || plan.includes(row.name);
    ROWS.into_iter().filter(wanted).collect()
}

/// What each way has come to in a row: a value for each round and metric.
/// Nothing of a way that does not take part.
pub struct Measured {
    pub row: BenchRow,
    pub contenders: Vec<Vec<Vec<f64>>>,
}

impl Measured {
    /// A metric of a way in each round.
    pub fn values(&self, contender: usize, metric: usize) -> impl Iterator<Item = f64> {
        self.contenders[contender]
            .iter()
            .map(move |round| round[metric])
    }
}

/// What the rows have come to.
pub struct Tables {
    /// What was measured.
    pub measured: Table,
    /// How `zpa` compares, a line for each metric.
    pub ratios: Table,
    /// The same, a line for each row.
    pub summary: Table,
}

/// The rows on a network that were asked for.
pub fn network_rows(plan: &Plan) -> Vec<NetworkRow> {
    let all = plan.includes("network");
    let wanted = |it: &NetworkRow| all || plan.includes(it.row.name);
    NETWORK_ROWS.into_iter().filter(wanted).collect()
}

/// Direct, through `zpa`, and through the others; and which of those are not there.
fn all_contenders(plan: &Plan, place: &Place) -> Result<(Vec<Contender>, Vec<Missing>)> {
    let mut contenders = vec![Contender::direct(place)?];
    contenders.extend(Contender::zpas(place, 1)?);
    let mut missing = Vec::new();
    for kind in plan.other_proxies(&Kind::ALL) {
        match Contender::other_proxy(place, kind, 1, CONNECTIONS)? {
            Ok(contender) => contenders.push(contender),
            Err(why) => missing.push(why),
        }
    }
    Ok((contenders, missing))
}

/// Measures the rows on a network.
pub fn measure_network(plan: &Plan, network: Network, rows: &[NetworkRow]) -> Result<Tables> {
    let place = Place::Network(network);
    let (contenders, _) = all_contenders(plan, &place)?;
    let mut head = vec!["relay on a network, medians of the rounds".to_owned()];
    head.extend(contenders.iter().map(|contender| contender.name.clone()));
    let (mut table, mut ratios) = (Table::new(head), Ratios::new(&contenders));
    for it in rows {
        let name = it.row.name;
        if let Err(why) = place.set(it.distance) {
            table.note(&format!("{name} is skipped: {why}"));
            continue;
        }
        let (rounds, time) = plan.choose((it.rounds, it.time), (1, it.time / 15));
        let measured = run_row(&it.row, &contenders, &place, rounds, time);
        let measured = measured.map_err(|error| format!("{name}: {error}"))?;
        table.add(cells(&measured));
        ratios.add(&measured);
    }
    if rows.iter().any(|it| it.distance == Distance::None) {
        table.note(
            "A minute of connections is one round: what they leave behind at the proxy is there \
             for a minute. One that gets no reply counts as not served.",
        );
    }
    let (ratios, summary) = ratios.tables();
    Ok(Tables {
        measured: table,
        ratios,
        summary,
    })
}

/// Measures the rows.
pub fn measure(plan: &Plan, rows: &[BenchRow]) -> Result<Tables> {
    let place = Place::Loopback;
    let (contenders, missing) = all_contenders(plan, &place)?;
    let rounds = plan.choose(10, 2);
    let time = Duration::from_millis(plan.choose(700, 150));
    let mut table = table(&contenders, rounds);
    let mut ratios = Ratios::new(&contenders);
    let others = OtherLoad::watch(&contenders)?;
    for row in rows {
        let measured = run_row(row, &contenders, &place, rounds, time)
            .map_err(|error| format!("{}: {error}", row.name))?;
        table.add(cells(&measured));
        ratios.add(&measured);
    }
    table.note(
        "The median of the rounds, and of what is named first half the distance from the least \
         to the greatest. The processor time of the direct way is that of client and server. \
         What is said of one connection was measured on one core. Where connections are many, \
         socat, which has a process for each, is left out.",
    );
    // The kernel counts its own time by ticks and that of processes exactly, so
    // that on a quiet machine the difference may be less than nothing.
    let share = others.share(&contenders)?;
    if share > 0.0 {
        let percent = share * 100.0;
        table.note(&format!(
            "Meanwhile others took {percent:.0} % of the processors' time."
        ));
    }
    for build in builds().iter().skip(1) {
        table.note(&format!("{} is {}.", build.name, build.program.display()));
    }
    for missing in missing {
        table.note(&format!("{} {}.", missing.kind.name(), missing.why));
    }
    let (ratios, summary) = ratios.tables();
    Ok(Tables {
        measured: table,
        ratios,
        summary,
    })
}

/// Each way's samples, in rounds that begin with another way each time.
fn run_row(
    row: &BenchRow,
    contenders: &[Contender],
    place: &Place,
    rounds: usize,
    time: Duration,
) -> Result<Measured> {
    let mut measured = Measured {
        row: *row,
        contenders: vec![Vec::new(); contenders.len()],
    };
    let takes_part = |contender: &usize| match contenders[*contender].role {
        Role::OtherProxy(kind) => row.suits(kind),
        _ => true,
    };
    let mut order: Vec<usize> = (0..contenders.len()).filter(takes_part).collect();
    for _ in 0..rounds {
        for &n in &order {
            let contender = &contenders[n];
            let sample = sample(row, contender, place, time)
                .map_err(|e| format!("{}: {e}", contender.name))?;
            let values = row.metrics.iter().map(|metric| (metric.of)(&sample));
            measured.contenders[n].push(values.collect());
        }
        order.rotate_left(1);
    }
    Ok(measured)
}

fn sample(row: &BenchRow, contender: &Contender, place: &Place, time: Duration) -> Result<Sample> {
    let _core = if row.one_core {
        Some(OneCore::share(contender.process())?)
    } else {
        None
    };
    let (address, groups) = (contender.address, row.groups);
    let mut load = place.of_clients(|| Load::open(address, groups))?;
    let before = contender.cpu_seconds()?;
    // On loopback for the ports' sake, again.
    let reconnects = groups.iter().any(|group| group.reconnect);
    let is_short = reconnects && matches!(place, Place::Loopback);
    let time = if is_short { time / 2 } else { time };
    let (groups, elapsed) = place.of_clients(|| load.run(time))?;
    let cpu_seconds = contender.cpu_seconds()? - before;
    drop(load);
    thread::sleep(REST);
    Ok(Sample {
        groups,
        seconds: elapsed.as_secs_f64(),
        cpu_seconds,
    })
}

fn table(contenders: &[Contender], rounds: usize) -> Table {
    let mut head = vec![format!("relay on loopback, medians of {rounds} rounds")];
    head.extend(contenders.iter().map(|contender| contender.name.clone()));
    Table::new(head)
}

fn cells(measured: &Measured) -> Vec<String> {
    let metrics = 0..measured.row.metrics.len();
    let cell = |contender| {
        let summary = |metric| Summary::of(measured.values(contender, metric));
        let all = metrics.clone().map(summary).enumerate().filter_map(shown);
        let shown: Vec<String> = all.collect();
        if shown.is_empty() {
            "–".to_owned()
        } else {
            shown.join(" · ")
        }
    };
    let mut cells = vec![measured.row.title()];
    cells.extend((0..measured.contenders.len()).map(cell));
    cells
}

/// The median, if there is one; of the first also how far the rounds are apart.
fn shown((n, summary): (usize, Summary)) -> Option<String> {
    let median = number(summary.median);
    match n {
        _ if !summary.median.is_finite() => None,
        0 => Some(format!("{median} ±{:.0} %", summary.spread * 100.0)),
        _ => Some(median),
    }
}
