//! The reflector of the Service's endpoints: the thread that makes the calls that
//! its [`core`](Core) decides on, and passes on what the core has to say.

mod core;
mod status;

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use ureq::BodyReader;

use self::core::{Action, Core, Event};
use self::status::Output;
use super::answers;
use super::client::{Client, Opened};
use super::endpoints::Source;
use super::objects::{self, EndpointSlice};
use super::pages::{self, Page};
use super::relist::{RelistSignal, Signalled};
use super::text::printable;
use super::watcher::{self, Answer};
use super::{Config, Report, paths};
use crate::clock::{Clock, Time};
use crate::cluster::AddressSource;
use crate::supervisor::{self, ThreadPanic};

/// The largest Service, in bytes.
const SERVICE_BODY: u64 = 4 * 1024 * 1024;
/// What is read at a time, in bytes.
const READ: usize = 16 * 1024;
/// How long a watch may be silent before its connection is taken for dead. The
/// server sends a bookmark each minute (`defaultBookmarkFrequency` in its
/// cacher).
const SILENCE: Duration = Duration::from_secs(75);

/// Starts the reflector.
pub(super) fn spawn(
    config: Config,
    client: Client,
    clock: Clock,
    report: impl Fn(Report) + Send + 'static,
    panicked: impl Fn(ThreadPanic) + Send + 'static,
) -> io::Result<Arc<RelistSignal>> {
    let signal = Arc::new(RelistSignal::new(client));
    // Two proxies that start at the same time differ in their address space.
    let seed = clock().since(Time::default()).as_nanos() as u64 ^ Arc::as_ptr(&signal) as u64;
    start(
        Reflector::new(&config, signal, clock, report, seed),
        panicked,
    )
}

fn start<R: Fn(Report) + Send + 'static>(
    mut reflector: Reflector<R>,
    panicked: impl Fn(ThreadPanic) + Send + 'static,
) -> io::Result<Arc<RelistSignal>> {
    let signal = reflector.signal.clone();
    let clock = reflector.clock;
    supervisor::spawn("zpa-watch", clock, move || reflector.run(), panicked)?;
    Ok(signal)
}

struct Reflector<R> {
    core: Core,
    signal: Arc<RelistSignal>,
    clock: Clock,
    report: R,
    silence: Duration,
    service_path: String,
    slices_path: String,
    endpoints_path: String,
    /// The watch that is open.
    stream: Option<BodyReader<'static>>,
}

impl<R: Fn(Report)> Reflector<R> {
    fn new(config: &Config, signal: Arc<RelistSignal>, clock: Clock, report: R, seed: u64) -> Self {
        let (namespace, service) = (&config.namespace, &config.service);
        Reflector {
            core: Core::new(config, seed, clock()),
            signal,
            clock,
            report,
            silence: SILENCE,
            service_path: paths::service(namespace, service),
            slices_path: paths::slices(namespace, service),
            endpoints_path: paths::endpoints(namespace, service),
            stream: None,
        }
    }

    fn run(&mut self) {
        let mut action = self.core.restart((self.clock)());
        while !self.signal.is_closed() {
            if action != Action::Read {
                self.stream = None;
            }
            action = self.execute(action);
            self.pass_on();
        }
    }

    fn execute(&mut self, action: Action) -> Action {
        let signal = self.signal.clone();
        // In this order: a request to list again either cancels these very calls or
        // is seen here.
        let calls = signal.client.calls();
        if let Some(signalled) = signal.take() {
            return self.signalled(signalled);
        }
        let event = match action {
            Action::GetService => {
                let reply = calls.get(&self.service_path, SERVICE_BODY);
                Event::Service(reply.map_or_else(Answer::from, Answer::from))
            }
            Action::List(AddressSource::EndpointSlices) => {
                let path = self.slices_path.clone();
                Event::Watcher(watcher::Event::Listed(answers::listed(pages::list(
                    &calls,
                    &path,
                    |page: Page<EndpointSlice>| self.page(page),
                ))))
            }
            Action::List(AddressSource::Endpoints) => {
                let path = self.endpoints_path.clone();
                Event::Watcher(watcher::Event::Listed(answers::listed(pages::list(
                    &calls,
                    &path,
                    |page: Page<objects::Endpoints>| self.page(page),
                ))))
            }
            Action::Watch {
                source,
                version,
                seconds,
            } => {
                let path = paths::watch(self.list_path(source), &version, seconds);
                Event::Watcher(watcher::Event::Opened(
                    match calls.watch(&path, self.silence) {
                        Ok(Opened::Stream(stream)) => {
                            self.stream = Some(stream);
                            Answer::Ok(())
                        }
                        Ok(Opened::Refused(reply)) => answers::refused(&reply),
                        Err(failure) => failure.into(),
                    },
                ))
            }
            Action::Read => return self.read(),
            Action::Wait => {
                signal.wait(self.core.poll_timeout(), (self.clock)());
                Event::Timeout
            }
        };
        if signal.take_request() {
            self.signalled(Signalled::Relist)
        } else {
            self.handle(event)
        }
    }

    /// Hands a page of a list over.
    fn page<T: Source>(&mut self, page: Page<T>) {
        // A long list is alive while its pages come.
        self.signal.received((self.clock)());
        let items = page.items.into_iter().map(T::into_object).collect();
        let is_first = page.is_first;
        self.handle(Event::Watcher(watcher::Event::Page { items, is_first }));
    }

    fn read(&mut self) -> Action {
        let mut buffer = [0; READ];
        let read = match &mut self.stream {
            Some(stream) => stream.read(&mut buffer),
            None => Ok(0),
        };
        let event = match read {
            Ok(0) => watcher::Event::Ended,
            Ok(count) => {
                self.signal.received((self.clock)());
                watcher::Event::Bytes(&buffer[..count])
            }
            Err(_) if self.signal.take_request() => watcher::Event::Relist,
            Err(cause) => watcher::Event::Broken(printable(&cause.to_string())),
        };
        self.handle(Event::Watcher(event))
    }

    fn signalled(&mut self, signalled: Signalled) -> Action {
        self.handle(Event::Watcher(match signalled {
            Signalled::Relist => watcher::Event::Relist,
            Signalled::Waiting(is_waiting) => watcher::Event::Waiting(is_waiting),
        }))
    }

    fn handle(&mut self, event: Event<'_>) -> Action {
        self.core.set_draining(self.signal.is_draining());
        self.core.handle(event, (self.clock)())
    }

    fn pass_on(&mut self) {
        for output in self.core.outputs() {
            match output {
                Output::Report(report) => (self.report)(report),
                Output::Log(level, text) => log::log!(level, "{text}"),
            }
        }
    }

    fn list_path(&self, source: AddressSource) -> &str {
        match source {
            AddressSource::EndpointSlices => &self.slices_path,
            AddressSource::Endpoints => &self.endpoints_path,
        }
    }
}

#[cfg(test)]
mod tests;
