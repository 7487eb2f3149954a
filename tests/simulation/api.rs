//! The API threads of one proxy, simulated: the rules of `kube::scheduler`, without
//! threads. One request at a time, the newest unsent one wins, and something
//! urgent overtakes a read, which then gets no reply. A write without a reply for a
//! second is sent once more, beside the first one.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use zpa::accept_probe::Candidate;
use zpa::clock::Time;
use zpa::cluster::{Event, Outcome, Request};
use zpa::daemon::interface::Api;

/// How long something urgent waits for a read that is out.
const SPARE_AFTER: Duration = Duration::from_millis(4);

/// How long anything else must be out before what waits supersedes it.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(1);

/// A request with its number.
pub type Job = (u64, Request);

/// What a proxy has asked for since the world looked last.
#[derive(Default)]
pub struct Outbox {
    /// The requests, in order.
    pub requests: Vec<Job>,
    /// Whether the endpoints have to be listed afresh.
    pub refresh: bool,
}

/// The proxy's end: what it asks for is left in the outbox.
pub struct SimApi(pub Rc<RefCell<Outbox>>);

impl Api for SimApi {
    fn request(&mut self, id: u64, request: Request) {
        self.0.borrow_mut().requests.push((id, request));
    }

    fn relist(&mut self) {
        self.0.borrow_mut().refresh = true;
    }

    fn relist_unless_newer(&mut self, _seen: Time) -> bool {
        self.0.borrow_mut().refresh = true;
        true
    }

    fn set_waiting(&mut self, _is_waiting: bool) {}

    fn probe(&mut self, _: Vec<Candidate>) {}

    fn record_event(&mut self, _: Event) {}

    fn set_draining(&mut self) {}
}

struct Out {
    ticket: u64,
    urgent: bool,
    since: Time,
    /// What is to be sent once more if there is no reply.
    hedge: Option<Job>,
}

/// How long a write is out before it is sent on the other connection as well.
const REPEATED_AFTER: Duration = Duration::from_secs(1);
const UNKNOWN: Outcome = Outcome::Unknown { retry_after: None };

/// What the threads do next.
pub enum Step {
    /// Nothing before something happens.
    Idle,
    /// Send this; the ticket names the reply.
    Send { ticket: u64, job: Job },
    /// Look again then.
    LookAt(Time),
}

/// The world's end: the threads.
#[derive(Default)]
pub struct Threads {
    unsent: Option<Job>,
    out: Option<Out>,
    /// The ticket of the same write on the other connection.
    twin: Option<u64>,
    /// Whether one of two has failed that may have been applied.
    is_unknown: bool,
    tickets: u64,
}

impl Threads {
    /// Leaves a request, in place of one that is still unsent.
    pub fn put(&mut self, job: Job) {
        self.unsent = Some(job);
    }

    /// What to do now.
    pub fn step(&mut self, now: Time) -> Step {
        let Some((_, request)) = &self.unsent else {
            return self.hedge(now);
        };
        let urgent = !request.is_read();
        if let Some(out) = &self.out {
            let pause = if urgent && !out.urgent {
                SPARE_AFTER
            } else {
                GIVEN_UP_AFTER
            };
            let at = out.since + pause;
            if now < at {
                return Step::LookAt(at);
            }
        }
        let Some(job) = self.unsent.take() else {
            return Step::Idle;
        };
        self.tickets += 1;
        (self.twin, self.is_unknown) = (None, false);
        let hedged = job.1.hedged();
        self.out = Some(Out {
            ticket: self.tickets,
            urgent,
            since: now,
            hedge: hedged.map(|request| (job.0, request)),
        });
        Step::Send {
            ticket: self.tickets,
            job,
        }
    }

    /// Sends a write on the other connection as well.
    fn hedge(&mut self, now: Time) -> Step {
        let Some(out) = self.out.as_mut().filter(|out| out.hedge.is_some()) else {
            return Step::Idle;
        };
        let due = out.since + REPEATED_AFTER;
        if now < due {
            return Step::LookAt(due);
        }
        let Some(job) = out.hedge.take() else {
            return Step::Idle;
        };
        self.tickets += 1;
        self.twin = Some(self.tickets);
        Step::Send {
            ticket: self.tickets,
            job,
        }
    }

    /// A reply has come in; what is reported of it, if anybody still waits for it.
    pub fn done(&mut self, ticket: u64, outcome: Outcome) -> Option<Outcome> {
        let first = self.out.as_ref()?.ticket;
        let twin = self.twin.filter(|_| ticket == first);
        let other = twin.or((self.twin == Some(ticket)).then_some(first));
        let is_shown = matches!(outcome, Outcome::Scale(_));
        if let Some(other) = other {
            let is_over = is_shown || outcome == Outcome::Conflict;
            if is_over {
                (self.out, self.twin) = (None, None);
                return Some(if is_shown { outcome } else { UNKNOWN });
            }
            self.is_unknown = matches!(outcome, Outcome::Unknown { .. });
            self.twin = None;
            if let Some(out) = &mut self.out {
                out.ticket = other;
            }
            return None;
        }
        self.out.take_if(|out| out.ticket == ticket)?;
        let is_unknown = std::mem::take(&mut self.is_unknown) && !is_shown;
        Some(if is_unknown { UNKNOWN } else { outcome })
    }
}
