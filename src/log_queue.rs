//! A [`LogQueue`] is a bounded buffer of log lines with a thread that writes them.
//!
//! No thread that logs waits for the reader of the log: a line for which there is no
//! room is dropped and counted. A pipe that nobody reads is full after 64 KiB
//! (pipe(7)), and then a write blocks for ever. On the event loop that would stop every
//! connection, and at the end of the program it would prevent the exit.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use log::Level;

use crate::clock::WallClock;
use crate::log_format::LogFormat;
use crate::sys;

/// The size of the buffer in bytes. The thread may hold as much again, which it is
/// writing. A thousand connections at level debug log about that much.
const CAPACITY: usize = 256 * 1024;

/// The capacity in bytes that each of the two buffers keeps while it is empty.
const KEPT: usize = 8 * 1024;

/// How long the program waits at its end until the log is written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// A handle of the queue; a clone is another handle of the same queue.
#[derive(Clone)]
pub struct LogQueue(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Notified when lines were added or written.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The lines that wait, one after the other.
    bytes: Vec<u8>,
    /// The number of lines in `bytes`.
    lines: u64,
    /// The number of lines dropped since the start.
    dropped: u64,
    /// The number of dropped lines that a line in the log has reported.
    reported: u64,
    /// Whether the thread is writing.
    writing: bool,
    style: Style,
}

/// How lines are written, and what time it is.
#[derive(Clone, Copy)]
struct Style {
    format: LogFormat,
    clock: WallClock,
}

impl Default for Style {
    fn default() -> Style {
        Style {
            format: LogFormat::Text,
            clock: || 0,
        }
    }
}

impl LogQueue {
    /// Starts the thread, which writes to `sink` and receives no signal.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn spawn(sink: impl Write + Send + 'static) -> io::Result<LogQueue> {
        let shared = Arc::new(Shared::default());
        let ours = shared.clone();
        // The thread inherits the signal mask. If it did not block the signals that the
        // program waits for, the kernel could deliver one to it, whose default action
        // ends the program.
        let _blocked = sys::block_all_signals();
        thread::Builder::new()
            .name("zpa-log".to_owned())
            .spawn(move || ours.write_all(sink))?;
        Ok(LogQueue(shared))
    }

    /// Makes this queue the destination of the `log` macros, and sets their filter and
    /// the format of all lines. The libraries that the program uses log warnings and
    /// errors only, unless `filter` names them. To be called once.
    pub fn install_logger(&self, filter: &str, format: LogFormat, clock: WallClock) {
        self.0.state().style = Style { format, clock };
        let mut logger = env_logger::Builder::new();
        for library in ["ureq", "ureq_proto", "rustls", "mio"] {
            logger.filter_module(library, log::LevelFilter::Warn);
        }
        // It warns of each ClientHello with a wrong name, and anybody can send those.
        logger.filter_module("rustls::msgs", log::LevelFilter::Error);
        logger
            .parse_filters(filter)
            .format(move |line, record| {
                let time = line.timestamp_millis();
                line.write_all(format.line(time, record.level(), record.args()).as_bytes())
            })
            .target(env_logger::Target::Pipe(Box::new(self.clone())))
            .init();
    }

    /// Adds a line, which ends with a line feed; drops it if there is no room.
    pub fn push(&self, line: &[u8]) {
        let mut state = self.0.state();
        if state.bytes.len() + line.len() > CAPACITY {
            state.dropped += 1;
            return;
        }
        state.bytes.extend_from_slice(line);
        state.lines += 1;
        // A thread that is writing does not wait on `changed`: it looks for more lines
        // afterwards.
        if !state.writing {
            self.0.changed.notify_all();
        }
    }

    /// Adds an error that ends the program.
    pub fn push_error(&self, error: impl Display) {
        let Style { format, clock } = self.0.state().style;
        self.push(
            format
                .line_of_program(clock(), Level::Error, error)
                .as_bytes(),
        );
    }

    /// The number of lines dropped since the start, for want of room or because the
    /// write failed.
    pub fn dropped(&self) -> u64 {
        self.0.state().dropped
    }

    /// Waits until everything is written, `timeout` at most.
    pub fn flush(&self, timeout: Duration) {
        let state = self.0.state();
        let is_pending = |state: &mut State| state.writing || state.has_news();
        // The result does not matter: after `timeout` the program ends anyway.
        drop(
            self.0
                .changed
                .wait_timeout_while(state, timeout, is_pending),
        );
    }
}

