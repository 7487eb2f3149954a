//! [`AnnotationOverrides`]: the annotations on the scale target with which an operator overrides
//! the idle rules.

/// The annotations with which an operator overrides the idle rules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct AnnotationOverrides {
    /// Whether the scale must not be written, in neither direction.
    pub is_paused: bool,
    /// The time until which the app is kept awake, in seconds since 1970.
    pub keep_awake_until: Option<u64>,
    /// The value of the annotation whose change wakes the app, or the beginning of it.
    pub wake: Option<String>,
    /// An annotation whose value is invalid, and has no effect.
    pub invalid: Option<OverrideKey>,
}

/// An annotation whose value is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OverrideKey {
    /// `zero-pod-autoscaler/pause`: `true` or `false`.
    Pause,
    /// `zero-pod-autoscaler/keep-awake-until`: a time (RFC 3339).
    KeepAwakeUntil,
}
