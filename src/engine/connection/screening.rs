//! The part of [`Connection`] that reads its first bytes, before it is held or dialled: the
//! header of the PROXY protocol, which a load balancer sends first, and the first bytes of
//! the client. Until they are complete, the connection does not count as use of the app.

use std::io::{self, ErrorKind};
use std::time::Duration;

use log::{debug, warn};

use super::{Connection, Standing, State};
use crate::engine::context::{Connect, Context};
use crate::engine::end::End;
use crate::engine::sockets::Socket;
use crate::engine::tally::Exclusion;
use crate::engine::transition::Transition;
use crate::rules::Screening;
use crate::rules::answer::Answer;
use crate::rules::first_bytes::{self, Decision};
use crate::rules::per_source::OverLimit;
use crate::rules::proxy_protocol::{self, Header, Origin, Parsed, Version};
use crate::rules::sources::Admission;

/// How long a load balancer may take to send the header. It has it when it connects.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

impl<S: Socket> Connection<S> {
    /// Begins to look at a connection that was just accepted.
    pub fn begin_screening<C: Connect<Socket = S>>(
        &mut self,
        screening: Screening,
        cx: &mut Context<'_, C>,
    ) -> Transition {
        self.state = State::Screening(screening);
        if screening.awaits_header {
            self.schedule_within(HEADER_TIMEOUT, cx);
        } else {
            self.schedule(Some(self.hold_limit(cx)), cx);
        }
        self.screen(cx)
    }

    /// Looks at what has come.
    pub(super) fn screen<C: Connect<Socket = S>>(&mut self, cx: &mut Context<'_, C>) -> Transition {
        let State::Screening(screening) = self.state else {
            return Transition::Stay;
        };
        if screening.awaits_header {
            match self.read_header(cx) {
                Ok(Some(header)) => return self.apply_header(header, cx),
                // A bare check whether somebody listens.
                Ok(None) if self.client.has_sent_nothing() => {
                    return Transition::End(End::ClientGone(self.phase()));
                }
                Ok(None) if self.client.has_ended => {
                    return self.fail_header("ends before the header does", cx);
                }
                Ok(None) => return Transition::Stay,
                Err(why) => return self.fail_header(why, cx),
            }
        }
        self.screen_bytes(screening.is_ignored, cx)
    }

    /// Looks at the first bytes, and leaves them where they are.
    fn screen_bytes<C: Connect<Socket = S>>(
        &mut self,
        is_ignored: bool,
        cx: &mut Context<'_, C>,
    ) -> Transition {
        let is_served = is_ignored && !cx.port.balancer.is_empty();
        if is_served || !cx.port.rules.looks_at_bytes(is_ignored) {
            return self.admit(is_ignored, cx);
        }
        let scratch = &mut cx.shared.buffers.scratch[..first_bytes::LOOKED_AT];
        let bytes = match self.client.socket.peek(scratch) {
            Ok(len) => &scratch[..len],
            Err(e) if is_temporary(&e) => &scratch[..0],
            Err(_) => return Transition::End(End::ClientGone(self.phase())),
        };
        let is_gone = bytes.is_empty() && self.client.has_ended;
        match cx.port.rules.first_bytes.decide(bytes) {
            _ if is_gone => Transition::End(End::ClientGone(self.phase())),
            Decision::Undecided if !self.client.has_ended => Transition::Stay,
            Decision::Counts => self.admit(is_ignored, cx),
            Decision::Undecided | Decision::Excluded => {
                self.exclude(is_ignored, Exclusion::FirstBytes, cx);
                self.admit(true, cx)
            }
            Decision::Probe => {
                self.exclude(is_ignored, Exclusion::Probe, cx);
                self.answer_probe(cx)
            }
        }
    }

    /// Counts a connection that does not count, once.
    fn exclude<C>(&self, is_ignored: bool, exclusion: Exclusion, cx: &mut Context<'_, C>) {
        if !is_ignored {
            cx.port.tally.excluded(exclusion);
        }
    }

    /// A health check is answered while no backend can answer it.
    fn answer_probe<C: Connect<Socket = S>>(&mut self, cx: &mut Context<'_, C>) -> Transition {
        let answer = cx.port.rules.first_bytes.probes.answer;
        match answer.filter(|_| cx.port.balancer.is_empty()) {
            Some(answer) => {
                let answer = Answer::Bytes(answer.to_bytes().into());
                self.begin_answer(answer, End::Probe, cx)
            }
            None => self.admit(true, cx),
        }
    }

