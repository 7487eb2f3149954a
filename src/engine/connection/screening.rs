//! What is looked at of a connection before it is dialled or held: the header of the PROXY
//! protocol, which a load balancer sends first. Until it is there, the connection counts
//! as no use of the app.

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
        self.schedule_within(HEADER_TIMEOUT, cx);
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
        self.admit(Standing::Counts, cx)
    }

    /// The deadline of the screening has passed.
    pub(super) fn handle_screening_timeout<C>(&mut self, cx: &mut Context<'_, C>) -> Transition {
        self.fail_header("sends no header in time", cx)
    }

    /// Lets the connection go on, as use of the app or not.
    fn admit<C: Connect<Socket = S>>(
        &mut self,
        standing: Standing,
        cx: &mut Context<'_, C>,
    ) -> Transition {
        self.standing = standing;
        match standing {
            Standing::Counts => self.hold(cx),
            _ => self.dial(cx),
        }
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
                admission
            }
        };
        if cx.port.rules.send_proxy_protocol.is_some() {
            self.header = Some(Box::new(header));
        }
        match admission {
            Admission::Counted => self.admit(Standing::Counts, cx),
            Admission::Ignored => self.admit(Standing::Excluded, cx),
            Admission::Denied => self.reset(End::Denied),
        }
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
        let header = self.header.as_deref().cloned().unwrap_or_else(own);
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
