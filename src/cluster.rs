//! The types that the policy, the API threads and the daemon exchange about the
//! cluster: [`Request`] and [`Outcome`], [`Scale`], [`Pod`], [`Permission`], [`Report`].
//!
//! The policy makes requests, the API threads answer them, and the daemon passes on both.
//! None of these modules imports another, so the types that pass between them are defined
//! here, without sockets and without HTTP.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

mod annotation_overrides;
mod events;
mod lifecycle_event;
mod pod_problem;
mod resource_version;
mod rollout;
mod topology_hints;

pub use self::annotation_overrides::{AnnotationOverrides, OverrideKey};
pub use self::events::{Event, EventType, MAX_NOTE_LEN, ObjectReference, cut};
pub use self::lifecycle_event::{LifecycleEvent, LifecycleKind};
pub use self::pod_problem::{Persistence, PodProblem, PodsRead};
pub use self::resource_version::ResourceVersion;
pub use self::rollout::Rollout;
pub use self::topology_hints::TopologyHints;
use crate::supervisor::ThreadPanic;

/// The token that the last renewal of the lease wrote: opaque, and different for each
/// renewal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LeaseToken(pub String);

impl LeaseToken {
    /// The names of the pods that have written it: one, or two if it stands in two places.
    /// None if there is no lease. They are in printable characters, and nothing is decided by
    /// them: anybody who may write the object can write such a name.
    pub fn writers(&self) -> impl Iterator<Item = &str> {
        let quoted = self.0.split('"').skip(1).step_by(2);
        quoted.filter_map(|text| text.split(' ').next().filter(|name| !name.is_empty()))
    }
}

/// The scale target, as the reply to one read or one write showed it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scale {
    /// `spec.replicas`, where an absent field is zero.
    pub replicas: u32,
    /// The version that a guarded write has to name.
    pub version: ResourceVersion,
    /// The token of the last renewal; `None` if the reply did not show it. A reply of
    /// the scale subresource never does.
    pub lease_token: Option<LeaseToken>,
    /// How long that lease is to be respected, counted from when its token was first
    /// seen; `None` if there is no lease, or it states no duration.
    pub lease_ttl: Option<Duration>,
    /// `metadata.generation`, which each write of the spec or of an annotation
    /// raises by one, and no write of the status (`deploymentStrategy`); `None`
    /// if the reply did not show it. A reply of the scale subresource never does.
    pub generation: Option<u64>,
    /// How much longer the app is in use by the annotation of an ancestor's replica; `None` if
    /// there is none, or the reply did not show it.
    pub ancestor_in_use_for: Option<Duration>,
    /// The number of replicas before the last sleep, if the object keeps it.
    pub previous_replicas: Option<u32>,
    /// Whether the last renewal, that of `lease_token`, was a final one: its proxy had no
    /// connections.
    pub is_final_renewal: bool,
    /// The overrides in annotations; `None` if the reply did not show them. A reply of the scale
    /// subresource never does.
    pub overrides: Option<AnnotationOverrides>,
}

/// The status of the scale target, as its controller reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetStatus {
    /// The object's kind, such as `Deployment`.
    pub kind: String,
    /// The object's UID; empty if it was not shown.
    pub uid: String,
    /// `status.readyReplicas`.
    pub ready: u32,
    /// `spec.replicas`.
    pub wanted: u32,
    /// `metadata.generation`, which each change of the spec raises; `None` if the object has none.
    pub generation: Option<u64>,
    /// The messages of the conditions that explain missing pods, such as a quota
    /// (`ReplicaFailure`) or a deadline that has passed (`Progressing`), in printable
    /// characters.
    pub condition_messages: Vec<String>,
    /// Whether the API server refuses to create pods, as for a quota.
    pub is_creation_refused: bool,
    /// The label selector of its pods; empty if it has none.
    pub selector: String,
    /// The rollout in progress.
    pub rollout: Option<Rollout>,
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
            ancestor_in_use_for: None,
            previous_replicas: None,
            is_final_renewal: false,
            overrides: None,
        }
    }
}

/// An event of the watch of the scale target.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Observation {
    /// The object as it was at that version, which may be older than what a reply has
    /// shown meanwhile.
    Scale(Scale),
    /// The object has changed in a way that the watch does not show: it was deleted, or
    /// its replicas stand where only its scale subresource shows them.
    Changed,
}

