//! What is counted and measured, and how Prometheus reads it.
//!
//! One table ([`TABLE`]) has every metric: its name, its type, its labels, its
//! help, and how its samples are read from a [`Snapshot`]. The text of a scrape
//! ([`text`]) and the table of its documentation ([`markdown_table`]) both come from it.
//!
//! Nothing here is shared between threads, and nothing is a global: what is
//! counted lives where it happens, and a snapshot is taken when somebody asks.

mod histogram;

use std::fmt::{self, Display, Write};
use std::time::Duration;

pub use self::histogram::{BOUNDS, Histogram};

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
    /// Whether new connections are welcome here.
    pub ready: bool,
    /// Each phase of the app, and whether it is in it.
    pub phases: Vec<(&'static str, bool)>,
    /// `spec.replicas` of the scale target as last seen.
    pub replicas: Option<u32>,
    /// How long ago that was.
    pub replicas_age: Option<Duration>,
    /// After how long without a connection the app is put to sleep.
    pub idle_ttl: Duration,
    /// For how long nobody can put the app to sleep; none where renewing is
    /// forbidden, so that there is no lease to be had.
    pub lease: Option<Duration>,
    /// How many addresses are dialled.
    pub backends: usize,
    /// How many pods rest after failures.
    pub backends_resting: usize,
    /// How many have as many connections as they may have.
    pub backends_full: usize,
    /// Whether the endpoints were listed, and are watched since.
    pub endpoints_synced: bool,
    /// How many connections may be open.
    pub connections_limit: usize,
    /// How many are.
    pub connections_open: usize,
    /// How many of them count as use of the app.
    pub connections_counted: usize,
    /// How many of those wait for a pod.
    pub connections_waiting: usize,
    /// How many connections did not count, by the rule.
    pub excluded: Vec<([&'static str; 1], u64)>,
    /// How many have been accepted.
    pub accepted: u64,
    /// How often one was handed to a pod.
    pub handed_over: u64,
    /// How often while there was no lease.
    pub without_lease: u64,
    /// How many have ended, by reason and phase.
    pub closed: Vec<([&'static str; 2], u64)>,
    /// How many dials have failed.
    pub failed_dials: u64,
    /// How many through no fault of a pod, by cause.
    pub local_errors: Vec<([&'static str; 1], u64)>,
    /// For how many the kernel had no port left.
    pub bound_ports: u64,
    /// From accept to a pod.
    pub hold: Histogram,
    /// From the first connection that had to wait to a pod for it.
    pub wake: Histogram,
    /// How often the app was scaled up from zero from here.
    pub wakes: u64,
    /// How often it was scaled to zero from here.
    pub sleeps: u64,
    /// Requests to the API server, by verb and outcome.
    pub requests: Vec<([&'static str; 2], u64)>,
    /// Every permission, and whether something else is done because it is refused.
    pub fallbacks: Vec<(&'static str, bool)>,
    /// Every permission, and whether nothing can be done because it is refused.
    pub forbidden: Vec<(&'static str, bool)>,
    /// How often a thread has panicked.
    pub thread_panics: u64,
    /// Lines of the log that were lost.
    pub log_lines_dropped: u64,
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
    /// Reads its samples.
    read: fn(&Snapshot, &mut Samples<'_>),
}

/// Every metric, in the order in which a scrape has them.
pub static TABLE: &[Metric] = &[
    Metric {
        name: "zpa_build_info",
        kind: Kind::Gauge,
        labels: &["version"],
        help: "1, with the program's version",
        read: |it, samples| samples.labelled(&[it.version], 1),
    },
    Metric {
        name: "process_start_time_seconds",
        kind: Kind::Gauge,
        labels: &[],
        help: "When the process was started, in seconds since 1970",
        read: |it, samples| samples.one(it.started),
    },
    Metric {
        name: "process_max_fds",
        kind: Kind::Gauge,
        labels: &[],
        help: "How many descriptors it may have open; a connection takes two",
        read: |it, samples| samples.one(it.descriptors),
    },
    Metric {
        name: "zpa_ready",
        kind: Kind::Gauge,
        labels: &[],
        help: "1 if new connections are welcome here, as `/readyz` says",
        read: |it, samples| samples.one(u8::from(it.ready)),
    },
    Metric {
        name: "zpa_phase",
        kind: Kind::Gauge,
        labels: &["phase"],
        help: "1 for the phase that the app is in as far as is known here, 0 for each other",
        read: |it, samples| samples.flags(&it.phases),
    },
    Metric {
        name: "zpa_replicas",
        kind: Kind::Gauge,
        labels: &[],
        help: "`spec.replicas` of the scale target as last seen; absent if never seen",
        read: |it, samples| samples.maybe(it.replicas),
    },
    Metric {
        name: "zpa_replicas_age_seconds",
        kind: Kind::Gauge,
        labels: &[],
        help: "How long ago that was; more than a minute means that the API server is out of reach, or a permission missing",
        read: |it, samples| samples.maybe(it.replicas_age.map(seconds)),
    },
    Metric {
        name: "zpa_idle_ttl_seconds",
        kind: Kind::Gauge,
        labels: &[],
        help: "The setting `--idle-ttl`",
        read: |it, samples| samples.one(seconds(it.idle_ttl)),
    },
    Metric {
        name: "zpa_lease_seconds",
        kind: Kind::Gauge,
        labels: &[],
        help: "For how long no proxy can put the app to sleep, renewed while a connection is \
               open; 0 where renewing is forbidden, absent with `--single-proxy`",
        read: |it, samples| samples.maybe(it.lease.map(seconds)),
    },
    Metric {
        name: "zpa_backends",
        kind: Kind::Gauge,
        labels: &[],
        help: "How many addresses may be dialled",
        read: |it, samples| samples.one(it.backends),
    },
    Metric {
        name: "zpa_backends_resting",
        kind: Kind::Gauge,
        labels: &[],
        help: "How many pods rest after failures: they are dialled where no other is left",
        read: |it, samples| samples.one(it.backends_resting),
    },
    Metric {
        name: "zpa_backends_full",
        kind: Kind::Gauge,
        labels: &[],
        help: "How many pods have as many connections as `--max-connections-per-pod` allows",
        read: |it, samples| samples.one(it.backends_full),
    },
    Metric {
        name: "zpa_endpoints_synced",
        kind: Kind::Gauge,
        labels: &[],
        help: "1 if the list of the pods' addresses is up to date, 0 while it cannot be read",
        read: |it, samples| samples.one(u8::from(it.endpoints_synced)),
    },
    Metric {
        name: "zpa_connections_limit",
        kind: Kind::Gauge,
        labels: &[],
        help: "How many connections may be open; others wait to be accepted",
        read: |it, samples| samples.one(it.connections_limit),
    },
    Metric {
        name: "zpa_connections_open",
        kind: Kind::Gauge,
        labels: &[],
        help: "Connections open, those that wait included",
        read: |it, samples| samples.one(it.connections_open),
    },
    Metric {
        name: "zpa_connections_counted",
        kind: Kind::Gauge,
        labels: &[],
        help: "Those of them that count as use of the app and keep it awake",
        read: |it, samples| samples.one(it.connections_counted),
    },
    Metric {
        name: "zpa_connections_waiting",
        kind: Kind::Gauge,
        labels: &[],
        help: "Connections that wait for a pod",
        read: |it, samples| samples.one(it.connections_waiting),
    },
    Metric {
        name: "zpa_connections_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Connections accepted",
        read: |it, samples| samples.one(it.accepted),
    },
    Metric {
        name: "zpa_connections_excluded_total",
        kind: Kind::Counter,
        labels: &["rule"],
        help: "Connections that counted as no use of the app, by the rule: `denied` (not let in), \
               `ignored`, or `silent` (not any more; again for each silence)",
        read: |it, samples| samples.each(&it.excluded),
    },
    Metric {
        name: "zpa_connections_closed_total",
        kind: Kind::Counter,
        labels: &["reason", "phase"],
        help: "Connections that have ended: `finished`, `client_gone`, `backend_gone`, \
               `held_too_long`, `drained`, `refused` (out of system resources), `excluded` (it \
               did not count, and no pod was ready), `asleep` (it did not count, and the app was \
               put to sleep), `idle` or `half_closed` (no byte for as long as is allowed), while \
               `holding`, `dialing` or `relaying`",
        read: |it, samples| samples.each(&it.closed),
    },
    Metric {
        name: "zpa_forwarded_total",
        kind: Kind::Counter,
        labels: &[],
        help: "How often a connection was handed to a pod; again if that broke off before a byte",
        read: |it, samples| samples.one(it.handed_over),
    },
    Metric {
        name: "zpa_forwarded_without_lease_total",
        kind: Kind::Counter,
        labels: &[],
        help: "How often without a lease, because no renewal succeeded: another proxy may put \
               the app to sleep under it",
        read: |it, samples| samples.one(it.without_lease),
    },
    Metric {
        name: "zpa_dials_failed_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Dials that a pod has refused, or not answered in time",
        read: |it, samples| samples.one(it.failed_dials),
    },
    Metric {
        name: "zpa_dial_local_errors_total",
        kind: Kind::Counter,
        labels: &["error"],
        help: "Dials that failed through no fault of a pod: `no_port`, `no_descriptor`, \
               `no_memory`, `forbidden` (by a rule of this machine) or `self_connect` (an \
               address of this machine where nobody listens)",
        read: |it, samples| samples.each(&it.local_errors),
    },
    Metric {
        name: "zpa_dials_from_bound_port_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Dials for which the kernel had no local port left, so that one in TIME_WAIT was \
               used again",
        read: |it, samples| samples.one(it.bound_ports),
    },
    Metric {
        name: "zpa_hold_seconds",
        kind: Kind::Histogram,
        labels: &[],
        help: "From accepting a connection to handing it to a pod, be the app asleep or awake",
        read: |it, samples| samples.histogram(&it.hold),
    },
    Metric {
        name: "zpa_wake_seconds",
        kind: Kind::Histogram,
        labels: &[],
        help: "From the first connection that found no pod to a pod for it: the cold starts",
        read: |it, samples| samples.histogram(&it.wake),
    },
    Metric {
        name: "zpa_wakes_total",
        kind: Kind::Counter,
        labels: &[],
        help: "How often this proxy has scaled the app up from zero",
        read: |it, samples| samples.one(it.wakes),
    },
    Metric {
        name: "zpa_sleeps_total",
        kind: Kind::Counter,
        labels: &[],
        help: "How often this proxy has scaled the app to zero",
        read: |it, samples| samples.one(it.sleeps),
    },
    Metric {
        name: "zpa_api_requests_total",
        kind: Kind::Counter,
        labels: &["verb", "outcome"],
        help: "Requests to the API server: `get`, `list`, `watch` or `patch`, and what came back: \
               `ok`, `unauthorized` (401), `forbidden` (403), `not_found` (404), `conflict` (409), \
               `busy` (429), `error` (any other status), `no_reply` or `unreachable`",
        read: |it, samples| samples.each(&it.requests),
    },
    Metric {
        name: "zpa_api_fallback",
        kind: Kind::Gauge,
        labels: &["permission"],
        help: "1 while something else is done in place of what this permission would allow",
        read: |it, samples| samples.flags(&it.fallbacks),
    },
    Metric {
        name: "zpa_api_forbidden",
        kind: Kind::Gauge,
        labels: &["permission"],
        help: "1 while this permission is refused and nothing can be done in place of it",
        read: |it, samples| samples.flags(&it.forbidden),
    },
    Metric {
        name: "zpa_thread_panics_total",
        kind: Kind::Counter,
        labels: &[],
        help: "How often a thread that speaks with the API server has panicked, which is a bug; \
               it is started again",
        read: |it, samples| samples.one(it.thread_panics),
    },
    Metric {
        name: "zpa_log_lines_dropped_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Lines of the log that were lost because whoever reads stderr was too slow",
        read: |it, samples| samples.one(it.log_lines_dropped),
    },
];

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
        let text = &mut text;
        (metric.read)(snapshot, &mut Samples { metric, text });
    }
    text
}

/// Where a metric's samples go.
struct Samples<'a> {
    metric: &'a Metric,
    text: &'a mut String,
}

impl Samples<'_> {
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
        let labels = self
            .metric
            .labels
            .iter()
            .copied()
            .zip(labels.iter().copied());
        line(self.text, self.metric.name, "", labels, &value);
    }

    /// Cumulative counts, as the format wants them.
    fn histogram(&mut self, histogram: &Histogram) {
        let (text, name) = (&mut *self.text, self.metric.name);
        let mut below = 0;
        for (bound, count) in histogram.buckets() {
            below += count;
            let bound = bound.map_or_else(|| "+Inf".to_owned(), |bound| bound.to_string());
            line(text, name, "_bucket", [("le", &*bound)].into_iter(), &below);
        }
        let sum = seconds(histogram.sum());
        line(text, name, "_sum", [].into_iter(), &sum);
        line(text, name, "_count", [].into_iter(), &below);
    }
}

/// One sample: a line.
fn line<'a>(
    text: &mut String,
    name: &str,
    suffix: &str,
    labels: impl Iterator<Item = (&'a str, &'a str)>,
    value: &dyn Display,
) {
    let labels: Vec<String> = labels
        .map(|(label, value)| format!("{label}=\"{}\"", Escaped(value, true)))
        .collect();
    let labels = if labels.is_empty() {
        String::new()
    } else {
        format!("{{{}}}", labels.join(","))
    };
    let _ = writeln!(text, "{name}{suffix}{labels} {value}");
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
