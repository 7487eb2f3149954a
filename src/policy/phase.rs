//! [`Phase`]: the phase of an app.

use crate::clock::Time;
use crate::cluster::ResourceVersion;

/// The phase of an app: what is known of its scale, and what the policy does about it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// It has replicas, or its scale is not known.
    Awake,
    /// Connections wait and there is no address to dial, but the scale is not known to be
    /// zero.
    Starting {
        /// Since when connections have waited.
        since: Time,
    },
    /// The idle TTL has passed, and the object is read again. Nothing was written yet; with
    /// a connection the phase is `Awake` again.
    ConfirmingIdle,
    /// The write of zero is in flight, or its outcome is unknown and no connection waits.
    /// While it is in flight, connections are held.
    ScalingDown,
    /// The scale is zero, at that version.
    Asleep {
        /// The version that guards a wake.
        version: ResourceVersion,
    },
    /// The scale was zero while connections waited: the wake count is to be written, even if
    /// they have left meanwhile.
    Waking {
        /// Since when connections have waited.
        since: Time,
        /// The version at which the scale was zero; `None` if it must be read again before
        /// the write.
        version: Option<ResourceVersion>,
    },
}

impl Phase {
    /// The names of the phases in metrics and `/status`.
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

    /// The scale was not read yet.
    pub const UNKNOWN: &'static str = "unknown";

    /// The scale target does not exist.
    pub const MISSING: &'static str = "missing";

    /// Its name.
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
