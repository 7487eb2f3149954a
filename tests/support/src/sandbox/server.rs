//! The API server's connections: TLS or plain, a thread for each, many
//! requests on one.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ServerConnection, StreamOwned};

use super::acceptor::{Threads, reset_on_close};
use super::api::{self, Answer};
use super::faults::{Misbehaviour, WatchFault, refusal};
use super::http::{Reply, Request};
use super::state::{AcceptMode, Connection, Shared, State};
use super::watch::Stream;
use crate::streams::read_some;

/// How often it is looked whether a client has left.
const LOOK: Duration = Duration::from_millis(20);

/// A socket of which the sandbox keeps a second handle.
struct Socket(Arc<TcpStream>);

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self.0).read(buffer)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self.0).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What requests are read from and replies written to.
trait Transport: Read + Write {}

impl<T: Read + Write> Transport for T {}

/// Whether a connection goes on after a request.
enum Next {
    AnotherRequest,
    Close,
}

/// Serves one connection, on a thread of its own.
pub fn admit(shared: &Arc<Shared>, threads: &Threads, stream: TcpStream, tls: bool) {
    let Ok(()) = stream.set_nodelay(true) else {
        return;
    };
    let socket = Arc::new(stream);
    let admitted = shared.change(|state| register(state, socket.clone()));
    let Some(id) = admitted else { return };
    let (shared, plain) = (shared.clone(), !tls);
    threads.spawn("api", move || {
        // An error is the client's way of leaving.
        let _ = Server {
            shared: &shared,
            id,
            socket: socket.clone(),
            plain,
        }
        .run();
        shared.change(|state| state.connections.remove(&id));
    });
}

fn register(state: &mut State, socket: Arc<TcpStream>) -> Option<u64> {
    if state.stopping || state.reception == AcceptMode::Reset {
        reset_on_close(&socket);
        return None;
    }
    state.accepted += 1;
    let connection = Connection {
        socket,
        idle: true,
        killed: false,
    };
    state.connections.insert(state.accepted, connection);
    Some(state.accepted)
}

struct Server<'a> {
    shared: &'a Arc<Shared>,
    id: u64,
    socket: Arc<TcpStream>,
    /// Whether this is the listener that stands for `kubectl proxy`.
    plain: bool,
}

