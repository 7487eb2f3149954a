//! [`PodsRead`]: what the pods of an app show, and [`PodProblem`]: why they do not get ready.

use std::collections::BTreeSet;

/// What the pods of an app show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodsRead {
    /// What is wrong with them; `None`: nothing, or they may not be read.
    pub problem: Option<PodProblem>,
    /// The UIDs of those that are to be there.
    pub uids: BTreeSet<String>,
}

/// Why the pods of an app do not get ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodProblem {
    /// The reason as Kubernetes names it, such as `ImagePullBackOff`.
    pub reason: &'static str,
    /// The pod, the reason and the message, in printable characters.
    pub text: String,
    /// The UID of the pod.
    pub uid: String,
    /// Whether waiting solves it.
    pub persistence: Persistence,
    /// Whether there are other pods, which may get ready.
    pub others_start: bool,
}

/// Whether waiting solves a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// It may.
    Passes,
    /// It may, unless the problem is still there a while later.
    Repeats,
    /// It may, unless the container is started again and again: the number of restarts in the life
    /// of the pod.
    Restarts(u64),
    /// It does not.
    Lasts,
}
