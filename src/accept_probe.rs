//! [`AcceptProbe`] dials pods that start, again and again, until one accepts, or sends the greeting
//! of its protocol.
//!
//! A pod is listed with its address long before the kubelet has found it ready: up to a
//! period of its probe (10 s where none is set) after it could have served. Whoever says that
//! an app listens only once it can serve (`--ready-gate accept`), or greets its clients only then
//! (`--ready-gate greeting`), has it dialled meanwhile.
//! One thread does that for all apps, and client connections are dialled only to a pod that it has
//! found. It dials many at a time, so that an address that swallows SYNs delays those of other apps
//! by one timeout.

mod greetings;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use self::greetings::{Dialled, Greetings};
use crate::clock::Clock;
use crate::supervisor::{self, ThreadPanic};

/// The pause after each round of dials.
const PAUSE: Duration = Duration::from_millis(5);

/// How long a dial may take. A pod that starts refuses at once; its address may not be
/// routed yet, and then the SYN is lost.
const TIMEOUT: Duration = Duration::from_millis(50);

/// How many addresses are dialled at a time: as many descriptors are in use.
const AT_A_TIME: usize = 64;

/// A pod that starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The index of the port of the app.
    pub port: usize,
    /// The pod's UID.
    pub uid: String,
    /// Where it will listen: addresses that are alternatives.
    pub addresses: Vec<SocketAddr>,
    /// Whether it is to send a greeting, or else to accept.
    pub is_to_greet: bool,
}

/// The candidates of an app, which `K` identifies.
type PodsOfApp<K> = (K, Vec<Candidate>);

/// The thread, which ends when this and the handles of all apps are dropped.
pub struct AcceptProbe<K> {
    orders: Sender<PodsOfApp<K>>,
    apps: Arc<Mutex<BTreeSet<K>>>,
}

/// The handle with which an app sets its pods. Nothing is dialled for it once this is dropped.
pub struct AppProbe<K: Copy + Ord> {
    app: K,
    orders: Sender<PodsOfApp<K>>,
    apps: Arc<Mutex<BTreeSet<K>>>,
}

impl<K: Copy + Ord + Send + 'static> AcceptProbe<K> {
    /// Starts the thread. It calls `accepted` for each candidate that has done so, once, and
    /// `panicked` for each app after a panic.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn spawn(
        clock: Clock,
        accepted: impl Fn(K, Candidate) + Send + 'static,
        panicked: impl Fn(K, ThreadPanic) + Send + 'static,
    ) -> io::Result<Self> {
        let (sender, orders) = mpsc::channel();
        let apps = Arc::<Mutex<BTreeSet<K>>>::default();
        let concerned = apps.clone();
        let dial = move |addresses: &[SocketAddr]| dial(addresses, clock);
        let run = move || run(&orders, &accepted, dial, clock);
        supervisor::spawn("zpa-accept", clock, run, move |panic| {
            let apps = lock(&concerned).clone();
            apps.into_iter()
                .for_each(|app| panicked(app, panic.clone()));
        })?;
        Ok(AcceptProbe {
            orders: sender,
            apps,
        })
    }

    /// The handle for an app.
    pub fn of_app(&self, app: K) -> AppProbe<K> {
        lock(&self.apps).insert(app);
        AppProbe {
            app,
            orders: self.orders.clone(),
            apps: self.apps.clone(),
        }
    }
}

impl<K: Copy + Ord> AppProbe<K> {
    /// Replaces the candidates of the app.
    pub fn set(&self, candidates: Vec<Candidate>) {
        // The thread lives as long as this sender.
        let _ = self.orders.send((self.app, candidates));
    }
}

