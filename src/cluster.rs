//! The words in which the modules speak of the cluster.
//!
//! The policy asks, the API thread answers, and neither imports the other:
//! what passes between them is defined here, free of sockets and of HTTP.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// The version of an object, opaque as Kubernetes wants it: good for a guard
/// on a write and for nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ResourceVersion(pub String);

impl fmt::Display for ResourceVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// For how long a permission must be refused, whenever it is asked for, until it counts
/// as missing. An API server that has just started refuses everything until it has
/// read the roles (403 for a valid token that has the permission).
pub const REFUSAL_BELIEVED_AFTER: Duration = Duration::from_secs(30);

/// The token of whoever last renewed a lease: opaque, and different for each
/// renewal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LeaseToken(pub String);

/// The scale of the Deployment, as one read or one write showed it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scale {
    /// `spec.replicas`, where an absent field is zero.
    pub replicas: u32,
    /// The version that a guarded write has to name.
    pub version: ResourceVersion,
    /// The last renewal; `None` if the reply did not show it, as that of
    /// the scale subresource does not.
    pub lease_token: Option<LeaseToken>,
    /// For how long the writer of that renewal wants it respected, counted from the
    /// first sight of it; `None` if there is none, or it does not say.
    pub lease_ttl: Option<Duration>,
    /// `metadata.generation`, which each write of the spec or of an annotation
    /// raises by one, and no write of the status (`deploymentStrategy`); `None`
    /// if the reply did not show it, as that of the scale subresource does not.
    pub generation: Option<u64>,
    /// How much longer the replica of another autoscaler, which knows no leases, takes
    /// the app to be in use; `None` if there is none, or the reply did not show it.
    pub others_lease: Option<Duration>,
    /// How many replicas there were before the last sleep, if that was kept on the
    /// object.
    pub previous_replicas: Option<u32>,
}

/// What the controller of the scaled object says of its pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetStatus {
    /// The object's kind, such as `Deployment`.
    pub kind: String,
    /// `status.readyReplicas`.
    pub ready: u32,
    /// `spec.replicas`.
    pub wanted: u32,
    /// Messages of the conditions that say why pods are missing, such as a quota
    /// (`ReplicaFailure`) or a deadline that has passed (`Progressing`), fit for a
    /// log.
    pub trouble: Vec<String>,
}

impl Scale {
    /// Replicas and version alone, as a reply of the scale subresource shows them.
    pub fn of(replicas: u32, version: &str) -> Scale {
        Scale {
            replicas,
            version: ResourceVersion(version.to_owned()),
            lease_token: None,
            lease_ttl: None,
            generation: None,
            others_lease: None,
            previous_replicas: None,
        }
    }
}

/// Where a renewal is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LeaseStore {
    /// A condition in the Deployment's status.
    Status,
    /// An annotation on the Deployment, where its status may not be patched.
    Annotation,
}

/// A renewal of the lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Renewal {
    /// Makes the token different from every other.
    pub nonce: u64,
    /// For how long others are to respect it.
    pub ttl: Duration,
    /// Whether the writer has connections. A renewal without any is the last one.
    pub in_use: bool,
    /// The version at which the object must still be; `None` for any. Without a
    /// guard, a renewal is never repeated: it could hide one of another proxy.
    pub guard: Option<ResourceVersion>,
    /// How many replicas the object is to remember for the next wake.
    pub keep_replicas: Option<u32>,
    /// Where to write it.
    pub store: LeaseStore,
}

/// What may be asked of the API server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Request {
    /// Read the Deployment, which shows the scale and the lease.
    Read,
    /// Read the scale subresource, which shows no lease.
    ReadScale,
    /// Set `spec.replicas`, provided that the Deployment is still at `guard`.
    WriteScale {
        /// The new `spec.replicas`.
        replicas: u32,
        /// The version on which the decision rests.
        guard: ResourceVersion,
    },
    /// Renew the lease.
    RenewLease(Renewal),
}

impl Request {
    /// Whether it changes nothing.
    pub fn is_read(&self) -> bool {
        matches!(self, Request::Read | Request::ReadScale)
    }
}

/// How a [`Request`] ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// 200: the scale after the read, the write or the renewal.
    Scale(Scale),
    /// 409: the Deployment has moved on, and nothing was written.
    Conflict,
    /// 403: nothing was written. The permission is missing, if that lasts.
    Forbidden,
    /// 401, also with the token as it is now: nothing was written. The token is
    /// being replaced; of permissions it says nothing.
    Unauthorized,
    /// 404: no such Deployment; nothing was written.
    NotFound,
    /// 429: nothing was written; the server may have said when to come again.
    Busy {
        /// The reply's `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// No connection could be made, so that nothing was asked.
    Unreachable,
    /// A time-out, a torn connection, a 5xx, a reply that makes no sense:
    /// a write *may* have been applied.
    Unknown {
        /// The reply's `Retry-After`, if there was a reply.
        retry_after: Option<Duration>,
    },
}

