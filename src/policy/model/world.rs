//! [`World`]: the state of the model, and its transitions.

use std::hash::{Hash, Hasher};
use std::time::Duration;

use super::canonical;
use super::deployment::{Breach, CURRENT, Deployment, Variant, WAKE_REPLICAS};
use super::proxy::{Call, Effects, Proxy};
use super::{Budget, Steps};
use crate::cluster::{LeaseStore, Outcome, Renewal, Request, ResourceVersion};
use crate::policy::Phase;

/// Requests that were given up and may still be executed. A write with a stale guard cannot be,
/// and is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Late {
    /// The TTL of an unguarded renewal.
    pub renewal: Option<Duration>,
    /// The TTL of a final renewal, which is guarded.
    pub last_renewal: Option<Duration>,
    pub sleep: bool,
    pub wake: bool,
}

/// The state of the model: the Deployment, the proxies, and the requests in flight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct World {
    pub deployment: Deployment,
    pub proxies: [Proxy; 2],
    pub late: Late,
    pub left: Budget,
    pub steps: Option<Steps>,
    pub breach: Option<Breach>,
}

/// Two states in which the proxies are exchanged behave alike, and have one hash.
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

/// A hasher that multiplies a word at a time and folds the upper half of the product into the lower
/// one, as wyhash does. SipHash took a quarter of the time of a run.
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

/// A late request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LateRequest {
    /// A renewal with that TTL.
    Renewal(Duration),
    /// The renewal before a sleep.
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
        previous_replicas: None,
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

    /// The requests and replies in flight that a running proxy waits for.
    pub fn awaited(&self) -> impl Iterator<Item = &Call> {
        let running = self.proxies.iter().filter(|proxy| proxy.is_running());
        running.filter_map(|proxy| proxy.call.as_ref())
    }

    /// Whether no further event is possible in this calm step.
    pub fn is_settled(&self) -> bool {
        let awake = self.deployment.replicas > 0;
        self.proxies.iter().all(|proxy| {
            !proxy.is_running()
                || proxy.call.is_none()
                    && !proxy.may_forward()
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
        self.proxies.iter_mut().for_each(Proxy::age);
        for p in 0..self.proxies.len() {
            if self.proxies[p].is_running() {
                self.at(p, Proxy::handle_timeout);
            }
        }
    }

    /// Performs an event at one proxy, with its effects.
    pub fn at(&mut self, p: usize, event: impl FnOnce(&mut Proxy) -> Effects) {
        let effects = event(&mut self.proxies[p]);
        if let Some(request) = effects.replaced {
            self.late.add(&request);
        }
        self.breach = self.breach.or(effects.breach);
    }

    pub fn receive(&mut self, p: usize, outcome: Outcome) {
        self.at(p, |proxy| proxy.receive(outcome));
    }

    pub fn apply(&mut self, p: usize, variant: Variant) {
        let Some(request) = self.proxies[p].request().cloned() else {
            return;
        };
        let mut outcome = self.execute(&request, variant);
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
            proxy.grant_lease_from_reply();
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
        self.execute(&request, variant);
    }

    /// The API server executes a request of any client.
    pub fn execute(&mut self, request: &Request, variant: Variant) -> Outcome {
        let awake = self.deployment.replicas > 0;
        let outcome = self.deployment.apply(request, variant);
        if awake && self.deployment.replicas == 0 && self.proxies.iter().any(Proxy::would_be_cut) {
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

    /// Gives versions and tokens their canonical names. That loses nothing: they are opaque, and
    /// only compared.
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

    /// Makes the state canonical.
    pub fn normalise(&mut self) {
        self.rename();
        self.proxies.iter_mut().for_each(Proxy::forget);
    }
}
