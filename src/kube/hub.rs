//! The [`Hub`]: what the apps of a process share on their way to the API server, and the
//! [`Handle`] of each of them.

use std::io;
use std::sync::Arc;

use super::access::Access;
use super::client::Client;
use super::credentials::Credentials;
use super::executor::{self, Member, RequestQueue};
use super::informers::Informers;
use super::relist::RelistSignal;
use super::requests::Requests;
use super::scheduler::AppKey;
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

/// The way to the API server that the apps of a process share. Its threads end when it is
/// dropped.
pub struct Hub {
    credentials: Arc<Credentials>,
    requests: Arc<Requests>,
    queue: Arc<RequestQueue>,
    /// The reflectors of namespaces; `None`: each app has its own.
    informers: Option<Arc<Informers>>,
    writer: Writer,
    clock: Clock,
}

impl Hub {
    /// Reads the credentials and starts the threads that execute requests.
    ///
    /// # Errors
    /// Why the credentials cannot be used, or if a thread cannot be started.
    pub fn new(config: HubConfig, clock: Clock) -> io::Result<Hub> {
        let HubConfig {
            access,
            writer,
            wall_clock,
            scope,
        } = config;
        let credentials = Credentials::read(access, clock, wall_clock).map_err(io::Error::other)?;
        let (credentials, requests) = (Arc::new(credentials), Arc::<Requests>::default());
        let client = || Client::new(credentials.clone(), requests.clone());
        let queue = executor::spawn([client(), client()], clock)?;
        let informers = (scope == Scope::Namespace).then(|| {
            let (credentials, requests) = (credentials.clone(), requests.clone());
            Arc::new(Informers::new(credentials, requests, queue.clone(), clock))
        });
        Ok(Hub {
            informers,
            credentials,
            requests,
            queue,
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
        let target = TargetClient::new(&config, self.writer.clone());
        let (app, member) = self.queue.add(target, report.clone());
        let mut handle = Handle {
            queue: self.queue.clone(),
            app,
            member,
            watches: Watches::None,
            clock: self.clock,
        };
        match &self.informers {
            None => self.watch_named(&mut handle, &config, report)?,
            Some(informers) => watch_namespace(&mut handle, config, informers)?,
        }
        Ok(handle)
    }

    /// Watches what the app needs by its name, with threads of its own.
    fn watch_named(
        &self,
        handle: &mut Handle,
        config: &AppConfig,
        report: impl Fn(Report) + Send + Clone + 'static,
    ) -> io::Result<()> {
        let clock = self.clock;
        let client = || Client::new(self.credentials.clone(), self.requests.clone());
        let (reports, panics) = (report.clone(), panicked(report.clone()));
        let endpoints = reflector::spawn(config, client(), clock, reports, panics)?;
        handle.watches = Watches::Named {
            endpoints: endpoints.clone(),
            target: None,
        };
        if watches_target(config) {
            let (target, panics) = (handle.member.target().clone(), panicked(report.clone()));
            let target = target_reflector::spawn(target, client(), clock, report, panics)?;
            let relocated = target.clone();
            handle.member.on_relocation(move || relocated.relocate());
            handle.watches = Watches::Named {
                endpoints,
                target: Some(target),
            };
        }
        Ok(())
    }

    /// The requests that were made for all apps since the start.
    pub fn requests(&self) -> &Requests {
        &self.requests
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// Has what the app needs watched together with what others need.
fn watch_namespace(
    handle: &mut Handle,
    config: AppConfig,
    informers: &Arc<Informers>,
) -> io::Result<()> {
    let (app, config) = (handle.app, Arc::new(config));
    informers.add(app, config.clone())?;
    handle.watches = Watches::Namespace {
        informers: informers.clone(),
        namespace: config.namespace.clone(),
    };
    if watches_target(&config) {
        let target = handle.member.target().clone();
        informers.place(app, &target);
        let informers = Arc::downgrade(informers);
        handle.member.on_relocation(move || {
            if let Some(informers) = informers.upgrade() {
                informers.place(app, &target);
            }
        });
    }
    Ok(())
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
    app: AppKey,
    member: Arc<Member>,
    watches: Watches,
    clock: Clock,
}

/// The reflectors of an app.
enum Watches {
    /// None yet.
    None,
    /// Its own.
    Named {
        endpoints: Arc<RelistSignal>,
        /// Of the scaled object, if that is watched.
        target: Option<Arc<RelistSignal>>,
    },
    /// Those of its namespace.
    Namespace {
        informers: Arc<Informers>,
        namespace: String,
    },
}

impl Handle {
    /// Has `request` executed, as soon as it has its turn; its [`Report::Reply`] carries `id`.
    ///
    /// Never blocks. A request that is still unsent is replaced and gets no
    /// reply, nor does a read that something urgent has to supersede.
    pub fn request(&self, id: u64, request: Request) {
        self.queue.put(self.app, id, request);
    }

    /// Has the endpoints listed afresh at once.
    ///
    /// Never blocks. At most once a second, and less often while it goes on; a
    /// call that comes too soon does nothing.
    pub fn relist(&self) {
        match &self.watches {
            Watches::None => {}
            Watches::Named { endpoints, .. } => endpoints.request((self.clock)()),
            Watches::Namespace {
                informers,
                namespace,
            } => informers.relist(namespace),
        }
    }

    /// Has the endpoints listed afresh, because what was known of them at `seen` has
    /// proved wrong. Does nothing, and returns false, if something was received since: the
    /// watch is alive, and a list would show no more, or a list is on its way.
    pub fn relist_unless_newer(&self, seen: Time) -> bool {
        match &self.watches {
            Watches::None => true,
            Watches::Named { endpoints, .. } => {
                endpoints.request_unless_newer(seen, (self.clock)())
            }
            Watches::Namespace {
                informers,
                namespace,
            } => informers.relist_unless_newer(namespace, seen),
        }
    }

    /// Says whether somebody waits for an endpoint. While that is so, requests of this app
    /// come before those of others for which nobody waits, no pause after a failure is longer
    /// than a second, nor any that the server asks for than five.
    pub fn set_waiting(&self, is_waiting: bool) {
        self.queue.set_awaited(self.app, is_waiting);
        match &self.watches {
            Watches::None => {}
            Watches::Named { endpoints, .. } => endpoints.set_waiting(is_waiting),
            Watches::Namespace {
                informers,
                namespace,
            } => informers.set_waiting(self.app, namespace, is_waiting),
        }
    }

    /// The app drains. When everything is deleted at once, the Role and the objects
    /// go before the proxy does: from now on refusals (401, 403), objects that are not
    /// found, and whatever keeps endpoints from being listed are logged at debug.
    pub fn set_draining(&self) {
        self.member.set_draining();
        match &self.watches {
            Watches::None => {}
            Watches::Named { endpoints, target } => {
                endpoints.set_draining();
                target.iter().for_each(|target| target.set_draining());
            }
            Watches::Namespace {
                informers,
                namespace,
            } => informers.set_draining(self.app, namespace),
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.queue.remove(self.app);
        match &self.watches {
            Watches::None => {}
            Watches::Named { endpoints, target } => {
                endpoints.close();
                target.iter().for_each(|target| target.close());
            }
            Watches::Namespace {
                informers,
                namespace,
            } => informers.remove(self.app, namespace),
        }
    }
}

#[cfg(test)]
mod tests;
