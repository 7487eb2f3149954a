//! The kernel as a connection sees it: sockets in memory that behave as Linux does
//! where FIN, RST, errors, events and acknowledgements are concerned.

use std::cell::{Cell, Ref, RefCell, RefMut};
use std::io::{self, ErrorKind, Read, Write};
use std::rc::Rc;

use socket2::SockRef;

use crate::engine::half_state::ShortRead;
use crate::engine::readiness::{Interest, Readiness};
use crate::engine::sockets::Socket;
use crate::engine::stream::Stream;
use crate::rules::proxy_protocol::AddressPair;
use crate::sys::Pipe;

/// One socket of ours, and the peer at its other end.
#[derive(Debug)]
pub struct Tcp {
    state: Connected,
    /// What the peer has sent, and how much of it was read.
    incoming: Vec<u8>,
    read: usize,
    /// The peer's FIN has come,
    fin: bool,
    /// or its RST.
    reset: bool,
    /// `sk_err`: reported once.
    error: Option<ErrorKind>,
    /// What was written, and how much of it the peer has acknowledged.
    written: Vec<u8>,
    acknowledged: usize,
    /// How many bytes more the peer takes.
    window: usize,
    /// How many bytes may be written that are not acknowledged.
    send_buffer: usize,
    /// The peer's RST comes amid a write, when so many bytes more were taken.
    resets_after: Option<usize>,
    /// Our FIN is behind the last byte.
    shut: bool,
    reset_on_close: bool,
    closed: Option<Closed>,
    pub kept_alive: bool,
    /// Something has happened that an event reports.
    edge: bool,
    interest: Interest,
    /// How many events it has reported.
    events: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Connected {
    Yes,
    /// connect(2) is under way, or has failed.
    NotYet,
}

/// How we have closed it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Closed {
    InOrder,
    Reset,
}

/// Our end of a socket; closed when dropped.
#[derive(Debug)]
pub struct Wire(Rc<RefCell<Tcp>>);

/// The peer's end.
#[derive(Clone, Debug)]
pub struct Peer(Rc<RefCell<Tcp>>);

thread_local! {
    /// Wires that were made and not dropped.
    static OPEN: Cell<usize> = const { Cell::new(0) };
}

/// How many wires of this thread are open.
pub fn open_wires() -> usize {
    OPEN.get()
}

/// How many bytes may be written that are not acknowledged.
pub const SEND_BUFFER: usize = 100;

/// A socket and its peer, connected or not.
pub fn socket(window: usize, send_buffer: usize, is_connected: bool) -> (Wire, Peer) {
    let tcp = Tcp {
        state: if is_connected {
            Connected::Yes
        } else {
            Connected::NotYet
        },
        incoming: Vec::new(),
        read: 0,
        fin: false,
        reset: false,
        error: None,
        written: Vec::new(),
        acknowledged: 0,
        window,
        send_buffer,
        resets_after: None,
        shut: false,
        reset_on_close: false,
        closed: None,
        kept_alive: false,
        edge: true,
        interest: Interest::Both,
        events: 0,
    };
    let tcp = Rc::new(RefCell::new(tcp));
    OPEN.set(OPEN.get() + 1);
    (Wire(Rc::clone(&tcp)), Peer(tcp))
}

impl Tcp {
    /// What the window has room for arrives and is acknowledged.
    fn deliver(&mut self) {
        let len = self.window.min(self.written.len() - self.acknowledged);
        self.acknowledged += len;
        self.window -= len;
        // An acknowledgement makes room, or is the last one.
        self.edge |= len > 0 || self.is_closed();
    }

    /// Bytes or the FIN have come.
    fn note_input(&mut self) {
        let is_closed = self.fin && self.shut;
        self.edge |= self.interest == Interest::Both || is_closed;
    }

    fn has_delivered(&self) -> bool {
        self.acknowledged == self.written.len()
    }

    fn is_closed(&self) -> bool {
        self.reset || self.fin && self.shut && self.has_delivered()
    }

    fn unread(&self) -> &[u8] {
        &self.incoming[self.read..]
    }

    /// Reads without consuming: tcp_recvmsg().
    fn look(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.unread().len().min(buffer.len());
        if len > 0 {
            buffer[..len].copy_from_slice(&self.unread()[..len]);
            return Ok(len);
        }
        if self.fin {
            return Ok(0); // SOCK_DONE
        }
        match self.error.take() {
            Some(error) => Err(error.into()),
            None if self.reset => Ok(0),
            None => Err(ErrorKind::WouldBlock.into()),
        }
    }

