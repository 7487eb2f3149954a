//! [`Caller`]: makes the calls of a reflector, and holds the watch that is open.

use std::io::Read;
use std::time::Duration;

use ureq::BodyReader;

use super::super::client::{Calls, Opened};
use super::super::pages::max_body;
use super::super::responses::{self, answer};
use super::super::text::printable;
use super::super::watcher_io::{Response, WatcherInput};

/// The largest object that is read by itself, in bytes: etcd takes none above 1.5 MiB.
const OBJECT_BODY: u64 = 4 * 1024 * 1024;
/// How long a watch may be silent before its connection counts as dead. The server sends a
/// bookmark each minute (`defaultBookmarkFrequency` in its cacher).
const SILENCE: Duration = Duration::from_secs(75);

/// The calls of a reflector, of which there is one at a time.
pub(super) struct Caller {
    /// How long a watch may be silent.
    pub(super) silence: Duration,
    /// The watch that is open.
    stream: Option<BodyReader<'static>>,
}

impl Caller {
    pub(super) fn new() -> Self {
        Caller {
            silence: SILENCE,
            stream: None,
        }
    }

    pub(super) fn get(&self, calls: &Calls<'_>, path: &str) -> WatcherInput<'static> {
        WatcherInput::Object(answer(calls.get(path, OBJECT_BODY)))
    }

    pub(super) fn list(&self, calls: &Calls<'_>, path: &str) -> WatcherInput<'static> {
        WatcherInput::Page(answer(calls.list(path, max_body(path))))
    }

    /// Opens a watch.
    pub(super) fn watch(&mut self, calls: &Calls<'_>, path: &str) -> WatcherInput<'static> {
        WatcherInput::Opened(match calls.watch(path, self.silence) {
            Ok(Opened::Stream(stream)) => {
                self.stream = Some(stream);
                Response::Ok(())
            }
            Ok(Opened::Refused(reply)) => responses::refused(&reply),
            Err(failure) => failure.into(),
        })
    }

    /// Reads from the open watch into `buffer`.
    pub(super) fn read<'a>(&mut self, buffer: &'a mut [u8]) -> WatcherInput<'a> {
        let read = match &mut self.stream {
            Some(stream) => stream.read(buffer),
            None => Ok(0),
        };
        match read {
            Ok(0) => WatcherInput::Ended,
            Ok(count) => WatcherInput::Bytes(&buffer[..count]),
            Err(cause) => WatcherInput::Broken(printable(&cause.to_string())),
        }
    }

    /// Closes the open watch, if there is one.
    pub(super) fn close(&mut self) {
        self.stream = None;
    }
}
