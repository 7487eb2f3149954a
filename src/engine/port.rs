//! [`Port`]: the state that the connections of one listener share: whether and where they may be
//! dialled, their limits, and their counters.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::balancer::Balancer;
use super::counters::{Counters, Counts};
use super::limits::AppLimits;
use super::port_group::PortGroup;
use crate::clock::Time;
use crate::rules::Rules;
use crate::rules::per_source::PerSource;

/// What the connections of one listener share.
pub struct Port {
    /// Their timeouts and limits.
    pub limits: AppLimits,
    /// Which of them count, and how fast they are dialled.
    pub rules: Rules,
    /// What it shares with the other ports of its app: how fast those that were held are
    /// dialled after a wake, and how many connections each pod has.
    pub group: Rc<PortGroup>,
    /// Whether counted connections may be dialled.
    pub gate_open: bool,
    /// Why the app cannot start, however long a connection waits.
    pub wake_failure: Option<&'static str>,
    /// What keeps its backends from getting ready, as far as is known.
    pub wake_trouble: Option<&'static str>,
    /// Since when the gate is open and there is an address: the time of the last wake, if
    /// there was one.
    pub ready_since: Time,
    /// Whether that was so at the last call of [`Port::update_readiness`].
    was_ready: bool,
    /// The backends.
    pub balancer: Balancer,
    /// How many connections there are.
    pub counts: Counts,
    /// What has become of them.
    pub counters: Counters,
    /// How many each source has.
    pub per_source: PerSource,
    /// The slots of those that pause before the next round through the addresses.
    pub backing_off: BTreeSet<usize>,
}

impl Port {
    /// No address is known and the gate is shut. The seed is that of the balancer's
    /// random choices.
    pub fn new(limits: AppLimits, seed: u64) -> Self {
        Port {
            limits,
            rules: Rules::default(),
            group: Rc::default(),
            gate_open: false,
            wake_failure: None,
            wake_trouble: None,
            ready_since: Time::default(),
            was_ready: false,
            balancer: Balancer::new(seed),
            counts: Counts::default(),
            counters: Counters::default(),
            per_source: PerSource::default(),
            backing_off: BTreeSet::new(),
        }
    }

    /// Puts it in a group. To be called before it has a backend.
    pub fn join(&mut self, group: &Rc<PortGroup>) {
        self.group = group.clone();
        self.balancer.share_with(group);
    }

    /// Replaces the rules for those who come, and for those who wait.
    pub fn set_rules(&mut self, rules: Rules) {
        self.balancer
            .set_max_per_backend(rules.max_connections_per_pod);
        self.group.set_release_rate(rules.release_rate);
        self.per_source.set_limit(rules.max_per_source);
        self.rules = rules;
    }

    /// What was counted, and whether every backend is full.
    pub fn counts(&self) -> Counts {
        Counts {
            is_full: self.balancer.is_full(),
            ..self.counts
        }
    }

    /// Whether connections may be let through, and there is an address.
    pub fn is_ready(&self) -> bool {
        self.gate_open && !self.balancer.is_empty()
    }

    /// Why a connection need not wait, if none can be dialled.
    pub fn failure(&self) -> Option<&'static str> {
        self.wake_failure.filter(|_| !self.is_ready())
    }

    /// Whether a connection may be dialled for now: it may be let through, and there is
    /// an address whose backend has room.
    pub fn may_dial(&self) -> bool {
        self.is_ready() && !self.balancer.is_full()
    }

    /// Whether the next one that waits may be dialled for now.
    pub fn may_release(&self, now: Time) -> bool {
        self.may_dial() && self.group.release().is_due(now)
    }

    /// When the next one that waits may be dialled, if time alone stands in its way.
    pub fn next_release(&self) -> Option<Time> {
        self.group.release().next_at().filter(|_| self.may_dial())
    }

    /// Begins a release if connections may be dialled and could not before.
    pub fn update_readiness(&mut self, now: Time) {
        let is_ready = self.is_ready();
        if is_ready && !self.was_ready {
            self.ready_since = now;
            self.group.begin_release(now);
        }
        if self.was_ready && !is_ready {
            self.group.note_unready();
        }
        self.was_ready = is_ready;
    }
}
