//! [`Buffers`]: the memory that relayed bytes pass through: one scratch buffer for every read, a
//! bounded pool of blocks for bytes that the sink does not take at once, and a bounded pool of
//! pipes for bulk, which is spliced.

use std::io;
use std::time::Duration;

use log::info;

use super::ids::AppId;
use super::shares::Shares;
use crate::clock::Time;
use crate::sys::Pipe;

/// The most bytes that one read takes, and the size of a block, which must hold what is
/// left of one read. Compared with 64 KiB, a bulk stream was 41 % faster and took a third
/// less processor time per byte.
pub const BLOCK_BYTES: usize = 256 * 1024;

/// The most blocks in use at once: 8 MiB. When all are in use, directions with a slow
/// receiver leave their bytes in the kernel: none waits for a block.
pub const MAX_BLOCKS: usize = 32;

/// The most unused blocks that are kept.
const SPARE_BLOCKS: usize = 2;

/// The capacity of a pipe in bytes: the most that an unprivileged user gets
/// (`/proc/sys/fs/pipe-max-size`, proc(5)).
pub const PIPE_BYTES: usize = 1024 * 1024;

/// The most pipes: half of what one user gets before the kernel makes pipes of one page
/// only (`pipe-user-pages-soft`, 64 MiB).
pub const MAX_PIPES: usize = 32;

/// A pipe that was not used for this time is closed, and after a refusal the kernel is
/// asked for another one only after this time: its limit holds for all containers of a
/// node that run as the same user (`pipe-user-pages-soft`).
const PIPE_PERIOD: Duration = Duration::from_secs(60);

/// The least capacity of a pipe that is worth two system calls.
const MIN_PIPE_BYTES: u32 = 64 * 1024;

/// A block of memory from the pool.
pub type Block = Box<[u8; BLOCK_BYTES]>;

/// The scratch buffer and the pools.
pub struct Buffers {
    /// The buffer of every read. No bytes stay in it between two reads.
    pub scratch: Block,
    spare: Vec<Block>,
    /// The app whose connection borrows and gives back.
    app: AppId,
    /// The blocks that are in use.
    blocks: Shares,
    /// The pipes that are lent.
    lent_pipes: Shares,
    /// Empty pipes that are not lent.
    spare_pipes: Vec<Pipe>,
    /// The number of all pipes, lent or spare.
    pipes: usize,
    max_pipes: usize,
    /// The least number of spare pipes in this period: so many are closed at its end.
    least_spare: usize,
    /// When the period ends; `None` while no pipe is spare.
    period_ends: Option<Time>,
    /// Until when the kernel is not asked for another pipe.
    refused_until: Option<Time>,
    /// Whether a refusal of the kernel was logged.
    refusal_logged: bool,
    now: Time,
    make_pipe: fn() -> io::Result<Pipe>,
}

impl Buffers {
    /// A scratch buffer and empty pools that grow to `max_blocks` and
    /// `max_pipes`.
    pub fn new(max_blocks: usize, max_pipes: usize) -> Self {
        Buffers {
            scratch: new_block(),
            spare: Vec::new(),
            app: AppId::default(),
            blocks: Shares::new(max_blocks),
            lent_pipes: Shares::new(max_pipes),
            spare_pipes: Vec::new(),
            pipes: 0,
            max_pipes,
            least_spare: 0,
            period_ends: None,
            refused_until: None,
            refusal_logged: false,
            now: Time::default(),
            make_pipe,
        }
    }

    /// Divides the pools among so many apps.
    pub fn set_apps(&mut self, apps: usize) {
        self.blocks.set_apps(apps);
        self.lent_pipes.set_apps(apps);
    }

    /// Sets the app whose connection borrows and gives back next.
    pub fn set_app(&mut self, app: AppId) {
        self.app = app;
    }

    /// When [`Buffers::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.period_ends
    }

    /// Sets the time, and closes the pipes that were not used for a period.
    pub fn handle_timeout(&mut self, now: Time) {
        self.now = now;
        if self.period_ends.is_some_and(|end| now >= end) {
            self.pipes -= self.least_spare;
            self.spare_pipes.drain(..self.least_spare);
            self.period_ends = None;
        }
        if self.period_ends.is_none() && !self.spare_pipes.is_empty() {
            self.least_spare = self.spare_pipes.len();
            self.period_ends = Some(now + PIPE_PERIOD);
        }
    }

    /// Whether [`Buffers::keep`] may be called.
    pub fn has_block(&self) -> bool {
        self.blocks.has_room(self.app)
    }

    /// Copies the first `len` bytes of the scratch buffer into a block. The caller must
    /// have checked [`Buffers::has_block`] before its read.
    pub fn keep(&mut self, len: usize) -> Block {
        debug_assert!(self.has_block(), "a read without a block to fall back on");
        self.blocks.take(self.app);
        let mut block = self.spare.pop().unwrap_or_else(new_block);
        block[..len].copy_from_slice(&self.scratch[..len]);
        block
    }

    /// Returns a block to the pool.
    pub fn give_back(&mut self, block: Block) {
        self.blocks.give_back(self.app);
        if self.spare.len() < SPARE_BLOCKS {
            self.spare.push(block);
        }
    }

    /// Lends an empty pipe; `None` if the limit is reached or the kernel refuses.
    pub fn lend_pipe(&mut self) -> Option<Pipe> {
        if !self.lent_pipes.has_room(self.app) {
            return None;
        }
        let pipe = self.spare_pipes.pop();
        self.least_spare = self.least_spare.min(self.spare_pipes.len());
        let pipe = pipe.or_else(|| self.new_pipe())?;
        self.lent_pipes.take(self.app);
        Some(pipe)
    }

    /// Returns an empty pipe to the pool.
    pub fn give_back_pipe(&mut self, pipe: Pipe) {
        self.lent_pipes.give_back(self.app);
        self.spare_pipes.push(pipe);
    }

    /// How many pipes are there that nobody uses.
    #[cfg(test)]
    pub fn spare_pipes(&self) -> usize {
        self.spare_pipes.len()
    }

    /// How many pipes are lent.
    #[cfg(test)]
    pub fn lent_pipes(&self) -> usize {
        self.pipes - self.spare_pipes.len()
    }

    /// Closes a pipe that still holds bytes.
    pub fn discard_pipe(&mut self, pipe: Pipe) {
        drop(pipe);
        self.lent_pipes.give_back(self.app);
        self.pipes -= 1;
    }

    fn new_pipe(&mut self) -> Option<Pipe> {
        if self.pipes == self.max_pipes || self.refused_until.is_some_and(|at| self.now < at) {
            return None;
        }
        match (self.make_pipe)() {
            Ok(pipe) => {
                self.pipes += 1;
                self.refused_until = None;
                self.refusal_logged = false;
                Some(pipe)
            }
            // Descriptors may be free again soon: no pause.
            Err(why) if is_out_of_descriptors(&why) => None,
            Err(why) => {
                self.refuse_pipes(&why);
                None
            }
        }
    }

    fn refuse_pipes(&mut self, why: &io::Error) {
        self.refused_until = Some(self.now + PIPE_PERIOD);
        if !std::mem::replace(&mut self.refusal_logged, true) {
            let pipes = self.pipes;
            info!("bulk passes through {pipes} pipes and no more for now: {why}");
        }
    }
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

