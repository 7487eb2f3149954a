//! [`Affinity`]: the backend that each client was last connected to, for a Service that has
//! `sessionAffinity: ClientIP`.
//!
//! A connection that comes within the timeout of the last one of its client goes to the same
//! backend, and begins the timeout anew, as with kube-proxy. Clients are distinguished by their
//! addresses. Memory is bounded: of more than [`MAX_CLIENTS`], those who have come the longest
//! ago are forgotten.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::clock::Time;

/// The most clients of an app that are remembered.
pub const MAX_CLIENTS: usize = 10_000;

/// The table, which the ports of an app share; `None` while the Service has no affinity.
#[derive(Default)]
pub struct Affinity(RefCell<Option<Table>>);

struct Table {
    timeout: Duration,
    clients: HashMap<IpAddr, Binding>,
    /// The clients by the time of their last connection.
    by_age: BTreeSet<(Time, IpAddr)>,
}

struct Binding {
    /// [`BackendSpec::id`](super::BackendSpec::id), which is that of the pod at every port.
    backend: Rc<str>,
    /// When the last connection was dialled.
    seen: Time,
}

impl Affinity {
    /// Sets the timeout; `None` forgets all clients.
    pub fn set_timeout(&self, timeout: Option<Duration>) {
        let mut table = self.0.borrow_mut();
        match (&mut *table, timeout) {
            (Some(table), Some(timeout)) => table.timeout = timeout,
            (table, timeout) => *table = timeout.map(Table::new),
        }
    }

    /// The timeout; `None` while the Service has no affinity.
    pub fn timeout(&self) -> Option<Duration> {
        self.0.borrow().as_ref().map(|table| table.timeout)
    }

    /// Whether clients are remembered.
    pub fn is_on(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// How many clients are remembered; `None` if none are to be.
    pub fn len(&self) -> Option<usize> {
        self.0.borrow().as_ref().map(|table| table.clients.len())
    }

    /// The backend of a client whose last connection is not too long ago.
    pub fn backend_of(&self, client: IpAddr, now: Time) -> Option<Rc<str>> {
        let table = self.0.borrow();
        let table = table.as_ref()?;
        let binding = table.clients.get(&client)?;
        let is_recent = now < binding.seen + table.timeout;
        is_recent.then(|| binding.backend.clone())
    }

    /// Remembers that a connection of a client is dialled to a backend.
    pub fn bind(&self, client: IpAddr, backend: &Rc<str>, now: Time) {
        if let Some(table) = &mut *self.0.borrow_mut() {
            table.bind(client, backend, now);
        }
    }
}

impl Table {
    fn new(timeout: Duration) -> Table {
        Table {
            timeout,
            clients: HashMap::new(),
            by_age: BTreeSet::new(),
        }
    }

    fn bind(&mut self, client: IpAddr, backend: &Rc<str>, now: Time) {
        let (backend, seen) = (backend.clone(), now);
        if let Some(before) = self.clients.insert(client, Binding { backend, seen }) {
            self.by_age.remove(&(before.seen, client));
        }
        self.by_age.insert((seen, client));
        while let Some(&(seen, oldest)) = self.by_age.first()
            && (self.clients.len() > MAX_CLIENTS || seen + self.timeout <= now)
        {
            self.by_age.pop_first();
            self.clients.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: u64) -> Time {
        Time::new(Duration::from_secs(seconds))
    }

    fn client(number: u32) -> IpAddr {
        IpAddr::from(number.to_be_bytes())
    }

    fn on(seconds: u64) -> Affinity {
        let affinity = Affinity::default();
        affinity.set_timeout(Some(Duration::from_secs(seconds)));
        affinity
    }

    #[test]
    fn a_client_is_remembered_for_the_timeout_after_its_last_connection() {
        let affinity = on(10);
        let (a, b): (Rc<str>, Rc<str>) = ("a".into(), "b".into());
        affinity.bind(client(1), &a, at(0));
        affinity.bind(client(2), &b, at(5));
        affinity.bind(client(1), &a, at(9));
        for (second, first, second_client) in [
            (14, Some("a"), Some("b")),
            (15, Some("a"), None),
            (18, Some("a"), None),
            (19, None, None),
        ] {
            let of = |number| affinity.backend_of(client(number), at(second));
            assert_eq!(of(1).as_deref(), first, "{second}");
            assert_eq!(of(2).as_deref(), second_client, "{second}");
        }
        affinity.bind(client(3), &a, at(19));
        assert_eq!(affinity.len(), Some(1), "the others are forgotten");
    }

    #[test]
    fn without_a_timeout_nobody_is_remembered_and_another_one_holds_for_all() {
        let affinity = Affinity::default();
        let a: Rc<str> = "a".into();
        affinity.bind(client(1), &a, at(0));
        assert_eq!(affinity.backend_of(client(1), at(0)), None);
        assert!(!affinity.is_on() && affinity.len().is_none());
        affinity.set_timeout(Some(Duration::from_secs(10)));
        affinity.bind(client(1), &a, at(0));
        affinity.set_timeout(Some(Duration::from_secs(20)));
        assert!(affinity.backend_of(client(1), at(19)).is_some());
        affinity.set_timeout(None);
        affinity.set_timeout(Some(Duration::from_secs(20)));
        assert_eq!(affinity.backend_of(client(1), at(0)), None);
    }

    #[test]
    fn of_too_many_those_who_came_the_longest_ago_are_forgotten() {
        let affinity = on(1_000_000);
        let a: Rc<str> = "a".into();
        let most = MAX_CLIENTS as u32;
        for number in 0..most {
            affinity.bind(client(number), &a, at(u64::from(number)));
        }
        affinity.bind(client(0), &a, at(u64::from(most)));
        affinity.bind(client(most), &a, at(u64::from(most)));
        let known = |number| affinity.backend_of(client(number), at(0)).is_some();
        assert!(known(0) && !known(1) && known(2) && known(most));
        assert_eq!(affinity.len(), Some(MAX_CLIENTS));
    }

    proptest! {
        /// As a table without bounds and without an order says.
        #[test]
        fn it_says_what_a_plain_list_of_connections_says(
            connections in prop::collection::vec((0u32..6, 0u32..3, 0u64..8), 1..60),
        ) {
            let affinity = on(10);
            let (mut now, mut list) = (0, Vec::new());
            for (number, backend, later) in connections {
                now += later;
                let id: Rc<str> = backend.to_string().into();
                affinity.bind(client(number), &id, at(now));
                list.push((number, id, now));
                for number in 0..6 {
                    let last = list.iter().rev().find(|(of, ..)| *of == number);
                    let last = last.filter(|(.., seen)| now < seen + 10);
                    let expected = last.map(|(_, id, _)| id.clone());
                    prop_assert_eq!(affinity.backend_of(client(number), at(now)), expected);
                }
            }
        }
    }
}
