//! [`Rules`] are what the operator of an app has set about its clients: which of them may
//! connect, which of them count as use of the app and for how long, and at which pace
//! those that waited are let through.
//!
//! Every rule is pure: addresses, bytes and times go in, and what to do comes out. The
//! settings parse the rules, the engine applies them. With no rule set, a connection
//! costs what it costs without this module.

pub mod idle;
pub mod release;
pub mod sources;

use std::num::NonZeroU32;

use self::idle::IdleRules;
use self::release::ReleaseRate;
use self::sources::Sources;

/// The rules of one app. The default sets none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Which clients count, by their addresses.
    pub sources: Sources,
    /// The most connections of one pod at a time; `None` if that is not limited.
    pub max_connections_per_pod: Option<NonZeroU32>,
    /// The pace at which those that waited for a wake are let through.
    pub release_rate: ReleaseRate,
    /// What becomes of a connection over which no byte goes.
    pub idle: IdleRules,
}
