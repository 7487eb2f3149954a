//! The API threads of one proxy, simulated: the rules of `kube::scheduler`, without
//! threads. One request at a time, the newest unsent one wins, and something
//! urgent overtakes a read, which then gets no reply.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use zpa::clock::Time;
use zpa::cluster::Request;
use zpa::daemon::interface::Api;

/// How long something urgent waits for a read that is out.
const PATIENCE: Duration = Duration::from_millis(4);

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

    fn relist_unless_newer(&mut self, _seen: Time) {
        self.0.borrow_mut().refresh = true;
    }

    fn set_waiting(&mut self, _is_waiting: bool) {}

    fn set_draining(&mut self) {}
}

struct Out {
    ticket: u64,
    urgent: bool,
    since: Time,
}

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
            return Step::Idle;
        };
        let urgent = !request.is_read();
        if let Some(out) = &self.out {
            let patience = if urgent && !out.urgent {
                PATIENCE
            } else {
                GIVEN_UP_AFTER
            };
            let patience = out.since + patience;
            if now < patience {
                return Step::LookAt(patience);
            }
        }
        let Some(job) = self.unsent.take() else {
            return Step::Idle;
        };
        self.tickets += 1;
        self.out = Some(Out {
            ticket: self.tickets,
            urgent,
            since: now,
        });
        Step::Send {
            ticket: self.tickets,
            job,
        }
    }

    /// A reply has come in; whether anybody still waits for it.
    pub fn done(&mut self, ticket: u64) -> bool {
        self.out.take_if(|out| out.ticket == ticket).is_some()
    }
}
