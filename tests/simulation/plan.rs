//! [`Plan`]: the actions of a run and their times. It is data, so that a failing plan can be
//! shrunk; `draw` draws one from a seed.

mod draw;

pub use self::draw::actor;

use std::collections::BTreeMap;
use std::time::Duration;

use zpa::clock::Time;

use crate::deployment::{Flaws, Permissions, Who};
use crate::pods::Failure;
use crate::trouble::Trouble;

/// A request of the client and the reply to it.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// How long the client waits before it sends.
    pub pause: Duration,
    /// How many bytes it sends, and wants back.
    pub bytes: u64,
}

/// What a client wants.
#[derive(Clone, Debug)]
pub struct Script {
    /// Its exchanges, after which it closes.
    pub exchanges: Vec<Exchange>,
    /// How long it waits for a reply before it resets.
    pub resets_after: Option<Duration>,
}

/// Something that happens because somebody does it.
#[derive(Clone, Debug)]
pub enum Action {
    /// A client connects to the proxy in that place.
    Connect(usize, Script),
    /// Somebody writes the number of replicas.
    Scale(u32, Who),
    /// The HPA does, which leaves zero alone.
    Adjust(u32),
    /// The Deployment is deleted, and made again later with so many replicas.
    Replace(Duration, u32),
    /// kill -9, and a restart so much later.
    Kill(usize, Duration),
    /// The process is stopped for that long.
    Stop(usize, Duration),
    /// A new proxy beside the old one, which gets SIGTERM.
    Rollout(usize),
    /// Requests from that place, or from all, meet with trouble.
    Hit(Option<usize>, Trouble, Duration),
    /// Nothing comes through that place's watch.
    BreakWatch(usize, Duration),
    /// The controllers take seconds for everything.
    SlowControllers(Duration),
    /// New pods take that long.
    SlowPods(Duration),
    /// No new pod is ready before that has passed.
    NoPods(Duration),
    /// The service account of that place, or of all, may do only that.
    Restrict(Option<usize>, Permissions, Duration),
    /// The Service does not have the port of the proxies in that place, for that long.
    LosePort(usize, Duration),
    /// A pod crashes.
    Crash,
    /// A pod fails for that long although it is listed.
    Fail(Failure, Duration),
}

impl Action {
    /// Whether it is done to a process, with all of its apps.
    pub fn is_of_process(&self) -> bool {
        matches!(
            self,
            Action::Kill(..) | Action::Stop(..) | Action::Rollout(_)
        )
    }

    /// What the totals call it; `None` for what is no fault.
    pub fn fault(&self) -> Option<String> {
        let name = match self {
            Action::Connect(..) => return None,
            Action::Scale(_, Who::GitOps) => "GitOps reverts the scale",
            Action::Scale(0, _) => "an operator scales to 0",
            Action::Scale(..) => "an operator scales up",
            Action::Adjust(_) => "the HPA changes N",
            Action::Replace(..) => "Deployment deleted and made again",
            Action::Kill(..) => "kill -9 and restart",
            Action::Stop(..) => "process stopped",
            Action::Rollout(_) => "rollout of zpa",
            Action::Hit(None, trouble, _) => return Some(format!("API for all: {trouble:?}")),
            Action::Hit(_, trouble, _) => return Some(format!("API for one: {trouble:?}")),
            Action::BreakWatch(..) => "watch half-open",
            Action::SlowControllers(_) => "controllers slow",
            Action::SlowPods(_) => "pods slow to start",
            Action::NoPods(_) => "pods never ready",
            Action::Restrict(None, ..) => "permissions missing for all",
            Action::Restrict(..) => "permissions missing for one",
            Action::LosePort(..) => "port missing",
            Action::Crash => "pod crashes",
            Action::Fail(Failure::Refuses, _) => "listed pod refuses",
            Action::Fail(Failure::Swallows, _) => "listed pod swallows",
        };
        Some(name.to_owned())
    }
}

/// A proxy that is not what it should be, to see that the oracle notices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mutant {
    /// None.
    #[default]
    No,
    /// It does not see its connections.
    NoCounts,
    /// It dials with its gate shut.
    Gateless,
    /// Its clock runs twice as fast as everybody's.
    Fast,
    /// It asks everything eight times.
    Eager,
    /// It chooses pods without regard to what has failed.
    Forgetful,
    /// It notices ten seconds late what is due.
    Late,
    /// Some replies reach another app than the one that has asked.
    Misrouting,
    /// The gate of one app is that of all.
    OneGate,
    /// Its loop never waits.
    Busy,
}

