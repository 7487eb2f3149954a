//! The checks of settings that exclude one another.

use super::table::given;
use super::{Origin, Settings};
use crate::rules::idle::SilentConnections;
use crate::rules::ready_gate::ReadyGate;
use crate::workload::{Dialect, WakeReplicas};

impl Settings {
    /// Checks that a wake can make as many pods ready as connections wait for.
    pub(super) fn check_min_ready(&self) -> Result<(), String> {
        if self.min_ready.get() == 1 {
            return Ok(());
        }
        let together = |flag, why| {
            let (min_ready, other) = (self.given("min-ready"), self.given(flag));
            Err(format!("{min_ready} and {other}: {why}; give one of them"))
        };
        if self.target.is_some() {
            return together("target", "no pods are counted where an address is dialled");
        }
        if self.ready_gate != ReadyGate::Probe {
            return together(
                "ready-gate",
                "the first pod that accepts or greets ends the search for more",
            );
        }
        match self.wake_replicas {
            WakeReplicas::Replicas(woken) if woken < self.min_ready => Err(format!(
                "{}: {} pods are never ready after a wake to {woken}; use e.g. {} {}",
                self.given("min-ready"),
                self.min_ready,
                self.given("wake-replicas"),
                self.min_ready
            )),
            _ => Ok(()),
        }
    }

    /// Checks that no client of a detached connection waits for ever.
    pub(super) fn check_detached(&self) -> Result<(), String> {
        let idle = &self.rules.idle;
        let is_detached = idle.silent == SilentConnections::Detach && idle.silence.is_some();
        if !is_detached || idle.idle_timeout > idle.silence {
            return Ok(());
        }
        let (silent, timeout) = (self.given("silent-connections"), self.given("idle-timeout"));
        Err(format!(
            "{silent} detach: needs {timeout}, longer than {}: a client that a pod has sent half an \
             answer before the sleep would wait for ever; use e.g. 12h",
            self.given("silent-after")
        ))
    }

    /// Checks that one setting alone says which of the Service's ports a listener leads to.
    pub(super) fn check_listeners(&self) -> Result<(), String> {
        if self.listen.iter().all(|listener| listener.port.is_none()) {
            return Ok(());
        }
        let listen = self.given("listen");
        let other = match (&self.port, &self.target) {
            (Some(_), _) => self.given("port"),
            (None, Some(_)) => self.given("target"),
            (None, None) => return Ok(()),
        };
        Err(format!(
            "{listen} and {other}: both say which port connections lead to; give one of them, \
             e.g. {listen} alone as 8080=http"
        ))
    }

    /// Checks that all namespaces are meant only where apps are found.
    pub(super) fn check_namespaces(&self) -> Result<(), String> {
        if !self.all_namespaces || self.discover.is_some() && self.origin == Origin::CommandLine {
            return Ok(());
        }
        let namespace = self.given("namespace");
        let discover = given("discover", Dialect::Zpa);
        Err(format!(
            "{namespace}: * is all namespaces, in which apps are found by {discover}; name one, e.g. \
             default"
        ))
    }
}
