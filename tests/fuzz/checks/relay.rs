//! One direction of a connection between two scripted sockets, against an
//! oracle: what comes out is what went in, or the beginning of it where a sink
//! has failed; it ends as it ended; and neither a block nor a pipe is lost.

use std::fmt;

use arbitrary::Arbitrary;

#[allow(dead_code, reason = "the engine uses all of it")]
#[rustfmt::skip]
#[path = "../../../src/engine/buffers.rs"]
mod buffers;
#[path = "../../../src/engine/ids.rs"]
#[allow(dead_code, reason = "no port is needed")]
mod ids;
#[path = "../../../src/engine/shares.rs"]
#[allow(dead_code, reason = "one app has all")]
mod shares;
#[allow(dead_code, reason = "the engine uses all of it")]
#[rustfmt::skip]
#[path = "../../../src/engine/half.rs"]
mod half;
#[allow(dead_code, reason = "the engine uses all of it")]
#[rustfmt::skip]
#[path = "../../../src/engine/half_state.rs"]
mod half_state;
#[rustfmt::skip]
#[path = "../../../src/engine/half/tests/scripted.rs"]
mod scripted;
#[rustfmt::skip]
#[path = "../../../src/engine/stream.rs"]
mod stream;

use buffers::{BLOCK_BYTES, Buffers};
use half::Half;
use half_state::ShortRead;
use scripted::{Ending, Scripted, Step, run};
use stream::Stream;
use zpa::sys::Pipe;

/// What happens between the two.
#[derive(Arbitrary, Debug)]
pub struct Story {
    len: Len,
    reset: bool,
    /// The sink fails after so many bytes,
    fails_after: Option<Len>,
    /// and another takes its place if it has taken none.
    replaced: bool,
    reads: Vec<Call>,
    writes: Vec<Call>,
    /// Whether there is a block to be had,
    memory: bool,
    /// and whether a pipe.
    pipe: bool,
}

/// A number of bytes: mostly few, because many take long, but up to some more
/// than three reads.
#[derive(Arbitrary, Debug)]
enum Len {
    Few(u8),
    Some(u16),
    Blocks(u8, i8),
}

impl Len {
    fn bytes(&self) -> usize {
        match *self {
            Len::Few(len) => usize::from(len),
            Len::Some(len) => usize::from(len),
            Len::Blocks(blocks, more) => {
                let blocks = usize::from(blocks % 3 + 1) * BLOCK_BYTES;
                blocks.saturating_add_signed(isize::from(more))
            }
        }
    }
}

#[derive(Arbitrary, Debug)]
enum Call {
    TakeFew(u8),
    TakeMany(u32),
    Block,
    Interrupt,
}

impl Call {
    fn step(&self) -> Step {
        match *self {
            Call::TakeFew(len) => Step::Take(usize::from(len)),
            Call::TakeMany(len) => Step::Take(len as usize),
            Call::Block => Step::Block,
            Call::Interrupt => Step::Interrupt,
        }
    }
}

fn steps(calls: &[Call]) -> Vec<Step> {
    calls.iter().map(Call::step).collect()
}

impl Story {
    fn input(&self) -> Vec<u8> {
        (0..self.len.bytes())
            .map(|n| (n * 31 % 251) as u8)
            .collect()
    }

    fn play(&self) {
        let input = self.input();
        let ending = if self.reset {
            Ending::Reset
        } else {
            Ending::Fin
        };
        let mut buffers = Buffers::new(usize::from(self.memory), usize::from(self.pipe));
        let mut source = Scripted::source(&input, ending, &steps(&self.reads));
        let mut sink = Scripted::sink(&steps(&self.writes));
        sink.fails_after = self.fails_after.as_ref().map(Len::bytes);
        let mut half = Half::new();
        run(&mut half, &mut source, &mut sink, &mut buffers);
        if self.replaced && half.sink().is_broken() && half.delivered() == 0 {
            assert_eq!(sink.output, b"");
            sink = Scripted::sink(&steps(&self.writes));
            half.redirect();
            run(&mut half, &mut source, &mut sink, &mut buffers);
        }
        expect(self, &half, &sink, &input);
        half.return_buffers(&mut buffers);
        assert_eq!(buffers.has_block(), self.memory, "a block is lost");
        assert_eq!(buffers.lend_pipe().is_some(), self.pipe, "a pipe is lost");
    }
}

fn expect(story: &Story, half: &Half, sink: &Scripted, input: &[u8]) {
    assert_eq!(half.delivered(), sink.output.len() as u64);
    if half.sink().is_broken() {
        assert_eq!(sink.fails_after, Some(sink.output.len()));
        assert!(input.starts_with(&sink.output), "{}", Differ(input, sink));
        assert_eq!(sink.shut, 0, "a FIN after a failure");
    } else {
        assert!(sink.output == input, "{}", Differ(input, sink));
        assert_eq!(sink.shut, u32::from(!story.reset));
        assert!(half.is_flushed());
    }
}

/// Where the output leaves the input.
struct Differ<'a>(&'a [u8], &'a Scripted);

impl fmt::Display for Differ<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (input, output) = (self.0, &self.1.output);
        let same = input
            .iter()
            .zip(output)
            .take_while(|(one, other)| one == other);
        let (same, of, to) = (same.count(), input.len(), output.len());
        write!(f, "{to} bytes out of {of}, the first {same} of them right")
    }
}

pub fn check(story: Story) {
    story.play();
}