impl<K: Copy + Ord> Drop for AppProbe<K> {
    fn drop(&mut self) {
        self.set(Vec::new());
        lock(&self.apps).remove(&self.app);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connection to each of the addresses that accepts one within [`TIMEOUT`].
fn dial(addresses: &[SocketAddr], clock: Clock) -> Vec<Option<TcpStream>> {
    let mut accepted: Vec<_> = addresses.iter().map(|_| None).collect();
    // Without a descriptor none is known to accept, and all are dialled again.
    let Ok(mut poll) = Poll::new() else {
        return accepted;
    };
    let dial = |(number, &address): (usize, &SocketAddr)| {
        let mut stream = TcpStream::connect(address).ok()?;
        let registry = poll.registry();
        let registered = registry.register(&mut stream, Token(number), Interest::WRITABLE);
        registered.ok().map(|()| stream)
    };
    let mut dials: Vec<_> = addresses.iter().enumerate().map(dial).collect();
    let mut events = Events::with_capacity(AT_A_TIME);
    let deadline = clock() + TIMEOUT;
    while dials.iter().any(Option::is_some) && clock() < deadline {
        let left = deadline.since(clock());
        if poll.poll(&mut events, Some(left)).is_err() {
            continue;
        }
        for event in &events {
            let Token(number) = event.token();
            // An event that does not tell how the dial has ended is followed by one that does.
            if let Some(is_accepted) = dials[number].as_ref().and_then(outcome) {
                accepted[number] = dials[number].take().filter(|_| is_accepted);
            }
        }
    }
    accepted
}

/// Whether a dial was accepted; `None` while it is in progress.
fn outcome(dial: &TcpStream) -> Option<bool> {
    if !matches!(dial.take_error(), Ok(None)) {
        return Some(false);
    }
    match dial.peer_addr() {
        Ok(_) => Some(true),
        Err(why) if why.kind() == io::ErrorKind::NotConnected => None,
        Err(_) => Some(false),
    }
}

fn run<K: Copy + Ord, D: Dialled>(
    orders: &Receiver<PodsOfApp<K>>,
    accepted: &impl Fn(K, Candidate),
    dial: impl Fn(&[SocketAddr]) -> Vec<Option<D>>,
    clock: Clock,
) {
    let mut candidates: BTreeMap<K, Vec<Candidate>> = BTreeMap::new();
    let mut greetings = Greetings::default();
    loop {
        let order = if candidates.is_empty() {
            orders.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            orders.recv_timeout(PAUSE)
        };
        match order {
            Ok(order) => candidates.extend([order].into_iter().chain(orders.try_iter())),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let all = || candidates.values().flatten();
        let to_greet = all().filter(|it| it.is_to_greet);
        greetings.set_wanted(to_greet.flat_map(|it| &it.addresses).copied());
        let addresses = all().flat_map(|it| &it.addresses).copied();
        let undecided: Vec<SocketAddr> = addresses.filter(|it| !greetings.has(it)).collect();
        let mut accepting: BTreeSet<SocketAddr> = greetings.accepting().collect();
        for some in undecided.chunks(AT_A_TIME) {
            for (&address, dialled) in some.iter().zip(dial(some)) {
                if let Some(dialled) = dialled {
                    accepting.insert(address);
                    greetings.accepted(address, dialled, clock());
                }
            }
        }
        let greeting = greetings.take_greeting(clock());
        for (&app, candidates) in &mut candidates {
            let is_ready = |it: &mut Candidate| {
                let ready = if it.is_to_greet {
                    &greeting
                } else {
                    &accepting
                };
                it.addresses.iter().any(|it| ready.contains(it))
            };
            let ready = candidates.extract_if(.., is_ready);
            ready.for_each(|candidate| accepted(app, candidate));
        }
        candidates.retain(|_, candidates| !candidates.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Time;
    use std::cell::{Cell, RefCell};

    fn candidate(uid: &str, port: u16) -> Candidate {
        Candidate {
            port: 0,
            uid: uid.to_owned(),
            addresses: vec![([10, 0, 0, 1], port).into()],
            is_to_greet: false,
        }
    }

    /// A connection that says nothing.
    struct Silent;

    impl Dialled for Silent {
        fn greeting(&self) -> io::Result<bool> {
            Ok(false)
        }
    }

    fn now() -> Time {
        Time::from_millis(0)
    }

    /// A socket that does not listen, and its address, which refuses.
    fn bound() -> (socket2::Socket, SocketAddr) {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.unwrap();
        socket
            .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
            .unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        (socket, address)
    }

    #[test]
    fn each_candidate_is_dialled_until_it_accepts_and_reported_once() {
        let (sender, orders) = mpsc::channel();
        let (sender, dials) = (RefCell::new(Some(sender)), Cell::new(0));
        let order = (1, vec![candidate("slow", 1), candidate("quick", 2)]);
        sender.borrow().as_ref().unwrap().send(order).unwrap();
        let found = RefCell::new(Vec::new());
        let accepted = |_, it: Candidate| {
            if it.uid == "slow" {
                sender.borrow_mut().take();
            }
            found.borrow_mut().push(it.uid);
        };
        run(
            &orders,
            &accepted,
            |addresses| {
                let dial = |address: &SocketAddr| {
                    dials.set(dials.get() + 1);
                    (address.port() == 2 || dials.get() > 5).then_some(Silent)
                };
                addresses.iter().map(dial).collect()
            },
            now,
        );
        assert_eq!(*found.borrow(), ["quick", "slow"]);
        assert_eq!(dials.get(), 6, "both, and the slow one until it accepts");
    }

    #[test]
    fn a_candidate_that_is_taken_back_is_dialled_no_more() {
        let (sender, orders) = mpsc::channel();
        for (app, uid, port) in [(1, "old", 1), (2, "other app's", 2), (1, "new", 3)] {
            sender.send((app, vec![candidate(uid, port)])).unwrap();
        }
        drop(sender);
        let found = RefCell::new(Vec::new());
        let accepted = |app, it: Candidate| found.borrow_mut().push((app, it.uid));
        let accepts = |addresses: &[SocketAddr]| addresses.iter().map(|_| Some(Silent)).collect();
        run(&orders, &accepted, accepts, now);
        let expected = [(1, "new"), (2, "other app's")].map(|(app, uid)| (app, uid.to_owned()));
        assert_eq!(*found.borrow(), expected);
    }

    /// Its queue is full, so that the kernel drops every further SYN.
    #[test]
    fn an_address_that_swallows_syns_is_dialled_together_with_others() {
        let (silent, address) = bound();
        silent.listen(0).unwrap();
        let connect = || std::net::TcpStream::connect_timeout(&address, TIMEOUT * 4);
        let _filling: Vec<_> = std::iter::from_fn(|| connect().ok()).collect();
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let good = server.local_addr().unwrap();
        let (_bound, refusing) = bound();
        let found = dial(&[address, refusing, good, address], crate::sys::boot_time);
        let found: Vec<bool> = found.iter().map(Option::is_some).collect();
        assert_eq!(found, [false, false, true, false]);
    }

    #[test]
    fn a_candidate_that_is_to_greet_is_reported_once_it_has_and_is_kept_waiting_on_one_dial() {
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (sender, found) = mpsc::channel();
        let accepted = move |app, it: Candidate| sender.send((app, it.uid)).unwrap();
        let probe = AcceptProbe::spawn(crate::sys::boot_time, accepted, |_, _| {}).unwrap();
        let (mail, web) = (probe.of_app(1), probe.of_app(2));
        let at = |uid: &str, is_to_greet| Candidate {
            addresses: vec![server.local_addr().unwrap()],
            is_to_greet,
            ..candidate(uid, 1)
        };
        mail.set(vec![at("mail", true)]);
        // It is not ready yet, and closes what it has accepted.
        drop(server.accept().unwrap());
        let (mut connection, _) = server.accept().unwrap();
        web.set(vec![at("web", false)]);
        assert_eq!(found.recv().unwrap(), (2, "web".to_owned()));
        io::Write::write_all(&mut connection, b"220 ready").unwrap();
        assert_eq!(found.recv().unwrap(), (1, "mail".to_owned()));
        server.set_nonblocking(true).unwrap();
        assert!(server.accept().is_err(), "one dial is enough for both");
    }

    #[test]
    fn nothing_is_dialled_for_an_app_that_is_gone_and_one_thread_serves_all() {
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (_bound, refusing) = bound();
        let (sender, found) = mpsc::channel();
        let accepted = move |app, it: Candidate| sender.send((app, it.uid)).unwrap();
        let probe = AcceptProbe::spawn(crate::sys::boot_time, accepted, |_, _| {}).unwrap();
        let at = |uid: &str, address| Candidate {
            addresses: vec![address],
            ..candidate(uid, 1)
        };
        let (gone, here) = (probe.of_app(1), probe.of_app(2));
        gone.set(vec![at("never", refusing)]);
        drop(gone);
        assert_eq!(lock(&probe.apps).iter().collect::<Vec<_>>(), [&2]);
        here.set(vec![at("pod", server.local_addr().unwrap())]);
        assert_eq!(found.recv().unwrap(), (2, "pod".to_owned()));
        drop((probe, here));
        assert!(found.recv().is_err(), "the thread has ended");
    }
}
