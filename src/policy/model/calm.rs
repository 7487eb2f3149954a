//! Runs in which nothing goes wrong any more: whoever waits has to be forwarded in them.

use super::deployment::Variant;
use super::proxy::{Life, Proxy};
use super::world::{Late, World};

/// The proxies, the quicker one first: it does all that it can do before the
/// other one does anything.
type Order = [usize; 2];

const ORDERS: [Order; 2] = [[0, 1], [1, 0]];

impl World {
    /// Whether whoever waits at a running proxy is forwarded within so many
    /// steps, if everything is answered at once and pods follow the scale at
    /// once, whichever proxy is the quicker one. What is late by now never
    /// arrives; what is stopped or down stays so.
    pub fn is_served_within(&self, steps: u8) -> bool {
        !self.somebody_waits() || ORDERS.iter().all(|order| self.serves(steps, order))
    }

    fn serves(&self, steps: u8, order: &Order) -> bool {
        let mut world = self.clone();
        world.late = Late::default();
        world.steps = None;
        for _ in 0..=steps {
            world.settle(order);
            if !world.somebody_waits() {
                return world.breach.is_none();
            }
            world.pass();
            world.normalise();
        }
        false
    }

    /// Lets so many steps pass in which nothing goes wrong.
    pub fn stays_calm(&mut self, steps: u8) {
        for _ in 0..steps {
            self.settle(&ORDERS[0]);
            self.pass();
            self.normalise();
        }
    }

    pub fn somebody_waits(&self) -> bool {
        self.proxies
            .iter()
            .any(|proxy| proxy.runs() && proxy.waiting)
    }

    fn settle(&mut self, order: &Order) {
        while order.iter().any(|&p| self.settle_one(p)) {
            self.normalise();
        }
    }

    /// Does one thing that is left to be done at a proxy.
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
            self.at(p, |proxy| proxy.sees_pods(awake));
        } else if proxy.may_hand_over() {
            self.at(p, Proxy::hands_over);
        } else {
            return false;
        }
        true
    }
}
