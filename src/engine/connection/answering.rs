//! [`Answering`]: the state in which the proxy itself answers a client: a health check while the
//! app sleeps, or a client at the hold limit.

use std::sync::Arc;
use std::time::Duration;

use super::{Connection, State, Usage};
use crate::engine::close_reason::CloseReason;
use crate::engine::context::Context;
use crate::engine::half_state::{ReadOutcome, WriteOutcome};
use crate::engine::lingering::{Lingered, Lingering};
use crate::engine::sockets::Socket;
use crate::engine::transition::Transition;
use crate::rules::answer::{HoldAnswer, Reply};
use crate::rules::first_bytes::MAX_PEEK;
use crate::rules::waiting_page::{self, WaitingPage};

/// How long a client may take to be answered, and to send its FIN after that.
const TIMEOUT: Duration = Duration::from_secs(2);

/// A client that is being answered.
pub(super) struct Answering {
    answer: HoldAnswer,
    /// Why the connection ends.
    pub(super) reason: CloseReason,
    /// What is being sent, and how much of it was written.
    said: Arc<[u8]>,
    written: usize,
    /// How many requests of the client for encryption were refused.
    refusals: u8,
    /// Whether that was the last.
    is_last: bool,
    /// What follows the last of it.
    lingering: Lingering,
}

impl<S: Socket> Connection<S> {
    /// Answers the client, and then ends the connection for that reason. The connection does
    /// not count as use of the app.
    pub(super) fn begin_answer<C>(
        &mut self,
        answer: HoldAnswer,
        reason: CloseReason,
        cx: &mut Context<'_, C>,
    ) -> Transition {
        let answering = Answering {
            answer,
            reason,
            said: Arc::from(&b""[..]),
            written: 0,
            refusals: 0,
            is_last: false,
            lingering: Lingering::default(),
        };
        self.leave_wait(State::Answering(Box::new(answering)), cx);
        self.usage = Usage::Uncounted;
        let until = cx.now + TIMEOUT;
        cx.shared
            .timers
            .set(cx.key, &mut self.deadline, Some(until));
        self.go_on_answering(cx)
    }

    /// Answers a browser with the page that loads itself again. The connection counts as one that
    /// waits, until the browser has come again, so that the app goes on waking.
    pub(super) fn show_waiting_page<C>(&mut self, cx: &mut Context<'_, C>) -> Transition {
        let WaitingPage::Response(page) = &cx.port.rules.waiting_page else {
            // The daemon has loaded it by now.
            return Transition::Close(CloseReason::WaitingPage);
        };
        let answer = HoldAnswer::Bytes(page.clone());
        let transition = self.begin_answer(answer, CloseReason::WaitingPage, cx);
        self.usage = Usage::Counted;
        let until = cx.now + waiting_page::SHOWN_FOR;
        cx.shared
            .timers
            .set(cx.key, &mut self.deadline, Some(until));
        transition
    }

    /// Handles the end of a client that is being answered.
    pub(super) fn end_answer(&mut self) -> Transition {
        match &self.state {
            State::Answering(answering) if !answering.outlives_client() => {
                Transition::Close(answering.reason)
            }
            _ => Transition::Stay,
        }
    }

    /// Continues the answer after an event of the socket.
    pub(super) fn go_on_answering<C>(&mut self, cx: &mut Context<'_, C>) -> Transition {
        let State::Answering(answering) = &mut self.state else {
            return Transition::Stay;
        };
        let scratch = &mut cx.shared.buffers.scratch[..];
        let socket = &mut self.client.socket;
        loop {
            match answering.write(socket) {
                Progress::Done => {}
                Progress::Blocked => return Transition::Stay,
                Progress::Failed => return Transition::Close(answering.reason),
            }
            if answering.is_last {
                break;
            }
            match answering.next(socket, scratch) {
                Progress::Done => {}
                Progress::Blocked => return Transition::Stay,
                Progress::Failed => return Transition::Close(answering.reason),
            }
        }
        let reason = answering.reason;
        match answering.lingering.drop_input(socket, scratch) {
            Lingered::Waits => Transition::Stay,
            Lingered::Over => self.end_answer(),
            Lingered::TooMuch => self.reset(reason),
        }
    }
}

/// The result of a step.
enum Progress {
    Done,
    /// An event has to come first.
    Blocked,
    Failed,
}

impl Answering {
    /// Whether the connection lasts until its deadline though its client has left: it has been
    /// sent the page, and will come again.
    fn outlives_client(&self) -> bool {
        let is_sent = self.is_last && self.written == self.said.len();
        is_sent && self.reason == CloseReason::WaitingPage
    }

    /// Writes what is to be sent, and a FIN behind the last of it.
    fn write<S: Socket>(&mut self, socket: &mut S) -> Progress {
        while self.written < self.said.len() {
            match socket.write(&self.said[self.written..]).into() {
                WriteOutcome::Taken(len) => self.written += len,
                WriteOutcome::Interrupted => {}
                WriteOutcome::Full => return Progress::Blocked,
                WriteOutcome::Failed(_) => return Progress::Failed,
            }
        }
        if self.is_last && socket.shut_write().is_err() {
            return Progress::Failed;
        }
        Progress::Done
    }

    /// Finds what is to be sent next.
    fn next<S: Socket>(&mut self, socket: &mut S, scratch: &mut [u8]) -> Progress {
        let received = match socket.peek(&mut scratch[..MAX_PEEK]).into() {
            ReadOutcome::Bytes(len) => &scratch[..len],
            ReadOutcome::Failed(_) => return Progress::Failed,
            // The client has sent its FIN, and may await the answer all the same.
            ReadOutcome::Empty | ReadOutcome::Interrupted | ReadOutcome::End => &scratch[..0],
        };
        match self.answer.reply(received, self.refusals) {
            Reply::Wait => return Progress::Blocked,
            Reply::Refuse(len, bytes) => {
                self.refusals += 1;
                self.said = bytes.into();
                self.written = 0;
                // The peek has returned these bytes, so that the read is not short.
                if socket.read(&mut scratch[..len]).is_err() {
                    return Progress::Failed;
                }
            }
            Reply::Last(bytes) => {
                self.is_last = true;
                self.said = bytes;
                self.written = 0;
            }
        }
        Progress::Done
    }
}
