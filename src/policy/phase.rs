//! What the app is taken to be doing, and what is being done about it.

use crate::clock::Time;
use crate::cluster::ResourceVersion;

/// What is known of the app, and what is being done about it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// It has replicas, as far as is known, and nothing is to be done.
    Awake,
    /// Somebody waits and there is no address to dial, though the scale is not
    /// known to be zero.
    Starting {
        /// Since when somebody has waited.
        since: Time,
    },
    /// The idle TTL has passed. The scale is being read afresh; nothing was
    /// written yet, and a connection ends the matter.
    ConfirmingIdle,
    /// The write of zero is on its way, or its outcome is unknown and nobody
    /// waits. Connections are held while it is on its way.
    ScalingDown,
    /// The scale is zero, at that version.
    Asleep {
        /// The version that a wake is guarded by.
        version: ResourceVersion,
    },
    /// The scale is zero and was found so while somebody waited: it is raised
    /// even if they have gone by now.
    Waking {
        /// Since when somebody has waited.
        since: Time,
        /// The version at which the scale was zero; `None` if that must be
        /// read again before anything is written.
        version: Option<ResourceVersion>,
    },
}

impl Phase {
    /// What each phase is called in metrics and in the state that is shown.
    pub const NAMES: [&'static str; 8] = [
        "awake",
        "starting",
        "confirming_idle",
        "scaling_down",
        "asleep",
        "waking",
        Self::UNKNOWN,
        Self::MISSING,
    ];

    /// Awake for all that is known, which is nothing yet.
    pub const UNKNOWN: &'static str = "unknown";

    /// The scale target does not exist.
    pub const MISSING: &'static str = "missing";

    /// What this one is called.
    pub fn name(&self) -> &'static str {
        Self::NAMES[match self {
            Phase::Awake => 0,
            Phase::Starting { .. } => 1,
            Phase::ConfirmingIdle => 2,
            Phase::ScalingDown => 3,
            Phase::Asleep { .. } => 4,
            Phase::Waking { .. } => 5,
        }]
    }
}
