//! [`Health`]: the state of the API threads as they report it, and the readiness of an app
//! that follows from it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Time;
use crate::cluster::{AddressSource, LeaseStore, NoAddress, Outcome, Permission, Refusal};
use crate::duration;
use crate::refusal::{CONFIRMED_AFTER, RefusalClock};
use crate::supervisor::ThreadPanic;

/// How long a refusal counts: several times the longest pause between two attempts
/// ([`crate::refusal::MAX_PAUSE`]). After an older one the permission was not needed. It may
/// have been granted meanwhile, and only a ready proxy gets the connection that would show that.
const FRESH: Duration = Duration::from_secs(45);

/// Permissions with another permission that is requested instead. The first of two is in the
/// Role of `manifests/base`, and is named in errors if both are missing.
const ALTERNATIVES: [(Permission, Permission); 2] = [
    (Permission::GetTarget, Permission::GetScale),
    (Permission::PatchStatus, Permission::PatchTarget),
];

/// The reports of the API threads.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// Whether the scale target, or its scale, was read.
    is_target_read: bool,
    /// The kind of object from which the endpoints were listed last.
    source: Option<AddressSource>,
    /// Whether the last attempt to list the endpoints has succeeded.
    synced: bool,
    /// Why no pod can be dialled although the endpoints can be listed, by the place of
    /// the port.
    no_address: BTreeMap<usize, NoAddress>,
    refused: BTreeMap<Permission, Refused>,
    trouble: Option<(String, Time)>,
    /// The last panic of each thread that has panicked.
    panics: BTreeMap<&'static str, Panicked>,
}

/// The panic of a thread.
#[derive(Clone, Debug)]
struct Panicked {
    why: String,
    /// Until when the app is unready because of it: twice the pause before the thread starts
    /// again.
    until: Time,
}

#[derive(Clone, Debug)]
struct Refused {
    refusal: Refusal,
    clock: RefusalClock,
    /// When it was refused last.
    last: Time,
}

/// The state on which the fallbacks for refused permissions depend.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// Where the policy writes leases.
    pub store: Option<LeaseStore>,
    /// Whether there is a static backend (`--target`).
    pub has_static_backend: bool,
    /// Whether pods are dialled: there is no static backend, or it comes after them.
    pub is_pods_first: bool,
    /// Whether the app has replicas.
    pub has_replicas: bool,
}

impl Health {
    /// Handles the outcome of a request that needs `permission`. A refusal or grant of the
    /// permission is reported separately ([`Health::permission`]).
    pub(super) fn replied(&mut self, permission: Option<Permission>, outcome: &Outcome) {
        self.is_target_read |= matches!(outcome, Outcome::Scale(_));
        let shows_nothing = matches!(
            outcome,
            Outcome::Unreachable
                | Outcome::Unknown { .. }
                | Outcome::Busy { .. }
                | Outcome::Unauthorized
        );
        if let Some(permission) = permission.filter(|_| shows_nothing) {
            self.interrupted(permission);
        }
    }

    /// Handles that a request that needs `permission` had no reply, or one that shows nothing
    /// about it.
    pub(super) fn interrupted(&mut self, permission: Permission) {
        if let Some(refused) = self.refused.get_mut(&permission) {
            refused.clock.interrupted();
        }
    }

    /// Sets from which kind of object the endpoints are listed; `None`: they cannot be.
    pub(super) fn synced(&mut self, source: Option<AddressSource>) {
        self.synced = source.is_some();
        self.source = source.or(self.source);
    }

    /// Sets the reason why no pod can be dialled for a port.
    pub(super) fn no_address(&mut self, port: usize, why: Option<NoAddress>) {
        match why {
            Some(why) => drop(self.no_address.insert(port, why)),
            None => drop(self.no_address.remove(&port)),
        }
    }

    /// Why no pod can be dialled for a port although the endpoints can be listed.
    pub fn no_address_because(&self, port: usize) -> Option<&str> {
        self.no_address.get(&port).map(NoAddress::why)
    }