/// Where a renewal is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LeaseStore {
    /// A condition in the status of a Deployment.
    Status,
    /// An annotation on the scale target: for kinds whose controller removes foreign
    /// conditions, and where the status may not be patched.
    Annotation,
}

/// A renewal of the lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Renewal {
    /// A number that makes the token different from every other.
    pub nonce: u64,
    /// How long other proxies are to respect the lease.
    pub ttl: Duration,
    /// Whether the writer has connections. A renewal without any is the last one
    /// before a sleep.
    pub in_use: bool,
    /// The version that the object must still have; `None` for any.
    pub guard: Option<ResourceVersion>,
    /// The number of replicas that the object keeps for the next wake.
    pub previous_replicas: Option<u32>,
    /// Where the renewal is written.
    pub store: LeaseStore,
}

/// A request about the scale target, for the API threads to execute.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Request {
    /// Read the object, which shows the scale and the lease.
    Read,
    /// Read the scale subresource, which shows no lease.
    ReadScale,
    /// Set `spec.replicas`, provided that the object is still at `guard`.
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

    /// The copy that may be sent on a second connection while this has no reply, as a hedged
    /// request; `None` for a read: it is not hedged, but given up after five seconds while
    /// connections wait.
    ///
    /// Of two writes with one guard, one is applied at most. A renewal without a guard has
    /// another nonce, because a token must be written once at most: to another proxy, a token
    /// that it has seen before proves that nobody has renewed since. If one could be written
    /// twice, it could come back after the renewal of a third proxy, and hide that.
    pub fn hedged(&self) -> Option<Request> {
        match self {
            Request::Read | Request::ReadScale => None,
            Request::RenewLease(renewal) if renewal.guard.is_none() => {
                Some(Request::RenewLease(Renewal {
                    nonce: renewal.nonce ^ 1,
                    ..renewal.clone()
                }))
            }
            write => Some(write.clone()),
        }
    }

    /// The permission that it needs.
    pub fn permission(&self) -> Permission {
        match self {
            Request::Read => Permission::GetTarget,
            Request::ReadScale => Permission::GetScale,
            Request::WriteScale { .. } => Permission::PatchScale,
            Request::RenewLease(renewal) => match renewal.store {
                LeaseStore::Status => Permission::PatchStatus,
                LeaseStore::Annotation => Permission::PatchTarget,
            },
        }
    }
}

/// How a [`Request`] ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// 200: the scale after the read, the write or the renewal.
    Scale(Scale),
    /// 409: the object has another version by now, and nothing was written.
    Conflict,
    /// 403: nothing was written. The permission is missing if that lasts
    /// ([`crate::refusal`]).
    Forbidden,
    /// 401, also after the bearer token was read again: nothing was written. The bearer token is
    /// being replaced; no permission is missing.
    Unauthorized,
    /// 404: the object does not exist; nothing was written.
    NotFound,
    /// 429: nothing was written.
    Busy {
        /// The reply's `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// No connection could be made: the request was not sent.
    Unreachable,
    /// A timeout, a broken connection, a 5xx, a reply that cannot be parsed: a write
    /// *may* have been applied.
    Unknown {
        /// The reply's `Retry-After`, if there was a reply.
        retry_after: Option<Duration>,
    },
}

/// A pod of the Service: its endpoints in all EndpointSlices together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Pod {
    /// The pod's UID (`targetRef.uid`); for an endpoint that names no pod, its
    /// address.
    pub uid: String,
    /// The addresses to dial, which are alternatives, those of the Service's first IP
    /// family first. Empty while the pod is not ready, or terminates.
    pub addresses: Vec<SocketAddr>,
    /// Those of a pod that is not ready, and does not terminate, in the same order. Empty
    /// for others.
    pub unready_addresses: Vec<SocketAddr>,
    /// For which clients it is meant.
    pub hints: TopologyHints,
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
    /// By its number in the Service, if the Service may be read; else the only port of the
    /// endpoints.
    NumberOrOnly(u16),
}

impl fmt::Display for PortRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PortRef::Name(name) => f.write_str(name),
            PortRef::Number(number) | PortRef::NumberOrOnly(number) => number.fmt(f),
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

/// The address of the API server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ApiServer {
    /// Whether to use TLS: always, except to a `kubectl proxy` on loopback.
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

