//! The run [`Queue`]: connections with work that no event will report, mostly bulk.
//!
//! Small messages are moved directly after their event. Bulk waits here for its turn. A
//! turn moves a large piece, because each wake-up of a peer then serves more bytes; but
//! small messages that come meanwhile wait for the end of the turn.

use std::collections::{BTreeMap, VecDeque};

use mio::Token;

use super::ids::AppId;

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

/// The run queue, by the tokens of the connections: one for each app, which take turns.
#[derive(Default)]
pub struct Queue {
    /// The apps whose connections wait, in the order of their turns.
    apps: VecDeque<AppId>,
    tokens: BTreeMap<AppId, VecDeque<Token>>,
    len: usize,
    /// The bytes that the first connection has moved in consecutive turns.
    in_a_row: usize,
    short_turns: u32,
}

impl Queue {
    /// The number of connections that wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
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

    /// Adds a connection at the end of those of its app.
    pub fn push(&mut self, app: AppId, token: Token) {
        self.of_app(app).push_back(token);
        self.len += 1;
    }

    /// Takes the connection whose turn it is, of the app whose turn it is.
    pub fn pop(&mut self) -> Option<Token> {
        while let Some(&app) = self.apps.front() {
            if let Some(token) = self.of_app(app).pop_front() {
                self.len -= 1;
                return Some(token);
            }
            self.end_turn_of_app();
        }
        None
    }

    /// The connection whose turn it was has moved `moved` bytes and has more. It is first
    /// in the next turn too, until it has moved [`BYTES_IN_A_ROW`].
    pub fn push_again(&mut self, app: AppId, token: Token, moved: usize) {
        self.in_a_row += moved;
        self.len += 1;
        if self.in_a_row < BYTES_IN_A_ROW {
            self.of_app(app).push_front(token);
        } else {
            self.of_app(app).push_back(token);
            self.end_row();
        }
    }

    /// The connection whose turn it was has no more to move: it is the next app's turn.
    pub fn end_row(&mut self) {
        self.in_a_row = 0;
        self.end_turn_of_app();
    }

    fn of_app(&mut self, app: AppId) -> &mut VecDeque<Token> {
        self.tokens.entry(app).or_insert_with(|| {
            self.apps.push_back(app);
            VecDeque::new()
        })
    }

    fn end_turn_of_app(&mut self) {
        let Some(app) = self.apps.pop_front() else {
            return;
        };
        if self
            .tokens
            .get(&app)
            .is_some_and(|tokens| !tokens.is_empty())
        {
            self.apps.push_back(app);
        } else {
            self.tokens.remove(&app);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: AppId = AppId(1);
    const OTHER: AppId = AppId(2);

    #[test]
    fn the_first_goes_on_until_it_has_had_its_share() {
        let mut queue = Queue::default();
        queue.push(ONE, Token(1));
        queue.push(ONE, Token(2));
        for _ in 0..BYTES_IN_A_ROW / BYTES_PER_TURN {
            assert_eq!(queue.pop(), Some(Token(1)));
            queue.push_again(ONE, Token(1), BYTES_PER_TURN);
        }
        assert_eq!(queue.pop(), Some(Token(2)));
        queue.end_row();
        assert_eq!(queue.pop(), Some(Token(1)));
        assert!(queue.is_empty());
    }

    /// Those of one app take turns among themselves.
    #[test]
    fn an_app_with_many_connections_has_as_many_turns_as_one_with_one() {
        let mut queue = Queue::default();
        (1..=3).for_each(|token| queue.push(ONE, Token(token)));
        queue.push(OTHER, Token(9));
        let mut turns = Vec::new();
        for _ in 0..8 {
            let token = queue.pop().unwrap();
            let app = if token == Token(9) { OTHER } else { ONE };
            queue.push_again(app, token, BYTES_IN_A_ROW);
            turns.push(token.0);
        }
        assert_eq!(turns, [1, 9, 2, 9, 3, 9, 1, 9]);
        assert_eq!(queue.len(), 4);
    }

    #[test]
    fn an_app_without_connections_has_no_turn() {
        let mut queue = Queue::default();
        queue.push(ONE, Token(1));
        queue.push(OTHER, Token(9));
        // A connection that has ended meanwhile ends no row.
        assert_eq!(queue.pop(), Some(Token(1)));
        assert_eq!(queue.pop(), Some(Token(9)));
        queue.end_row();
        assert_eq!((queue.pop(), queue.len()), (None, 0));
        queue.push(ONE, Token(2));
        assert_eq!(queue.pop(), Some(Token(2)));
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
