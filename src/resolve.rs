//! A [`Resolver`] looks up the addresses of a static backend that is given by name, again and
//! again.
//!
//! `getaddrinfo` blocks, in musl for five seconds if a name server does not answer, so
//! it never runs on the event loop. One thread looks up IPv4 addresses and one IPv6
//! addresses: a name server that fails for one family does not delay the addresses of
//! the other.

use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use log::{debug, warn};

use crate::clock::Clock;
use crate::cluster::HostPort;
use crate::supervisor::{self, ThreadPanic};
use crate::sys::{self, Family, LookUp};

/// The pause after a look-up that succeeded.
const REFRESH: Duration = Duration::from_secs(60);
/// The pause after a look-up that failed, and the least pause between two.
const RETRY: Duration = Duration::from_secs(1);

/// The address families, each with the name of its thread.
const FAMILIES: [(Family, &str); 2] = [
    (Family::V4, "zpa-resolve-v4"),
    (Family::V6, "zpa-resolve-v6"),
];

/// The handle of the resolver threads, which end when it is dropped.
pub struct Resolver(Vec<Sender<()>>);

impl Resolver {
    /// Starts the threads. They look `target` up now and every minute, and call `report`
    /// with the addresses of both families after each look-up that found some.
    /// `panicked` is called after a panic of a thread.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub fn spawn(
        target: HostPort,
        clock: Clock,
        report: impl Fn(Vec<SocketAddr>) + Send + Clone + 'static,
        panicked: impl Fn(ThreadPanic) + Send + Clone + 'static,
    ) -> io::Result<Resolver> {
        let known = Arc::new(Mutex::new(Known::default()));
        let mut senders = Vec::new();
        for (family, name) in FAMILIES {
            let (sender, orders) = mpsc::channel();
            let (target, known, report) = (target.clone(), known.clone(), report.clone());
            let run = move || run(&target, family, &known, &orders, &report);
            supervisor::spawn(name, clock, run, panicked.clone())?;
            senders.push(sender);
        }
        Ok(Resolver(senders))
    }

    /// Looks the name up before the next minute is over: a dial has failed, so that its
    /// addresses may have changed.
    pub fn refresh(&self) {
        for sender in &self.0 {
            // The thread lives as long as this sender.
            let _ = sender.send(());
        }
    }
}

