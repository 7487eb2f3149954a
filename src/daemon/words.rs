//! What an operator reads when something changes.

use std::time::Duration;

use crate::duration;
use crate::policy::Change;

/// A line for the log about the app called `name`.
pub fn describe(name: &str, change: Change) -> String {
    match change {
        Change::FoundAsleep => format!("{name} is asleep: 0 replicas"),
        Change::FoundAwake { replicas } => format!("{name} is awake: {replicas} replicas"),
        Change::Waking { waiting } => format!("waking {name}: {waiting} connection(s) waiting"),
        Change::ScaledUp { replicas } => format!("{name} scaled from 0 to {replicas}"),
        Change::Woke { took, held } => {
            let took = in_ms(took);
            format!("{name} has a pod ready after {took}: {held} connection(s) held until now")
        }
        Change::Slept { idle } => {
            format!(
                "{name} scaled to 0 after {} without a connection",
                in_ms(idle)
            )
        }
        Change::Uncovered { waiting } => format!(
            "{name}: no announcement has succeeded for 2s; letting {waiting} connection(s) through \
             without: another proxy that can reach the API server may put the app to sleep"
        ),
        Change::AnnouncesVia(Some(_)) => format!(
            "{name}: its status may not be patched; announcing that it is in use by an annotation"
        ),
        Change::AnnouncesVia(None) => format!(
            "{name}: announcing that it is in use is forbidden; counting only the connections of \
             this proxy, others may put the app to sleep under them"
        ),
    }
}

/// Nobody reads a log for the microseconds of a cold start.
fn in_ms(time: Duration) -> String {
    let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    duration::display(Duration::from_millis(ms))
}
