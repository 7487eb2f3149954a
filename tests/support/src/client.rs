//! [`Client`]: an HTTPS client that sends exactly the given bytes, and shows the reply down to its
//! chunks.

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::sandbox::Sandbox;

/// No reply takes longer, unless a test wants it to.
const READ_LIMIT: Duration = Duration::from_secs(10);

/// One connection.
pub struct Client {
    stream: StreamOwned<ClientConnection, TcpStream>,
    token: String,
}

/// What came back.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    /// The body without its framing.
    pub body: Vec<u8>,
    /// The chunks, if there were any.
    pub chunks: Vec<Vec<u8>>,
    /// Whether the body ended as its framing promised.
    pub complete: bool,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut fields = self.headers.iter();
        fields
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Client {
    /// Connects with the credentials that are in the directory now.
    pub fn connect(sandbox: &Sandbox) -> io::Result<Client> {
        let directory = sandbox.credentials();
        let token = fs::read_to_string(directory.join("token")).unwrap_or_default();
        let mut roots = RootCertStore::empty();
        let ca =
            CertificateDer::from_pem_file(directory.join("ca.crt")).map_err(io::Error::other)?;
        roots.add(ca).map_err(io::Error::other)?;
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("kubernetes.default.svc").map_err(io::Error::other)?;
        let session = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        let socket = TcpStream::connect(sandbox.address())?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(READ_LIMIT))?;
        Ok(Client {
            stream: StreamOwned::new(session, socket),
            token,
        })
    }

    /// Gives up on reads after `limit`.
    pub fn set_read_limit(&self, limit: Duration) {
        self.stream
            .sock
            .set_read_timeout(Some(limit))
            .expect("a time-out above zero");
    }

    /// Another token than the directory's.
    pub fn with_token(mut self, token: &str) -> Client {
        self.token = token.to_owned();
        self
    }

    /// Sends a request and reads the whole reply. In a request that was
    /// recorded, `TOKEN` stands for the token.
    pub fn send(&mut self, request: &str) -> io::Result<Reply> {
        self.start(request)?;
        self.read_reply()
    }

    /// Sends a request.
    pub fn start(&mut self, request: &str) -> io::Result<()> {
        self.stream
            .write_all(request.replace("TOKEN", &self.token).as_bytes())?;
        self.stream.flush()
    }

    /// GET of a path, on a connection that is kept.
    pub fn get(&mut self, path: &str) -> io::Result<Reply> {
        self.send(&request("GET", path, "", ""))
    }

    /// A merge patch.
    pub fn patch(&mut self, path: &str, body: &str) -> io::Result<Reply> {
        self.send(&request(
            "PATCH",
            path,
            "application/merge-patch+json",
            body,
        ))
    }

    /// Reads status and headers, and no more.
    pub fn read_head(&mut self) -> io::Result<Reply> {
        let head = self.read_until(b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&head).into_owned();
        Ok(parse_head(&head))
    }

    /// Reads the whole reply, or as much of it as comes.
    pub fn read_reply(&mut self) -> io::Result<Reply> {
        let mut reply = self.read_head()?;
        if reply.header("transfer-encoding").is_some() {
            reply.complete = self.read_chunks(&mut reply).is_ok();
            reply.body = reply.chunks.concat();
        } else {
            let length = reply
                .header("content-length")
                .and_then(|v| v.parse().ok())
                .unwrap_or(0);
            reply.body = vec![0; length];
            self.stream.read_exact(&mut reply.body)?;
            reply.complete = true;
        }
        Ok(reply)
    }

    /// Reads one chunk; empty at the end of the body.
    pub fn read_chunk(&mut self) -> io::Result<Vec<u8>> {
        let size = self.read_until(b"\r\n")?;
        let size = usize::from_str_radix(String::from_utf8_lossy(&size).trim(), 16)
            .map_err(io::Error::other)?;
        let mut data = vec![0; size + 2];
        self.stream.read_exact(&mut data)?;
        data.truncate(size);
        Ok(data)
    }

    fn read_chunks(&mut self, reply: &mut Reply) -> io::Result<()> {
        loop {
            match self.read_chunk()? {
                last if last.is_empty() => return Ok(()),
                data => reply.chunks.push(data),
            }
        }
    }

    fn read_until(&mut self, end: &[u8]) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while !bytes.ends_with(end) {
            let mut byte = [0];
            self.stream.read_exact(&mut byte)?;
            bytes.push(byte[0]);
        }
        Ok(bytes)
    }
}

/// A request on a connection that is kept.
pub fn request(method: &str, path: &str, media_type: &str, body: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer TOKEN\r\n\
         Content-Type: {media_type}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Reads status line and headers.
pub fn parse_head(head: &str) -> Reply {
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or(0);
    let fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    let headers = fields
        .map(|(k, v)| (k.trim().to_owned(), v.trim().to_owned()))
        .collect();
    Reply {
        status,
        headers,
        body: Vec::new(),
        chunks: Vec::new(),
        complete: false,
    }
}
