//! Threads with an end, and listeners that can be closed and opened again.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};

/// Connections that the kernel holds for a listener. Loopback tests open
/// hundreds at once.
const BACKLOG: i32 = 4_096;

/// Enough for a TLS handshake in a debug build; ten thousand of them are
/// address space, not memory.
const STACK_BYTES: usize = 256 << 10;

/// How long to wait before trying again what took a descriptor more than there
/// were.
pub const SHORTAGE_PAUSE: Duration = Duration::from_millis(50);

/// Counts the threads of one sandbox, so that its drop can wait for them all.
#[derive(Clone, Default)]
pub struct Threads(Arc<(Mutex<usize>, Condvar)>);

impl Threads {
    /// Runs `work` on a thread of its own.
    pub fn spawn(&self, name: &str, work: impl FnOnce() + Send + 'static) {
        let running = self.enter();
        let body = move || {
            let _running = running;
            work();
        };
        let builder = thread::Builder::new()
            .name(name.to_owned())
            .stack_size(STACK_BYTES);
        builder.spawn(body).expect("a thread for the sandbox");
    }

    /// Waits until none runs; false if `limit` passed first.
    pub fn wait_for_all(&self, limit: Duration) -> bool {
        let (running, ended) = &*self.0;
        let guard = running.lock().unwrap_or_else(PoisonError::into_inner);
        let (left, _) = ended
            .wait_timeout_while(guard, limit, |running| *running > 0)
            .unwrap_or_else(PoisonError::into_inner);
        *left == 0
    }

    fn enter(&self) -> Running {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Running(self.clone())
    }
}

/// One running thread; its drop counts it out, panic or not.
struct Running(Threads);

impl Drop for Running {
    fn drop(&mut self) {
        let (running, ended) = &*self.0.0;
        *running.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        ended.notify_all();
    }
}

/// An address of our own, with a listener on it that can come and go.
///
/// The address stays ours while the listener is closed: a bound socket that
/// never listens keeps others from being given the port, and a connection to
/// it is refused.
pub struct Acceptor {
    address: SocketAddr,
    serve: Arc<dyn Fn(TcpStream) + Send + Sync>,
    threads: Threads,
    listener: Option<Arc<TcpListener>>,
    _reserved: Socket,
}

impl Acceptor {
    /// Takes `address` (port 0: any free one), refusing connections for now.
    /// Each connection is later given to `serve` on the accepting thread.
    pub fn reserve(
        address: SocketAddr,
        threads: &Threads,
        serve: impl Fn(TcpStream) + Send + Sync + 'static,
    ) -> io::Result<Acceptor> {
        let reserved = bound(address)?;
        let address = reserved
            .local_addr()?
            .as_socket()
            .ok_or(io::ErrorKind::Unsupported)?;
        let (serve, threads) = (Arc::new(serve), threads.clone());
        Ok(Acceptor {
            address,
            serve,
            threads,
            listener: None,
            _reserved: reserved,
        })
    }

    /// The address that is ours.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts to accept, unless it does already.
    pub fn open(&mut self) -> io::Result<()> {
        if self.listener.is_some() {
            return Ok(());
        }
        let socket = bound(self.address)?;
        socket.listen(BACKLOG)?;
        let listener = Arc::new(TcpListener::from(socket));
        self.listener = Some(listener.clone());
        let serve = self.serve.clone();
        self.threads.spawn("accept", move || {
            loop {
                match listener.accept() {
                    Ok((stream, _)) => serve(stream),
                    // Closed meanwhile if nobody else has it.
                    Err(error) if is_shortage(&error) && Arc::strong_count(&listener) > 1 => {
                        thread::sleep(SHORTAGE_PAUSE);
                    }
                    Err(_) => return,
                }
            }
        });
        Ok(())
    }

    /// Stops accepting: connections are refused, those that nobody accepted
    /// are reset.
    pub fn close(&mut self) {
        if let Some(listener) = self.listener.take() {
            // On Linux this takes the socket out of LISTEN at once, and a
            // blocked accept returns EINVAL.
            let _ = SockRef::from(&*listener).shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        self.close();
    }
}

/// Whether it is for want of descriptors, of this process or of the system.
pub fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// A TCP socket bound to `address`. With SO_REUSEADDR on both, two sockets may
/// share an address as long as at most one of them listens.
fn bound(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Closes with RST in place of FIN, once the last handle is dropped.
pub fn reset_on_close(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// How long from now until `when`; zero if it has passed.
pub fn until(when: Instant) -> Duration {
    when.saturating_duration_since(Instant::now())
}
