//! [`Sockets`] and [`Api`] are the event loop and the API threads as a
//! [`Proxy`](super::proxy::Proxy) uses them. The daemon implements both traits with the
//! real ones, the simulation with its own.
//!
//! There is one event loop for all apps, so that what is asked of it names the app or
//! the port. Each app has its own [`Api`].

use std::net::{IpAddr, SocketAddr};

use crate::accept_probe::Candidate;
use crate::clock::Time;
use crate::cluster::Request;
use crate::engine::{AppId, BackendSpec, Counts, PortId};

/// What the proxy asks of the event loop; see [`crate::engine::Engine`].
pub trait Sockets {
    /// What was counted at all ports of an app.
    fn counts(&self, app: AppId) -> Counts;
    /// How many connections wait for a pod at a port.
    fn waiting(&self, port: PortId) -> usize;
    /// The apps of which something was counted since this was last asked.
    fn take_changed_apps(&mut self) -> Vec<AppId>;
    /// The client of an app that has waited for a pod for the longest.
    fn longest_waiting(&self, app: AppId) -> Option<IpAddr>;
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
    /// Forgets an app that has no connection.
    fn remove_app(&mut self, app: AppId, now: Time);
}

/// What the proxy asks of the API threads; see [`crate::kube::AppHandle`].
pub trait Api {
    /// Sends a request, in place of one that is not answered yet.
    fn request(&mut self, id: u64, request: Request);
    /// Has the endpoints listed afresh.
    fn relist(&mut self);
    /// What was known of the endpoints at `seen` has proved wrong: has them listed
    /// afresh, unless something of them was received since. Returns whether they are listed.
    fn relist_unless_newer(&mut self, seen: Time) -> bool;
    /// Whether somebody waits for an endpoint.
    fn set_waiting(&mut self, is_waiting: bool);
    /// Replaces the pods that are dialled until one accepts.
    fn probe(&mut self, candidates: Vec<Candidate>);
    /// The proxy drains: a permission or an object that is gone is no warning any more.
    fn set_draining(&mut self);
}
