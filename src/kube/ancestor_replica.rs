//! [`AncestorReplica`]: a replica of an ancestor that may run for the same app, and the calls that
//! read and renew its annotation.
//!
//! If the annotation is on the scale target, no call is added: it is read with the object and
//! written with the lease. If it is on a ConfigMap, each read and each renewal makes one more
//! call.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use log::Level;

use super::ancestors::{Ancestor, Sightings};
use super::client::Calls;
use super::patch::Patch;
use super::reply::Reply;
use super::scale_target::CallResult;
use super::text::LogOnce;
use super::{WatchedApp, paths, scaled};
use crate::clock::Time;

/// The largest ConfigMap, in bytes: etcd takes none above 1.5 MiB.
const BODY: u64 = 4 * 1024 * 1024;

/// A replica of an ancestor, which may run or not.
pub(super) struct AncestorReplica {
    ancestor: Ancestor,
    ttl: Duration,
    /// The path of the ConfigMap with its annotation; `None` if that is on the scale target.
    config_map: Option<String>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    seen: Sightings,
    /// The annotation on the ConfigMap, as read last.
    text: Option<String>,
    log: LogOnce,
}

impl AncestorReplica {
    /// The replica of the ancestor whose flags the settings were given in, if any.
    pub(super) fn new(config: &WatchedApp) -> Option<AncestorReplica> {
        let config_map = config.state_configmap.as_deref();
        Some(AncestorReplica {
            ancestor: Ancestor::of(config.dialect)?,
            ttl: config.idle_ttl,
            config_map: config_map.map(|name| paths::config_map(&config.namespace, name)),
            state: Mutex::default(),
        })
    }

    /// Reads the ConfigMap, if the annotation is on one.
    ///
    /// # Errors
    /// The answer, if it does not show the annotation: then the app must not be put to
    /// sleep. A ConfigMap that does not exist, or may not be read, counts as no annotation.
    pub(super) fn read(&self, calls: &Calls<'_>) -> Result<(), CallResult> {
        let Some(path) = &self.config_map else {
            return Ok(());
        };
        let reply = calls.get(path, BODY).map_err(Err)?;
        let mut state = self.state();
        match reply.status {
            200..=299 => {
                state.text = scaled::annotation(&reply.body, self.ancestor.annotation());
                state
                    .log
                    .clear("the ConfigMap of the old replicas can be read");
            }
            403 => state.refused("read", &reply),
            404 => {}
            _ => return Err(Ok(reply)),
        }
        if !reply.is_success() {
            state.text = None;
        }
        Ok(())
    }

    /// How much longer the app is in use according to the annotation, on the object in
    /// `body` or on the ConfigMap; `None` if there is none.
    pub(super) fn in_use_for(&self, body: &[u8], unix: u64, now: Time) -> Option<Duration> {
        let mut state = self.state();
        let text = match self.config_map {
            Some(_) => state.text.clone(),
            None => scaled::annotation(body, self.ancestor.annotation()),
        };
        let Some(text) = text else {
            state.seen.absent();
            return None;
        };
        let seen = &mut state.seen;
        Some(seen.in_use_for(self.ancestor, &text, self.ttl, unix, now))
    }

    /// Adds a renewal of the old replica's annotation to `patch`, which annotates the object.
    pub(super) fn renew_in(&self, patch: Patch, unix: u64) -> Patch {
        if self.config_map.is_some() || !self.state().seen.is_there() {
            return patch;
        }
        let text = self.ancestor.text(unix, self.ttl);
        patch.and_annotation(self.ancestor.annotation(), &text)
    }

    /// Renews the annotation on the ConfigMap. A failure is only logged, because the lease
    /// does not depend on it.
    pub(super) fn renew_config_map(&self, calls: &Calls<'_>, unix: u64) {
        let Some(path) = &self.config_map else {
            return;
        };
        if !self.state().seen.is_there() {
            return;
        }
        let text = self.ancestor.text(unix, self.ttl);
        let patch = Patch::annotate(self.ancestor.annotation(), &text);
        let answer = calls.patch(path, &patch, BODY);
        let mut state = self.state();
        match answer {
            Ok(reply) if reply.is_success() => {
                state
                    .log
                    .clear("the ConfigMap of the old replicas can be written");
            }
            Ok(reply) => state.refused("annotated", &reply),
            Err(failure) => log::debug!("the ConfigMap of the old replicas: {}", failure.text),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn refused(&mut self, what: &str, reply: &Reply) {
        let why = reply.explanation();
        let text = format!(
            "the ConfigMap of the old replicas cannot be {what}; if one of them still runs, it may \
             put the app to sleep under connections of this proxy: {why}"
        );
        self.log.raise(Level::Warn, "refused", &text);
    }
}
