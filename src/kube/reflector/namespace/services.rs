//! [`Services`]: the reads of the Services by the reflector of a namespace. All of them are listed
//! at most once a minute. One is read by itself if its endpoints do not fit to it, and each where
//! the list is refused.

use std::collections::BTreeMap;
use std::time::Duration;

use log::Level;

use super::super::super::items::{self, SkipLog, Skipped};
use super::super::super::objects::{Metadata, Service};
use super::super::super::pages::Pages;
use super::super::super::paths;
use super::super::super::scheduler::AppKey;
use super::super::super::watcher::malformed;
use super::super::super::watcher_io::Response;
use super::super::interface::ReflectorAction;
use super::super::source::{RETRY_UNCONFIRMED_REFUSAL, retry_after};
use super::{Entry, NamespaceEndpoints, PendingCall};
use crate::backoff::{self, Backoff};
use crate::clock::Time;
use crate::refusal::{self, RefusalClock};

/// How long a list of the Services counts as new, for a list of the endpoints after it.
const NEW_FOR: Duration = Duration::from_secs(60);
/// The pause after a Service that has no such port.
const PAUSE_INVALID_SERVICE: Duration = Duration::from_secs(30);
/// The most Services that are read by themselves at a time where they can be listed.
const MAX_SINGLE_READS: usize = 4;
/// The least average interval of reads of single Services that are refused or find nothing new,
/// where the Services cannot be listed.
const BETWEEN_REFUSALS: Duration = Duration::from_secs(2);

/// The list of the Services.
pub(super) struct Services {
    /// When to list them.
    due: Option<Time>,
    pages: Pages,
    /// The Services of the pages so far; `None`: it cannot be parsed.
    incoming: BTreeMap<String, Option<Service>>,
    pub(super) skips: SkipLog,
    /// When they were last listed.
    listed: Option<Time>,
    list_refusal: RefusalClock,
    read_refusal: RefusalClock,
    backoff: Backoff,
}

impl Services {
    pub(super) fn new(seed: u64) -> Self {
        Services {
            due: None,
            pages: Pages::new(),
            incoming: BTreeMap::new(),
            skips: SkipLog::default(),
            listed: None,
            list_refusal: RefusalClock::default(),
            read_refusal: RefusalClock::default(),
            backoff: Backoff::new(seed.rotate_left(13)),
        }
    }

    /// Whether some pages of the list were read.
    pub(super) fn is_listing(&self) -> bool {
        !self.pages.is_first()
    }

    /// Drops the list, also one in progress, because it lacks the Service of a new app.
    pub(super) fn restart(&mut self) {
        self.listed = None;
        self.pages = Pages::new();
        self.incoming.clear();
    }

    /// Lists the Services before the endpoints, unless they were listed within [`NEW_FOR`] or a
    /// list is due later.
    pub(super) fn relist(&mut self, now: Time) {
        let is_new = self.listed.is_some_and(|at| now.since(at) < NEW_FOR);
        if !is_new && self.due.is_none() {
            self.list_at(now);
        }
    }

    /// Lists them at that time, unless a list is due sooner.
    fn list_at(&mut self, at: Time) {
        if self.due.is_none_or(|due| at < due) {
            self.put_off(at);
        }
    }

    /// Lists them at that time and not before, from the first page on.
    fn put_off(&mut self, until: Time) {
        self.due = Some(until);
        self.pages = Pages::new();
        self.incoming.clear();
    }

    /// Whether the last list was not refused.
    fn may_list(&self) -> bool {
        self.list_refusal == RefusalClock::Granted
    }

    fn retry(&mut self) -> Duration {
        let pause = self.backoff.pause(backoff::MAX_PAUSE);
        pause.max(RETRY_UNCONFIRMED_REFUSAL)
    }
}

