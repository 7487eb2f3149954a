//! The composition: what the engine counts and the API threads report goes to
//! the policy, and what the policy decides goes to the engine and the API
//! threads. No room but this one knows the others, and none but this one reads
//! the clock.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use log::{info, warn};

use crate::clock::{Clock, Time};
use crate::duration;
use crate::engine::{Counts, Engine, Limits};
use crate::kube::{self, Access};
use crate::policy::pods::Pods;
use crate::policy::{self, Change, Command, Config, Connections, Phase, Policy};
use crate::resolve::Resolver;
use crate::settings::Settings;
use crate::sys::{self, Signals};

/// Descriptors that connections must leave to everybody else: the API
/// connections, the epoll instance, the credentials files, the log.
const RESERVED_DESCRIPTORS: u64 = 64;

/// Descriptors that one connection takes: the client's and the pod's.
const DESCRIPTORS_PER_CONNECTION: u64 = 2;

/// With a target set, how long to wait for the first word of the API server
/// before connections are let through to it all the same.
const BLIND_AFTER: Duration = Duration::from_secs(2);

/// How long the endpoints may stay as they are while somebody waits for a pod,
/// before they are listed afresh.
const SILENCE: Duration = policy::POLL_STARTING;

/// How often connections that were closed at the hold limit are reported.
const LOSS_REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// How a run ended that could start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Told to end, and every connection has ended before the deadline.
    Drained,
    /// Told to end, and connections had to be reset.
    Cut,
}

/// Runs until told to end by a signal.
///
/// # Errors
/// See [`Error`].
pub fn run(settings: Settings, clock: Clock) -> Result<Exit, Error> {
    let mut daemon = Daemon::start(settings, clock).map_err(Error::Start)?;
    daemon.serve().map_err(Error::Loop)
}

/// Why the proxy does not run.
#[derive(Debug)]
pub enum Error {
    /// It cannot start: an address is in use, credentials are not there. The
    /// text says what, why, and what to do.
    Start(String),
    /// epoll itself has failed.
    Loop(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Start(why) => f.write_str(why),
            Error::Loop(why) => write!(f, "the event loop has failed: {why}"),
        }
    }
}

impl std::error::Error for Error {}

/// What comes in from other threads.
enum Message {
    Api(kube::Report),
    Target(Vec<SocketAddr>),
}

/// How far the end has come.
#[derive(Clone, Copy)]
enum Drain {
    No,
    /// Still accepting: not everybody knows yet that we are leaving.
    Delay {
        until: Time,
    },
    Finish {
        until: Time,
    },
}

struct Daemon {
    clock: Clock,
    settings: Settings,
    name: String,
    engine: Engine,
    policy: Policy,
    pods: Pods,
    /// When the endpoints were last heard of, if ever.
    pods_heard: Option<Time>,
    /// The addresses of the target, if one is set.
    target: Vec<SocketAddr>,
    /// Until when the engine's addresses are right; `None` if only news can
    /// change them.
    backends_until: Option<Time>,
    api: kube::Handle,
    resolver: Option<Resolver>,
    inbox: Receiver<Message>,
    signals: Signals,
    started: Time,
    drain: Drain,
    losses: Losses,
    failed_dials: u64,
}

/// What was told of connections that were closed at the hold limit.
#[derive(Default)]
struct Losses {
    told: u64,
    next: Time,
}

