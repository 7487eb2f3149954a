//! The Deployment: the calls that a request takes, and what their replies mean.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use log::Level;

use super::client::{Calls, Failure, Reply};
use super::patch::{self, Patch};
use super::rights::Rights;
pub(super) use super::scale_target::Answer;
use super::scale_target::Target;
use super::text::{LogOnce, printable};
use super::{Config, Report, objects};
use crate::clock::{Time, WallClock};
use crate::cluster::{LeaseStore, Outcome, Permission, Request};

/// For how long its scale is read in place of a Deployment that we may not
/// read, before that is tried again: somebody may have granted it.
const LEASE_UNREADABLE_FOR: Duration = Duration::from_secs(300);

/// One Deployment, and what is known of our rights to it.
pub(super) struct Deployment {
    target: Target,
    writer: String,
    wall_clock: WallClock,
    lease_access: Mutex<LeaseAccess>,
    logs: Mutex<Logs>,
    rights: Mutex<Rights>,
}

/// Whether we may read the Deployment, and not only its scale.
#[derive(Default)]
struct LeaseAccess {
    /// When it was last refused and why, if that was the last word.
    refused: Option<(Time, String)>,
    log: LogOnce,
}

/// What each kind of request has run into.
#[derive(Default)]
struct Logs {
    read: LogOnce,
    write: LogOnce,
    status: LogOnce,
    annotation: LogOnce,
}

impl Deployment {
    pub(super) fn new(config: &Config) -> Self {
        Deployment {
            target: Target::new(&config.namespace, config.target.clone()),
            writer: patch::writer(&config.writer),
            wall_clock: config.wall_clock,
            lease_access: Mutex::default(),
            logs: Mutex::default(),
            rights: Mutex::default(),
        }
    }

    /// Makes the calls that `request` takes.
    ///
    /// A renewal is sent once, like a write, though it carries no guard:
    /// applied a second time, it could put back a token that another proxy has
    /// replaced meanwhile, and hide that one from whoever compares tokens.
    pub(super) fn execute(&self, calls: &Calls<'_>, request: &Request, now: Time) -> Answer {
        match request {
            Request::Read => self.read(calls, now),
            Request::WriteScale { replicas, guard } => {
                self.target.write_replicas(calls, *replicas, guard)
            }
            Request::RenewLease { nonce, store } => self.renew(calls, *nonce, *store),
        }
    }

    fn renew(&self, calls: &Calls<'_>, nonce: u64, store: LeaseStore) -> Answer {
        let token = patch::token(&self.writer, nonce);
        if let Err(unfound) = self.target.place(calls) {
            return unfound;
        }
        match store {
            LeaseStore::Status if self.target.keeps_conditions() => {
                let patch = Patch::condition(&token, (self.wall_clock)());
                self.target.patch_status(calls, &patch)
            }
            // Where conditions do not last, the annotation is what there is.
            LeaseStore::Status | LeaseStore::Annotation => {
                self.target.patch_object(calls, &Patch::annotation(&token))
            }
        }
    }

    /// Reads the Deployment; where that is forbidden, its scale.
    fn read(&self, calls: &Calls<'_>, now: Time) -> Answer {
        if !self.is_lease_unreadable(now) {
            let reply = self.target.read(calls)?;
            if reply.status != 403 {
                self.has_seen(&reply);
                return Ok(reply);
            }
            self.is_refused(&reply, now);
        }
        self.target.read_scale(calls)
    }

    fn is_lease_unreadable(&self, now: Time) -> bool {
        let lease_access = self.lease_access();
        let refused = lease_access.refused.as_ref();
        refused.is_some_and(|(at, _)| now.since(*at) < LEASE_UNREADABLE_FOR)
    }

    fn has_seen(&self, reply: &Reply) {
        if reply.is_success() {
            let mut lease_access = self.lease_access();
            lease_access.refused = None;
            lease_access
                .log
                .clear("the Deployment can be read again: other proxies can be seen");
        }
    }

    fn is_refused(&self, reply: &Reply, now: Time) {
        let why = reply.explanation();
        let text = format!(
            "the Deployment cannot be read, only its scale, so that other proxies in front of it \
             cannot be seen: {why}"
        );
        let mut lease_access = self.lease_access();
        lease_access.refused = Some((now, why));
        lease_access.log.raise(Level::Warn, "forbidden", &text);
    }

