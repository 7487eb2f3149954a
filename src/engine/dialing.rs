//! The dials of one connection: an [`Attempt`] is a connect in progress, and the
//! [`Dialer`] begins dials, round after round through the addresses.

use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::time::Duration;

use log::debug;
use mio::Token;

use super::balancer::{AddressId, Balancer, DialFailure, DialRound, Pick, TRIAL_TIMEOUT};
use super::connector::SelfConnect;
use super::context::{Connect, Context};
use super::half_state::ReadOutcome;
use super::local_error::LocalError;
use super::readiness::Readiness;
use super::sockets::Socket;
use super::token::backend_token;
use crate::clock::Time;
use crate::rules::GREETING_TIMEOUT;

/// A backend that accepts and closes with a FIN before the first byte, within this time
/// after the first backend became ready, is taken for one that is not ready: a sidecar
/// or a forwarded port accepts connections earlier than the app behind it.
const EARLY_CLOSE_WINDOW: Duration = Duration::from_secs(2);
/// The most times that a connection is dialled again for that reason. The pauses between
/// them add up to 1.27 s.
const MAX_EARLY_CLOSES: u8 = 7;

/// How long the first backend that is dialled after an ejection may take to greet, if there is
/// another.
const TRIAL_GREETING_TIMEOUT: Duration = Duration::from_secs(5);

/// The first pause after a round in which no address has accepted; it doubles.
const FIRST_BACKOFF: Duration = Duration::from_millis(10);
/// The longest of these pauses.
const MAX_BACKOFF: Duration = Duration::from_secs(1);

/// The part of a connection that dials, and counts its dials.
#[derive(Debug)]
pub struct Dialer {
    /// The serial number of the connection, for the log and for tokens.
    serial: u64,
    /// The number of sockets dialled, modulo 256.
    dials: u8,
    /// The number of rounds in which no address has accepted, 255 at most.
    backoffs: u8,
    /// The number of backends that closed with a FIN before the first byte.
    early_closes: u8,
    /// The number of addresses of the backup target that were dialled since the first of them,
    /// 255 at most.
    backup_dials: u8,
}

/// A connect in progress, or one whose backend is to send the first byte.
pub struct Attempt<S> {
    backend: BackendStream<S>,
    /// Whether the backend has accepted it.
    has_accepted: bool,
    /// Whether it is the first one to an address after its ejection, which has less time.
    is_trial: bool,
    /// The round that it belongs to.
    round: DialRound,
}

/// A socket to a backend.
pub struct BackendStream<S> {
    /// The socket.
    pub socket: S,
    /// The address that it is connected to.
    pub id: AddressId,
}

/// The result of [`Dialer::dial`].
pub enum DialOutcome<S> {
    /// A connect is in progress.
    Connecting(Attempt<S>),
    /// No address is left in this round.
    NoneLeft,
}

/// The state of a connect after an event.
pub enum Progress {
    /// Not decided yet.
    Pending,
    /// The backend has accepted the connection.
    Connected,
    /// The backend, which had accepted it, has sent the first byte.
    Greeted,
    /// The connect has failed, or the backend has ended the connection before that byte.
    Failed(io::Error),
}

impl Dialer {
    /// The dialer of a new connection.
    pub fn new(serial: u64) -> Self {
        Dialer {
            serial,
            dials: 0,
            backoffs: 0,
            early_closes: 0,
            backup_dials: 0,
        }
    }

    /// Begins anew: what was dialled before has served its time.
    pub fn begin_anew(&mut self) {
        self.backoffs = 0;
        self.early_closes = 0;
    }

    /// The serial number of the connection.
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// The token of the socket that was dialled last.
    pub fn token(&self, key: usize) -> Token {
        backend_token(key, self.serial, self.dials)
    }

    /// Dials the next address of the round that does not fail at once. The `client` is of
    /// interest where the balancer has affinity.
    pub fn dial<S: Socket, C: Connect<Socket = S>>(
        &mut self,
        client: Option<IpAddr>,
        round: DialRound,
        cx: &mut Context<'_, C>,
    ) -> DialOutcome<S> {
        self.dial_picked(round, cx, |_, round, cx| {
            let fell_back = round.has_fallen_back();
            let pick = cx.port.balancer.pick(client, round, cx.now);
            let has_no_backend = pick.is_none() || round.has_fallen_back();
            if has_no_backend && !fell_back && round.has_failed() {
                cx.port.counts.exhausted += 1;
            }
            pick
        })
    }

    /// Begins with the first address of the backup target.
    pub fn begin_backup(&mut self) {
        self.backup_dials = 0;
    }

    /// Dials the next address of the backup target that does not fail at once.
    pub fn dial_backup<S: Socket, C: Connect<Socket = S>>(
        &mut self,
        round: DialRound,
        cx: &mut Context<'_, C>,
    ) -> DialOutcome<S> {
        self.dial_picked(round, cx, |dialer, round, cx| {
            let may_dial = |place: &u8| *place < u8::MAX && !round.has_local_error();
            let place = Some(dialer.backup_dials).filter(may_dial)?;
            dialer.backup_dials = place.saturating_add(1);
            cx.port.balancer.pick_backup(place.into(), cx.now)
        })
    }

