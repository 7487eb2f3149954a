//! [`Timeline`]: how long an app was asleep, waking and awake in each five minutes of the last
//! day, and what its sleep has saved.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Time;

/// The length of a slot, in milliseconds: five minutes.
const SLOT_MS: u64 = 5 * 60 * 1000;

/// The length of a slot.
pub const SLOT: Duration = Duration::from_millis(SLOT_MS);

/// The slots that are kept: those of a day, and the one that has begun.
pub const SLOTS_KEPT: usize = 24 * 12 + 1;

/// The state of an app: fewer than the phases of its policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// The scale was not read.
    #[default]
    Unknown,
    /// Its scale is zero.
    Asleep,
    /// Connections wait for its pods.
    Waking,
    /// It has replicas.
    Awake,
    /// Zero is being written. Such a moment counts as one awake.
    ScalingDown,
}

/// How much of a slot an app was in each state. The rest is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// The milliseconds in each of unknown, asleep, waking and awake.
    ms: [u32; 4],
}

impl Slot {
    fn add(&mut self, state: State, took: Duration) {
        self.ms[row(state)] += took.as_millis() as u32;
    }

    /// The fraction of the slot in that state, from 0 to 1.
    pub fn fraction(&self, state: State) -> f64 {
        f64::from(self.ms[row(state)]) / SLOT_MS as f64
    }
}

fn row(state: State) -> usize {
    match state {
        State::Unknown => 0,
        State::Asleep => 1,
        State::Waking => 2,
        State::Awake | State::ScalingDown => 3,
    }
}

/// The states of an app during the last day.
#[derive(Clone, Debug)]
pub struct Timeline {
    slots: VecDeque<Slot>,
    /// The number of the last slot, counted from the epoch of the clock.
    last: u64,
    state: State,
    /// The time up to which all is counted.
    counted: Time,
    asleep: Duration,
    /// The seconds asleep, each multiplied by the replicas before the sleep.
    replica_seconds_saved: f64,
    /// The replicas before the last sleep.
    replicas: u32,
}

impl Timeline {
    /// An empty timeline.
    pub fn new(now: Time) -> Timeline {
        Timeline {
            slots: VecDeque::from([Slot::default()]),
            last: number(now),
            state: State::Unknown,
            counted: now,
            asleep: Duration::ZERO,
            replica_seconds_saved: 0.0,
            replicas: 1,
        }
    }

    /// Sets the state from now on, with the last number of replicas above zero.
    pub fn update(&mut self, state: State, replicas: Option<u32>, now: Time) {
        if state == self.state {
            return;
        }
        self.count(now);
        if state == State::Asleep {
            self.replicas = replicas.unwrap_or(1);
        }
        self.state = state;
    }

    /// Counts the time since the last count.
    fn count(&mut self, now: Time) {
        self.asleep = self.asleep(now);
        self.replica_seconds_saved = self.replica_seconds_saved(now);
        let day = SLOT * (SLOTS_KEPT as u32 - 1);
        let mut from = self.counted.max(now - day);
        while from < now {
            let (slot, state) = (number(from), self.state);
            let end = start(slot + 1).min(now);
            self.slot(slot).add(state, end.since(from));
            from = end;
        }
        self.counted = now;
    }

    /// The slot of that number, which is the last one or later.
    fn slot(&mut self, number: u64) -> &mut Slot {
        let missing = number.saturating_sub(self.last).min(SLOTS_KEPT as u64);
        self.slots.extend((0..missing).map(|_| Slot::default()));
        self.last = self.last.max(number);
        while self.slots.len() > SLOTS_KEPT {
            self.slots.pop_front();
        }
        let last = self.slots.len() - 1;
        &mut self.slots[last]
    }

    /// The slots up to now, each with when it began. The last has not ended.
    pub fn slots(&self, now: Time) -> Vec<(Time, Slot)> {
        let mut counted = self.clone();
        counted.count(now);
        let Timeline { slots, last, .. } = counted;
        let first = last + 1 - slots.len() as u64;
        (first..).map(start).zip(slots).collect()
    }

    fn since_counted(&self, now: Time) -> Duration {
        match self.state {
            State::Asleep => now.since(self.counted),
            _ => Duration::ZERO,
        }
    }