impl Daemon {
    fn start(settings: Settings, clock: Clock) -> Result<Daemon, String> {
        // Before any thread starts: threads inherit what is blocked.
        let signals = Signals::new().map_err(|e| format!("cannot wait for signals: {e}"))?;
        let (access, namespace) = discover(&settings)?;
        let engine = bind(&settings)?;
        let waker = engine.waker().and_then(|waker| {
            engine.watch(&signals)?;
            Ok(Arc::new(waker))
        });
        let waker = waker.map_err(|e| format!("cannot set up the event loop: {e}"))?;
        let (sender, inbox) = mpsc::channel();
        let post = move |message| {
            // Nobody listens any more once the program is about to end.
            if sender.send(message).is_ok() {
                let _ = waker.wake();
            }
        };
        let resolver = settings.target.clone().map(|target| {
            let post = post.clone();
            Resolver::spawn(target, move |found| post(Message::Target(found)))
        });
        let resolver = resolver.transpose().map_err(no_thread)?;
        let name = format!("{namespace}/{}", settings.deployment);
        let config = kube::Config {
            access,
            namespace,
            deployment: settings.deployment.clone(),
            service: settings.service.clone(),
            port: settings.port.clone(),
        };
        let api = kube::spawn(config, clock, move |report| post(Message::Api(report)));
        let started = clock();
        let policy = Config {
            idle_ttl: settings.idle_ttl,
            wake_replicas: settings.wake_replicas.get(),
        };
        let seed = started.since(Time::default()).as_nanos() as u64 ^ u64::from(std::process::id());
        Ok(Daemon {
            clock,
            name,
            engine,
            policy: Policy::new(policy, seed, started),
            pods: Pods::default(),
            pods_heard: None,
            target: Vec::new(),
            backends_until: Some(started + BLIND_AFTER),
            api: api.map_err(no_thread)?,
            resolver,
            inbox,
            signals,
            started,
            drain: Drain::No,
            losses: Losses::default(),
            failed_dials: 0,
            settings,
        })
    }

    fn serve(&mut self) -> io::Result<Exit> {
        info!("{}", self.greeting());
        let mut now = (self.clock)();
        loop {
            let timeout = self.next_deadline().map(|deadline| deadline.since(now));
            let wakeups = self.engine.wait(timeout, now)?;
            now = (self.clock)();
            if wakeups.source
                && let Some(exit) = self.handle_signals(now)
            {
                return Ok(exit);
            }
            self.turn(now);
            if let Some(exit) = self.drain(now) {
                return Ok(exit);
            }
        }
    }

    fn greeting(&self) -> String {
        let listen = self.engine.local_addr().unwrap_or(self.settings.listen);
        let through = match &self.settings.target {
            Some(target) => format!("{target}"),
            None => format!("the pods of Service {}", self.settings.service),
        };
        format!(
            "zpa {} listens on {listen} for {}, through {through}; to sleep after {} without a \
             connection",
            env!("CARGO_PKG_VERSION"),
            self.name,
            duration::display(self.settings.idle_ttl),
        )
    }

    // --- One turn ---

    fn turn(&mut self, now: Time) {
        // Connections that are here already count before an answer that may
        // put the app to sleep.
        self.engine.dispatch(now);
        self.count(now);
        while let Ok(message) = self.inbox.try_recv() {
            self.handle_message(message, now);
            self.update_backends(now);
        }
        self.update_backends(now);
        self.policy.tick(now);
        self.obey(now);
        self.engine.set_gate(self.policy.gate_open());
        self.engine.release(now);
    }

    /// Tells the policy how many connections there are, and everybody what
    /// the failed ones have shown.
    fn count(&mut self, now: Time) {
        let counts = self.engine.counts();
        let Counts {
            accepted,
            open,
            waiting,
            ..
        } = counts;
        self.policy.connections(
            Connections {
                accepted,
                open,
                waiting,
            },
            now,
        );
        if counts.failed_dials != self.failed_dials {
            self.failed_dials = counts.failed_dials;
            self.api.refresh();
            if let Some(resolver) = &self.resolver {
                resolver.refresh();
            }
        }
        self.report_losses(counts.held_too_long, now);
    }

    fn handle_message(&mut self, message: Message, now: Time) {
        match message {
            Message::Target(addresses) => {
                self.target = addresses;
                self.backends_until = Some(now);
            }
            Message::Api(kube::Report::Reply { id, outcome }) => {
                self.policy.reply(id, outcome, now);
                self.doubt_silence(now);
            }
            Message::Api(kube::Report::Pods(pods)) => {
                self.pods_heard = Some(now);
                self.pods.update(pods, now);
                self.backends_until = Some(now);
            }
            Message::Api(kube::Report::Fallback(address)) => self.engine.set_fallback(address),
            Message::Api(kube::Report::Following(_)) => {}
        }
        self.obey(now);
    }

