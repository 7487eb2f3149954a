//! [`Deployment`]: the simulated scale target, and the execution of requests by the API server.

use std::time::Duration;

use zpa::clock::Time;
use zpa::cluster::{
    LeaseStore, LeaseToken, Observation, Outcome, Renewal, Request, ResourceVersion, Scale,
};

/// Who changes the number of replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The proxy with that process number.
    Proxy(usize),
    /// Somebody with kubectl.
    Operator,
    /// A controller that applies what stands in a repository.
    GitOps,
    /// The HorizontalPodAutoscaler.
    Hpa,
}

/// A change of the number of replicas.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// The process that has made it.
    pub by: Who,
    /// When.
    pub at: Time,
    /// From how many.
    pub from: u32,
    /// To how many.
    pub to: u32,
}

/// What the service account may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permissions {
    /// Read the Deployment.
    pub read: bool,
    /// Read its scale alone.
    pub read_scale: bool,
    /// Patch its scale.
    pub scale: bool,
    /// Patch its status.
    pub status: bool,
    /// Patch the Deployment itself.
    pub annotation: bool,
    /// List and watch the Deployment by its name.
    pub watch: bool,
}

impl Permissions {
    /// All that zpa can make use of.
    pub const ALL: Permissions = Permissions {
        read: true,
        read_scale: true,
        scale: true,
        status: true,
        annotation: true,
        watch: true,
    };

    /// Those of the Role in `manifests/base`.
    pub const SHIPPED: Permissions = Permissions {
        read_scale: false,
        annotation: false,
        ..Permissions::ALL
    };

    /// None at all.
    pub const NONE: Permissions = Permissions {
        read: false,
        read_scale: false,
        scale: false,
        status: false,
        annotation: false,
        watch: false,
    };

    /// Those of the Role before the Deployment was watched.
    pub const UNWATCHED: Permissions = Permissions {
        watch: false,
        ..Permissions::SHIPPED
    };

    /// All but the one that this request takes.
    pub fn without(request: &Request) -> Permissions {
        let mut permissions = Permissions::ALL;
        let permission = match request {
            Request::Read => &mut permissions.read,
            Request::ReadScale => &mut permissions.read_scale,
            Request::WriteScale { .. } => &mut permissions.scale,
            Request::RenewLease(renewal) => match renewal.store {
                LeaseStore::Status => &mut permissions.status,
                LeaseStore::Annotation => &mut permissions.annotation,
            },
        };
        *permission = false;
        permissions
    }

    /// Those that are in both.
    pub fn and(self, other: Permissions) -> Permissions {
        Permissions {
            read: self.read && other.read,
            read_scale: self.read_scale && other.read_scale,
            scale: self.scale && other.scale,
            status: self.status && other.status,
            annotation: self.annotation && other.annotation,
            watch: self.watch && other.watch,
        }
    }

    /// Whether a lease can be written and the leases of others be read.
    pub fn share_leases(self) -> bool {
        self.read && (self.status || self.annotation)
    }
}

/// A fault of the world itself, to see that the oracle notices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flaws {
    /// Writes are applied whatever their guard.
    pub ignores_guards: bool,
    /// Renewals are answered and not written.
    pub forgets_renewals: bool,
    /// Writes of replicas above zero are not applied.
    pub refuses_wakes: bool,
    /// Writes of zero are not applied.
    pub refuses_sleeps: bool,
    /// Reads show that nobody has ever renewed, as if a lease that cannot be read were
    /// none.
    pub hides_leases: bool,
    /// What was refused once to a proxy is refused to it for five minutes, as if it
    /// confirmed the first refusal.
    pub confirms_at_once: bool,
    /// Watches of the Deployment show nothing, and do not break either.
    pub hides_events: bool,
    /// Proxies do not see how long a lease holds, as if each took its own TTL for that
    /// of all.
    pub hides_ttls: bool,
    /// Proxies do not learn that the Service has lost their port.
    pub hides_ports: bool,
}

impl Flaws {
    /// What a proxy takes a reply for.
    pub fn read_by_a_proxy(self, mut outcome: Outcome) -> Outcome {
        if let Outcome::Scale(scale) = &mut outcome
            && self.hides_ttls
        {
            scale.lease_ttl = None;
        }
        outcome
    }
}

/// The object.
pub struct Deployment {
    /// Whether it is there.
    pub exists: bool,
    version: u64,
    generation: u64,
    replicas: u32,
    condition: String,
    annotation: String,
    /// The TTL of the last renewal.
    lease_ttl: Option<Duration>,
    /// Whether it is one before a sleep.
    is_final_renewal: bool,
    flaws: Flaws,
    /// The last change of the number of replicas.
    pub last_change: Option<Change>,
    /// The last change to fewer.
    pub last_lowered: Option<Change>,
}

impl Deployment {
    /// One with that many replicas.
    pub fn new(replicas: u32, flaws: Flaws) -> Self {
        Deployment {
            exists: true,
            version: 1,
            generation: 1,
            replicas,
            condition: String::new(),
            annotation: String::new(),
            lease_ttl: None,
            is_final_renewal: false,
            flaws,
            last_change: None,
            last_lowered: None,
        }
    }

