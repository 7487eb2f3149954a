//! [`AcceptProbe`] dials pods that start, again and again, until one accepts.
//!
//! A pod is listed with its address long before the kubelet has found it ready: up to a
//! period of its probe (10 s where none is set) after it could have served. Whoever says that
//! an app listens only once it can serve (`--ready-gate accept`) has it dialled meanwhile.
//! One thread does that for all who wait, so that they never dial what cannot serve them.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::str::FromStr;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use crate::clock::Clock;
use crate::supervisor::{self, ThreadPanic};

/// The pause after each round of dials.
const PAUSE: Duration = Duration::from_millis(5);

/// How long a dial may take. A pod that starts refuses at once; its address may not be
/// routed yet, and then the SYN is lost.
const TIMEOUT: Duration = Duration::from_millis(50);

/// What has to be so before connections are released to a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadyGate {
    /// The kubelet's probe has succeeded.
    #[default]
    Probe,
    /// That, or it has accepted a connection while nobody else could.
    Accept,
}

impl FromStr for ReadyGate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "probe" => Ok(ReadyGate::Probe),
            "accept" => Ok(ReadyGate::Accept),
            _ => Err("is neither probe nor accept".to_owned()),
        }
    }
}

impl fmt::Display for ReadyGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ReadyGate::Probe => "probe",
            ReadyGate::Accept => "accept",
        })
    }
}

/// A pod that starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The index of the port of the app.
    pub port: usize,
    /// The pod's UID.
    pub uid: String,
    /// Where it will listen: addresses that are alternatives.
    pub addresses: Vec<SocketAddr>,
}

/// The handle of the thread, which ends when it is dropped.
pub struct AcceptProbe(Sender<Vec<Candidate>>);

impl AcceptProbe {
    /// Starts the thread. It calls `accepted` for each candidate that has accepted, once, and
    /// `panicked` after a panic.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn spawn(
        clock: Clock,
        accepted: impl Fn(Candidate) + Send + 'static,
        panicked: impl Fn(ThreadPanic) + Send + Clone + 'static,
    ) -> io::Result<AcceptProbe> {
        let (sender, orders) = mpsc::channel();
        let run = move || run(&orders, &accepted, accepts);
        supervisor::spawn("zpa-accept", clock, run, panicked)?;
        Ok(AcceptProbe(sender))
    }

    /// Replaces the candidates.
    pub fn set(&self, candidates: Vec<Candidate>) {
        // The thread lives as long as this sender.
        let _ = self.0.send(candidates);
    }
}

fn accepts(address: &SocketAddr) -> bool {
    TcpStream::connect_timeout(address, TIMEOUT).is_ok()
}

fn run(
    orders: &Receiver<Vec<Candidate>>,
    accepted: &impl Fn(Candidate),
    accepts: impl Fn(&SocketAddr) -> bool,
) {
    let mut candidates: Vec<Candidate> = Vec::new();
    loop {
        let order = if candidates.is_empty() {
            orders.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            orders.recv_timeout(PAUSE)
        };
        match order {
            Ok(order) => candidates = orders.try_iter().last().unwrap_or(order),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let ready = candidates.extract_if(.., |it| it.addresses.iter().any(&accepts));
        ready.for_each(accepted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};

    fn candidate(uid: &str, port: u16) -> Candidate {
        Candidate {
            port: 0,
            uid: uid.to_owned(),
            addresses: vec![([10, 0, 0, 1], port).into()],
        }
    }

    #[test]
    fn each_candidate_is_dialled_until_it_accepts_and_reported_once() {
        let (sender, orders) = mpsc::channel();
        let (sender, dials) = (RefCell::new(Some(sender)), Cell::new(0));
        let order = vec![candidate("slow", 1), candidate("quick", 2)];
        sender.borrow().as_ref().unwrap().send(order).unwrap();
        let found = RefCell::new(Vec::new());
        let accepted = |it: Candidate| {
            if it.uid == "slow" {
                sender.borrow_mut().take();
            }
            found.borrow_mut().push(it.uid);
        };
        run(&orders, &accepted, |address| {
            dials.set(dials.get() + 1);
            address.port() == 2 || dials.get() > 5
        });
        assert_eq!(*found.borrow(), ["quick", "slow"]);
        assert_eq!(dials.get(), 6, "both, and the slow one until it accepts");
    }

    #[test]
    fn a_candidate_that_is_taken_back_is_dialled_no_more() {
        let (sender, orders) = mpsc::channel();
        sender.send(vec![candidate("old", 1)]).unwrap();
        sender.send(vec![candidate("new", 2)]).unwrap();
        drop(sender);
        let found = RefCell::new(Vec::new());
        let accepted = |it: Candidate| found.borrow_mut().push(it.uid);
        run(&orders, &accepted, |_| true);
        assert_eq!(*found.borrow(), ["new"]);
    }
}
