//! The reflector of the Service's endpoints: list, watch, and list again. Each
//! round of that comes to an `end`, and how it ended says what to do next. What
//! it has learnt on the way is reported, and logged, as far as it is `news`.

mod end;
mod status;

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use log::Level;
use ureq::BodyReader;

use self::end::{End, Refused, checked, parsed, refused};
use self::status::StatusReporter;
use super::client::{Calls, Client, Opened, Reply};
use super::endpoints::{Applied, IpFamily, PortChoice, Selection, Source, Store};
use super::lines::{Lines, TooLong};
use super::objects::{self, EndpointSlice, Service, WatchEvent};
use super::pages::{self, Listed, Page};
use super::relist::RelistSignal;
use super::service::{self, Resolved};
use super::text::printable;
use super::throttle::Throttle;
use super::{Config, Report, paths};
use crate::backoff::{self, Backoff, Random};
use crate::clock::{Clock, Time};
use crate::cluster::{Permission, PortRef};
use crate::supervisor::{self, ThreadPanic};

/// The largest Service, in bytes.
const SERVICE_BODY: u64 = 4 * 1024 * 1024;
/// The longest line of a watch, in bytes: a full slice of a hundred endpoints
/// is 40 KiB, and etcd takes no object above 1.5 MiB.
const LONGEST_LINE: usize = 2 * 1024 * 1024;
/// What is read at a time, in bytes.
const READ: usize = 16 * 1024;
/// How long the server is asked to keep a watch open, less up to 30 s. Its own
/// shortest default is 30 minutes, but what is between may have less patience.
const WATCH: Duration = Duration::from_secs(300);
/// How long a watch may be silent before its connection is taken for dead. The
/// server sends a bookmark each minute (`defaultBookmarkFrequency` in its
/// cacher).
const SILENCE: Duration = Duration::from_secs(75);
/// A watch that lasted so long was a good one: what comes next comes at once.
const STEADY: Duration = Duration::from_secs(10);
/// How long to leave the server alone after it has refused.
const REFUSED: Duration = Duration::from_secs(30);

/// Starts the reflector.
pub(super) fn spawn(
    config: Config,
    client: Client,
    clock: Clock,
    report: impl Fn(Report) + Send + 'static,
    panicked: impl Fn(ThreadPanic) + Send + 'static,
) -> io::Result<Arc<RelistSignal>> {
    let relist = Arc::new(RelistSignal::new(client));
    // Two proxies that start at the same time differ in their address space.
    let seed = clock().since(Time::default()).as_nanos() as u64 ^ Arc::as_ptr(&relist) as u64;
    let reflector = Reflector::new(config, relist, clock, report, seed);
    start(reflector, panicked)
}

fn start<R: Fn(Report) + Send + 'static>(
    mut reflector: Reflector<R>,
    panicked: impl Fn(ThreadPanic) + Send + 'static,
) -> io::Result<Arc<RelistSignal>> {
    let relist = reflector.relist.clone();
    let clock = reflector.clock;
    // It begins with a list, whatever it was at when it panicked.
    supervisor::spawn("zpa-watch", clock, move || reflector.run(), panicked)?;
    Ok(relist)
}

struct Reflector<R> {
    relist: Arc<RelistSignal>,
    clock: Clock,
    status: StatusReporter<R>,
    silence: Duration,
    service: String,
    port: Option<PortRef>,
    service_path: String,
    slices_path: String,
    endpoints_path: String,
    store: Store,
    selection: Selection,
    /// What the server says to a Service that is not there; None if it is, or
    /// if that is not for us to know.
    absent: Option<String>,
    /// Between lists that fail.
    list_backoff: Backoff,
    /// Between watches that do not last.
    watch_backoff: Backoff,
    random: Random,
    /// Lists because of what a watch showed.
    relist_throttle: Throttle,
}

impl<R: Fn(Report)> Reflector<R> {
    fn new(config: Config, relist: Arc<RelistSignal>, clock: Clock, report: R, seed: u64) -> Self {
        let (namespace, service) = (&config.namespace, &config.service);
        Reflector {
            relist,
            clock,
            status: StatusReporter::new(&config, report),
            silence: SILENCE,
            service_path: paths::service(namespace, service),
            slices_path: paths::slices(namespace, service),
            endpoints_path: paths::endpoints(namespace, service),
            store: Store::default(),
            selection: Selection {
                port: PortChoice::Only,
                first_family: IpFamily::Ipv4,
            },
            absent: None,
            service: config.service,
            port: config.port,
            list_backoff: Backoff::new(seed),
            watch_backoff: Backoff::new(seed.rotate_left(20)),
            random: Random::new(seed.rotate_left(40)),
            relist_throttle: Throttle::default(),
        }
    }

