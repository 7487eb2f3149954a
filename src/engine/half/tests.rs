//! A half between two scripted sockets, against an oracle: what comes out is
//! what went in, and it ends as it ended.

use proptest::prelude::*;

use super::*;

mod scripted;

use scripted::{Ending, Scripted, Step, run};

fn relay(input: &[u8], ending: Ending, reads: &[Step], writes: &[Step], blocks: usize) -> Scripted {
    relay_with(input, ending, reads, writes, Buffers::new(blocks, 0))
}

fn relay_with(
    input: &[u8],
    ending: Ending,
    reads: &[Step],
    writes: &[Step],
    mut buffers: Buffers,
) -> Scripted {
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
    let mut buffers = Buffers::new(1, 0);
    let input = vec![7; 3 * BLOCK_BYTES];
    let mut source = Scripted::source(&input, Ending::Fin, &[]);
    let mut sink = Scripted::sink(&[Step::Take(10), Step::Block]);
    let mut half = Half::new();
    half.handle_readable(ShortRead::EmptiesQueue);
    half.pump(&mut source, &mut sink, &mut buffers, usize::MAX);
    assert_eq!((source.read, sink.output.len()), (BLOCK_BYTES, 10));
    half.handle_readable(ShortRead::EmptiesQueue);
    half.pump(&mut source, &mut sink, &mut buffers, usize::MAX);
    assert_eq!(
        source.read, BLOCK_BYTES,
        "one block is all that a direction may hold"
    );
}

#[test]
fn without_a_block_nothing_is_taken_out_of_the_kernel_that_the_sink_has_not_taken() {
    let mut buffers = Buffers::new(0, 0);
    let mut source = Scripted::source(&[7; 1000], Ending::Fin, &[]);
    let mut sink = Scripted::sink(&[Step::Take(10), Step::Block]);
    let mut half = Half::new();
    half.handle_readable(ShortRead::EmptiesQueue);
    half.pump(&mut source, &mut sink, &mut buffers, usize::MAX);
    assert_eq!((source.read, sink.output.len()), (10, 10));
    half.handle_writable();
    half.pump(&mut source, &mut sink, &mut buffers, usize::MAX);
    assert_eq!((source.read, sink.output.len()), (1000, 1000));
}

#[test]
fn the_budget_ends_a_turn_and_says_so() {
    let mut buffers = Buffers::new(1, 0);
    let input = vec![7; 3 * BLOCK_BYTES];
    let mut source = Scripted::source(&input, Ending::Fin, &[]);
    let mut sink = Scripted::sink(&[]);
    let mut half = Half::new();
    half.handle_readable(ShortRead::EmptiesQueue);
    let mut turn = |budget| half.pump(&mut source, &mut sink, &mut buffers, budget);
    let (bytes, more) = (2 * BLOCK_BYTES, true);
    assert_eq!(turn(2 * BLOCK_BYTES), Moved { bytes, more });
    let (bytes, more) = (BLOCK_BYTES - 1, true);
    assert_eq!(turn(BLOCK_BYTES - 1), Moved { bytes, more });
    let (bytes, more) = (1, false);
    assert_eq!(turn(2 * BLOCK_BYTES), Moved { bytes, more });
    assert_eq!(sink.output, input);
}

#[test]
fn bytes_that_no_sink_has_taken_go_to_the_next_one() {
    let mut buffers = Buffers::new(1, 0);
    let mut source = Scripted::source(b"request", Ending::Fin, &[]);
    let mut dead = Scripted {
        fails_after: Some(0),
        ..Scripted::sink(&[])
    };
    let mut half = Half::new();
    half.handle_readable(ShortRead::EmptiesQueue);
    half.pump(&mut source, &mut dead, &mut buffers, usize::MAX);
    assert!(half.sink().is_broken());
    assert_eq!(half.delivered(), 0);
    half.redirect();
    let mut alive = Scripted::sink(&[]);
    run(&mut half, &mut source, &mut alive, &mut buffers);
    assert_eq!((&alive.output[..], alive.shut), (&b"request"[..], 1));
}

/// A half that has become bulk, its source and its sink.
fn bulk(buffers: &mut Buffers, input: &[u8], writes: &[Step]) -> (Half, Scripted, Scripted) {
    let mut source = Scripted::source(input, Ending::Fin, &[]);
    let mut sink = Scripted::sink(&[]);
    let mut half = Half::new();
    half.handle_readable(ShortRead::EmptiesQueue);
    half.pump(&mut source, &mut sink, buffers, BLOCK_BYTES);
    assert!(half.is_bulk() && buffers.spare_pipes() == 0);
    sink.steps.extend(writes);
    (half, source, sink)
}

#[test]
fn bulk_is_spliced_after_a_large_read() {
    let mut buffers = Buffers::new(1, 1);
    let input = vec![7; 5 * BLOCK_BYTES];
    let (mut half, mut source, mut sink) = bulk(&mut buffers, &input, &[]);
    run(&mut half, &mut source, &mut sink, &mut buffers);
    assert_eq!(buffers.spare_pipes(), 1);
    assert_eq!((sink.output, sink.shut), (input, 1));
}

