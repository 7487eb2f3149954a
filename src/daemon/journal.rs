//! [`Journal`]: the history of an app, for the admin pages. No decision depends on it.
//!
//! It is updated with [`Inputs`] at the end of each turn of the app, and with each change that the
//! policy reports. It keeps the phase, who has scaled the app last, the last wakes with the
//! durations of their parts, and the states of a day. Its memory is bounded: some 7 KB for an app,
//! however many wakes it has.

mod timeline;

use std::collections::VecDeque;
use std::time::Duration;

pub use self::timeline::{SLOT, Slot, State, Timeline};
use crate::clock::Time;
use crate::metrics::Histogram;
use crate::policy::Change;

/// The wakes that are kept.
pub const WAKES_KEPT: usize = 20;

/// The state of an app at the end of its turn.
#[derive(Clone, Copy, Debug, Default)]
pub struct Inputs<'a> {
    /// The name of its phase.
    pub phase: &'static str,
    /// Its state, for the timeline.
    pub state: State,
    /// Since when connections have waited for a wake, while one is in progress.
    pub waiting_since: Option<Time>,
    /// Whether the scale was seen at zero while they waited.
    pub from_zero: bool,
    /// The replicas, if they were seen.
    pub replicas: Option<u32>,
    /// The connections that wait for a pod.
    pub waiting: usize,
    /// The connections handed to a pod since the start, of those that count.
    pub forwarded: u64,
    /// The connections closed at the hold limit since the start.
    pub held_too_long: u64,
    /// The connections closed since the start because the app could not start.
    pub wake_failed: u64,
    /// The token of the last lease that was seen, which has the names of its writers.
    pub lease: Option<&'a str>,
}

/// Who has scaled the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scaler {
    /// This proxy.
    Us,
    /// Another proxy, a person or a program.
    Others,
}

impl Scaler {
    /// In plain words.
    pub fn name(self) -> &'static str {
        match self {
            Scaler::Us => "this proxy",
            Scaler::Others => "somebody else (another proxy, kubectl)",
        }
    }
}

/// A change of the scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scaled {
    /// Who has written it.
    pub by: Scaler,
    /// The replicas since then.
    pub replicas: u32,
    /// When that was written or seen.
    pub at: Time,
}

/// The result of a wake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WakeResult {
    /// A pod has taken a connection that had waited.
    Served,
    /// No connection was served, and at least one was closed at the hold limit.
    TimedOut,
    /// No connection was served, and at least one was closed because the app could not start.
    Failed,
    /// No connection was served, because all that waited have left.
    Abandoned,
}

impl WakeResult {
    /// All results, in the order of [`Journal::results`].
    pub const ALL: [WakeResult; 4] = [
        WakeResult::Served,
        WakeResult::TimedOut,
        WakeResult::Failed,
        WakeResult::Abandoned,
    ];

    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            WakeResult::Served => "served",
            WakeResult::TimedOut => "timed_out",
            WakeResult::Failed => "failed",
            WakeResult::Abandoned => "abandoned",
        }
    }
}

/// A wake that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wake {
    /// When the first connection had to wait.
    pub since: Time,
    /// From then until a pod took a connection, or no connection waited any more.
    pub took: Duration,
    /// From the first connection to the reply that shows replicas.
    pub api: Option<Duration>,
    /// From that reply to an address that may be dialled.
    pub pod: Option<Duration>,
    /// From that address to a pod that has taken a connection.
    pub dial: Option<Duration>,
    /// Its result.
    pub result: WakeResult,
}

/// A wake in progress.
#[derive(Clone, Copy, Debug)]
struct Waking {
    since: Time,
    from_zero: bool,
    scaled: Option<Time>,
    ready: Option<Time>,
    /// The counts of [`Inputs`] when it began.
    forwarded: u64,
    held_too_long: u64,
    wake_failed: u64,
}

/// The parts of a wake as histograms, over all wakes.
#[derive(Clone, Debug, Default)]
pub struct WakeParts {
    /// See [`Wake::api`].
    pub api: Histogram,
    /// See [`Wake::pod`].
    pub pod: Histogram,
    /// See [`Wake::dial`].
    pub dial: Histogram,
}

impl WakeParts {
    /// The histograms with their names in metrics.
    pub fn named(&self) -> Vec<([&'static str; 1], Histogram)> {
        let WakeParts { api, pod, dial } = self;
        let parts = [("api", api), ("pod", pod), ("dial", dial)];
        parts.map(|(name, part)| ([name], part.clone())).to_vec()
    }
}

/// The last lease that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenLease {
    /// Its text: [`crate::cluster::LeaseToken`].
    pub token: String,
    /// When it was seen first.
    pub at: Time,
}

/// The journal of an app.
#[derive(Clone, Debug)]
pub struct Journal {
    phase: &'static str,
    phase_since: Time,
    scaled: Option<Scaled>,
    lease: Option<SeenLease>,
    waking: Option<Waking>,
    wakes: VecDeque<Wake>,
    results: [u64; WakeResult::ALL.len()],
    parts: WakeParts,
    timeline: Timeline,
    /// The last number of replicas above zero.
    replicas: Option<u32>,
}

