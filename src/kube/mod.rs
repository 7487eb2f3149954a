//! The API threads: an executor of the policy's requests, and reflectors of the
//! Service's endpoints and of the scale target.
//!
//! This module contains HTTP, TLS, credentials and the objects of Kubernetes. It uses
//! neither the policy nor the event loop: it reports through a closure.
//!
//! The apps of a process share the [`ApiThreads`]. Each app has an [`AppHandle`].
//!
//! **`zpa-api`** (`executor`) executes the requests of all apps, one [`Request`] at a time, and
//! reports each outcome ([`Report::Reply`]). The policy decides what to request, and what to do
//! after a failure.
//! Nothing is retried here, except a read on a connection that the server had just
//! closed, a write that has no reply after a second, and a request with a 401 after the token
//! was read again. There are two such
//! threads, so that a write or a renewal never waits for a read that hangs, and no request
//! waits for one that the policy has given up: the second thread executes it, and the
//! connection of the first is shut down, unless it is a wake: that goes on, on a thread of its
//! own, as an API server may need longer for it (`scheduler`). A request that is superseded gets
//! no reply, and neither does one that was still unsent when the next one of its app came.
//! Requests for which connections wait come first. While the API server fails, the apps
//! share what is sent to it (`breaker`).
//!
//! The scale target may be of any kind with a scale subresource, and may have to be found
//! first (`discovery`, `scale_target`).
//!
//! Each request is one call and needs one permission (`target_client`): a read of the
//! object shows the leases of other proxies, a read of its scale does not. 403 and 401 are
//! outcomes of their own; the policy decides when a refusal is confirmed.
//!
//! **`zpa-endpoints`** (`reflector`) lists the EndpointSlices and watches them from
//! there, for ever, with a backoff of its own. It is the only writer of the store
//! of endpoints (`endpoints`). What it does next is decided by a pure state machine
//! (`reflector::named` for one Service, `reflector::namespace` for all those of a namespace,
//! and in both `watcher`), and the thread makes the calls.
//! [`AppHandle::relist`] ends its watch (`relist`) and thereby makes it list again, on
//! a new connection: that costs the connection, and cures a half-open one.
//!
//! **`zpa-targets`** (`target_reflector`) lists and watches the scale target in the same
//! way, or all those of its kind in the namespace, on a connection of its own, since a watch
//! blocks the thread that reads it. It
//! reports each state that the object is shown in. Where the object may not be watched,
//! the policy's reads are all there is.
//!
//! **`zpa-services`** (`service_reflector`) lists and watches the Services that a label selector
//! selects, where apps are found by them ([`ApiThreads::watch_services`]). `zpa-events`
//! (`events`), a thread that lives only while it has work, writes Events about those that are
//! wrong, and about the scale targets. `zpa-webhook` (`webhook`), another such thread, posts the
//! events in the life of apps to the URLs that they have for that, and `zpa-pods` (`pod_reader`)
//! reads the pods of apps whose wake takes long.
//!
//! With [`Scope::Named`], which is for one app, everything is listed by its name, as a Role with
//! `resourceNames` allows. With [`Scope::Namespace`] there is one `zpa-endpoints` for each
//! namespace and one `zpa-targets` for each kind in it, whatever the number of apps
//! (`shared_reflectors`).
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

use std::time::Duration;

use crate::cluster::PortRef;
#[cfg(doc)]
use crate::cluster::{Report, Request};
use crate::workload::{Dialect, TargetRef};

// The threads that all apps share, and the part of one app.
mod api_threads;
mod namespaces;
mod shared_reflectors;

// The API server: its address, credentials, and calls by HTTP.
pub mod access;
mod client;
mod credentials;
mod exec;
pub mod kubeconfig;
mod reply;
mod requests;
mod token;
mod transport;

// Requests of the policy: in which order they are executed, and by what calls.
mod ancestor_replica;
mod ancestors;
mod breaker;
mod discovery;
mod executor;
mod patch;
mod permissions;
mod scale_target;
mod scaled;
mod scheduler;
mod target_client;
mod target_status;

// List and watch, of whatever kind.
mod items;
mod lines;
mod list;
mod pages;
mod reflector;
mod relist;
mod responses;
mod throttle;
mod watch_grant;
mod watcher;
mod watcher_io;

// What is listed and watched: endpoints and their Services, scale targets, Services by label.
mod endpoints;
mod namespace_store;
mod selected_service;
mod service;
mod service_reflector;
mod target_reflector;
mod target_store;

// Threads that live only while they have work.
mod events;
mod job_queue;
mod pod_problem;
mod pod_reader;
mod webhook;

// For the commands, which look at a cluster without running the proxy.
pub mod inspect;
pub mod removal;

// The objects, paths and texts of the API.
mod objects;
mod paths;
mod resource;
mod rfc3339;
mod text;

// Helpers of the tests.
#[cfg(test)]
pub(crate) mod testing;

pub use access::Access;
pub use api_threads::{ApiConfig, ApiThreads, AppHandle, Scope};
pub use events::EventRecorder;
pub use requests::{Reaction, Requests, Verb};
pub use selected_service::{MAX_ANNOTATIONS_LEN, SelectedService};
pub use service_reflector::{ServiceWatch, ServicesReport};
pub use webhook::{Webhook, Webhooks};

/// What the API threads work for: one app.
pub struct WatchedApp {
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
}

/// Whether the certificates that `access` takes are there and can be used, as
/// far as that is known without the API server.
///
/// # Errors
/// Which file, or which part of a kubeconfig, is of no use, and why.
pub fn check(access: &Access) -> Result<(), access::Error> {
    credentials::check(access).map_err(access::Error)
}