    fn run(&mut self) {
        let relist = self.relist.clone();
        while !relist.is_closed() {
            match self.list_and_watch_endpoints() {
                _ if relist.is_requested() => {}
                End::Wanted => {}
                End::Later(wait, why) => {
                    self.status.lost(Level::Warn, "busy", &why);
                    relist.wait_in_full(wait);
                }
                End::Refused(Refused { why, lacking }) => {
                    self.status.refused(lacking, &why, None);
                    self.status.lost(Level::Error, "refused", &why);
                    relist.wait_in_full(REFUSED);
                }
                End::Failed(why) => {
                    self.status.lost(Level::Warn, "failed", &why);
                    relist.wait_unless_requested(self.list_backoff.pause(backoff::LONGEST));
                }
            }
        }
    }

    /// The Service, a list, and watches from there for as long as they go well.
    fn list_and_watch_endpoints(&mut self) -> End {
        self.relist.take();
        if let Err(end) = self.read_service() {
            return end;
        }
        let slices = self.slices_path.clone();
        match self.list_and_watch::<EndpointSlice>(&slices) {
            End::Refused(refused) => self.list_and_watch_without_slices(&refused),
            other => other,
        }
    }

    fn list_and_watch_without_slices(&mut self, refused: &Refused) -> End {
        self.status.slices_refused(&refused.why);
        let endpoints = self.endpoints_path.clone();
        self.list_and_watch::<objects::Endpoints>(&endpoints)
    }

    /// Finds the port, and the way round. The Service may not be there or not
    /// be for us to read: then the port must do without.
    fn read_service(&mut self) -> Result<(), End> {
        let relist = self.relist.clone();
        let reply = relist
            .client
            .calls()
            .get(&self.service_path, SERVICE_BODY)?;
        let absent = (reply.status == 404).then(|| reply.explanation());
        let (selection, fallback) = match checked(reply, Permission::GetService) {
            Ok(reply) => {
                self.absent = None;
                let resolved = self.resolve(&reply)?;
                (resolved.selection, resolved.cluster_ip)
            }
            Err(End::Refused(refused)) => {
                self.absent = absent;
                (self.port_without_service(refused)?, None)
            }
            // What the Service said last time will do.
            Err(End::Failed(_)) if self.status.knows_service() => return Ok(()),
            Err(other) => return Err(other),
        };
        self.selection = selection;
        self.status.fallback(fallback);
        Ok(())
    }

    fn resolve(&mut self, reply: &Reply) -> Result<Resolved, End> {
        let service: Service = parsed(&reply.body)?;
        let resolved =
            service::resolve(&self.service, &service, self.port.as_ref()).map_err(|why| {
                End::Refused(Refused {
                    why: printable(&why),
                    lacking: None,
                })
            })?;
        self.status.service_read();
        Ok(resolved)
    }

    fn port_without_service(&mut self, refused: Refused) -> Result<Selection, End> {
        let Refused { why, lacking } = refused;
        let Some(port) = service::unread(self.port.as_ref()) else {
            let cure = match self.absent {
                Some(_) => "name one that exists (--service, ZPA_SERVICE)",
                None => "allow it, or give the port by its name",
            };
            let why = format!(
                "the Service cannot be read ({why}), which the number of its port needs: {cure}"
            );
            return Err(End::Refused(Refused { why, lacking }));
        };
        if self.absent.is_none() {
            self.status.service_refused(lacking, &why);
        }
        Ok(port)
    }

    fn list_and_watch<T: Source>(&mut self, path: &str) -> End {
        let relist = self.relist.clone();
        let mut version = match self.list::<T>(&relist.client, path) {
            Ok(version) => version,
            Err(end) => return end,
        };
        loop {
            // In this order: a ring from here on either is seen by the check
            // or cancels these very calls.
            let calls = relist.client.calls();
            if relist.is_requested() {
                return End::Wanted;
            }
            if let Err(end) = self.watch::<T>(&calls, path, &mut version) {
                return end;
            }
        }
    }

