//! When to scale, and whether to let connections through.
//!
//! A pure state machine. It is told how many connections there are, whether
//! there is an address to dial, what the API server has answered and what time
//! it is; it answers with [`Command`]s. It sees counts and versions, never an
//! address, and reads no clock.
//!
//! Rules that hold in every phase:
//! - replicas are written to wake (0 → N) and to sleep (N → 0), each guarded by
//!   the version at which the other value was read; never at start-up, and
//!   never from one number above zero to another, which is the HPA's job;
//! - a write whose outcome is unknown is followed by a read before any other
//!   write; a conflict too, and what was read is judged anew;
//! - what is not known counts as awake: only a fresh read that shows replicas,
//!   after a whole idle TTL without a connection, leads to a sleep.

pub mod pods;

use std::collections::VecDeque;
use std::time::Duration;

use crate::backoff::{self, Backoff};
use crate::clock::Time;
use crate::cluster::{Outcome, Request, ResourceVersion, Scale};

/// How often the scale is read when nothing happens: it shows what others have
/// done, and keeps the API connection warm for the next write.
pub const POLL: Duration = Duration::from_secs(10);

/// How often the scale is read while somebody waits for a pod.
pub const POLL_STARTING: Duration = Duration::from_secs(5);

/// When to ask again what was forbidden: rights come with a human's hand.
pub const POLL_FORBIDDEN: Duration = Duration::from_secs(30);

/// The longest pause between two attempts while somebody waits for a pod.
pub const LONGEST_PAUSE_WAITING: Duration = Duration::from_secs(5);

/// What the policy keeps to.
#[derive(Clone, Debug)]
pub struct Config {
    /// How long the app must have been without a connection before it sleeps.
    pub idle_ttl: Duration,
    /// How many replicas a wake asks for.
    pub wake_replicas: u32,
}

/// What the engine has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connections {
    /// Connections accepted since the start.
    pub accepted: u64,
    /// Connections open now.
    pub open: usize,
    /// Those of them that wait for a pod.
    pub waiting: usize,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Ask the API server. A request replaces one that was not answered yet.
    Ask {
        /// Names the reply.
        id: u64,
        /// What to ask.
        request: Request,
    },
    /// The scale is zero: the pods that are known now are about to die.
    CondemnPods,
    /// The scale is above zero: pods that stay ready from now on are alive.
    RevivePods,
    /// Tell the operator.
    Say(Change),
}

/// A change that an operator wants to hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The scale was seen at zero, and not by our doing.
    FoundAsleep,
    /// The scale was seen above zero for the first time, or not by our doing.
    FoundAwake {
        /// The replicas seen.
        replicas: u32,
    },
    /// A connection has come while the scale is zero.
    Waking {
        /// How many connections wait.
        waiting: usize,
    },
    /// Our write has raised the scale.
    ScaledUp {
        /// To how many replicas.
        replicas: u32,
    },
    /// There is an address for those who waited.
    Woke {
        /// From the first connection that had to wait to now.
        took: Duration,
        /// How many connections were held.
        held: usize,
    },
    /// Our write has put the app to sleep.
    Slept {
        /// How long there had been no connection.
        idle: Duration,
    },
}

/// What is known of the app, and what is being done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It has replicas, as far as is known, and nothing is to be done.
    Awake,
    /// Somebody waits and there is no address to dial, though the scale is not
    /// known to be zero.
    Starting {
        /// Since when somebody has waited.
        since: Time,
    },
    /// The idle TTL has passed. The scale is being read afresh; nothing was
    /// written yet, and a connection ends the matter.
    Judging,
    /// The write of zero is on its way, or its outcome is unknown. Connections
    /// are held until that is settled.
    Falling,
    /// The scale is zero, at that version.
    Asleep {
        /// The version that a wake is guarded by.
        version: ResourceVersion,
    },
    /// The scale is zero and was found so while somebody waited: it is raised
    /// even if they have gone by now.
    Waking {
        /// Since when somebody has waited.
        since: Time,
        /// The version at which the scale was zero; `None` if that must be
        /// read again before anything is written.
        version: Option<ResourceVersion>,
    },
}