/// The kind of object that the addresses of the pods are read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AddressSource {
    /// `EndpointSlice` of `discovery.k8s.io/v1`, the default.
    EndpointSlices,
    /// `Endpoints` of v1, where slices cannot be watched.
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

/// Why no pod can be dialled although the endpoints can be listed. The text is the
/// reason and the cure, for the log and `/status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoAddress {
    /// The Service does not exist, was never seen, and there are no endpoints under its
    /// name.
    ServiceMissing(String),
    /// The Service has no such port, or more than one to choose from.
    ServiceLacksPort(String),
    /// The Service has endpoints, and none of them has the port.
    EndpointsLackPort(String),
}

impl NoAddress {
    /// The reason and the cure.
    pub fn why(&self) -> &str {
        let (NoAddress::ServiceMissing(why)
        | NoAddress::ServiceLacksPort(why)
        | NoAddress::EndpointsLackPort(why)) = self;
        why
    }
}

/// A permission of the service account, which the API server may refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Permission {
    /// Read the scale target: its scale, and the leases of other proxies.
    GetTarget,
    /// Read its scale subresource, which shows no leases.
    GetScale,
    /// Watch the scale target, instead of reading it again and again.
    WatchTarget,
    /// Write the scale: wake the app and put it to sleep.
    PatchScale,
    /// Renew the lease in the status of a Deployment.
    PatchStatus,
    /// Renew the lease in an annotation.
    PatchTarget,
    /// Read the Service: the number of its port, and its cluster IP.
    GetService,
    /// List and watch the EndpointSlices.
    WatchSlices,
    /// List and watch the v1 Endpoints, where slices cannot be watched.
    WatchEndpoints,
}

impl Permission {
    /// All permissions.
    pub const ALL: [Permission; 9] = [
        Permission::GetTarget,
        Permission::GetScale,
        Permission::WatchTarget,
        Permission::PatchScale,
        Permission::PatchStatus,
        Permission::PatchTarget,
        Permission::GetService,
        Permission::WatchSlices,
        Permission::WatchEndpoints,
    ];

    /// Verbs and resource, as a Role names them: the label of metrics and the key in `/status`.
    /// `deployments` stands for the resource of the scale target, whatever its kind, so that a
    /// query fits every app.
    pub fn name(self) -> &'static str {
        match self {
            Permission::GetTarget => "get deployments",
            Permission::GetScale => "get deployments/scale",
            Permission::WatchTarget => "list,watch deployments",
            Permission::PatchScale => "patch deployments/scale",
            Permission::PatchStatus => "patch deployments/status",
            Permission::PatchTarget => "patch deployments",
            Permission::GetService => "get services",
            Permission::WatchSlices => "list,watch endpointslices",
            Permission::WatchEndpoints => "list,watch endpoints",
        }
    }

    /// What `zpa` does instead where the permission is refused; `None` if it can do
    /// nothing.
    pub fn fallback(self) -> Option<&'static str> {
        match self {
            Permission::GetTarget => {
                Some("reading its scale alone, which shows no leases: the app is not put to sleep")
            }
            Permission::WatchTarget => Some("reading it every 10s"),
            Permission::PatchStatus => Some("renewing the lease in an annotation"),
            Permission::PatchTarget => {
                Some("letting connections through without a lease: the app is not put to sleep")
            }
            Permission::GetService => Some("doing without the cluster IP as a fallback address"),
            Permission::WatchSlices => Some("watching v1 Endpoints"),
            Permission::GetScale | Permission::PatchScale | Permission::WatchEndpoints => None,
        }
    }
}

impl fmt::Display for Permission {
    /// What may not be done, in words that hold for a scale target of any kind.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Permission::GetTarget => "get the scale target",
            Permission::GetScale => "get the scale of the scale target",
            Permission::WatchTarget => "list and watch the scale target",
            Permission::PatchScale => "patch the scale of the scale target",
            Permission::PatchStatus => "patch the status of the scale target",
            Permission::PatchTarget => "patch the scale target",
            Permission::GetService => "get the Service",
            Permission::WatchSlices => "list and watch EndpointSlices",
            Permission::WatchEndpoints => "list and watch Endpoints",
        })
    }
}

/// A permission that was refused, and what is done instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The message of the API server, in printable characters.
    pub why: String,
    /// What is done instead; `None` if nothing can be done.
    pub fallback: Option<&'static str>,
}

