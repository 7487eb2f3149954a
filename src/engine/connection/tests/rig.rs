//! One connection, its client, the backends that are dialled for it, and a loop around
//! them.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use mio::Token;

use super::kernel::{Peer, SEND_BUFFER, Wire, socket};
use crate::clock::Time;
use crate::engine::balancer::BackendSpec;
use crate::engine::buffers::Buffers;
use crate::engine::close_reason::CloseReason;
use crate::engine::connection::{Connection, Usage};
use crate::engine::context::{Connect, Context, Shared};
use crate::engine::counters::CountedAs;
use crate::engine::dial_log::DialLog;
use crate::engine::limits::AppLimits;
use crate::engine::log_limiter::LogLimiter;
use crate::engine::memory::{BufferSizes, MemoryBudget};
use crate::engine::port::Port;
use crate::engine::readiness::Interest;
use crate::engine::timers::Timers;
use crate::engine::transition::Transition;
use crate::rules::{Preread, Rules};

pub const LIMITS: AppLimits = AppLimits {
    hold_timeout: Duration::from_secs(60),
    connect_timeout: Duration::from_secs(2),
    abort_on_close: false,
};

/// The slot of the connection.
const KEY: usize = 7;

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    Client(Act),
    /// The backend that was dialled last does something.
    Backend(Act),
    /// Time passes.
    Wait(Duration),
    Gate(bool),
    /// So many backends are listed.
    Backends(u8),
    /// The app sleeps: the gate is shut, no backend is listed, and what does not count ends.
    Sleep,
}

/// What a peer does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Act {
    Send(&'static str),
    /// So many bytes.
    Bulk(usize),
    Fin,
    Reset,
    /// Resets amid a write, when our socket has taken so many bytes more.
    ResetAfter(usize),
    /// Takes so many bytes more.
    Read(usize),
    Accept,
}

/// Dials backends that are scripted.
struct Backends<'a> {
    dialled: &'a mut Vec<Peer>,
    window: usize,
    send_buffer: usize,
    /// What connect(2) says to the next ones; nothing at once if there is no more.
    refusals: &'a mut VecDeque<ErrorKind>,
}

impl Connect for Backends<'_> {
    type Socket = Wire;

    fn connect(&mut self, _: SocketAddr, _: BufferSizes, _: Token) -> io::Result<Wire> {
        if let Some(kind) = self.refusals.pop_front() {
            return Err(kind.into());
        }
        let (wire, peer) = socket(self.window, self.send_buffer, false);
        self.dialled.push(peer);
        Ok(wire)
    }

    fn set_interest(&mut self, socket: &mut Wire, _: Token, interest: Interest) -> io::Result<()> {
        socket.set_interest(interest);
        Ok(())
    }
}

pub struct Rig {
    connection: Option<Connection<Wire>>,
    pub shared: Shared,
    pub port: Port,
    pub client: Peer,
    pub dialled: Vec<Peer>,
    pub refusals: VecDeque<ErrorKind>,
    pub now: Time,
    /// The events of the backends come before those of the client.
    pub pods_first: bool,
    /// Whether other clients are accepted.
    pub accepts: bool,
    window: usize,
    /// What all numbers of bytes are multiplied by: some hundred bytes are no bulk.
    scale: usize,
    held: bool,
    queued: bool,
    awaits_gate: bool,
    pub close_reason: Option<CloseReason>,
    /// How many bytes were left to the kernel when the sockets were closed.
    pub orphaned: usize,
}

impl Rig {
    /// A connection that has just been accepted, with peers that take `window`
    /// bytes before they read.
    pub fn new(window: usize, backends: u8, gate_open: bool) -> Rig {
        let mut rig = Rig::accepted(window, backends, gate_open, Usage::Counted);
        rig.place();
        rig
    }

    /// The same with a connection that does not count as use of the app.
    pub fn excluded(window: usize, backends: u8, gate_open: bool) -> Rig {
        let mut rig = Rig::accepted(window, backends, gate_open, Usage::Uncounted);
        rig.place();
        rig
    }

    /// The same, not placed yet.
    pub fn accepted(window: usize, backends: u8, gate_open: bool, usage: Usage) -> Rig {
        Rig::scaled(1, window, backends, gate_open, usage)
    }

    /// The same with all numbers of bytes multiplied.
    pub fn scaled(scale: usize, window: usize, backends: u8, gate_open: bool, usage: Usage) -> Rig {
        let (wire, client) = socket(window * scale, SEND_BUFFER * scale, true);
        let mut rig = Rig {
            connection: Some(Connection::new(1, 0, wire, usage, Time::default())),
            shared: Shared {
                open: 1,
                buffers: Buffers::new(1, 1),
                memory: MemoryBudget::new(None, 1),
                timers: Timers::default(),
                dial_log: DialLog::default(),
                header_log: LogLimiter::default(),
            },
            port: Port::new(LIMITS, 0),
            client,
            dialled: Vec::new(),
            refusals: VecDeque::new(),
            now: Time::default(),
            pods_first: false,
            accepts: true,
            window,
            scale,
            held: false,
            queued: false,
            awaits_gate: false,
            close_reason: None,
            orphaned: 0,
        };
        rig.port.gate_open = gate_open;
        rig.list(backends);
        let counted_as = rig.counted_as();
        rig.port.counts.recount(CountedAs::Nothing, counted_as);
        rig
    }

