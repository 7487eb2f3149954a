//! [`Rollout`]: how far a rollout of the scale target has come.

/// A rollout in progress: pods of an older template are left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rollout {
    /// The pods of the new template (`status.updatedReplicas`).
    pub updated: u32,
    /// All pods (`status.replicas`).
    pub pods: u32,
}
