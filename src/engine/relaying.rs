//! What a connection does once a pod has taken it: bytes both ways, and what
//! follows when one side breaks off.

use std::time::Duration;

use super::connection::{Round, Side, Stage, Verdict};
use super::end::{End, Phase};
use super::relay::Moved;
use super::{Engine, relay};
use crate::clock::Time;
use crate::sys;

/// How many bytes one direction may move at once when an event comes. What is
/// left waits in the queue.
const PROMPT_BYTES: usize = 64 * 1024;
/// How long a side that is to be reset may take to acknowledge what was sent
/// to it before, or to read anything of what is still to be sent.
const RESET_LINGER: Duration = Duration::from_secs(60);
/// How soon to look whether it has; then less and less often.
const RESET_CHECK: Duration = Duration::from_millis(10);

impl Engine {
    /// There may be bytes to move: small messages are moved at once, bulk waits
    /// for its share of a turn.
    pub(super) fn attend(&mut self, key: usize, now: Time) {
        if self.connections[key].is_bulk() {
            self.queue(key);
            return;
        }
        let moved = self.pump(key, PROMPT_BYTES, now);
        if moved.more {
            self.queue(key);
        } else if moved.bytes > 0 {
            self.queue.note_small_message();
        }
    }

    /// Serves the queue, in order, until the turn's bytes are used up.
    pub(super) fn serve_queue(&mut self, now: Time) {
        if self.queue.is_empty() {
            return;
        }
        let budget = self.queue.begin_turn();
        let mut left = budget;
        // Those that are queued meanwhile wait for the next turn.
        for _ in 0..self.queue.len() {
            let moved = self.serve_next(budget, now);
            left = left.saturating_sub(moved);
            if left == 0 {
                return;
            }
        }
    }

    /// Serves the next of the queue; returns how many bytes it has moved.
    fn serve_next(&mut self, budget: usize, now: Time) -> usize {
        let next = self.queue.pop().and_then(|token| self.find(token));
        let Some((key, _)) = next else {
            return 0;
        };
        self.connections[key].queued = false;
        let moved = self.pump(key, budget, now);
        let again = moved.more.then(|| self.connections[key].enqueue(key));
        match again.flatten() {
            Some(token) => self.queue.push_again(token, moved.bytes),
            None => self.queue.end_row(),
        }
        moved.bytes
    }

    /// Moves up to `budget` bytes each way.
    fn pump(&mut self, key: usize, budget: usize, now: Time) -> Moved {
        let connection = &mut self.connections[key];
        if !matches!(connection.stage, Stage::Relaying { .. }) {
            return Moved::default();
        }
        let mut moved = connection.pump(&mut self.buffers, budget);
        if connection.is_broken() {
            connection.read_to_the_end();
            moved = moved + connection.pump(&mut self.buffers, budget);
        }
        moved.more &= connection.verdict() == Verdict::Continue;
        self.judge(key, now);
        moved
    }

    /// Does what the state of a connection's halves asks for.
    fn judge(&mut self, key: usize, now: Time) {
        let connection = &self.connections[key];
        let may_redial = now < connection.opened + self.limits.hold_timeout;
        match connection.verdict() {
            Verdict::Continue if connection.is_broken() => self.watch_survivor(key, now),
            Verdict::Continue => {}
            Verdict::Finished => self.close(key, End::Finished),
            Verdict::Gone => self.close(key, End::BackendGone),
            Verdict::Redial if may_redial => self.redial(key, now),
            Verdict::Redial => self.reset(key, End::BackendGone),
            Verdict::Reset { survivor } => self.start_reset(key, survivor, now),
        }
    }

    /// One side is gone, and the other has not taken all that it sent. If that
    /// one does not read either, no event will ever come.
    fn watch_survivor(&mut self, key: usize, now: Time) {
        let connection = &mut self.connections[key];
        if connection.seen_delivered.is_none() {
            connection.seen_delivered = Some(connection.delivered());
            self.set_deadline(key, Some(now + RESET_LINGER));
        }
    }

    /// The deadline of a connection that bytes flow through has passed.
    pub(super) fn look_after(&mut self, key: usize, now: Time) {
        self.set_deadline(key, None);
        let connection = &mut self.connections[key];
        match connection.seen_delivered.take() {
            None => self.ask_for_life(key),
            Some(seen) if connection.delivered() > seen => self.watch_survivor(key, now),
            Some(_) if connection.client_broken() => {
                self.reset(key, End::ClientGone(Phase::Relaying));
            }
            Some(_) => self.reset(key, End::BackendGone),
        }
    }

    /// Gives the connection a turn that no event is going to announce.
    fn queue(&mut self, key: usize) {
        if let Some(token) = self.connections[key].enqueue(key) {
            self.queue.push(token);
        }
    }

    /// The pod broke off before a byte went either way: dials another.
    fn redial(&mut self, key: usize, now: Time) {
        let connection = &mut self.connections[key];
        let Some((upstream, backend)) = connection.take_upstream() else {
            return;
        };
        drop(upstream);
        self.counts.waiting += 1;
        connection.up.redirect();
        connection.down = relay::Half::new();
        let mut round = Round {
            answered: true,
            ..Round::default()
        };
        self.note_failed_dial(key, backend, "broke off before the first byte", &mut round);
        self.dial(key, round, now);
    }

    fn start_reset(&mut self, key: usize, survivor: Side, now: Time) {
        let connection = &mut self.connections[key];
        let Some((upstream, backend)) = connection.take_upstream() else {
            return;
        };
        // What the broken side has not taken, nobody will.
        connection.up.release(&mut self.buffers);
        connection.down.release(&mut self.buffers);
        let until = now + RESET_LINGER;
        connection.stage = Stage::Resetting {
            survivor,
            upstream,
            backend,
            until,
        };
        self.finish_reset(key, now);
    }

    /// Resets the survivor if it has acknowledged everything, and looks again
    /// later if it hasn't.
    pub(super) fn finish_reset(&mut self, key: usize, now: Time) {
        let connection = &self.connections[key];
        let Stage::Resetting {
            survivor,
            upstream,
            until,
            ..
        } = &connection.stage
        else {
            return;
        };
        let (socket, end) = match survivor {
            Side::Client => (&connection.client, End::BackendGone),
            Side::Backend => (upstream, End::ClientGone(Phase::Relaying)),
        };
        if now < *until && sys::unacknowledged(socket).is_ok_and(|bytes| bytes > 0) {
            let waited = RESET_LINGER.saturating_sub(until.since(now));
            self.set_deadline(key, Some(now + RESET_CHECK.max(waited / 8)));
        } else {
            self.reset(key, end);
        }
    }
}
