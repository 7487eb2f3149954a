//! [`Header`] is what a PROXY protocol header says, versions 1 and 2, as HAProxy's
//! `doc/proxy-protocol.txt` defines it: who the client of a connection is that a load
//! balancer hands on.
//!
//! [`parse`] is incremental: given the first bytes of a connection, however few, it says
//! whether there is a header, whether there may be one once more bytes have come, or why
//! there is none. Nothing here is guessed: whether a connection begins with a header is
//! set by the operator.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// The longest header that is read, in bytes. TLVs may make a header 64 KiB long; those
/// of the load balancers in use take a few hundred bytes, a client's certificate included.
pub const LONGEST: usize = 4096;

/// The longest header of version 1, its line feed included.
const LONGEST_V1: usize = 107;
const START_V1: &[u8] = b"PROXY ";
const SIGNATURE_V2: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and transport, length.
const FIXED_V2: usize = 16;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;
/// Two addresses and two ports.
const ADDRESSES_V4: usize = 12;
const ADDRESSES_V6: usize = 36;

/// Which version of the protocol is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "v1" => Ok(Version::V1),
            "v2" => Ok(Version::V2),
            _ => Err("is neither v1 nor v2".to_owned()),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Version::V1 => "v1",
            Version::V2 => "v2",
        })
    }
}

/// Who has connected, and to where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// The client.
    pub source: SocketAddr,
    /// Where it has connected to.
    pub destination: SocketAddr,
}

/// What a header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Whose connection this is.
    pub origin: Origin,
    /// The header as it came, if it is one of version 2: its TLVs are passed on byte for
    /// byte, and one of them may be a checksum of the whole (`PP2_TYPE_CRC32C`).
    verbatim: Option<Box<[u8]>>,
}

/// Whose connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The load balancer's own: a health check. It is no use of the app.
    Local,
    /// A client's that has no IP address, or whose address the load balancer does not
    /// know.
    Unknown,
    /// This client's.
    Client(Endpoints),
}

/// What the first bytes of a connection are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// They may become a header once more have come.
    Incomplete,
    /// A header of so many bytes.
    Complete(Header, usize),
    /// No header, for that reason.
    Invalid(&'static str),
}

/// Reads the header at the start of `bytes`.
pub fn parse(bytes: &[u8]) -> Parsed {
    let parsed = if is_start(bytes, SIGNATURE_V2) {
        parse_v2(bytes)
    } else if is_start(bytes, START_V1) {
        parse_v1(bytes)
    } else {
        Err("does not begin like a header")
    };
    match parsed {
        Ok(Some((header, len))) => Parsed::Complete(header, len),
        Ok(None) => Parsed::Incomplete,
        Err(why) => Parsed::Invalid(why),
    }
}

/// Whether one begins with all of the other.
fn is_start(bytes: &[u8], start: &[u8]) -> bool {
    let len = bytes.len().min(start.len());
    bytes[..len] == start[..len]
}

type Found = Result<Option<(Header, usize)>, &'static str>;

fn parse_v1(bytes: &[u8]) -> Found {
    let head = &bytes[..bytes.len().min(LONGEST_V1)];
    let Some(end) = head.windows(2).position(|pair| pair == b"\r\n") else {
        return match bytes.len() < LONGEST_V1 {
            true => Ok(None),
            false => Err("has no end within the 107 bytes of version 1"),
        };
    };
    let line = str::from_utf8(&head[START_V1.len()..end]).map_err(|_| "is not a line of text")?;
    let origin = match line.split_once(' ').unwrap_or((line, "")) {
        ("UNKNOWN", _) => Origin::Unknown,
        ("TCP4", rest) => Origin::Client(endpoints::<Ipv4Addr>(rest)?),
        ("TCP6", rest) => Origin::Client(endpoints::<Ipv6Addr>(rest)?),
        _ => return Err("names no protocol of version 1"),
    };
    let header = Header {
        origin,
        verbatim: None,
    };
    Ok(Some((header, end + 2)))
}

/// `SOURCE DESTINATION SOURCE-PORT DESTINATION-PORT` with one space between.
fn endpoints<A: FromStr + Into<IpAddr>>(text: &str) -> Result<Endpoints, &'static str> {
    let parts: Vec<&str> = text.split(' ').collect();
    let [source, destination, source_port, destination_port] = parts[..] else {
        return Err("has not two addresses and two ports");
    };
    let address = |text: &str| text.parse::<A>().map_err(|_| "has a wrong address");
    Ok(Endpoints {
        source: SocketAddr::new(address(source)?.into(), port(source_port)?),
        destination: SocketAddr::new(address(destination)?.into(), port(destination_port)?),
    })
}

