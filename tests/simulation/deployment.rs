//! The Deployment, and what the API server makes of a request that reaches it.

use zpa::clock::Time;
use zpa::cluster::{LeaseStore, LeaseToken, Outcome, Request, ResourceVersion, Scale};

/// Who changes the number of replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The proxy with that process number.
    Proxy(usize),
    /// Somebody with kubectl.
    Human,
    /// A controller that applies what stands in a repository.
    GitOps,
    /// The HorizontalPodAutoscaler.
    Hpa,
}

/// A change of the number of replicas.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// By whom.
    pub by: Who,
    /// When.
    pub at: Time,
    /// From how many.
    pub from: u32,
    /// To how many.
    pub to: u32,
}

/// What the service account may do.
#[derive(Clone, Copy, Debug)]
pub struct Rights {
    /// Patch the Deployment's status.
    pub status: bool,
    /// Patch the Deployment itself.
    pub annotation: bool,
    /// Read the Deployment, and not only its scale.
    pub read: bool,
    /// Patch its scale.
    pub scale: bool,
}

impl Rights {
    /// All that zpa asks for.
    pub const ALL: Rights = Rights {
        status: true,
        annotation: true,
        read: true,
        scale: true,
    };
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
            flaws,
            last_change: None,
            last_lowered: None,
        }
    }

    /// How many replicas are wanted; none of an object that is not there.
    pub fn replicas(&self) -> u32 {
        if self.exists { self.replicas } else { 0 }
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
        self.scale(0, Who::Human, at);
        self.exists = false;
        self.condition.clear();
        self.annotation.clear();
    }

    /// What becomes of a request that has reached the server.
    pub fn execute(&mut self, request: &Request, rights: Rights, by: Who, at: Time) -> Outcome {
        if !self.exists {
            return Outcome::NotFound;
        }
        match request {
            Request::Read => self.shown(rights.read),
            Request::WriteScale { .. } if !rights.scale => Outcome::Forbidden,
            Request::WriteScale { replicas, guard } => self.write(*replicas, guard, by, at),
            Request::RenewLease { store, .. } if !allows(rights, *store) => Outcome::Forbidden,
            Request::RenewLease { nonce, store } => {
                self.renew(*store, format!("{by:?} {nonce:x}"));
                self.shown(true)
            }
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

    fn renew(&mut self, store: LeaseStore, token: String) {
        if self.flaws.forgets_renewals {
            return;
        }
        self.version += 1;
        match store {
            LeaseStore::Status => self.condition = token,
            LeaseStore::Annotation => {
                self.generation += 1;
                self.annotation = token;
            }
        }
    }

    fn shown(&self, with_marks: bool) -> Outcome {
        let tokens = || LeaseToken(format!("{:?} {:?}", self.condition, self.annotation));
        Outcome::Scale(Scale {
            replicas: self.replicas,
            version: self.resource_version(),
            lease_token: with_marks.then(tokens),
            generation: with_marks.then_some(self.generation),
        })
    }

    fn resource_version(&self) -> ResourceVersion {
        ResourceVersion(self.version.to_string())
    }
}

fn allows(rights: Rights, store: LeaseStore) -> bool {
    match store {
        LeaseStore::Status => rights.status,
        LeaseStore::Annotation => rights.annotation,
    }
}

/// A request in a few words.
pub fn asked(request: &Request) -> String {
    match request {
        Request::Read => "read".to_owned(),
        Request::WriteScale { replicas, guard } => format!("write {replicas} at {guard}"),
        Request::RenewLease { nonce, store } => format!("renew {nonce:x} by {store:?}"),
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
