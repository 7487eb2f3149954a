//! [`Greetings`]: the connections on which the first byte of a server is awaited.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::TcpStream;

use crate::clock::Time;
use crate::rules::GREETING_TIMEOUT;

/// The pause before the next dial to a server that has closed the connection without a byte, each
/// of which costs it more than a refusal.
const PAUSE: Duration = Duration::from_millis(100);

/// The pause after one whose place another has needed.
const LONG_PAUSE: Duration = Duration::from_secs(5);

/// The most connections that are kept: as many descriptors are in use. For another, the oldest is
/// closed: those that stay silent do not keep out one that would greet.
const MAX_CONNECTIONS: usize = 64;

/// A connection that a server has accepted.
pub trait Dialled {
    /// Whether the server has sent a byte.
    ///
    /// # Errors
    /// That it has ended the connection without one.
    fn greeting(&self) -> io::Result<bool>;
}

impl Dialled for TcpStream {
    fn greeting(&self) -> io::Result<bool> {
        match self.peek(&mut [0]) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(true),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                Ok(false)
            }
            Err(e) => Err(e),
        }
    }
}

/// The addresses on which a greeting is awaited, with their connections, and those that rest
/// after they were closed without one.
pub struct Greetings<D> {
    /// Those from which greetings are wanted.
    wanted: BTreeSet<SocketAddr>,
    /// Until when each of them is not dialled, and the connection while it is open.
    dialled: BTreeMap<SocketAddr, (Time, Option<D>)>,
}

impl<D> Default for Greetings<D> {
    fn default() -> Self {
        Greetings {
            wanted: BTreeSet::new(),
            dialled: BTreeMap::new(),
        }
    }
}

impl<D: Dialled> Greetings<D> {
    /// Replaces the addresses from which greetings are wanted.
    pub fn set_wanted(&mut self, wanted: impl Iterator<Item = SocketAddr>) {
        self.wanted = wanted.collect();
        self.dialled.retain(|it, _| self.wanted.contains(it));
    }

    /// Whether the address is not to be dialled for now.
    pub fn has(&self, address: &SocketAddr) -> bool {
        self.dialled.contains_key(address)
    }

    /// Those that have accepted the connection on which their greeting is awaited.
    pub fn accepting(&self) -> impl Iterator<Item = SocketAddr> {
        let open = self.dialled.iter().filter(|(_, (_, it))| it.is_some());
        open.map(|(address, _)| *address)
    }

    /// Keeps a connection if the greeting of its address is wanted.
    pub fn accepted(&mut self, address: SocketAddr, dialled: D, now: Time) {
        if !self.wanted.contains(&address) {
            return;
        }
        if self.accepting().count() >= MAX_CONNECTIONS {
            self.close_oldest(now);
        }
        let entry = (now + GREETING_TIMEOUT, Some(dialled));
        self.dialled.insert(address, entry);
    }

    fn close_oldest(&mut self, now: Time) {
        let open = self.dialled.values_mut().filter(|(_, it)| it.is_some());
        if let Some(oldest) = open.min_by_key(|(until, _)| *until) {
            *oldest = (now + LONG_PAUSE, None);
        }
    }

    /// Those that have greeted; they are forgotten, like those whose time is over.
    pub fn take_greeting(&mut self, now: Time) -> BTreeSet<SocketAddr> {
        let mut greeting = BTreeSet::new();
        self.dialled.retain(|address, (until, dialled)| {
            match dialled.as_ref().map(Dialled::greeting) {
                Some(Ok(true)) => {
                    greeting.insert(*address);
                    return false;
                }
                Some(Err(_)) => (*until, *dialled) = (now + PAUSE, None),
                Some(Ok(false)) | None => {}
            }
            now < *until
        });
        greeting
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::rc::Rc;

    /// What it says is set by the test.
    #[derive(Clone)]
    struct Scripted(Rc<Cell<Option<bool>>>);

    impl Dialled for Scripted {
        fn greeting(&self) -> io::Result<bool> {
            self.0.get().ok_or(ErrorKind::ConnectionReset.into())
        }
    }

    fn address(last: u8) -> SocketAddr {
        ([10, 0, 0, last], 25).into()
    }

    fn at(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    #[test]
    fn an_address_is_dialled_again_a_while_after_its_end_or_its_time() {
        let said = Scripted(Rc::new(Cell::new(Some(false))));
        let mut greetings = Greetings::default();
        greetings.accepted(address(1), said.clone(), at(0));
        assert!(!greetings.has(&address(1)), "it is not wanted");
        greetings.set_wanted([address(1)].into_iter());
        greetings.accepted(address(1), said.clone(), at(0));
        assert_eq!(greetings.take_greeting(at(29_999)), BTreeSet::new());
        assert!(greetings.has(&address(1)));
        greetings.take_greeting(at(30_000));
        assert!(!greetings.has(&address(1)), "its time is over");
        greetings.accepted(address(1), said.clone(), at(40_000));
        said.0.set(None);
        greetings.take_greeting(at(50_000));
        assert!(greetings.has(&address(1)), "it has closed, and rests");
        assert_eq!(greetings.accepting().count(), 0);
        greetings.take_greeting(at(50_100));
        assert!(!greetings.has(&address(1)));
        greetings.accepted(address(1), said.clone(), at(60_000));
        said.0.set(Some(true));
        assert!(greetings.take_greeting(at(60_000)).contains(&address(1)));
        assert!(!greetings.has(&address(1)), "it is reported once");
    }

    #[test]
    fn no_more_connections_are_kept_than_may_be_and_none_that_is_not_wanted() {
        let mut greetings = Greetings::default();
        let all: Vec<SocketAddr> = (0..100).map(address).collect();
        greetings.set_wanted(all.iter().copied());
        for (ms, &address) in (0..).zip(&all) {
            let silent = Scripted(Rc::new(Cell::new(Some(ms == 99))));
            greetings.accepted(address, silent, at(ms));
        }
        assert_eq!(greetings.accepting().count(), MAX_CONNECTIONS);
        assert!(all.iter().all(|it| greetings.has(it)), "the others rest");
        let greeting = greetings.take_greeting(at(100));
        assert!(greeting.contains(&address(99)), "the silent ones made room");
        greetings.take_greeting(at(4_999));
        assert!(greetings.has(&address(0)), "for seconds");
        greetings.take_greeting(at(5_100));
        assert!(!greetings.has(&address(0)));
        greetings.set_wanted([address(98)].into_iter());
        assert_eq!(greetings.accepting().collect::<Vec<_>>(), [address(98)]);
    }
}
