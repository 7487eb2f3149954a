//! What an event of the kernel's, or a deadline, means to a connection.

use mio::event::Event;

use super::connection::{Side, Stage};
use super::dialing::is_answer;
use super::end::{End, Phase};
use super::relay_state::ShortRead;
use super::{DEADLINES_PER_TURN, Engine, LISTENER, SOURCE, WAKER, admin_connections};
use crate::clock::Time;

impl Engine {
    pub(super) fn handle_event(&mut self, event: &Event, now: Time) {
        match event.token() {
            WAKER | SOURCE => {}
            LISTENER => {
                if let Some(listener) = &mut self.listener {
                    listener.set_ready();
                }
            }
            token if admin_connections::is_theirs(token) => self.admin.set_ready(token),
            token => match self.find(token) {
                Some((key, Side::Client)) => self.handle_client(key, event, now),
                Some((key, Side::Backend)) => self.handle_backend(key, event, now),
                None => {}
            },
        }
    }

    fn handle_client(&mut self, key: usize, event: &Event, now: Time) {
        let connection = &mut self.connections[key];
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            connection.up.handle_readable(short_read(event));
        }
        if event.is_error() {
            connection.down.handle_sink_failure();
        } else if event.is_writable() {
            connection.down.handle_writable();
        }
        // A FIN alone leaves the socket writable: such a client awaits its
        // reply. After a reset the kernel reports EPOLLHUP and EPOLLERR.
        let gone = event.is_write_closed() || event.is_error();
        match connection.stage {
            Stage::Relaying { .. } => self.attend(key, now),
            Stage::Resetting {
                remaining: Side::Client,
                ..
            } if gone => {
                self.close(key, End::ClientGone(Phase::Relaying));
            }
            Stage::Resetting { .. } => self.check_remaining_side(key, now),
            _ if gone => self.close(key, End::ClientGone(self.connections[key].phase())),
            _ => {}
        }
    }

    fn handle_backend(&mut self, key: usize, event: &Event, now: Time) {
        let connection = &mut self.connections[key];
        match &connection.stage {
            Stage::Connecting(attempt) => {
                // A socket that is connecting reports nothing until it is
                // connected (EPOLLOUT) or has failed (EPOLLERR, EPOLLHUP).
                if event.is_error() || event.is_write_closed() {
                    let Ok(Some(why)) = attempt.upstream.take_error() else {
                        return;
                    };
                    self.attempt_failed(key, &why.to_string(), is_answer(&why), now);
                } else if event.is_writable() {
                    self.attempt_succeeded(key, now);
                    self.handle_backend(key, event, now);
                }
            }
            Stage::Relaying { .. } => {
                if event.is_readable() || event.is_read_closed() || event.is_error() {
                    connection.down.handle_readable(short_read(event));
                }
                if event.is_error() {
                    connection.up.handle_sink_failure();
                } else if event.is_writable() {
                    connection.up.handle_writable();
                }
                self.attend(key, now);
            }
            Stage::Resetting {
                remaining: Side::Backend,
                ..
            } if event.is_error() => {
                self.close(key, End::ClientGone(Phase::Relaying));
            }
            Stage::Resetting { .. } => self.check_remaining_side(key, now),
            Stage::Held | Stage::Backoff => {}
        }
    }

    pub(super) fn handle_deadlines(&mut self, now: Time) {
        for _ in 0..DEADLINES_PER_TURN {
            let Some(key) = self.timers.due(now) else {
                return;
            };
            let connection = &self.connections[key];
            let hold_limit = connection.opened + self.limits.hold_timeout;
            if connection.is_waiting() && now >= hold_limit {
                self.give_up(key);
                continue;
            }
            match connection.stage {
                Stage::Connecting(_) => self.attempt_failed(key, "no answer in time", false, now),
                Stage::Backoff => self.place(key, now),
                Stage::Resetting { .. } => self.check_remaining_side(key, now),
                Stage::Relaying { .. } => self.check_after_deadline(key, now),
                Stage::Held => self.set_deadline(key, None),
            }
        }
    }
}

/// What a short read means after this event.
fn short_read(event: &Event) -> ShortRead {
    match event.is_read_closed() || event.is_priority() {
        true => ShortRead::MayLeaveMore,
        false => ShortRead::EmptiesQueue,
    }
}
