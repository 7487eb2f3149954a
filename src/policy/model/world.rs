//! The state of the model, and what its parts do to one another.

use std::hash::{Hash, Hasher};
use std::time::Duration;

use super::canonical;
use super::deployment::{Breach, CURRENT, Deployment, Variant, WAKE_REPLICAS};
use super::proxy::{Call, Effects, Proxy};
use super::{Budget, Steps};
use crate::cluster::{LeaseStore, Outcome, Renewal, Request, ResourceVersion};
use crate::policy::Phase;

/// Requests that nobody waits for any more, and that may still be carried out.
/// A write whose guard is stale never will be, and is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Late {
    /// For how long a renewal is to be respected.
    pub renewal: Option<Duration>,
    /// The same of a renewal before a sleep, which is guarded.
    pub last_renewal: Option<Duration>,
    pub sleep: bool,
    pub wake: bool,
}

/// All there is: the Deployment, the proxies, and what is on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct World {
    pub deployment: Deployment,
    pub proxies: [Proxy; 2],
    pub late: Late,
    pub left: Budget,
    pub steps: Option<Steps>,
    pub breach: Option<Breach>,
}

/// Two worlds in which the proxies have changed places behave alike.
impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let World {
            deployment,
            proxies,
            late,
            left,
            steps,
            breach,
        } = self;
        let mut hashes = proxies.each_ref().map(|proxy| {
            let mut hasher = Folding::default();
            proxy.hash(&mut hasher);
            hasher.finish()
        });
        hashes.sort_unstable();
        (deployment, hashes, late, left, steps, breach).hash(state);
    }
}

/// Hashes a word at a time by a multiplication whose upper half is folded back
/// into the lower one, as wyhash does. With SipHash, a quarter of the time goes
/// into it.
#[derive(Default)]
struct Folding(u64);

impl Folding {
    fn fold(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word ^ 0x2d35_8dcc_aa6c_78a5) * 0x9e37_79b9_7f4a_7c15;
        self.0 = (product as u64) ^ (product >> 64) as u64;
    }
}

impl Hasher for Folding {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.fold(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, word: u8) {
        self.fold(word.into());
    }

    fn write_u32(&mut self, word: u32) {
        self.fold(word.into());
    }

