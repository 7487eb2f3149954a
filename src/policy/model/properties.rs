//! The properties of the model: invariants of every state, and states that must be reachable.

use std::cmp::Ordering;

use stateright::Property;

use super::deployment::Breach;
use super::proxy::{Call, Life, Proxy};
use super::world::World;
use super::{Scenario, Steps};
use crate::cluster::{Outcome, Request, Scale};
use crate::policy::Phase;

/// (1) The Deployment is not at zero while a proxy holds a lease: no write of zero is executed
/// meanwhile, and no lease is granted after one.
pub const LEASE: &str = "(1) while a proxy holds a lease the app is not at zero";

/// (1') The effect of (1) on clients. A proxy is hindered if one of its renewals has failed, or was
/// not answered within a step, and none has succeeded since. A proxy that was stopped is left out.
pub const CUT: &str = "(1') no sleep cuts a connection whose proxy was not hindered";

/// (2) A connection counts as let through by the fail-open only if the policy counts it, and if
/// the proxy was hindered for two seconds while it ran: a stopped process has not seen that.
pub const FORWARDED: &str = "(2) nothing is forwarded without a lease but by the fail-open";

/// (3) From every state with waiting connections, if late requests are lost and each further one is
/// answered, the connections are forwarded.
pub const SERVED: &str = "(3) waiting connections are forwarded within two calm steps";

/// (3) for a run that ends: at its end no connection waits.
pub const SERVED_IN_THE_END: &str = "(3) in the end waiting connections were forwarded";

/// (4) The types ensure that every write is guarded; this is the rest.
pub const RESCALED: &str = "(4) the scale goes to zero, and from zero to the wake count";

/// (5) Also after a crash and a restart at any point.
pub const HASTY: &str = "(5) no proxy writes zero within a TTL of its start";

/// (6) Also after a conflict. The reply to a renewal shows the Deployment as that to a read does.
pub const UNREAD: &str = "(6) no write of the scale follows a failed one before a read";

/// (7) At the time at which zero is sent: a request in flight cannot be called back.
pub const UNWAKEABLE: &str = "(7) a proxy that could not wake the app does not put it to sleep";

/// The calm steps that this takes: one for the pause after a failure, and one more if the next
/// wake meets a conflict because of an earlier write by another client.
const CALM_STEPS: u8 = 2;

/// The invariants.
pub fn rules() -> Vec<Property<Scenario>> {
    vec![
        Property::always(LEASE, |_, world: &World| {
            world.deployment.replicas > 0 || !world.proxies.iter().any(Proxy::holds_lease)
        }),
        Property::always(CUT, |_, world| without(world, Breach::Cut)),
        Property::always(FORWARDED, |_, world| without(world, Breach::WithoutLease)),
        Property::always(SERVED, |_, world: &World| {
            world.is_served_within(CALM_STEPS)
        }),
        Property::always(RESCALED, |_, world| without(world, Breach::Rescaled)),
        Property::always(HASTY, |_, world| without(world, Breach::Hasty)),
        Property::always(UNREAD, |_, world| without(world, Breach::Unread)),
        Property::always(UNWAKEABLE, |_, world| without(world, Breach::Unwakeable)),
    ]
}

fn without(world: &World, breach: Breach) -> bool {
    world.breach != Some(breach)
}

/// (3) where every run ends. It holds in last states only, so that the checker need not remember
/// along which path it was met.
pub fn end() -> Property<Scenario> {
    Property::eventually(SERVED_IN_THE_END, |_, world: &World| {
        matches!(world.steps, Some(Steps { faulty: 0, calm: 0 })) && !world.has_waiting()
    })
}