/// A decimal number without leading zeros, as the protocol has it.
fn port(text: &str) -> Result<u16, &'static str> {
    let is_plain = text == "0" || !text.starts_with(['0', '+']);
    text.parse()
        .ok()
        .filter(|_| is_plain)
        .ok_or("has a wrong port")
}

fn parse_v2(bytes: &[u8]) -> Found {
    let Some(command) = bytes.get(12) else {
        return Ok(None);
    };
    let is_local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err("has no version and command of version 2"),
    };
    let &[family, high, low] = bytes.get(13..FIXED_V2).unwrap_or_default() else {
        return Ok(None);
    };
    let len = FIXED_V2 + usize::from(u16::from_be_bytes([high, low]));
    if len > LONGEST {
        return Err("is longer than 4096 bytes");
    }
    let Some(all) = bytes.get(..len) else {
        return Ok(None);
    };
    let rest = &all[FIXED_V2..];
    let origin = match (is_local, family) {
        (true, _) => Origin::Local,
        (false, TCP_OVER_IPV4) => Origin::Client(endpoints_v4(rest)?),
        (false, TCP_OVER_IPV6) => Origin::Client(endpoints_v6(rest)?),
        // UNSPEC; UDP and UNIX sockets, of which no connection of TCP comes.
        (false, 0x00 | 0x12 | 0x22 | 0x31 | 0x32) => Origin::Unknown,
        (false, _) => return Err("names no family of version 2"),
    };
    let header = Header {
        origin,
        verbatim: Some(all.into()),
    };
    Ok(Some((header, len)))
}

const SHORT: &str = "is too short for its addresses";

fn endpoints_v4(bytes: &[u8]) -> Result<Endpoints, &'static str> {
    let (addresses, _) = bytes.split_first_chunk::<ADDRESSES_V4>().ok_or(SHORT)?;
    let &[a, b, c, d, e, f, g, h, ports @ ..] = addresses;
    Ok(with_ports([a, b, c, d].into(), [e, f, g, h].into(), ports))
}

fn endpoints_v6(bytes: &[u8]) -> Result<Endpoints, &'static str> {
    let (source, rest) = bytes.split_first_chunk::<16>().ok_or(SHORT)?;
    let (destination, rest) = rest.split_first_chunk::<16>().ok_or(SHORT)?;
    let (ports, _) = rest.split_first_chunk::<4>().ok_or(SHORT)?;
    Ok(with_ports((*source).into(), (*destination).into(), *ports))
}

fn with_ports(source: IpAddr, destination: IpAddr, [a, b, c, d]: [u8; 4]) -> Endpoints {
    Endpoints {
        source: SocketAddr::new(source, u16::from_be_bytes([a, b])),
        destination: SocketAddr::new(destination, u16::from_be_bytes([c, d])),
    }
}

impl Header {
    /// That of a connection which has come without one.
    pub fn of(endpoints: Option<Endpoints>) -> Header {
        Header {
            origin: endpoints.map_or(Origin::Unknown, Origin::Client),
            verbatim: None,
        }
    }

    /// The header in that version: as it came, if it came in version 2 and is wanted in
    /// it.
    pub fn to_bytes(&self, version: Version) -> Vec<u8> {
        match (version, &self.verbatim) {
            (Version::V1, _) => self.to_v1().into_bytes(),
            (Version::V2, Some(verbatim)) => verbatim.to_vec(),
            (Version::V2, None) => self.to_v2(),
        }
    }

    fn to_v1(&self) -> String {
        // A receiver of version 1 has no other word for a connection of nobody's.
        let Some((source, destination)) = self.of_one_family() else {
            return "PROXY UNKNOWN\r\n".to_owned();
        };
        let protocol = if source.is_ipv4() { "TCP4" } else { "TCP6" };
        format!(
            "PROXY {protocol} {} {} {} {}\r\n",
            source.ip(),
            destination.ip(),
            source.port(),
            destination.port()
        )
    }

    fn to_v2(&self) -> Vec<u8> {
        let (family, addresses) = match self.of_one_family() {
            None => (0x00, Vec::new()),
            Some((source, destination)) => {
                let family = match source.is_ipv4() {
                    true => TCP_OVER_IPV4,
                    false => TCP_OVER_IPV6,
                };
                let mut addresses = Vec::with_capacity(ADDRESSES_V6);
                for ip in [source.ip(), destination.ip()] {
                    match ip {
                        IpAddr::V4(ip) => addresses.extend(ip.octets()),
                        IpAddr::V6(ip) => addresses.extend(ip.octets()),
                    }
                }
                for port in [source.port(), destination.port()] {
                    addresses.extend(port.to_be_bytes());
                }
                (family, addresses)
            }
        };
        let command = match self.origin {
            Origin::Local => 0x20,
            Origin::Unknown | Origin::Client(_) => 0x21,
        };
        let mut bytes = SIGNATURE_V2.to_vec();
        // No more than the 36 bytes of two IPv6 addresses.
        bytes.extend([command, family, 0, addresses.len() as u8]);
        bytes.extend(addresses);
        bytes
    }