    /// How many bytes a write may have: tcp_sendmsg(), sk_stream_error().
    fn room(&mut self) -> io::Result<usize> {
        assert_eq!(self.state, Connected::Yes, "a write before the connect");
        if self.reset {
            return Err(self.error.take().unwrap_or(ErrorKind::BrokenPipe).into());
        }
        assert!(!self.shut, "a write after the FIN");
        match self.send_buffer - (self.written.len() - self.acknowledged) {
            0 => Err(ErrorKind::WouldBlock.into()),
            room => Ok(room),
        }
    }

    /// How many of `len` bytes a write takes.
    fn takes(&mut self, len: usize) -> io::Result<usize> {
        let most = self.room()?.min(len);
        Ok(self.resets_after.map_or(most, |after| after.min(most)))
    }

    /// Takes these bytes; returns whether the RST came with the last of them.
    fn take(&mut self, bytes: &[u8]) -> bool {
        self.written.extend(bytes);
        self.deliver();
        self.resets_after = self.resets_after.map(|after| after - bytes.len());
        let is_reset = self.resets_after == Some(0);
        if is_reset {
            self.break_off();
        }
        is_reset
    }

    /// tcp_reset(): the error is EPIPE after a FIN.
    fn break_off(&mut self) {
        self.error = Some(match self.state {
            Connected::NotYet => ErrorKind::ConnectionRefused,
            Connected::Yes if self.fin => ErrorKind::BrokenPipe,
            Connected::Yes => ErrorKind::ConnectionReset,
        });
        self.reset = true;
        self.edge = true;
    }

    /// tcp_poll(), and what mio makes of it.
    fn readiness(&self) -> Readiness {
        let is_refused = self.state == Connected::NotYet && self.reset;
        let error = self.error.is_some();
        let hang_up = self.reset || self.fin && self.shut;
        let is_of_interest = self.interest == Interest::Both || hang_up;
        let read_shut = is_of_interest && (self.fin || self.reset);
        let has_room = self.written.len() - self.acknowledged < self.send_buffer;
        let writable =
            (self.state == Connected::Yes && (has_room || self.shut)) || self.reset || is_refused;
        Readiness {
            readable: is_of_interest && !self.unread().is_empty() || read_shut || error,
            short_read: if read_shut {
                ShortRead::MayLeaveMore
            } else {
                ShortRead::EmptiesQueue
            },
            read_closed: read_shut,
            writable,
            error,
            hang_up: hang_up || error && writable,
        }
    }
}

impl Peer {
    fn tcp(&self) -> RefMut<'_, Tcp> {
        self.0.borrow_mut()
    }

    fn look(&self) -> Ref<'_, Tcp> {
        self.0.borrow()
    }

    /// The event that is to be reported, if one is.
    pub fn event(&self) -> Option<Readiness> {
        let mut tcp = self.tcp();
        let is_over = tcp.closed.is_some();
        let is_silent = tcp.state == Connected::NotYet && !tcp.reset;
        let edge = !is_silent && std::mem::take(&mut tcp.edge) && !is_over;
        tcp.events += usize::from(edge);
        edge.then(|| tcp.readiness())
    }

    /// How many events our socket has reported so far.
    pub fn events(&self) -> usize {
        self.look().events
    }

    /// Whether it can still do anything that we notice.
    fn is_there(&self) -> bool {
        let tcp = self.look();
        tcp.closed.is_none() && !tcp.reset
    }

    /// Sends so many bytes, none of which can be taken for another.
    pub fn send_bulk(&self, len: usize) {
        let start = self.look().incoming.len();
        let bytes: Vec<u8> = (start..start + len).map(|n| (n * 31 % 251) as u8).collect();
        self.send(&bytes);
    }

    pub fn send(&self, bytes: &[u8]) {
        if self.is_there() && !self.look().fin {
            let mut tcp = self.tcp();
            tcp.incoming.extend(bytes);
            tcp.note_input();
        }
    }

    pub fn fin(&self) {
        if self.is_there() && self.look().state == Connected::Yes {
            let mut tcp = self.tcp();
            tcp.fin = true;
            tcp.note_input();
        }
    }

    pub fn reset(&self) {
        if self.is_there() {
            self.tcp().break_off();
        }
    }

    /// Resets amid the write with which our socket has taken `len` bytes more, at least one.
    pub fn reset_after(&self, len: usize) {
        if self.is_there() {
            self.tcp().resets_after = Some(len);
        }
    }

    pub fn accept(&self) {
        if self.is_there() {
            let mut tcp = self.tcp();
            tcp.state = Connected::Yes;
            tcp.edge = true;
        }
    }

    /// Has room for `len` bytes more.
    pub fn read(&self, len: usize) {
        let is_closed = self.look().closed;
        if !self.look().reset && is_closed != Some(Closed::Reset) {
            let mut tcp = self.tcp();
            tcp.window += len;
            tcp.deliver();
        }
    }

    pub fn received(&self) -> Vec<u8> {
        self.look().written[..self.look().acknowledged].to_vec()
    }

    pub fn sent(&self) -> Vec<u8> {
        self.look().incoming.clone()
    }

    /// How many bytes were left to the kernel when the socket was closed in order.
    pub fn orphaned(&self) -> usize {
        let tcp = self.look();
        match tcp.closed {
            Some(Closed::InOrder) if !tcp.reset => tcp.written.len() - tcp.acknowledged,
            _ => 0,
        }
    }

    pub fn has_reset(&self) -> bool {
        self.look().reset
    }

    pub fn has_ended(&self) -> bool {
        self.look().fin
    }

    pub fn is_connected(&self) -> bool {
        self.look().state == Connected::Yes
    }

    pub fn is_kept_alive(&self) -> bool {
        self.look().kept_alive
    }

    /// What the peer sees: the bytes, and how they end.
    pub fn view(&self) -> String {
        let tcp = self.look();
        let bytes = &tcp.written[..tcp.acknowledged];
        let bytes = match bytes.len() {
            0..=20 => String::from_utf8_lossy(bytes).into_owned(),
            len => format!("{len} bytes"),
        };
        let is_delivered = tcp.has_delivered();
        let end = match tcp.closed {
            Some(_) if tcp.state == Connected::NotYet && !tcp.reset => "(not taken)",
            _ if tcp.reset => "(gone)",
            Some(Closed::Reset) if tcp.shut && is_delivered => "FIN RST",
            Some(Closed::Reset) => "RST",
            _ if !is_delivered => "…",
            Some(Closed::InOrder) => "FIN",
            None if tcp.shut => "FIN",
            None => "",
        };
        format!("{bytes} {end}").trim().to_owned()
    }
}