    /// How many replicas are wanted; none of an object that is not there.
    pub fn replicas(&self) -> u32 {
        if self.exists { self.replicas } else { 0 }
    }

    /// The number of its version.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// What a watch shows of it now.
    pub fn observation(&self) -> Observation {
        match self.shown(true) {
            Outcome::Scale(scale) if self.exists => Observation::Scale(scale),
            _ => Observation::Changed,
        }
    }

    /// The controller writes its status.
    pub fn touch(&mut self) {
        self.version += 1;
    }

    /// Somebody writes the number of replicas, with no regard to the version.
    pub fn scale(&mut self, to: u32, by: Who, at: Time) {
        let from = self.replicas();
        self.exists = true;
        if from == to {
            return;
        }
        let change = Change { by, at, from, to };
        self.version += 1;
        self.generation += 1;
        self.replicas = to;
        self.last_change = Some(change);
        if to < from {
            self.last_lowered = Some(change);
        }
    }

    /// It is deleted, and its tokens with it.
    pub fn delete(&mut self, at: Time) {
        self.scale(0, Who::Operator, at);
        self.exists = false;
        self.condition.clear();
        self.annotation.clear();
    }

    /// What becomes of a request that has reached the server.
    pub fn execute(
        &mut self,
        request: &Request,
        permissions: Permissions,
        by: Who,
        at: Time,
    ) -> Outcome {
        if !self.exists {
            return Outcome::NotFound;
        }
        match request {
            Request::Read if !permissions.read => Outcome::Forbidden,
            Request::ReadScale if !permissions.read_scale => Outcome::Forbidden,
            Request::Read => self.shown(true),
            Request::ReadScale => self.shown(false),
            Request::WriteScale { .. } if !permissions.scale => Outcome::Forbidden,
            Request::WriteScale { replicas, guard } => self.write(*replicas, guard, by, at),
            Request::RenewLease(renewal) if !allows(permissions, renewal.store) => {
                Outcome::Forbidden
            }
            Request::RenewLease(renewal) => self.renew(renewal, by),
        }
    }

    fn write(&mut self, to: u32, guard: &ResourceVersion, by: Who, at: Time) -> Outcome {
        if *guard != self.resource_version() && !self.flaws.ignores_guards {
            return Outcome::Conflict;
        }
        let refuses = match to {
            0 => self.flaws.refuses_sleeps,
            _ => self.flaws.refuses_wakes,
        };
        if refuses {
            return Outcome::Unknown { retry_after: None };
        }
        self.scale(to, by, at);
        self.shown(false)
    }

    fn renew(&mut self, renewal: &Renewal, by: Who) -> Outcome {
        let is_stale = |guard: &ResourceVersion| *guard != self.resource_version();
        if renewal.guard.as_ref().is_some_and(is_stale) && !self.flaws.ignores_guards {
            return Outcome::Conflict;
        }
        if !self.flaws.forgets_renewals {
            self.write_lease(renewal, format!("{by:?} {:x}", renewal.nonce));
        }
        self.shown(true)
    }

    fn write_lease(&mut self, renewal: &Renewal, token: String) {
        self.version += 1;
        self.lease_ttl = Some(renewal.ttl);
        self.is_final_renewal = renewal.guard.is_some();
        match renewal.store {
            LeaseStore::Status => self.condition = token,
            LeaseStore::Annotation => {
                self.generation += 1;
                self.annotation = token;
            }
        }
    }

    fn shown(&self, with_marks: bool) -> Outcome {
        let tokens = || {
            if self.flaws.hides_leases {
                LeaseToken::default()
            } else {
                LeaseToken(format!("{:?} {:?}", self.condition, self.annotation))
            }
        };
        Outcome::Scale(Scale {
            replicas: self.replicas,
            version: self.resource_version(),
            lease_token: with_marks.then(tokens),
            lease_ttl: self.lease_ttl.filter(|_| with_marks),
            generation: with_marks.then_some(self.generation),
            is_final_renewal: with_marks && self.is_final_renewal,
            ..Scale::of(self.replicas, "")
        })
    }

    fn resource_version(&self) -> ResourceVersion {
        ResourceVersion(self.version.to_string())
    }
}

fn allows(permissions: Permissions, store: LeaseStore) -> bool {
    match store {
        LeaseStore::Status => permissions.status,
        LeaseStore::Annotation => permissions.annotation,
    }
}

/// A request in a few words.
pub fn asked(request: &Request) -> String {
    match request {
        Request::Read => "read".to_owned(),
        Request::WriteScale { replicas, guard } => format!("write {replicas} at {guard}"),
        Request::ReadScale => "read scale".to_owned(),
        Request::RenewLease(renewal) => {
            let Renewal { nonce, store, .. } = renewal;
            let guard = renewal.guard.as_ref();
            let guard = guard.map_or(String::new(), |guard| format!(" at {guard}"));
            format!("renew {nonce:x} by {store:?}{guard}")
        }
    }
}

/// An outcome in a few words.
pub fn answered(outcome: &Outcome) -> String {
    let Outcome::Scale(scale) = outcome else {
        return format!("{outcome:?}");
    };
    let tokens = scale.lease_token.as_ref().map_or("", |tokens| &tokens.0);
    format!(
        "{} replicas at {}, tokens {tokens}",
        scale.replicas, scale.version
    )
}