    /// Source and destination, both of IPv4 or both of IPv6. A socket of both families
    /// has IPv4 addresses in the form of IPv6.
    fn of_one_family(&self) -> Option<(SocketAddr, SocketAddr)> {
        let Origin::Client(Endpoints {
            source,
            destination,
        }) = self.origin
        else {
            return None;
        };
        let (from, to) = (source.ip().to_canonical(), destination.ip().to_canonical());
        let (from, to) = match (from, to) {
            (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)) => (from, to),
            _ => (mapped(from), mapped(to)),
        };
        let source = SocketAddr::new(from, source.port());
        Some((source, SocketAddr::new(to, destination.port())))
    }
}

fn mapped(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().into(),
        IpAddr::V6(_) => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(source: &str, destination: &str) -> Origin {
        Origin::Client(Endpoints {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
        })
    }

    /// A header of version 2.
    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE_V2.to_vec();
        bytes.extend([command, family]);
        bytes.extend((rest.len() as u16).to_be_bytes());
        bytes.extend(rest);
        bytes
    }

    const V4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 2, 0xDC, 0x04, 0x01, 0xBB];

    fn v6() -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend("2001:db8::1".parse::<Ipv6Addr>().unwrap().octets());
        bytes.extend("2001:db8::2".parse::<Ipv6Addr>().unwrap().octets());
        bytes.extend([0xDC, 0x04, 0x01, 0xBB]);
        bytes
    }

    fn valid() -> Vec<(&'static str, Vec<u8>, Origin)> {
        let of_v4 = client("192.0.2.1:56324", "198.51.100.2:443");
        let of_v6 = client("[2001:db8::1]:56324", "[2001:db8::2]:443");
        let tlvs = [&V4[..], &[0x04, 0, 3, 1, 2, 3, 0xEA, 0, 0]].concat();
        let longest = vec![7; LONGEST - FIXED_V2];
        vec![
            (
                "TCP4",
                b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n".to_vec(),
                of_v4,
            ),
            (
                "TCP6",
                b"PROXY TCP6 2001:db8::1 2001:db8::2 56324 443\r\n".to_vec(),
                of_v6,
            ),
            (
                "the longest line",
                b"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff \
                  ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"
                    .to_vec(),
                client(
                    "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
                    "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
                ),
            ),
            ("nobody", b"PROXY UNKNOWN\r\n".to_vec(), Origin::Unknown),
            (
                "nobody, with what is not to be looked at",
                b"PROXY UNKNOWN ffff:f...f:ffff x 65535\r\n".to_vec(),
                Origin::Unknown,
            ),
            ("IPv4", v2(0x21, 0x11, &V4), of_v4),
            ("IPv6", v2(0x21, 0x21, &v6()), of_v6),
            ("with TLVs", v2(0x21, 0x11, &tlvs), of_v4),
            ("a health check", v2(0x20, 0x00, &[]), Origin::Local),
            ("one with addresses", v2(0x20, 0x11, &V4), Origin::Local),
            ("no family", v2(0x21, 0x00, &[1, 2, 3]), Origin::Unknown),
            ("a UNIX socket", v2(0x21, 0x31, &[0; 216]), Origin::Unknown),
            (
                "the longest that is read",
                v2(0x21, 0x00, &longest),
                Origin::Unknown,
            ),
        ]
    }

    #[test]
    fn a_header_is_read_however_it_is_cut_and_whatever_follows_it() {
        for (label, bytes, origin) in valid() {
            for end in 0..bytes.len() {
                assert_eq!(parse(&bytes[..end]), Parsed::Incomplete, "{label}, {end}");
            }
            for more in [&b""[..], b"GET / HTTP/1.1\r\n\r\n"] {
                match parse(&[&bytes, more].concat()) {
                    Parsed::Complete(header, len) => {
                        assert_eq!((header.origin, len), (origin, bytes.len()), "{label}");
                    }
                    other => panic!("{label}: {other:?}"),
                }
            }
        }
    }

    #[test]
    fn what_is_no_header_is_refused_as_soon_as_that_is_known() {
        let long_line = [b"PROXY UNKNOWN ", &[b'x'; 93][..]].concat();
        let oversized = v2(0x21, 0x00, &vec![0; LONGEST - FIXED_V2 + 1]);
        for (label, bytes, needed) in [
            ("a request", b"GET / HTTP/1.1\r\n".to_vec(), 1),
            ("another word", b"PROXX TCP4".to_vec(), 5),
            ("in small letters", b"proxy TCP4".to_vec(), 1),
            ("a line without an end", long_line, 107),
            ("UDP", b"PROXY UDP4 1.1.1.1 1.1.1.1 1 1\r\n".to_vec(), 32),
            ("no protocol", b"PROXY \r\n".to_vec(), 8),
            (
                "too few parts",
                b"PROXY TCP4 1.1.1.1 1.1.1.1 1\r\n".to_vec(),
                30,
            ),
            (
                "too many parts",
                b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1 1\r\n".to_vec(),
                34,
            ),
            (
                "two spaces",
                b"PROXY TCP4  1.1.1.1 1.1.1.1 1 1\r\n".to_vec(),
                33,
            ),
            ("another family", b"PROXY TCP4 ::1 ::1 1 1\r\n".to_vec(), 24),
            (
                "a port too high",
                b"PROXY TCP4 1.1.1.1 1.1.1.1 65536 1\r\n".to_vec(),
                36,
            ),
            (
                "a port with a zero before it",
                b"PROXY TCP4 1.1.1.1 1.1.1.1 01 1\r\n".to_vec(),
                33,
            ),
            (
                "a port with a sign",
                b"PROXY TCP4 1.1.1.1 1.1.1.1 +1 1\r\n".to_vec(),
                33,
            ),
            ("no text", b"PROXY TCP4 \xFF\r\n".to_vec(), 14),
            ("another signature", b"\r\n\r\n\0\r\nQUIT\r".to_vec(), 12),
            ("version 1 in binary", v2(0x11, 0x11, &V4), 13),
            ("another command", v2(0x22, 0x11, &V4), 13),
            ("another family", v2(0x21, 0x41, &V4), 28),
            ("too short for IPv4", v2(0x21, 0x11, &V4[..11]), 27),
            ("too short for IPv6", v2(0x21, 0x21, &[0; 35]), 51),
            ("too long", oversized, 16),
        ] {
            for end in 0..=bytes.len() {
                let parsed = parse(&bytes[..end]);
                let is_invalid = matches!(parsed, Parsed::Invalid(_));
                assert_eq!(is_invalid, end >= needed, "{label}, {end}: {parsed:?}");
            }
        }
    }

    #[test]
    fn a_header_is_passed_on_in_either_version() {
        for (label, bytes, origin) in valid() {
            let Parsed::Complete(header, _) = parse(&bytes) else {
                panic!("{label}");
            };
            let is_v2 = bytes.starts_with(SIGNATURE_V2);
            let binary = header.to_bytes(Version::V2);
            assert!(!is_v2 || binary == bytes, "{label}: byte for byte");
            let Parsed::Complete(again, len) = parse(&binary) else {
                panic!("{label}: {binary:?}");
            };
            assert_eq!((again.origin, len), (origin, binary.len()), "{label}");
            let line = header.to_bytes(Version::V1);
            let expected = match origin {
                // Version 1 has no word for it.
                Origin::Local => Origin::Unknown,
                other => other,
            };
            let Parsed::Complete(again, len) = parse(&line) else {
                panic!("{label}: {line:?}");
            };
            assert_eq!((again.origin, len), (expected, line.len()), "{label}");
        }
    }

    #[test]
    fn the_header_of_a_connection_without_one() {
        for (label, source, destination, expected) in [
            (
                "IPv4",
                "192.0.2.1:1234",
                "10.0.0.1:80",
                "PROXY TCP4 192.0.2.1 10.0.0.1 1234 80\r\n",
            ),
            (
                "IPv4 on a socket of both families",
                "[::ffff:192.0.2.1]:1234",
                "[::ffff:10.0.0.1]:80",
                "PROXY TCP4 192.0.2.1 10.0.0.1 1234 80\r\n",
            ),
            (
                "IPv6",
                "[2001:db8::1]:1234",
                "[fd00::1]:80",
                "PROXY TCP6 2001:db8::1 fd00::1 1234 80\r\n",
            ),
            (
                "one of each",
                "192.0.2.1:1234",
                "[fd00::1]:80",
                "PROXY TCP6 ::ffff:192.0.2.1 fd00::1 1234 80\r\n",
            ),
        ] {
            let header = Header::of(Some(Endpoints {
                source: source.parse().unwrap(),
                destination: destination.parse().unwrap(),
            }));
            let line = header.to_bytes(Version::V1);
            assert_eq!(String::from_utf8_lossy(&line), expected, "{label}");
        }
        let unknown = Header::of(None);
        assert_eq!(unknown.to_bytes(Version::V1), b"PROXY UNKNOWN\r\n");
        assert_eq!(unknown.to_bytes(Version::V2), v2(0x21, 0x00, &[]));
    }
}
