//! [`TargetClient`]: executes each [`Request`] about the scale target: it makes the call, and
//! classifies the reply as an [`Outcome`].
//!
//! Each request is one call, and each kind of request needs one permission. A refusal is
//! only reported: the policy decides when a permission counts as missing, and what it
//! requests instead.

use std::sync::{Arc, Mutex, PoisonError};

use log::Level;

use super::ancestor_replica::AncestorReplica;
use super::client::Calls;
use super::patch::{self, Patch};
use super::permissions::Permissions;
use super::reply::Failure;
pub(super) use super::scale_target::CallResult;
use super::scale_target::Target;
use super::target_status::target_status;
use super::text::{LogOnce, printable};
use super::{WatchedApp, scaled};
use crate::clock::{Time, WallClock};
use crate::cluster::{LeaseStore, Outcome, Renewal, Report, Request, TargetStatus};

/// The client of the scale target, with the permissions that were refused.
pub(super) struct TargetClient {
    target: Arc<Target>,
    /// The replica of an ancestor that may run for the same app.
    ancestor_replica: Option<AncestorReplica>,
    writer: Writer,
    logs: Mutex<Logs>,
    permissions: Mutex<Permissions>,
}

/// Who writes leases, and by which clock.
#[derive(Clone)]
pub(super) struct Writer {
    name: String,
    wall_clock: WallClock,
}

impl Writer {
    /// A writer of that name, in characters that a token has.
    pub(super) fn new(name: &str, wall_clock: WallClock) -> Self {
        Writer {
            name: patch::writer(name),
            wall_clock,
        }
    }
}

/// The last fault of each kind of request that was logged.
#[derive(Default)]
struct Logs {
    /// Whether the proxy drains: permissions and objects that are gone are logged at
    /// debug then.
    is_draining: bool,
    read: LogOnce,
    read_scale: LogOnce,
    write: LogOnce,
    status: LogOnce,
    annotation: LogOnce,
}

impl TargetClient {
    pub(super) fn new(config: &WatchedApp, writer: Writer) -> Self {
        let target = Target::new(&config.namespace, config.target.clone());
        TargetClient {
            target: Arc::new(target),
            ancestor_replica: AncestorReplica::new(config),
            writer,
            logs: Mutex::default(),
            permissions: Mutex::default(),
        }
    }

    /// The object that is scaled.
    pub(super) fn target(&self) -> &Arc<Target> {
        &self.target
    }

    /// Makes the call for `request`. A write is sent once: it may have been applied though
    /// there is no reply.
    pub(super) fn execute(&self, calls: &Calls<'_>, request: &Request) -> CallResult {
        match request {
            Request::Read => self.read(calls),
            Request::ReadScale => self.target.read_scale(calls),
            Request::WriteScale { replicas, guard } => {
                self.target.write_replicas(calls, *replicas, guard)
            }
            Request::RenewLease(renewal) => self.renew(calls, renewal),
        }
    }

    fn renew(&self, calls: &Calls<'_>, renewal: &Renewal) -> CallResult {
        let token = patch::token(&self.writer.name, renewal);
        match renewal.store {
            LeaseStore::Status => {
                let patch = Patch::condition(&token, renewal, (self.writer.wall_clock)());
                self.target.patch_status(calls, &patch)
            }
            LeaseStore::Annotation => {
                let patch = self.with_renewed_ancestor_annotation(
                    calls,
                    renewal,
                    Patch::annotation(&token, renewal),
                );
                self.target.patch_object(calls, &patch)
            }
        }
    }

    /// Adds the annotation of an ancestor's replica to `patch`, or writes it to the
    /// ConfigMap of that replica. The renewal before a sleep does neither.
    fn with_renewed_ancestor_annotation(
        &self,
        calls: &Calls<'_>,
        renewal: &Renewal,
        patch: Patch,
    ) -> Patch {
        let Some(old) = self
            .ancestor_replica
            .as_ref()
            .filter(|_| renewal.guard.is_none())
        else {
            return patch;
        };
        let unix = (self.writer.wall_clock)();
        old.renew_config_map(calls, unix);
        old.renew_in(patch, unix)
    }

    /// Reads the object, and the ConfigMap of an ancestor's replica if there is one.
    fn read(&self, calls: &Calls<'_>) -> CallResult {
        if let Some(old) = &self.ancestor_replica
            && let Err(unknown) = old.read(calls)
        {
            return unknown;
        }
        self.target.read(calls)
    }

    /// The outcome of a call.
    pub(super) fn outcome(&self, answer: &CallResult, now: Time) -> Outcome {
        let mut outcome = classify(answer);
        if let (Some(old), Ok(reply), Outcome::Scale(scale)) =
            (&self.ancestor_replica, answer, &mut outcome)
            && scale.lease_token.is_some()
        {
            scale.ancestor_in_use_for =
                old.in_use_for(&reply.body, (self.writer.wall_clock)(), now);
        }
        outcome
    }

