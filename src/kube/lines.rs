//! [`Lines`] splits a stream into lines.

/// The capacity in bytes that the buffer keeps after a long line.
const KEPT: usize = 64 * 1024;

/// The longest line of a watch, in bytes, of which no more is kept. A full slice of a hundred
/// endpoints has 40 KiB, and etcd stores at most 1.5 MiB for an object.
pub(super) const MAX_LINE_LEN: usize = 2 * 1024 * 1024;

/// Splits a stream into lines. A watch sends one JSON object a line, and chunks, TLS records
/// and reads end anywhere in a line.
#[derive(Debug)]
pub(super) struct Lines {
    partial: Vec<u8>,
    longest: usize,
}

impl Lines {
    /// A splitter for lines of up to `longest` bytes without the newline. Of a longer one, only
    /// the beginning of that length is kept.
    pub(super) fn new(longest: usize) -> Self {
        Lines {
            partial: Vec::new(),
            longest,
        }
    }

    /// Adds `bytes`, and calls `each` with every line that they complete, without its
    /// newline. Stops at the first error, after which the stream must not be used.
    pub(super) fn feed<E>(
        &mut self,
        mut bytes: &[u8],
        mut each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
            if self.partial.is_empty() {
                each(&line[..line.len().min(self.longest)])?;
            } else {
                self.keep(line);
                each(&self.partial)?;
                self.partial.clear();
                self.partial.shrink_to(KEPT);
            }
            bytes = rest;
        }
        self.keep(bytes);
        Ok(())
    }

    /// Whether the last line is incomplete.
    pub(super) fn cut(&self) -> bool {
        !self.partial.is_empty()
    }

    fn keep(&mut self, more: &[u8]) {
        let room = self.longest - self.partial.len();
        self.partial
            .extend_from_slice(&more[..more.len().min(room)]);
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use proptest::prelude::*;

    fn split(longest: usize, pieces: &[&[u8]]) -> (Vec<Vec<u8>>, bool) {
        let (mut lines, mut seen) = (Lines::new(longest), Vec::new());
        for piece in pieces {
            let fed: Result<(), Infallible> = lines.feed(piece, |line| {
                seen.push(line.to_vec());
                Ok(())
            });
            fed.unwrap();
        }
        (seen, lines.cut())
    }

    proptest! {
        #[test]
        fn lines_survive_any_cutting(
            lines in prop::collection::vec(prop::collection::vec(any::<u8>().prop_filter("newline", |b| *b != b'\n'), 0..40), 0..12),
            tail in prop::collection::vec(1u8..10, 0..20),
            cuts in prop::collection::vec(0usize..600, 0..20),
        ) {
            let mut whole = Vec::new();
            for line in &lines {
                whole.extend_from_slice(line);
                whole.push(b'\n');
            }
            whole.extend_from_slice(&tail);
            let mut borders: Vec<usize> = cuts.iter().map(|cut| cut % (whole.len() + 1)).collect();
            borders.extend([0, whole.len()]);
            borders.sort_unstable();
            let pieces: Vec<&[u8]> = borders.windows(2).map(|two| &whole[two[0]..two[1]]).collect();
            let (seen, cut) = split(40, &pieces);
            prop_assert_eq!(seen, lines);
            prop_assert_eq!(cut, !tail.is_empty());
        }

        #[test]
        fn a_line_that_is_too_long_is_cut_however_it_comes_and_the_next_one_is_whole(
            step in 1usize..250,
            excess in 1usize..50,
        ) {
            let mut stream = vec![b'x'; 100 + excess];
            stream.extend_from_slice(b"\nnext\n");
            let pieces: Vec<&[u8]> = stream.chunks(step).collect();
            let seen = vec![vec![b'x'; 100], b"next".to_vec()];
            prop_assert_eq!(split(100, &pieces), (seen, false));
        }
    }

    #[test]
    fn a_line_of_exactly_the_longest_length_passes() {
        let seen = split(5, &[b"ab", b"cde\n"]);
        assert_eq!(seen, (vec![b"abcde".to_vec()], false));
    }
}
