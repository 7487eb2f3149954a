//! The [`Hub`]: what the apps of a process share on their way to the API server, and the
//! [`Handle`] of each of them.

use std::io;
use std::sync::Arc;

use super::access::Access;
use super::client::Client;
use super::credentials::Credentials;
use super::executor::{self, RequestQueue};
use super::relist::RelistSignal;
use super::requests::Requests;
use super::target_client::{TargetClient, Writer};
use super::{AppConfig, reflector, target_reflector};
use crate::clock::{Clock, Time, WallClock};
use crate::cluster::{Report, Request};
use crate::supervisor::ThreadPanic;
use crate::workload::Dialect;

/// What holds for all apps.
pub struct HubConfig {
    /// The way to the API server.
    pub access: Access,
    /// Who we are in our renewals: the pod's name. Any text will do; what
    /// no pod's name has becomes a hyphen.
    pub writer: String,
    /// What time a renewal says that it is.
    pub wall_clock: WallClock,
    /// What is listed and watched.
    pub scope: Scope,
}

/// What is listed and watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Each object by its name, which a Role with `resourceNames` allows: for one app.
    Named,
    /// All objects of a namespace together: for any number of apps.
    Namespace,
}

/// The way to the API server that the apps of a process share.
pub struct Hub {
    credentials: Arc<Credentials>,
    requests: Arc<Requests>,
    writer: Writer,
    clock: Clock,
}

impl Hub {
    /// Reads the credentials.
    ///
    /// # Errors
    /// Why they cannot be used.
    pub fn new(config: HubConfig, clock: Clock) -> io::Result<Hub> {
        let HubConfig {
            access,
            writer,
            wall_clock,
            scope: _,
        } = config;
        let credentials = Credentials::read(access, clock, wall_clock).map_err(io::Error::other)?;
        Ok(Hub {
            credentials: Arc::new(credentials),
            requests: Arc::default(),
            writer: Writer::new(&writer, wall_clock),
            clock,
        })
    }

    /// Adds an app. Its reports come from the API threads, until the handle is dropped and
    /// for a moment after that.
    ///
    /// Never blocks.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub fn add(
        &self,
        config: AppConfig,
        report: impl Fn(Report) + Send + Sync + Clone + 'static,
    ) -> io::Result<Handle> {
        let clock = self.clock;
        let client = || Client::new(self.credentials.clone(), self.requests.clone());
        let target = TargetClient::new(&config, self.writer.clone());
        let queue = executor::spawn(target, [client(), client()], clock, &report)?;
        let relist = reflector::spawn(
            &config,
            client(),
            clock,
            report.clone(),
            panicked(report.clone()),
        );
        let relist = relist.inspect_err(|_| queue.close())?;
        let mut handle = Handle {
            queue,
            relist,
            watch: None,
            clock,
        };
        if watches_target(&config) {
            let target = handle.queue.target().clone();
            let panicked = panicked(report.clone());
            let watch = target_reflector::spawn(target, client(), clock, report, panicked)?;
            handle.queue.set_watch(watch.clone());
            handle.watch = Some(watch);
        }
        Ok(handle)
    }

    /// The requests that were made for all apps since the start.
    pub fn requests(&self) -> &Requests {
        &self.requests
    }
}

fn panicked(report: impl Fn(Report)) -> impl Fn(ThreadPanic) {
    move |panic| report(Report::Panicked(panic))
}

/// Whether the scaled object is watched. Not with the flags of an ancestor: what a
/// replica of it says, maybe on a ConfigMap, is read together with the object
/// (`old_replica`), so that polling goes on as before.
fn watches_target(config: &AppConfig) -> bool {
    config.dialect == Dialect::Zpa
}

/// An app's way to the API threads. What they do for it ends when it is dropped, after
/// the request that is in progress.
pub struct Handle {
    queue: Arc<RequestQueue>,
    relist: Arc<RelistSignal>,
    /// Of the reflector of the scaled object, if there is one.
    watch: Option<Arc<RelistSignal>>,
    clock: Clock,
}

impl Handle {
    /// Has `request` executed, at once or after the one that is out; its
    /// [`Report::Reply`] carries `id`.
    ///
    /// Never blocks. A request that is still unsent is replaced and gets no
    /// reply, nor does a read that something urgent has to supersede.
    pub fn request(&self, id: u64, request: Request) {
        self.queue.put(id, request);
    }

    /// Has the endpoints listed afresh at once.
    ///
    /// Never blocks. At most once a second, and less often while it goes on; a
    /// call that comes too soon does nothing.
    pub fn relist(&self) {
        self.relist.request((self.clock)());
    }

    /// Has the endpoints listed afresh, because what was known of them at `seen` has
    /// proved wrong. Does nothing if the watch has shown something since: it is
    /// alive, and a list would show no more.
    pub fn relist_unless_newer(&self, seen: Time) {
        self.relist.request_unless_newer(seen, (self.clock)());
    }

    /// Says whether somebody waits for an endpoint. While that is so, no pause after a
    /// failure is longer than a second, nor any that the server asks for than five.
    pub fn set_waiting(&self, is_waiting: bool) {
        self.relist.set_waiting(is_waiting);
    }

    /// The proxy drains. When everything is deleted at once, the Role and the objects
    /// go before the proxy does: from now on refusals (401, 403), objects that are not
    /// found, and whatever keeps endpoints from being listed are logged at debug.
    pub fn set_draining(&self) {
        self.queue.set_draining();
        self.signals().for_each(|signal| signal.set_draining());
    }

    /// Those of all reflectors.
    fn signals(&self) -> impl Iterator<Item = &RelistSignal> {
        [Some(&self.relist), self.watch.as_ref()]
            .into_iter()
            .flatten()
            .map(Arc::as_ref)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.queue.close();
        self.signals().for_each(|signal| signal.close());
    }
}

#[cfg(test)]
mod tests;