    /// A pod that starts is in the slices within a second or two, long before
    /// it is ready. If somebody waits and nothing was heard for longer, the
    /// watch may hang on a connection that is dead.
    fn doubt_silence(&mut self, now: Time) {
        if let Phase::Starting { since } = *self.policy.phase()
            && now.since(self.pods_heard.unwrap_or_default().max(since)) >= SILENCE
        {
            self.api.refresh();
        }
    }

    /// Tells the engine which addresses there are, and the policy whether
    /// there are any.
    fn update_backends(&mut self, now: Time) {
        if self.backends_until.is_none_or(|until| now < until) {
            return;
        }
        let pods = self.pods.dialable(now);
        let addresses = match self.settings.target {
            None => pods,
            Some(_) if !pods.is_empty() || self.is_blind(now) => self.target.clone(),
            Some(_) => Vec::new(),
        };
        self.engine.set_backends(&addresses, now);
        self.policy.dialable(!addresses.is_empty(), now);
        self.backends_until = self.pods.next_deadline(now).or(self.blind_at(now));
    }

    /// Whether nothing was ever heard of the endpoints, so that a target has
    /// to be trusted to be there.
    fn is_blind(&self, now: Time) -> bool {
        self.pods_heard.is_none() && self.blind_at(now).is_none()
    }

    fn blind_at(&self, now: Time) -> Option<Time> {
        Some(self.started + BLIND_AFTER).filter(|&at| at > now)
    }

    /// Carries out what the policy has decided.
    fn obey(&mut self, now: Time) {
        while let Some(command) = self.policy.poll_command() {
            match command {
                Command::Ask { id, request } => self.api.request(id, request),
                Command::CondemnPods => {
                    self.pods.condemn(now);
                    self.backends_until = Some(now);
                }
                Command::RevivePods => {
                    self.pods.revive(now);
                    self.backends_until = Some(now);
                }
                Command::Say(change) => info!("{}", describe(&self.name, change)),
            }
        }
    }

    fn report_losses(&mut self, held_too_long: u64, now: Time) {
        let lost = held_too_long - self.losses.told;
        if lost == 0 || now < self.losses.next {
            return;
        }
        self.losses = Losses {
            told: held_too_long,
            next: now + LOSS_REPORT_INTERVAL,
        };
        let limit = duration::display(self.settings.hold_timeout);
        warn!(
            "{}: no pod has taken {lost} connection(s) in {limit}, they were reset",
            self.name
        );
    }

