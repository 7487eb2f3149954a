//! What a connection does once a pod has taken it: bytes both ways, and what
//! follows when one side breaks off.

use std::time::Duration;

use super::connection::{Round, Side, Stage, Verdict};
use super::end::{End, Phase};
use super::relay::Moved;
use super::{Engine, relay};
use crate::clock::Time;

/// How many bytes one direction may move at once when an event comes. What is
/// left waits in the queue.
const PROMPT_BYTES: usize = 64 * 1024;
/// How long a side whose other is gone may take nothing of what that one has
/// sent.
const REMAINING_SIDE_TIMEOUT: Duration = Duration::from_secs(60);
/// How soon to look whether it has; then less and less often.
const REMAINING_SIDE_CHECK: Duration = Duration::from_millis(10);

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
        self.apply_verdict(key, now);
        // The time of a remaining side may have been up.
        moved.more &= self.connections.contains(key);
        moved
    }

    /// Does what the state of a connection's halves asks for.
    fn apply_verdict(&mut self, key: usize, now: Time) {
        let connection = &self.connections[key];
        let may_redial = now < connection.opened + self.limits.hold_timeout;
        match connection.verdict() {
            Verdict::Continue if connection.is_broken() => self.check_remaining_side(key, now),
            Verdict::Continue => {}
            Verdict::Finished => self.finish(key),
            Verdict::Gone => self.close(key, End::BackendGone),
            Verdict::Redial if may_redial => self.redial(key, now),
            Verdict::Redial => self.reset(key, End::BackendGone),
            Verdict::Reset { remaining } => self.start_reset(key, remaining, now),
        }
    }

    /// Both directions have ended. Keeps the sockets until both sides have got
    /// everything: what is closed with bytes still to be sent belongs to nobody. The
    /// kernel gives such a socket up if its reader pauses (`tcp_orphan_retries`,
    /// tcp(7)), and forgets it with the network of our own pod.
    ///
    /// The last acknowledgement makes the kernel close the socket, which is an event.
    fn finish(&mut self, key: usize) {
        let connection = &self.connections[key];
        if connection.is_wanting() {
            connection.shut();
        } else {
            self.close(key, End::Finished);
        }
    }

    /// The deadline of a connection that bytes flow through has passed.
    pub(super) fn check_after_deadline(&mut self, key: usize, now: Time) {
        if self.connections[key].is_broken() {
            self.apply_verdict(key, now);
        } else {
            self.set_deadline(key, None);
            self.enable_keepalive(key);
        }
    }

    /// Gives the connection a turn that no event is going to report.
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
        self.record_failed_dial(key, backend, "broke off before the first byte", &mut round);
        self.dial(key, round, now);
    }

    fn start_reset(&mut self, key: usize, remaining: Side, now: Time) {
        let connection = &mut self.connections[key];
        let Some((upstream, backend)) = connection.take_upstream() else {
            return;
        };
        // What the broken side has not taken, nobody will.
        connection.up.release(&mut self.buffers);
        connection.down.release(&mut self.buffers);
        connection.stage = Stage::Resetting {
            remaining,
            upstream,
            backend,
        };
        self.check_remaining_side(key, now);
    }

    /// One side is gone, and the other has not got all that it sent. Resets that
    /// one as soon as it has acknowledged everything, or if it takes nothing for
    /// a while: it may not read either, and then no event is ever going to come.
    pub(super) fn check_remaining_side(&mut self, key: usize, now: Time) {
        let connection = &mut self.connections[key];
        let Some(remaining) = connection.remaining_side() else {
            return;
        };
        let is_flushed = matches!(connection.stage, Stage::Resetting { .. });
        let owed = connection.owed_by(remaining);
        let since = connection.note_owed(remaining, owed, now);
        let limit = since + REMAINING_SIDE_TIMEOUT;
        if now >= limit || is_flushed && owed == 0 {
            let end = match remaining {
                Side::Client => End::BackendGone,
                Side::Backend => End::ClientGone(Phase::Relaying),
            };
            return self.reset(key, end);
        }
        let next = now + REMAINING_SIDE_CHECK.max(now.since(since) / 8);
        self.set_deadline(key, Some(next.min(limit)));
    }
}
