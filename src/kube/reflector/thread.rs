//! The thread of a reflector: makes the calls that a [`Core`] decides on, one at a
//! time, and passes on what the core has to say.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use log::Level;
use ureq::BodyReader;

use super::super::answers::{self, answer};
use super::super::client::{Calls, Opened};
use super::super::list_watch::{self, Answer, Event};
use super::super::pages::PAGE_BODY;
use super::super::paths;
use super::super::relist::RelistSignal;
use super::super::text::printable;
use crate::clock::{Clock, Time};
use crate::cluster::Report;
use crate::supervisor::{self, ThreadPanic};

/// The largest object that is read by itself, in bytes: etcd takes none above 1.5 MiB.
const OBJECT_BODY: u64 = 4 * 1024 * 1024;
/// What is read at a time, in bytes.
const READ: usize = 16 * 1024;
/// How long a watch may be silent before its connection is taken for dead. The
/// server sends a bookmark each minute (`defaultBookmarkFrequency` in its
/// cacher).
const SILENCE: Duration = Duration::from_secs(75);

/// A reflector without its calls.
pub(in crate::kube) trait Core {
    /// What it reports.
    type Report;

    /// Takes in what has happened; returns what to do next. The first event, also after
    /// a panic, is [`Event::Relist`].
    fn handle(&mut self, event: Event<'_>, now: Time) -> Action;

    /// When [`Event::Timeout`] is due, if the action was to wait.
    fn poll_timeout(&self) -> Option<Time>;

    /// Whether the proxy drains, so that nothing is worth a warning.
    fn set_draining(&mut self, is_draining: bool);

    /// What there is to be said, in order.
    fn outputs(&mut self) -> Vec<Output<Self::Report>>;
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::kube) enum Action {
    /// Read the object at that path.
    Get(String),
    /// Read the page of a list at that path.
    List(String),
    /// Open the watch at that path.
    Watch(String),
    /// Read from the watch that is open.
    Read,
    /// Nothing before [`Core::poll_timeout`].
    Wait,
}

impl Action {
    /// What the watcher of the list at `path` has done next.
    pub(in crate::kube) fn of(next: list_watch::Action, path: &str) -> Action {
        match next {
            list_watch::Action::List { limit, token } => {
                Action::List(paths::page(path, limit, &token))
            }
            list_watch::Action::Watch { version, seconds } => {
                Action::Watch(paths::watch(path, &version, seconds))
            }
            list_watch::Action::Read => Action::Read,
            list_watch::Action::Wait => Action::Wait,
        }
    }
}

/// Something to be passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::kube) enum Output<R = Report> {
    /// To the daemon.
    Report(R),
    /// To the log.
    Log(Level, String),
}

/// A reflector.
pub(in crate::kube) struct Reflector<C, R> {
    core: C,
    signal: Arc<RelistSignal>,
    clock: Clock,
    report: R,
    pub(super) silence: Duration,
    /// The watch that is open.
    stream: Option<BodyReader<'static>>,
}

/// The seed of a core's jitter. Two proxies that start at the same time differ in their
/// address space.
pub(in crate::kube) fn seed(signal: &Arc<RelistSignal>, clock: Clock) -> u64 {
    clock().since(Time::default()).as_nanos() as u64 ^ Arc::as_ptr(signal) as u64
}

impl<C: Core + Send + 'static, R: Fn(C::Report) + Send + 'static> Reflector<C, R> {
    pub(in crate::kube) fn new(
        core: C,
        signal: Arc<RelistSignal>,
        clock: Clock,
        report: R,
    ) -> Self {
        Reflector {
            core,
            signal,
            clock,
            report,
            silence: SILENCE,
            stream: None,
        }
    }

    /// Starts its thread, which ends when the signal is closed.
    ///
    /// # Errors
    /// Only if no thread can be started.
    pub(in crate::kube) fn spawn(
        mut self,
        name: &'static str,
        panicked: impl Fn(ThreadPanic) + Send + 'static,
    ) -> io::Result<Arc<RelistSignal>> {
        let (signal, clock) = (self.signal.clone(), self.clock);
        supervisor::spawn(name, clock, move || self.run(), panicked)?;
        Ok(signal)
    }

    fn run(&mut self) {
        let mut action = self.handle(Event::Relist);
        while !self.signal.is_closed() {
            if action != Action::Read {
                self.stream = None;
            }
            action = self.execute(action);
        }
    }

    fn execute(&mut self, action: Action) -> Action {
        let signal = self.signal.clone();
        // In this order: a request to list again either cancels these very calls or
        // is seen here.
        let calls = signal.client.calls();
        if let Some(signalled) = signal.take() {
            return self.handle(signalled.into());
        }
        let mut buffer = [0; READ];
        let event = match action {
            Action::Get(path) => Event::Object(answer(calls.get(&path, OBJECT_BODY))),
            Action::List(path) => Event::Page(answer(calls.list(&path, PAGE_BODY))),
            Action::Watch(path) => Event::Opened(self.open(&calls, &path)),
            Action::Read => self.read(&mut buffer),
            Action::Wait => {
                signal.wait(self.core.poll_timeout(), (self.clock)());
                Event::Timeout
            }
        };
        if signal.take_request() {
            return self.handle(Event::Relist);
        }
        if event.is_from_server() {
            signal.received((self.clock)());
        }
        self.handle(event)
    }

    fn open(&mut self, calls: &Calls<'_>, path: &str) -> Answer<()> {
        match calls.watch(path, self.silence) {
            Ok(Opened::Stream(stream)) => {
                self.stream = Some(stream);
                Answer::Ok(())
            }
            Ok(Opened::Refused(reply)) => answers::refused(&reply),
            Err(failure) => failure.into(),
        }
    }

    fn read<'a>(&mut self, buffer: &'a mut [u8]) -> Event<'a> {
        let read = match &mut self.stream {
            Some(stream) => stream.read(buffer),
            None => Ok(0),
        };
        match read {
            Ok(0) => Event::Ended,
            Ok(count) => Event::Bytes(&buffer[..count]),
            Err(cause) => Event::Broken(printable(&cause.to_string())),
        }
    }

    fn handle(&mut self, event: Event<'_>) -> Action {
        self.core.set_draining(self.signal.is_draining());
        let action = self.core.handle(event, (self.clock)());
        for output in self.core.outputs() {
            match output {
                Output::Report(report) => (self.report)(report),
                Output::Log(level, text) => log::log!(level, "{text}"),
            }
        }
        action
    }
}