    /// The proxy drains: see [`super::AppHandle::set_draining`].
    pub(super) fn set_draining(&self) {
        let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        logs.is_draining = true;
    }

    /// Logs each change between success and failure, and of the kind of failure. A conflict
    /// is normal.
    pub(super) fn log_answer(&self, request: &Request, answer: &CallResult) {
        let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        let is_draining = logs.is_draining;
        let log_once = logs.of(request);
        let what = described(request);
        let (level, kind) = match classify(answer) {
            Outcome::Scale(_) => return log_once.clear(&format!("{what}: works again")),
            Outcome::Conflict => {
                return log::debug!("{what}: the object has changed meanwhile");
            }
            Outcome::Forbidden | Outcome::Unauthorized | Outcome::NotFound if is_draining => {
                (Level::Debug, "gone")
            }
            Outcome::Forbidden => (Level::Warn, "forbidden"),
            Outcome::Unauthorized => (Level::Warn, "unauthorized"),
            Outcome::NotFound => (Level::Error, "not found"),
            Outcome::Busy { .. } => (Level::Warn, "busy"),
            Outcome::Unreachable => (Level::Warn, "unreachable"),
            Outcome::Unknown { .. } => (Level::Warn, "unknown"),
        };
        let text = failure(request, answer);
        log_once.raise(level, kind, &text);
    }

    /// The reports of an answer, in addition to its outcome: a permission that was refused
    /// or granted, a failure, and a change of the status.
    pub(super) fn side_reports(&self, request: &Request, answer: &CallResult) -> Vec<Report> {
        let mut permissions = self
            .permissions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut reports = Vec::new();
        let permission = request.permission();
        match answer {
            Ok(reply) if reply.status == 403 => {
                let why = reply.explanation();
                reports.push(permissions.refused(permission, why, permission.fallback()));
            }
            // The API server checks the permission before it looks for the object.
            Ok(reply) if reply.is_success() || matches!(reply.status, 404 | 409) => {
                reports.extend(permissions.granted(permission));
            }
            _ => {}
        }
        if !matches!(classify(answer), Outcome::Scale(_) | Outcome::Conflict) {
            let (what, why) = (described(request), explanation(answer));
            reports.push(Report::RequestFailed(format!("{what}: {why}")));
        }
        reports.extend(self.changed_status(answer).map(Report::TargetStatus));
        reports
    }

    /// The status in the reply, if it has changed.
    fn changed_status(&self, answer: &CallResult) -> Option<TargetStatus> {
        let reply = answer.as_ref().ok().filter(|reply| reply.is_success())?;
        self.target.changed_status(target_status(&reply.body)?)
    }
}

impl Logs {
    fn of(&mut self, request: &Request) -> &mut LogOnce {
        match request {
            Request::Read => &mut self.read,
            Request::ReadScale => &mut self.read_scale,
            Request::WriteScale { .. } => &mut self.write,
            Request::RenewLease(renewal) => match renewal.store {
                LeaseStore::Status => &mut self.status,
                LeaseStore::Annotation => &mut self.annotation,
            },
        }
    }
}

/// The outcome by the status and the body of an answer.
fn classify(answer: &CallResult) -> Outcome {
    let reply = match answer {
        Ok(reply) => reply,
        Err(Failure { sent: false, .. }) => return Outcome::Unreachable,
        Err(_) => return Outcome::Unknown { retry_after: None },
    };
    let retry_after = reply.retry_after;
    match reply.status {
        200..=299 => match scaled::scale(&reply.body) {
            Some(scale) => Outcome::Scale(scale),
            None => Outcome::Unknown { retry_after },
        },
        401 => Outcome::Unauthorized,
        403 => Outcome::Forbidden,
        404 => Outcome::NotFound,
        409 => Outcome::Conflict,
        429 => Outcome::Busy { retry_after },
        _ => Outcome::Unknown { retry_after },
    }
}

/// The log line about a request that has failed.
fn failure(request: &Request, answer: &CallResult) -> String {
    let (what, why) = (described(request), explanation(answer));
    let is_unknown = matches!(classify(answer), Outcome::Unknown { .. });
    let effect = match request {
        // Unless it is not known what was written.
        Request::WriteScale { replicas: 0, .. } if !is_unknown => "; the app stays awake",
        _ => "",
    };
    format!("{what}: {why}{effect}")
}

fn described(request: &Request) -> String {
    match request {
        Request::Read => "reading the scale target".to_owned(),
        Request::ReadScale => "reading the scale alone".to_owned(),
        Request::WriteScale { replicas, .. } => format!("setting the scale to {replicas}"),
        Request::RenewLease(renewal) => {
            let place = match renewal.store {
                LeaseStore::Status => "the status",
                LeaseStore::Annotation => "an annotation",
            };
            format!("renewing the lease in {place}")
        }
    }
}

fn explanation(answer: &CallResult) -> String {
    match answer {
        Ok(reply) if reply.is_success() => {
            let body = printable(&String::from_utf8_lossy(&reply.body));
            let status = reply.status;
            format!("{status}, but no object with a scale in the body: {body}")
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