/// One pod behind the Service, as all EndpointSlices together list it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pod {
    /// The pod's UID (`targetRef.uid`); for an endpoint that names no pod, its
    /// address.
    pub uid: String,
    /// Where it may be dialled, each address as good as the others, the Service's
    /// first IP family first. Empty while the pod is not ready, or terminates.
    pub addresses: Vec<SocketAddr>,
}

impl Pod {
    /// Whether it may be dialled.
    pub fn is_ready(&self) -> bool {
        !self.addresses.is_empty()
    }
}

/// A Service's port, as a user names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PortRef {
    /// By the port's name in the Service.
    Name(String),
    /// By its number in the Service.
    Number(u16),
    /// By its number in the Service, if that may be read; else the only one that
    /// there is.
    Likely(u16),
}

impl fmt::Display for PortRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PortRef::Name(name) => f.write_str(name),
            PortRef::Number(number) | PortRef::Likely(number) => number.fmt(f),
        }
    }
}

/// A host and a port to dial in place of pod addresses.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// A name or an IP address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.parse::<IpAddr>() {
            Ok(ip) => SocketAddr::new(ip, self.port).fmt(f),
            Err(_) => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Where the API server answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ApiServer {
    /// Whether to speak TLS, as to everything but a `kubectl proxy` on
    /// loopback.
    pub tls: bool,
    /// A name or an IP address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for ApiServer {
    /// The URL, without a slash at its end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        match self.host.parse::<IpAddr>() {
            Ok(ip) => write!(f, "{scheme}://{}", SocketAddr::new(ip, self.port)),
            Err(_) => write!(f, "{scheme}://{}:{}", self.host, self.port),
        }
    }
}

/// Which objects tell the addresses of the pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AddressSource {
    /// `discovery.k8s.io/v1`, the usual one.
    EndpointSlices,
    /// v1 `Endpoints`, where slices cannot be watched.
    Endpoints,
}

impl fmt::Display for AddressSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AddressSource::EndpointSlices => "EndpointSlices",
            AddressSource::Endpoints => "Endpoints",
        })
    }
}

/// Why no pod can be dialled although the endpoints can be listed. Each with its
/// reason and cure, fit for a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoAddress {
    /// There is no such Service, there never was while we looked, and nothing has
    /// endpoints in its name.
    NoService(String),
    /// The Service has no such port, or its port cannot be told.
    NoSuchPort(String),
    /// There are endpoints, and none of them has the port.
    PortMissing(String),
}

impl NoAddress {
    /// The reason and the cure.
    pub fn why(&self) -> &str {
        let (NoAddress::NoService(why) | NoAddress::NoSuchPort(why) | NoAddress::PortMissing(why)) =
            self;
        why
    }
}

/// A permission that the API server may refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Permission {
    /// To see the leases of other proxies, and the scale.
    GetDeployment,
    /// To see the scale alone.
    GetScale,
    /// To wake the app and to put it to sleep.
    PatchScale,
    /// To renew the lease in the Deployment's status.
    PatchStatus,
    /// To renew the lease in an annotation.
    PatchDeployment,
    /// To know the port's number and the way through the cluster IP.
    GetService,
    /// To know the pods' addresses.
    WatchSlices,
    /// To know them in the old way.
    WatchEndpoints,
}

impl Permission {
    /// Each of them.
    pub const ALL: [Permission; 8] = [
        Permission::GetDeployment,
        Permission::GetScale,
        Permission::PatchScale,
        Permission::PatchStatus,
        Permission::PatchDeployment,
        Permission::GetService,
        Permission::WatchSlices,
        Permission::WatchEndpoints,
    ];

    /// Verbs and resource, in the words of a Role.
    pub fn name(self) -> &'static str {
        match self {
            Permission::GetDeployment => "get deployments",
            Permission::GetScale => "get deployments/scale",
            Permission::PatchScale => "patch deployments/scale",
            Permission::PatchStatus => "patch deployments/status",
            Permission::PatchDeployment => "patch deployments",
            Permission::GetService => "get services",
            Permission::WatchSlices => "list,watch endpointslices",
            Permission::WatchEndpoints => "list,watch endpoints",
        }
    }

    /// What can be done where it is refused; `None` where nothing can be.
    pub fn fallback(self) -> Option<&'static str> {
        match self {
            Permission::GetDeployment => {
                Some("reading its scale alone, which shows no leases: it is not put to sleep")
            }
            Permission::PatchStatus => Some("renewing the lease in an annotation"),
            Permission::PatchDeployment => {
                Some("letting connections through without a lease: the app is not put to sleep")
            }
            Permission::GetService => Some("doing without the way through the cluster IP"),
            Permission::WatchSlices => Some("watching v1 Endpoints"),
            Permission::GetScale | Permission::PatchScale | Permission::WatchEndpoints => None,
        }
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// That a permission is refused, and what follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The API server's own words, fit for a log.
    pub why: String,
    /// What is done in place of what is refused; `None` if nothing can be.
    pub fallback: Option<&'static str>,
}