    fn dial_picked<S: Socket, C: Connect<Socket = S>>(
        &mut self,
        mut round: DialRound,
        cx: &mut Context<'_, C>,
        pick: impl Fn(&mut Self, &mut DialRound, &mut Context<'_, C>) -> Option<Pick>,
    ) -> DialOutcome<S> {
        loop {
            let Some(pick) = pick(self, &mut round, cx) else {
                return DialOutcome::NoneLeft;
            };
            self.dials = self.dials.wrapping_add(1);
            let sizes = cx.shared.memory.buffer_sizes(cx.shared.open, false);
            let Pick {
                id,
                address,
                is_trial,
            } = pick;
            match cx.connector.connect(address, sizes, self.token(cx.key)) {
                Ok(socket) => {
                    return DialOutcome::Connecting(Attempt {
                        backend: BackendStream { socket, id },
                        has_accepted: false,
                        is_trial,
                        round,
                    });
                }
                Err(error) => {
                    let cause = DialFailure::of(&error);
                    self.note_failure(id, cause, &error.to_string(), &mut round, cx);
                }
            }
        }
    }

    /// Counts and logs an address that has failed, or whose backend broke off before the
    /// first byte.
    pub fn note_failure<C>(
        &self,
        id: AddressId,
        cause: DialFailure,
        why: &str,
        round: &mut DialRound,
        cx: &mut Context<'_, C>,
    ) {
        if let Some(address) = cx.port.balancer.address(id) {
            debug!("#{} dialling {address}: {why}", self.serial);
            match cause {
                DialFailure::Local(error) => cx.shared.dial_log.local_error(address, error, cx.now),
                DialFailure::SelfConnect => cx.shared.dial_log.self_connect(address, cx.now),
                _ => cx.port.counts.failed_dials += 1,
            }
        }
        cx.port.balancer.failed(id, cause, round, cx.now);
    }

    /// Whether another backend may be dialled after one has closed with a FIN before the
    /// first byte.
    pub fn may_retry_early_close<C>(&self, cx: &Context<'_, C>) -> bool {
        let since_wake = cx.now.since(cx.port.ready_since);
        since_wake < EARLY_CLOSE_WINDOW && self.early_closes < MAX_EARLY_CLOSES
    }

    /// Counts a backend that has closed with a FIN before the first byte.
    pub fn note_early_close(&mut self) {
        self.early_closes += 1;
    }

    /// The pause before the next round.
    pub fn next_pause(&mut self) -> Duration {
        let doublings = u32::from(self.backoffs.min(7));
        self.backoffs = self.backoffs.saturating_add(1);
        MAX_BACKOFF.min(FIRST_BACKOFF * (1 << doublings))
    }
}

impl<S: Socket> Attempt<S> {
    /// An event of the socket. A connecting socket reports nothing until it is connected
    /// (EPOLLOUT) or has failed (EPOLLERR, EPOLLHUP).
    pub fn handle_event(&mut self, event: Readiness) -> Progress {
        if self.has_accepted {
            return self.look_for_greeting();
        }
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

    /// The backend has accepted the connection.
    pub fn set_accepted(&mut self) {
        self.has_accepted = true;
    }

    /// Whether the backend, which has accepted, has sent the first byte.
    pub fn look_for_greeting(&mut self) -> Progress {
        match ReadOutcome::from(self.backend.socket.peek(&mut [0])) {
            ReadOutcome::Bytes(_) => Progress::Greeted,
            ReadOutcome::Empty | ReadOutcome::Interrupted => Progress::Pending,
            ReadOutcome::End => Progress::Failed(io::Error::other("closed without a greeting")),
            ReadOutcome::Failed(why) => Progress::Failed(why),
        }
    }

    /// The cause of its end, where `cause` is that of a connect.
    pub fn failure(&self, cause: DialFailure) -> DialFailure {
        match self.has_accepted {
            true => DialFailure::NoGreeting,
            false => cause,
        }
    }

    /// What it has not done in time.
    pub fn overdue(&self) -> &'static str {
        match self.has_accepted {
            true => "no greeting in time",
            false => "no answer in time",
        }
    }

    /// Ends it because of its client, or of the gate.
    pub fn give_up(self, balancer: &mut Balancer, now: Time) {
        self.reset_if_accepted();
        balancer.abandon(self.backend.id, now);
    }

    /// Has a backend that has accepted see a reset: it might take a FIN without a byte for an
    /// upload of nothing.
    fn reset_if_accepted(&self) {
        if self.has_accepted {
            self.backend.socket.reset_on_close();
        }
    }

    /// How long the backend may take to send the first byte. In a trial that is less, since
    /// another would send it at once.
    pub fn greeting_timeout(&self) -> Duration {
        match self.is_trial {
            true => TRIAL_GREETING_TIMEOUT,
            false => GREETING_TIMEOUT,
        }
    }

    /// The socket and the address.
    pub fn backend_mut(&mut self) -> &mut BackendStream<S> {
        &mut self.backend
    }

    /// Its timeout, where `usual` is the connect timeout.
    pub fn timeout(&self, usual: Duration) -> Duration {
        match self.is_trial {
            true => usual.min(TRIAL_TIMEOUT),
            false => usual,
        }
    }

    /// The socket of a connect that has succeeded.
    pub fn into_backend(self) -> BackendStream<S> {
        self.backend
    }

    /// Its address and the round.
    pub fn into_failed(self) -> (AddressId, DialRound) {
        self.reset_if_accepted();
        (self.backend.id, self.round)
    }
}

impl DialFailure {
    /// What an error of a connect says.
    pub fn of(error: &io::Error) -> DialFailure {
        if let Some(local) = LocalError::of(error) {
            return DialFailure::Local(local);
        }
        match error.kind() {
            ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => DialFailure::Refused,
            ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable => DialFailure::Unreachable,
            // Not a kind of its own: the kernel has no such family.
            _ if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => DialFailure::Unreachable,
            _ if SelfConnect::is(error) => DialFailure::SelfConnect,
            _ => DialFailure::Unanswered,
        }
    }
}
