//! The API server with its one Deployment, and the ways in which a broken
//! protocol would treat it.

use std::time::Duration;

use crate::cluster::{LeaseToken, Outcome, Renewal, Request, ResourceVersion, Scale};

/// How many replicas a wake asks for.
pub const WAKE_REPLICAS: u32 = 1;

/// The idle TTL, and the shorter one where the proxies have unequal ones.
pub const TTL: Duration = Duration::from_secs(10);

/// The name of the Deployment's version, and of its token, in a canonical state.
/// Versions are numbers, since they are compared; of tokens any text would do.
pub const CURRENT: &str = "8";

/// The name of a version that the Deployment has left behind, where only that counts.
/// Where the order of such versions counts, they are called `1`, `2`, and so on.
pub const STALE: &str = "1";

/// The name of a token that a proxy has seen and that is not the current one.
pub const SEEN: &str = "seen";

/// The name of whatever the last action has written, until the state is
/// brought into its canonical form.
const FRESH: &str = "9";

/// The protocol as it is, or with one of its rules taken away. The rules are
/// broken by the server and by the network: the policy is always the real one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// Every rule holds.
    Sound,
    /// Renewals are answered and not written.
    NoRenew,
    /// Writes of the scale ignore the version.
    NoGuard,
    /// The token is written to another object: everybody sees it, and the
    /// version of the Deployment stays.
    NonceElsewhere,
    /// A lease is counted from the reply.
    LeaseFromReply,
    /// A write of zero that meets a conflict is sent again, with the version
    /// that is current by then.
    RetryConflict,
    /// The read of an idle check shows the current version, and of the rest what
    /// was seen before.
    NoFreshRead,
    /// A write whose reply is late is taken for one that was never made.
    LateMeansNever,
    /// A read shows that nobody has ever renewed: a lease that cannot be read is taken
    /// for none.
    HiddenLeases,
    /// Nothing shows for how long a lease is to be respected: each proxy takes its own
    /// TTL for that of all.
    HiddenTtls,
    /// A first refusal is confirmed.
    ConfirmsAtOnce,
    /// A proxy does not know that a wake would lead nowhere.
    HiddenPort,
}

/// A rule of the design that was broken by the last action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Breach {
    /// (1') Zero was written under a connection whose proxy had nothing to
    /// hinder it from renewing its lease.
    Cut,
    /// (2) A connection was forwarded without a lease, and not by the fail-open.
    WithoutLease,
    /// (4) The scale was changed otherwise than between zero and the wake.
    Rescaled,
    /// (5) A proxy has put the app to sleep less than a TTL after its start.
    Hasty,
    /// (6) A write of the scale came after one that has failed, with nothing
    /// read in between.
    Unread,
    /// (7) A proxy has put the app to sleep that could not wake it.
    Unwakeable,
}

/// What the API server stores.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Deployment {
    pub replicas: u32,
    pub version: ResourceVersion,
    pub token: LeaseToken,
    /// For how long the last renewal is to be respected.
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

    /// Carries out a request.
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

    /// Moves the version, as every write does.
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

    /// What a watch shows of it as it is now.
    pub fn event(&self) -> Scale {
        Scale {
            lease_token: Some(self.token.clone()),
            ..Scale::of(self.replicas, &self.version.0)
        }
    }

    /// Gives what was written last the name that it has in canonical states.
    pub fn rename(&mut self) {
        for name in [&mut self.version.0, &mut self.token.0] {
            if name == FRESH {
                *name = CURRENT.to_owned();
            }
        }
    }
}
