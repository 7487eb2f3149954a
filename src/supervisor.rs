//! A supervised thread: a thread that runs its function again after a panic.
//!
//! A panic is a bug in this program. A panic of a thread that talks to the API server
//! must not end the connections that the event loop serves. The thread therefore runs
//! again after a pause, and a callback reports the panic. For that the release profile
//! unwinds (`panic` in Cargo.toml).

use std::any::Any;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::thread;
use std::time::Duration;

use crate::backoff::MAX_PAUSE;
use crate::clock::{Clock, Time};

/// The pause after the first panic; it doubles up to [`MAX_PAUSE`].
const FIRST: Duration = Duration::from_secs(1);

/// After a run of this length, the pauses begin with [`FIRST`] again.
const STEADY: Duration = Duration::from_secs(120);

/// A panic of a supervised thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadPanic {
    /// The thread's name.
    pub thread: &'static str,
    /// The message of the panic.
    pub why: String,
    /// The pause until the thread runs again.
    pub pause: Duration,
}

/// Starts a thread that runs `body` until it returns. After a panic in `body`, the
/// thread calls `report` and, after a pause that grows, `body` again.
///
/// The next call of `body` finds the values that `body` owns as the panic left them, so
/// `body` must reset them at its start. `report` must not panic.
///
/// # Errors
/// If the thread cannot be started.
pub fn spawn(
    name: &'static str,
    clock: Clock,
    mut body: impl FnMut() + Send + 'static,
    report: impl Fn(ThreadPanic) + Send + 'static,
) -> io::Result<()> {
    let supervise = move || {
        let mut pauses = Pauses::default();
        loop {
            let started = clock();
            let Err(why) = catch_panic(&mut body) else {
                return;
            };
            let pause = pauses.next(started, clock());
            report(ThreadPanic {
                thread: name,
                why,
                pause,
            });
            thread::sleep(pause);
        }
    };
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(supervise)
        .map(drop)
}

/// Calls `work`.
///
/// # Errors
/// The message of its panic.
pub fn catch_panic<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    panic::catch_unwind(AssertUnwindSafe(work)).map_err(|panic| message(&*panic))
}

/// Logs every panic through `log`. The default hook writes to stderr itself, and blocks
/// while nobody reads it.
pub fn log_panics() {
    panic::set_hook(Box::new(|panic| {
        let thread = thread::current();
        let name = thread.name().unwrap_or("without a name");
        let text = panic.to_string().replace('\n', " ");
        log::error!("a bug: the thread {name} {text}");
    }));
}

/// The pauses after panics.
#[derive(Default)]
struct Pauses {
    last: Option<Duration>,
}

impl Pauses {
    /// The pause after a panic at `now` in a run that began at `started`.
    fn next(&mut self, started: Time, now: Time) -> Duration {
        let last = self.last.filter(|_| now.since(started) < STEADY);
        let pause = last.map_or(FIRST, |last| (last * 2).min(MAX_PAUSE));
        self.last = Some(pause);
        pause
    }
}

/// The message of a panic.
fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or(panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without a text").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const TEST_TIMEOUT: Duration = Duration::from_secs(20);

    fn at(seconds: u64) -> Time {
        Time::new(Duration::from_secs(seconds))
    }

    #[test]
    fn a_thread_that_panics_is_reported_and_begins_anew_until_it_returns() {
        let (events, seen) = mpsc::channel();
        let panics = events.clone();
        let mut starts = 0;
        let body = move || {
            starts += 1;
            events.send(Ok(starts)).unwrap();
            assert!(starts > 1, "start number {starts}");
        };
        let report = move |panic| panics.send(Err(panic)).unwrap();
        spawn("zpa-test", Time::default, body, report).unwrap();
        let panic = ThreadPanic {
            thread: "zpa-test",
            why: "start number 1".to_owned(),
            pause: FIRST,
        };
        for expected in [Ok(1), Err(panic), Ok(2)] {
            assert_eq!(seen.recv_timeout(TEST_TIMEOUT).unwrap(), expected);
        }
        // It has returned and is not started again.
        let over = seen.recv_timeout(TEST_TIMEOUT).unwrap_err();
        assert_eq!(over, mpsc::RecvTimeoutError::Disconnected);
    }

    #[test]
    fn pauses_double_up_to_half_a_minute_and_begin_anew_after_a_steady_run() {
        let mut pauses = Pauses::default();
        for (started, panicked, seconds) in [
            (0, 0, 1),
            (1, 2, 2),
            (4, 4, 4),
            (8, 8, 8),
            (16, 16, 16),
            (32, 32, 30),
            (62, 181, 30),
            (211, 331, 1),
            (332, 332, 2),
        ] {
            let pause = pauses.next(at(started), at(panicked));
            assert_eq!(pause, Duration::from_secs(seconds), "at {panicked} s");
        }
    }

    #[test]
    fn the_message_is_what_the_panic_says() {
        let said = |panic: fn()| catch_panic(panic).unwrap_err();
        assert_eq!(said(|| panic!("plain")), "plain");
        assert_eq!(said(|| panic!("with a {}", 1)), "with a 1");
        let other = said(|| panic::panic_any(7));
        assert_eq!(other, "a panic without a text");
    }
}
