//! The engine as the [`Sockets`] of the real proxy.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::interface::Sockets;
use crate::clock::Time;
use crate::engine::{AppId, BackendSpec, Counts, Engine, PortId};

impl Sockets for Engine {
    fn inspected(&self) -> usize {
        Engine::inspected(self)
    }

    fn inspected_until(&self, app: AppId) -> Option<Time> {
        Engine::inspected_until(self, app)
    }

    fn counts(&self, app: AppId) -> Counts {
        Engine::counts(self, app)
    }

    fn waiting(&self, port: PortId) -> usize {
        Engine::port_counts(self, port).waiting
    }

    fn take_changed_apps(&mut self) -> Vec<AppId> {
        Engine::take_changed_apps(self)
    }

    fn longest_waiting(&self, app: AppId) -> Option<IpAddr> {
        Engine::longest_waiting(self, app)
    }

    fn poll_timeout(&self) -> Option<Time> {
        Engine::poll_timeout(self)
    }

    fn set_gate(&mut self, app: AppId, open: bool, now: Time) {
        Engine::set_gate(self, app, open, now);
    }

    fn set_wake_failure(&mut self, app: AppId, why: Option<&'static str>, now: Time) {
        Engine::set_wake_failure(self, app, why, now);
    }

    fn set_wake_trouble(&mut self, app: AppId, why: Option<&'static str>) {
        Engine::set_wake_trouble(self, app, why);
    }

    fn set_backends(&mut self, port: PortId, backends: &[BackendSpec], now: Time) {
        Engine::set_backends(self, port, backends, now);
    }

    fn set_fallback(&mut self, port: PortId, address: Option<SocketAddr>) {
        Engine::set_fallback(self, port, address);
    }

    fn set_affinity(&mut self, app: AppId, timeout: Option<Duration>) {
        Engine::set_affinity(self, app, timeout);
    }

    fn set_backup(&mut self, app: AppId, addresses: &[SocketAddr]) {
        Engine::set_backup(self, app, addresses);
    }

    fn forget_clients(&mut self, app: AppId) {
        Engine::forget_clients(self, app);
    }

    fn dispatch(&mut self, now: Time) {
        Engine::dispatch(self, now);
    }

    fn release(&mut self, now: Time) {
        Engine::release(self, now);
    }

    fn end_uncounted(&mut self, app: AppId) {
        Engine::end_uncounted(self, app);
    }

    fn stop_accepting(&mut self, app: AppId, now: Time) {
        Engine::stop_accepting(self, app, now);
    }

    fn reset_all(&mut self, app: AppId, now: Time) {
        Engine::reset_all(self, app, now);
    }

    fn remove_app(&mut self, app: AppId, now: Time) {
        Engine::remove_app(self, app, now);
    }
}
