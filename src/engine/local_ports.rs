//! [`LocalPorts`] chooses local ports for dials to an address for which the kernel has
//! none left.
//!
//! The side that sends the first FIN keeps its port for 60 s (TIME_WAIT). If clients end
//! first, that is the proxy, because it relays their FINs. In that time the kernel gives
//! the port only to connections to other addresses, so that 28,232 ports allow 470
//! connections a second to one backend. A close by RST would avoid TIME_WAIT, but cannot
//! be used: the kernel enters TIME_WAIT when the backend's FIN arrives, even if the socket
//! was closed, and an RST before that loses bytes of the backend.
//!
//! A program that binds a port itself may use one in TIME_WAIT, if both sockets have
//! SO_REUSEADDR and the old connection has had timestamps: `tcp_twsk_unique()` in
//! `net/ipv4/tcp_ipv4.c` then allows it (`!twp`), and gives the new connection a sequence
//! number and a timestamp beyond those of the old one (RFC 6191), so that no segment of
//! the old connection is accepted by the new one. The limit is then the number of
//! connections open at once.
//!
//! The kernel does not choose ports that a program has bound, TIME_WAIT included
//! (`__inet_hash_connect()` skips them). So only half of its range is bound here, and the
//! other half is left to the kernel, for other backends and the API server.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::clock::Time;

/// The most ports that are tried for one dial: a port that is in use by an open connection
/// cannot be distinguished from others before.
const MAX_TRIES: usize = 16;

/// How long the kernel is not asked for a port after it had none: TCP_TIMEWAIT_LEN. It
/// searches all ports before it fails, which takes 10 ms for 28,232 ports (measured:
/// 0.35 µs each).
const SCARCE: Duration = Duration::from_secs(60);

/// The least interval between two times that the kernel is asked all the same, because no
/// port tried here was free. The whole event loop waits for that search.
const KERNEL_INTERVAL: Duration = Duration::from_millis(200);

/// The addresses for which the kernel has had no port.
#[derive(Debug, Default)]
pub struct LocalPorts {
    scarce: BTreeMap<SocketAddr, Scarce>,
}

#[derive(Debug)]
struct Scarce {
    until: Time,
    /// When the kernel may be asked again.
    kernel_at: Time,
    /// The ports that may be bound here.
    ports: RangeInclusive<u16>,
    /// The next port to try. Ports are used in turn, so that each is unused for as long as
    /// possible.
    next: u16,
}

impl LocalPorts {
    /// The ports to try for `address`; `None` if the kernel is to choose one.
    pub fn candidates(&mut self, address: SocketAddr, now: Time) -> Option<Vec<u16>> {
        self.scarce.retain(|_, scarce| now < scarce.until);
        let scarce = self.scarce.get_mut(&address)?;
        let count = scarce.ports.len().min(MAX_TRIES);
        let next = (0..count).map(|_| scarce.take());
        // With the port of `address`, a dial to this machine would connect to itself.
        Some(next.filter(|&port| port != address.port()).collect())
    }

    /// Whether the kernel may be asked, because no candidate was free: the candidates are
    /// only half of its range.
    pub fn may_ask_kernel(&mut self, address: SocketAddr, now: Time) -> bool {
        let scarce = self.scarce.get_mut(&address);
        scarce.is_none_or(|scarce| {
            let may_ask = now >= scarce.kernel_at;
            if may_ask {
                scarce.kernel_at = now + KERNEL_INTERVAL;
            }
            may_ask
        })
    }

    /// Notes that the kernel had no port of `range` for `address`.
    pub fn note_scarcity(&mut self, address: SocketAddr, range: RangeInclusive<u16>, now: Time) {
        let half = range.start() + (range.end() - range.start()).div_ceil(2);
        let ports = half..=*range.end();
        let before = self.scarce.get(&address).map(|scarce| scarce.next);
        let scarce = Scarce {
            until: now + SCARCE,
            kernel_at: now + KERNEL_INTERVAL,
            next: before.filter(|port| ports.contains(port)).unwrap_or(half),
            ports,
        };
        self.scarce.insert(address, scarce);
    }
}

