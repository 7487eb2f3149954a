//! [`PodProblem`]: why the pods of an app do not get ready.

/// Why the pods of an app do not get ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodProblem {
    /// The reason as Kubernetes names it, such as `ImagePullBackOff`.
    pub reason: &'static str,
    /// The pod, the reason and the message, in printable characters.
    pub text: String,
    /// Whether it is a problem that waiting does not solve.
    pub is_lasting: bool,
}