    /// A connection that has just been accepted, and at which something is to be looked at.
    pub fn screened(rules: Rules, preread: Preread, gate_open: bool) -> Rig {
        let mut rig = Rig::accepted(1000, 1, gate_open, Usage::Uncounted);
        rig.port.rules = rules;
        rig.handle_and_apply(|connection, cx| connection.begin_preread(preread, cx));
        rig
    }

    /// Looks at the first bytes.
    pub fn preread(&mut self, preread: Preread) {
        self.handle_and_apply(|connection, cx| connection.begin_preread(preread, cx));
    }

    /// The same, while no backend is there.
    pub fn asleep(rules: Rules, preread: Preread) -> Rig {
        let mut rig = Rig::accepted(1000, 0, false, Usage::Uncounted);
        rig.port.rules = rules;
        rig.handle_and_apply(|connection, cx| connection.begin_preread(preread, cx));
        rig
    }

    /// Whether more is kept of the client than its socket.
    pub fn knows_client(&self) -> bool {
        let connection = self.connection.as_ref();
        connection.is_some_and(|it| it.client_info.is_some())
    }

    /// Holds the connection, or dials for one that waits for nothing.
    pub fn place(&mut self) {
        self.handle_and_apply(|connection, cx| match connection.counted_as() {
            CountedAs::Nothing => connection.dial(cx),
            CountedAs::Waiting | CountedAs::Resuming | CountedAs::Served => connection.hold(cx),
        });
    }

    /// Plays the steps, and after each of them what follows from it.
    pub fn play(&mut self, steps: &[Step]) {
        self.settle();
        for step in steps {
            self.take(*step);
            self.settle();
        }
    }

    /// Has something happen, and nothing follow from it yet.
    pub fn take(&mut self, step: Step) {
        match step {
            Step::Client(act) => perform(&self.client, act, self.scale),
            Step::Backend(act) => {
                if let Some(backend) = self.dialled.last() {
                    perform(backend, act, self.scale);
                }
            }
            Step::Wait(duration) => self.now = self.now + duration,
            Step::Gate(open) => self.port.gate_open = open,
            Step::Backends(count) => self.list(count),
            Step::Sleep => self.sleep(),
        }
    }

    fn sleep(&mut self) {
        self.port.gate_open = false;
        let accepts = self.accepts;
        if self.is_served_uncounted() {
            self.handle_and_apply(|connection, cx| connection.fall_asleep(accepts, cx));
        }
        self.list(0);
    }

    fn list(&mut self, count: u8) {
        let backend = |n: u8| BackendSpec {
            is_near: true,
            id: n.to_string(),
            addresses: vec![SocketAddr::from(([10, 0, 0, n], 80))],
        };
        let all: Vec<_> = (1..=count).map(backend).collect();
        if self.port.balancer.set(&all, self.now)
            && let Some(connection) = &mut self.connection
        {
            connection.end_backoff(KEY, &mut self.shared, self.now);
        }
    }

    /// Turns the loop until there is nothing to do at this time.
    pub fn settle(&mut self) {
        for _ in 0..1000 {
            if !self.turn() {
                return;
            }
        }
        panic!("the loop never rests: {:?}", self.client);
    }

    /// One turn of the loop; whether anything was done.
    fn turn(&mut self) -> bool {
        let mut busy = false;
        for is_backend in [self.pods_first, !self.pods_first] {
            busy |= if is_backend {
                self.backend_event()
            } else {
                self.client_event()
            };
        }
        while self.shared.timers.due(self.now).is_some() {
            busy = true;
            self.handle_and_apply(|connection, cx| connection.handle_timeout(cx));
        }
        self.port.update_readiness(self.now);
        if self.held && self.port.may_dial() {
            (busy, self.held) = (true, false);
            self.handle_and_apply(|connection, cx| connection.dial(cx));
        }
        if self.awaits_gate && self.port.gate_open {
            (busy, self.awaits_gate) = (true, false);
            self.handle_and_apply(|connection, cx| connection.pass_gate(cx));
        }
        if std::mem::take(&mut self.queued) {
            busy = true;
            self.handle_and_apply(|connection, cx| connection.serve(1 << 20, cx).1);
        }
        busy
    }

    fn client_event(&mut self) -> bool {
        let Some(event) = self.client.event() else {
            return false;
        };
        self.handle_and_apply(|connection, cx| connection.handle_client_event(event, cx));
        true
    }

    fn backend_event(&mut self) -> bool {
        // The others' sockets are closed, and events of closed sockets are not
        // reported.
        let Some(event) = self.dialled.last().and_then(Peer::event) else {
            return false;
        };
        self.handle_and_apply(|connection, cx| connection.handle_backend_event(event, cx));
        true
    }

