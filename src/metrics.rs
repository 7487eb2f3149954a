//! [`Snapshot`]: the values of all metrics at one time; and their text format for Prometheus.
//!
//! One table ([`TABLE`]) has every metric: its name, its type, its labels, its
//! help, and how its samples are read from a [`Snapshot`]. The text of a scrape
//! ([`text`]) and the table of its documentation ([`markdown_table`]) both come from it.
//!
//! A metric of an app has the label `app`, `namespace/service`, also where there is only one app; a
//! metric of a port has the label `port` as well.
//!
//! Nothing here is global or shared between threads: each module has its own counters, and a
//! snapshot is taken for each scrape.

mod histogram;
mod table;

use std::fmt::{self, Display, Write};
use std::time::Duration;

pub use self::histogram::{BOUNDS, Histogram};
pub use self::table::TABLE;

/// The type of [`text`]: version 0.0.4 of the text format
/// (<https://prometheus.io/docs/instrumenting/exposition_formats>).
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All that there is to read, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The program's version.
    pub version: &'static str,
    /// When the process was started, in seconds since 1970.
    pub started: u64,
    /// How many descriptors the process may have open.
    pub descriptors: u64,
    /// The processor time that it has used.
    pub cpu: Option<Duration>,
    /// The memory that it has in RAM, in bytes.
    pub resident: Option<u64>,
    /// The address space that it uses, in bytes.
    pub address_space: Option<u64>,
    /// How many descriptors it has open.
    pub open_descriptors: Option<u64>,
    /// Whether new connections are welcome here.
    pub ready: bool,
    /// How many connections may be open.
    pub connections_limit: usize,
    /// Dials that failed through no fault of a pod, by cause.
    pub local_errors: Vec<([&'static str; 1], u64)>,
    /// For how many the kernel had no port left.
    pub bound_ports: u64,
    /// Requests to the API server, by verb and outcome.
    pub requests: Vec<([&'static str; 2], u64)>,
    /// The durations up to its replies, by verb.
    pub replies: Vec<([&'static str; 1], Histogram)>,
    /// How often a thread has panicked.
    pub thread_panics: u64,
    /// Lines of the log that were lost.
    pub log_lines_dropped: u64,
    /// Whether the list of apps is wrong, so that the one before is in force; none without a
    /// list.
    pub list_wrong: Option<bool>,
    /// How many lists were taken and refused since the start; none without a list.
    pub lists: Option<Vec<([&'static str; 1], u64)>>,
    /// How many files with networks of clients are wrong, so that older ones are in force; none
    /// without such a file.
    pub source_files_wrong: Option<usize>,
    /// How many changes of them were taken and refused since the start.
    pub source_files: Option<Vec<([&'static str; 1], u64)>>,
    /// How many of the Services that are to be apps are in force, and how many are wrong; none
    /// where no apps are found by their Services.
    pub services: Option<Vec<([&'static str; 1], u64)>>,
    /// Whether these Services can be listed and watched.
    pub services_watched: Option<bool>,
    /// How many clients were refused where server names choose the app, by address and reason.
    pub refused_by_name: Vec<(String, Vec<(&'static str, u64)>)>,
    /// The apps.
    pub apps: Vec<App>,
}

/// What is to be read of one app.
#[derive(Clone, Debug, Default)]
pub struct App {
    /// `namespace/service`.
    pub name: String,
    /// Whether it could be woken and served.
    pub ready: bool,
    /// Each phase of the app, and whether it is in it.
    pub phases: Vec<(&'static str, bool)>,
    /// `spec.replicas` of the scale target as last seen.
    pub replicas: Option<u32>,
    /// How long ago that was.
    pub replicas_age: Option<Duration>,
    /// After how long without a connection the app is put to sleep.
    pub idle_ttl: Duration,
    /// When the app may be put to sleep from here, in seconds since 1970; none while it
    /// sleeps, and while something other than time keeps it awake.
    pub sleep_due: Option<u64>,
    /// For how long nobody can put the app to sleep; none where renewing is
    /// forbidden, so that there is no lease to be had.
    pub lease: Option<Duration>,
    /// Whether the endpoints were listed, and are watched since.
    pub endpoints_synced: bool,
    /// How many clients are remembered, to lead them to the same pod; none where that is not
    /// asked for.
    pub remembered_clients: Option<usize>,
    /// How often a connection was handed to a pod while there was no lease.
    pub without_lease: u64,
    /// From the first connection that had to wait to a pod for it.
    pub wake: Histogram,
    /// The durations of the parts of wakes.
    pub wake_parts: Vec<([&'static str; 1], Histogram)>,
    /// The wakes that have ended, by result.
    pub wake_results: Vec<([&'static str; 1], u64)>,
    /// How long the app has been seen asleep.
    pub asleep: Duration,
    /// The same in seconds, times the replicas before each sleep.
    pub replica_seconds_saved: f64,
    /// How often the app was scaled up from zero from here.
    pub wakes: u64,
    /// How often it was scaled to zero from here.
    pub sleeps: u64,
    /// How often a wake had to wait for the limit of wakes.
    pub wakes_delayed: u64,
    /// The events for its webhook, by what was done with them; none without a webhook.
    pub webhook: Option<Vec<([&'static str; 1], u64)>>,
    /// Every permission, and whether something else is done because it is refused.
    pub fallbacks: Vec<(&'static str, bool)>,
    /// Every permission, and whether nothing can be done because it is refused.
    pub forbidden: Vec<(&'static str, bool)>,
    /// Its ports.
    pub ports: Vec<Port>,
}

/// What is to be read of one port of an app.
#[derive(Clone, Debug, Default)]
pub struct Port {
    /// The Service's port, as the settings have it.
    pub name: String,
    /// How many addresses are dialled.
    pub backends: usize,
    /// How many pods rest after failures.
    pub backends_ejected: usize,
    /// How many have as many connections as they may have.
    pub backends_full: usize,
    /// How many are dialled before the others, because hints say that they are near; all, where
    /// none say so.
    pub backends_near: usize,
    /// How many connections are open.
    pub connections_open: usize,
    /// How many of them count as use of the app.
    pub connections_counted: usize,
    /// How many of those wait for a pod.
    pub connections_waiting: usize,
    /// How many are detached.
    pub connections_detached: usize,
    /// How often one that was detached has gone on.
    pub reattached: u64,
    /// How many connections did not count, by the rule.
    pub excluded: Vec<([&'static str; 1], u64)>,
    /// How many have been accepted.
    pub accepted: u64,
    /// The bytes that were passed on, by direction.
    pub bytes: Vec<([&'static str; 1], u64)>,
    /// How often one was handed to a pod.
    pub forwarded: u64,
    /// How many have ended, by reason and phase.
    pub closed: Vec<([&'static str; 2], u64)>,
    /// How many dials have failed.
    pub failed_dials: u64,
    /// From accept to a pod.
    pub hold: Histogram,
}

/// The type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, from zero at the start of the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts observations in [`BOUNDS`].
    Histogram,
}

impl Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        })
    }
}

/// A family of metrics: what Prometheus calls by one name.
pub struct Metric {
    /// Its name, with the unit and `_total` as is the custom.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it says: a sentence without the full stop at its end.
    pub help: &'static str,
    read: Read,
}

/// Whose a metric is, and how its samples are read.
enum Read {
    /// The process's.
    Process(fn(&Snapshot, &mut Samples<'_>)),
    /// Each app's.
    App(fn(&App, &mut Samples<'_>)),
    /// Each port's.
    Port(fn(&Port, &mut Samples<'_>)),
}

/// The text of a scrape.
pub fn text(snapshot: &Snapshot) -> String {
    let mut text = String::with_capacity(12 * 1024);
    for metric in TABLE {
        let Metric {
            name, kind, help, ..
        } = metric;
        let help = Escaped(help, false);
        // Writing to a String does not fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        write_samples(metric, snapshot, &mut text);
    }
    text
}

fn write_samples(metric: &Metric, snapshot: &Snapshot, text: &mut String) {
    let apps = snapshot.apps.iter();
    match metric.read {
        Read::Process(read) => read(snapshot, &mut Samples::new(metric, &[], text)),
        Read::App(read) => {
            apps.for_each(|app| read(app, &mut Samples::new(metric, &[&app.name], text)));
        }
        Read::Port(read) => apps.for_each(|app| {
            for port in &app.ports {
                let whose = [app.name.as_str(), &port.name];
                read(port, &mut Samples::new(metric, &whose, text));
            }
        }),
    }
}

/// Where a metric's samples go.
struct Samples<'a> {
    metric: &'a Metric,
    /// The values of its first labels: those that say whose it is.
    whose: &'a [&'a str],
    text: &'a mut String,
}

impl<'a> Samples<'a> {
    fn new(metric: &'a Metric, whose: &'a [&'a str], text: &'a mut String) -> Self {
        Samples {
            metric,
            whose,
            text,
        }
    }

    /// The only sample.
    fn one(&mut self, value: impl Display) {
        self.labelled(&[], value);
    }

    /// The only sample, if there is anything to say.
    fn maybe(&mut self, value: Option<impl Display>) {
        if let Some(value) = value {
            self.one(value);
        }
    }

    /// A sample for each combination of labels.
    fn each<const N: usize>(&mut self, samples: &[([&'static str; N], u64)]) {
        for (labels, value) in samples {
            self.labelled(labels, value);
        }
    }

    /// 1 for what is true and 0 for what is not.
    fn flags(&mut self, flags: &[(&'static str, bool)]) {
        for &(label, flag) in flags {
            self.labelled(&[label], u8::from(flag));
        }
    }

    fn labelled(&mut self, labels: &[&str], value: impl Display) {
        self.line("", labels, None, &value);
    }

    /// A histogram for each label.
    fn histograms(&mut self, histograms: &[([&'static str; 1], Histogram)]) {
        for (labels, histogram) in histograms {
            self.labelled_histogram(labels, histogram);
        }
    }

    /// The only histogram.
    fn histogram(&mut self, histogram: &Histogram) {
        self.labelled_histogram(&[], histogram);
    }

    /// Cumulative counts, as the format wants them.
    fn labelled_histogram(&mut self, labels: &[&str], histogram: &Histogram) {
        let mut below = 0;
        for (bound, count) in histogram.buckets() {
            below += count;
            let bound = bound.map_or_else(|| "+Inf".to_owned(), |bound| bound.to_string());
            self.line("_bucket", labels, Some(("le", &bound)), &below);
        }
        self.line("_sum", labels, None, &seconds(histogram.sum()));
        self.line("_count", labels, None, &below);
    }

    /// One sample: a line.
    fn line(
        &mut self,
        suffix: &str,
        labels: &[&str],
        last: Option<(&str, &str)>,
        value: &dyn Display,
    ) {
        let Metric {
            name,
            labels: names,
            ..
        } = self.metric;
        let values = self.whose.iter().chain(labels);
        let labels = names
            .iter()
            .zip(values)
            .map(|(&name, &value)| (name, value));
        let labels: Vec<String> = labels
            .chain(last)
            .map(|(label, value)| format!("{label}=\"{}\"", Escaped(value, true)))
            .collect();
        let labels = if labels.is_empty() {
            String::new()
        } else {
            format!("{{{}}}", labels.join(","))
        };
        let _ = writeln!(self.text, "{name}{suffix}{labels} {value}");
    }
}

/// A text with its backslashes and line feeds escaped, and its quotes if it is
/// to stand between quotes.
struct Escaped<'a>(&'a str, bool);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|char| match char {
            '\\' => f.write_str("\\\\"),
            '\n' => f.write_str("\\n"),
            '"' if self.1 => f.write_str("\\\""),
            other => f.write_char(other),
        })
    }
}

/// Prometheus' base unit of time.
fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

/// The table of metrics in the documentation (`METRICS.md`), in Markdown.
pub fn markdown_table() -> String {
    let head = "| Metric | Type | Labels | Meaning |\n|---|---|---|---|\n";
    TABLE.iter().fold(head.to_owned(), |text, metric| {
        let labels = metric.labels.iter().map(|label| format!("`{label}`"));
        let labels = labels.collect::<Vec<_>>().join(", ");
        let Metric {
            name, kind, help, ..
        } = metric;
        text + &format!("| `{name}` | {kind} | {labels} | {help} |\n")
    })
}

#[cfg(test)]
mod tests;
