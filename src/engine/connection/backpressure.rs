//! Backpressure on the two sockets of a connection: a socket reports no input while the other
//! one does not take its bytes.

use log::debug;

use super::{Connection, State};
use crate::engine::context::{Connect, Context};
use crate::engine::half_state::Sink;
use crate::engine::readiness::{Interest, Readiness};
use crate::engine::sockets::Socket;
use crate::engine::token::{self, Side};

/// The sockets that report no input, since the other side takes none.
#[derive(Default)]
pub(super) struct Paused {
    client: bool,
    pub(super) backend: bool,
}

impl<S: Socket> Connection<S> {
    /// Has a socket report no input while the other side takes none. Each further segment would
    /// be an event with nothing to do: with one stream on one core those cost a tenth of the
    /// processor time of each byte. No segment follows a FIN, so that an event that reports one
    /// pauses nothing.
    pub(super) fn pause_input<C: Connect<Socket = S>>(
        &mut self,
        side: Side,
        event: Readiness,
        cx: &mut Context<'_, C>,
    ) {
        let has_ended = event.read_closed || event.error;
        if event.readable && !has_ended && self.sink_of(side) == Some(Sink::Full) {
            self.set_interest(side, Interest::Output, cx);
        }
    }

    /// Has a socket report input again once its bytes are taken, or never will be. What has
    /// come meanwhile is reported at once (EPOLL_CTL_MOD, `ep_modify`).
    pub(super) fn resume_input<C: Connect<Socket = S>>(&mut self, cx: &mut Context<'_, C>) {
        if self.paused.client && self.client.up.sink() != Sink::Full {
            self.set_interest(Side::Client, Interest::Both, cx);
        }
        if self.paused.backend && self.sink_of(Side::Backend) != Some(Sink::Full) {
            self.set_interest(Side::Backend, Interest::Both, cx);
        }
    }

    /// The state of the socket that takes the bytes of a side.
    fn sink_of(&self, side: Side) -> Option<Sink> {
        match (&self.state, side) {
            (State::Relaying(_), Side::Client) => Some(self.client.up.sink()),
            (State::Relaying(relay), Side::Backend) => Some(relay.client_sink()),
            _ => None,
        }
    }

    fn set_interest<C: Connect<Socket = S>>(
        &mut self,
        side: Side,
        interest: Interest,
        cx: &mut Context<'_, C>,
    ) {
        let serial = self.serial();
        let (socket, token, paused) = match (side, &mut self.state) {
            (Side::Client, _) => {
                let token = token::token(cx.key, serial, Side::Client);
                (&mut self.client.socket, token, &mut self.paused.client)
            }
            (Side::Backend, State::Relaying(relay)) => {
                let token = self.dialer.token(cx.key);
                (relay.socket_mut(), token, &mut self.paused.backend)
            }
            (Side::Backend, _) => return,
        };
        let is_paused = interest == Interest::Output;
        if *paused == is_paused {
            return;
        }
        match cx.connector.set_interest(socket, token, interest) {
            Ok(()) => *paused = is_paused,
            Err(why) => debug!("#{serial} keeps its events: {why}"),
        }
    }
}
