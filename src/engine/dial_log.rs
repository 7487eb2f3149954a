//! [`DialLog`] counts and logs dials that fail because of this machine: one line a minute
//! at most for each cause.

use std::net::SocketAddr;
use std::time::Duration;

use log::warn;

use super::local_error::LocalError;
use crate::clock::Time;

/// The least time between two lines.
const INTERVAL: Duration = Duration::from_secs(60);

/// The counts of failed dials, by cause.
#[derive(Clone, Debug, Default)]
pub struct DialLog {
    local: [Paced; LocalError::ALL.len()],
    self_connect: Paced,
}

/// The count of one cause, and the pace of its lines.
#[derive(Clone, Copy, Debug, Default)]
struct Paced {
    /// The number of dials since the start.
    total: u64,
    /// The number of dials since the last line.
    since: u64,
    /// When the next line may be logged.
    next: Time,
}

impl DialLog {
    /// Counts a dial that failed with an error of this machine.
    pub fn local_error(&mut self, address: SocketAddr, error: LocalError, now: Time) {
        if let Some(dials) = self.local[error as usize].note(now) {
            warn!("cannot dial {address}: {error} ({dials})");
        }
    }

    /// Counts a dial that was connected to itself.
    pub fn self_connect(&mut self, address: SocketAddr, now: Time) {
        if let Some(dials) = self.self_connect.note(now) {
            warn!(
                "{address} is an address of this machine on which nothing listens, so that a dial \
                 was connected to itself ({dials}); dial the address of a pod or of a Service"
            );
        }
    }

    /// The number of dials that failed because of this machine, by cause.
    pub fn local_errors(&self) -> Vec<([&'static str; 1], u64)> {
        let local = LocalError::ALL.iter();
        let local = local.map(|&error| ([error.name()], self.local[error as usize].total));
        let own = (["self_connect"], self.self_connect.total);
        local.chain([own]).collect()
    }
}

impl Paced {
    /// Counts a dial. If a line may be logged, returns the number of dials since the last.
    fn note(&mut self, now: Time) -> Option<String> {
        self.total += 1;
        self.since += 1;
        if self.total > 1 && now < self.next {
            return None;
        }
        self.next = now + INTERVAL;
        Some(match std::mem::take(&mut self.since) {
            1 => "1 dial".to_owned(),
            dials => format!("{dials} dials since the last such line"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_one_line_a_minute_with_the_number_of_dials() {
        let mut paced = Paced::default();
        let mut lines = Vec::new();
        for ms in 0..130_000 {
            let line = paced.note(Time::from_millis(ms));
            lines.extend(line.map(|line| (ms, line)));
        }
        let again = "60000 dials since the last such line";
        let expected = [
            (0, "1 dial".to_owned()),
            (60_000, again.to_owned()),
            (120_000, again.to_owned()),
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn each_cause_is_counted_by_its_name() {
        let address = SocketAddr::from(([10, 0, 0, 1], 80));
        let mut log = DialLog::default();
        for error in LocalError::ALL {
            log.local_error(address, error, Time::default());
        }
        log.self_connect(address, Time::default());
        log.self_connect(address, Time::default());
        let expected = [
            (["no_port"], 1),
            (["no_descriptor"], 1),
            (["no_memory"], 1),
            (["forbidden"], 1),
            (["self_connect"], 2),
        ];
        assert_eq!(log.local_errors(), expected);
    }
}
