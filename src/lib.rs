//! zero-pod-autoscaler: see `README.md`.

pub mod address;
pub mod backoff;
pub mod clock;
pub mod cluster;
pub mod duration;
pub mod engine;
pub mod kube;
pub mod policy;
pub mod settings;
pub mod sys;
