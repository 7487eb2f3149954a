//! What goes wrong around `zpa` during one round.

use std::thread;
use std::time::{Duration, Instant};

use zpa::backoff::Random;

use crate::sandbox::{Misbehaviour, Sandbox, Times, WatchOrder, anything, on};

/// One kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Weather {
    /// None.
    Fair,
    /// Pods reset their connections.
    Rough,
    /// The API server refuses everything for a while.
    Refusals,
    /// Writes meet conflicts.
    Conflicts,
    /// A write is applied, and its reply is lost.
    LostReplies,
    /// The API server is down for a while.
    Outage,
    /// Its connections are reset again and again.
    Resets,
    /// Watches end in every way there is.
    BrokenWatches,
    /// Token and CA are rotated.
    Rotations,
}

const ALL: [Weather; 9] = [
    Weather::Fair,
    Weather::Rough,
    Weather::Refusals,
    Weather::Conflicts,
    Weather::LostReplies,
    Weather::Outage,
    Weather::Resets,
    Weather::BrokenWatches,
    Weather::Rotations,
];

/// How long between two strokes.
const PACE: Duration = Duration::from_millis(100);

impl Weather {
    /// One of them.
    pub fn any(random: &mut Random) -> Weather {
        ALL[(random.bits() % ALL.len() as u64) as usize]
    }

    /// Goes on until then; what outlasts it is healed by the caller.
    pub fn rage(self, sandbox: &Sandbox, until: Instant) {
        let patch = || on("patch", "deployments/scale");
        match self {
            Weather::Fair => {}
            Weather::Rough => repeat(until, |_| sandbox.reset_pod_connections()),
            Weather::Refusals => {
                let refusal = Misbehaviour::Refuse(503, None);
                let outage = sandbox.fault(anything(), Times::Always, refusal);
                thread::sleep(PACE * 5);
                sandbox.heal_one(outage);
            }
            Weather::Conflicts => {
                sandbox.fault(patch(), Times::First(3), Misbehaviour::Refuse(409, None));
            }
            Weather::LostReplies => {
                sandbox.fault(patch(), Times::First(1), Misbehaviour::LoseReply);
            }
            Weather::Outage => {
                sandbox.api_down();
                thread::sleep(PACE * 5);
                sandbox.api_up();
            }
            Weather::Resets => repeat(until, |_| sandbox.reset_connections()),
            Weather::BrokenWatches => {
                let orders = WatchOrder::BREAKS;
                repeat(until, |time| {
                    sandbox.order_watches(orders[time % orders.len()].clone());
                });
                sandbox.expire_versions_and_watches();
            }
            Weather::Rotations => {
                sandbox.rotate_ca();
                sandbox.rotate_token();
                sandbox.reset_connections();
            }
        }
    }
}

/// Strikes now and then until then.
fn repeat(until: Instant, strike: impl Fn(usize)) {
    for time in 0.. {
        if Instant::now() >= until {
            return;
        }
        strike(time);
        thread::sleep(PACE);
    }
}
