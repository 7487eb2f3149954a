//! [`Affinity`]: the backend that each client was last connected to, for a Service that has
//! `sessionAffinity: ClientIP`.
//!
//! A connection that comes within the timeout of the last one of its client goes to the same
//! backend, and begins the timeout anew, as with kube-proxy. Clients are distinguished by their
//! addresses. Memory is bounded: of more than [`MAX_CLIENTS`] of an app, or than its part of
//! [`MAX_CLIENTS_OF_ALL`], those who have come the longest ago are forgotten; and all of them when
//! the app sleeps, since its pods are gone then.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::clock::Time;

/// The most clients of an app that are remembered.
pub const MAX_CLIENTS: usize = 10_000;

/// The most clients of all apps that are remembered, which the apps with affinity share equally.
pub const MAX_CLIENTS_OF_ALL: usize = 100_000;

/// The table, which the ports of an app share.
#[derive(Default)]
pub struct Affinity {
    /// `None` while the Service has no affinity.
    table: RefCell<Option<Table>>,
    /// How many tables there are in the process.
    tables: RefCell<Rc<Cell<usize>>>,
}

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
    /// Counts it together with the others of the process. To be called before there is a timeout.
    pub fn share(&self, tables: &Rc<Cell<usize>>) {
        *self.tables.borrow_mut() = tables.clone();
    }

    /// Sets the timeout; `None` forgets all clients.
    pub fn set_timeout(&self, timeout: Option<Duration>) {
        let mut table = self.table.borrow_mut();
        let (was_on, is_on) = (table.is_some(), timeout.is_some());
        match (&mut *table, timeout) {
            (Some(table), Some(timeout)) => table.timeout = timeout,
            (table, timeout) => *table = timeout.map(Table::new),
        }
        let tables = self.tables.borrow();
        tables.set(tables.get() + usize::from(is_on) - usize::from(was_on));
    }

    /// Forgets all clients: their backends are gone.
    pub fn forget(&self) {
        if let Some(table) = &mut *self.table.borrow_mut() {
            *table = Table::new(table.timeout);
        }
    }

    /// The timeout; `None` while the Service has no affinity.
    pub fn timeout(&self) -> Option<Duration> {
        self.table.borrow().as_ref().map(|table| table.timeout)
    }

    /// Whether clients are remembered.
    pub fn is_on(&self) -> bool {
        self.table.borrow().is_some()
    }

    /// How many clients are remembered; `None` if none are to be.
    pub fn len(&self) -> Option<usize> {
        self.table
            .borrow()
            .as_ref()
            .map(|table| table.clients.len())
    }

    /// The backend of a client whose last connection is not too long ago.
    pub fn backend_of(&self, client: IpAddr, now: Time) -> Option<Rc<str>> {
        let table = self.table.borrow();
        let table = table.as_ref()?;
        let binding = table.clients.get(&client)?;
        let is_recent = now < binding.seen + table.timeout;
        is_recent.then(|| binding.backend.clone())
    }

    /// Remembers that a connection of a client is dialled to a backend.
    pub fn bind(&self, client: IpAddr, backend: &Rc<str>, now: Time) {
        let apps = self.tables.borrow().get().max(1);
        if let Some(table) = &mut *self.table.borrow_mut() {
            let most = MAX_CLIENTS.min(MAX_CLIENTS_OF_ALL / apps);
            table.bind(client, backend, most, now);
        }
    }
}

impl Drop for Affinity {
    fn drop(&mut self) {
        self.set_timeout(None);
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

    fn bind(&mut self, client: IpAddr, backend: &Rc<str>, most: usize, now: Time) {
        let (backend, seen) = (backend.clone(), now);
        if let Some(before) = self.clients.insert(client, Binding { backend, seen }) {
            self.by_age.remove(&(before.seen, client));
        }
        self.by_age.insert((seen, client));
        while let Some(&(seen, oldest)) = self.by_age.first()
            && (self.clients.len() > most || seen + self.timeout <= now)
        {
            self.by_age.pop_first();
            self.clients.remove(&oldest);
        }
        if self.clients.len() < self.clients.capacity() / 8 {
            self.clients.shrink_to(2 * self.clients.len());
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

    #[test]
    fn the_apps_share_the_clients_of_the_process_and_a_sleep_forgets_those_of_one() {
        let tables = Rc::<Cell<usize>>::default();
        let apps: Vec<Affinity> = (0..20).map(|_| Affinity::default()).collect();
        for app in &apps {
            app.share(&tables);
            app.set_timeout(Some(Duration::from_secs(1_000_000)));
        }
        let a: Rc<str> = "a".into();
        for number in 0..6_000 {
            apps[0].bind(client(number), &a, at(u64::from(number)));
        }
        assert_eq!(apps[0].len(), Some(MAX_CLIENTS_OF_ALL / 20));
        apps[0].forget();
        assert_eq!(apps[0].len(), Some(0));
        assert!(apps[0].is_on());
        drop(apps);
        assert_eq!(tables.get(), 0);
    }

    #[test]
    fn a_table_that_has_shrunk_gives_its_memory_back() {
        let affinity = on(10);
        let a: Rc<str> = "a".into();
        for number in 0..5_000 {
            affinity.bind(client(number), &a, at(0));
        }
        affinity.bind(client(0), &a, at(20));
        let table = affinity.table.borrow();
        assert!(table.as_ref().unwrap().clients.capacity() < 100);
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
