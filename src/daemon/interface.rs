//! [`Sockets`] and [`Api`] are the event loop and the API threads as a
//! [`Proxy`](super::proxy::Proxy) uses them. The daemon implements both traits with the
//! real ones, the simulation with its own.
//!
//! There is one event loop for all apps, so that what is asked of it names the app or
//! the port. Each app has its own [`Api`].

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::accept_probe::Candidate;
use crate::clock::Time;
use crate::cluster::{Event, LifecycleEvent, Request};
use crate::engine::{AppId, BackendSpec, Counts, PortId};

/// The event loop; see [`crate::engine::Engine`].
pub trait Sockets {
    /// The counts of all ports of an app.
    fn counts(&self, app: AppId) -> Counts;
    /// How many clients have connected whose app is not known yet: none where each listener
    /// is that of one app.
    fn inspected(&self) -> usize {
        0
    }
    /// When the last of these clients will have named its app or be refused, of those that may
    /// be an app's which accepts no more; `None` if there is none.
    fn inspected_until(&self, _: AppId) -> Option<Time> {
        None
    }
    /// The number of connections that wait for a pod at a port.
    fn waiting(&self, port: PortId) -> usize;
    /// The apps whose counts have changed since the last call.
    fn take_changed_apps(&mut self) -> Vec<AppId>;
    /// The client of an app that has waited for a pod for the longest.
    fn longest_waiting(&self, app: AppId) -> Option<IpAddr>;
    /// When a turn is due without an event.
    fn poll_timeout(&self) -> Option<Time>;
    /// Opens or shuts the gate of an app.
    fn set_gate(&mut self, app: AppId, open: bool, now: Time);
    /// Sets why the app cannot start, however long a connection waits: those that wait are closed,
    /// and those that come would be. `None`: they wait.
    fn set_wake_failure(&mut self, _: AppId, _: Option<&'static str>, _: Time) {}
    /// Sets what keeps the pods of an app from getting ready: the reason with which those end that
    /// wait for as long as they may.
    fn set_wake_trouble(&mut self, _: AppId, _: Option<&'static str>) {}
    /// Replaces the backends that may be dialled for a port.
    fn set_backends(&mut self, port: PortId, backends: &[BackendSpec], now: Time);
    /// Replaces the address that is dialled when no pod answers at that port.
    fn set_fallback(&mut self, port: PortId, address: Option<SocketAddr>);
    /// Sets for how long after its last connection a client of an app is led to the same
    /// backend; `None`: no longer at all.
    fn set_affinity(&mut self, _: AppId, _: Option<Duration>) {}
    /// Replaces the addresses to which the connections of an app are dialled that wait for too
    /// long.
    fn set_backup(&mut self, _: AppId, _: &[SocketAddr]) {}
    /// Forgets the clients that are remembered for that: the pods are gone.
    fn forget_clients(&mut self, _: AppId) {}
    /// Handles the events of the last wait.
    fn dispatch(&mut self, now: Time);
    /// Closes the uncounted connections of an app that pods have served, because the app sleeps.
    fn end_uncounted(&mut self, app: AppId);
    /// Dials for the held connections of the apps whose gate is open.
    fn release(&mut self, now: Time);
    /// Accepts the connections in the kernel's queue of an app, and then no more.
    fn stop_accepting(&mut self, app: AppId, now: Time);
    /// Resets every connection of an app.
    fn reset_all(&mut self, app: AppId, now: Time);
    /// Removes an app; its connections are reset.
    fn remove_app(&mut self, app: AppId, now: Time);
}

/// The API threads, as one app uses them; see [`crate::kube::AppHandle`].
pub trait Api {
    /// Sends a request, which supersedes one without a reply.
    fn request(&mut self, id: u64, request: Request);
    /// Requests that the endpoints are listed again.
    fn relist(&mut self);
    /// The same, unless the endpoint watch has received something after `seen`. Returns whether
    /// it is requested.
    fn relist_unless_newer(&mut self, seen: Time) -> bool;
    /// Sets whether connections wait for an endpoint.
    fn set_waiting(&mut self, is_waiting: bool);
    /// Replaces the pods that are dialled until one accepts.
    fn probe(&mut self, candidates: Vec<Candidate>);
    /// Has the pods of the scale target read, to find out why a wake takes long.
    fn read_pods(&mut self) {}
    /// Has an Event about the scale target created, at some time.
    fn record_event(&mut self, event: Event);
    /// Sets that the app drains: missing permissions and objects are no warnings any more.
    fn set_draining(&mut self);
    /// Notifies others of an event in the life of the app, if any want that.
    fn notify(&mut self, _: &LifecycleEvent) {}
}