    fn next_deadline(&self) -> Option<Time> {
        let drain = match self.drain {
            Drain::No => None,
            Drain::Delay { until } | Drain::Finish { until } => Some(until),
        };
        let losses = self.engine.counts().held_too_long > self.losses.told;
        [
            self.engine.next_deadline(),
            self.policy.next_deadline(),
            self.backends_until,
            losses.then_some(self.losses.next),
            drain,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    // --- The end ---

    /// The first signal starts the drain, the second ends it.
    fn handle_signals(&mut self, now: Time) -> Option<Exit> {
        while let Some(signal) = self.signals.next() {
            if !matches!(self.drain, Drain::No) {
                warn!(
                    "{signal} again: ending at once, {} connections are cut",
                    self.open()
                );
                self.engine.reset_all();
                return Some(Exit::Cut);
            }
            let delay = self.settings.drain_delay;
            info!(
                "{signal}: accepting for another {}, then up to {} to finish",
                duration::display(delay),
                duration::display(self.settings.drain_timeout)
            );
            self.drain = Drain::Delay { until: now + delay };
        }
        None
    }

    fn drain(&mut self, now: Time) -> Option<Exit> {
        if let Drain::Delay { until } = self.drain
            && now >= until
        {
            self.engine.stop_accepting(now);
            self.drain = Drain::Finish {
                until: now + self.settings.drain_timeout,
            };
        }
        let Drain::Finish { until } = self.drain else {
            return None;
        };
        if self.open() == 0 {
            info!("drained: every connection has ended");
            return Some(Exit::Drained);
        }
        if now < until {
            return None;
        }
        warn!(
            "the drain deadline has passed: {} connections are cut",
            self.open()
        );
        self.engine.reset_all();
        Some(Exit::Cut)
    }

    fn open(&self) -> usize {
        self.engine.counts().open
    }
}

fn discover(settings: &Settings) -> Result<(Access, String), String> {
    let found = Access::discover(
        settings.kubeconfig.as_deref(),
        settings.api_server.as_ref(),
        &settings.credentials,
        |name| std::env::var(name).ok(),
    );
    let (access, default_namespace) = found.map_err(|e| e.to_string())?;
    let namespace = settings.namespace.clone().or(default_namespace).ok_or(
        "--namespace (ZPA_NAMESPACE): not set, and the credentials name none; use e.g. default",
    )?;
    Ok((access, namespace))
}

fn bind(settings: &Settings) -> Result<Engine, String> {
    let descriptors = sys::raise_descriptor_limit()
        .map_err(|e| format!("cannot read the limit of open files: {e}"))?;
    let limits = Limits {
        max_connections: connection_limit(settings.max_connections, descriptors),
        hold_timeout: settings.hold_timeout,
        connect_timeout: settings.connect_timeout,
    };
    Engine::new(settings.listen, limits)
        .map_err(|e| format!("--listen (ZPA_LISTEN) {}: {e}", settings.listen))
}

/// How many connections `descriptors` allow, at most what was asked for.
fn connection_limit(wanted: Option<usize>, descriptors: u64) -> usize {
    let possible = descriptors.saturating_sub(RESERVED_DESCRIPTORS) / DESCRIPTORS_PER_CONNECTION;
    let possible = usize::try_from(possible).unwrap_or(usize::MAX).max(1);
    if let Some(wanted) = wanted.filter(|&wanted| wanted > possible) {
        warn!(
            "--max-connections (ZPA_MAX_CONNECTIONS) {wanted}: the limit of {descriptors} open \
             files allows {possible}; raise it (ulimit -Hn, LimitNOFILE) to have more"
        );
    }
    wanted.unwrap_or(possible).min(possible)
}

fn no_thread(error: io::Error) -> String {
    format!("cannot start a thread: {error}")
}

fn describe(name: &str, change: Change) -> String {
    match change {
        Change::FoundAsleep => format!("{name} is asleep: 0 replicas"),
        Change::FoundAwake { replicas } => format!("{name} is awake: {replicas} replicas"),
        Change::Waking { waiting } => format!("waking {name}: {waiting} connection(s) waiting"),
        Change::ScaledUp { replicas } => format!("{name} scaled from 0 to {replicas}"),
        Change::Woke { took, held } => {
            let took = duration::display(round_to_ms(took));
            format!("{name} has a pod ready after {took}: {held} connection(s) held until now")
        }
        Change::Slept { idle } => {
            let idle = duration::display(round_to_ms(idle));
            format!("{name} scaled to 0 after {idle} without a connection")
        }
    }
}

/// Nobody reads a log for the microseconds of a cold start.
fn round_to_ms(time: Duration) -> Duration {
    Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_connection_limit_leaves_descriptors_to_the_others() {
        for (label, wanted, descriptors, expected) in [
            ("as many as there is room for", None, 1_000_000, 499_968),
            ("fewer if that is asked for", Some(100), 1_000_000, 100),
            ("no more than there is room for", Some(5000), 1024, 480),
            ("one at the very least", None, 3, 1),
        ] {
            assert_eq!(connection_limit(wanted, descriptors), expected, "{label}");
        }
    }
}
