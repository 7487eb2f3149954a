//! The transport under ureq: TCP and TLS with a [`ConnectionProbe`], which records whether a
//! call has opened a connection and whether anything was sent. ureq's errors do not tell.
//!
//! A write that was never sent may be repeated; after one that may have been sent, the object
//! must be read. A read that failed on a connection from the pool may be repeated, because
//! the server may just have closed that connection.

use std::fmt;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::{ClientConnection, StreamOwned};
use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport, TransportAdapter,
};

use super::credentials::Tls;

/// The record of a call, since the last [`ConnectionProbe::forget`].
#[derive(Debug, Default)]
pub(super) struct ConnectionProbe {
    connected: AtomicBool,
    sent: AtomicBool,
}

impl ConnectionProbe {
    /// A call begins.
    pub(super) fn forget(&self) {
        self.connected.store(false, Ordering::Relaxed);
        self.sent.store(false, Ordering::Relaxed);
    }

    /// Whether the call has opened a connection; if not, it has used one from the pool.
    pub(super) fn connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// Whether some of the request may have reached the server.
    pub(super) fn sent(&self) -> bool {
        self.sent.load(Ordering::Relaxed)
    }
}

/// Adds TLS to a connection if it is configured, and updates the probe.
pub(super) struct SecureConnector {
    pub(super) tls: Option<Tls>,
    pub(super) probe: Arc<ConnectionProbe>,
}

impl<In: Transport> Connector<In> for SecureConnector {
    type Out = Link<In>;

    fn connect(
        &self,
        details: &ConnectionDetails,
        chained: Option<In>,
    ) -> Result<Option<Link<In>>, Error> {
        let Some(tcp) = chained else {
            return Ok(None);
        };
        let stream = match &self.tls {
            None => Stream::Plain(tcp),
            Some(tls) => Stream::Tls(Box::new(handshake(tls, details, tcp)?)),
        };
        self.probe.connected.store(true, Ordering::Relaxed);
        Ok(Some(Link {
            stream,
            probe: self.probe.clone(),
        }))
    }
}

impl fmt::Debug for SecureConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecureConnector")
    }
}

fn handshake<In: Transport>(
    tls: &Tls,
    details: &ConnectionDetails,
    tcp: In,
) -> Result<TlsStream<In>, Error> {
    let mut session = ClientConnection::new(tls.config.clone(), tls.name.clone())
        .map_err(|cause| Error::Io(std::io::Error::other(cause)))?;
    let mut socket = TransportAdapter::new(tcp, details.current_time.clone());
    socket.set_timeout(details.timeout);
    session.complete_io(&mut socket)?;
    let config = details.config;
    Ok(TlsStream {
        buffers: LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size()),
        stream: StreamOwned::new(session, socket),
    })
}

/// A connection to the API server.
pub(super) struct Link<T: Transport> {
    stream: Stream<T>,
    probe: Arc<ConnectionProbe>,
}

enum Stream<T: Transport> {
    Plain(T),
    Tls(Box<TlsStream<T>>),
}

struct TlsStream<T: Transport> {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter<T>>,
}

impl<T: Transport> TlsStream<T> {
    fn send(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.get_mut().set_timeout(timeout);
        self.stream.write_all(&self.buffers.output()[..amount])?;
        Ok(())
    }

    fn receive(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.get_mut().set_timeout(timeout);
        let amount = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }
}

impl<T: Transport> Transport for Link<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        match &mut self.stream {
            Stream::Plain(tcp) => tcp.buffers(),
            Stream::Tls(tls) => &mut tls.buffers,
        }
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.probe.sent.store(true, Ordering::Relaxed);
        match &mut self.stream {
            Stream::Plain(tcp) => tcp.transmit_output(amount, timeout),
            Stream::Tls(tls) => tls.send(amount, timeout),
        }
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        match &mut self.stream {
            Stream::Plain(tcp) => tcp.await_input(timeout),
            Stream::Tls(tls) => tls.receive(timeout),
        }
    }

    fn is_open(&mut self) -> bool {
        match &mut self.stream {
            Stream::Plain(tcp) => tcp.is_open(),
            Stream::Tls(tls) => tls.stream.get_mut().get_mut().is_open(),
        }
    }

    fn is_tls(&self) -> bool {
        matches!(self.stream, Stream::Tls(_))
    }
}

impl<T: Transport> fmt::Debug for Link<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Link")
    }
}

#[cfg(test)]
mod tests;
