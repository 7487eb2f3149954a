//! What the tests share: a [`Fixture`] plays the parts of the engine and of the
//! API server, and knows the words in which a test says what is asked of it and
//! what it answers.

use std::time::Duration;

use crate::clock::Time;
use crate::cluster::{
    LeaseStore, LeaseToken, Observation, Outcome, Renewal, Request, ResourceVersion, Scale,
};
use crate::policy::{Change, Command, Config, Connections, Phase, Policy};

pub(super) const TTL: Duration = Duration::from_secs(60);

/// How long the policy's clock can be put forward without anything due.
pub(super) const MOMENT: Duration = Duration::from_millis(1);

pub(super) struct Fixture {
    pub(super) policy: Policy,
    pub(super) now: Time,
    pub(super) connections: Connections,
    /// How often this proxy has renewed with success.
    pub(super) renewed: u32,
}

pub(super) fn read() -> Request {
    Request::Read
}

pub(super) fn write(replicas: u32, version: &str) -> Request {
    Request::WriteScale {
        replicas,
        guard: ResourceVersion(version.to_owned()),
    }
}

/// A renewal while there are connections.
pub(super) fn renew() -> Request {
    renewal(true, None)
}

/// The renewal of the last close.
pub(super) fn renew_once_more() -> Request {
    renewal(false, None)
}

/// The renewal before a sleep.
pub(super) fn renew_at(version: &str) -> Request {
    renewal(false, Some(ResourceVersion(version.to_owned())))
}

fn renewal(in_use: bool, guard: Option<ResourceVersion>) -> Request {
    Request::RenewLease(Renewal {
        nonce: 0,
        ttl: TTL,
        in_use,
        previous_replicas: None,
        guard,
        store: LeaseStore::Status,
    })
}

/// The Deployment as a read shows it, with the token that all tests begin with.
pub(super) fn scale(replicas: u32, version: &str) -> Outcome {
    with_token(replicas, version, "of old")
}

/// The scale alone, as where the Deployment may not be read.
pub(super) fn without_token(replicas: u32, version: &str) -> Outcome {
    Outcome::Scale(Scale::of(replicas, version))
}

/// The Deployment as it is after somebody has renewed.
pub(super) fn with_token(replicas: u32, version: &str, token: &str) -> Outcome {
    Outcome::Scale(Scale {
        lease_token: Some(LeaseToken(token.to_owned())),
        ..Scale::of(replicas, version)
    })
}

pub(super) const LOST: Outcome = Outcome::Unknown { retry_after: None };

impl Fixture {
    /// At the start of the program.
    pub(super) fn start() -> Self {
        Fixture::start_with(Config {
            idle_ttl: TTL,
            wake_replicas: 2,
            ..Config::default()
        })
    }

    pub(super) fn start_with(config: Config) -> Self {
        let now = Time::from_millis(1_000_000);
        let mut policy = Policy::new(config, 1, now);
        policy.handle_timeout(now);
        Fixture {
            policy,
            now,
            connections: Connections::default(),
            renewed: 0,
        }
    }

    /// The first read has shown one replica, and its pod is ready.
    pub(super) fn awake() -> Self {
        let mut fixture = Fixture::start();
        fixture.answers(scale(1, "1"));
        fixture.pods(true);
        fixture.commands();
        fixture
    }

    /// The first read has shown zero replicas.
    pub(super) fn asleep() -> Self {
        let mut fixture = Fixture::start();
        fixture.answers(scale(0, "7"));
        fixture.commands();
        fixture
    }

    /// The idle TTL has passed, and the write of zero is on its way.
    pub(super) fn scaling_down() -> Self {
        let mut fixture = Fixture::awake();
        fixture.passes_quietly(TTL);
        fixture.commands();
        fixture.answers(scale(1, "5"));
        fixture.announces_that_nobody_is_there("5", "6");
        fixture
    }

    /// The renewal before a sleep is on its way and succeeds, so that zero is written.
    pub(super) fn announces_that_nobody_is_there(&mut self, before: &str, after: &str) {
        assert_eq!(self.asked(), [renew_at(before)]);
        self.renewed += 1;
        let token = format!("ours {}", self.renewed);
        self.answers(with_token(1, after, &token));
        assert_eq!(self.policy.phase, Phase::ScalingDown);
        assert_eq!(self.asked(), [write(0, after)]);
    }

    /// A connection has come while asleep, and the wake is on its way.
    pub(super) fn waking() -> Self {
        let mut fixture = Fixture::asleep();
        fixture.opens(1);
        assert_eq!(fixture.asked(), [write(2, "7")]);
        fixture
    }

