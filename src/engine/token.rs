//! Tokens: the numbers by which events name the sockets of connections.

use mio::Token;

/// A side of a connection, which has one socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client, whose socket was accepted.
    Client,
    /// The backend, whose socket was dialled.
    Backend,
}

/// The token of one side of a connection: its slot, and enough of its serial number to
/// distinguish it from connections that had the slot before. Their events may still be
/// in the batch.
pub fn token(key: usize, serial: u64, side: Side) -> Token {
    Token((generation(serial) << 33) | (key << 1) | (side == Side::Backend) as usize)
}

/// The token of the backend's socket after `dials` dials. The tokens of two dials in a
/// row differ, because events of the first may still be in the batch.
pub fn backend_token(key: usize, serial: u64, dials: u8) -> Token {
    let parity = usize::from(dials & 1) << 63;
    Token(token(key, serial, Side::Backend).0 | parity)
}

/// The token of a client whose server name is awaited, by its slot among those. It has the bit
/// of the parity, which no client has that belongs to an app.
pub fn inspected_token(key: usize, serial: u64) -> Token {
    Token(token(key, serial, Side::Client).0 | 1 << 63)
}

/// The slot and the generation of a client whose server name is awaited, if a token names one.
pub fn parse_inspected(token: Token) -> Option<(usize, usize)> {
    let (key, generation, side) = parse_token(token);
    let is_inspected = token.0 >> 63 == 1 && side == Side::Client;
    is_inspected.then_some((key, generation))
}

/// The slot, the generation and the side that a token names.
pub fn parse_token(token: Token) -> (usize, usize, Side) {
    let side = match token.0 & 1 {
        1 => Side::Backend,
        _ => Side::Client,
    };
    let key = (token.0 >> 1) & 0xFFFF_FFFF;
    (key, (token.0 >> 33) & 0x3FFF_FFFF, side)
}

/// The part of the serial number that fits into a token beside the parity.
pub fn generation(serial: u64) -> usize {
    (serial & 0x3FFF_FFFF) as usize
}

const _: () = assert!(usize::BITS == 64, "tokens need 64 bits");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_slot_generation_and_side() {
        for (key, serial, side) in [
            (0, 0, Side::Client),
            (99_999, 7, Side::Backend),
            (5, u64::MAX, Side::Client),
        ] {
            let expected = (key, generation(serial), side);
            assert_eq!(parse_token(token(key, serial, side)), expected);
        }
    }

    #[test]
    fn a_token_of_a_client_without_an_app_is_that_of_no_connection() {
        let inspected = inspected_token(5, 7);
        assert_eq!(parse_inspected(inspected), Some((5, generation(7))));
        for other in [
            token(5, 7, Side::Client),
            backend_token(5, 7, 0),
            backend_token(5, 7, 1),
        ] {
            assert_eq!(parse_inspected(other), None);
            assert_ne!(other, inspected);
        }
    }

    #[test]
    fn the_tokens_of_two_dials_in_a_row_differ_and_name_the_same_connection() {
        let (one, other) = (backend_token(3, 7, 255), backend_token(3, 7, 0));
        assert_ne!(one, other);
        assert_eq!(parse_token(one), parse_token(other));
    }
}
