//! [`Orders`]: what an operator has ordered by annotations on the scale target.

/// What an operator has ordered by annotations on the scale target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Orders {
    /// The scale is not to be written, in neither direction.
    pub is_paused: bool,
    /// Until when the app is to be kept awake, in seconds since 1970.
    pub keep_awake_until: Option<u64>,
    /// The value of the annotation whose change orders a wake, or the beginning of it.
    pub wake: Option<String>,
    /// An annotation whose value cannot be read, and which orders nothing.
    pub unreadable: Option<OrderKey>,
}

/// An annotation whose value is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OrderKey {
    /// `zero-pod-autoscaler/pause`: `true` or `false`.
    Pause,
    /// `zero-pod-autoscaler/keep-awake-until`: a time (RFC 3339).
    KeepAwakeUntil,
}
