//! The other proxies, each with one thread, as their packages install them.

use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use support::process::Process;

use super::Proxy;
use super::configuration::{Capacity, Site, command, nginx_has_streams, output};
use crate::Result;
use crate::load;

/// How long one may take until it serves: in an emulated machine, long.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What there is to compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    HaProxy,
    /// HAProxy that splices whatever passes, through the largest pipes that
    /// an unprivileged process may have.
    HaProxyTuned,
    /// nginx's stream module.
    Nginx,
    /// A process for each connection.
    Socat,
}

/// One that is not there.
#[derive(Debug)]
pub struct Missing {
    pub kind: Kind,
    pub why: &'static str,
}

/// What has become of a start.
pub enum Started {
    Serving(OtherProxy),
    Missing(Missing),
}

impl Kind {
    pub const ALL: [Kind; 4] = [Kind::HaProxy, Kind::HaProxyTuned, Kind::Nginx, Kind::Socat];

    pub fn name(self) -> &'static str {
        match self {
            Kind::HaProxy => "HAProxy",
            Kind::HaProxyTuned => "HAProxy tuned",
            Kind::Nginx => "nginx",
            Kind::Socat => "socat",
        }
    }

    /// What chooses it on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Kind::HaProxy => "haproxy",
            Kind::HaProxyTuned => "haproxy-tuned",
            Kind::Nginx => "nginx",
            Kind::Socat => "socat",
        }
    }

    /// Whether it is a process for each connection.
    pub fn forks(self) -> bool {
        self == Kind::Socat
    }

    pub fn program(self) -> &'static str {
        match self {
            Kind::HaProxy | Kind::HaProxyTuned => "haproxy",
            Kind::Nginx => "nginx",
            Kind::Socat => "socat",
        }
    }

    /// What to run to learn the version, and what stands before it.
    fn version(self) -> (&'static str, &'static str) {
        match self {
            Kind::HaProxy | Kind::HaProxyTuned => ("-v", "version "),
            Kind::Nginx => ("-v", "nginx/"),
            Kind::Socat => ("-V", "socat version "),
        }
    }
}

/// A proxy of somebody else's. It ends when dropped.
pub struct OtherProxy {
    child: Child,
    address: SocketAddr,
    _directory: Directory,
    /// Keeps the port from everybody but the child.
    _reserved: Socket,
}

/// Starts one before the servers and waits until it serves.
///
/// # Errors
/// If it is there and does not serve.
pub fn start(
    kind: Kind,
    ip: Ipv4Addr,
    servers: &[SocketAddr],
    capacity: Capacity,
) -> Result<Started> {
    let missing = |why| Ok(Started::Missing(Missing { kind, why }));
    if kind == Kind::Nginx && !nginx_has_streams() {
        return missing("is not installed, or has no stream module");
    }
    let (reserved, address) = reserve_port(ip)?;
    let directory = Directory::create()?;
    let site = Site {
        address,
        servers,
        capacity,
        directory: &directory.0,
    };
    let child = command(kind, &site)?
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let child = match child {
        Err(e) if e.kind() == ErrorKind::NotFound => return missing("is not installed"),
        child => child.map_err(|e| format!("{}: {e}", kind.program()))?,
    };
    let mut proxy = OtherProxy {
        child,
        address,
        _directory: directory,
        _reserved: reserved,
    };
    proxy.wait(kind)?;
    Ok(Started::Serving(proxy))
}

impl OtherProxy {
    /// Waits until it serves.
    fn wait(&mut self, kind: Kind) -> Result<()> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let Err(error) = load::probe(self.address) else {
                return Ok(());
            };
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("{} has ended: {status}", kind.name()).into());
            }
            if Instant::now() > deadline {
                return Err(format!("{} does not serve: {error}", kind.name()).into());
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Proxy for OtherProxy {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn process(&self) -> Process {
        Process(self.child.id())
    }
}

impl Drop for OtherProxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that nobody else can take, for a listener with SO_REUSEPORT: this
/// socket is bound to it too, but does not listen, so that it gets nothing.
fn reserve_port(ip: Ipv4Addr) -> Result<(Socket, SocketAddr)> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_port(true)?;
    socket.bind(&SocketAddr::from((ip, 0)).into())?;
    let address = socket.local_addr()?.as_socket();
    Ok((socket, address.ok_or("an address that is not one of IP")?))
}

/// The names of the programs that are installed, with their versions.
pub fn versions() -> Vec<String> {
    [Kind::HaProxy, Kind::Nginx, Kind::Socat]
        .into_iter()
        .filter_map(|kind| {
            let (argument, before) = kind.version();
            let output = output(kind.program(), argument);
            let version = output.split(before).nth(1)?;
            let is_part = |c: char| c.is_ascii_digit() || c == '.';
            let end = version.find(|c| !is_part(c)).unwrap_or(version.len());
            Some(format!("{} {}", kind.name(), &version[..end]))
        })
        .collect()
}

/// A temporary directory, removed when dropped.
struct Directory(PathBuf);

impl Directory {
    fn create() -> Result<Directory> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("zpa-bench-{}-{n}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path)?;
        Ok(Directory(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