impl NamespaceEndpoints {
    /// The next read of Services, if one is due.
    pub(super) fn service_action(&mut self, now: Time) -> Option<ReflectorAction> {
        let is_due = |due: Option<Time>| due.is_some_and(|due| due <= now);
        let single = self.apps.values();
        let single = single.filter(|entry| is_due(entry.service_due)).count();
        if single > MAX_SINGLE_READS && self.services.may_list() {
            self.services.list_at(now);
        }
        if is_due(self.services.due) {
            let pages = &self.services.pages;
            let all = paths::all_services(self.namespaces.name());
            let path = paths::page(&all, pages.limit, &pages.token);
            self.pending = Some(PendingCall::Services);
            return Some(ReflectorAction::List(path));
        }
        let mut apps = self.apps.iter();
        let (&app, entry) = apps.find(|(_, entry)| is_due(entry.service_due))?;
        self.pending = Some(PendingCall::Service(app));
        let path = paths::service(&entry.namespace, &entry.view.service);
        Some(ReflectorAction::Get(path))
    }

    /// When Services are read next.
    pub(super) fn next_service_read(&self) -> Option<Time> {
        let single = self.apps.values().filter_map(|entry| entry.service_due);
        single.chain(self.services.due).min()
    }

    // --- The list ---

    pub(super) fn services_answered(&mut self, answer: Response<Vec<u8>>, now: Time) {
        let pages = &mut self.services.pages;
        match answer {
            Response::Ok(body) => return self.services_page(&body, now),
            Response::TooLarge(_) if pages.halve() => {}
            Response::Status {
                status: 403, why, ..
            } => return self.services_refused(&why, now),
            Response::Status { status, .. } if pages.restart_after(status) => {}
            Response::Status {
                why, retry_after, ..
            } => return self.services_failed(&why, retry_after, now),
            Response::TooLarge(why) | Response::Failed(why) => {
                return self.services_failed(&why, None, now);
            }
        }
        self.services.incoming.clear();
    }

    fn services_page(&mut self, body: &[u8], now: Time) {
        let wanted = self.service_keys();
        let key = |of: &Metadata| self.namespaces.key(&of.namespace, &of.name);
        let (mut ours, mut skipped) = (Vec::new(), Vec::new());
        let page = items::page(body, |item: Result<Service, Skipped>| match item {
            Ok(item) => ours.push((key(&item.metadata), Some(item))),
            Err(item) => {
                ours.push((key(&item.metadata), None));
                skipped.push(item);
            }
        });
        ours.retain(|(key, _)| wanted.contains(key.as_str()));
        self.services.incoming.extend(ours);
        self.services.skips.add(skipped, now);
        self.log_skipped("Services");
        let metadata = match page {
            Ok(metadata) => metadata,
            Err(cause) => return self.services_failed(&malformed(&cause), None, now),
        };
        let is_whole = self.services.pages.advance(metadata).is_some();
        if is_whole {
            self.services_listed(now);
        } else if !self.services.pages.may_ask() {
            self.services_failed("a list without an end", None, now);
        }
    }

    /// Names the objects of that kind that were skipped.
    pub(super) fn log_skipped(&mut self, kind: &str) {
        for why in self.services.skips.take_warnings() {
            self.log(Level::Warn, format!("of the {kind}, {why}"));
        }
    }

    fn services_listed(&mut self, now: Time) {
        let services = &mut self.services;
        services.due = None;
        services.listed = Some(now);
        services.list_refusal.granted();
        services.backoff.reset();
        let found = std::mem::take(&mut services.incoming);
        let apps: Vec<AppKey> = self.apps.keys().copied().collect();
        for app in apps {
            let entry = self.apps.get(&app);
            match entry.and_then(|entry| found.get(&entry.service)) {
                Some(Some(service)) => self.handle_service(app, now, |it| it.view.read(service)),
                // It stays as it was read before.
                Some(None) => self.service_failed(app, now),
                None => self.handle_service(app, now, |entry| {
                    let why = format!("404 services \"{}\" not found", entry.view.service);
                    entry.view.absent(why)
                }),
            }
        }
    }

