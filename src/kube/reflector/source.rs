//! [`SourceChoice`]: the kind of object that endpoints are read from.
//!
//! Endpoints are read from EndpointSlices. If they are refused (403, or 404 from a server that does
//! not have them), `v1` Endpoints are used at once, and the slices are tried again: soon
//! while the refusal is [unconfirmed](crate::refusal), every few minutes once it is confirmed. If
//! both are refused, they are tried in turn.

use std::time::Duration;

use crate::backoff::Backoff;
use crate::clock::Time;
use crate::cluster::{AddressSource, Permission};
use crate::refusal::{self, RefusalClock};

/// The longest pause between two lists while a refusal is unconfirmed.
pub(super) const RETRY_UNCONFIRMED_REFUSAL: Duration = Duration::from_secs(1);
/// The longest pause between two lists once a refusal is confirmed: a person may grant it
/// meanwhile.
pub(super) const RETRY_CONFIRMED_REFUSAL: Duration = Duration::from_secs(5);
/// The interval at which a permission is tried again once its refusal is confirmed.
pub(super) const RETRY_REFUSED: Duration = Duration::from_secs(300);

/// The source of the endpoints, and what was refused.
pub(super) struct SourceChoice {
    slices_refusal: RefusalClock,
    slices_backoff: Backoff,
    /// When to try EndpointSlices again, while Endpoints are used.
    slices_due: Option<Time>,
    /// The messages of the server when it last refused EndpointSlices and Endpoints.
    slices_refused: String,
    endpoints_refused: String,
    /// Whether EndpointSlices, and Endpoints, were ever watched.
    slices_granted: bool,
    endpoints_granted: bool,
    /// The number of lists and watches in a row that were refused.
    refusals: u32,
}

/// A refusal of both kinds of objects.
pub(super) struct BothRefused {
    /// The permission that the operator has probably meant to grant: Endpoints if only that
    /// was ever granted.
    pub(super) permission: Permission,
    /// The message of the server when it refused that.
    pub(super) why: String,
    /// Whether the permission counts as missing.
    pub(super) is_confirmed: bool,
}

impl SourceChoice {
    /// Nothing was refused yet. `seed` determines the jitter.
    pub(super) fn new(seed: u64) -> Self {
        SourceChoice {
            slices_refusal: RefusalClock::default(),
            slices_backoff: Backoff::new(seed.rotate_left(33)),
            slices_due: None,
            slices_refused: String::new(),
            endpoints_refused: String::new(),
            slices_granted: false,
            endpoints_granted: false,
            refusals: 0,
        }
    }

    /// When EndpointSlices are tried again, if Endpoints are used.
    pub(super) fn slices_due(&self) -> Option<Time> {
        self.slices_due
    }

    /// Whether EndpointSlices are to be tried again now; true once.
    pub(super) fn take_due(&mut self, now: Time) -> bool {
        self.slices_due.take_if(|due| *due <= now).is_some()
    }

    /// Whether the last list or watch was refused.
    pub(super) fn is_refused(&self) -> bool {
        self.refusals > 0
    }

    /// The objects of a source were listed.
    pub(super) fn listed(&mut self, source: AddressSource, now: Time) {
        if source == AddressSource::EndpointSlices {
            return;
        }
        let retry = retry_after(&self.slices_refusal, &mut self.slices_backoff);
        self.slices_due = Some(now + retry);
    }

    /// A watch of a source was opened. Returns why it is not one of EndpointSlices, and
    /// whether that is confirmed.
    pub(super) fn granted(&mut self, source: AddressSource) -> Option<(String, bool)> {
        self.refusals = 0;
        match source {
            AddressSource::EndpointSlices => {
                self.slices_refusal.granted();
                self.slices_backoff.reset();
                self.slices_granted = true;
                None
            }
            AddressSource::Endpoints => {
                self.endpoints_granted = true;
                let confirmed = self.slices_refusal.is_confirmed();
                Some((self.slices_refused.clone(), confirmed))
            }
        }
    }

    /// A list has failed, or a watch could not be opened, for another reason than the
    /// permission.
    pub(super) fn interrupted(&mut self, source: AddressSource) {
        if source == AddressSource::EndpointSlices {
            self.slices_refusal.interrupted();
        }
    }

    /// A source is refused: the other one is next. Returns whether both are.
    pub(super) fn refused(
        &mut self,
        source: AddressSource,
        why: String,
        now: Time,
    ) -> Option<BothRefused> {
        self.refusals = self.refusals.saturating_add(1);
        self.slices_due = None;
        match source {
            AddressSource::EndpointSlices => {
                self.slices_refusal.refused(refusal::CONFIRMED_AFTER, now);
                self.slices_refused = why;
                (self.refusals > 1).then(|| self.both_refused())
            }
            AddressSource::Endpoints => {
                self.endpoints_refused = why;
                Some(self.both_refused())
            }
        }
    }

    fn both_refused(&self) -> BothRefused {
        let (permission, why) = if self.endpoints_granted && !self.slices_granted {
            (Permission::WatchEndpoints, &self.endpoints_refused)
        } else {
            (Permission::WatchSlices, &self.slices_refused)
        };
        BothRefused {
            permission,
            why: why.clone(),
            is_confirmed: self.slices_refusal.is_confirmed(),
        }
    }
}

/// The pause before a permission is tried again.
pub(super) fn retry_after(refusal: &RefusalClock, backoff: &mut Backoff) -> Duration {
    if refusal.is_confirmed() {
        RETRY_REFUSED
    } else {
        let pause = backoff.pause(refusal::MAX_PAUSE);
        pause.max(RETRY_UNCONFIRMED_REFUSAL)
    }
}

/// The source that is used when another one is refused.
pub(super) fn other(source: AddressSource) -> AddressSource {
    match source {
        AddressSource::EndpointSlices => AddressSource::Endpoints,
        AddressSource::Endpoints => AddressSource::EndpointSlices,
    }
}
