//! A [`Watcher`] keeps a [`Store`] up to date by a list and a watch. It is a pure state
//! machine: a thread makes the calls that it returns ([`WatcherAction`]), and passes their results
//! to it ([`WatcherInput`]).
//!
//! The states are those of kube-rs' `watcher`:
//!
//! ```text
//!            page                  last page            opened
//!  Empty ───────────▶ InitPage ───────────▶ InitListed ───────▶ Watching
//!    ▲                   │                    ▲    │               │ │
//!    │      failed       │                    └────┼───────────────┘ │
//!    └───────────────────┴─────────────────────────┴─────────────────┘
//!                                          ended in order     410, broken, relist
//! ```
//!
//! After a watch that the server has ended, the next one begins at the version that it has
//! reached. After any other end there is a list: 410 as a status or as an ERROR event, a
//! broken stream, a line that is no event, and a request to list again. A line whose object cannot
//! be parsed is one too: the object is skipped, as in a list.

use std::time::Duration;

use super::items::SkipLog;
use super::lines::{Lines, MAX_LINE_LEN};
use super::pages::Pages;
use super::text::printable;
use super::watcher_io::{Applied, Response, Store, WatcherAction, WatcherInput, WatcherOutcome};
use crate::backoff::{self, Backoff, Random};
use crate::clock::Time;

/// The `timeoutSeconds` of a watch, less up to a tenth at random. The server's default is 30
/// minutes or more, but a load balancer may end a watch earlier.
const WATCH: Duration = Duration::from_secs(300);
/// A watch that lasted this long, or half of its `timeoutSeconds` if that is less, counts as
/// a success: the next call is made without a pause.
const STEADY: Duration = Duration::from_secs(10);
/// The longest pause while connections wait for what is watched.
pub(super) const PAUSE_WAITING: Duration = Duration::from_secs(1);
/// The longest `Retry-After` that is honoured while connections wait for what is watched.
const MAX_PAUSE_WAITING: Duration = Duration::from_secs(5);

/// The state of the list-and-watch.
#[derive(Debug)]
enum State {
    /// Nothing is stored yet, or the stored version cannot be watched any more: a list is
    /// next.
    Empty,
    /// A list is in progress.
    InitPage(Pages),
    /// The list is complete, or the server has ended a watch: a watch from this version is
    /// next.
    InitListed { version: String },
    /// A watch is open.
    Watching {
        version: String,
        lines: Lines,
        since: Time,
        /// Its `timeoutSeconds`.
        asked: Duration,
    },
}

/// A pause between calls.
#[derive(Clone, Copy, Debug)]
struct Pause {
    until: Time,
    /// When it ends while connections wait.
    until_if_waiting: Time,
}

/// The list-and-watch of one kind of object.
#[derive(Debug)]
pub(super) struct Watcher {
    state: State,
    pause: Option<Pause>,
    is_waiting: bool,
    /// The `timeoutSeconds` of the next watch.
    watch: Duration,
    /// The pauses between lists that fail.
    list_backoff: Backoff,
    /// The pauses between watches that do not last.
    watch_backoff: Backoff,
    random: Random,
    skips: SkipLog,
}

impl Watcher {
    /// A watcher with an empty store. `seed` determines the jitter.
    pub(super) fn new(seed: u64) -> Self {
        Watcher {
            state: State::Empty,
            pause: None,
            is_waiting: false,
            watch: WATCH,
            list_backoff: Backoff::new(seed),
            watch_backoff: Backoff::new(seed.rotate_left(20)),
            random: Random::new(seed.rotate_left(40)),
            skips: SkipLog::default(),
        }
    }

    /// Handles an event.
    pub(super) fn handle<S: Store>(
        &mut self,
        event: WatcherInput<'_>,
        store: &mut S,
        now: Time,
    ) -> WatcherOutcome {
        let outcome = self.handle_event(event, store, now);
        self.skips.add(store.take_skipped(), now);
        outcome
    }

    /// Warnings about objects that were skipped.
    pub(super) fn take_warnings(&mut self) -> Vec<String> {
        self.skips.take_warnings()
    }

