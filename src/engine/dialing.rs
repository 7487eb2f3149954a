//! The dials of one connection: the connect that is under way, and the pauses
//! between the rounds through the addresses.

use std::io::{self, ErrorKind};
use std::time::Duration;

use log::debug;
use mio::Token;

use super::balancer::{BackendId, Cause, Pick, Round};
use super::connector::SelfConnect;
use super::context::{Connect, Context};
use super::local_error::LocalError;
use super::readiness::Readiness;
use super::sockets::Socket;
use super::token::upstream_token;

/// A backend that accepts and closes in order before the first byte, so soon after the
/// first backend became ready, is not ready in truth: what stands before the app in the
/// backend (a sidecar, a forwarded port) accepts earlier than the app.
const EARLY_CLOSE_WINDOW: Duration = Duration::from_secs(2);
/// How often a connection tries again for that reason. The pauses between as many
/// tries come to 1.27 s.
const MAX_EARLY_CLOSES: u8 = 7;

/// The first pause when no address takes a connection; it doubles up to
const FIRST_BACKOFF: Duration = Duration::from_millis(10);
/// this one.
const LONGEST_BACKOFF: Duration = Duration::from_secs(1);

/// What is kept of a connection's dials from one to the next.
#[derive(Debug)]
pub struct Dialer {
    /// The connection's, for the log and for tokens.
    serial: u64,
    /// How many sockets were dialled, modulo 256.
    dials: u8,
    /// How many rounds have found no address that takes the connection, 255 at most.
    backoffs: u8,
    /// How many backends have closed in order before the first byte.
    early_closes: u8,
}

/// A connect that is under way.
pub struct Attempt<S> {
    backend: BackendStream<S>,
    /// How long it may take, if that is less than usual.
    patience: Option<Duration>,
    /// What this round has met with before.
    round: Round,
}

/// A backend's socket.
pub struct BackendStream<S> {
    /// The socket that was dialled.
    pub socket: S,
    /// Which address it leads to.
    pub id: BackendId,
}

/// What a round through the addresses has come to.
pub enum Dialed<S> {
    /// A connect is under way.
    Connecting(Attempt<S>),
    /// No address is left in this round.
    NoneLeft,
}

/// What an event means to a connect that is under way.
pub enum Progress {
    /// Nothing yet.
    Pending,
    /// The backend has taken the connection.
    Connected,
    /// The connect has failed.
    Failed(io::Error),
}

impl Dialer {
    /// That of a connection for which nothing was dialled yet.
    pub fn new(serial: u64) -> Self {
        Dialer {
            serial,
            dials: 0,
            backoffs: 0,
            early_closes: 0,
        }
    }

    /// The serial number of the connection.
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// What names the socket that was dialled last.
    pub fn token(&self, key: usize) -> Token {
        upstream_token(key, self.serial, self.dials)
    }

    /// Dials the next address of the round that does not fail at once.
    pub fn dial<S: Socket, C: Connect<Socket = S>>(
        &mut self,
        mut round: Round,
        cx: &mut Context<'_, C>,
    ) -> Dialed<S> {
        loop {
            let fell_back = round.has_fallen_back();
            let pick = cx.shared.balancer.pick(&mut round, cx.now);
            let has_no_backend = pick.is_none() || round.has_fallen_back();
            if has_no_backend && !fell_back && round.has_failed() {
                cx.shared.counts.exhausted += 1;
            }
            let Some(pick) = pick else {
                return Dialed::NoneLeft;
            };
            self.dials = self.dials.wrapping_add(1);
            let queues = cx.shared.memory.queues(cx.shared.counts.open, false);
            let Pick {
                id,
                address,
                patience,
            } = pick;
            match cx.connector.connect(address, queues, self.token(cx.key)) {
                Ok(socket) => {
                    return Dialed::Connecting(Attempt {
                        backend: BackendStream { socket, id },
                        patience,
                        round,
                    });
                }
                Err(error) => {
                    let cause = Cause::of(&error);
                    self.note_failure(id, cause, &error.to_string(), &mut round, cx);
                }
            }
        }
    }

    /// An address has failed, or its backend has broken off before the first byte.
    pub fn note_failure<C>(
        &self,
        id: BackendId,
        cause: Cause,
        why: &str,
        round: &mut Round,
        cx: &mut Context<'_, C>,
    ) {
        if let Some(address) = cx.shared.balancer.address(id) {
            debug!("#{} dialling {address}: {why}", self.serial);
            match cause {
                Cause::Local(error) => cx.shared.dial_log.local_error(address, error, cx.now),
                Cause::SelfConnect => cx.shared.dial_log.self_connect(address, cx.now),
                _ => cx.shared.counts.failed_dials += 1,
            }
        }
        cx.shared.balancer.failed(id, cause, round, cx.now);
    }

    /// Whether a backend that closes in order before the first byte is taken for one
    /// that has broken off.
    pub fn may_retry_early_close<C>(&self, cx: &Context<'_, C>) -> bool {
        let since_wake = cx.now.since(cx.shared.ready_since);
        since_wake < EARLY_CLOSE_WINDOW && self.early_closes < MAX_EARLY_CLOSES
    }

    /// A backend has closed in order before the first byte, and another is tried.
    pub fn note_early_close(&mut self) {
        self.early_closes += 1;
    }

    /// How long to wait before the next round.
    pub fn next_pause(&mut self) -> Duration {
        let doublings = u32::from(self.backoffs.min(7));
        self.backoffs = self.backoffs.saturating_add(1);
        LONGEST_BACKOFF.min(FIRST_BACKOFF * (1 << doublings))
    }
}

impl<S: Socket> Attempt<S> {
    /// An event of the socket. One that is connecting reports nothing until it is
    /// connected (EPOLLOUT) or has failed (EPOLLERR, EPOLLHUP).
    pub fn handle_event(&self, event: Readiness) -> Progress {
        if event.error || event.hang_up {
            match self.backend.socket.take_error() {
                Ok(Some(why)) => Progress::Failed(why),
                _ => Progress::Pending,
            }
        } else if event.writable {
            Progress::Connected
        } else {
            Progress::Pending
        }
    }

    /// How long it may take.
    pub fn patience(&self, usual: Duration) -> Duration {
        self.patience.unwrap_or(usual).min(usual)
    }

    /// The socket of a connect that has succeeded.
    pub fn into_backend(self) -> BackendStream<S> {
        self.backend
    }

    /// Gives the connect up; returns the address, and what the round has met with
    /// before it.
    pub fn abandon(self) -> (BackendId, Round) {
        (self.backend.id, self.round)
    }
}

impl Cause {
    /// What an error of a connect says.
    pub fn of(error: &io::Error) -> Cause {
        if let Some(local) = LocalError::of(error) {
            return Cause::Local(local);
        }
        match error.kind() {
            ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => Cause::Refused,
            ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable => Cause::Unreachable,
            // Not a kind of its own: the kernel has no such family.
            _ if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => Cause::Unreachable,
            _ if SelfConnect::is(error) => Cause::SelfConnect,
            _ => Cause::Silent,
        }
    }
}