/// The request that is on its way.
#[derive(Clone, Debug)]
struct InFlight {
    id: u64,
    request: Request,
}

/// The state machine.
pub struct Policy {
    config: Config,
    phase: Phase,
    connections: Connections,
    /// When the last connection ended, or the program started, or somebody
    /// else changed the scale; `None` while a connection is open.
    idle_since: Option<Time>,
    dialable: bool,
    /// The replicas that the last read or write above zero has shown.
    replicas: Option<u32>,
    in_flight: Option<InFlight>,
    next_id: u64,
    /// When the next request is due.
    due: Time,
    backoff: Backoff,
    commands: VecDeque<Command>,
}

impl Policy {
    /// Starts out with an app that is taken to be awake: what is unknown does
    /// not sleep before a whole idle TTL.
    pub fn new(config: Config, seed: u64, now: Time) -> Self {
        Policy {
            config,
            phase: Phase::Awake,
            connections: Connections::default(),
            idle_since: Some(now),
            dialable: false,
            replicas: None,
            in_flight: None,
            next_id: 0,
            due: now,
            backoff: Backoff::new(seed),
            commands: VecDeque::new(),
        }
    }

    /// What is known and being done.
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// Whether connections may be dialled.
    pub fn gate_open(&self) -> bool {
        self.dialable && matches!(self.phase, Phase::Awake | Phase::Judging)
    }

    /// The next thing to do, until there is nothing left.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// When [`Policy::tick`] has something to do even if nothing happens.
    pub fn next_deadline(&self) -> Option<Time> {
        let due = self.in_flight.is_none().then_some(self.due);
        let may_sleep = matches!(self.phase, Phase::Awake | Phase::Starting { .. });
        let sleep = self
            .idle_since
            .filter(|_| may_sleep)
            .map(|t| t + self.config.idle_ttl);
        [due, sleep].into_iter().flatten().min()
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Time) {
        self.settle(now);
    }

    /// The engine has counted.
    pub fn connections(&mut self, connections: Connections, now: Time) {
        let had_some = connections.accepted != self.connections.accepted;
        if connections.open > 0 {
            self.idle_since = None;
        } else if had_some || self.idle_since.is_none() {
            self.idle_since = Some(now);
        }
        self.connections = connections;
        self.settle(now);
    }

    /// There is an address that may be dialled, or there is none.
    pub fn dialable(&mut self, dialable: bool, now: Time) {
        let appeared = dialable && !self.dialable;
        self.dialable = dialable;
        if appeared && matches!(self.phase, Phase::Asleep { .. }) {
            // A pod of a new generation: somebody else has scaled up.
            self.due = now;
        }
        self.settle(now);
    }

    /// The API server has answered, or failed to. An answer to anything but
    /// the last request is of no interest: the request was replaced.
    pub fn reply(&mut self, id: u64, outcome: Outcome, now: Time) {
        let Some(answered) = self.in_flight.take_if(|asked| asked.id == id) else {
            return;
        };
        match outcome {
            Outcome::Scale(scale) => self.learn(&answered.request, scale, now),
            failure => self.fail(&answered.request, &failure, now),
        }
        self.settle(now);
    }

    // --- What follows from what is known ---

    /// Moves on from phases that have been overtaken, then asks what is due.
    fn settle(&mut self, now: Time) {
        while let Some(next) = self.overtaken(now) {
            self.phase = next;
        }
        self.ask_what_is_due(now);
        self.check_invariants();
    }

