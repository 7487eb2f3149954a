//! [`TargetRef`]: which object is scaled, with how many replicas it wakes, and
//! whose command line said so.
//!
//! Core types: the settings write them, the API threads and the daemon read
//! them, and nothing is looked up here.

use std::fmt;
use std::num::NonZeroU32;

/// A resource that has a scale subresource, by its plural and its API group.
/// The version is left to discovery.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Resource {
    /// The plural, in lower case: `deployments`.
    pub plural: String,
    /// The API group: `apps`.
    pub group: String,
}

impl Resource {
    /// `deployments.apps`.
    pub fn deployments() -> Resource {
        Resource {
            plural: "deployments".to_owned(),
            group: "apps".to_owned(),
        }
    }

    /// Whether this is `deployments.apps`.
    pub fn is_deployments(&self) -> bool {
        self.plural == "deployments" && self.group == "apps"
    }
}

impl fmt::Display for Resource {
    /// `deployments.apps`, as kubectl takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.plural, self.group)
    }
}

/// Which object is scaled, as the settings name it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TargetRef {
    /// The object of that name.
    Object {
        /// Of which kind it is.
        resource: Resource,
        /// `metadata.name`.
        name: String,
    },
    /// The one object of that kind that a label selector matches.
    Labels {
        /// Of which kind it is.
        resource: Resource,
        /// A label selector, as `labelSelector=` takes it: `app=guestbook`.
        selector: String,
    },
    /// The controller that owns the ReplicaSet that a label selector matches.
    ReplicaSetOwner {
        /// A label selector, as `labelSelector=` takes it: `app=guestbook`.
        selector: String,
    },
}

impl TargetRef {
    /// The Deployment of that name.
    pub fn deployment(name: &str) -> TargetRef {
        TargetRef::Object {
            resource: Resource::deployments(),
            name: name.to_owned(),
        }
    }

    /// The object's name, where the settings have it; `None` where it has to be
    /// found by labels.
    pub fn name(&self) -> Option<&str> {
        match self {
            TargetRef::Object { name, .. } => Some(name),
            TargetRef::Labels { .. } | TargetRef::ReplicaSetOwner { .. } => None,
        }
    }

    /// Whether it is a Deployment for sure: what owns a ReplicaSet may be something
    /// else.
    pub fn is_deployment(&self) -> bool {
        match self {
            TargetRef::Object { resource, .. } | TargetRef::Labels { resource, .. } => {
                resource.is_deployments()
            }
            TargetRef::ReplicaSetOwner { .. } => false,
        }
    }

    /// What tells it from others of its namespace: its name, or what it is found by.
    pub fn label(&self) -> &str {
        match self {
            TargetRef::Object { name, .. } => name,
            TargetRef::Labels { selector, .. } | TargetRef::ReplicaSetOwner { selector } => {
                selector
            }
        }
    }

    /// The name of the Deployment, if it is one that the settings name.
    pub fn deployment_name(&self) -> Option<&str> {
        match self {
            TargetRef::Object { resource, name } if resource.is_deployments() => Some(name),
            _ => None,
        }
    }
}

impl fmt::Display for TargetRef {
    /// `deployments.apps/my-app`, or a selector with what it selects.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TargetRef::Object { resource, name } => write!(f, "{resource}/{name}"),
            TargetRef::Labels { resource, selector } => {
                write!(f, "the {resource} with the labels {selector}")
            }
            TargetRef::ReplicaSetOwner { selector } => {
                write!(f, "the owner of the ReplicaSet with the labels {selector}")
            }
        }
    }
}

/// `spec.replicas` after a wake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WakeReplicas {
    /// That many; at most [`i32::MAX`], Kubernetes' limit.
    Replicas(NonZeroU32),
    /// As many as there were before the sleep, which the object itself keeps.
    Previous,
}

impl fmt::Display for WakeReplicas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WakeReplicas::Replicas(count) => count.fmt(f),
            WakeReplicas::Previous => f.write_str("previous"),
        }
    }
}

/// Whose flags a command line is made of. An ancestor's dialect also says whose
/// annotations may be fresh on the object, because an old replica of that
/// ancestor may still run beside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dialect {
    /// `zpa`'s own.
    Zpa,
    /// zero-pod-autoscaler in Go: `zero-pod-autoscaler/scale-down-at` on the
    /// Deployment.
    Go,
    /// traffic-pod-autoscaler in Python until 2022-12-13, with `--deployment`:
    /// `traffic-pod-autoscaler/last-call-at` on the Deployment.
    PythonDeployment,
    /// traffic-pod-autoscaler in Python from 2022-12-14, with
    /// `--rs-label-selector`: `traffic-pod-autoscaler/last-call-at` on a
    /// ConfigMap.
    PythonLabels,
}

impl Dialect {
    /// Each of them.
    pub const ALL: [Dialect; 4] = [
        Dialect::Zpa,
        Dialect::Go,
        Dialect::PythonDeployment,
        Dialect::PythonLabels,
    ];

    /// Whether it is one of the two of traffic-pod-autoscaler.
    pub fn is_python(self) -> bool {
        matches!(self, Dialect::PythonDeployment | Dialect::PythonLabels)
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Dialect::Zpa => "zpa",
            Dialect::Go => "zero-pod-autoscaler (Go)",
            Dialect::PythonDeployment => "traffic-pod-autoscaler (Python, --deployment)",
            Dialect::PythonLabels => "traffic-pod-autoscaler (Python, --rs-label-selector)",
        })
    }
}