    /// Lists; returns the version to watch from.
    fn list<T: Source>(&mut self, client: &Client, path: &str) -> Result<String, End> {
        let mut listed = Store::default();
        let ended = pages::list(&client.calls(), path, |page: Page<T>| {
            if page.is_first {
                listed = Store::default();
            }
            listed.add(page.items.into_iter().map(T::into_object).collect());
        })?;
        let version = match ended {
            Listed::Whole { version } => version,
            Listed::Refused(reply) => return Err(refused(&reply, T::PERMISSION)),
        };
        self.store = listed;
        self.list_backoff.reset();
        self.status.listed(self.store.pods(&self.selection));
        // Before anybody takes the list for one of what is wanted.
        self.status
            .check_service(self.absent.as_deref(), self.store.is_empty());
        self.status.found::<T>();
        let missing = self.store.port_missing(&self.selection.port);
        self.status.check_port(missing);
        Ok(version)
    }

    /// One watch. Ok when the next may follow it, Err when a list must.
    fn watch<T: Source>(
        &mut self,
        calls: &Calls<'_>,
        path: &str,
        version: &mut String,
    ) -> Result<(), End> {
        let jitter = (WATCH / 10).mul_f64(self.random.fraction());
        let path = paths::watch(path, version, (WATCH - jitter).as_secs());
        let mut since = None;
        let ended = self.stream::<T>(calls, &path, version, &mut since);
        let why = match &ended {
            Ok(()) => "its time is up",
            Err(End::Failed(why)) => why.as_str(),
            Err(_) => return ended,
        };
        log::debug!("the watch of {} has ended: {why}", T::RESOURCE);
        if self.relist.is_requested() {
            return Err(End::Wanted);
        }
        if since.is_some_and(|since| (self.clock)().since(since) >= STEADY) {
            self.watch_backoff.reset();
        } else {
            self.relist
                .wait_unless_requested(self.watch_backoff.pause(backoff::LONGEST));
        }
        ended.map_err(|_| End::Wanted)
    }

    /// Takes in one watch to its end; `since` is when it began.
    fn stream<T: Source>(
        &mut self,
        calls: &Calls<'_>,
        path: &str,
        version: &mut String,
        since: &mut Option<Time>,
    ) -> Result<(), End> {
        let mut body = match calls.watch(path, self.silence)? {
            Opened::Stream(body) => body,
            Opened::Refused(reply) => {
                let reply = checked(reply, T::PERMISSION)?;
                return Err(End::Failed(reply.explanation()));
            }
        };
        *since = Some((self.clock)());
        self.events::<T>(&mut body, version)
    }

    fn events<T: Source>(
        &mut self,
        body: &mut BodyReader,
        version: &mut String,
    ) -> Result<(), End> {
        let mut lines = Lines::new(LONGEST_LINE);
        let mut buffer = [0; READ];
        loop {
            match body.read(&mut buffer) {
                Ok(0) if lines.cut() => return Err(End::Failed("cut in mid-line".to_owned())),
                Ok(0) => return Ok(()),
                Ok(count) => {
                    lines.feed(&buffer[..count], |line| self.event::<T>(line, version))?;
                }
                Err(cause) => return Err(End::Failed(printable(&cause.to_string()))),
            }
        }
    }

    fn event<T: Source>(&mut self, line: &[u8], version: &mut String) -> Result<(), End> {
        let event: WatchEvent<T> = parsed(line)?;
        let appeared = match self.store.apply(event, version) {
            Applied::Done => false,
            Applied::Appeared => true,
            Applied::Failed(status) => return Err(End::Failed(status.explanation())),
        };
        self.status.seen(self.store.pods(&self.selection));
        let missing = self.store.port_missing(&self.selection.port);
        // The Service may have been changed or made anew: read it again.
        let needs_relist = appeared || missing.is_some() || self.status.has_no_service();
        if needs_relist && self.relist_throttle.allow((self.clock)()) {
            return Err(End::Wanted);
        }
        Ok(())
    }
}

impl From<TooLong> for End {
    fn from(_: TooLong) -> Self {
        End::Failed(format!("a line of more than {LONGEST_LINE} bytes"))
    }
}

#[cfg(test)]
mod tests;