    /// The phase that follows without any answer from the API server.
    fn overtaken(&mut self, now: Time) -> Option<Phase> {
        let Connections { waiting, .. } = self.connections;
        let is_idle = self.is_idle(now);
        match &self.phase {
            Phase::Awake if waiting > 0 && !self.dialable => {
                self.due = now;
                Some(Phase::Starting { since: now })
            }
            Phase::Awake | Phase::Starting { .. } if is_idle => {
                self.due = now;
                Some(Phase::Judging)
            }
            &Phase::Starting { since } if self.dialable => {
                self.say(Change::Woke {
                    took: now.since(since),
                    held: waiting,
                });
                Some(Phase::Awake)
            }
            Phase::Judging if !is_idle => Some(Phase::Awake),
            Phase::Asleep { version } if waiting > 0 => {
                let version = Some(version.clone());
                self.due = now;
                self.say(Change::Waking { waiting });
                Some(Phase::Waking {
                    since: now,
                    version,
                })
            }
            _ => None,
        }
    }

    fn is_idle(&self, now: Time) -> bool {
        self.idle_since
            .is_some_and(|since| now.since(since) >= self.config.idle_ttl)
    }

    fn ask_what_is_due(&mut self, now: Time) {
        if now < self.due {
            return;
        }
        let request = match &self.phase {
            Phase::Waking {
                version: Some(guard),
                ..
            } => {
                let (replicas, guard) = (self.config.wake_replicas, guard.clone());
                Request::WriteScale { replicas, guard }
            }
            _ => Request::ReadScale,
        };
        match (&self.in_flight, &request) {
            (None, _) => self.ask(request),
            // A wake does not wait for the end of a poll.
            (Some(asked), Request::WriteScale { .. }) if asked.request == Request::ReadScale => {
                self.ask(request);
            }
            _ => {}
        }
    }

    fn ask(&mut self, request: Request) {
        let id = self.next_id;
        self.next_id += 1;
        self.in_flight = Some(InFlight {
            id,
            request: request.clone(),
        });
        self.commands.push_back(Command::Ask { id, request });
    }

    fn say(&mut self, change: Change) {
        self.commands.push_back(Command::Say(change));
    }

    // --- Answers ---

    /// The scale is known, by a read or by a write that was applied.
    fn learn(&mut self, asked: &Request, scale: Scale, now: Time) {
        let settled = !matches!(
            self.phase,
            Phase::Judging | Phase::Falling | Phase::Waking { .. }
        );
        if settled || *asked != Request::ReadScale {
            self.backoff.reset();
        }
        if scale.replicas == 0 {
            self.learn_zero(scale.version, now);
        } else {
            self.learn_replicas(asked, scale, now);
        }
    }

    fn learn_zero(&mut self, version: ResourceVersion, now: Time) {
        self.due = now + POLL;
        self.commands.push_back(Command::CondemnPods);
        let since = match self.phase {
            Phase::Waking { since, .. } => {
                self.due = now;
                self.phase = Phase::Waking {
                    since,
                    version: Some(version),
                };
                return;
            }
            Phase::Starting { since } => since,
            _ => now,
        };
        match self.phase {
            Phase::Falling => {
                let idle = self
                    .idle_since
                    .map_or(self.config.idle_ttl, |t| now.since(t));
                self.say(Change::Slept { idle });
            }
            Phase::Asleep { .. } => {}
            _ => self.say(Change::FoundAsleep),
        }
        if self.connections.waiting > 0 {
            self.due = now;
            self.say(Change::Waking {
                waiting: self.connections.waiting,
            });
            self.phase = Phase::Waking {
                since,
                version: Some(version),
            };
        } else {
            self.phase = Phase::Asleep { version };
        }
    }

