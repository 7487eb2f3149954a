//! What the policy has others do: requests, orders about pods, and what an
//! operator is to be told.

use std::time::Duration;

use crate::cluster::{LeaseStore, Request};

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Ask the API server. A request replaces one that was not answered yet.
    Ask {
        /// Names the reply.
        id: u64,
        /// What to ask.
        request: Request,
    },
    /// The scale is zero: the pods that are known now are about to die.
    QuarantinePods,
    /// The scale is above zero: pods that stay ready from now on are alive.
    ReleasePods,
    /// Tell the operator.
    Report(Change),
}

/// A change that an operator wants to hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// The scale was seen for the first time.
    Found {
        /// The replicas seen.
        replicas: u32,
    },
    /// Somebody else has scaled the app: another proxy, or a person.
    ScaledByOthers {
        /// From zero, or else to zero.
        from_zero: bool,
        /// The replicas seen.
        replicas: u32,
        /// How many connections are open here.
        open: usize,
    },
    /// A connection has come while the scale is zero.
    Waking {
        /// How many connections wait.
        waiting: usize,
    },
    /// Our write has raised the scale.
    ScaledUp {
        /// To how many replicas.
        replicas: u32,
    },
    /// A wake was to ask for as many replicas as there were before the sleep, and the
    /// object has not kept how many.
    PreviousUnknown {
        /// How many it asks for.
        replicas: u32,
    },
    /// There is an address for those who waited.
    Woke {
        /// From the first connection that had to wait to now.
        took: Duration,
        /// How many connections were held.
        held: usize,
    },
    /// Our write has put the app to sleep.
    Slept {
        /// How long there had been no connection.
        idle: Duration,
    },
    /// No renewal succeeds: connections are let through without a lease.
    WithoutLease {
        /// How many connections waited for it.
        waiting: usize,
    },
    /// Leases are written there from now on; `None`: nowhere, since it is allowed
    /// nowhere.
    LeaseLocation(Option<LeaseStore>),
    /// The leases of other proxies cannot be seen any more, or can again.
    LeasesVisible(bool),
    /// Something scales the app up again after each sleep, and nobody uses it.
    SetBack {
        /// How many times in a row.
        times: u32,
    },
    /// Another proxy renews its lease for another TTL than ours.
    OtherTtl {
        /// The TTL of the other proxy.
        theirs: Duration,
    },
}