    /// The same as a value.
    pub fn no_address_of(&self, port: usize) -> Option<&NoAddress> {
        self.no_address.get(&port)
    }

    /// Whether there are endpoints, and none of them has the port.
    pub fn is_port_missing(&self, port: usize) -> bool {
        matches!(
            self.no_address.get(&port),
            Some(NoAddress::EndpointsLackPort(_))
        )
    }

    /// The errors of settings because of which connections to a port cannot be served. Endpoints
    /// without the port are none: the pods of the next rollout may have it.
    fn wrong_settings(&self) -> Vec<String> {
        let mut wrong: Vec<String> = Vec::new();
        for why in self.no_address.values() {
            if let NoAddress::ServiceMissing(why) | NoAddress::ServiceLacksPort(why) = why
                && !wrong.contains(why)
            {
                wrong.push(why.clone());
            }
        }
        wrong
    }

    /// Handles a refusal of a permission, or a grant (`None`).
    pub(super) fn permission(
        &mut self,
        permission: Permission,
        refusal: Option<Refusal>,
        now: Time,
    ) {
        let before = self
            .refused
            .remove(&permission)
            .filter(|it| it.is_fresh(now));
        if let Some(refusal) = refusal {
            let mut clock = before.map(|before| before.clock).unwrap_or_default();
            clock.refused(CONFIRMED_AFTER, now);
            let refused = Refused {
                refusal,
                clock,
                last: now,
            };
            self.refused.insert(permission, refused);
        } else if let Some((_, alternative)) = ALTERNATIVES.iter().find(|(it, _)| *it == permission)
        {
            // The alternative is not requested any more.
            self.refused.remove(alternative);
        }
    }

    /// Sets the last error.
    pub(super) fn trouble(&mut self, what: String, now: Time) {
        self.trouble = Some((what, now));
    }

    /// Handles the panic of a thread, which is started again after a pause.
    pub(super) fn panicked(&mut self, panic: &ThreadPanic, now: Time) {
        let why = panic.why.replace(char::is_control, " ");
        let until = now + panic.pause * 2;
        self.panics.insert(panic.thread, Panicked { why, until });
    }

    /// The kind of object from which the endpoints were listed last.
    pub fn source(&self) -> Option<AddressSource> {
        self.source
    }

    /// Whether the last list of the endpoints has succeeded.
    pub fn is_synced(&self) -> bool {
        self.synced
    }

    /// The last error, and when it occurred.
    pub fn last_trouble(&self) -> Option<(&str, Time)> {
        self.trouble.as_ref().map(|(what, at)| (what.as_str(), *at))
    }

    /// The reason why a permission was refused, if it was.
    pub fn why_refused(&self, permission: Permission) -> Option<&str> {
        let refused = self.refused.get(&permission);
        refused.map(|refused| refused.refusal.why.as_str())
    }

