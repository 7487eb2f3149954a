//! [`JobQueue`]: jobs that a thread does one after another, and that nothing waits for. The thread
//! lives only while there are any.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::supervisor;

/// The jobs, and what does them. Its clones are the same.
pub(super) struct JobQueue<W: Worker>(Arc<Shared<W>>);

/// Does the jobs of a queue.
pub(super) trait Worker: Send + Sync + 'static {
    /// A job.
    type Job: Send;

    /// The name of the thread.
    const THREAD: &'static str;

    /// Does one.
    fn execute(&self, job: Self::Job);

    /// Handles that there is none for now: closes the connection of the thread. No other thread
    /// begins before it returns.
    fn rest(&self);
}

struct Shared<W: Worker> {
    worker: W,
    state: Mutex<State<W::Job>>,
}

struct State<T> {
    waiting: VecDeque<T>,
    has_thread: bool,
}

impl<W: Worker> JobQueue<W> {
    pub(super) fn new(worker: W) -> JobQueue<W> {
        let state = Mutex::new(State {
            waiting: VecDeque::new(),
            has_thread: false,
        });
        JobQueue(Arc::new(Shared { worker, state }))
    }

    /// What does the jobs.
    pub(super) fn worker(&self) -> &W {
        &self.0.worker
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.0.lock().waiting.len()
    }

    /// Has those jobs done that wait after `change`, which may add one, and returns whether it has.
    ///
    /// # Errors
    /// No thread can be started for them. None waits any more.
    pub(super) fn change(
        &self,
        change: impl FnOnce(&mut VecDeque<W::Job>) -> bool,
    ) -> io::Result<bool> {
        let mut state = self.0.lock();
        let is_added = change(&mut state.waiting);
        if is_added && !std::mem::replace(&mut state.has_thread, true) {
            drop(state);
            self.start_thread()?;
        }
        Ok(is_added)
    }

    fn start_thread(&self) -> io::Result<()> {
        let shared = self.0.clone();
        let thread = thread::Builder::new().name(W::THREAD.to_owned());
        let started = thread.spawn(move || {
            while let Some(job) = shared.next() {
                // A panic is logged where it happens.
                let _ = supervisor::catch_panic(|| shared.worker.execute(job));
            }
        });
        started.map(drop).inspect_err(|_| {
            let mut state = self.0.lock();
            state.waiting.clear();
            state.has_thread = false;
        })
    }

    /// Whether there is a thread: jobs that have not been done.
    pub(super) fn has_thread(&self) -> bool {
        self.0.lock().has_thread
    }
}

impl<W: Worker> Clone for JobQueue<W> {
    fn clone(&self) -> JobQueue<W> {
        JobQueue(self.0.clone())
    }
}

impl<W: Worker> Shared<W> {
    /// The next one; if there is none, the thread that asks is one no more. Both under one lock: a
    /// job that comes meanwhile either is the next one, or starts another thread.
    fn next(&self) -> Option<W::Job> {
        let mut state = self.lock();
        let next = state.waiting.pop_front();
        state.has_thread = next.is_some();
        if next.is_none() {
            self.worker.rest();
        }
        next
    }

    fn lock(&self) -> MutexGuard<'_, State<W::Job>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
    use std::sync::mpsc;
    use std::time::Duration;

    use super::super::testing::DEADLINE;
    use super::*;

    /// Notes its jobs, and whether two threads were there at the same time.
    struct Noting {
        done: mpsc::Sender<u64>,
        /// The thread that does them; 0: none.
        busy: AtomicU64,
        is_alone: AtomicBool,
    }

    thread_local!(static THREAD: u64 = {
        static THREADS: AtomicU64 = AtomicU64::new(1);
        THREADS.fetch_add(1, SeqCst)
    });

    impl Worker for Noting {
        type Job = u64;

        const THREAD: &'static str = "test";

        fn execute(&self, job: u64) {
            let this = THREAD.with(|it| *it);
            let before = self.busy.swap(this, SeqCst);
            self.is_alone
                .fetch_and(before == 0 || before == this, SeqCst);
            assert_ne!(job, u64::MAX, "this panic is a test's");
            self.done.send(job).unwrap();
        }

        fn rest(&self) {
            thread::yield_now();
            let before = self.busy.swap(0, SeqCst);
            let is_its_own = before == 0 || before == THREAD.with(|it| *it);
            self.is_alone.fetch_and(is_its_own, SeqCst);
        }
    }

    fn queue() -> (JobQueue<Noting>, mpsc::Receiver<u64>) {
        let (done, jobs) = mpsc::channel();
        let queue = JobQueue::new(Noting {
            done,
            busy: AtomicU64::new(0),
            is_alone: AtomicBool::new(true),
        });
        (queue, jobs)
    }

    fn add(queue: &JobQueue<Noting>, job: u64) {
        let added = queue.change(|waiting| {
            waiting.push_back(job);
            true
        });
        assert!(added.unwrap());
    }

    /// Each comes about when the thread ends for want of one.
    #[test]
    fn no_job_is_lost_and_no_two_threads_work_though_the_thread_ends_again_and_again() {
        let (queue, jobs) = queue();
        for job in 0..20_000 {
            add(&queue, job);
            assert_eq!(jobs.recv_timeout(DEADLINE), Ok(job));
            for _ in 0..job % 50 * 20 {
                std::hint::spin_loop();
            }
        }
        assert!(queue.worker().is_alone.load(SeqCst));
        while queue.has_thread() {
            thread::yield_now();
        }
    }

    #[test]
    fn a_job_that_panics_does_not_keep_the_next_from_being_done() {
        let (queue, jobs) = queue();
        add(&queue, u64::MAX);
        add(&queue, 7);
        assert_eq!(jobs.recv_timeout(DEADLINE), Ok(7));
    }

    #[test]
    fn without_a_new_job_no_thread_is_started() {
        let (queue, jobs) = queue();
        assert!(!queue.change(|_| false).unwrap());
        assert!(!queue.has_thread() && queue.waiting() == 0);
        assert!(jobs.recv_timeout(Duration::ZERO).is_err());
    }
}
