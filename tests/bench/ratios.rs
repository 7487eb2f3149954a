//! The ratios of `zpa` to the other proxies, one line for each measurement.

use crate::proxies::{Contender, Role};
use crate::relay::Measured;
use crate::report::{Table, number};
use crate::rows::{Better, Metric};
use crate::stats::Summary;

/// The lines so far.
pub struct Ratios {
    /// The ways by number.
    direct: usize,
    zpa: usize,
    other_proxies: Vec<usize>,
    builds: Vec<usize>,
    names: Vec<String>,
    table: Table,
    /// One line for each row.
    summary: Table,
}

impl Ratios {
    pub fn new(contenders: &[Contender]) -> Ratios {
        let all = |is: fn(Role) -> bool| {
            let found = contenders
                .iter()
                .enumerate()
                .filter(move |(_, contender)| is(contender.role));
            found.map(|(n, _)| n).collect::<Vec<usize>>()
        };
        let builds = all(|role| role == Role::Build);
        let names: Vec<String> = contenders
            .iter()
            .map(|contender| contender.name.clone())
            .collect();
        let mut head: Vec<String> = [
            "`zpa` compared",
            "zpa",
            "best other",
            "zpa is better by",
            "than no proxy by",
        ]
        .map(str::to_owned)
        .into();
        head.extend(
            builds
                .iter()
                .map(|&build| format!("better than {} by", names[build])),
        );
        Ratios {
            direct: all(|role| role == Role::Direct)[0],
            zpa: all(|role| role == Role::Zpa)[0],
            other_proxies: all(|role| matches!(role, Role::OtherProxy(_))),
            builds,
            names,
            table: Table::new(head),
            summary: Table::new(
                ["`zpa` beside the best of the others", "better by (above 1)"]
                    .map(str::to_owned)
                    .into(),
            ),
        }
    }

    /// Adds a line for each metric of a row.
    pub fn add(&mut self, measured: &Measured) {
        for (n, metric) in measured.row.metrics.iter().enumerate() {
            let cells = self.cells(measured, n, metric);
            self.table.add(cells);
        }
        let row = measured.row;
        let gains = row.metrics.iter().enumerate().filter_map(|(n, metric)| {
            let best = self.best(measured, n, metric.better)?;
            let gain = self.gain(measured, n, metric.better, best).median;
            Some(format!("{} × {}", metric.name, number(gain)))
        });
        let gains = gains.collect::<Vec<_>>().join(" · ");
        self.summary.add(vec![row.label.to_owned(), gains]);
    }

    /// The table with a line for each metric, and the one with a line for each row.
    pub fn tables(mut self) -> (Table, Table) {
        self.table.note(
            "\"Better by\" is the median of the rounds' ratios, and in parentheses their \
             quartiles: what `zpa` does to what the best of the others does where more is \
             better, what the best of the others takes to what `zpa` takes where less is. Above \
             1 is in `zpa`'s favour; `<` marks where three quarters of the rounds are against it.",
        );
        (self.table, self.summary)
    }

    fn cells(&self, measured: &Measured, n: usize, metric: &Metric) -> Vec<String> {
        let median = |contender| Summary::of(measured.values(contender, n)).median;
        let mut cells = vec![
            format!("{}: {}", measured.row.label, metric.unit),
            number(median(self.zpa)),
        ];
        match self.best(measured, n, metric.better) {
            Some(best) => {
                cells.push(format!("{} {}", self.names[best], number(median(best))));
                cells.push(self.ratio(measured, n, metric.better, best));
            }
            None => cells.extend(["–".to_owned(), "–".to_owned()]),
        }
        cells.push(if metric.is_proxy_cost {
            "–".to_owned()
        } else {
            number(self.gain(measured, n, metric.better, self.direct).median)
        });
        let to_builds = self.builds.iter();
        cells.extend(to_builds.map(|&build| self.ratio(measured, n, metric.better, build)));
        cells
    }

    /// The other proxy against which `zpa` does worst.
    fn best(&self, measured: &Measured, n: usize, better: Better) -> Option<usize> {
        let gain = |other: usize| self.gain(measured, n, better, other).median;
        let there = self.other_proxies.iter().copied();
        there
            .filter(|&other| gain(other).is_finite())
            .min_by(|&a, &b| gain(a).total_cmp(&gain(b)))
    }

    /// By what factor `zpa` is better than `other`, in words.
    fn ratio(&self, measured: &Measured, n: usize, better: Better, other: usize) -> String {
        let gain = self.gain(measured, n, better, other);
        let [low, high] = gain.quartiles.map(number);
        let mark = if gain.quartiles[1] < 1.0 { "< " } else { "" };
        format!("{mark}{} ({low}–{high})", number(gain.median))
    }

    /// By what factor `zpa` is better than `other`, round by round.
    fn gain(&self, measured: &Measured, n: usize, better: Better, other: usize) -> Summary {
        let pairs = measured.values(self.zpa, n).zip(measured.values(other, n));
        Summary::of(pairs.map(|(zpa, other)| match better {
            Better::More => zpa / other,
            Better::Less => other / zpa,
        }))
    }
}