    fn handle_and_apply(
        &mut self,
        handler: impl FnOnce(&mut Connection<Wire>, &mut Context<'_, Backends<'_>>) -> Transition,
    ) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        let mut cx = Context {
            now: self.now,
            key: KEY,
            shared: &mut self.shared,
            port: &mut self.port,
            connector: Backends {
                dialled: &mut self.dialled,
                window: self.window * self.scale,
                send_buffer: SEND_BUFFER * self.scale,
                refusals: &mut self.refusals,
            },
        };
        let before = connection.counted_as();
        let transition = handler(connection, &mut cx);
        let after = connection.counted_as();
        self.port.counts.recount(before, after);
        if before == CountedAs::Waiting && after == CountedAs::Nothing {
            self.held = false;
        }
        match transition {
            Transition::Stay | Transition::MovedMessage => {}
            Transition::Hold => self.held = true,
            Transition::Queue => self.queued = true,
            Transition::AwaitGate => self.awaits_gate = true,
            Transition::Close(reason) => self.close(reason),
        }
    }

    fn close(&mut self, reason: CloseReason) {
        if let Some(connection) = self.connection.take() {
            let before = connection.counted_as();
            self.port.counts.recount(before, CountedAs::Nothing);
            connection.close(KEY, &mut self.shared, &mut self.port, self.now);
            self.held = false;
            self.close_reason = Some(reason);
            let peers = self.dialled.iter().chain([&self.client]);
            self.orphaned = peers.map(Peer::orphaned).sum();
        }
    }

    pub fn is_served_uncounted(&self) -> bool {
        let connection = self.connection.as_ref();
        connection.is_some_and(Connection::is_served_uncounted)
    }

    /// What it means to the app; nothing once it has ended.
    pub fn counted_as(&self) -> CountedAs {
        let connection = self.connection.as_ref();
        connection.map_or(CountedAs::Nothing, Connection::counted_as)
    }

    /// Has the connection look at how long it may wait.
    pub fn check_hold_limit(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.check_hold_limit(KEY, &mut self.shared, self.now);
        }
    }

    /// Whether it is among those that wait for the gate or a backend.
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// How old the log says that it is.
    pub fn age(&self) -> Option<Duration> {
        Some(self.connection.as_ref()?.age(self.now))
    }

    pub fn is_open(&self) -> bool {
        self.connection.is_some()
    }

    /// What it has borrowed and not given back.
    pub fn leftovers(&self) -> Vec<&'static str> {
        let lent = [
            (!self.shared.buffers.has_block(), "a block"),
            (self.shared.buffers.lent_pipes() > 0, "a pipe"),
            (self.shared.timers.next().is_some(), "a deadline"),
            (self.port.balancer.in_use() > 0, "a backend"),
            (self.port.counts.detached > 0, "a count of detached ones"),
            (!self.port.backing_off.is_empty(), "a pause"),
        ];
        let left = lent.into_iter().filter(|(is_left, _)| *is_left);
        left.map(|(_, what)| what).collect()
    }

    /// What is wrong with the bytes that have arrived so far.
    pub fn wrong_bytes(&self) -> Option<&'static str> {
        let sent = self.client.sent();
        let served = |backend: &&Peer| !backend.received().is_empty();
        let came = self.client.received();
        let is_of_last = |backend: &Peer| backend.sent().starts_with(&came);
        if !self
            .dialled
            .iter()
            .all(|backend| sent.starts_with(&backend.received()))
        {
            Some("a backend has got what the client has not sent")
        } else if self.dialled.iter().filter(served).count() > 1 {
            Some("two backends have got the client's bytes")
        } else if !came.is_empty() && !self.dialled.last().is_some_and(is_of_last) {
            Some("the client has got what the backend has not sent")
        } else {
            None
        }
    }

    /// How it stands: what the client sees, what each backend sees, and how it ended.
    pub fn story(&self) -> String {
        let backends: Vec<String> = self.dialled.iter().map(Peer::view).collect();
        let end = match &self.close_reason {
            Some(reason) => reason.to_string(),
            None => self.phase(),
        };
        format!(
            "client: {} | backends: {} | {end}",
            self.client.view(),
            backends.join(", ")
        )
    }

    fn phase(&self) -> String {
        let connection = self.connection.as_ref();
        connection.map_or_else(String::new, |c| format!("open, {}", c.phase()))
    }
}

fn perform(peer: &Peer, act: Act, scale: usize) {
    match act {
        Act::Send(text) => peer.send(text.as_bytes()),
        Act::Bulk(len) => peer.send_bulk(len * scale),
        Act::Fin => peer.fin(),
        Act::Reset => peer.reset(),
        Act::ResetAfter(len) => peer.reset_after(len * scale),
        Act::Read(len) => peer.read(len * scale),
        Act::Accept => peer.accept(),
    }
}
