//! [`ProcessSockets`]: the sockets of all apps of a process.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use zpa::clock::Time;
use zpa::daemon::interface::Sockets;
use zpa::engine::{AppId, BackendSpec, Counts, PortId};

use crate::plan::{Mutant, Plan};
use crate::sockets::SimSockets;

/// The sockets of a process, by app.
pub struct ProcessSockets {
    apps: BTreeMap<AppId, SimSockets>,
    /// A mutant in which the gate of one app is that of all.
    has_one_gate: bool,
    /// A mutant with a deadline that is over for ever.
    is_busy: bool,
}

impl ProcessSockets {
    /// Those of a process that starts.
    pub fn new(plan: &Plan) -> ProcessSockets {
        let apps = plan.apps.iter().map(|app| {
            let sockets = SimSockets::new(app.hold, plan.mutant);
            (AppId(app.number as u32), sockets)
        });
        ProcessSockets {
            apps: apps.collect(),
            has_one_gate: plan.mutant == Mutant::OneGate,
            is_busy: plan.mutant == Mutant::Busy,
        }
    }

    /// Those of an app.
    pub fn of(&self, app: AppId) -> &SimSockets {
        &self.apps[&app]
    }

    /// The same, to change them.
    pub fn of_mut(&mut self, app: AppId) -> &mut SimSockets {
        self.apps.get_mut(&app).expect("every process has it")
    }
}

impl Sockets for ProcessSockets {
    fn counts(&self, app: AppId) -> Counts {
        self.of(app).counts()
    }

    fn waiting(&self, port: PortId) -> usize {
        self.of(port.app).counts().waiting
    }

    fn take_changed_apps(&mut self) -> Vec<AppId> {
        let apps = self.apps.iter_mut();
        let changed = apps.filter_map(|(&app, sockets)| sockets.has_changed().then_some(app));
        changed.collect()
    }

    fn longest_waiting(&self, _: AppId) -> Option<IpAddr> {
        None
    }

    fn poll_timeout(&self) -> Option<Time> {
        let deadlines = self.apps.values().filter_map(SimSockets::poll_timeout);
        let over = self.is_busy.then(Time::default);
        deadlines.chain(over).min()
    }

    fn set_gate(&mut self, app: AppId, open: bool, _: Time) {
        for (&id, sockets) in &mut self.apps {
            if id == app || self.has_one_gate {
                sockets.set_gate(open);
            }
        }
    }

    fn set_backends(&mut self, port: PortId, backends: &[BackendSpec], now: Time) {
        self.of_mut(port.app).set_backends(backends, now);
    }

    fn set_fallback(&mut self, port: PortId, address: Option<SocketAddr>) {
        self.of_mut(port.app).set_fallback(address);
    }

    fn dispatch(&mut self, now: Time) {
        for sockets in self.apps.values_mut() {
            if std::mem::take(&mut sockets.is_due) {
                sockets.dispatch(now);
            }
        }
    }

    fn release(&mut self, now: Time) {
        for sockets in self.apps.values_mut() {
            sockets.release(now);
        }
    }

    /// Every client of the simulation counts.
    fn end_uncounted(&mut self, _: AppId) {}

    fn stop_accepting(&mut self, app: AppId, now: Time) {
        self.of_mut(app).stop_accepting(now);
    }

    fn reset_all(&mut self, app: AppId, _: Time) {
        self.of_mut(app).reset_all();
    }

    fn remove_app(&mut self, _: AppId, _: Time) {
        unreachable!("no app leaves the simulation");
    }
}