    fn handle_event<S: Store>(
        &mut self,
        event: WatcherInput<'_>,
        store: &mut S,
        now: Time,
    ) -> WatcherOutcome {
        match event {
            WatcherInput::Page(answer) => self.page(answer, store, now),
            WatcherInput::Opened(Response::Ok(())) => self.opened(now),
            WatcherInput::Opened(answer) => self.open_failed(answer, now),
            WatcherInput::Bytes(bytes) => self.bytes(bytes, store, now),
            WatcherInput::Ended => self.ended(now),
            WatcherInput::Broken(why) => self.broken(why, now),
            WatcherInput::Relist => {
                self.relist();
                WatcherOutcome::Quiet
            }
            WatcherInput::Waiting(is_waiting) => {
                self.is_waiting = is_waiting;
                WatcherOutcome::Quiet
            }
            WatcherInput::Object(_) | WatcherInput::Timeout => WatcherOutcome::Quiet,
        }
    }

    /// The next action. No watch lasts beyond `watch_until`.
    pub(super) fn action(&mut self, watch_until: Option<Time>, now: Time) -> WatcherAction {
        if let State::Watching { .. } = self.state {
            return WatcherAction::Read;
        }
        if self.is_pausing(now) {
            return WatcherAction::Wait;
        }
        self.pause = None;
        match &self.state {
            State::InitListed { version } => {
                let version = version.clone();
                let jitter = (WATCH / 10).mul_f64(self.random.fraction());
                let left = watch_until.map_or(WATCH, |until| until.since(now));
                let seconds = (WATCH - jitter).min(left).as_secs().max(1);
                self.watch = Duration::from_secs(seconds);
                WatcherAction::Watch { version, seconds }
            }
            State::InitPage(pages) => list(pages),
            _ => list(&Pages::new()),
        }
    }

