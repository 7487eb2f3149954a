//! TLS with the API server: which certificates it trusts, what it shows, and when it reads
//! its files again.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver};
use std::thread;

use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair};
use rustls::{ServerConfig, ServerConnection};

use super::super::access::{Access, Pem, TokenSource};
use super::super::client::{Client, Opened};
use super::super::credentials::Credentials;
use super::super::testing::{
    self, Authority, Directory, authority, authority_called, server_config, serving,
};
use super::super::token::Token;
use super::*;
use crate::clock::Time;
use crate::cluster::ApiServer;

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

fn access(address: SocketAddr, roots: Pem, tls_name: Option<&str>) -> Access {
    Access {
        server: ApiServer {
            tls: true,
            host: address.ip().to_string(),
            port: address.port(),
        },
        tls_name: tls_name.map(str::to_owned),
        roots: Some(roots),
        token: TokenSource::Fixed(Token::new("t").unwrap()),
        ..testing::access(address)
    }
}

fn fixed(pem: impl Into<Vec<u8>>) -> Pem {
    Pem::Fixed("certificate-authority-data", pem.into())
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
    let client = client(access(address, fixed(authority.pem()), None));
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
    let roots = fixed(authority.pem());
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
    let client = client(access(address, Pem::File(path), None));
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
    let access = access(address, Pem::File(path), None);
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
    let refused = Credentials::new(access(address, fixed("not PEM"), None), testing::clock);
    assert!(refused.is_err_and(|cause| cause.contains("no root certificate")));
}

/// A certificate of a server called 127.0.0.1, its key, and what makes it one:
/// a change of what it says, and who signs it.
fn certificate(
    change: impl FnOnce(&mut CertificateParams),
    issuer: Option<&Authority>,
) -> (String, Arc<ServerConfig>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    change(&mut params);
    let certificate = match issuer {
        None => params.self_signed(&key).unwrap(),
        Some(issuer) => params.signed_by(&key, issuer).unwrap(),
    };
    (certificate.pem(), serving(certificate.into(), &key))
}

/// As `openssl req -x509` makes them.
fn is_ca(params: &mut CertificateParams) {
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
}

#[test]
fn a_server_is_trusted_if_a_root_has_issued_its_certificate_or_is_it_and_never_else() {
    let (root, stranger) = (authority(), authority_called("stranger"));
    let year = |year| rcgen::date_time_ymd(year, 1, 1);
    let own = |change: fn(&mut CertificateParams)| {
        let (pem, config) = certificate(change, None);
        (pem, config)
    };
    let of_another = |params: &mut CertificateParams| params.subject_alt_names.clear();
    let (leaf, with_leaf) = certificate(|_| {}, Some(&stranger));
    let called_like_its_issuer = |params: &mut CertificateParams| {
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, "stranger");
    };
    let (namesake, with_namesake) = certificate(called_like_its_issuer, Some(&stranger));
    let (_, with_sibling) = certificate(|_| {}, Some(&stranger));
    let (_, issued_ca) = certificate(is_ca, Some(&root));
    let (_, issued) = certificate(|_| {}, Some(&root));
    let (ca, with_ca) = own(is_ca);
    let (_, with_other_ca) = own(is_ca);
    let (plain, with_plain) = own(|_| {});
    let (late, with_late) = own(|params| {
        is_ca(params);
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    });
    let (early, with_early) = own(|params| {
        is_ca(params);
        params.not_before = rcgen::date_time_ymd(2999, 1, 1);
    });
    let (nameless, with_nameless) = own(|params| {
        is_ca(params);
        params.subject_alt_names = vec![rcgen::SanType::DnsName("other".try_into().unwrap())];
    });
    let (late_leaf, with_late_leaf) =
        certificate(|params| params.not_after = year(2020), Some(&stranger));
    let (nameless_leaf, with_nameless_leaf) = certificate(of_another, Some(&stranger));
    let all = |certificates: &[&str]| certificates.concat();
    for (label, roots, server, expected) in [
        ("issued by a root", root.pem(), issued, Ok(())),
        ("the root itself", plain, with_plain, Ok(())),
        (
            "the root itself, with CA:TRUE",
            ca.clone(),
            with_ca.clone(),
            Ok(()),
        ),
        (
            "one of several roots",
            all(&[&root.pem(), &ca]),
            with_ca,
            Ok(()),
        ),
        (
            "named as root, though another has issued it",
            leaf.clone(),
            with_leaf,
            Ok(()),
        ),
        (
            "named as root, and called like its issuer",
            namesake,
            with_namesake,
            Ok(()),
        ),
        (
            "issued like the root, and not it",
            leaf,
            with_sibling,
            Err("UnknownIssuer"),
        ),
        (
            "another with CA:TRUE",
            ca,
            with_other_ca,
            Err("CaUsedAsEndEntity"),
        ),
        (
            "issued by a root, with CA:TRUE",
            root.pem(),
            issued_ca,
            Err("CaUsedAsEndEntity"),
        ),
        ("the root itself, run out", late, with_late, Err("expired")),
        (
            "the root itself, yet to come",
            early,
            with_early,
            Err("not valid yet"),
        ),
        (
            "the root itself, of another name",
            nameless,
            with_nameless,
            Err("not valid for name"),
        ),
        (
            "named as root, run out",
            late_leaf,
            with_late_leaf,
            Err("expired"),
        ),
        (
            "named as root, of no name",
            nameless_leaf,
            with_nameless_leaf,
            Err("not valid for name"),
        ),
    ] {
        let (address, _asked) = serve(Arc::new(Mutex::new(server)));
        let client = client(access(address, fixed(roots), None));
        match (client.calls().get("/", 10), expected) {
            (Ok(reply), Ok(())) => assert_eq!(reply.body, b"hello", "{label}"),
            (Err(failure), Err(why)) => {
                assert!(!failure.sent, "{label}");
                let text = failure.text.to_lowercase();
                assert!(
                    text.contains(&why.to_lowercase()),
                    "{label}: {}",
                    failure.text
                );
            }
            (Ok(_), Err(why)) => panic!("{label}: trusted, and not refused as {why}"),
            (Err(failure), Ok(())) => panic!("{label}: {}", failure.text),
        }
    }
}
