//! The part of [`Engine`] that the admin pages read. Nothing here changes a connection.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::counters::CountedAs;
use super::{AppId, Counters, Engine, PortId};
use crate::clock::Time;

impl Engine {
    /// The client of an app that has been held for the longest, unless its socket does
    /// not know it any more.
    pub fn longest_waiting(&self, app: AppId) -> Option<IpAddr> {
        let key = self.apps.oldest_held(app)?;
        let peer = self.connections[key].client().peer_addr().ok()?;
        Some(peer.ip().to_canonical())
    }

    /// How long the connection has waited that has waited for the longest until now, by app; of
    /// the apps that have one. It looks at each connection, unless none waits.
    pub fn waits(&self, now: Time) -> BTreeMap<AppId, Duration> {
        let mut waits = BTreeMap::new();
        if !self.apps.has_waiting() {
            return waits;
        }
        for (_, connection) in &self.connections {
            if connection.counted_as() == CountedAs::Waiting {
                let app = self.apps.get(connection.port()).app;
                let longest: &mut Duration = waits.entry(app).or_default();
                *longest = connection.waited(now).max(*longest);
            }
        }
        waits
    }

    /// What was counted at a port by kind.
    pub fn counters(&self, port: PortId) -> Option<&Counters> {
        Some(&self.entry(port)?.port.counters)
    }

    /// The addresses that may be dialled for a port.
    pub fn addresses(&self, port: PortId) -> impl Iterator<Item = SocketAddr> {
        let entry = self.entry(port).into_iter();
        entry.flat_map(|it| it.port.balancer.addresses())
    }

    /// How many backends of a port have as many connections as they may have.
    pub fn full_backends(&self, port: PortId) -> usize {
        self.entry(port).map_or(0, |it| it.port.balancer.full())
    }

    /// How many backends of a port are dialled before the others.
    pub fn near_backends(&self, port: PortId) -> usize {
        self.entry(port).map_or(0, |it| it.port.balancer.near())
    }

    /// How many backends of a port are ejected after failures.
    pub fn avoided_backends(&self, port: PortId) -> usize {
        self.entry(port).map_or(0, |it| it.port.balancer.avoided())
    }

    /// The number of dials from a port that was bound here because the kernel had none.
    pub fn bound_ports(&self) -> u64 {
        self.connector.bound()
    }

    /// The number of dials that failed because of this machine, by cause.
    pub fn local_errors(&self) -> Vec<([&'static str; 1], u64)> {
        self.shared.dial_log.local_errors()
    }

    /// For how long a client of an app is led to the same backend after its last connection; `None`
    /// if it is not.
    pub fn affinity(&self, app: AppId) -> Option<Duration> {
        self.apps.group(app)?.affinity.timeout()
    }

    /// How many clients of an app are remembered for that; `None` if none are to be.
    pub fn remembered_clients(&self, app: AppId) -> Option<usize> {
        self.apps.group(app)?.affinity.len()
    }
}
