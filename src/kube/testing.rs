//! The helpers of the tests of this module: recordings, a clock, and a server whose answers a test
//! defines.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use super::WatchedApp;
use super::access::Access;
use super::target_client::Writer;
use crate::clock::Time;
use crate::cluster::ApiServer;
use crate::kubeconfig_flags::KubeconfigFlags;
use crate::workload::{Dialect, TargetRef};

/// How long a test waits for what must come.
pub(super) const DEADLINE: Duration = Duration::from_secs(20);

/// A clock for tests.
pub(crate) fn clock() -> Time {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    Time::from_millis(1_000_000) + START.elapsed()
}

fn recording(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/recordings/{name}.http"));
    std::fs::read(&path).unwrap_or_else(|cause| panic!("{}: {cause}", path.display()))
}

/// The target of the request that was recorded.
pub(super) fn recorded_target(name: &str) -> String {
    let text = String::from_utf8(recording(name)).unwrap();
    text.split(' ').nth(1).unwrap().to_owned()
}

/// The body of the request that was recorded.
pub(super) fn recorded_patch(name: &str) -> String {
    let text = String::from_utf8(recording(name)).unwrap();
    let (request, _) = text.split_once("\n--------\n").unwrap();
    request.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// The type of that body.
pub(super) fn recorded_content_type(name: &str) -> String {
    let text = String::from_utf8(recording(name)).unwrap();
    let (_, rest) = text.split_once("Content-Type: ").unwrap();
    rest.lines().next().unwrap().to_owned()
}

/// The reply that was recorded, byte for byte.
pub(super) fn recorded_reply(name: &str) -> Vec<u8> {
    let text = String::from_utf8(recording(name)).unwrap();
    let (_, reply) = text.split_once("\n--------\n").unwrap();
    reply.as_bytes().to_vec()
}

/// The body of that reply, its chunks put together.
pub(crate) fn recorded_body(name: &str) -> Vec<u8> {
    let reply = String::from_utf8(recorded_reply(name)).unwrap();
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    if !head.contains("chunked") {
        return body.as_bytes().to_vec();
    }
    let (mut rest, mut whole) = (body, String::new());
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        whole.push_str(&after[..size]);
        rest = after.get(size + 2..).unwrap_or_default();
    }
    whole.into_bytes()
}

/// The lines of that body.
pub(super) fn recorded_lines(name: &str) -> Vec<Vec<u8>> {
    let body = recorded_body(name);
    let lines = body.split(|byte| *byte == b'\n');
    lines
        .filter(|line| !line.is_empty())
        .map(<[u8]>::to_vec)
        .collect()
}

/// A request as the server saw it.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) token: Option<String>,
    pub(super) content_type: String,
    pub(super) body: String,
}

/// A server on loopback. `answer` gets each request and its connection, and
/// returns whether the connection stays open.
pub(super) fn serve(
    answer: impl Fn(&Asked, &mut TcpStream) -> bool + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let answer = answer.clone();
            thread::spawn(move || converse(stream, &*answer));
        }
    });
    address
}

fn converse(mut stream: TcpStream, answer: &impl Fn(&Asked, &mut TcpStream) -> bool) {
    stream.set_nodelay(true).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while let Some(asked) = read_request(&mut reader) {
        if !answer(&asked, &mut stream) {
            let _ = stream.shutdown(Shutdown::Both);
            return;
        }
    }
}

fn read_request(reader: &mut impl BufRead) -> Option<Asked> {
    let (mut asked, mut length) = (Asked::default(), 0);
    let mut line = String::new();
    while reader.read_line(&mut line).ok()? > 0 {
        let text = line.trim_end();
        if text.is_empty() {
            let mut body = vec![0; length];
            reader.read_exact(&mut body).ok()?;
            asked.body = String::from_utf8(body).ok()?;
            return Some(asked);
        }
        match text.split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("authorization") => {
                asked.token = Some(value.trim_start_matches("Bearer ").to_owned());
            }
            Some((name, value)) if name.eq_ignore_ascii_case("content-type") => {
                asked.content_type = value.to_owned();
            }
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.parse().ok()?;
            }
            Some(_) => {}
            None => {
                let mut words = text.split(' ');
                asked.method = words.next()?.to_owned();
                asked.target = words.next()?.to_owned();
            }
        }
        line.clear();
    }
    None
}

/// Sends a whole reply.
pub(super) fn reply(stream: &mut TcpStream, status: u16, headers: &str, body: &str) -> bool {
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).is_ok()
}

/// Begins a reply without an end.
pub(super) fn begin_stream(stream: &mut TcpStream) {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let _ = stream.write_all(head.as_bytes());
}

/// Sends one chunk of it.
pub(super) fn chunk(stream: &mut TcpStream, bytes: &[u8]) {
    let size = format!("{:x}\r\n", bytes.len());
    let _ = stream.write_all(&[size.as_bytes(), bytes, b"\r\n"].concat());
}

/// Ends it.
pub(super) fn end_stream(stream: &mut TcpStream) -> bool {
    stream.write_all(b"0\r\n\r\n").is_ok()
}

/// Keeps a connection open until the other side closes it.
pub(super) fn hang(stream: &mut TcpStream) -> bool {
    let _ = stream.read(&mut [0; 1]);
    false
}

/// A certificate authority.
pub(super) type Authority = CertifiedIssuer<'static, KeyPair>;

/// One of any name.
pub(super) fn authority() -> Authority {
    authority_called("root")
}

/// One of that name.
pub(super) fn authority_called(name: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// The TLS configuration of a server that has a certificate for `name`.
pub(super) fn server_config(authority: &Authority, name: &str) -> Arc<ServerConfig> {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    serving(params.signed_by(&key, authority).unwrap().into(), &key)
}

/// The same with that certificate.
pub(super) fn serving(certificate: CertificateDer<'static>, key: &KeyPair) -> Arc<ServerConfig> {
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

/// Access to `server` by plain http.
pub(super) fn access(server: SocketAddr) -> Access {
    let server = ApiServer {
        tls: false,
        host: server.ip().to_string(),
        port: server.port(),
    };
    let (access, _) = Access::discover(
        &KubeconfigFlags::default(),
        Some(&server),
        Path::new("/nonexistent"),
        |_| None,
    )
    .unwrap();
    access
}

/// Who writes the leases.
pub(super) fn writer() -> Writer {
    Writer::new("zpa-5d9c7", || 1_795_313_581)
}

/// The recorded app.
pub(super) fn config() -> WatchedApp {
    WatchedApp {
        namespace: "default".into(),
        target: TargetRef::deployment("myapp"),
        dialect: Dialect::Zpa,
        state_configmap: None,
        idle_ttl: Duration::from_secs(300),
        service: "myapp".into(),
        ports: vec![None],
        port_flag: "--port",
    }
}

/// A directory of its own for a test, removed with it.
pub(super) struct Directory(pub(super) PathBuf);

impl Directory {
    pub(super) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("zpa-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Directory(path)
    }

    pub(super) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
