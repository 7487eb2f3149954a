//! zero-pod-autoscaler
pub mod clock;
pub mod cluster;