impl Journal {
    /// An empty journal.
    pub fn new(now: Time) -> Journal {
        Journal {
            phase: "unknown",
            phase_since: now,
            scaled: None,
            lease: None,
            waking: None,
            wakes: VecDeque::new(),
            results: [0; WakeResult::ALL.len()],
            parts: WakeParts::default(),
            timeline: Timeline::new(now),
            replicas: None,
        }
    }

    /// Records a change that the policy reports.
    pub fn record(&mut self, change: Change, now: Time) {
        let scaled = match change {
            Change::WakeWritten { replicas } => Some((Scaler::Us, replicas)),
            Change::SleepWritten { .. } => Some((Scaler::Us, 0)),
            Change::ScaledByOthers { replicas, .. } => Some((Scaler::Others, replicas)),
            _ => None,
        };
        if let Some((by, replicas)) = scaled {
            self.scaled = Some(Scaled {
                by,
                replicas,
                at: now,
            });
        }
        let Some(waking) = &mut self.waking else {
            return;
        };
        match change {
            Change::WakeWritten { .. }
            | Change::ScaledByOthers {
                from_zero: true, ..
            } => waking.scaled = Some(now),
            Change::AddressReady { .. } => waking.ready = Some(now),
            _ => {}
        }
    }

    /// Records the state of the app at the end of a turn.
    pub fn update(&mut self, inputs: &Inputs<'_>, now: Time) {
        if inputs.phase != self.phase {
            (self.phase, self.phase_since) = (inputs.phase, now);
        }
        if let Some(token) = inputs.lease
            && self.lease.as_ref().is_none_or(|seen| seen.token != token)
        {
            self.lease = Some(SeenLease {
                token: token.to_owned(),
                at: now,
            });
        }
        self.timeline.update(inputs.state, self.replicas, now);
        self.replicas = inputs.replicas.filter(|&count| count > 0).or(self.replicas);
        self.update_wake(inputs, now);
    }

    fn update_wake(&mut self, inputs: &Inputs<'_>, now: Time) {
        let Some(mut waking) = self.waking.take() else {
            self.waking = inputs.waiting_since.map(|since| Waking {
                since,
                from_zero: inputs.from_zero,
                scaled: None,
                ready: None,
                forwarded: inputs.forwarded,
                held_too_long: inputs.held_too_long,
                wake_failed: inputs.wake_failed,
            });
            return;
        };
        waking.from_zero |= inputs.from_zero;
        if let Some(result) = waking.result(inputs) {
            self.end_wake(waking, result, now);
        } else {
            self.waking = Some(waking);
        }
    }

    fn end_wake(&mut self, waking: Waking, result: WakeResult, now: Time) {
        // The app was not asleep: it had no ready pod for a moment.
        if !waking.from_zero && waking.scaled.is_none() {
            return;
        }
        let Waking {
            since,
            scaled,
            ready,
            ..
        } = waking;
        let is_served = result == WakeResult::Served;
        let wake = Wake {
            since,
            took: now.since(since),
            api: scaled.map(|scaled| scaled.since(since)),
            pod: scaled.zip(ready).map(|(scaled, ready)| ready.since(scaled)),
            dial: ready.filter(|_| is_served).map(|ready| now.since(ready)),
            result,
        };
        let WakeParts { api, pod, dial } = &mut self.parts;
        for (part, took) in [(api, wake.api), (pod, wake.pod), (dial, wake.dial)] {
            if let Some(took) = took {
                part.observe(took);
            }
        }
        self.results[result as usize] += 1;
        self.wakes.push_back(wake);
        if self.wakes.len() > WAKES_KEPT {
            self.wakes.pop_front();
        }
    }

    // --- Readers ---

    /// Since when the app has been in its phase.
    pub fn phase_since(&self) -> Time {
        self.phase_since
    }

    /// The last change of the scale that was seen.
    pub fn scaled(&self) -> Option<Scaled> {
        self.scaled
    }

    /// The last lease that was seen.
    pub fn lease(&self) -> Option<&SeenLease> {
        self.lease.as_ref()
    }

    /// The last wakes, the latest at the end.
    pub fn wakes(&self) -> impl DoubleEndedIterator<Item = &Wake> {
        self.wakes.iter()
    }

    /// The number of wakes that have ended, by result.
    pub fn results(&self) -> Vec<([&'static str; 1], u64)> {
        let counted = WakeResult::ALL.iter().zip(&self.results);
        counted.map(|(it, count)| ([it.name()], *count)).collect()
    }

    /// The durations of the parts of wakes.
    pub fn parts(&self) -> &WakeParts {
        &self.parts
    }

    /// The states of the last day.
    pub fn timeline(&self) -> &Timeline {
        &self.timeline
    }
}

impl Waking {
    /// The result, if it has ended.
    fn result(&self, inputs: &Inputs<'_>) -> Option<WakeResult> {
        let is_over = match self.ready {
            // The gate is open.
            Some(_) => inputs.waiting == 0 || inputs.forwarded > self.forwarded,
            None => inputs.waiting_since.is_none(),
        };
        if !is_over {
            return None;
        }
        Some(if inputs.forwarded > self.forwarded {
            WakeResult::Served
        } else if inputs.held_too_long > self.held_too_long {
            WakeResult::TimedOut
        } else if inputs.wake_failed > self.wake_failed {
            WakeResult::Failed
        } else {
            WakeResult::Abandoned
        })
    }
}

#[cfg(test)]
mod tests;