/// An action, and when it is done.
#[derive(Clone, Debug)]
pub struct Step {
    /// When.
    pub at: Time,
    /// The number of the app that it affects, unless it is done to a process.
    pub app: usize,
    /// What.
    pub action: Action,
}

/// One app of a run.
#[derive(Clone, Debug)]
pub struct AppPlan {
    /// Its number, which stays when others are left out.
    pub number: usize,
    /// The idle TTL, and the longest where they differ.
    pub ttl: Duration,
    /// The shorter idle TTLs of the proxies in some places.
    pub shorter: BTreeMap<usize, Duration>,
    /// The hold limit.
    pub hold: Duration,
    /// The replicas at first.
    pub replicas: u32,
    /// How likely a single request is to meet with trouble.
    pub noise: f64,
    /// How likely a client is to come at the moment at which a proxy judges
    /// that the app has been idle long enough.
    pub critical_clients: f64,
    /// Whether the Service has an address that leads to its pods.
    pub fallback: bool,
    /// What the service account may do where nothing restricts it.
    pub role: Permissions,
}

/// A run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Of what is drawn while it runs.
    pub seed: u64,
    /// How many proxies there are, rollouts apart.
    pub slots: usize,
    /// The apps of each proxy, by number.
    pub apps: Vec<AppPlan>,
    /// When the last action is done.
    pub horizon: Duration,
    /// By how much the proxies' clocks differ in speed.
    pub drift: f64,
    /// What is done, and when.
    pub actions: Vec<Step>,
    /// What is wrong with the world.
    pub flaws: Flaws,
    /// What is wrong with the proxies.
    pub mutant: Mutant,
}

impl AppPlan {
    fn quiet(number: usize, ttl: Duration) -> AppPlan {
        AppPlan {
            number,
            ttl,
            shorter: BTreeMap::new(),
            hold: Duration::from_secs(300),
            replicas: 1,
            noise: 0.0,
            critical_clients: 0.0,
            fallback: false,
            role: Permissions::SHIPPED,
        }
    }

    /// The idle TTL of the proxies in that place.
    pub fn ttl_of(&self, slot: usize) -> Duration {
        self.shorter.get(&slot).copied().unwrap_or(self.ttl)
    }
}

impl Plan {
    /// A quiet run of one app with nothing in it.
    pub fn quiet(seed: u64, slots: usize, ttl: Duration) -> Plan {
        Plan {
            seed,
            slots,
            apps: vec![AppPlan::quiet(0, ttl)],
            horizon: Duration::ZERO,
            drift: 0.0,
            actions: Vec::new(),
            flaws: Flaws::default(),
            mutant: Mutant::No,
        }
    }

    /// The same, with `action` done at that time, to the first app.
    pub fn with(mut self, at: Duration, action: Action) -> Plan {
        self.push(at, self.apps[0].number, action);
        self.horizon = self.horizon.max(at);
        self
    }

    /// Leaves out an app with all that is done to it alone.
    pub fn leave_out(&mut self, number: usize) {
        self.apps.retain(|app| app.number != number);
        self.actions
            .retain(|step| step.app != number || step.action.is_of_process());
    }

    /// The same with one of its apps alone.
    pub fn alone(&self, number: usize) -> Plan {
        let mut plan = self.clone();
        for app in &self.apps {
            if app.number != number {
                plan.leave_out(app.number);
            }
        }
        plan
    }

    /// The same with nothing that happens to any other app than this one. The others stay, since
    /// apps that cannot be watched are read in turn.
    pub fn calm_beside(&self, number: usize) -> Plan {
        let mut plan = self.clone();
        for app in &mut plan.apps {
            if app.number != number {
                *app = AppPlan::quiet(app.number, app.ttl);
                app.replicas = 0;
            }
        }
        plan.actions
            .retain(|step| step.app == number || step.action.is_of_process());
        plan
    }

    fn push(&mut self, at: Duration, app: usize, action: Action) {
        let at = Time::new(at);
        self.actions.push(Step { at, app, action });
    }
}
