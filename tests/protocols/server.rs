//! Servers of Debian's packages, as they run in the pods of a sandbox.

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use support::sandbox::{PodProgram, Program};

/// The user and the group `nobody`: root runs servers as that one.
const NOBODY: u32 = 65_534;

/// A directory for what a server keeps, as its volume; removed when dropped.
pub struct Volume(PathBuf);

impl Volume {
    pub fn new() -> Volume {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("zpa-protocols-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("a new directory");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        give_away(&path);
        Volume(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file that its owner alone may read, as keys have to be.
    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        give_away(&path);
        path
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub fn is_root() -> bool {
    // SAFETY: the call has no arguments and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

fn give_away(path: &Path) {
    if is_root() {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

/// Where a program is: in the path, or where Debian puts what only servers need.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = ["/usr/sbin", "/usr/bin"].map(PathBuf::from).into();
    if let Ok(versions) = fs::read_dir("/usr/lib/postgresql") {
        places.extend(versions.flatten().map(|it| it.path().join("bin")));
    }
    places.extend(std::env::split_paths(&path));
    let mut found = places.iter().map(|place| place.join(name));
    found.find(|path| path.is_file())
}

/// Whether all of these are installed; says so if one is not.
pub fn are_there(programs: &[&str]) -> bool {
    let missing = programs.iter().find(|name| find(name).is_none());
    if let Some(missing) = missing {
        support::skip_without(missing);
    }
    missing.is_none()
}

/// Whether Debian's Python has these modules; says so if it has not.
pub fn has_python(module: &str) -> bool {
    let run = python().args(["-c", &format!("import {module}")]).output();
    let is_there = run.is_ok_and(|output| output.status.success());
    if !is_there {
        support::skip_without(&format!("{module} of Debian's Python"));
    }
    is_there
}

/// Debian's own Python, which has the modules of its packages.
pub fn python() -> Command {
    Command::new("/usr/bin/python3")
}

/// A program, as the user who runs the test.
pub fn own_command(name: &str) -> Command {
    let path = find(name).unwrap_or_else(|| name.into());
    let mut command = Command::new(path);
    command.env("LC_ALL", "C.UTF-8");
    command
}

/// A program, as `nobody` if root runs the test.
pub fn command(name: &str) -> Command {
    unprivileged(own_command(name))
}

/// The same program, as `nobody` if root runs the test, in a directory that nobody may
/// read.
pub fn unprivileged(mut command: Command) -> Command {
    command.current_dir("/");
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

type Start = dyn Fn(&Volume, &[SocketAddr]) -> Command + Send + Sync;
type Probe = dyn Fn(SocketAddr) -> bool + Send + Sync;

/// A server with its volume, which outlives its pods.
pub struct Server {
    volume: Volume,
    start: Box<Start>,
    probe: Option<Box<Probe>>,
    stop_signal: i32,
}

impl Server {
    /// One that `start` runs, and that is ready once it accepts.
    pub fn new(
        volume: Volume,
        start: impl Fn(&Volume, &[SocketAddr]) -> Command + Send + Sync + 'static,
    ) -> Server {
        Server {
            volume,
            start: Box::new(start),
            probe: None,
            stop_signal: libc::SIGTERM,
        }
    }

    /// With a probe of its own.
    pub fn ready_if(mut self, probe: impl Fn(SocketAddr) -> bool + Send + Sync + 'static) -> Self {
        self.probe = Some(Box::new(probe));
        self
    }

    pub fn stopped_by(mut self, signal: i32) -> Self {
        self.stop_signal = signal;
        self
    }

    /// The file with all that it prints.
    pub fn log(&self) -> PathBuf {
        self.volume.path("log")
    }

    pub fn app(self) -> PodProgram {
        PodProgram::Program(Arc::new(self))
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server of {:?}", self.volume.0)
    }
}

impl Program for Server {
    fn command(&self, at: &[SocketAddr]) -> Command {
        let mut command = (self.start)(&self.volume, at);
        let log = || {
            let mut options = fs::File::options();
            options.create(true).append(true).open(self.log())
        };
        match (log(), log()) {
            (Ok(out), Ok(err)) => command.stdout(out).stderr(err),
            _ => command.stdout(Stdio::null()).stderr(Stdio::null()),
        };
        command
    }

    fn is_ready(&self, at: SocketAddr) -> bool {
        match &self.probe {
            Some(probe) => probe(at),
            None => std::net::TcpStream::connect(at).is_ok(),
        }
    }

    fn stop_signal(&self) -> i32 {
        self.stop_signal
    }
}

/// A server beside the proxy, such as a client's pool, until dropped.
pub struct Beside(Child);

impl Beside {
    /// Starts it, and waits until it accepts at `at`.
    pub fn start(mut command: Command, at: SocketAddr) -> Beside {
        let command = command.stdin(Stdio::null()).stdout(Stdio::null());
        // So that what it starts itself, as nginx does, ends with it.
        command.process_group(0);
        let mut beside = Beside(command.stderr(Stdio::null()).spawn().expect("it runs"));
        while std::net::TcpStream::connect(at).is_err() {
            let ended = beside.0.try_wait().unwrap();
            assert!(ended.is_none(), "{command:?} has ended: {ended:?}");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        beside
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if let Ok(group) = i32::try_from(self.0.id()) {
            // SAFETY: the call takes numbers alone; the group's leader was started here and
            // has not been waited for.
            unsafe { libc::kill(-group, libc::SIGKILL) };
        }
        let _ = self.0.wait();
    }
}