    /// What is done instead of a refused permission, if anything.
    pub fn fallback(&self, permission: Permission, context: Context) -> Option<&'static str> {
        match permission {
            Permission::PatchStatus => match context.store {
                Some(LeaseStore::Status) => None,
                Some(LeaseStore::Annotation) => permission.fallback(),
                None => Permission::PatchTarget.fallback(),
            },
            _ if is_alternative(permission) => None,
            _ => self.fallback_of(permission, self.refused.get(&permission)?, context),
        }
    }

    /// Whether a permission is refused, and nothing can be done instead.
    pub fn is_forbidden(&self, permission: Permission, context: Context, now: Time) -> bool {
        self.refusals(permission, context, now).is_some()
    }

    /// How long a permission has been missing that nothing can replace.
    fn missing_for(&self, permission: Permission, context: Context, now: Time) -> Option<Duration> {
        let mut since = Time::default();
        for refused in self
            .refusals(permission, context, now)?
            .into_iter()
            .flatten()
        {
            since = since.max(refused.clock.confirmed_since()?);
        }
        Some(now.since(since))
    }

    /// The refusal of a permission that nothing can replace, and that of the permission that
    /// is requested instead, if there is one.
    fn refusals(
        &self,
        permission: Permission,
        context: Context,
        now: Time,
    ) -> Option<[Option<&Refused>; 2]> {
        let refused = self.refused.get(&permission);
        let refused = refused.filter(|it| it.is_fresh(now))?;
        if is_alternative(permission) || permission == Permission::PatchStatus {
            return None;
        }
        let lost = self.fallback_of(permission, refused, context).is_none();
        lost.then(|| [Some(refused), self.alternative(permission)])
    }

    /// The refusal of the permission that is requested instead, if that is refused too.
    fn alternative(&self, permission: Permission) -> Option<&Refused> {
        let pair = ALTERNATIVES
            .iter()
            .find(|(first, _)| *first == permission)?;
        self.refused.get(&pair.1)
    }

    fn fallback_of(
        &self,
        permission: Permission,
        refused: &Refused,
        context: Context,
    ) -> Option<&'static str> {
        match permission {
            Permission::PatchScale if context.has_replicas => {
                Some("leaving the app awake: it is not put to sleep")
            }
            Permission::WatchSlices | Permission::WatchEndpoints
                if context.has_static_backend && refused.refusal.fallback.is_none() =>
            {
                Some("dialling the static backend (--target) without knowing whether it is there")
            }
            _ if self.alternative(permission).is_some() => None,
            _ => refused.refusal.fallback,
        }
    }

    /// The threads that have panicked a short time ago, a line each.
    fn panicked_threads(&self, now: Time) -> Vec<String> {
        let recent = self.panics.iter().filter(|(_, panic)| now < panic.until);
        recent
            .map(|(thread, panic)| {
                let why = &panic.why;
                format!("the thread {thread} has panicked, which is a bug: {why}")
            })
            .collect()
    }

    /// The reasons why an app is not ready, a line each; none if it is. A drain is another
    /// reason.
    ///
    /// An app becomes ready once the scale target was read and the endpoints were listed, or the
    /// static backend is dialled without them (`trusts_static_backend`). A Service or a port that
    /// does not exist is a wrong setting, except where only a static backend is dialled. After
    /// that, only a wrong setting, a permission that is refused for good without a fallback, and a
    /// thread that panics end readiness.
    pub(super) fn unready(
        &self,
        name: &str,
        context: Context,
        trusts_static_backend: bool,
        now: Time,
    ) -> Vec<String> {
        let mut reasons = self.panicked_threads(now);
        let panicked = reasons.len();
        if !self.is_target_read {
            reasons.push(format!("the scale target {name} was not read yet"));
        }
        let mut wrong_settings = self.wrong_settings();
        let are_listed = self.source.is_some() || !wrong_settings.is_empty();
        let does_without = context.has_static_backend && trusts_static_backend;
        if !are_listed && !does_without {
            reasons.push("the addresses of the pods were not listed yet".to_owned());
        }
        if reasons.len() > panicked {
            let trouble = self.trouble.as_ref().map(|(what, _)| what.clone());
            reasons.extend(trouble);
            return reasons;
        }
        let refused = Permission::ALL.into_iter().filter_map(|permission| {
            let missing_for = self.missing_for(permission, context, now)?;
            let why = self.why_refused(permission)?;
            let seconds = duration::display(Duration::from_secs(missing_for.as_secs()));
            Some(format!("not allowed for {seconds} to {permission}: {why}"))
        });
        if !context.is_pods_first {
            wrong_settings.clear();
        }
        reasons.extend(wrong_settings.into_iter().chain(refused));
        reasons
    }
}

impl Refused {
    fn is_fresh(&self, now: Time) -> bool {
        now.since(self.last) <= FRESH
    }
}

fn is_alternative(permission: Permission) -> bool {
    ALTERNATIVES.iter().any(|(_, second)| *second == permission)
}

#[cfg(test)]
mod tests;