    fn write_u64(&mut self, word: u64) {
        self.fold(word);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LateRequest {
    /// To be respected for that long.
    Renewal(Duration),
    /// The one before a sleep.
    LastRenewal(Duration),
    /// A write of zero.
    Sleep,
    /// A write of the wake count.
    Wake,
}

fn renewal(ttl: Duration, guard: Option<ResourceVersion>) -> Request {
    Request::RenewLease(Renewal {
        nonce: 0,
        ttl,
        in_use: false,
        keep_replicas: None,
        guard,
        store: LeaseStore::Status,
    })
}

/// A time-out.
pub const UNKNOWN: Outcome = Outcome::Unknown { retry_after: None };

impl Late {
    pub fn add(&mut self, request: &Request) {
        match request {
            Request::RenewLease(Renewal {
                guard: None, ttl, ..
            }) => self.renewal = Some(*ttl),
            Request::RenewLease(Renewal {
                guard: Some(guard), ..
            })
            | Request::WriteScale { guard, .. }
                if guard.0 != CURRENT => {}
            Request::RenewLease(renewal) => self.last_renewal = Some(renewal.ttl),
            Request::WriteScale { replicas: 0, .. } => self.sleep = true,
            Request::WriteScale { .. } => self.wake = true,
            Request::Read | Request::ReadScale => {}
        }
    }

    pub fn all(&self) -> impl Iterator<Item = LateRequest> {
        let Late {
            renewal,
            last_renewal,
            sleep,
            wake,
        } = *self;
        [
            renewal.map(LateRequest::Renewal),
            last_renewal.map(LateRequest::LastRenewal),
            sleep.then_some(LateRequest::Sleep),
            wake.then_some(LateRequest::Wake),
        ]
        .into_iter()
        .flatten()
    }
}

impl World {
    pub fn allows_faults(&self) -> bool {
        self.steps.is_none_or(|steps| steps.faulty > 0)
    }

    /// The requests and answers on their way that a running proxy waits for.
    pub fn awaited(&self) -> impl Iterator<Item = &Call> {
        let running = self.proxies.iter().filter(|proxy| proxy.runs());
        running.filter_map(|proxy| proxy.call.as_ref())
    }

    /// Whether nothing is left to happen in this step, while it is calm.
    pub fn is_settled(&self) -> bool {
        let awake = self.deployment.replicas > 0;
        self.proxies.iter().all(|proxy| {
            !proxy.runs()
                || proxy.call.is_none()
                    && !proxy.may_hand_over()
                    && (proxy.policy.dialable == awake || !proxy.waiting)
        })
    }

    pub fn pass(&mut self) {
        if let Some(steps) = &mut self.steps {
            match steps.faulty {
                0 => steps.calm -= 1,
                _ => steps.faulty -= 1,
            }
        }
        self.proxies.iter_mut().for_each(Proxy::ages);
        for p in 0..self.proxies.len() {
            if self.proxies[p].runs() {
                self.at(p, Proxy::wakes_up);
            }
        }
    }

    /// Lets something happen at one proxy.
    pub fn at(&mut self, p: usize, event: impl FnOnce(&mut Proxy) -> Effects) {
        let effects = event(&mut self.proxies[p]);
        if let Some(request) = effects.replaced {
            self.late.add(&request);
        }
        self.breach = self.breach.or(effects.breach);
    }

    pub fn receive(&mut self, p: usize, outcome: Outcome) {
        self.at(p, |proxy| proxy.receives(outcome));
    }

    pub fn apply(&mut self, p: usize, variant: Variant) {
        let Some(request) = self.proxies[p].request().cloned() else {
            return;
        };
        let mut outcome = self.carry_out(&request, variant);
        let proxy = &mut self.proxies[p];
        let Some(call) = &mut proxy.call else {
            return;
        };
        match (variant, &call.request, &mut outcome) {
            (
                Variant::RetryConflict,
                Request::WriteScale { replicas: 0, .. },
                Outcome::Conflict,
            ) => {
                let guard = self.deployment.version.clone();
                call.request = Request::WriteScale { replicas: 0, guard };
                return;
            }
            (Variant::NoFreshRead, Request::Read, Outcome::Scale(scale))
                if proxy.policy.phase == Phase::ConfirmingIdle =>
            {
                scale.lease_token = canonical::seen_token(&mut proxy.policy).cloned();
            }
            _ => {}
        }
        call.outcome = Some(outcome);
    }

    pub fn answer(&mut self, p: usize, variant: Variant) {
        let proxy = &mut self.proxies[p];
        let outcome = proxy.call.as_ref().and_then(|call| call.outcome.clone());
        if variant == Variant::LeaseFromReply {
            proxy.counts_from_the_reply();
        }
        if let Some(outcome) = outcome {
            self.receive(p, outcome);
        }
    }

    pub fn apply_late(&mut self, request: LateRequest, variant: Variant) {
        let guard = ResourceVersion(CURRENT.to_owned());
        let request = match request {
            LateRequest::Renewal(ttl) => {
                self.late.renewal = None;
                renewal(ttl, None)
            }
            LateRequest::LastRenewal(ttl) => renewal(ttl, Some(guard)),
            LateRequest::Sleep => Request::WriteScale { replicas: 0, guard },
            LateRequest::Wake => Request::WriteScale {
                replicas: WAKE_REPLICAS,
                guard,
            },
        };
        self.carry_out(&request, variant);
    }

    /// The API server carries out a request, whoever has sent it.
    pub fn carry_out(&mut self, request: &Request, variant: Variant) -> Outcome {
        let awake = self.deployment.replicas > 0;
        let outcome = self.deployment.apply(request, variant);
        if awake && self.deployment.replicas == 0 && self.proxies.iter().any(Proxy::is_cut) {
            self.breach = Some(Breach::Cut);
        }
        match outcome {
            Ok(outcome) => outcome,
            Err(breach) => {
                self.breach = Some(breach);
                UNKNOWN
            }
        }
    }

    /// Gives versions and tokens their canonical names. Nothing is forgotten:
    /// they are opaque, and only ever compared.
    pub fn rename(&mut self) {
        if self.deployment.version.0 != CURRENT {
            let renewal = self.late.renewal;
            self.late = Late {
                renewal,
                ..Late::default()
            };
        }
        for proxy in &mut self.proxies {
            proxy.rename(&self.deployment);
        }
        self.deployment.rename();
    }

    /// Brings it into its canonical form.
    pub fn normalise(&mut self) {
        self.rename();
        self.proxies.iter_mut().for_each(Proxy::forget);
    }
}
