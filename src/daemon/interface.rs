//! What a [`Proxy`](super::proxy::Proxy) stands between: the event loop and the API
//! threads, by what it asks of them, and the messages that come in. The daemon
//! implements the traits with the real ones; the simulation with its own.
//!
//! There is one event loop for all apps, so that what is asked of it names the app or
//! the port. Each app has its own [`Api`].

use std::net::{IpAddr, SocketAddr};

use crate::clock::Time;
use crate::cluster::{
    AddressSource, NoAddress, Observation, Outcome, Permission, Pod, Refusal, Request, TargetStatus,
};
use crate::engine::{AppId, BackendSpec, Counts, PortId};
use crate::supervisor::ThreadPanic;

/// What the proxy asks of the event loop; see [`crate::engine::Engine`].
pub trait Sockets {
    /// What was counted at all ports of an app.
    fn counts(&self, app: AppId) -> Counts;
    /// How many connections wait for a pod at a port.
    fn waiting(&self, port: PortId) -> usize;
    /// The apps of which something was counted since this was last asked.
    fn take_changed(&mut self) -> Vec<AppId>;
    /// The client of an app that has waited for a pod for the longest.
    fn first_waiting(&self, app: AppId) -> Option<IpAddr>;
    /// When there is something to do even if nothing happens.
    fn poll_timeout(&self) -> Option<Time>;
    /// Opens or shuts the gate of an app.
    fn set_gate(&mut self, app: AppId, open: bool, now: Time);
    /// Replaces the backends that may be dialled for a port.
    fn set_backends(&mut self, port: PortId, backends: &[BackendSpec], now: Time);
    /// Replaces the address that is dialled when no pod answers at that port.
    fn set_fallback(&mut self, port: PortId, address: Option<SocketAddr>);
    /// Does what the last wait has found.
    fn dispatch(&mut self, now: Time);
    /// The app sleeps: closes what pods have served and does not count as use of it.
    fn end_uncounted(&mut self, app: AppId, now: Time);
    /// Dials what is held by the apps whose gate is open.
    fn release(&mut self, now: Time);
    /// Accepts what is queued for an app, and then no more.
    fn stop_accepting(&mut self, app: AppId, now: Time);
    /// Resets every connection of an app.
    fn reset_all(&mut self, app: AppId, now: Time);
}

/// What the proxy asks of the API threads; see [`crate::kube::Handle`].
pub trait Api {
    /// Sends a request, in place of one that is not answered yet.
    fn request(&mut self, id: u64, request: Request);
    /// Has the endpoints listed afresh.
    fn relist(&mut self);
    /// What was known of the endpoints at `seen` has proved wrong: has them listed
    /// afresh, unless the watch has shown something since.
    fn relist_unless_newer(&mut self, seen: Time);
    /// Whether somebody waits for an endpoint.
    fn set_waiting(&mut self, is_waiting: bool);
    /// The proxy drains: a permission or an object that is gone is no warning any more.
    fn set_draining(&mut self);
}

/// What comes in for an app from outside the loop. A `port` is the place of one among
/// the app's ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// How the request with that number ended.
    Reply {
        /// The number given with the request.
        id: u64,
        /// How it ended.
        outcome: Outcome,
    },
    /// Every endpoint of the Service, with its addresses for a port.
    Pods {
        /// The port.
        port: usize,
        /// The endpoints.
        pods: Vec<Pod>,
    },
    /// The Service's own address for a port.
    Fallback {
        /// The port.
        port: usize,
        /// Its address.
        address: Option<SocketAddr>,
    },
    /// The addresses of the target.
    Target(Vec<SocketAddr>),
    /// Where the endpoints are listed; `None` while they cannot be.
    Synced(Option<AddressSource>),
    /// Why no pod can be dialled for a port although the endpoints can be listed.
    NoAddress {
        /// The port.
        port: usize,
        /// The reason; `None` once it is over.
        why: Option<NoAddress>,
    },
    /// A permission is refused, or granted after all.
    Permission {
        /// Which permission.
        permission: Permission,
        /// `None` if it is granted.
        refusal: Option<Refusal>,
    },
    /// What the controller of the scaled object says of its pods.
    TargetStatus(TargetStatus),
    /// What the watch of the scaled object shows.
    Observed(Observation),
    /// Whether there is such a watch.
    Watching(bool),
    /// A request to the API server has failed.
    Trouble(String),
    /// A thread has panicked, and is started again after a pause.
    Panicked(ThreadPanic),
}