impl Scarce {
    fn take(&mut self) -> u16 {
        let port = self.next;
        self.next = if port < *self.ports.end() {
            port + 1
        } else {
            *self.ports.start()
        };
        port
    }
}

/// Parses `net.ipv4.ip_local_port_range`, which holds for IPv6 too.
pub fn parse_range(text: &str) -> Option<RangeInclusive<u16>> {
    let mut words = text.split_whitespace();
    let (start, end) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    (0 < start && start <= end).then_some(start..=end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, n], 80))
    }

    fn at(s: u64) -> Time {
        Time::from_millis(s * 1000)
    }

    #[test]
    fn the_kernel_is_asked_until_it_has_no_port_and_again_after_a_minute() {
        let mut ports = LocalPorts::default();
        assert_eq!(ports.candidates(address(1), at(0)), None);
        ports.note_scarcity(address(1), 20_001..=20_200, at(0));
        assert!(ports.candidates(address(1), at(59)).is_some());
        assert_eq!(ports.candidates(address(2), at(59)), None);
        assert_eq!(ports.candidates(address(1), at(60)), None);
        assert!(ports.scarce.is_empty());
    }

    #[test]
    fn ports_come_in_turn_from_the_upper_half_of_the_range() {
        let mut ports = LocalPorts::default();
        ports.note_scarcity(address(1), 20_001..=20_200, at(0));
        let mut seen = Vec::new();
        while seen.len() < 400 {
            seen.extend(ports.candidates(address(1), at(0)).unwrap());
        }
        let upper: Vec<u16> = (20_101..=20_200).collect();
        assert_eq!(seen[..100], upper);
        assert_eq!(seen[100..200], upper);
    }

    #[test]
    fn a_turn_goes_on_where_it_was_when_the_kernel_has_none_again() {
        let mut ports = LocalPorts::default();
        ports.note_scarcity(address(1), 20_001..=20_200, at(0));
        let first = ports.candidates(address(1), at(0)).unwrap();
        ports.note_scarcity(address(1), 20_001..=20_200, at(1));
        let second = ports.candidates(address(1), at(1)).unwrap();
        assert_eq!(second[0], first.last().unwrap() + 1);
        ports.note_scarcity(address(1), 30_000..=30_001, at(2));
        assert_eq!(ports.candidates(address(1), at(2)), Some(vec![30_001]));
    }

    #[test]
    fn where_no_candidate_is_free_the_kernel_is_asked_now_and_then() {
        let ms = Time::from_millis;
        let mut ports = LocalPorts::default();
        ports.note_scarcity(address(1), 20_001..=20_200, ms(0));
        for (now, expected) in [
            (0, false),
            (199, false),
            (200, true),
            (399, false),
            (400, true),
        ] {
            assert_eq!(
                ports.may_ask_kernel(address(1), ms(now)),
                expected,
                "{now} ms"
            );
        }
    }

    #[test]
    fn the_port_that_is_dialled_is_not_bound() {
        let own = SocketAddr::from(([10, 0, 0, 1], 20_101));
        let mut ports = LocalPorts::default();
        ports.note_scarcity(own, 20_001..=20_200, at(0));
        assert_eq!(ports.candidates(own, at(0)).unwrap()[0], 20_102);
    }

    #[test]
    fn a_range_is_two_ports_of_which_the_second_is_not_below_the_first() {
        for (text, range) in [
            ("32768\t60999\n", Some(32_768..=60_999)),
            ("20001 20001", Some(20_001..=20_001)),
            ("20002 20001", None),
            ("0 100", None),
            ("1 65536", None),
            ("1", None),
            ("", None),
        ] {
            assert_eq!(parse_range(text), range, "{text:?}");
        }
    }

    #[test]
    fn every_range_has_a_port_to_bind() {
        let mut ports = LocalPorts::default();
        for range in [1..=1, 1..=2, 65_535..=65_535, 1..=65_535] {
            ports.note_scarcity(address(1), range.clone(), at(0));
            let candidates = ports.candidates(address(1), at(0)).unwrap();
            assert!(candidates.iter().all(|port| range.contains(port)));
            assert!(!candidates.is_empty());
        }
    }
}