    /// How long the app has been seen asleep, since the start of the proxy.
    pub fn asleep(&self, now: Time) -> Duration {
        self.asleep + self.since_counted(now)
    }

    /// The same, times the replicas that there were before each sleep, in seconds. One is
    /// taken for the number where it is not known.
    pub fn replica_seconds_saved(&self, now: Time) -> f64 {
        let since = self.since_counted(now).as_secs_f64();
        self.replica_seconds_saved + since * f64::from(self.replicas)
    }
}

/// The number of the slot in which that time is.
fn number(at: Time) -> u64 {
    at.as_millis() / SLOT_MS
}

/// When a slot begins.
fn start(number: u64) -> Time {
    Time::from_millis(number.saturating_mul(SLOT_MS))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECONDS: u64 = SLOT_MS / 1000;

    fn at(seconds: u64) -> Time {
        Time::new(Duration::from_secs(seconds))
    }

    #[test]
    fn what_is_saved_is_the_time_asleep_times_the_replicas_before() {
        let mut timeline = Timeline::new(at(0));
        timeline.update(State::Awake, None, at(10));
        timeline.update(State::Awake, Some(3), at(50));
        timeline.update(State::Asleep, Some(3), at(100));
        assert_eq!(timeline.asleep(at(160)), Duration::from_secs(60));
        assert_eq!(timeline.replica_seconds_saved(at(160)), 180.0);
        timeline.update(State::Asleep, None, at(150));
        timeline.update(State::Waking, Some(3), at(200));
        timeline.update(State::Awake, Some(3), at(205));
        timeline.update(State::Asleep, Some(1), at(300));
        assert_eq!(timeline.asleep(at(310)), Duration::from_secs(110));
        assert_eq!(timeline.replica_seconds_saved(at(310)), 310.0);
    }

    #[test]
    fn an_app_that_is_found_asleep_counts_as_one_replica() {
        let mut timeline = Timeline::new(at(0));
        timeline.update(State::Asleep, None, at(10));
        assert_eq!(timeline.replica_seconds_saved(at(110)), 100.0);
    }

    #[test]
    fn each_slot_has_its_part_of_what_has_passed() {
        let mut timeline = Timeline::new(at(SECONDS + 150));
        timeline.update(State::Awake, None, at(SECONDS + 210));
        timeline.update(State::Asleep, None, at(3 * SECONDS + 30));
        let slots = timeline.slots(at(3 * SECONDS + 60));
        let parts: Vec<_> = slots
            .iter()
            .map(|(since, slot)| {
                let of = |state| slot.fraction(state);
                (*since, of(State::Awake), of(State::Asleep))
            })
            .collect();
        assert_eq!(
            parts,
            [
                (at(SECONDS), 0.3, 0.0),
                (at(2 * SECONDS), 1.0, 0.0),
                (at(3 * SECONDS), 0.1, 0.1),
            ]
        );
        assert_eq!(slots[0].1.fraction(State::Unknown), 0.2);
    }

    #[test]
    fn a_day_is_kept_however_often_or_seldom_the_state_changes() {
        let mut timeline = Timeline::new(at(7));
        for n in 0..20_000 {
            let state = [State::Asleep, State::Awake][n as usize % 2];
            timeline.update(state, Some(1), at(10 + n * 15));
            assert!(timeline.slots.len() <= SLOTS_KEPT);
        }
        let now = at(10 + 20_000 * 15);
        let slots = timeline.slots(now);
        assert_eq!(slots.len(), SLOTS_KEPT);
        assert!(
            slots[1..]
                .windows(2)
                .all(|pair| pair[0].0 + SLOT == pair[1].0)
        );
        let asleep: f64 = slots.iter().map(|(_, it)| it.fraction(State::Asleep)).sum();
        assert!(
            (asleep - 144.0).abs() < 1.0,
            "half of a day, not {asleep} slots"
        );

        timeline.update(State::Asleep, Some(1), now);
        let slots = timeline.slots(now + Duration::from_secs(30 * 24 * 3600));
        assert_eq!(slots.len(), SLOTS_KEPT);
        assert!(
            slots[1..288]
                .iter()
                .all(|(_, it)| it.fraction(State::Asleep) == 1.0)
        );
    }
}
