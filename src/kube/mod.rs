//! The API threads: an executor of the policy's requests, and reflectors of the
//! Service's endpoints and of the scale target.
//!
//! This module contains HTTP, TLS, credentials and the objects of Kubernetes. It uses
//! neither the policy nor the event loop: it reports through a closure.
//!
//! **`zpa-api`** (`executor`) executes one [`Request`] at a time and reports its outcome
//! ([`Report::Reply`]). The policy decides what to request, and what to do after a failure.
//! Nothing is retried here, except a read on a connection that the server had just
//! closed, and a request with a 401 after the token was read again. There are two such
//! threads, so that a write or a renewal never waits for a read that hangs, and no request
//! waits for one that the policy has given up: the second thread executes it, and the
//! connection of the first is shut down (`scheduler`). A request that is superseded gets
//! no reply, and neither does one that was still unsent when the next one came.
//!
//! The scale target may be of any kind with a scale subresource, and may have to be found
//! first (`discovery`, `scale_target`).
//!
//! Each request is one call and needs one permission (`target_client`): a read of the
//! object shows the leases of other proxies, a read of its scale does not. 403 and 401 are
//! outcomes of their own; the policy decides when a refusal is believed.
//!
//! **`zpa-watch`** (`reflector`) lists the EndpointSlices and watches them from
//! there, for ever, with a backoff of its own. It is the only writer of the store
//! of endpoints (`endpoints`). What it does next is decided by a pure state machine
//! (`reflector::core`, and in it `watcher`), and the thread makes the calls.
//! [`Handle::relist`] ends its watch (`relist`) and thereby makes it list again, on
//! a new connection: that costs the connection, and cures a half-open one.
//!
//! **`zpa-watch-app`** (`target_reflector`) lists and watches the scale target in the same
//! way, on a connection of its own, since a watch blocks the thread that reads it. It
//! reports each state that the object is shown in. Where the object may not be watched,
//! the policy's reads are all there is.
//!
//! A refusal is logged once, and again when it changes, but reported each time. After a
//! failure the stored endpoints remain until a list replaces them. A `Retry-After` is part
//! of the outcome; a reflector waits for its own.
//!
//! The address of the API server and the credentials are found once (`access`), from flags,
//! a `kubeconfig` or the pod's service account. Token and certificates are read again when
//! their files are replaced (`credentials`), or printed by a command (`exec`): the thread
//! that needs a credential runs the command, and `zpa-exec` renews the credential before it
//! expires. No request is sent while the token is missing: it would be a request of
//! `system:anonymous`, and its 403 would look like a missing permission.
//!
//! The policy's reads keep a connection open. No request goes through a proxy from the
//! environment, follows a redirect, or trusts a root certificate other than the cluster's.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, Time, WallClock};
use crate::cluster::{PortRef, Report, Request};
use crate::supervisor::ThreadPanic;
use crate::workload::{Dialect, TargetRef};

pub mod access;
mod ancestors;
mod answers;
mod client;
mod credentials;
mod discovery;
mod endpoints;
mod exec;
mod executor;
pub mod inspect;
pub mod kubeconfig;
mod lines;
mod list;
mod list_watch;
mod objects;
mod old_replica;
mod pages;
mod patch;
mod paths;
mod permissions;
mod reflector;
mod relist;
mod reply;
mod requests;
mod resource;
mod rfc3339;
mod scale_target;
mod scaled;
mod scheduler;
mod service;
mod target_client;
mod target_reflector;
mod target_status;
mod target_store;
#[cfg(test)]
mod testing;
mod text;
mod throttle;
mod token;
mod transport;
mod watcher;

pub use access::Access;
pub use requests::{Reaction, Requests, Verb};

/// What the API threads work for.
pub struct Config {
    /// The way to the API server.
    pub access: Access,
    /// The namespace of the scale target and the Service.
    pub namespace: String,
    /// The object to scale.
    pub target: TargetRef,
    /// Whose flags the settings are made of: whose replicas may run beside.
    pub dialect: Dialect,
    /// The ConfigMap on which such a replica keeps its annotations; None where it
    /// keeps them on the object.
    pub state_configmap: Option<String>,
    /// The idle TTL of the app, and of such a replica.
    pub idle_ttl: Duration,
    /// The Service whose endpoints to watch.
    pub service: String,
    /// Which of the Service's ports, one or more; None for its only one. Reports name
    /// them by their place here.
    pub ports: Vec<Option<PortRef>>,
    /// The flag that names them, for messages.
    pub port_flag: &'static str,
    /// Who we are in our renewals: the pod's name. Any text will do; what
    /// no pod's name has becomes a hyphen.
    pub writer: String,
    /// What time a renewal says that it is.
    pub wall_clock: WallClock,
}

/// The way to speak to the API threads. They end when it is dropped, each after
/// the request that it is at.
pub struct Handle {
    queue: Arc<executor::RequestQueue>,
    relist: Arc<relist::RelistSignal>,
    /// Of the reflector of the scaled object, if there is one.
    watch: Option<Arc<relist::RelistSignal>>,
    requests: Arc<Requests>,
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

    /// The requests that were made since the start.
    pub fn requests(&self) -> &Requests {
        &self.requests
    }