#[test]
fn a_pipe_is_lent_while_bytes_are_in_it_and_nothing_is_read_meanwhile() {
    let mut buffers = Buffers::new(1, 1);
    let input = vec![7; 5 * BLOCK_BYTES];
    let (mut half, mut source, mut sink) =
        bulk(&mut buffers, &input, &[Step::Take(10), Step::Block]);
    half.pump(&mut source, &mut sink, &mut buffers, BLOCK_BYTES);
    assert!(!half.is_flushed() && buffers.lend_pipe().is_none());
    let read = source.read;
    half.handle_readable(ShortRead::EmptiesQueue);
    half.pump(&mut source, &mut sink, &mut buffers, BLOCK_BYTES);
    assert_eq!(source.read, read);
    half.handle_writable();
    run(&mut half, &mut source, &mut sink, &mut buffers);
    assert_eq!(sink.output, input);
    assert!(buffers.lend_pipe().is_some());
}

#[test]
fn bulk_that_runs_dry_is_copied_again() {
    let mut buffers = Buffers::new(1, 1);
    let input = vec![7; 2 * BLOCK_BYTES];
    let (mut half, mut source, mut sink) = bulk(&mut buffers, &input, &[]);
    let piece = [Step::Take(SMALL_SPLICE_BYTES - 1), Step::Block];
    for (label, is_bulk) in [("one", true), ("two", true), ("three", false)] {
        source.steps = piece.into();
        half.handle_readable(ShortRead::EmptiesQueue);
        half.pump(&mut source, &mut sink, &mut buffers, BLOCK_BYTES);
        assert_eq!(half.is_bulk(), is_bulk, "{label} small pieces in a row");
    }
}

#[test]
fn bulk_whose_sender_pauses_now_and_then_is_spliced_all_the_time() {
    let mut buffers = Buffers::new(1, 1);
    let input = vec![7; 4 * BLOCK_BYTES];
    let (mut half, mut source, mut sink) = bulk(&mut buffers, &input, &[]);
    for len in [
        100,
        100,
        SMALL_SPLICE_BYTES,
        100,
        100,
        SMALL_SPLICE_BYTES,
        100,
        100,
    ] {
        source.steps = [Step::Take(len), Step::Block].into();
        half.handle_readable(ShortRead::EmptiesQueue);
        half.pump(&mut source, &mut sink, &mut buffers, BLOCK_BYTES);
        assert!(half.is_bulk(), "after a piece of {len}");
    }
}

#[test]
fn a_budget_for_a_whole_pipe_is_not_cut_to_the_byte() {
    let mut buffers = Buffers::new(1, 1);
    let input = vec![7; 12 * BLOCK_BYTES];
    let (mut half, mut source, mut sink) = bulk(&mut buffers, &input, &[]);
    let pipe = buffers.lend_pipe().unwrap();
    let budget = pipe.capacity() as usize + 100;
    buffers.give_back_pipe(pipe);
    let moved = half.pump(&mut source, &mut sink, &mut buffers, budget);
    let (bytes, more) = (2 * (budget - 100), true);
    assert_eq!(moved, Moved { bytes, more });
    assert!(half.is_bulk());
}

#[test]
fn a_budget_for_less_than_a_pipe_is_kept_to_the_byte_and_its_end_is_no_drought() {
    let mut buffers = Buffers::new(1, 1);
    let input = vec![7; 4 * BLOCK_BYTES];
    let (mut half, mut source, mut sink) = bulk(&mut buffers, &input, &[]);
    for budget in [10, 20, 30, 40] {
        let moved = half.pump(&mut source, &mut sink, &mut buffers, budget);
        assert_eq!((moved.bytes, moved.more), (budget, true));
        assert!(half.is_bulk());
    }
}

#[test]
fn where_splicing_is_not_allowed_bulk_is_copied() {
    let mut buffers = Buffers::new(1, 1);
    let input = vec![7; 9 * BLOCK_BYTES];
    let (mut half, mut source, mut sink) = bulk(&mut buffers, &input, &[]);
    source.splices = false;
    run(&mut half, &mut source, &mut sink, &mut buffers);
    assert!(sink.output == input, "every byte is there");
    assert_eq!((half.source(), sink.shut), (Source::Ended, 1));
}

#[test]
fn before_urgent_data_bulk_is_copied_since_the_kernel_does_not_splice_it() {
    let mut buffers = Buffers::new(1, 1);
    let input = vec![7; 5 * BLOCK_BYTES];
    let (mut half, mut source, mut sink) = bulk(&mut buffers, &input, &[]);
    half.handle_readable(ShortRead::MayLeaveMore);
    assert!(!half.is_bulk());
    run(&mut half, &mut source, &mut sink, &mut buffers);
    assert_eq!((sink.output, buffers.spare_pipes()), (input, 0));
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
        pipes in 0..2usize,
    ) {
        let input: Vec<u8> = (0..len).map(|n| (n * 31 % 251) as u8).collect();
        let ending = if reset { Ending::Reset } else { Ending::Fin };
        let buffers = Buffers::new(blocks, pipes);
        let sink = relay_with(&input, ending, &reads, &writes, buffers);
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
        pipes in 0..2usize,
    ) {
        let input: Vec<u8> = (0..len).map(|n| (n * 31 % 251) as u8).collect();
        let mut buffers = Buffers::new(blocks, pipes);
        let mut source = Scripted::source(&input, Ending::Fin, &reads);
        let mut sink = Scripted { fails_after: Some(fails_after), ..Scripted::sink(&writes) };
        let mut half = Half::new();
        run(&mut half, &mut source, &mut sink, &mut buffers);
        prop_assert!(input.starts_with(&sink.output));
        prop_assert_eq!(half.sink().is_broken(), fails_after < len);
        prop_assert_eq!(half.delivered(), sink.output.len() as u64);
        half.return_buffers(&mut buffers);
        prop_assert_eq!(buffers.has_block(), blocks == 1);
        prop_assert_eq!(buffers.lend_pipe().is_some(), pipes == 1);
    }
}
