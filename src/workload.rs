//! [`TargetRef`]: a reference to the scale target. [`WakeReplicas`]: its replicas after
//! a wake. [`Dialect`]: the program whose flags the settings were given in.
//!
//! The settings make these values; the API threads and the daemon use them.

use std::fmt;
use std::num::NonZeroU32;

/// What the annotations of a Service that describe an app begin with.
pub const ANNOTATION_PREFIX: &str = "zero-pod-autoscaler/";

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

/// A reference to the scale target, as the settings name it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TargetRef {
    /// An object by its name.
    Object {
        /// The kind of the object.
        resource: Resource,
        /// `metadata.name`.
        name: String,
    },
    /// The one object of a kind that a label selector matches.
    Labels {
        /// The kind of the object.
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

    /// Whether it certainly is a Deployment. The owner of a ReplicaSet may be of
    /// another kind.
    pub fn is_deployment(&self) -> bool {
        match self {
            TargetRef::Object { resource, .. } | TargetRef::Labels { resource, .. } => {
                resource.is_deployments()
            }
            TargetRef::ReplicaSetOwner { .. } => false,
        }
    }

    /// Its name, or the label selector that finds it: unique in its namespace.
    pub fn label(&self) -> &str {
        match self {
            TargetRef::Object { name, .. } => name,
            TargetRef::Labels { selector, .. } | TargetRef::ReplicaSetOwner { selector } => {
                selector
            }
        }
    }

    /// The name of a Deployment that the settings name; `None` for other kinds.
    pub fn deployment_name(&self) -> Option<&str> {
        match self {
            TargetRef::Object { resource, name } if resource.is_deployments() => Some(name),
            _ => None,
        }
    }
}

impl fmt::Display for TargetRef {
    /// `deployments.apps/my-app`, or the kind with the label selector.
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
    /// A fixed number; at most [`i32::MAX`], the limit of Kubernetes.
    Replicas(NonZeroU32),
    /// The number before the sleep, which is kept in an annotation of the object.
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

/// The program whose flags a command line uses: `zpa`, or one of the *ancestors*, the
/// earlier autoscalers that `zpa` replaces. With the flags of an ancestor, replicas of
/// that ancestor may still run for the same app during a rollout, and its annotations
/// count as signs of use.
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
    /// All dialects.
    pub const ALL: [Dialect; 4] = [
        Dialect::Zpa,
        Dialect::Go,
        Dialect::PythonDeployment,
        Dialect::PythonLabels,
    ];

    /// Whether it is a dialect of traffic-pod-autoscaler.
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
