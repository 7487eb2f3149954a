//! First bytes of any content, however they are cut: a header of the PROXY protocol, the
//! same one whatever comes after it, as another implementation reads it too, or none.

use std::net::{IpAddr, SocketAddr};

use zpa::rules::proxy_protocol::{AddressPair, Header, MAX_LEN, Origin, Parsed, Version, parse};

/// What a connection begins with.
pub type Input<'a> = &'a [u8];

pub fn check(bytes: Input) {
    let decided = |end: &usize| parse(&bytes[..*end]) != Parsed::Incomplete;
    let Some(at) = (0..=bytes.len()).find(decided) else {
        assert!(bytes.len() < MAX_LEN, "at its limit it is decided");
        return;
    };
    let first = parse(&bytes[..at]);
    for end in [at + 1, (at + bytes.len()) / 2, bytes.len()] {
        let end = end.clamp(at, bytes.len());
        let later = parse(&bytes[..end]);
        let is_same = match (&first, &later) {
            // The reason may be another one.
            (Parsed::Invalid(_), Parsed::Invalid(_)) => true,
            (first, later) => first == later,
        };
        assert!(is_same, "what comes after it changes nothing");
    }
    match first {
        Parsed::Complete(header, len) => {
            assert_eq!(len, at, "it is complete with its last byte");
            expect_the_same_on_the_way(&header);
            expect_as_others_read_it(&header, &bytes[..len]);
        }
        _ => expect_that_others_refuse(bytes),
    }
}

/// A header that is passed on is read as the same.
fn expect_the_same_on_the_way(header: &Header) {
    for version in [Version::V1, Version::V2] {
        let bytes = header.to_bytes(version);
        let Parsed::Complete(again, len) = parse(&bytes) else {
            panic!("{bytes:?} is no header");
        };
        let expected = match (header.origin, version) {
            (Origin::Local, Version::V1) => Origin::Unknown,
            (Origin::Client(endpoints), Version::V1) => Origin::Client(canonical(endpoints)),
            (origin, _) => origin,
        };
        let read = match again.origin {
            Origin::Client(endpoints) if version == Version::V1 => {
                Origin::Client(canonical(endpoints))
            }
            origin => origin,
        };
        assert_eq!((read, len), (expected, bytes.len()));
    }
}

/// With IPv4 addresses as such.
fn canonical(endpoints: AddressPair) -> AddressPair {
    let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    AddressPair {
        source: plain(endpoints.source),
        destination: plain(endpoints.destination),
    }
}

fn expect_as_others_read_it(header: &Header, bytes: &[u8]) {
    let Origin::Client(endpoints) = header.origin else {
        return;
    };
    assert_eq!(others_read(bytes), Some(endpoints), "{bytes:?}");
}

/// Who the client is as ppp reads it, if it finds one over TCP.
fn others_read(bytes: &[u8]) -> Option<AddressPair> {
    if bytes.starts_with(b"PROXY") {
        let header = ppp::v1::Header::try_from(bytes).ok()?;
        return match header.addresses {
            ppp::v1::Addresses::Tcp4(it) => Some(endpoints(
                (it.source_address.into(), it.source_port),
                (it.destination_address.into(), it.destination_port),
            )),
            ppp::v1::Addresses::Tcp6(it) => Some(endpoints(
                (it.source_address.into(), it.source_port),
                (it.destination_address.into(), it.destination_port),
            )),
            ppp::v1::Addresses::Unknown => None,
        };
    }
    let header = ppp::v2::Header::try_from(bytes).ok()?;
    let is_client = header.command == ppp::v2::Command::Proxy;
    let is_tcp = header.protocol == ppp::v2::Protocol::Stream;
    if !is_client || !is_tcp || header.as_bytes().len() > MAX_LEN {
        return None;
    }
    match header.addresses {
        ppp::v2::Addresses::IPv4(it) => Some(endpoints(
            (it.source_address.into(), it.source_port),
            (it.destination_address.into(), it.destination_port),
        )),
        ppp::v2::Addresses::IPv6(it) => Some(endpoints(
            (it.source_address.into(), it.source_port),
            (it.destination_address.into(), it.destination_port),
        )),
        _ => None,
    }
}

fn endpoints(source: (IpAddr, u16), destination: (IpAddr, u16)) -> AddressPair {
    AddressPair {
        source: source.into(),
        destination: destination.into(),
    }
}

/// What is refused here is no header to others either, unless it is written in another
/// way than this program would write it.
fn expect_that_others_refuse(bytes: &[u8]) {
    let Some(endpoints) = others_read(bytes) else {
        return;
    };
    let written = Header::of(Some(endpoints)).to_bytes(Version::V1);
    assert!(!bytes.starts_with(&written), "{bytes:?} is a header");
    assert!(!bytes.starts_with(b"\r\n"), "{bytes:?} is one of version 2");
}
