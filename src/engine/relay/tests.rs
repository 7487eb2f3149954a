//! A half between two scripted sockets, against an oracle: what comes out is
//! what went in, and it ends as it ended.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

/// What one system call on a scripted socket does.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Moves at most so many bytes.
    Take(usize),
    /// EAGAIN; an event follows.
    Block,
    /// EINTR.
    Interrupt,
}

/// How the source's stream ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ending {
    Fin,
    Reset,
}

/// A socket that plays a script, and then serves every call in full.
struct Scripted {
    input: Vec<u8>,
    read: usize,
    /// So many of the bytes not read yet were shown by the last peek.
    peeked: usize,
    ending: Ending,
    steps: VecDeque<Step>,
    output: Vec<u8>,
    /// Writes fail after so many bytes.
    fails_after: Option<usize>,
    shut: u32,
    /// An operation found nothing more to do: the loop is going to report
    /// when that changes.
    armed: bool,
}

impl Scripted {
    fn source(input: &[u8], ending: Ending, steps: &[Step]) -> Self {
        Scripted {
            input: input.to_vec(),
            ending,
            ..Scripted::sink(steps)
        }
    }

    fn sink(steps: &[Step]) -> Self {
        Scripted {
            input: Vec::new(),
            read: 0,
            peeked: 0,
            ending: Ending::Fin,
            steps: steps.iter().copied().collect(),
            output: Vec::new(),
            fails_after: None,
            shut: 0,
            armed: true,
        }
    }

    /// How many bytes the next call may move, or why it may not.
    fn step(&mut self) -> io::Result<usize> {
        match self.steps.pop_front() {
            None => Ok(usize::MAX),
            Some(Step::Take(len)) => Ok(len.max(1)),
            Some(Step::Interrupt) => Err(ErrorKind::Interrupted.into()),
            Some(Step::Block) => {
                self.armed = true;
                Err(ErrorKind::WouldBlock.into())
            }
        }
    }

    fn copy(&mut self, buffer: &mut [u8], most: usize) -> io::Result<usize> {
        let left = &self.input[self.read..];
        if left.is_empty() {
            return match self.ending {
                Ending::Fin => Ok(0),
                Ending::Reset => Err(ErrorKind::ConnectionReset.into()),
            };
        }
        let len = left.len().min(buffer.len()).min(most);
        buffer[..len].copy_from_slice(&left[..len]);
        // A short read means that the queue was empty: the rest arrives later
        // and is reported.
        self.armed |= len < buffer.len();
        Ok(len)
    }
}

impl Read for Scripted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // What was peeked at is there: the kernel does not block on it.
        let most = if self.peeked > 0 {
            self.peeked
        } else {
            self.step()?
        };
        let len = self.copy(buffer, most)?;
        self.read += len;
        self.peeked = self.peeked.saturating_sub(len);
        Ok(len)
    }
}