    /// When [`Watcher::action`] changes without an event.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        self.pause_end()
    }

    /// Whether a list is next or in progress.
    pub(super) fn is_listing(&self) -> bool {
        matches!(self.state, State::Empty | State::InitPage(_))
    }

    /// Whether it pauses.
    pub(super) fn is_pausing(&self, now: Time) -> bool {
        self.pause_end().is_some_and(|end| now < end)
    }

    /// Whether a watch is open.
    pub(super) fn is_watching(&self) -> bool {
        matches!(self.state, State::Watching { .. })
    }

    /// Ends an open watch; the next one begins at the version that it has reached.
    pub(super) fn rewatch(&mut self) {
        if let State::Watching { version, .. } = &self.state {
            self.state = State::InitListed {
                version: version.clone(),
            };
        }
    }

    /// Lists next, at once or after a pause that the server has asked for.
    pub(super) fn relist(&mut self) {
        self.state = State::Empty;
        self.pause = self.pause.map(|pause| Pause {
            until: pause.until.min(pause.until_if_waiting),
            ..pause
        });
    }

    /// Pauses after one more failure in a row, for `longest` at most.
    pub(super) fn back_off(&mut self, longest: Duration, now: Time) {
        let pause = self.list_backoff.pause(longest);
        self.pause_for(pause, PAUSE_WAITING, now);
    }

    /// Pauses for that time, which the server may have asked for; at most for 5 s while
    /// connections wait.
    pub(super) fn pause(&mut self, pause: Duration, now: Time) {
        self.pause_for(pause, MAX_PAUSE_WAITING, now);
    }

    fn pause_for(&mut self, pause: Duration, at_most_if_waiting: Duration, now: Time) {
        self.pause = Some(Pause {
            until: now + pause,
            until_if_waiting: now + pause.min(at_most_if_waiting),
        });
    }

    fn pause_end(&self) -> Option<Time> {
        let pause = self.pause?;
        Some(if self.is_waiting {
            pause.until_if_waiting
        } else {
            pause.until
        })
    }

    fn page<S: Store>(
        &mut self,
        answer: Response<Vec<u8>>,
        store: &mut S,
        now: Time,
    ) -> WatcherOutcome {
        let mut pages = match std::mem::replace(&mut self.state, State::Empty) {
            State::InitPage(pages) => pages,
            _ => Pages::new(),
        };
        match answer {
            Response::Ok(body) => match store.add_page(&body, pages.is_first()) {
                Ok(metadata) => {
                    if let Some(version) = pages.advance(metadata) {
                        return self.listed(version, store);
                    }
                }
                Err(cause) => return self.list_failed(Response::Failed(malformed(&cause)), now),
            },
            Response::TooLarge(_) if pages.halve() => {}
            Response::Status { status, .. } if pages.restart_after(status) => {}
            answer => return self.list_failed(answer, now),
        }
        if !pages.may_ask() {
            return self.list_failed(Response::Failed("a list without an end".to_owned()), now);
        }
        self.state = State::InitPage(pages);
        WatcherOutcome::Quiet
    }

    fn listed<S: Store>(&mut self, version: String, store: &mut S) -> WatcherOutcome {
        store.replace();
        self.list_backoff.reset();
        self.state = State::InitListed { version };
        WatcherOutcome::Listed
    }

    fn list_failed(&mut self, answer: Response<Vec<u8>>, now: Time) -> WatcherOutcome {
        self.state = State::Empty;
        let outcome = self.failed(answer, now);
        if let WatcherOutcome::Failed(_) = outcome {
            self.back_off(backoff::MAX_PAUSE, now);
        }
        outcome
    }

    fn opened(&mut self, now: Time) -> WatcherOutcome {
        let State::InitListed { version } = &self.state else {
            return WatcherOutcome::Quiet;
        };
        self.state = State::Watching {
            version: version.clone(),
            lines: Lines::new(MAX_LINE_LEN),
            since: now,
            asked: self.watch,
        };
        WatcherOutcome::Opened
    }

    fn open_failed(&mut self, answer: Response<()>, now: Time) -> WatcherOutcome {
        self.state = State::Empty;
        match self.failed(answer, now) {
            // 410 among others. The next list shows the fault, if there is one.
            WatcherOutcome::Failed(why) => {
                self.watch_pause(now);
                WatcherOutcome::WatchEnded(why)
            }
            other => other,
        }
    }

    fn failed<T>(&mut self, answer: Response<T>, now: Time) -> WatcherOutcome {
        match answer {
            Response::Ok(_) => WatcherOutcome::Quiet,
            Response::TooLarge(why) | Response::Failed(why) => WatcherOutcome::Failed(why),
            // Not 401: the token is being replaced, and will be read again.
            Response::Status {
                status: status @ 403..=405,
                why,
                ..
            } => WatcherOutcome::Denied { status, why },
            Response::Status {
                retry_after: Some(wait),
                why,
                ..
            } if !wait.is_zero() => {
                self.pause(wait, now);
                WatcherOutcome::Busy(why)
            }
            Response::Status { why, .. } => WatcherOutcome::Failed(why),
        }
    }

    fn bytes<S: Store>(&mut self, bytes: &[u8], store: &mut S, now: Time) -> WatcherOutcome {
        let State::Watching { version, lines, .. } = &mut self.state else {
            return WatcherOutcome::Quiet;
        };
        let mut has_line = false;
        let fed = lines.feed(bytes, |line| {
            has_line = true;
            match store.apply(line) {
                Ok(Applied::Reached(reached)) if !reached.is_empty() => *version = reached,
                Ok(Applied::Reached(_)) => {}
                Ok(Applied::Failed(status)) => return Err(status.explanation()),
                Err(cause) => return Err(malformed(&cause)),
            }
            Ok(())
        });
        match fed {
            Ok(()) if has_line => WatcherOutcome::Changed,
            Ok(()) => WatcherOutcome::Quiet,
            Err(why) => self.broken(why, now),
        }
    }

    fn ended(&mut self, now: Time) -> WatcherOutcome {
        let State::Watching {
            version,
            lines,
            since,
            asked,
        } = &self.state
        else {
            return WatcherOutcome::Quiet;
        };
        if lines.cut() {
            return self.broken("cut in mid-line".to_owned(), now);
        }
        let is_early = now.since(*since) < STEADY.min(*asked / 2);
        self.state = State::InitListed {
            version: version.clone(),
        };
        if is_early {
            self.watch_pause(now)
        } else {
            self.watch_backoff.reset()
        }
        WatcherOutcome::WatchEnded("its time is up".to_owned())
    }

    fn broken(&mut self, why: String, now: Time) -> WatcherOutcome {
        let State::Watching { since, .. } = &self.state else {
            return WatcherOutcome::Quiet;
        };
        if now.since(*since) < STEADY {
            self.watch_pause(now)
        } else {
            self.watch_backoff.reset()
        }
        self.state = State::Empty;
        WatcherOutcome::WatchEnded(why)
    }

    fn watch_pause(&mut self, now: Time) {
        let pause = self.watch_backoff.pause(backoff::MAX_PAUSE);
        self.pause_for(pause, PAUSE_WAITING, now);
    }
}

fn list(pages: &Pages) -> WatcherAction {
    WatcherAction::List {
        limit: pages.limit,
        continue_token: pages.token.clone(),
    }
}

/// The text of a body or a line that cannot be parsed.
pub(super) fn malformed(cause: &serde_json::Error) -> String {
    format!("not what was asked for: {}", printable(&cause.to_string()))
}

#[cfg(test)]
mod tests;
