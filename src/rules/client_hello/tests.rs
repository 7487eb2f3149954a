use super::*;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};

const NAME: &str = "db.example.com";

/// The ClientHello of rustls, in one record.
fn hello(
    name: &'static str,
    version: &'static SupportedProtocolVersion,
    change: impl FnOnce(&mut ClientConfig),
) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider);
    let config = config.with_protocol_versions(&[version]).unwrap();
    let mut config = config
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    change(&mut config);
    let name = ServerName::try_from(name).unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).unwrap();
    }
    bytes
}

fn plain() -> Vec<u8> {
    hello(NAME, &TLS13, |_| ())
}

/// The same with other bytes in place of the name.
fn named(name: &[u8]) -> Vec<u8> {
    let mut bytes = plain();
    let at = bytes
        .windows(NAME.len())
        .position(|window| window == NAME.as_bytes())
        .unwrap();
    bytes[at..at + NAME.len()].copy_from_slice(name);
    bytes
}

/// The messages of these records in records of `len` bytes.
fn cut_into_records(records: &[u8], len: usize) -> Vec<u8> {
    let mut messages = Vec::new();
    let mut rest = records;
    while let [kind, major, minor, high, low, content @ ..] = rest {
        assert_eq!((*kind, *major, *minor), (22, 3, 1), "a handshake");
        let (content, others) = content.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        messages.extend_from_slice(content);
        rest = others;
    }
    let records = messages.chunks(len).flat_map(|chunk| {
        let [high, low] = (chunk.len() as u16).to_be_bytes();
        [&[22, 3, 1, high, low], chunk].concat()
    });
    records.collect()
}

fn complete(name: &str) -> Hello {
    Hello::Complete(Some(name.to_owned()))
}

/// Every version, and a client that sends no name: neither does one that has an address in
/// place of a name.
#[test]
fn the_name_is_that_of_the_client() {
    for (label, bytes, expected) in [
        ("TLS 1.3", plain(), complete(NAME)),
        ("TLS 1.2", hello(NAME, &TLS12, |_| ()), complete(NAME)),
        (
            "no name",
            hello(NAME, &TLS13, |config| config.enable_sni = false),
            Hello::Complete(None),
        ),
        (
            "an address",
            hello("192.0.2.7", &TLS13, |_| ()),
            Hello::Complete(None),
        ),
        (
            "an address as a name",
            named(b"192.168.100.20"),
            Hello::Complete(None),
        ),
        ("capitals", named(b"DB.Example.COM"), complete(NAME)),
        (
            "a dot at the end",
            named(b"db.example.co."),
            complete("db.example.co."),
        ),
        (
            "an A-label",
            named(b"xn--bcher-kva."),
            complete("xn--bcher-kva."),
        ),
        (
            "no ASCII",
            named("b\u{fc}cher.exampl".as_bytes()),
            Hello::Refused(Refusal::Malformed(47)),
        ),
        (
            "no name at all",
            named(b"..............").clone(),
            Hello::Refused(Refusal::Malformed(47)),
        ),
    ] {
        assert_eq!(read(&bytes), expected, "{label}");
    }
}

#[test]
fn nothing_is_decided_before_the_last_byte_and_nothing_after_it_counts() {
    for len in [1, 2, 3, 4, 5, 100, 16_384] {
        let records = cut_into_records(&plain(), len);
        for end in 0..records.len() {
            assert_eq!(read(&records[..end]), Hello::Incomplete, "{len}: {end}");
        }
        assert_eq!(read(&records), complete(NAME), "{len}");
        // Data of TLS 1.3 that a client sends at once (RFC 8446, 2.3).
        let early = [&records[..], &[23, 3, 3, 0, 1, 0]].concat();
        assert_eq!(read(&early), complete(NAME), "{len}");
    }
}

#[test]
fn what_is_no_tls_is_refused_with_its_first_bytes() {
    for (label, bytes) in [
        ("HTTP", &b"GET / HTTP/1.1\r\n"[..]),
        ("SSLRequest", &[0, 0, 0, 8, 4, 0xD2, 0x16, 0x2F]),
        ("one byte", &[0]),
        ("SSL 2", &[0x80, 0x2E, 1]),
        ("an alert", &[21, 3, 3, 0, 2, 2, 40]),
        ("another version", &[22, 4]),
        ("an empty record", &[22, 3, 1, 0, 0]),
        ("a record of more than 2^14 bytes", &[22, 3, 1, 0x40, 1]),
        ("a ServerHello", &[22, 3, 1, 0, 80, 2]),
    ] {
        assert_eq!(read(bytes), Hello::Refused(Refusal::NotTls), "{label}");
    }
}

/// At the limit it is read, and beyond it is refused as soon as its length is known.
#[test]
fn a_hello_may_have_16_kib() {
    // Protocols that take so many bytes, each with its length.
    let with = |len: usize| {
        let rest = len - 101 * (len / 101 - 1);
        hello(NAME, &TLS13, |config| {
            config.alpn_protocols = vec![vec![b'a'; 100]; len / 101 - 1];
            config.alpn_protocols.push(vec![b'a'; rest - 1]);
        })
    };
    let empty = with(202).len() - 202;
    let longest = with(MAX_LEN - empty);
    assert_eq!(longest.len(), MAX_LEN);
    assert_eq!(read(&longest), complete(NAME));
    assert_eq!(read(&longest[..MAX_LEN - 1]), Hello::Incomplete);
    let too_long = with(MAX_LEN - empty + 1);
    let refused = Hello::Refused(Refusal::TooLong);
    assert_eq!(read(&too_long[..9]), refused);
    assert_eq!(read(&too_long), refused);
    let in_small_records = cut_into_records(&longest, 100);
    assert_eq!(read(&in_small_records), refused, "with their headers");
}

#[test]
fn what_rustls_does_not_read_gets_its_alert() {
    let mut cut = plain();
    let end = cut.len() - 1;
    cut[end - 2..].fill(0xFF);
    let two = [&plain()[5..], &plain()[5..]].concat();
    let two = cut_into_records(
        &[&[22, 3, 1][..], &(two.len() as u16).to_be_bytes(), &two].concat(),
        16_384,
    );
    for (label, bytes, alert) in [
        (
            "a hello of one byte",
            vec![22, 3, 1, 0, 5, 1, 0, 0, 1, 3],
            50,
        ),
        ("two messages in a record", two, 10),
    ] {
        let refused = Hello::Refused(Refusal::Malformed(alert));
        assert_eq!(read(&bytes), refused, "{label}");
    }
}

#[test]
fn a_client_that_speaks_tls_gets_an_alert_that_says_why() {
    for (refusal, expected) in [
        (Refusal::UnknownName, Some(112)),
        (Refusal::NoName, Some(109)),
        (Refusal::NotTls, None),
        (Refusal::Malformed(50), Some(50)),
        (Refusal::TooLong, Some(40)),
        (Refusal::TooLate, None),
        (Refusal::Evicted, None),
        (Refusal::NoRoom, None),
    ] {
        let record = expected.map(|description| [21, 3, 3, 0, 2, 2, description]);
        assert_eq!(refusal.alert(), record, "{refusal}");
    }
}
