//! What an operator reads when something changes.

use std::time::Duration;

use crate::duration;
use crate::policy::Change;

/// A line for the log about the app called `name`.
pub fn describe(name: &str, change: Change) -> String {
    match change {
        Change::FoundAsleep => format!("{name} is asleep: 0 replicas"),
        Change::FoundAwake { replicas } => {
            format!("{name} is awake: {}", counted(replicas.into(), "replica"))
        }
        Change::Waking { waiting } => {
            format!("waking {name}: {} waiting", connections(waiting as u64))
        }
        Change::ScaledUp { replicas } => format!("{name} scaled from 0 to {replicas}"),
        Change::Woke { took, held } => {
            let took = in_ms(took);
            let held = connections(held as u64);
            format!("{name} has a pod ready after {took}: {held} held until now")
        }
        Change::Slept { idle } => {
            format!(
                "{name} scaled to 0 after {} without a connection",
                in_ms(idle)
            )
        }
        Change::WithoutLease { waiting } => format!(
            "{name}: no renewal has succeeded for 2s; letting {} through without: another proxy \
             that can reach the API server may put the app to sleep",
            connections(waiting as u64)
        ),
        Change::LeaseLocation(Some(_)) => {
            format!("{name}: its status may not be patched; renewing the lease in an annotation")
        }
        Change::LeaseLocation(None) => format!(
            "{name}: renewing the lease is forbidden; counting only the connections of \
             this proxy, others may put the app to sleep under them"
        ),
    }
}

/// `1 connection`, `2 connections`.
pub fn connections(count: u64) -> String {
    counted(count, "connection")
}

fn counted(count: u64, noun: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{ending}")
}

/// Nobody reads a log for the microseconds of a cold start.
fn in_ms(time: Duration) -> String {
    let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    duration::display(Duration::from_millis(ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_singular_and_every_other_number_is_plural() {
        for (waiting, text) in [
            (0, "waking app: 0 connections waiting"),
            (1, "waking app: 1 connection waiting"),
            (2, "waking app: 2 connections waiting"),
        ] {
            assert_eq!(describe("app", Change::Waking { waiting }), text);
        }
        for (replicas, text) in [
            (1, "app is awake: 1 replica"),
            (3, "app is awake: 3 replicas"),
        ] {
            assert_eq!(describe("app", Change::FoundAwake { replicas }), text);
        }
    }
}
