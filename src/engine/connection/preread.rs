//! The preread of a [`Connection`] (nginx has that name for it), before the connection is held
//! or dialled. It reads the header of the PROXY protocol, which a load balancer sends first,
//! and peeks at the first bytes of the client, without consuming them. Until both are
//! decided, the connection does not count as use of the app.

use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::time::Duration;

use log::{debug, warn};

use super::{Connection, State, Usage};
use crate::engine::close_reason::CloseReason;
use crate::engine::context::{Connect, Context};
use crate::engine::counters::Exclusion;
use crate::engine::sockets::Socket;
use crate::engine::transition::Transition;
use crate::rules::Preread;
use crate::rules::answer::HoldAnswer;
use crate::rules::first_bytes::{self, Decision, Match};
use crate::rules::per_source::OverLimit;
use crate::rules::proxy_protocol::{self, Header, Origin, Parsed, Version};
use crate::rules::sources::Admission;

/// How long a load balancer may take to send the header, which it sends at once. The PROXY
/// protocol recommends at least 3 s, for a retransmission.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

impl<S: Socket> Connection<S> {
    /// Begins the preread, after the accept and again after the header.
    pub fn begin_preread<C: Connect<Socket = S>>(
        &mut self,
        preread: Preread,
        cx: &mut Context<'_, C>,
    ) -> Transition {
        self.state = State::Preread(preread);
        if preread.awaits_header {
            self.schedule_within(HEADER_TIMEOUT, cx);
        } else {
            self.schedule(Some(self.hold_limit(cx)), cx);
        }
        self.preread(cx)
    }

    /// Inspects what the socket has received.
    pub(super) fn preread<C: Connect<Socket = S>>(
        &mut self,
        cx: &mut Context<'_, C>,
    ) -> Transition {
        let State::Preread(preread) = self.state else {
            return Transition::Stay;
        };
        if preread.awaits_header {
            match self.read_header(cx) {
                Ok(Some(header)) => return self.apply_header(header, cx),
                // A TCP health check: it connects and closes.
                Ok(None) if self.client.has_closed_without_data() => {
                    return Transition::Close(CloseReason::ClientGone(self.phase()));
                }
                Ok(None) if self.client.fin_seen => {
                    return self.fail_header("ends before the header does", cx);
                }
                Ok(None) => return Transition::Stay,
                Err(why) => return self.fail_header(why, cx),
            }
        }
        self.preread_first_bytes(preread.is_ignored, cx)
    }

    /// Inspects the first bytes, without consuming them.
    fn preread_first_bytes<C: Connect<Socket = S>>(
        &mut self,
        is_ignored: bool,
        cx: &mut Context<'_, C>,
    ) -> Transition {
        // An ignored connection is served while there is a backend, whatever its first bytes; and
        // nobody needs a page then.
        let has_backend = !cx.port.balancer.is_empty();
        let is_served = has_backend && (is_ignored || cx.port.rules.first_bytes.is_off());
        if is_served || !cx.port.rules.needs_first_bytes(is_ignored) {
            return self.admit(is_ignored, cx);
        }
        let scratch = &mut cx.shared.buffers.scratch[..first_bytes::MAX_PEEK];
        let bytes = match self.client.socket.peek(scratch) {
            Ok(len) => &scratch[..len],
            Err(e) if is_temporary(&e) => &scratch[..0],
            Err(_) => return Transition::Close(CloseReason::ClientGone(self.phase())),
        };
        if bytes.is_empty() && self.client.fin_seen {
            return Transition::Close(CloseReason::ClientGone(self.phase()));
        }
        let gets_page = match has_backend || is_ignored {
            true => Match::No,
            false => cx.port.rules.waiting_page.matches(bytes),
        };
        match cx.port.rules.first_bytes.decide(bytes) {
            Decision::Counted if gets_page == Match::Yes => self.show_waiting_page(cx),
            Decision::Counted if gets_page == Match::Undecided && !self.client.fin_seen => {
                Transition::Stay
            }
            Decision::Undecided if !self.client.fin_seen => Transition::Stay,
            Decision::Counted => self.admit(is_ignored, cx),
            Decision::Undecided | Decision::Uncounted => {
                self.record_exclusion(is_ignored, Exclusion::FirstBytes, cx);
                self.admit(true, cx)
            }
            Decision::Probe => {
                self.record_exclusion(is_ignored, Exclusion::Probe, cx);
                self.answer_probe(cx)
            }
        }
    }

