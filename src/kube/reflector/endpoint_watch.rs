//! [`EndpointWatch`]: the list-and-watch of endpoints: a [`Watcher`], the store that it keeps up
//! to date, and the kind of object that it watches ([`SourceChoice`]).
//!
//! The reflector of one Service has one, and so has the reflector of a namespace.

use super::super::endpoints::Store;
use super::super::namespace_store::NamespaceStore;
use super::super::watcher::Watcher;
use super::super::watcher_io::{self, WatcherInput, WatcherOutcome};
use super::interface::ReflectorAction;
use super::source::{self, BothRefused, SourceChoice};
use crate::clock::Time;
use crate::cluster::AddressSource;

/// The list-and-watch of endpoints.
pub(super) struct EndpointWatch<S> {
    pub(super) watcher: Watcher,
    pub(super) store: S,
    source: SourceChoice,
    paths: SourcePaths,
}

/// The paths of the EndpointSlices and of the Endpoints.
pub(super) struct SourcePaths {
    pub(super) slices: String,
    pub(super) endpoints: String,
}

/// A store of endpoints from either kind of object.
pub(super) trait EndpointStore: watcher_io::Store {
    fn source(&self) -> AddressSource;

    /// Sets the kind of the objects; a list of them must follow.
    fn set_source(&mut self, source: AddressSource);
}

impl EndpointStore for Store {
    fn source(&self) -> AddressSource {
        Store::source(self)
    }

    fn set_source(&mut self, source: AddressSource) {
        Store::set_source(self, source);
    }
}

impl EndpointStore for NamespaceStore {
    fn source(&self) -> AddressSource {
        NamespaceStore::source(self)
    }

    fn set_source(&mut self, source: AddressSource) {
        NamespaceStore::set_source(self, source);
    }
}

/// The result of an event.
pub(super) enum WatchOutcome {
    /// Nothing to report.
    Quiet,
    /// The list is complete and stored.
    Listed,
    /// A watch was opened.
    Opened(Granted),
    /// Lines of the watch were stored.
    Changed,
    /// The watch has ended; a list or another watch follows. The text is for the log.
    Ended(String),
    /// Neither kind of object may be watched. The other one is next; no pause was begun.
    Refused(BothRefused),
    /// A list has failed, or the server asks for a pause (`kind`).
    Lost { kind: &'static str, why: String },
}

/// A watch that the server has granted.
pub(super) struct Granted {
    pub(super) source: AddressSource,
    /// Why these are not EndpointSlices, and whether that permission counts as missing.
    pub(super) instead: Option<(String, bool)>,
}

impl<S: EndpointStore> EndpointWatch<S> {
    /// A watch of EndpointSlices that begins with a list. `seed` determines the jitter.
    pub(super) fn new(store: S, paths: SourcePaths, seed: u64) -> Self {
        EndpointWatch {
            watcher: Watcher::new(seed),
            store,
            source: SourceChoice::new(seed),
            paths,
        }
    }

    /// Whether the last list or watch was refused.
    pub(super) fn is_refused(&self) -> bool {
        self.source.is_refused()
    }

    /// Lists objects of that kind next.
    pub(super) fn set_source(&mut self, source: AddressSource) {
        self.store.set_source(source);
        self.watcher.relist();
    }

    /// The action while no other call may be made, because a watch is open or a pause lasts.
    /// `None`: another call may come before that of [`EndpointWatch::action`].
    pub(super) fn pending_action(&mut self, now: Time) -> Option<ReflectorAction> {
        if self.watcher.is_watching() {
            return Some(ReflectorAction::Read);
        }
        if self.watcher.is_pausing(now) {
            return Some(ReflectorAction::Wait);
        }
        if self.source.take_due(now) {
            self.set_source(AddressSource::EndpointSlices);
        }
        None
    }

    /// The next action. No watch lasts beyond `watch_until`.
    pub(super) fn action(&mut self, watch_until: Option<Time>, now: Time) -> ReflectorAction {
        let ends = watch_until.into_iter().chain(self.source.slices_due());
        let path = match self.store.source() {
            AddressSource::EndpointSlices => &self.paths.slices,
            AddressSource::Endpoints => &self.paths.endpoints,
        };
        ReflectorAction::from_watcher(self.watcher.action(ends.min(), now), path)
    }

    /// Handles an event.
    pub(super) fn handle(&mut self, event: WatcherInput<'_>, now: Time) -> WatchOutcome {
        let source = self.store.source();
        match self.watcher.handle(event, &mut self.store, now) {
            WatcherOutcome::Quiet => WatchOutcome::Quiet,
            WatcherOutcome::Listed => {
                self.source.listed(source, now);
                WatchOutcome::Listed
            }
            WatcherOutcome::Opened => WatchOutcome::Opened(Granted {
                source,
                instead: self.source.granted(source),
            }),
            WatcherOutcome::Changed => WatchOutcome::Changed,
            WatcherOutcome::WatchEnded(why) => {
                self.source.interrupted(source);
                WatchOutcome::Ended(format!("the watch of {source} has ended: {why}"))
            }
            WatcherOutcome::Denied { why, .. } => {
                self.store.set_source(source::other(source));
                let both = self.source.refused(source, why, now);
                both.map_or(WatchOutcome::Quiet, WatchOutcome::Refused)
            }
            WatcherOutcome::Busy(why) => self.lost(source, "busy", why),
            WatcherOutcome::Failed(why) => self.lost(source, "failed", why),
        }
    }

    /// Warnings about objects that were skipped.
    pub(super) fn take_warnings(&mut self) -> impl Iterator<Item = String> + use<S> {
        let source = self.store.source();
        let warnings = self.watcher.take_warnings().into_iter();
        warnings.map(move |why| format!("of the {source}, {why}"))
    }

    fn lost(&mut self, source: AddressSource, kind: &'static str, why: String) -> WatchOutcome {
        self.source.interrupted(source);
        WatchOutcome::Lost { kind, why }
    }
}