    /// A line for each change of what comes back; a conflict is everyday.
    pub(super) fn say(&self, request: &Request, answer: &Answer) {
        let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        let log_once = logs.of(request);
        let what = described(request);
        let (level, kind) = match classify(answer) {
            Outcome::Scale(_) => return log_once.clear(&format!("{what}: works again")),
            Outcome::Conflict => {
                return log::debug!("{what}: the Deployment has changed meanwhile");
            }
            Outcome::Forbidden => (Level::Error, "forbidden"),
            Outcome::NotFound => (Level::Error, "not found"),
            Outcome::Busy { .. } => (Level::Warn, "busy"),
            Outcome::Unreachable => (Level::Warn, "unreachable"),
            Outcome::Unknown { .. } => (Level::Warn, "unknown"),
        };
        log_once.raise(level, kind, &format!("{what}: {}", explanation(answer)));
    }

    /// What is to be told of that answer beside its outcome: rights that were
    /// refused or granted, and what went wrong.
    pub(super) fn news(&self, request: &Request, answer: &Answer) -> Vec<Report> {
        let mut rights = self.rights.lock().unwrap_or_else(PoisonError::into_inner);
        let mut news = Vec::new();
        let mut permission = right_to(request);
        if *request == Request::Read {
            match &self.lease_access().refused {
                Some((_, why)) => {
                    news.push(rights.refused(permission, why.clone(), permission.fallback()));
                    permission = Permission::GetScale;
                }
                None => news.extend(rights.granted(Permission::GetScale)),
            }
        }
        match answer {
            Ok(reply) if reply.status == 403 => {
                let why = reply.explanation();
                news.push(rights.refused(permission, why, permission.fallback()));
            }
            // The right is asked for before the object is.
            Ok(reply) if reply.is_success() || matches!(reply.status, 404 | 409) => {
                news.extend(rights.granted(permission));
            }
            _ => {}
        }
        if !matches!(classify(answer), Outcome::Scale(_) | Outcome::Conflict) {
            let (what, why) = (described(request), explanation(answer));
            news.push(Report::Trouble(format!("{what}: {why}")));
        }
        news
    }

    fn lease_access(&self) -> MutexGuard<'_, LeaseAccess> {
        self.lease_access
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Logs {
    fn of(&mut self, request: &Request) -> &mut LogOnce {
        match request {
            Request::Read => &mut self.read,
            Request::WriteScale { .. } => &mut self.write,
            Request::RenewLease { store, .. } => match store {
                LeaseStore::Status => &mut self.status,
                LeaseStore::Annotation => &mut self.annotation,
            },
        }
    }
}

/// What an answer, or the lack of one, means.
pub(super) fn classify(answer: &Answer) -> Outcome {
    let reply = match answer {
        Ok(reply) => reply,
        Err(Failure { sent: false, .. }) => return Outcome::Unreachable,
        Err(_) => return Outcome::Unknown { retry_after: None },
    };
    let retry_after = reply.retry_after;
    match reply.status {
        200..=299 => match objects::scale(&reply.body) {
            Some(scale) => Outcome::Scale(scale),
            None => Outcome::Unknown { retry_after },
        },
        401 | 403 => Outcome::Forbidden,
        404 => Outcome::NotFound,
        409 => Outcome::Conflict,
        429 => Outcome::Busy { retry_after },
        _ => Outcome::Unknown { retry_after },
    }
}

/// The right that a request takes.
fn right_to(request: &Request) -> Permission {
    match request {
        Request::Read => Permission::GetDeployment,
        Request::WriteScale { .. } => Permission::PatchScale,
        Request::RenewLease { store, .. } => match store {
            LeaseStore::Status => Permission::PatchStatus,
            LeaseStore::Annotation => Permission::PatchDeployment,
        },
    }
}

fn described(request: &Request) -> String {
    match request {
        Request::Read => "reading the Deployment".to_owned(),
        Request::WriteScale { replicas, .. } => format!("setting the scale to {replicas}"),
        Request::RenewLease { store, .. } => {
            let place = match store {
                LeaseStore::Status => "the Deployment's status",
                LeaseStore::Annotation => "an annotation",
            };
            format!("renewing the lease in {place}")
        }
    }
}

fn explanation(answer: &Answer) -> String {
    match answer {
        Ok(reply) if reply.is_success() => {
            let body = printable(&String::from_utf8_lossy(&reply.body));
            let status = reply.status;
            format!("{status}, but neither a Scale nor a Deployment in the body: {body}")
        }
        Ok(reply) => reply.explanation(),
        Err(failure) if failure.sent => {
            format!("no reply from the API server: {}", failure.text)
        }
        Err(failure) => format!("the API server cannot be reached: {}", failure.text),
    }
}

#[cfg(test)]
mod tests;