    /// Adds a connection to the metric of those that do not count, unless it is there already.
    fn record_exclusion<C>(&self, is_ignored: bool, exclusion: Exclusion, cx: &mut Context<'_, C>) {
        if !is_ignored {
            cx.port.counters.excluded(exclusion);
        }
    }

    /// Answers a health check while no backend can answer it.
    fn answer_probe<C: Connect<Socket = S>>(&mut self, cx: &mut Context<'_, C>) -> Transition {
        let answer = cx.port.rules.first_bytes.probes.answer;
        match answer.filter(|_| cx.port.balancer.is_empty()) {
            Some(answer) => {
                let answer = HoldAnswer::Bytes(answer.to_bytes().into());
                self.begin_answer(answer, CloseReason::Probe, cx)
            }
            None => self.admit(true, cx),
        }
    }

    /// Ends the connection: the deadline of the preread has passed.
    pub(super) fn handle_preread_timeout<C>(&mut self, cx: &mut Context<'_, C>) -> Transition {
        match self.state {
            State::Preread(Preread {
                awaits_header: true,
                ..
            }) => self.fail_header("sends no header in time", cx),
            _ => Transition::Close(CloseReason::NoBytes),
        }
    }

    /// Lets the connection go on, as use of the app or not.
    fn admit<C: Connect<Socket = S>>(
        &mut self,
        is_uncounted: bool,
        cx: &mut Context<'_, C>,
    ) -> Transition {
        if is_uncounted {
            return self.dial(cx);
        }
        self.usage = Usage::Counted;
        self.hold(cx)
    }

    // --- The PROXY protocol ---

    /// Consumes exactly the header once all of it has come; `None` until then.
    fn read_header<C>(&mut self, cx: &mut Context<'_, C>) -> Result<Option<Header>, &'static str> {
        let scratch = &mut cx.shared.buffers.scratch[..proxy_protocol::MAX_LEN];
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
        // The peek has returned these bytes, so that the read is not short.
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
        self.has_header = true;
        let admission = match header.origin {
            Origin::Local => {
                cx.port.counters.excluded(Exclusion::Local);
                Admission::Ignored
            }
            // A client whose address the load balancer does not know.
            Origin::Unknown => Admission::Counted,
            Origin::Client(endpoints) => {
                let source = endpoints.source;
                debug!("#{} is a connection of {source}", self.serial());
                let admission = cx.port.rules.sources.admission(source.ip());
                cx.port.counters.admitted(admission);
                if admission == Admission::Denied {
                    return self.reset(CloseReason::Denied);
                }
                match cx.port.per_source.acquire(source.ip()) {
                    Ok(entry) => entry.into_iter().for_each(|entry| self.set_source(entry)),
                    Err(OverLimit) => {
                        cx.port.counters.excluded(Exclusion::SourceLimit);
                        return self.reset(CloseReason::SourceLimit);
                    }
                }
                admission
            }
        };
        if cx.port.rules.send_proxy_protocol.is_some() || cx.port.balancer.has_affinity() {
            self.client_info().header = Some(header);
        }
        let preread = Preread {
            awaits_header: false,
            is_ignored: admission == Admission::Ignored,
        };
        self.begin_preread(preread, cx)
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
        self.reset(CloseReason::NoHeader(why))
    }

    /// The PROXY header of a load balancer, where something asks for it.
    fn header(&self) -> Option<&Header> {
        self.client_info.as_ref()?.header.as_ref()
    }

    /// The address of the client: the one that a load balancer states, or else that of the
    /// socket. `None` if the load balancer states none, or the socket is not connected any more.
    pub(super) fn client_address(&self) -> Option<IpAddr> {
        let endpoints = match self.header() {
            Some(header) => header.client(),
            // It came before anybody asked who the client is.
            None if self.has_header => None,
            None => self.client.socket.endpoints(),
        };
        endpoints.map(|it| it.source.ip().to_canonical())
    }

    /// Sends the PROXY header to the backend, before the first byte: the one that a load
    /// balancer has sent, or else one with the addresses of the client's socket.
    pub(super) fn send_header(&self, version: Version, backend: &mut S) -> io::Result<()> {
        let own = || Header::of(self.client.socket.endpoints());
        let header = self.header().cloned();
        let header = header.unwrap_or_else(own);
        let bytes = header.to_bytes(version);
        // A new socket has room for 4 KiB at least (SOCK_MIN_SNDBUF), and no header is longer.
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
