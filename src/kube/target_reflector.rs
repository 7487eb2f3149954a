//! [`TargetReflector`]: what the reflector of the scaled object does next, as a pure
//! state machine. It has a [`Watcher`] list and watch the object, and says what it was
//! shown, so that the object need not be read again and again.
//!
//! The watch is a convenience: where it is refused, or the kind has none, the object is
//! read instead. A refusal is tried again after pauses that grow to 5 min, and is worth
//! a line once it is [believed](crate::refusal).
//!
//! The object is found by whoever reads and writes it (`scale_target`); a relist signal
//! says that it was found elsewhere.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use log::Level;

use super::client::Client;
use super::list_watch::{Event, Outcome};
use super::permissions::Permissions;
use super::reflector::thread::{self, Action, Core, Output, Reflector};
use super::relist::RelistSignal;
use super::scale_target::{Collection, Target};
use super::target_store::{Change, Store};
use super::text::LogOnce;
use super::watcher::Watcher;
use crate::backoff::Backoff;
use crate::clock::{Clock, Time};
use crate::cluster::{Permission, Report, TargetStatus};
use crate::refusal::{self, RefusalClock};
use crate::supervisor::ThreadPanic;

/// The shortest pause after a refusal,
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// and the longest once it is believed: a permission is granted by people.
const RETRY_LAST: Duration = Duration::from_secs(300);

/// Starts the thread that watches `target`.
pub(super) fn spawn(
    target: Arc<Target>,
    client: Client,
    clock: Clock,
    report: impl Fn(Report) + Send + 'static,
    panicked: impl Fn(ThreadPanic) + Send + 'static,
) -> io::Result<Arc<RelistSignal>> {
    let signal = Arc::new(RelistSignal::new(client));
    let core = TargetReflector::new(target, thread::seed(&signal, clock));
    Reflector::new(core, signal, clock, report).spawn("zpa-watch-app", panicked)
}

/// Where the object is, and whether what is shown of its pods is new.
pub(super) trait Locate {
    /// Where it is listed and watched, if it was found.
    fn collection(&self) -> Option<Collection>;

    /// `status`, if it has changed.
    fn changed_status(&self, status: TargetStatus) -> Option<TargetStatus>;
}

impl Locate for Arc<Target> {
    fn collection(&self) -> Option<Collection> {
        Target::collection(self)
    }

    fn changed_status(&self, status: TargetStatus) -> Option<TargetStatus> {
        Target::changed_status(self, status)
    }
}

/// The target reflector without its calls.
pub(super) struct TargetReflector<L> {
    target: L,
    /// Where it was when that was last asked.
    collection: Option<Collection>,
    watcher: Watcher,
    store: Store,
    refusal: RefusalClock,
    backoff: Backoff,
    permissions: Permissions,
    log: LogOnce,
    is_draining: bool,
    /// Whether the watch was last said to show the object.
    is_watching: bool,
    outputs: Vec<Output>,
}

impl<L: Locate> TargetReflector<L> {
    /// Nothing is known. The seed makes the jitter.
    pub(super) fn new(target: L, seed: u64) -> Self {
        TargetReflector {
            target,
            collection: None,
            watcher: Watcher::new(seed),
            store: Store::default(),
            refusal: RefusalClock::default(),
            backoff: Backoff::new(seed.rotate_left(13)),
            permissions: Permissions::default(),
            log: LogOnce::default(),
            is_draining: false,
            is_watching: false,
            outputs: Vec::new(),
        }
    }

    fn relist(&mut self) {
        self.set_watching(false);
        self.collection = self.target.collection();
        if let Some(collection) = &self.collection {
            self.store.set_kind(&collection.kind);
        }
        self.watcher.relist();
    }

    fn action(&mut self, now: Time) -> Action {
        match &self.collection {
            Some(collection) => Action::of(self.watcher.action(None, now), &collection.path),
            None => Action::Wait,
        }
    }

    fn handle_outcome(&mut self, outcome: Outcome, now: Time) {
        match outcome {
            Outcome::Quiet => {}
            Outcome::Listed | Outcome::Changed => {}
            Outcome::Opened => self.opened(),
            Outcome::WatchEnded(why) | Outcome::Busy(why) | Outcome::Failed(why) => {
                self.lost(&why);
            }
            Outcome::Refused { status, why } => self.refused(status, &why, now),
        }
        for change in self.store.take_changes() {
            self.report_change(change);
        }
    }

    fn opened(&mut self) {
        self.refusal.granted();
        self.backoff.reset();
        let granted = self.permissions.granted(Permission::WatchTarget);
        self.outputs.extend(granted.map(Output::Report));
        if self.log.end() {
            let text = "the Deployment can be watched".to_owned();
            self.outputs.push(Output::Log(Level::Info, text));
        }
        self.set_watching(true);
    }

    /// The watch has ended, or a list has failed. What is wrong with the API server is
    /// said by whoever must have an answer.
    fn lost(&mut self, why: &str) {
        self.refusal.interrupted();
        let text = format!("the watch of the Deployment has ended: {why}");
        self.outputs.push(Output::Log(Level::Debug, text));
        // Otherwise the next watch goes on where this one has ended.
        if self.watcher.is_listing() {
            self.set_watching(false);
        }
    }

    fn refused(&mut self, status: u16, why: &str, now: Time) {
        self.set_watching(false);
        let believed = self.refusal.refused(refusal::BELIEVED_AFTER, now);
        let longest = if believed {
            RETRY_LAST
        } else {
            refusal::LONGEST_PAUSE
        };
        let pause = self.backoff.pause(longest).max(RETRY_FIRST);
        self.watcher.pause(pause, now);
        let permission = Permission::WatchTarget;
        if status == 403 {
            let (why, fallback) = (why.to_owned(), permission.fallback());
            let refused = self.permissions.refused(permission, why, fallback);
            self.outputs.push(Output::Report(refused));
        }
        let level = match believed && !self.is_draining {
            true => self.log.level(Level::Warn, "refused"),
            false => Level::Debug,
        };
        let instead = permission.fallback().unwrap_or_default();
        let text = format!("the Deployment cannot be watched ({why}): {instead}");
        self.outputs.push(Output::Log(level, text));
    }

    fn set_watching(&mut self, is_watching: bool) {
        if std::mem::replace(&mut self.is_watching, is_watching) != is_watching {
            let report = Report::Watching(is_watching);
            self.outputs.push(Output::Report(report));
        }
    }

    fn report_change(&mut self, change: Change) {
        let status = change.status;
        let status = status.and_then(|status| self.target.changed_status(status));
        let status = status.map(Report::TargetStatus);
        let observed = Report::Observed(change.observation);
        let reports = [observed].into_iter().chain(status);
        self.outputs.extend(reports.map(Output::Report));
    }
}

impl<L: Locate> Core for TargetReflector<L> {
    fn handle(&mut self, event: Event<'_>, now: Time) -> Action {
        match event {
            Event::Relist => self.relist(),
            event => {
                let outcome = self.watcher.handle(event, &mut self.store, now);
                self.handle_outcome(outcome, now);
            }
        }
        self.action(now)
    }

    fn poll_timeout(&self) -> Option<Time> {
        self.collection.as_ref()?;
        self.watcher.poll_timeout()
    }

    fn set_draining(&mut self, is_draining: bool) {
        self.is_draining = is_draining;
    }

    fn outputs(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.outputs)
    }
}

#[cfg(test)]
mod tests;
