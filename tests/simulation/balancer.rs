//! [`Balancer`]: the choice of a pod for a simulated connection: the rules of the engine's balancer
//! (`src/engine/balancer.rs`, which is private) for pods of one address.
//!
//! Left out are the slow start, the jitter of pauses, and errors of the machine.
//! What is known of an address is kept for ever, since a simulated address is never
//! given to another pod.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use zpa::clock::Time;

/// How long one address may take to answer.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long it may if it has failed and another pod is there.
pub const TRIAL_TIMEOUT: Duration = Duration::from_millis(250);
/// How long an address may owe an answer before others are preferred to it.
pub const TRIAL_AFTER: Duration = Duration::from_millis(250);
/// How long an address rests after its first failure, and at most.
const FIRST_REST: Duration = Duration::from_secs(1);
const MAX_REST: Duration = Duration::from_secs(30);

/// What the connections there are do at one address.
#[derive(Clone, Copy, Debug, Default)]
pub struct Use {
    /// How many there are.
    pub connections: usize,
    /// When the oldest dial began that is not answered.
    pub unanswered: Option<Time>,
}

/// What is known of one address.
#[derive(Default)]
struct Memory {
    /// When it was picked last, as a number that grows with each pick.
    turn: u64,
    /// How often it has failed since it last answered.
    failures: u32,
    rests_until: Time,
}

/// The choice of a pod.
#[derive(Default)]
pub struct Balancer {
    /// A mutant that ignores what has failed. A pod that takes no connection has
    /// the fewest, so that this one prefers it.
    forgets: bool,
    memories: BTreeMap<SocketAddr, Memory>,
    turns: u64,
}

impl Balancer {
    /// Knows no address; `forgets` makes it a mutant.
    pub fn new(forgets: bool) -> Self {
        Balancer {
            forgets,
            ..Balancer::default()
        }
    }

    /// The address out of `untried` that is dialled next, and how long it may take
    /// to answer. `listed` are all, with their use.
    pub fn pick(
        &mut self,
        untried: &[SocketAddr],
        listed: &BTreeMap<SocketAddr, Use>,
        now: Time,
    ) -> Option<(SocketAddr, Duration)> {
        let rank = |address: &SocketAddr| (listed[address].connections, self.turn(*address));
        let is_ready = |address: &SocketAddr| self.is_ready(*address, listed[address], now);
        let ready = untried.iter().copied().filter(is_ready).min_by_key(rank);
        let first_rested = |address: &SocketAddr| self.rests_until(*address);
        let picked = ready.or_else(|| untried.iter().copied().min_by_key(first_rested))?;
        let has_others = listed.keys().any(|a| *a != picked && is_ready(a));
        let is_trial = !self.forgets && self.failures(picked) > 0;
        self.turns += 1;
        self.memories.entry(picked).or_default().turn = self.turns;
        let timeout = if is_trial && has_others {
            TRIAL_TIMEOUT
        } else {
            CONNECT_TIMEOUT
        };
        Some((picked, timeout))
    }

    /// The address has taken a connection.
    pub fn succeeded(&mut self, address: SocketAddr) {
        let memory = self.memories.entry(address).or_default();
        (memory.failures, memory.rests_until) = (0, Time::default());
    }

    /// It has refused one, not answered, or broken off before the first byte.
    pub fn failed(&mut self, address: SocketAddr, now: Time) {
        let memory = self.memories.entry(address).or_default();
        let pause = FIRST_REST * (1 << memory.failures.min(5));
        memory.failures += 1;
        memory.rests_until = now + pause.min(MAX_REST);
    }

    /// Whether it does not rest, and owes no answer for long. One that has failed
    /// is tried by one connection at a time.
    fn is_ready(&self, address: SocketAddr, used: Use, now: Time) -> bool {
        if self.forgets {
            return true;
        }
        let suspect_after = match self.failures(address) {
            0 => TRIAL_AFTER,
            _ => Duration::ZERO,
        };
        let is_suspect = used.unanswered.is_some_and(|at| now >= at + suspect_after);
        now >= self.rests_until(address) && !is_suspect
    }

    fn turn(&self, address: SocketAddr) -> u64 {
        self.memories.get(&address).map_or(0, |it| it.turn)
    }

    fn failures(&self, address: SocketAddr) -> u32 {
        self.memories.get(&address).map_or(0, |it| it.failures)
    }

    fn rests_until(&self, address: SocketAddr) -> Time {
        let memory = self.memories.get(&address);
        memory.map_or(Time::default(), |it| it.rests_until)
    }
}