    fn learn_replicas(&mut self, asked: &Request, scale: Scale, now: Time) {
        self.due = now + POLL;
        self.commands.push_back(Command::RevivePods);
        let before = self.replicas.replace(scale.replicas);
        let changed = before != Some(scale.replicas);
        match self.phase {
            Phase::Awake => {
                if before.is_none() {
                    self.say(Change::FoundAwake {
                        replicas: scale.replicas,
                    });
                }
                self.restart_idle_clock_if(changed, now);
            }
            Phase::Starting { .. } => self.due = now + POLL_STARTING,
            Phase::Judging | Phase::Falling => self.judge(scale, changed, now),
            Phase::Asleep { .. } => {
                self.say(Change::FoundAwake {
                    replicas: scale.replicas,
                });
                self.restart_idle_clock_if(true, now);
                self.phase = Phase::Awake;
            }
            Phase::Waking { since, .. } => {
                self.due = now + POLL_STARTING;
                self.say(match asked {
                    Request::WriteScale { replicas, .. } => Change::ScaledUp {
                        replicas: *replicas,
                    },
                    Request::ReadScale => Change::FoundAwake {
                        replicas: scale.replicas,
                    },
                });
                self.phase = Phase::Starting { since };
            }
        }
    }

    /// A fresh read has shown replicas: writes zero if the app has not been
    /// used for the idle TTL, and nobody else has scaled it meanwhile.
    fn judge(&mut self, scale: Scale, changed: bool, now: Time) {
        self.restart_idle_clock_if(changed, now);
        if self.is_idle(now) {
            self.phase = Phase::Falling;
            self.ask(Request::WriteScale {
                replicas: 0,
                guard: scale.version,
            });
        } else {
            self.phase = Phase::Awake;
        }
    }

    /// Somebody who scales the app means to use it.
    fn restart_idle_clock_if(&mut self, changed: bool, now: Time) {
        if changed && self.idle_since.is_some() {
            self.idle_since = Some(now);
        }
    }

    /// The request has failed: concludes what it may have done, and when to
    /// ask again.
    fn fail(&mut self, asked: &Request, failure: &Outcome, now: Time) {
        let wrote = *asked != Request::ReadScale;
        let must_read = !matches!(
            failure,
            Outcome::Unreachable | Outcome::Busy { .. } | Outcome::Forbidden
        );
        match &mut self.phase {
            // Nothing was written, so nobody needs to be held.
            Phase::Falling if wrote && !matches!(failure, Outcome::Unknown { .. }) => {
                self.phase = Phase::Judging;
            }
            Phase::Waking { version, .. } if must_read => *version = None,
            Phase::Asleep { .. } if *failure == Outcome::NotFound => {
                self.phase = Phase::Awake;
                self.restart_idle_clock_if(true, now);
            }
            _ => {}
        }
        self.due = now + self.pause_after(failure);
    }

    fn pause_after(&mut self, failure: &Outcome) -> Duration {
        let longest = match self.connections.waiting {
            0 => backoff::LONGEST,
            _ => LONGEST_PAUSE_WAITING,
        };
        let first = self.backoff.failures() == 0;
        let pause = self.backoff.pause(longest);
        match failure {
            // Others write as well: nothing is wrong unless it goes on.
            Outcome::Conflict if first => Duration::ZERO,
            Outcome::Forbidden => POLL_FORBIDDEN,
            Outcome::NotFound => POLL,
            Outcome::Busy { retry_after } | Outcome::Unknown { retry_after } => {
                pause.max(retry_after.unwrap_or_default())
            }
            Outcome::Scale(_) | Outcome::Conflict | Outcome::Unreachable => pause,
        }
    }

    fn check_invariants(&self) {
        let writes = match &self.in_flight {
            Some(InFlight {
                request: Request::WriteScale { replicas, .. },
                ..
            }) => Some(*replicas),
            _ => None,
        };
        debug_assert!(
            writes.is_none_or(|n| match self.phase {
                Phase::Falling => n == 0,
                Phase::Waking { .. } => n == self.config.wake_replicas,
                _ => false,
            }),
            "{writes:?} is being written in {:?}",
            self.phase
        );
        debug_assert_eq!(self.idle_since.is_none(), self.connections.open > 0);
    }
}

#[cfg(test)]
mod tests;
