//! Signals: the mask of a thread, and signalfd(2).

use std::io;
use std::marker::PhantomData;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::check;

/// Blocks every signal for this thread, and for those that it starts, until the
/// guard is dropped.
pub fn block_all_signals() -> SignalsBlocked {
    let (mut all, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    // SAFETY: sigfillset initialises the set before anything reads it, and
    // pthread_sigmask writes the old mask, which cannot fail with valid pointers
    // and SIG_SETMASK.
    let before = unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
        before.assume_init()
    };
    SignalsBlocked(before, PhantomData)
}

/// While this lives, its thread receives no signal.
#[must_use = "the signals are let through when it is dropped"]
pub struct SignalsBlocked(libc::sigset_t, PhantomData<*const ()>);

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        // SAFETY: the mask was in force before, and the old one is not asked for.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, std::ptr::null_mut()) };
    }
}

/// The signals that end the program, as a descriptor that becomes readable
/// (signalfd(2)) in place of handlers that interrupt at any point.
pub struct Signals(OwnedFd);

impl Signals {
    /// Blocks SIGTERM and SIGINT for this thread and all that it starts later,
    /// and queues them here. A process that is PID 1 receives no signal that
    /// it neither handles nor blocks, so this also makes them work there.
    ///
    /// # Errors
    /// What `pthread_sigmask` or `signalfd` say.
    pub fn new() -> io::Result<Signals> {
        let mut set = MaybeUninit::uninit();
        // SAFETY: sigemptyset initialises the set before anything reads it,
        // both signal numbers are valid, and the old mask is not asked for.
        let status = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            libc::sigaddset(set.as_mut_ptr(), libc::SIGTERM);
            libc::sigaddset(set.as_mut_ptr(), libc::SIGINT);
            libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut())
        };
        if status != 0 {
            return Err(io::Error::from_raw_os_error(status));
        }
        // SAFETY: the set is initialised; -1 asks for a new descriptor.
        let fd = check(unsafe {
            libc::signalfd(-1, set.as_ptr(), libc::SFD_NONBLOCK | libc::SFD_CLOEXEC)
        })?;
        // SAFETY: signalfd has just returned this descriptor, so nobody else
        // owns it.
        Ok(Signals(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The next signal that has arrived, if any, by its name.
    pub fn next(&self) -> Option<&'static str> {
        const SIZE: usize = size_of::<libc::signalfd_siginfo>();
        let mut info = MaybeUninit::<libc::signalfd_siginfo>::uninit();
        // SAFETY: the buffer is SIZE bytes long and outlives the call.
        let read = unsafe { libc::read(self.0.as_raw_fd(), info.as_mut_ptr().cast(), SIZE) };
        if usize::try_from(read) != Ok(SIZE) {
            return None;
        }
        // SAFETY: the kernel has filled the whole structure, which is plain
        // integers.
        let number = unsafe { info.assume_init() }.ssi_signo;
        Some(if number == libc::SIGINT as u32 {
            "SIGINT"
        } else {
            "SIGTERM"
        })
    }
}

impl AsRawFd for Signals {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
