//! Network namespaces that exist as long as their descriptor.
//!
//! They have no name in the file system, only a descriptor: whatever becomes of
//! this process, the kernel takes them back, and with them every interface,
//! address and rule that is inside.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::panic;
use std::process::Command;
use std::thread;

/// A network of its own: interfaces, addresses, routes, rules and sockets.
pub struct Namespace(File);

impl Namespace {
    /// An empty one, with its loopback up.
    ///
    /// # Errors
    /// What unshare(2) says, which is EPERM to whoever is not root.
    pub fn new() -> io::Result<Namespace> {
        let made = thread::spawn(|| {
            // SAFETY: the call takes no pointer, and with this flag it concerns
            // the calling thread alone, which ends right after it.
            check(unsafe { libc::unshare(libc::CLONE_NEWNET) })?;
            File::open("/proc/thread-self/ns/net").map(Namespace)
        });
        let namespace = made.join().expect("a thread that does not panic")?;
        namespace.run("ip", "link set lo up")?;
        Ok(namespace)
    }

    /// Does `work` in it. Sockets that `work` opens, threads that it starts and
    /// processes that it spawns belong to it for good.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let entered = thread::scope(|scope| {
            let inside = scope.spawn(|| {
                // SAFETY: the descriptor is open, and the call takes no pointer.
                let status = unsafe { libc::setns(self.0.as_raw_fd(), libc::CLONE_NEWNET) };
                check(status).expect("whoever has made a namespace may enter it");
                work()
            });
            inside.join()
        });
        entered.unwrap_or_else(|why| panic::resume_unwind(why))
    }

    /// Runs a program in it, with arguments that have no spaces, and returns
    /// what it has printed.
    ///
    /// # Errors
    /// What the program says, or that it is not there.
    pub fn run(&self, program: &str, arguments: &str) -> io::Result<String> {
        let mut command = Command::new(program);
        command.args(arguments.split_whitespace());
        let output = self.enter(|| command.output());
        let output = output.map_err(|e| io::Error::new(e.kind(), format!("{program}: {e}")))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let why = format!("{program} {arguments}: {}", said.trim());
            return Err(io::Error::other(why));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Sets a variable of its kernel, by its path below `/proc/sys/net`.
    ///
    /// # Errors
    /// What the kernel says to the value.
    pub fn set(&self, (variable, value): (&str, &str)) -> io::Result<()> {
        let path = format!("/proc/sys/net/{variable}");
        self.enter(|| fs::write(path, value))
    }

    /// Where other processes find it as long as it is held.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }
}

fn check(status: libc::c_int) -> io::Result<()> {
    if status == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