fn make_pipe() -> io::Result<Pipe> {
    let pipe = Pipe::new(PIPE_BYTES as u32)?;
    match pipe.capacity() {
        MIN_PIPE_BYTES.. => Ok(pipe),
        less => Err(io::Error::other(format!(
            "the kernel gives this user pipes of {less} bytes only (pipe-user-pages-soft)"
        ))),
    }
}

/// A zeroed block, made on the heap so that it never passes over the stack.
fn new_block() -> Block {
    match vec![0; BLOCK_BYTES].into_boxed_slice().try_into() {
        Ok(block) => block,
        Err(_) => unreachable!("the slice has BLOCK_BYTES bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_ends_at_its_limit_and_takes_blocks_back() {
        let mut buffers = Buffers::new(2, 0);
        buffers.scratch[..3].copy_from_slice(b"abc");
        let first = buffers.keep(3);
        let second = buffers.keep(1);
        assert_eq!(&first[..3], b"abc");
        assert!(!buffers.has_block());
        buffers.give_back(first);
        assert!(buffers.has_block());
        buffers.give_back(second);
        assert!(buffers.has_block());
    }

    #[test]
    fn there_are_so_many_pipes_and_one_that_is_not_empty_is_replaced() {
        let mut buffers = Buffers::new(0, 2);
        let first = buffers.lend_pipe().unwrap();
        let second = buffers.lend_pipe().unwrap();
        assert!(buffers.lend_pipe().is_none());
        buffers.give_back_pipe(first);
        let first = buffers.lend_pipe().unwrap();
        buffers.discard_pipe(second);
        assert!(buffers.lend_pipe().is_some());
        assert!(buffers.lend_pipe().is_none());
        drop(first);
    }

    fn at(seconds: u64) -> Time {
        Time::new(Duration::from_secs(seconds))
    }

    #[test]
    fn pipes_that_nobody_has_used_for_a_minute_are_closed() {
        let mut buffers = Buffers::new(0, 8);
        buffers.handle_timeout(at(0));
        assert_eq!(buffers.poll_timeout(), None, "there is none");
        let lent: Vec<Pipe> = (0..4).map(|_| buffers.lend_pipe().unwrap()).collect();
        lent.into_iter()
            .for_each(|pipe| buffers.give_back_pipe(pipe));
        for (label, seconds, used, spare) in [
            ("the period begins", 1, 0, 4),
            ("three are used in it", 30, 3, 4),
            ("just before its end", 60, 0, 4),
            ("one was never used", 61, 0, 3),
            ("one is used in the next", 90, 1, 3),
            ("two were not", 121, 0, 1),
            ("nor was the last", 181, 0, 0),
        ] {
            buffers.handle_timeout(at(seconds));
            let lent: Vec<Pipe> = (0..used).map(|_| buffers.lend_pipe().unwrap()).collect();
            lent.into_iter()
                .for_each(|pipe| buffers.give_back_pipe(pipe));
            assert_eq!(
                (buffers.spare_pipes(), buffers.pipes),
                (spare, spare),
                "{label}"
            );
        }
        assert_eq!(buffers.poll_timeout(), None, "and nobody is woken any more");
        assert!(buffers.lend_pipe().is_some());
    }

    #[test]
    fn a_kernel_that_refuses_a_pipe_is_asked_again_after_a_minute() {
        let mut buffers = Buffers::new(0, 8);
        buffers.handle_timeout(at(100));
        let first = buffers.lend_pipe().unwrap();
        buffers.make_pipe = || Err(io::Error::from_raw_os_error(libc::EPERM));
        assert!(buffers.lend_pipe().is_none());
        buffers.make_pipe = make_pipe;
        buffers.handle_timeout(at(159));
        assert!(buffers.lend_pipe().is_none(), "it is left alone");
        buffers.give_back_pipe(first);
        assert!(buffers.lend_pipe().is_some(), "what is there is used");
        buffers.handle_timeout(at(160));
        assert!(buffers.lend_pipe().is_some());
    }
}