    /// The Services may not be listed: each is read by its name instead.
    fn services_refused(&mut self, why: &str, now: Time) {
        let services = &mut self.services;
        services.list_refusal.refused(refusal::CONFIRMED_AFTER, now);
        let retry = retry_after(&services.list_refusal, &mut services.backoff);
        services.put_off(now + retry);
        let text = format!("the Services cannot be listed ({why}): reading each by its name");
        self.log(Level::Debug, text);
        for entry in self
            .apps
            .values_mut()
            .filter(|entry| !entry.is_service_read)
        {
            entry.service_due.get_or_insert(now);
        }
    }

    /// The list of Services has failed. Services that were read before stay as they are.
    fn services_failed(&mut self, why: &str, busy_for: Option<Duration>, now: Time) {
        self.services.list_refusal.interrupted();
        let retry = self.services.retry();
        self.services.put_off(now + retry);
        let mut apps = self.apps.values();
        if apps.all(|entry| entry.is_service_read) {
            return;
        }
        self.services.put_off(now);
        match busy_for.filter(|wait| !wait.is_zero()) {
            Some(wait) => {
                self.lost(Level::Warn, "busy", why);
                self.endpoints.watcher.pause(wait, now);
            }
            None => {
                self.lost(Level::Warn, "failed", why);
                self.endpoints.watcher.back_off(backoff::MAX_PAUSE, now);
            }
        }
    }

    // --- A Service by itself ---

    pub(super) fn service_answered(&mut self, app: AppKey, answer: Response<Vec<u8>>, now: Time) {
        let parsed = match answer {
            Response::Ok(body) => match serde_json::from_slice::<Service>(&body) {
                Ok(service) => Ok(service),
                Err(cause) => Err(Response::Failed(malformed(&cause))),
            },
            other => Err(other),
        };
        match parsed {
            Ok(service) => {
                self.services.read_refusal.granted();
                self.handle_service(app, now, |entry| entry.view.read(&service));
            }
            Err(Response::Status {
                status: 404, why, ..
            }) => {
                self.services.read_refusal.granted();
                self.handle_service(app, now, |entry| entry.view.absent(why));
            }
            Err(Response::Status {
                status: 403, why, ..
            }) => self.service_refused(app, &why, now),
            Err(_) => self.service_failed(app, now),
        }
    }

    /// Handles the reply about the Service of an app. `take` applies it, and returns the ports
    /// that are missing; then the Service is read again after a while, because no change of its
    /// endpoints shows that it has them.
    fn handle_service(
        &mut self,
        app: AppKey,
        now: Time,
        take: impl FnOnce(&mut Entry) -> Vec<(usize, String)>,
    ) {
        let spread = match self.services.may_list() {
            true => Duration::ZERO,
            false => BETWEEN_REFUSALS * self.apps.len() as u32,
        };
        let Some(entry) = self.apps.get_mut(&app) else {
            return;
        };
        let missing = take(entry);
        let again = now + PAUSE_INVALID_SERVICE.max(spread);
        entry.is_service_read = true;
        entry.service_due = (!missing.is_empty()).then_some(again);
        if !entry.view.is_any_port_known() {
            entry.view.status.no_such_ports(&missing);
        } else if !self.endpoints.watcher.is_listing()
            && let Some(store) = self.endpoints.store.of(&entry.service)
        {
            // The port and the family may be others: applied to what is stored.
            entry.view.check(store, false);
        }
        self.collect();
    }

    fn service_refused(&mut self, app: AppKey, why: &str, now: Time) {
        let services = &mut self.services;
        let confirmed = services.read_refusal.refused(refusal::CONFIRMED_AFTER, now);
        let retry = retry_after(&services.read_refusal, &mut services.backoff);
        let spread = match confirmed {
            true => BETWEEN_REFUSALS * self.apps.len() as u32,
            false => Duration::ZERO,
        };
        if let Some(entry) = self.apps.get_mut(&app) {
            entry.view.refused(why, confirmed);
            entry.is_service_read = true;
            entry.service_due = Some(now + retry.max(spread));
        }
        self.collect();
    }

    fn service_failed(&mut self, app: AppKey, now: Time) {
        self.services.read_refusal.interrupted();
        let retry = self.services.retry();
        if let Some(entry) = self.apps.get_mut(&app) {
            entry.service_due = Some(now + retry);
        }
    }
}