fn run(
    target: &HostPort,
    family: Family,
    known: &Mutex<Known>,
    orders: &Receiver<()>,
    report: &impl Fn(Vec<SocketAddr>),
) {
    loop {
        let answer = sys::look_up(&target.host, target.port, family);
        if let LookUp::Failed(why) = &answer {
            debug!("looking up the target {target} in {family:?}: {why}");
        }
        let pause = {
            // Reports are made under the lock, so that the latest comes last.
            let mut known = lock(known);
            let news = known.learn(family, answer);
            if let Some(addresses) = news.addresses {
                report(addresses);
            }
            if let Some(why) = news.trouble {
                warn!("cannot look up the target {target}, keeping what is known of it: {why}");
            }
            known.pause()
        };
        thread::sleep(RETRY.min(pause));
        match orders.recv_timeout(pause) {
            Ok(()) => orders.try_iter().for_each(drop),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The results of the look-ups of a name, by family.
#[derive(Debug, Default)]
struct Known {
    families: [OfFamily; FAMILIES.len()],
    /// Whether a warning was logged that both families fail.
    failing: bool,
}

/// The results of the look-ups in one family.
#[derive(Debug, Default)]
struct OfFamily {
    addresses: Vec<SocketAddr>,
    /// The result of the last look-up; `None` before the first.
    last: Option<Ended>,
}

#[derive(Debug)]
enum Ended {
    Found,
    Nothing,
    Failed(String),
}

/// What to report after a look-up.
#[derive(Debug, Default, PartialEq, Eq)]
struct News {
    /// The addresses of both families, to be reported.
    addresses: Option<Vec<SocketAddr>>,
    /// Why both families have failed, to be logged; only the first time.
    trouble: Option<String>,
}

impl Known {
    /// Stores the result of a look-up. The addresses of a family are kept until the same
    /// family has others, or has none while the other family has some.
    fn learn(&mut self, family: Family, answer: LookUp) -> News {
        let this = &mut self.families[family as usize];
        let found = matches!(answer, LookUp::Found(_));
        this.last = Some(match answer {
            LookUp::Found(addresses) => {
                this.addresses = addresses;
                Ended::Found
            }
            LookUp::Nothing => Ended::Nothing,
            LookUp::Failed(why) => Ended::Failed(why),
        });
        if !self.has_answer() {
            return News {
                addresses: None,
                trouble: self.trouble(),
            };
        }
        self.failing = false;
        let dropped = self.drop_what_has_gone();
        News {
            addresses: (found || dropped).then(|| self.addresses()),
            trouble: None,
        }
    }

    /// Whether the last look-up of some family found addresses.
    fn has_answer(&self) -> bool {
        let mut families = self.families.iter();
        families.any(|family| matches!(family.last, Some(Ended::Found)))
    }

    fn drop_what_has_gone(&mut self) -> bool {
        let gone = |family: &&mut OfFamily| {
            matches!(family.last, Some(Ended::Nothing)) && !family.addresses.is_empty()
        };
        let gone = self.families.iter_mut().filter(gone);
        gone.map(|family| family.addresses.clear()).count() > 0
    }

    /// Why no look-up found addresses, once both families were looked up.
    fn trouble(&mut self) -> Option<String> {
        let ended = self.families.iter().all(|family| family.last.is_some());
        if !ended || self.failing {
            return None;
        }
        self.failing = true;
        let failed = self.families.iter().find_map(|family| match &family.last {
            Some(Ended::Failed(why)) => Some(why.clone()),
            _ => None,
        });
        Some(failed.unwrap_or_else(|| "the name has no address".to_owned()))
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        let families = self.families.iter();
        families
            .flat_map(|family| family.addresses.clone())
            .collect()
    }

    fn pause(&self) -> Duration {
        if self.has_answer() { REFRESH } else { RETRY }
    }
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

    fn found(addresses: &[&str]) -> LookUp {
        let addresses = addresses.iter().map(|address| address.parse().unwrap());
        LookUp::Found(addresses.collect())
    }

    fn failed() -> LookUp {
        LookUp::Failed("Try again".to_owned())
    }

    #[test]
    fn a_fault_in_one_family_keeps_nobody_from_the_addresses_of_the_other() {
        const V4: &str = "10.0.0.1:80";
        const V6: &str = "[fd00::1]:80";
        use Family::{V4 as A, V6 as AAAA};
        let reported = |addresses: &[&str]| Some(addresses.join(" "));
        let trouble = |why: &str| Some(format!("trouble: {why}"));
        for (label, answers, expected) in [
            (
                "both",
                vec![(A, found(&[V4])), (AAAA, found(&[V6]))],
                vec![reported(&[V4]), reported(&[V4, V6])],
            ),
            (
                "IPv4 beside nothing",
                vec![(AAAA, LookUp::Nothing), (A, found(&[V4]))],
                vec![None, reported(&[V4])],
            ),
            (
                "IPv4 beside a fault",
                vec![(AAAA, failed()), (A, found(&[V4]))],
                vec![None, reported(&[V4])],
            ),
            (
                "IPv6 beside a fault",
                vec![(A, failed()), (AAAA, found(&[V6]))],
                vec![None, reported(&[V6])],
            ),
            (
                "a fault later: what was found stays",
                vec![
                    (A, found(&[V4])),
                    (AAAA, found(&[V6])),
                    (AAAA, failed()),
                    (A, found(&[V4])),
                ],
                vec![
                    reported(&[V4]),
                    reported(&[V4, V6]),
                    None,
                    reported(&[V4, V6]),
                ],
            ),
            (
                "gone from one family: it goes",
                vec![
                    (A, found(&[V4])),
                    (AAAA, found(&[V6])),
                    (AAAA, LookUp::Nothing),
                ],
                vec![reported(&[V4]), reported(&[V4, V6]), reported(&[V4])],
            ),
            (
                "gone from both: what was found stays, and it is said once",
                vec![
                    (A, found(&[V4])),
                    (A, LookUp::Nothing),
                    (AAAA, LookUp::Nothing),
                    (A, LookUp::Nothing),
                    (AAAA, found(&[V6])),
                ],
                vec![
                    reported(&[V4]),
                    None,
                    trouble("the name has no address"),
                    None,
                    reported(&[V6]),
                ],
            ),
            (
                "a fault in both: the fault is the reason",
                vec![
                    (A, LookUp::Nothing),
                    (AAAA, failed()),
                    (A, found(&[V4])),
                    (A, failed()),
                ],
                vec![
                    None,
                    trouble("Try again"),
                    reported(&[V4]),
                    trouble("Try again"),
                ],
            ),
        ] {
            let mut known = Known::default();
            let said: Vec<_> = answers
                .into_iter()
                .map(|(family, answer)| {
                    let news = known.learn(family, answer);
                    let addresses = news.addresses.map(|addresses| {
                        let addresses: Vec<_> =
                            addresses.iter().map(SocketAddr::to_string).collect();
                        addresses.join(" ")
                    });
                    addresses.or(news.trouble.map(|why| format!("trouble: {why}")))
                })
                .collect();
            assert_eq!(said, expected, "{label}");
        }
    }

    #[test]
    fn a_name_is_looked_up_each_minute_where_one_family_has_it_and_each_second_where_none_has() {
        let mut known = Known::default();
        assert_eq!(known.pause(), RETRY);
        known.learn(Family::V6, failed());
        assert_eq!(known.pause(), RETRY);
        known.learn(Family::V4, found(&["10.0.0.1:80"]));
        assert_eq!(known.pause(), REFRESH);
    }
}
