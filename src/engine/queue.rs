//! Who is served when no event says so, and how much of it in one turn.
//!
//! Small messages are moved when their event comes. What waits here is bulk, in
//! pieces that are as large as nobody minds: large ones cost less, since every
//! wake-up of a peer is for more bytes, but whoever has sent a small message
//! meanwhile waits for the end of the turn.

use std::collections::VecDeque;

use mio::Token;

/// How many bytes one turn moves, each way,
const BYTES_PER_TURN: usize = 1024 * 1024;
/// and how many while small messages come.
const BYTES_PER_SHORT_TURN: usize = 128 * 1024;
/// So many turns after a small message are short.
const SHORT_TURNS: u32 = 8;
/// How many bytes one connection moves in turns that follow each other, before
/// it is another's.
const BYTES_IN_A_ROW: usize = 4 * 1024 * 1024;

/// Connections that have work left which no event is going to report, in the
/// order in which they are served.
#[derive(Default)]
pub struct Queue {
    tokens: VecDeque<Token>,
    /// What the first of them has moved in the last turns.
    in_a_row: usize,
    short_turns: u32,
}

impl Queue {
    /// How many connections wait.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// A small message has come by: let the next ones not wait for long.
    pub fn note_small_message(&mut self) {
        self.short_turns = SHORT_TURNS;
    }

    /// Begins a turn; returns how many bytes it may move.
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

    /// Whose turn it is.
    pub fn pop(&mut self) -> Option<Token> {
        self.tokens.pop_front()
    }

    /// The one whose turn it was has moved so many bytes and has more: it goes on
    /// in the next turn unless it has had its share.
    pub fn push_again(&mut self, token: Token, moved: usize) {
        self.in_a_row += moved;
        if self.in_a_row < BYTES_IN_A_ROW {
            self.tokens.push_front(token);
        } else {
            self.in_a_row = 0;
            self.tokens.push_back(token);
        }
    }

    /// The one whose turn it was has no more.
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
