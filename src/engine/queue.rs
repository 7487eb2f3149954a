//! The run [`Queue`]: connections with work that no event will report, mostly bulk.
//!
//! Small messages are moved directly after their event. Bulk waits here for its turn. A
//! turn moves a large piece, because each wake-up of a peer then serves more bytes; but
//! small messages that come meanwhile wait for the end of the turn.

use std::collections::VecDeque;

use mio::Token;

/// The bytes that one turn of the loop moves in each direction. Four times as much, also in
/// a row, took no less processor time for each byte: on two busy cores a splice finds a
/// third of a MiB, so that the budget is rarely what ends a turn.
const BYTES_PER_TURN: usize = 1024 * 1024;
/// The same while small messages come.
const BYTES_PER_SHORT_TURN: usize = 128 * 1024;
/// The number of short turns after a small message.
const SHORT_TURNS: u32 = 8;
/// The bytes that one connection moves in consecutive turns, before the next one has its
/// turn.
const BYTES_IN_A_ROW: usize = 4 * 1024 * 1024;

/// The run queue, by the tokens of the connections.
#[derive(Default)]
pub struct Queue {
    tokens: VecDeque<Token>,
    /// The bytes that the first connection has moved in consecutive turns.
    in_a_row: usize,
    short_turns: u32,
}

impl Queue {
    /// The number of connections that wait.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// A small message was moved: the next turns are short, so that further messages do
    /// not wait for long.
    pub fn note_small_message(&mut self) {
        self.short_turns = SHORT_TURNS;
    }

    /// Begins a turn; returns its byte budget.
    pub fn begin_turn(&mut self) -> usize {
        match self.short_turns {
            0 => BYTES_PER_TURN,
            left => {
                self.short_turns = left - 1;
                BYTES_PER_SHORT_TURN
            }
        }
    }

    /// Adds a connection at the end.
    pub fn push(&mut self, token: Token) {
        self.tokens.push_back(token);
    }

    /// Takes the connection whose turn it is.
    pub fn pop(&mut self) -> Option<Token> {
        self.tokens.pop_front()
    }

    /// The connection whose turn it was has moved `moved` bytes and has more. It is first
    /// in the next turn too, until it has moved [`BYTES_IN_A_ROW`].
    pub fn push_again(&mut self, token: Token, moved: usize) {
        self.in_a_row += moved;
        if self.in_a_row < BYTES_IN_A_ROW {
            self.tokens.push_front(token);
        } else {
            self.in_a_row = 0;
            self.tokens.push_back(token);
        }
    }

    /// The connection whose turn it was has no more to move.
    pub fn end_row(&mut self) {
        self.in_a_row = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_goes_on_until_it_has_had_its_share() {
        let mut queue = Queue::default();
        queue.push(Token(1));
        queue.push(Token(2));
        for _ in 0..BYTES_IN_A_ROW / BYTES_PER_TURN {
            assert_eq!(queue.pop(), Some(Token(1)));
            queue.push_again(Token(1), BYTES_PER_TURN);
        }
        assert_eq!(queue.pop(), Some(Token(2)));
        queue.end_row();
        assert_eq!(queue.pop(), Some(Token(1)));
        assert!(queue.is_empty());
    }

    #[test]
    fn turns_are_short_for_a_while_after_a_small_message() {
        let mut queue = Queue::default();
        assert_eq!(queue.begin_turn(), BYTES_PER_TURN);
        queue.note_small_message();
        for _ in 0..SHORT_TURNS {
            assert_eq!(queue.begin_turn(), BYTES_PER_SHORT_TURN);
        }
        assert_eq!(queue.begin_turn(), BYTES_PER_TURN);
    }
}
