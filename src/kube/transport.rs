//! TCP and TLS under ureq, watched for two facts that its errors do not tell:
//! whether a connection was made for a call, and whether anything was sent.
//!
//! A write that was never sent may be tried again; one that may have been sent
//! must be followed by a read. And a read that failed on a connection from the
//! pool may only have met the server closing it.

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

/// What has happened since the last [`ConnectionProbe::forget`].
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

    /// A connection was made; if not, the one used came from the pool.
    pub(super) fn connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// Some of the request may have reached the server.
    pub(super) fn sent(&self) -> bool {
        self.sent.load(Ordering::Relaxed)
    }
}

/// Puts TLS on a connection where it is wanted, and tells the probe.
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
mod tests {
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::path::PathBuf;
    use std::sync::Mutex;
    use std::sync::mpsc::{self, Receiver};
    use std::thread;

    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
    use rustls::{ServerConfig, ServerConnection};

    use super::super::access::{Access, Roots, TokenSource};
    use super::super::client::{Client, Opened};
    use super::super::credentials::Credentials;
    use super::super::testing::{self, Directory};
    use super::super::token::Token;
    use super::*;
    use crate::clock::Time;
    use crate::cluster::ApiServer;

    type Authority = CertifiedIssuer<'static, KeyPair>;

    fn authority() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    fn server_config(authority: &Authority, name: &str) -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate: CertificateDer = params.signed_by(&key, authority).unwrap().into();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key.into())
            .unwrap();
        Arc::new(config)
    }

    /// A TLS server that answers every request on every connection with
    /// "hello", and how many connections were made so far with each.
    fn serve(config: Arc<Mutex<Arc<ServerConfig>>>) -> (SocketAddr, Receiver<usize>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, asked) = mpsc::channel();
        thread::spawn(move || {
            for (count, stream) in listener.incoming().map_while(Result::ok).enumerate() {
                let config = config.lock().unwrap().clone();
                let sender = sender.clone();
                thread::spawn(move || converse(config, stream, || sender.send(count + 1).is_ok()));
            }
        });
        (address, asked)
    }

    fn converse(config: Arc<ServerConfig>, stream: TcpStream, asked: impl Fn() -> bool) {
        stream.set_nodelay(true).unwrap();
        let session = ServerConnection::new(config).unwrap();
        let mut stream = StreamOwned::new(session, stream);
        let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            request.extend_from_slice(&buffer[..count]);
            if request.ends_with(b"\r\n\r\n") {
                request.clear();
                asked();
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
            }
        }
    }

    fn access(address: SocketAddr, roots: Roots, tls_name: Option<&str>) -> Access {
        Access {
            server: ApiServer {
                tls: true,
                host: address.ip().to_string(),
                port: address.port(),
            },
            prefix: String::new(),
            tls_name: tls_name.map(str::to_owned),
            roots,
            client: None,
            token: TokenSource::Fixed(Token::new("t").unwrap()),
        }
    }

    fn client(access: Access) -> Client {
        let credentials = Credentials::new(access, testing::clock).unwrap();
        Client::new(Arc::new(credentials), Arc::default())
    }

    #[test]
    fn calls_share_one_verified_connection() {
        let authority = authority();
        let config = server_config(&authority, "127.0.0.1");
        let (address, asked) = serve(Arc::new(Mutex::new(config)));
        let client = client(access(address, Roots::Fixed(authority.pem().into()), None));
        for _ in 0..3 {
            assert_eq!(client.calls().get("/", 10).unwrap().body, b"hello");
        }
        let Opened::Stream(mut body) = client.calls().watch("/", testing::DEADLINE).ok().unwrap()
        else {
            panic!("the watch was refused");
        };
        let mut text = String::new();
        body.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
        assert_eq!(asked.try_iter().collect::<Vec<_>>(), [1, 1, 1, 1]);
    }

    #[test]
    fn the_name_to_verify_may_be_another_than_the_address() {
        let authority = authority();
        let config = server_config(&authority, "kube.example");
        let (address, _asked) = serve(Arc::new(Mutex::new(config)));
        let roots = Roots::Fixed(authority.pem().into());
        let named = client(access(address, roots.clone(), Some("kube.example")));
        assert!(named.calls().get("/", 10).is_ok());
        let unnamed = client(access(address, roots, None));
        let failure = unnamed.calls().get("/", 10).unwrap_err();
        assert!(
            !failure.sent,
            "nothing is sent to who cannot prove to be the server"
        );
        assert!(failure.text.contains("certificate"), "{}", failure.text);
    }

    #[test]
    fn new_roots_are_taken_up_once_the_old_ones_fail_and_bad_ones_are_not() {
        let (old, new) = (authority(), authority());
        let config = Arc::new(Mutex::new(server_config(&old, "127.0.0.1")));
        let (address, _asked) = serve(config.clone());
        let directory = Directory::new("roots");
        let path: PathBuf = directory.write("ca.crt", old.pem());
        let client = client(access(address, Roots::File(path), None));
        let works = || client.calls().get("/", 10).is_ok();
        assert!(works());

        directory.write("ca.crt", "not PEM");
        client.cancel();
        assert!(works(), "the old roots stand");

        *config.lock().unwrap() = server_config(&new, "127.0.0.1");
        client.cancel();
        assert!(!works(), "a server that the roots do not know");
        directory.write("ca.crt", new.pem());
        assert!(!works(), "it is this failure that has the file read");
        assert!(works());
        assert!(works());
    }

    #[test]
    fn roots_are_read_again_after_a_minute() {
        static NOW: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let clock = || Time::from_millis(NOW.load(Ordering::Relaxed));
        let (old, new) = (authority(), authority());
        let directory = Directory::new("roots-minute");
        let path = directory.write("ca.crt", old.pem());
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let access = access(address, Roots::File(path), None);
        let credentials = Credentials::new(access, clock).unwrap();
        directory.write("ca.crt", new.pem());
        for (ms, generation) in [(59_999, 0), (60_000, 1), (120_000, 1)] {
            NOW.store(ms, Ordering::Relaxed);
            assert_eq!(credentials.tls().0, generation, "after {ms} ms");
        }
    }

    #[test]
    fn roots_that_are_none_are_refused_at_the_start() {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let refused = Credentials::new(
            access(address, Roots::Fixed(b"not PEM".into()), None),
            testing::clock,
        );
        assert!(refused.is_err_and(|cause| cause.contains("no root certificate")));
    }
}
