//! [`Deployment`]: the API server of the model, with one object; and the broken [`Variant`]s of the
//! protocol.

use std::time::Duration;

use crate::cluster::{LeaseToken, Outcome, Renewal, Request, ResourceVersion, Scale};

/// The replicas that a wake writes.
pub const WAKE_REPLICAS: u32 = 1;

/// The idle TTL, and the shorter one where the proxies have unequal ones.
pub const TTL: Duration = Duration::from_secs(10);

/// The name of the Deployment's version, and of its token, in a canonical state.
/// Versions are numbers, since they are compared; of tokens any text would do.
pub const CURRENT: &str = "8";

/// The name of a version that is not current, where their order does not matter. Where it does,
/// they are called `1`, `2`, and so on.
pub const STALE: &str = "1";

/// The name of a token that a proxy has seen and that is not the current one.
pub const SEEN: &str = "seen";

/// The name of the version or token that the last event has written, until the state is made
/// canonical.
const FRESH: &str = "9";

/// The protocol as it is, or with one of its rules broken: by the server or the network, since the
/// policy is always the real one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// Every rule holds.
    Sound,
    /// Renewals are answered and not written.
    NoRenew,
    /// Writes of the scale ignore the version.
    NoGuard,
    /// The token is written to another object: all proxies see it, but the version of the
    /// Deployment stays.
    NonceElsewhere,
    /// A lease is counted from the reply.
    LeaseFromReply,
    /// A write of zero that meets a conflict is sent again, with the version
    /// that is current by then.
    RetryConflict,
    /// The read before a sleep shows the current version, but the old token.
    NoFreshRead,
    /// A write whose reply is late counts as not sent.
    LateMeansNever,
    /// A read shows no renewal: a lease that cannot be read counts as none.
    HiddenLeases,
    /// A lease does not show its TTL: each proxy applies its own TTL to all.
    HiddenTtls,
    /// The first refusal counts as confirmed.
    ConfirmsAtOnce,
    /// A proxy does not learn that it could not wake the app: the pods lack the port.
    HiddenPort,
}

/// The rule of the design that the last event has broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Breach {
    /// (1') Zero was written while a proxy had connections that was not hindered from renewing its
    /// lease.
    Cut,
    /// (2) A connection was forwarded without a lease, and not by the fail-open.
    WithoutLease,
    /// (4) The scale was changed otherwise than between zero and the wake.
    Rescaled,
    /// (5) A proxy has put the app to sleep less than a TTL after its start.
    Hasty,
    /// (6) A write of the scale followed one that has failed, without a read in between.
    Unread,
    /// (7) A proxy that could not wake the app has put it to sleep.
    Unwakeable,
}

/// What the API server stores.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Deployment {
    pub replicas: u32,
    pub version: ResourceVersion,
    pub token: LeaseToken,
    /// The TTL of the last renewal.
    pub lease_ttl: Option<Duration>,
}

impl Deployment {
    pub fn new(replicas: u32) -> Self {
        Deployment {
            replicas,
            version: ResourceVersion(CURRENT.to_owned()),
            token: LeaseToken(CURRENT.to_owned()),
            lease_ttl: Some(TTL),
        }
    }

    /// Executes a request.
    pub fn apply(&mut self, request: &Request, variant: Variant) -> Result<Outcome, Breach> {
        match request {
            Request::Read if variant == Variant::HiddenLeases => {
                return Ok(self.show(Some(LeaseToken(SEEN.to_owned()))));
            }
            Request::Read => {}
            Request::ReadScale => return Ok(self.show(None)),
            Request::RenewLease(Renewal {
                guard: Some(guard), ..
            }) if *guard != self.version && variant != Variant::NoGuard => {
                return Ok(Outcome::Conflict);
            }
            Request::RenewLease(renewal) => self.renew(renewal, variant),
            Request::WriteScale { guard, .. }
                if *guard != self.version && variant != Variant::NoGuard =>
            {
                return Ok(Outcome::Conflict);
            }
            Request::WriteScale { replicas, .. } => {
                self.rescale(*replicas)?;
                return Ok(self.show(None));
            }
        }
        Ok(self.show(Some(self.token.clone())))
    }

    fn renew(&mut self, renewal: &Renewal, variant: Variant) {
        if variant != Variant::NoRenew {
            self.token = LeaseToken(FRESH.to_owned());
            self.lease_ttl = Some(renewal.ttl).filter(|_| variant != Variant::HiddenTtls);
        }
        if !matches!(variant, Variant::NoRenew | Variant::NonceElsewhere) {
            self.touch();
        }
    }

    fn rescale(&mut self, replicas: u32) -> Result<(), Breach> {
        let (from, to) = (std::mem::replace(&mut self.replicas, replicas), replicas);
        self.touch();
        if (from > 0 && to == 0) || (from == 0 && to == WAKE_REPLICAS) {
            Ok(())
        } else {
            Err(Breach::Rescaled)
        }
    }

    /// Changes the version, as every write does.
    pub fn touch(&mut self) {
        self.version = ResourceVersion(FRESH.to_owned());
    }

    fn show(&self, lease_token: Option<LeaseToken>) -> Outcome {
        Outcome::Scale(Scale {
            lease_ttl: self.lease_ttl.filter(|_| lease_token.is_some()),
            lease_token,
            ..Scale::of(self.replicas, &self.version.0)
        })
    }

    /// The event of a watch that shows the object as it is now.
    pub fn event(&self) -> Scale {
        Scale {
            lease_token: Some(self.token.clone()),
            ..Scale::of(self.replicas, &self.version.0)
        }
    }

    /// Gives the version and token that were written last their canonical names.
    pub fn rename(&mut self) {
        for name in [&mut self.version.0, &mut self.token.0] {
            if name == FRESH {
                *name = CURRENT.to_owned();
            }
        }
    }
}