    /// How long it is until something is due.
    pub(super) fn pause(&self) -> Duration {
        self.policy.poll_timeout().unwrap().since(self.now)
    }

    pub(super) fn passes(&mut self, time: Duration) {
        self.now = self.now + time;
        self.policy.handle_timeout(self.now);
    }

    /// Time passes, and nothing that is asked is answered.
    pub(super) fn passes_unanswered(&mut self, time: Duration) {
        let end = self.now + time;
        let due = |fixture: &Fixture| {
            let next = fixture.policy.poll_timeout();
            next.filter(|&at| fixture.now < at && at < end)
        };
        while let Some(next) = due(self) {
            self.passes(next.since(self.now));
        }
        self.passes(end.since(self.now));
    }

    /// Time passes, and whatever is asked is answered as the last time.
    pub(super) fn passes_quietly(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = self.policy.poll_timeout().filter(|&t| t < end) {
            self.now = next;
            self.policy.handle_timeout(next);
            self.answers_as_before();
        }
        self.now = end;
        self.policy.handle_timeout(end);
    }

    /// A read shows what the last one did, a renewal succeeds.
    pub(super) fn answers_as_before(&mut self) {
        let seen = self.policy.seen.clone();
        let replicas = seen.as_ref().map_or(0, |seen| seen.replicas);
        let token = seen.and_then(|seen| seen.lease_token);
        match self.in_flight() {
            Some(Request::RenewLease(_)) => self.grants(replicas),
            Some(Request::Read | Request::ReadScale) => self.answers(match token {
                Some(token) => with_token(replicas, "1", &token.0),
                None => without_token(replicas, "1"),
            }),
            _ => {}
        }
    }

    pub(super) fn answers_as_before_if_asked(&mut self) {
        if self.in_flight().is_some() {
            self.answers_as_before();
        }
    }

    /// The renewal that is on its way succeeds.
    pub(super) fn grants(&mut self, replicas: u32) {
        assert!(matches!(self.in_flight(), Some(Request::RenewLease(_))));
        self.renewed += 1;
        let token = format!("ours {}", self.renewed);
        self.answers(with_token(replicas, "1", &token));
    }

    pub(super) fn in_flight(&self) -> Option<Request> {
        self.policy
            .in_flight
            .as_ref()
            .map(|asked| asked.request.clone())
    }

    pub(super) fn gate(&self) -> bool {
        self.policy.gate_open(self.now)
    }

    /// Connections come and wait for a pod.
    pub(super) fn opens(&mut self, count: usize) {
        self.connections.uses += count as u64;
        self.connections.open += count;
        self.connections.waiting += count;
        self.policy.update_connections(self.connections, self.now);
    }

    /// All that wait are handed over.
    pub(super) fn hands_over(&mut self) {
        self.connections.waiting = 0;
        self.policy.update_connections(self.connections, self.now);
    }

    pub(super) fn closes_all(&mut self) {
        self.connections.open = 0;
        self.connections.waiting = 0;
        self.policy.update_connections(self.connections, self.now);
    }

    pub(super) fn pods(&mut self, dialable: bool) {
        self.policy.set_dialable(dialable, self.now);
    }

    pub(super) fn answers(&mut self, outcome: Outcome) {
        let id = self
            .policy
            .in_flight
            .as_ref()
            .expect("something was asked")
            .id;
        self.policy.reply(id, outcome, self.now);
    }

    /// The watch shows what a read would be answered with.
    pub(super) fn observes(&mut self, shown: Outcome) {
        let Outcome::Scale(scale) = shown else {
            panic!("a watch shows no {shown:?}");
        };
        let observation = Observation::Scale(scale);
        self.policy.observe(observation, self.now);
    }

    pub(super) fn commands(&mut self) -> Vec<Command> {
        std::iter::from_fn(|| self.policy.poll_command()).collect()
    }

    /// What was asked since the last look.
    pub(super) fn asked(&mut self) -> Vec<Request> {
        let asked = |command| match command {
            Command::Send {
                request: Request::RenewLease(renewal),
                ..
            } => Some(Request::RenewLease(Renewal {
                nonce: 0,
                ..renewal
            })),
            Command::Send { request, .. } => Some(request),
            _ => None,
        };
        self.commands().into_iter().filter_map(asked).collect()
    }

    pub(super) fn changes(&mut self) -> Vec<Change> {
        let change = |command| match command {
            Command::Log(change) => Some(change),
            _ => None,
        };
        self.commands().into_iter().filter_map(change).collect()
    }
}
