//! Addresses of a target that is given by name.
//!
//! `getaddrinfo` blocks, in musl for up to five seconds when a name server is
//! dead, so it has a thread of its own and never runs on the loop.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use log::warn;

use crate::clock::Clock;
use crate::cluster::HostPort;
use crate::supervisor::{self, ThreadPanic};

/// How often a name is looked up when nothing is wrong.
const REFRESH: Duration = Duration::from_secs(60);
/// How often at most when something is.
const RETRY: Duration = Duration::from_secs(1);

/// Asks for a look-up out of turn. The thread ends when it is dropped.
pub struct Resolver(Sender<()>);

impl Resolver {
    /// Looks `target` up now and every minute, and reports what it finds; also if
    /// the thread has panicked.
    ///
    /// # Errors
    /// Only if no thread can be started.
    pub fn spawn(
        target: HostPort,
        clock: Clock,
        report: impl Fn(Vec<SocketAddr>) + Send + 'static,
        panicked: impl Fn(ThreadPanic) + Send + 'static,
    ) -> io::Result<Resolver> {
        let (sender, orders) = mpsc::channel();
        let run = move || run(&target, &orders, &report);
        supervisor::spawn("zpa-resolve", clock, run, panicked)?;
        Ok(Resolver(sender))
    }

    /// A dial has failed: the name may lead elsewhere by now.
    pub fn refresh(&self) {
        // The thread lives as long as this sender.
        let _ = self.0.send(());
    }
}

fn run(target: &HostPort, orders: &Receiver<()>, report: &impl Fn(Vec<SocketAddr>)) {
    let mut failing = false;
    loop {
        let found = look_up(target);
        let pause = if found.is_ok() { REFRESH } else { RETRY };
        match found {
            Ok(addresses) => {
                failing = false;
                report(addresses);
            }
            Err(e) if !failing => {
                failing = true;
                warn!("cannot look up the target {target}, keeping what is known of it: {e}");
            }
            Err(_) => {}
        }
        thread::sleep(RETRY.min(pause));
        match orders.recv_timeout(pause) {
            Ok(()) => orders.try_iter().for_each(drop),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn look_up(target: &HostPort) -> io::Result<Vec<SocketAddr>> {
    let found: Vec<_> = (target.host.as_str(), target.port)
        .to_socket_addrs()?
        .collect();
    if found.is_empty() {
        return Err(io::Error::other("the name has no address"));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Time;

    #[test]
    fn an_address_resolves_to_itself() {
        let (sender, found) = mpsc::channel();
        let target = HostPort {
            host: "127.0.0.1".to_owned(),
            port: 80,
        };
        let report = move |addresses| sender.send(addresses).unwrap();
        let resolver = Resolver::spawn(target, Time::default, report, |_| {});
        let addresses = found.recv_timeout(Duration::from_secs(10)).unwrap();
        assert_eq!(addresses, [SocketAddr::from(([127, 0, 0, 1], 80))]);
        drop(resolver);
    }
}