impl Server<'_> {
    fn run(&self) -> io::Result<()> {
        let (reception, tls) = {
            let state = self.shared.lock();
            (state.reception, state.tls.clone())
        };
        if reception == AcceptMode::Hang {
            self.pause(None);
            return Ok(());
        }
        let socket = Socket(self.socket.clone());
        if self.plain {
            return self.serve(&mut { socket });
        }
        let session = ServerConnection::new(tls).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(session, socket);
        let served = self.serve(&mut stream);
        if !self.shared.lock().is_over(self.id) {
            stream.conn.send_close_notify();
            stream.flush()?;
        }
        served
    }

    fn serve(&self, stream: &mut dyn Transport) -> io::Result<()> {
        let mut stream = stream;
        loop {
            self.shared.change(|state| self.set_idle(state, true));
            let mut first = [0];
            if read_some(&mut *stream, &mut first)? == 0 {
                return Ok(());
            }
            self.shared.change(|state| self.set_idle(state, false));
            if self.shared.lock().is_over(self.id) {
                return Ok(()); // The request crossed our goodbye.
            }
            let request = Request::read(first[0], &mut stream)?;
            match self.exchange(&request, stream)? {
                Next::AnotherRequest => {}
                Next::Close => return Ok(()),
            }
        }
    }

    fn set_idle(&self, state: &mut State, idle: bool) {
        if let Some(connection) = state.connections.get_mut(&self.id) {
            connection.idle = idle;
        }
    }

    fn exchange(&self, request: &Request, stream: &mut dyn Transport) -> io::Result<Next> {
        let (place, fault) = self.shared.change(|state| state.admit(request, self.id));
        match fault {
            None => self.send(self.apply(request), place, None, request, stream),
            Some(Misbehaviour::Watch(order)) => {
                self.send(self.apply(request), place, Some(order), request, stream)
            }
            Some(Misbehaviour::Delay(delay)) => {
                let answer = self.apply(request);
                self.pause(Some(delay));
                self.send(answer, place, None, request, stream)
            }
            Some(Misbehaviour::ApplyAfter(delay)) => {
                self.pause(Some(delay));
                self.send(self.apply(request), place, None, request, stream)
            }
            Some(Misbehaviour::AbortableDelay(delay)) => match self.is_left_within(delay)? {
                true => Ok(Next::Close),
                false => self.send(self.apply(request), place, None, request, stream),
            },
            Some(Misbehaviour::LoseReply) => {
                self.apply(request);
                self.shared
                    .change(|state| state.end_connections(false, |c| self.owns(c)));
                Ok(Next::Close)
            }
            Some(Misbehaviour::Reset) => {
                self.shared
                    .change(|state| state.end_connections(true, |c| self.owns(c)));
                Ok(Next::Close)
            }
            Some(Misbehaviour::Hang) => {
                self.pause(None);
                Ok(Next::Close)
            }
            Some(Misbehaviour::Refuse(status, retry_after)) => {
                let reply = refusal(status, retry_after, request, &self.shared.lock().access);
                self.send(Answer::Reply(reply), place, None, request, stream)
            }
            Some(Misbehaviour::Redirect(location)) => {
                let reply = Reply {
                    status: 302,
                    headers: Vec::new(),
                    body: String::new(),
                };
                let reply = reply.with("Location", location);
                self.send(Answer::Reply(reply), place, None, request, stream)
            }
        }
    }

    fn owns(&self, connection: &Connection) -> bool {
        Arc::ptr_eq(&connection.socket, &self.socket)
    }

    fn apply(&self, request: &Request) -> Answer {
        self.shared.change(|state| {
            if request.path.ends_with("/pods") {
                state.write_pods();
            }
            let State { store, access, .. } = state;
            api::answer(store, access, self.plain, request)
        })
    }

    /// Whether the client leaves within that time. It sends nothing while it waits for a reply, but
    /// for the goodbye of TLS: whatever can be read is the end.
    fn is_left_within(&self, delay: Duration) -> io::Result<bool> {
        let deadline = Instant::now() + delay;
        self.socket.set_read_timeout(Some(LOOK))?;
        let is_there = || match self.socket.peek(&mut [0]) {
            Ok(_) => false,
            Err(cause) => matches!(cause.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        };
        while Instant::now() < deadline && !self.shared.lock().stopping {
            if !is_there() {
                return Ok(true);
            }
        }
        self.socket.set_read_timeout(None)?;
        Ok(false)
    }

    /// Lets time pass, or waits for the end of the connection.
    fn pause(&self, delay: Option<Duration>) {
        let deadline = delay.map(|delay| Instant::now() + delay);
        // A delayed write is applied even if its client has gone.
        let over = |state: &State| match delay {
            Some(_) => state.stopping,
            None => state.is_over(self.id),
        };
        self.shared.wait_until(deadline, over);
    }

    fn send(
        &self,
        answer: Answer,
        place: usize,
        order: Option<WatchFault>,
        request: &Request,
        mut stream: &mut dyn Transport,
    ) -> io::Result<Next> {
        let last = request.is_last();
        let status = match &answer {
            Answer::Reply(reply) => reply.status,
            Answer::Watch(_) => 200,
        };
        self.shared
            .change(|state| state.log[place].status = Some(status));
        let goes_on = match answer {
            Answer::Reply(reply) => reply.write(&mut stream, last).map(|()| true)?,
            Answer::Watch(watch) => Stream::new(self.shared, self.id, &self.socket, watch, order)
                .run(&mut stream, last)?,
        };
        Ok(if goes_on && !last {
            Next::AnotherRequest
        } else {
            Next::Close
        })
    }
}
