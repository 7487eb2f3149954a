//! Requests on their way to the API server and back.

use std::time::Duration;

use zpa::clock::Time;
use zpa::cluster::{Outcome, Report, Request};

use crate::api::{Job, Step};
use crate::app::{AppWorld, Event};
use crate::deployment::{Permissions, Who, answered, asked};
use crate::plan::Mutant;
use crate::process::State;
use crate::trouble::{Fate, Restriction, Trouble, Window};
use crate::world::Pid;

impl AppWorld<'_> {
    /// The API threads of a process look what is to be done.
    pub(crate) fn work_on_requests(&mut self, pid: Pid) {
        let process = &mut self.processes[pid];
        if process.state != State::Running {
            return;
        }
        match self.app.seats[pid].threads.step(self.now) {
            Step::Idle => {}
            Step::LookAt(at) => self.put(at, Event::Threads(pid)),
            Step::Send { ticket, job } => {
                self.send(pid, ticket, job);
                // It may have to be sent once more.
                self.work_on_requests(pid);
            }
        }
    }

    fn send(&mut self, pid: Pid, ticket: u64, (id, request): Job) {
        let trouble = self.trouble_for(pid);
        let fate = Fate::draw(trouble, &mut self.app.seats[pid].rng);
        self.trace(|| {
            format!(
                "p{pid} asks #{id}: {}{}",
                asked(&request),
                trouble.map_or(String::new(), |t| format!(" ({t:?})"))
            )
        });
        self.count(pid, id, &request);
        if trouble.is_some() {
            let end = fate.received.max(fate.executed.unwrap_or_default());
            let alone = !self.is_hit_with_all();
            self.app.oracle.troubled(pid, self.now + end, alone);
        }
        let received = fate.instead.is_none().then_some(fate.received);
        if let Some(outcome) = fate.instead {
            self.later(
                fate.received,
                Event::Reply(pid, ticket, request.clone(), outcome),
            );
        }
        if let Some(executed) = fate.executed {
            let back = received.map(|received| received.saturating_sub(executed));
            self.later(executed, Event::Execute(pid, ticket, request, back));
        }
        self.app.seats[pid].ids.insert(ticket, id);
    }

    fn count(&mut self, pid: Pid, id: u64, request: &Request) {
        let times = if self.plan.mutant == Mutant::Eager {
            8
        } else {
            1
        };
        self.app.totals.requests += times;
        self.app.oracle.sent(pid, id, request, self.now);
        for _ in 1..times {
            self.app.oracle.counted(pid, "again".to_owned(), self.now);
        }
    }

    /// What a request of that process meets with, if it is sent now.
    pub(crate) fn trouble_for(&mut self, pid: Pid) -> Option<Trouble> {
        let slot = self.processes[pid].slot;
        let rng = &mut self.app.seats[pid].rng;
        let mut windows = self.app.windows.iter();
        match windows.find(|window| window.hits(slot, self.now)) {
            Some(window) => Some(window.trouble),
            None if rng.chance(self.app.plan.noise) => Some(rng.pick(&Trouble::ALL)),
            None => None,
        }
    }

    /// What the service account of that place may do.
    pub(crate) fn permissions_of(&self, slot: usize, now: Time) -> Permissions {
        let restrictions = self.app.restrictions.iter().filter(|it| it.hits(slot, now));
        restrictions.fold(self.app.plan.role, |permissions, it| {
            permissions.and(it.permissions)
        })
    }

    fn is_hit_with_all(&self) -> bool {
        let with_all = |window: &Window| window.slot.is_none() && window.hits(0, self.now);
        self.app.windows.iter().any(with_all)
    }

    /// A request has reached the server; the sender may be dead by now.
    pub(crate) fn execute(
        &mut self,
        pid: Pid,
        ticket: u64,
        request: Request,
        back: Option<Duration>,
    ) {
        let permissions = self.permissions_of(self.processes[pid].slot, self.now);
        let by = Who::Proxy(pid);
        let outcome =
            self.scale_with(|deployment, now| deployment.execute(&request, permissions, by, now));
        self.trace(|| {
            format!(
                "   server: {} of p{pid}: {}",
                asked(&request),
                answered(&outcome)
            )
        });
        if let Some(back) = back {
            self.later(back, Event::Reply(pid, ticket, request, outcome));
        }
    }

    /// A proxy receives the outcome of its request; a stopped one receives it when it
    /// goes on.
    pub(crate) fn reply(&mut self, pid: Pid, ticket: u64, request: Request, outcome: Outcome) {
        let process = &self.processes[pid];
        let seat = &mut self.app.seats[pid];
        match process.state {
            State::Dead => return,
            State::Stopped => {
                let reply = Event::Reply(pid, ticket, request, outcome);
                return seat.held_back.push(reply);
            }
            State::Running => {}
        }
        let (id, slot) = (seat.ids.remove(&ticket), process.slot);
        if outcome == Outcome::Forbidden && self.plan.flaws.confirms_at_once {
            self.app.restrictions.push(Restriction {
                from: self.now,
                until: self.now + Duration::from_secs(300),
                slot: Some(slot),
                permissions: Permissions::without(&request),
            });
        }
        let seat = &mut self.app.seats[pid];
        if let Some(outcome) = seat.threads.done(ticket, outcome)
            && let Some(id) = id
        {
            let rate = process.clock.rate;
            seat.mailbox.push(Report::Reply {
                id,
                outcome: self.plan.flaws.read_by_a_proxy(outcome.clone()),
            });
            self.app
                .oracle
                .received(pid, id, &request, &outcome, rate, self.now);
            self.trace(|| format!("p{pid} receives #{id}: {}", answered(&outcome)));
            self.wake(pid);
        }
        self.work_on_requests(pid);
    }
}
