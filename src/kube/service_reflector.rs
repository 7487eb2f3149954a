//! [`ServiceReflector`]: what the reflector of the Services that a label selector selects does
//! next, as a pure state machine. A [`Watcher`] lists and watches them, and each change of what
//! is read of them is reported.

use std::io;
use std::sync::Arc;

use log::Level;

use super::client::Client;
use super::reflector::interface::{Output, ReflectorAction, ReflectorCore};
use super::reflector::thread::{self, Reflector};
use super::relist::RelistSignal;
use super::selected_service::{SelectedService, SelectedServices};
use super::watch_grant::{Refused, WatchGrant};
use super::watcher::Watcher;
use super::watcher_io::{WatcherInput, WatcherOutcome};
use crate::clock::{Clock, Time};

/// What is reported of the Services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServicesReport {
    /// All that are selected, by namespace and name: after each list, and at each change of
    /// what is read of them.
    Selected(Vec<Arc<SelectedService>>),
    /// Why they cannot be listed and watched, or that they can be (`None`); at each change.
    Trouble(Option<String>),
}

/// The watch of the Services. Its thread ends when it is dropped.
pub struct ServiceWatch(Arc<RelistSignal>);

impl ServiceWatch {
    /// The process drains: a refusal is no warning any more.
    pub fn set_draining(&self) {
        self.0.set_draining();
    }
}

impl Drop for ServiceWatch {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Starts the thread that lists and watches the Services at `path`.
pub(super) fn spawn(
    path: String,
    client: Client,
    clock: Clock,
    report: impl Fn(ServicesReport) + Send + Sync + 'static,
) -> io::Result<ServiceWatch> {
    let signal = Arc::new(RelistSignal::new(client));
    let core = ServiceReflector::new(path, thread::seed(&signal, clock));
    let panicked = Arc::new(report);
    let report = panicked.clone();
    let reflector = Reflector::new(core, signal, clock, move |said| report(said));
    let signal = reflector.spawn("zpa-services", move |panic| {
        let why = panic.why.replace(char::is_control, " ");
        let thread = panic.thread;
        let text = format!("the thread {thread} has panicked, which is a bug: {why}");
        panicked(ServicesReport::Trouble(Some(text)));
    })?;
    Ok(ServiceWatch(signal))
}

/// The reflector of the Services without its calls.
pub(super) struct ServiceReflector {
    /// The path of the list.
    path: String,
    watcher: Watcher,
    services: SelectedServices,
    grant: WatchGrant,
    is_draining: bool,
    /// Whether a list was reported.
    was_listed: bool,
    /// The trouble that was reported last.
    trouble: Option<String>,
    /// Whether the thread has begun before.
    has_begun: bool,
    /// Whether a panic was reported since then, or one has kept a report back.
    is_trouble_due: bool,
    outputs: Vec<Output<ServicesReport>>,
}

impl ServiceReflector {
    /// Nothing is known. The seed makes the jitter.
    fn new(path: String, seed: u64) -> Self {
        ServiceReflector {
            path,
            watcher: Watcher::new(seed),
            services: SelectedServices::default(),
            grant: WatchGrant::new(seed),
            is_draining: false,
            was_listed: false,
            trouble: None,
            has_begun: false,
            is_trouble_due: false,
            outputs: Vec::new(),
        }
    }

    fn handle_outcome(&mut self, outcome: WatcherOutcome, now: Time) {
        match outcome {
            WatcherOutcome::Quiet => {}
            WatcherOutcome::Listed => self.report_services(!self.was_listed),
            WatcherOutcome::Changed => self.report_services(false),
            WatcherOutcome::Opened => self.opened(),
            WatcherOutcome::WatchEnded(why) => {
                self.grant.interrupted();
                self.report_services(false);
                self.log(Level::Debug, &format!("the watch has ended: {why}"));
            }
            WatcherOutcome::Busy(why) => self.failed("busy", why),
            WatcherOutcome::Failed(why) => self.failed("failed", why),
            WatcherOutcome::Denied { why, .. } => self.refused(why, now),
        }
    }

    /// The thread begins, for the first time or after a panic, which it has reported itself. What
    /// was to be reported when it panicked may not have been.
    fn begin(&mut self) {
        self.was_listed = false;
        self.is_trouble_due = std::mem::replace(&mut self.has_begun, true);
    }

    fn report_services(&mut self, is_first: bool) {
        if self.services.take_changed() || is_first {
            self.was_listed = true;
            let report = ServicesReport::Selected(self.services.all());
            self.outputs.push(Output::Report(report));
        }
    }

    fn opened(&mut self) {
        if self.grant.granted() {
            self.log(Level::Info, "can be listed and watched");
        }
        self.set_trouble(None);
    }

    fn failed(&mut self, kind: &'static str, why: String) {
        self.grant.interrupted();
        let level = match self.is_draining {
            true => Level::Debug,
            false => self.grant.level(Level::Warn, kind),
        };
        self.lost(level, why);
    }

    fn refused(&mut self, why: String, now: Time) {
        let Refused { pause, level } = self.grant.refused(self.is_draining, now);
        self.watcher.pause(pause, now);
        self.lost(level, why);
    }

    /// They cannot be listed or watched. The apps are those that were found last.
    fn lost(&mut self, level: Level, why: String) {
        self.log(level, &format!("cannot be listed and watched: {why}"));
        self.set_trouble(Some(why));
    }

    fn set_trouble(&mut self, trouble: Option<String>) {
        if std::mem::take(&mut self.is_trouble_due) || self.trouble != trouble {
            self.trouble.clone_from(&trouble);
            let report = ServicesReport::Trouble(trouble);
            self.outputs.push(Output::Report(report));
        }
    }

    fn log(&mut self, level: Level, what: &str) {
        let text = format!("the Services with annotations for zpa {what}");
        self.outputs.push(Output::Log(level, text));
    }
}

impl ReflectorCore for ServiceReflector {
    type Report = ServicesReport;

    fn handle(&mut self, event: WatcherInput<'_>, now: Time) -> ReflectorAction {
        if let WatcherInput::Relist = event {
            self.begin();
        }
        let outcome = self.watcher.handle(event, &mut self.services, now);
        for why in self.watcher.take_warnings() {
            self.log(Level::Warn, &format!("are not all read: {why}"));
        }
        self.handle_outcome(outcome, now);
        ReflectorAction::from_watcher(self.watcher.action(None, now), &self.path)
    }

    fn poll_timeout(&self) -> Option<Time> {
        self.watcher.poll_timeout()
    }

    fn set_draining(&mut self, is_draining: bool) {
        self.is_draining = is_draining;
    }

    fn take_outputs(&mut self) -> Vec<Output<ServicesReport>> {
        std::mem::take(&mut self.outputs)
    }
}

#[cfg(test)]
mod tests;