impl Wire {
    /// epoll_ctl(2), EPOLL_CTL_MOD: what is ready then is reported.
    pub fn set_interest(&mut self, interest: Interest) {
        let mut tcp = self.0.borrow_mut();
        tcp.interest = interest;
        tcp.edge = true;
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        OPEN.set(OPEN.get() - 1);
        let mut tcp = self.0.borrow_mut();
        // What was not read makes close(2) send an RST: tcp_close().
        let is_reset = tcp.reset_on_close || !tcp.unread().is_empty();
        tcp.closed = Some(if is_reset {
            Closed::Reset
        } else {
            Closed::InOrder
        });
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut tcp = self.0.borrow_mut();
        let len = tcp.look(buffer)?;
        tcp.read += len;
        Ok(len)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut tcp = self.0.borrow_mut();
        let len = tcp.takes(bytes.len())?;
        tcp.take(&bytes[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Wire {
    fn peek(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.borrow_mut().look(buffer)
    }

    fn fill(&mut self, pipe: &Pipe, len: usize) -> io::Result<usize> {
        let mut bytes = vec![0; len.min(self.0.borrow().unread().len().max(1))];
        let len = self.read(&mut bytes)?;
        (&pipe.writer).write_all(&bytes[..len])?;
        Ok(len)
    }

    fn drain(&mut self, pipe: &Pipe, len: usize) -> io::Result<usize> {
        let mut tcp = self.0.borrow_mut();
        let mut bytes = vec![0; tcp.takes(len)?];
        (&pipe.reader).read_exact(&mut bytes)?;
        if tcp.take(&bytes) && bytes.len() < len {
            // splice_to_socket() writes what the pipe holds piece by piece. The piece after
            // the RST has met the error, and the bytes before it are what is reported.
            tcp.error = None;
        }
        Ok(bytes.len())
    }

    fn shut_write(&mut self) -> io::Result<()> {
        let mut tcp = self.0.borrow_mut();
        if tcp.reset {
            return Err(ErrorKind::NotConnected.into());
        }
        tcp.shut = true;
        tcp.deliver();
        Ok(())
    }
}

impl Socket for Wire {
    fn options(&self) -> Option<SockRef<'_>> {
        None
    }

    fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(self.0.borrow_mut().error.take().map(io::Error::from))
    }

    fn unacknowledged(&self) -> u64 {
        let tcp = self.0.borrow();
        let fin = usize::from(tcp.shut && !tcp.has_delivered());
        if tcp.reset {
            0
        } else {
            (tcp.written.len() - tcp.acknowledged + fin) as u64
        }
    }

    fn is_closed(&self) -> bool {
        self.0.borrow().is_closed()
    }

    fn reset_on_close(&self) {
        self.0.borrow_mut().reset_on_close = true;
    }

    fn endpoints(&self) -> Option<AddressPair> {
        Some(AddressPair {
            source: ([192, 0, 2, 1], 1234).into(),
            destination: ([10, 0, 0, 1], 80).into(),
        })
    }

    fn keep_alive(&self) -> io::Result<()> {
        self.0.borrow_mut().kept_alive = true;
        Ok(())
    }
}
