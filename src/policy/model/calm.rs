//! Calm runs, without further faults: waiting connections must be forwarded in them.

use super::deployment::Variant;
use super::proxy::{Life, Proxy};
use super::world::{Late, World};

/// The proxies, the quicker one first: all its events come before those of the other one.
type Order = [usize; 2];

const ORDERS: [Order; 2] = [[0, 1], [1, 0]];

impl World {
    /// Whether the connections that wait at running proxies are forwarded within so many steps, if
    /// every request is answered at once and pods follow the scale at once, whichever proxy is the
    /// quicker one. Late requests are lost; a proxy that is stopped or down stays so.
    pub fn is_served_within(&self, steps: u8) -> bool {
        !self.has_waiting() || ORDERS.iter().all(|order| self.serves(steps, order))
    }

    fn serves(&self, steps: u8, order: &Order) -> bool {
        let mut world = self.clone();
        world.late = Late::default();
        world.steps = None;
        for _ in 0..=steps {
            world.settle(order);
            if !world.has_waiting() {
                return world.breach.is_none();
            }
            world.pass();
            world.normalise();
        }
        false
    }

    /// Lets so many steps pass without a fault.
    pub fn stay_calm(&mut self, steps: u8) {
        for _ in 0..steps {
            self.settle(&ORDERS[0]);
            self.pass();
            self.normalise();
        }
    }

    pub fn has_waiting(&self) -> bool {
        self.proxies
            .iter()
            .any(|proxy| proxy.is_running() && proxy.waiting)
    }

    fn settle(&mut self, order: &Order) {
        while order.iter().any(|&p| self.settle_one(p)) {
            self.normalise();
        }
    }

    /// Performs one event that is possible at a proxy; returns false if there is none.
    fn settle_one(&mut self, p: usize) -> bool {
        let proxy = &self.proxies[p];
        let awake = self.deployment.replicas > 0;
        if proxy.life != Life::Running {
            return false;
        } else if proxy.request().is_some() {
            self.apply(p, Variant::Sound);
        } else if proxy.has_answer() {
            self.answer(p, Variant::Sound);
        } else if proxy.policy.dialable != awake {
            self.at(p, |proxy| proxy.set_dialable(awake));
        } else if proxy.may_forward() {
            self.at(p, Proxy::forward);
        } else {
            return false;
        }
        true
    }
}
