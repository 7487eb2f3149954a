//! What is said and counted of dials that fail through no fault of a backend: at most a
//! line a minute for each cause, however many connections meet with it.

use std::net::SocketAddr;
use std::time::Duration;

use log::warn;

use super::local_error::LocalError;
use crate::clock::Time;

/// The shortest time between two lines.
const INTERVAL: Duration = Duration::from_secs(60);

/// What has gone wrong on this machine.
#[derive(Clone, Debug, Default)]
pub struct DialLog {
    local: [Paced; LocalError::ALL.len()],
    self_connect: Paced,
}

/// One kind of line.
#[derive(Clone, Copy, Debug, Default)]
struct Paced {
    /// How often it was met with,
    total: u64,
    /// and how often since the last line.
    since: u64,
    next: Time,
}

impl DialLog {
    /// This machine could not dial.
    pub fn local_error(&mut self, address: SocketAddr, error: LocalError, now: Time) {
        if let Some(dials) = self.local[error as usize].note(now) {
            warn!("cannot dial {address}: {error} ({dials})");
        }
    }

    /// An address of this machine was dialled where nobody listens.
    pub fn self_connect(&mut self, address: SocketAddr, now: Time) {
        if let Some(dials) = self.self_connect.note(now) {
            warn!(
                "{address} is an address of this machine where nobody listens, so that a dial \
                 was connected to itself ({dials}); dial the address of a backend or of a Service"
            );
        }
    }

    /// How many dials have failed through no fault of a backend, by cause.
    pub fn local_errors(&self) -> Vec<([&'static str; 1], u64)> {
        let local = LocalError::ALL.iter();
        let local = local.map(|&error| ([error.name()], self.local[error as usize].total));
        let own = (["self_connect"], self.self_connect.total);
        local.chain([own]).collect()
    }
}

impl Paced {
    /// It has happened; how often since the last line, if it is time for one.
    fn note(&mut self, now: Time) -> Option<String> {
        self.total += 1;
        self.since += 1;
        if self.total > 1 && now < self.next {
            return None;
        }
        self.next = now + INTERVAL;
        Some(match std::mem::take(&mut self.since) {
            1 => "1 dial".to_owned(),
            dials => format!("{dials} dials since this was last said"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_of_line_comes_once_a_minute_and_says_how_often() {
        let mut paced = Paced::default();
        let mut said = Vec::new();
        for ms in 0..130_000 {
            let line = paced.note(Time::from_millis(ms));
            said.extend(line.map(|line| (ms, line)));
        }
        let again = "60000 dials since this was last said";
        let expected = [
            (0, "1 dial".to_owned()),
            (60_000, again.to_owned()),
            (120_000, again.to_owned()),
        ];
        assert_eq!(said, expected);
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