/// Calls `work` with a queue that writes to stderr, and flushes the queue. Fails if stderr
/// is closed.
pub fn with_stderr(work: impl FnOnce(&LogQueue) -> ExitCode) -> ExitCode {
    // A descriptor of its own: a thread that blocks in a write would hold the lock of
    // `io::stderr`.
    let stderr = io::stderr().as_fd().try_clone_to_owned();
    let Ok(log) = stderr.and_then(|stderr| LogQueue::spawn(File::from(stderr))) else {
        return ExitCode::FAILURE;
    };
    let _flushed = FlushOnDrop(log.clone());
    work(&log)
}

/// Flushes the queue when it is dropped, also by a panic of the event loop.
struct FlushOnDrop(LogQueue);

impl Drop for FlushOnDrop {
    fn drop(&mut self) {
        self.0.flush(FLUSH_TIMEOUT);
    }
}

/// Every write is one line, as `env_logger` makes it.
impl Write for LogQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The body of the thread: takes the lines that wait and writes them, for ever.
    fn write_all(&self, mut sink: impl Write) {
        let mut batch = Vec::new();
        loop {
            let lines = self.take(&mut batch);
            let written = sink.write_all(&batch);
            let mut state = self.state();
            state.writing = false;
            if written.is_err() {
                state.dropped += lines;
            }
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Waits for lines, moves them into `batch` and returns their number. After them
    /// follows a line with the number of lines dropped since the last one, if any were.
    fn take(&self, batch: &mut Vec<u8>) -> u64 {
        batch.clear();
        batch.shrink_to(KEPT);
        let state = self.state();
        let is_idle = |state: &mut State| !state.has_news();
        let mut state = self
            .changed
            .wait_while(state, is_idle)
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut state.bytes, batch);
        state.writing = true;
        let lost = state.dropped - state.reported;
        if lost > 0 {
            state.reported = state.dropped;
            batch.extend_from_slice(notice(lost, state.style).as_bytes());
        }
        std::mem::take(&mut state.lines)
    }
}

impl State {
    /// Whether there is something to write.
    fn has_news(&self) -> bool {
        !self.bytes.is_empty() || self.dropped > self.reported
    }
}

/// The line that replaces `lost` dropped ones.
fn notice(lost: u64, style: Style) -> String {
    let lines = if lost == 1 { "line" } else { "lines" };
    let text = format!("{lost} {lines} of the log dropped: whoever reads stderr was too slow");
    let Style { format, clock } = style;
    format.line_of_program(clock(), Level::Warn, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};

    const TEST_TIMEOUT: Duration = Duration::from_secs(20);

    /// A line that is as long as some are at the level debug.
    const LINE: &[u8] = b"[2026-11-28T12:00:00.000Z DEBUG] #1234 relaying to 10.0.0.1:80\n";

    #[test]
    fn lines_are_written_in_the_order_in_which_they_came() {
        let (reader, writer) = io::pipe().unwrap();
        let log = LogQueue::spawn(writer).unwrap();
        let lines = BufReader::new(reader).lines();
        for number in 0..1000 {
            log.push(format!("line {number}\n").as_bytes());
        }
        for (number, line) in lines.take(1000).enumerate() {
            assert_eq!(line.unwrap(), format!("line {number}"));
        }
        assert_eq!(log.dropped(), 0);
    }

    #[test]
    fn nobody_waits_for_a_reader_and_what_is_lost_is_counted_and_said_in_its_place() {
        let (reader, writer) = io::pipe().unwrap();
        let log = LogQueue::spawn(writer).unwrap();
        let mut pushed: u64 = 0;
        while log.dropped() < 10 {
            log.push(LINE);
            pushed += 1;
        }
        let most = 2 * CAPACITY + (64 << 10) + LINE.len();
        assert!(pushed as usize <= most / LINE.len() + 10, "{pushed} fit");
        // It is full: this ends because its time is over.
        log.flush(Duration::from_millis(1));

        let mut lines = BufReader::new(reader).lines().map(Result::unwrap);
        let (mut read, mut lost) = (0, 0);
        while read + lost < pushed {
            let line = lines.next().unwrap();
            match line.strip_prefix("zpa: ") {
                Some(notice) => lost += notice.split(' ').next().unwrap().parse::<u64>().unwrap(),
                None => read += 1,
            }
        }
        assert_eq!(lost, log.dropped());
        log.push(b"there is room again\n");
        assert_eq!(lines.next().unwrap(), "there is room again");
        log.flush(TEST_TIMEOUT);
        let state = log.0.state();
        assert!(state.bytes.capacity() <= KEPT, "memory is given back");
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted_and_nothing_spins() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let log = LogQueue::spawn(writer).unwrap();
        for number in 1..=3 {
            log.push(LINE);
            log.flush(TEST_TIMEOUT);
            assert_eq!(log.dropped(), number);
        }
    }
}