impl Write for Scripted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        assert_eq!(self.shut, 0, "a write after the FIN");
        let most = self.step()?;
        let room = self
            .fails_after
            .map_or(usize::MAX, |limit| limit - self.output.len());
        if room == 0 {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let len = bytes.len().min(most).min(room);
        self.output.extend(&bytes[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Scripted {
    fn peek(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = self.step()?;
        self.peeked = self.copy(buffer, most)?;
        Ok(self.peeked)
    }

    fn shut_write(&mut self) -> io::Result<()> {
        self.shut += 1;
        Ok(())
    }
}

/// Pumps as the loop would: an event when there is one to report, another
/// turn when the budget has ended the last one.
fn run(half: &mut Half, source: &mut Scripted, sink: &mut Scripted, buffers: &mut Buffers) {
    for _ in 0..100_000 {
        if source.armed {
            source.armed = false;
            half.source_ready(source.read == source.input.len());
        }
        if sink.armed {
            sink.armed = false;
            half.sink_ready();
        }
        let more = half.pump(source, sink, buffers, BLOCK_BYTES);
        if half.is_over() {
            return;
        }
        assert!(
            more || source.armed || sink.armed,
            "stuck: no event will come for {half:?}"
        );
    }
    panic!("never over: {half:?}");
}

fn relay(input: &[u8], ending: Ending, reads: &[Step], writes: &[Step], blocks: usize) -> Scripted {
    let mut buffers = Buffers::new(blocks);
    let mut source = Scripted::source(input, ending, reads);
    let mut sink = Scripted::sink(writes);
    let mut half = Half::new();
    run(&mut half, &mut source, &mut sink, &mut buffers);
    assert!(half.is_flushed());
    sink
}

#[test]
fn a_fin_is_passed_on_after_all_bytes() {
    let sink = relay(b"hello", Ending::Fin, &[], &[], 1);
    assert_eq!((&sink.output[..], sink.shut), (&b"hello"[..], 1));
}

#[test]
fn a_reset_is_not_passed_on_as_a_fin_and_the_bytes_before_it_arrive() {
    let sink = relay(
        b"hello",
        Ending::Reset,
        &[],
        &[Step::Block, Step::Take(2)],
        1,
    );
    assert_eq!((&sink.output[..], sink.shut), (&b"hello"[..], 0));
}

#[test]
fn an_empty_stream_is_a_fin() {
    assert_eq!(relay(b"", Ending::Fin, &[], &[], 0).shut, 1);
}

#[test]
fn nothing_is_read_while_the_sink_is_full() {
    let mut buffers = Buffers::new(1);
    let input = vec![7; 3 * BLOCK_BYTES];
    let mut source = Scripted::source(&input, Ending::Fin, &[]);
    let mut sink = Scripted::sink(&[Step::Take(10), Step::Block]);
    let mut half = Half::new();
    half.source_ready(false);
    assert!(!half.pump(&mut source, &mut sink, &mut buffers, usize::MAX));
    assert_eq!((source.read, sink.output.len()), (BLOCK_BYTES, 10));
    half.source_ready(false);
    assert!(!half.pump(&mut source, &mut sink, &mut buffers, usize::MAX));
    assert_eq!(
        source.read, BLOCK_BYTES,
        "one block is all that a direction may hold"
    );
}

#[test]
fn without_a_block_nothing_is_taken_out_of_the_kernel_that_the_sink_has_not_taken() {
    let mut buffers = Buffers::new(0);
    let mut source = Scripted::source(&[7; 1000], Ending::Fin, &[]);
    let mut sink = Scripted::sink(&[Step::Take(10), Step::Block]);
    let mut half = Half::new();
    half.source_ready(false);
    half.pump(&mut source, &mut sink, &mut buffers, usize::MAX);
    assert_eq!((source.read, sink.output.len()), (10, 10));
    half.sink_ready();
    half.pump(&mut source, &mut sink, &mut buffers, usize::MAX);
    assert_eq!((source.read, sink.output.len()), (1000, 1000));
}

#[test]
fn the_budget_ends_a_turn_and_says_so() {
    let mut buffers = Buffers::new(1);
    let input = vec![7; 3 * BLOCK_BYTES];
    let mut source = Scripted::source(&input, Ending::Fin, &[]);
    let mut sink = Scripted::sink(&[]);
    let mut half = Half::new();
    half.source_ready(false);
    assert!(half.pump(&mut source, &mut sink, &mut buffers, 2 * BLOCK_BYTES));
    assert_eq!(sink.output.len(), 2 * BLOCK_BYTES);
    assert!(!half.pump(&mut source, &mut sink, &mut buffers, 2 * BLOCK_BYTES));
    assert!(half.is_over());
}

#[test]
fn bytes_that_no_sink_has_taken_go_to_the_next_one() {
    let mut buffers = Buffers::new(1);
    let mut source = Scripted::source(b"request", Ending::Fin, &[]);
    let mut dead = Scripted {
        fails_after: Some(0),
        ..Scripted::sink(&[])
    };
    let mut half = Half::new();
    half.source_ready(false);
    half.pump(&mut source, &mut dead, &mut buffers, usize::MAX);
    assert_eq!(half.sink(), Sink::Broken);
    assert!(!half.delivered());
    half.redirect();
    let mut alive = Scripted::sink(&[]);
    run(&mut half, &mut source, &mut alive, &mut buffers);
    assert_eq!((&alive.output[..], alive.shut), (&b"request"[..], 1));
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (1..300_000usize).prop_map(Step::Take),
        2 => (1..5usize).prop_map(Step::Take),
        2 => Just(Step::Block),
        1 => Just(Step::Interrupt),
    ];
    prop::collection::vec(step, 0..40)
}

proptest! {
    /// However reads and writes are cut up, delayed or interrupted, and
    /// whether or not there is memory: every byte, in order, once.
    #[test]
    fn what_comes_out_is_what_went_in(
        len in 0..900_000usize,
        reset in any::<bool>(),
        reads in steps(),
        writes in steps(),
        blocks in 0..2usize,
    ) {
        let input: Vec<u8> = (0..len).map(|n| (n * 31 % 251) as u8).collect();
        let ending = if reset { Ending::Reset } else { Ending::Fin };
        let sink = relay(&input, ending, &reads, &writes, blocks);
        prop_assert!(sink.output == input);
        prop_assert_eq!(sink.shut, u32::from(!reset));
    }

    /// A sink that fails has got a prefix, and no memory is lost with it.
    #[test]
    fn a_sink_that_fails_has_got_a_prefix(
        len in 1..600_000usize,
        fails_after in 0..600_000usize,
        reads in steps(),
        writes in steps(),
        blocks in 0..2usize,
    ) {
        let input: Vec<u8> = (0..len).map(|n| (n * 31 % 251) as u8).collect();
        let mut buffers = Buffers::new(blocks);
        let mut source = Scripted::source(&input, Ending::Fin, &reads);
        let mut sink = Scripted { fails_after: Some(fails_after), ..Scripted::sink(&writes) };
        let mut half = Half::new();
        run(&mut half, &mut source, &mut sink, &mut buffers);
        prop_assert!(input.starts_with(&sink.output));
        prop_assert_eq!(half.sink() == Sink::Broken, fails_after < len);
        prop_assert_eq!(half.delivered(), !sink.output.is_empty());
        half.release(&mut buffers);
        prop_assert_eq!(buffers.has_block(), blocks == 1);
    }
}