    /// Those of all reflectors.
    fn signals(&self) -> impl Iterator<Item = &relist::RelistSignal> {
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

/// Whether the certificates that `access` takes are there and can be used, as
/// far as that is known without the API server.
///
/// # Errors
/// Which file, or which part of a kubeconfig, is of no use, and why.
pub fn check(access: &Access) -> Result<(), access::Error> {
    credentials::check(access).map_err(access::Error)
}

/// Starts the API threads. They call `report` from their own threads.
pub fn spawn(
    config: Config,
    clock: Clock,
    report: impl Fn(Report) + Send + Clone + 'static,
) -> io::Result<Handle> {
    let credentials =
        credentials::Credentials::read(config.access.clone(), clock, config.wall_clock)
            .map_err(io::Error::other)?;
    let credentials = Arc::new(credentials);
    let requests = Arc::new(Requests::default());
    let client = || client::Client::new(credentials.clone(), requests.clone());
    let queue = executor::spawn(&config, [client(), client()], clock, &report)?;
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
        requests: requests.clone(),
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

fn panicked(report: impl Fn(Report)) -> impl Fn(ThreadPanic) {
    move |panic| report(Report::Panicked(panic))
}

/// Whether the scaled object is watched. Not with the flags of an ancestor: what a
/// replica of it says, maybe on a ConfigMap, is read together with the object
/// (`old_replica`), so that polling goes on as before.
fn watches_target(config: &Config) -> bool {
    config.dialect == Dialect::Zpa
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::sync::{Mutex, PoisonError};

    use super::testing::{self, DEADLINE, begin_stream, hang, recorded_body, reply, serve};
    use super::*;
    use crate::cluster::Outcome;

    /// A server that has a Deployment and its slices.
    fn config() -> Config {
        let server = serve(|asked, stream| {
            if asked.target.contains("&watch=true") {
                begin_stream(stream);
                return hang(stream);
            }
            if asked.target.contains("/services/") {
                return reply(stream, 403, "", "{}");
            }
            let name = if asked.target.ends_with("/deployments/myapp") {
                "30-deployment-get-after"
            } else {
                "15-slices-list-ready"
            };
            let body = String::from_utf8(recorded_body(name)).unwrap();
            reply(stream, 200, "", &body)
        });
        Config {
            ports: vec![Some(PortRef::Name("http".into()))],
            ..testing::config(server)
        }
    }

    /// A panic in either thread; here it is the receiver of the reports that panics.
    #[test]
    fn a_thread_that_panics_owes_no_reply_and_works_again() {
        for panics in [
            (|report| matches!(report, Report::Reply { .. })) as fn(&Report) -> bool,
            |report| matches!(report, Report::Pods { .. }),
        ] {
            let (sender, reports) = mpsc::channel();
            let first = Arc::new(Mutex::new(true));
            let report = move |report| {
                let mut first = first.lock().unwrap_or_else(PoisonError::into_inner);
                if panics(&report) && std::mem::take(&mut *first) {
                    panic!("by intent");
                }
                let _ = sender.send(report);
            };
            let handle = spawn(config(), testing::clock, report).unwrap();
            handle.request(5, Request::Read);
            let (mut panicked, mut replied, mut listed) = (false, false, false);
            while !(panicked && replied && listed) {
                match reports.recv_timeout(DEADLINE).unwrap() {
                    Report::Panicked(panic) => {
                        assert_eq!(panic.why, "by intent");
                        panicked = true;
                        handle.request(6, Request::Read);
                    }
                    Report::Reply { id: 5, outcome } if !panicked => {
                        let is_lost = outcome == Outcome::Unknown { retry_after: None };
                        assert!(is_lost || matches!(outcome, Outcome::Scale(_)));
                    }
                    Report::Reply { id: 6, outcome } if panicked => {
                        replied = matches!(outcome, Outcome::Scale(_));
                    }
                    Report::Pods { pods, .. } => listed = pods.len() == 1,
                    _ => {}
                }
            }
        }
    }

    #[test]
    fn both_threads_report_and_end_with_the_handle() {
        let config = config();
        let (sender, reports) = mpsc::channel();
        let report = move |report| {
            let _ = sender.send(report);
        };
        let handle = spawn(config, testing::clock, report).unwrap();
        handle.request(5, Request::Read);
        let (mut replied, mut listed) = (false, false);
        while !(replied && listed) {
            match reports.recv_timeout(DEADLINE).unwrap() {
                Report::Reply { id, outcome } => {
                    assert_eq!(id, 5);
                    replied = matches!(outcome, Outcome::Scale(_));
                }
                Report::Pods { pods, .. } => listed = pods.len() == 1,
                Report::Fallback { .. }
                | Report::Synced(_)
                | Report::NoAddress { .. }
                | Report::Target(_)
                | Report::TargetStatus(_)
                | Report::Observed(_)
                | Report::Watching(_)
                | Report::Permission { .. }
                | Report::Trouble(_)
                | Report::Panicked(_) => {}
            }
        }
        let counted = |names| {
            let counts = handle.requests().read();
            counts
                .iter()
                .any(|(these, count)| *these == names && *count > 0)
        };
        for names in [["get", "ok"], ["get", "forbidden"], ["list", "ok"]] {
            assert!(counted(names), "{names:?}");
        }
        drop(handle);
        let ended = loop {
            match reports.recv_timeout(DEADLINE) {
                Ok(_) => {}
                Err(cause) => break cause,
            }
        };
        assert_eq!(ended, mpsc::RecvTimeoutError::Disconnected);
    }
}