/// A report of another thread to the event loop, about one app. A `port` is the index of a port
/// of the app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// The outcome of a request.
    Reply {
        /// The id of the request.
        id: u64,
        /// The outcome.
        outcome: Outcome,
    },
    /// A pod that is not ready has accepted a connection.
    Accepts {
        /// The index of the port.
        port: usize,
        /// The UID of the pod.
        uid: String,
    },
    /// The pods of the Service, over all slices, with their addresses for a port: after each list,
    /// and at each change.
    Pods {
        /// The port.
        port: usize,
        /// The pods, ready or not.
        pods: Vec<Pod>,
    },
    /// The Service's cluster IP and port, at first and at each change.
    FallbackAddress {
        /// The port.
        port: usize,
        /// The address; `None` for a headless Service, and where the Service cannot be
        /// read.
        address: Option<SocketAddr>,
    },
    /// For how long after its last connection a client is led to the same pod
    /// (`sessionAffinity` of the Service), at each change; `None`, as at first: no longer at all.
    SessionAffinity(Option<Duration>),
    /// The addresses of the static backend, which is given by name, at first and at each change.
    StaticBackends(Vec<SocketAddr>),
    /// The addresses of the backup target, which is given by name, at first and at each change.
    BackupTarget(Vec<SocketAddr>),
    /// The kind of object from which the endpoints are listed, at first and at each change; `None`
    /// while they cannot be listed, or the Service does not exist. While it is `None`, the last
    /// [`Report::Pods`] remain valid.
    Synced(Option<AddressSource>),
    /// Why no pod can be dialled for a port although the endpoints can be listed, at each
    /// change.
    NoAddress {
        /// The port.
        port: usize,
        /// The reason; `None` once it is over.
        why: Option<NoAddress>,
    },
    /// The status that the controller of the scale target writes, at first and at each change.
    TargetStatus(TargetStatus),
    /// What the pods of an app that is waking show, after they were read.
    PodsRead(PodsRead),
    /// Each event of the watch of the scale target.
    Observed(Observation),
    /// Whether the scale target is watched, at each change; at first it is not.
    Watching(bool),
    /// A refusal of a permission, each time; or the first grant after a refusal. A permission
    /// without a report is granted, or was not needed yet.
    Permission {
        /// Which permission.
        permission: Permission,
        /// `None` if it is granted.
        refusal: Option<Refusal>,
    },
    /// A request to the API server has failed, also if that is not logged, because a lasting fault
    /// is logged once. The text has the message of the API server, if there was one.
    RequestFailed(String),
    /// A thread has panicked, and is started again after a pause.
    Panicked(ThreadPanic),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_names_its_writers_and_a_hostile_one_does_no_harm() {
        for (token, writers) in [
            ("", &[][..]),
            (r#""zpa-5d9c7 3f2a 1h" """#, &["zpa-5d9c7"]),
            (r#""" "zpa-1 3f2a""#, &["zpa-1"]),
            (r#""zpa-1 1" "zpa-2 2""#, &["zpa-1", "zpa-2"]),
            (r#"" 1" """#, &[]),
            (r#"""#, &[]),
            (r#""\"a b\"" """#, &["\\"]),
        ] {
            let token = LeaseToken(token.to_owned());
            assert_eq!(token.writers().collect::<Vec<_>>(), writers, "{token:?}");
        }
    }

    fn renewal(nonce: u64, guard: Option<&str>) -> Request {
        Request::RenewLease(Renewal {
            nonce,
            ttl: Duration::from_secs(300),
            in_use: true,
            guard: guard.map(|version| ResourceVersion(version.to_owned())),
            previous_replicas: None,
            store: LeaseStore::Status,
        })
    }

    #[test]
    fn a_write_is_hedged_under_its_guard_or_with_another_token_and_a_read_is_not() {
        let write = |replicas| Request::WriteScale {
            replicas,
            guard: ResourceVersion("7".to_owned()),
        };
        for (request, hedged) in [
            (Request::Read, None),
            (Request::ReadScale, None),
            (write(0), Some(write(0))),
            (write(2), Some(write(2))),
            (renewal(4, Some("7")), Some(renewal(4, Some("7")))),
            (renewal(4, None), Some(renewal(5, None))),
        ] {
            assert_eq!(request.hedged(), hedged, "{request:?}");
        }
    }
}
