//! [`RoundRobin`]: the order in which the Endpoints of each Service are listed by name, where those
//! of the namespace may not be listed.

use std::collections::BTreeSet;
use std::time::Duration;

use log::Level;

use super::super::super::paths;
use super::super::super::scheduler::AppKey;
use super::super::super::watcher::malformed;
use super::super::super::watcher_io::{Response, Store as _};
use super::super::interface::ReflectorAction;
use super::super::source::RETRY_REFUSED;
use super::{NamespaceEndpoints, PendingCall};
use crate::clock::Time;
use crate::cluster::{AddressSource, Permission};

/// The time between two lists while no connection waits.
const INTERVAL: Duration = Duration::from_secs(1);
/// The time between two lists while connections wait.
const INTERVAL_WAITING: Duration = Duration::from_millis(250);

/// The items of a list of one object by its name.
const ONE: u32 = 1;

/// The turns of the apps whose Endpoints are listed by name.
#[derive(Debug, Default)]
pub(super) struct RoundRobin {
    /// When a list of the namespace is tried again, and of which source; `None` while the
    /// namespace can be listed.
    retry: Option<(Time, AddressSource)>,
    /// When the last turn was.
    last: Option<Time>,
    /// The app that had the last turn.
    last_app: AppKey,
    /// The apps whose connections wait.
    waiting: BTreeSet<AppKey>,
}

impl RoundRobin {
    /// Begins, because the namespace may not be listed; a list of `next` is tried again after
    /// [`RETRY_REFUSED`].
    pub(super) fn begin(&mut self, next: AddressSource, now: Time) {
        self.retry = Some((now + RETRY_REFUSED, next));
    }

    /// Ends, because the namespace was listed.
    pub(super) fn end(&mut self) {
        self.retry = None;
    }

    /// Whether Endpoints are listed by name.
    pub(super) fn is_active(&self) -> bool {
        self.retry.is_some()
    }

    /// Ends if a list of the namespace is due, and returns its source.
    pub(super) fn take_retry(&mut self, now: Time) -> Option<AddressSource> {
        let (_, source) = self.retry.take_if(|(due, _)| *due <= now)?;
        Some(source)
    }

    pub(super) fn set_waiting(&mut self, app: AppKey, is_waiting: bool) {
        match is_waiting {
            true => self.waiting.insert(app),
            false => self.waiting.remove(&app),
        };
    }

    /// When the next turn is.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        self.retry?;
        let interval = match self.waiting.is_empty() {
            true => INTERVAL,
            false => INTERVAL_WAITING,
        };
        self.last.map(|last| last + interval)
    }

    /// The app whose turn it is: the apps whose connections wait come first.
    fn next(&mut self, apps: impl Iterator<Item = AppKey> + Clone, now: Time) -> Option<AppKey> {
        if self.poll_timeout().is_some_and(|next| now < next) {
            return None;
        }
        let waiting = apps.clone().filter(|app| self.waiting.contains(app));
        let next = after(self.last_app, waiting).or_else(|| after(self.last_app, apps))?;
        self.last = Some(now);
        self.last_app = next;
        Some(next)
    }
}

/// The app after `last`; after the last one, the first.
fn after(last: AppKey, mut apps: impl Iterator<Item = AppKey> + Clone) -> Option<AppKey> {
    let mut later = apps.clone().filter(|&app| app > last);
    later.next().or_else(|| apps.next())
}

impl NamespaceEndpoints {
    /// Lists the Endpoints of the app whose turn it is.
    pub(super) fn next_by_name(&mut self, now: Time) -> ReflectorAction {
        let Some(app) = self.round_robin.next(self.apps.keys().copied(), now) else {
            return ReflectorAction::Wait;
        };
        let Some(entry) = self.apps.get(&app) else {
            return ReflectorAction::Wait;
        };
        self.pending = Some(PendingCall::Endpoints(app));
        let path = paths::endpoints(&entry.namespace, &entry.view.service);
        ReflectorAction::List(paths::page(&path, ONE, ""))
    }

    pub(super) fn endpoints_answered(&mut self, app: AppKey, answer: Response<Vec<u8>>, now: Time) {
        let Some(entry) = self.apps.get_mut(&app) else {
            return;
        };
        let Some(store) = self.endpoints.store.of(&entry.service) else {
            return;
        };
        let status = &mut entry.view.status;
        match answer {
            Response::Ok(body) => match store.add_page(&body, true) {
                Ok(_) => {
                    store.replace();
                    status.granted(Permission::WatchEndpoints);
                    self.services.skips.add(store.take_skipped(), now);
                    entry.view.check(store, true);
                }
                Err(cause) => status.lost(Level::Warn, "failed", &malformed(&cause)),
            },
            Response::Status {
                status: 403, why, ..
            } => {
                status.refused(Permission::WatchEndpoints, &why, None);
                status.lost(Level::Error, "refused", &why);
            }
            Response::Status { why, .. } | Response::TooLarge(why) | Response::Failed(why) => {
                status.lost(Level::Warn, "failed", &why);
            }
        }
        self.log_skipped("Endpoints");
        self.collect();
    }
}