    /// The deadline of the screening has passed.
    pub(super) fn handle_screening_timeout<C>(&mut self, cx: &mut Context<'_, C>) -> Transition {
        match self.state {
            State::Screening(Screening {
                awaits_header: true,
                ..
            }) => self.fail_header("sends no header in time", cx),
            _ => Transition::End(End::NoBytes),
        }
    }

    /// Lets the connection go on, as use of the app or not.
    fn admit<C: Connect<Socket = S>>(
        &mut self,
        is_excluded: bool,
        cx: &mut Context<'_, C>,
    ) -> Transition {
        if is_excluded {
            return self.dial(cx);
        }
        self.standing = Standing::Counts;
        self.hold(cx)
    }

    // --- The PROXY protocol ---

    /// Takes the header from the start of the stream, and no byte more, once all of it is
    /// there.
    fn read_header<C>(&mut self, cx: &mut Context<'_, C>) -> Result<Option<Header>, &'static str> {
        let scratch = &mut cx.shared.buffers.scratch[..proxy_protocol::LONGEST];
        let socket = &mut self.client.socket;
        let len = match socket.peek(scratch) {
            Ok(len) => len,
            Err(e) if is_temporary(&e) => return Ok(None),
            Err(_) => return Err("breaks off before the header"),
        };
        let (header, len) = match proxy_protocol::parse(&scratch[..len]) {
            Parsed::Incomplete => return Ok(None),
            Parsed::Invalid(why) => return Err(why),
            Parsed::Complete(header, len) => (header, len),
        };
        // The kernel has just shown as many bytes.
        match socket.read(&mut scratch[..len]) {
            Ok(read) if read == len => Ok(Some(header)),
            _ => Err("cannot be read"),
        }
    }

    fn apply_header<C: Connect<Socket = S>>(
        &mut self,
        header: Header,
        cx: &mut Context<'_, C>,
    ) -> Transition {
        let admission = match header.origin {
            Origin::Local => {
                cx.port.tally.excluded(Exclusion::Local);
                Admission::Ignored
            }
            Origin::Unknown => Admission::Counted,
            Origin::Client(endpoints) => {
                let source = endpoints.source;
                debug!("#{} is a connection of {source}", self.serial());
                let admission = cx.port.rules.sources.admission(source.ip());
                cx.port.tally.admitted(admission);
                if admission == Admission::Denied {
                    return self.reset(End::Denied);
                }
                match cx.port.per_source.enter(source.ip()) {
                    Ok(entry) => entry.into_iter().for_each(|entry| self.set_source(entry)),
                    Err(OverLimit) => {
                        cx.port.tally.excluded(Exclusion::SourceLimit);
                        return self.reset(End::SourceLimit);
                    }
                }
                admission
            }
        };
        if cx.port.rules.send_proxy_protocol.is_some() {
            self.client_info().header = Some(header);
        }
        let screening = Screening {
            awaits_header: false,
            is_ignored: admission == Admission::Ignored,
        };
        self.begin_screening(screening, cx)
    }

    fn fail_header<C>(&mut self, why: &'static str, cx: &mut Context<'_, C>) -> Transition {
        if let Some(count) = cx.shared.header_log.note(cx.now) {
            let of = self.client.socket.endpoints();
            let peer = of.map_or_else(
                || "a load balancer".to_owned(),
                |of| of.source.ip().to_canonical().to_string(),
            );
            warn!(
                "a connection of {peer}, whose connections are to begin with a PROXY header, \
                 {why} ({count} such)"
            );
        }
        self.reset(End::NoHeader(why))
    }

    /// Tells the backend who the client is, before the first byte.
    pub(super) fn send_header(&self, version: Version, backend: &mut S) -> io::Result<()> {
        let own = || Header::of(self.client.socket.endpoints());
        let info = self.client_info.as_ref();
        let header = info.and_then(|info| info.header.clone());
        let header = header.unwrap_or_else(own);
        let bytes = header.to_bytes(version);
        // A new socket has room for 4 KiB at the least (SOCK_MIN_SNDBUF), and no header is
        // longer.
        match backend.write(&bytes)? {
            len if len == bytes.len() => Ok(()),
            _ => Err(ErrorKind::WriteZero.into()),
        }
    }
}

/// Whether a read found nothing for now.
fn is_temporary(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