/// States that a model with one fault must reach, so that the invariants are about something.
pub fn reachable_states() -> Vec<Property<Scenario>> {
    vec![
        Property::sometimes("the app is put to sleep", |_, world: &World| {
            any_call(world, |call| was_applied(call, 0))
        }),
        Property::sometimes("the app is woken", |_, world: &World| {
            any_call(world, |call| was_applied(call, 1))
        }),
        Property::sometimes("a write meets a conflict", |_, world: &World| {
            any_call(world, |call| call.outcome == Some(Outcome::Conflict))
        }),
        Property::sometimes(
            "the reply to a write that was executed can be lost",
            |_, world: &World| {
                let lost = |call: &Call| was_applied(call, 0) || was_applied(call, 1);
                world.left.faults > 0 && any_call(world, lost)
            },
        ),
        Property::sometimes(
            "a write of zero that was given up is still in flight",
            |_, world: &World| world.late.sleep,
        ),
        Property::sometimes(
            "a connection can be forwarded by the fail-open",
            |_, world: &World| {
                let open = |proxy: &Proxy| proxy.may_forward() && !proxy.holds_lease();
                world.proxies.iter().any(open)
            },
        ),
        Property::sometimes("a crash while awake", |_, world: &World| {
            can_crash(world, |phase| *phase == Phase::Awake)
        }),
        Property::sometimes("a crash while starting", |_, world: &World| {
            can_crash(world, |phase| matches!(phase, Phase::Starting { .. }))
        }),
        Property::sometimes("a crash while confirming idle", |_, world: &World| {
            can_crash(world, |phase| *phase == Phase::ConfirmingIdle)
        }),
        Property::sometimes("a crash while scaling down", |_, world: &World| {
            can_crash(world, |phase| *phase == Phase::ScalingDown)
        }),
        Property::sometimes("a crash while asleep", |_, world: &World| {
            can_crash(world, |phase| matches!(phase, Phase::Asleep { .. }))
        }),
        Property::sometimes("a crash while waking", |_, world: &World| {
            can_crash(world, |phase| matches!(phase, Phase::Waking { .. }))
        }),
    ]
}

/// States in which events come at every time at which they make a difference.
pub fn reachable_events() -> Vec<Property<Scenario>> {
    fn any(world: &World, is_it: fn(&Proxy, &Scale) -> bool) -> bool {
        let is_it = |proxy: &Proxy| {
            let event = proxy.event.as_ref().filter(|_| proxy.is_running());
            event.is_some_and(|event| is_it(proxy, event))
        };
        world.proxies.iter().any(is_it)
    }
    vec![
        Property::sometimes("an event is older than a reply", |_, world: &World| {
            any(world, |proxy, event| {
                proxy.order_of(event) == Some(Ordering::Less)
            })
        }),
        Property::sometimes("an event is newer than every reply", |_, world: &World| {
            any(world, |proxy, event| {
                proxy.order_of(event) == Some(Ordering::Greater)
            })
        }),
        Property::sometimes(
            "an event shows the effect of our write",
            |_, world: &World| {
                any(world, |proxy, event| {
                    event.replicas == 0 && proxy.policy.phase == Phase::ScalingDown
                })
            },
        ),
        Property::sometimes("an event waits for a reply", |_, world: &World| {
            let waits = |proxy: &Proxy| proxy.policy.observed.is_some();
            world.proxies.iter().any(waits)
        }),
    ]
}

/// States that take two connections and unbounded time.
pub fn rare_reachable_states() -> Vec<Property<Scenario>> {
    vec![
        Property::sometimes("both proxies hold a lease", |_, world: &World| {
            world.proxies.iter().all(Proxy::holds_lease)
        }),
        Property::sometimes(
            "the connections of a stopped process are cut",
            |_, world: &World| {
                let cut = |proxy: &Proxy| proxy.life == Life::Stopped && proxy.served;
                world.deployment.replicas == 0 && world.proxies.iter().any(cut)
            },
        ),
    ]
}

fn any_call(world: &World, is_it: fn(&Call) -> bool) -> bool {
    world
        .proxies
        .iter()
        .any(|proxy| proxy.is_running() && proxy.call.as_ref().is_some_and(is_it))
}

/// Whether the reply that the scale was written is in flight.
fn was_applied(call: &Call, to: u32) -> bool {
    let written = matches!(call.request, Request::WriteScale { replicas, .. } if replicas == to);
    written && matches!(call.outcome, Some(Outcome::Scale(_)))
}

fn can_crash(world: &World, is_it: fn(&Phase) -> bool) -> bool {
    let there = |proxy: &Proxy| proxy.is_running() && is_it(&proxy.policy.phase);
    world.left.faults > 0 && world.proxies.iter().any(there)
}
