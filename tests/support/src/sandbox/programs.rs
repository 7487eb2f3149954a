//! Real servers in pods: processes, as a kubelet runs them.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::acceptor::Threads;

/// How often a process is looked at.
pub const LOOK_PAUSE: Duration = Duration::from_millis(5);

/// How long a process that ended by itself stays away: one that cannot start as long as
/// its predecessor holds a lock is tried again.
const RESTART_PAUSE: Duration = Duration::from_millis(50);

/// How long a process may take to end before it is killed.
const GRACE: Duration = Duration::from_secs(5);

/// A server that is a program of its own.
pub trait Program: fmt::Debug + Send + Sync {
    /// The command that runs it in the foreground, to listen at these addresses: that of
    /// the pod's first port, and those of its others.
    fn command(&self, at: &[SocketAddr]) -> Command;

    /// Whether it serves: what a readiness probe finds. Called again and again from its
    /// start on.
    fn is_ready(&self, at: SocketAddr) -> bool {
        TcpStream::connect(at).is_ok()
    }

    /// The signal with which it is asked to end, as the `STOPSIGNAL` of its image.
    fn stop_signal(&self) -> i32 {
        libc::SIGTERM
    }
}

/// A program that runs in one pod, until this is dropped.
pub struct Running {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    ready: AtomicBool,
    stopping: AtomicBool,
    ended: AtomicBool,
}

impl Running {
    /// Starts it, on a thread that looks after it until it has ended.
    pub fn start(program: Arc<dyn Program>, at: Vec<SocketAddr>, threads: &Threads) -> Running {
        let shared = Arc::new(Shared::default());
        let keeper = Keeper {
            program,
            at,
            shared: shared.clone(),
        };
        threads.spawn("program", move || keeper.run());
        Running { shared }
    }

    /// Whether it has been found ready.
    pub fn is_ready(&self) -> bool {
        self.shared.ready.load(Ordering::SeqCst)
    }

    /// Has it end; tells whether it has.
    pub fn end(&self) -> bool {
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.shared.ended.load(Ordering::SeqCst)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// What one thread does with a program, as a kubelet: starts it, probes it, starts it
/// again, ends it.
struct Keeper {
    program: Arc<dyn Program>,
    at: Vec<SocketAddr>,
    shared: Arc<Shared>,
}

impl Keeper {
    fn run(&self) {
        while !self.is_stopping() {
            match self.spawn() {
                Ok(child) => self.look_after(child),
                Err(cause) => eprintln!("sandbox: {:?} does not start: {cause}", self.program),
            }
            if !self.is_stopping() {
                thread::sleep(RESTART_PAUSE);
            }
        }
        self.shared.ended.store(true, Ordering::SeqCst);
    }

    fn is_stopping(&self) -> bool {
        self.shared.stopping.load(Ordering::SeqCst)
    }

    /// It leads a group of its own, so that its children end with it, and does not outlive
    /// this process, however that ends.
    fn spawn(&self) -> io::Result<Child> {
        let mut command = self.program.command(&self.at);
        command.stdin(Stdio::null()).process_group(0);
        // SAFETY: prctl is safe to call between fork and exec, and takes no memory of ours.
        unsafe {
            command.pre_exec(
                || match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                    0 => Ok(()),
                    _ => Err(io::Error::last_os_error()),
                },
            );
        }
        command.spawn()
    }

    fn look_after(&self, mut child: Child) {
        while !self.is_stopping() {
            if has_ended(&mut child) {
                self.shared.ready.store(false, Ordering::SeqCst);
                return;
            }
            if !self.shared.ready.load(Ordering::SeqCst) && self.program.is_ready(self.at[0]) {
                self.shared.ready.store(true, Ordering::SeqCst);
            }
            thread::sleep(LOOK_PAUSE);
        }
        self.end(child);
    }

    fn end(&self, mut child: Child) {
        let Ok(id) = i32::try_from(child.id()) else {
            return;
        };
        let deadline = Instant::now() + GRACE;
        send(id, self.program.stop_signal());
        while !has_ended(&mut child) && Instant::now() < deadline {
            thread::sleep(LOOK_PAUSE);
        }
        send(-id, libc::SIGKILL);
        let _ = child.wait();
    }
}

fn has_ended(child: &mut Child) -> bool {
    matches!(child.try_wait(), Ok(Some(_)) | Err(_))
}

/// Sends a signal to a process, or to a group whose number is negative.
fn send(id: i32, signal: i32) {
    // SAFETY: the call takes numbers alone; the process was started here. Of a group whose
    // leader has been waited for, the number stays taken as long as there is a member.
    unsafe { libc::kill(id, signal) };
}
