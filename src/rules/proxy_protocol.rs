//! [`Header`]: a header of the PROXY protocol, versions 1 and 2, as HAProxy's
//! `doc/proxy-protocol.txt` defines it. A load balancer states in it the client of a connection
//! that it passes on.
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
pub const MAX_LEN: usize = 4096;

/// The longest header of version 1, its line feed included.
const MAX_V1_LEN: usize = 107;
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
pub struct AddressPair {
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
    Client(AddressPair),
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

/// Whether the shorter of the two is a prefix of the longer.
fn is_start(bytes: &[u8], start: &[u8]) -> bool {
    let len = bytes.len().min(start.len());
    bytes[..len] == start[..len]
}

type Found = Result<Option<(Header, usize)>, &'static str>;

fn parse_v1(bytes: &[u8]) -> Found {
    let head = &bytes[..bytes.len().min(MAX_V1_LEN)];
    let Some(end) = head.windows(2).position(|pair| pair == b"\r\n") else {
        return match bytes.len() < MAX_V1_LEN {
            true => Ok(None),
            false => Err("has no end within the 107 bytes of version 1"),
        };
    };
    let line = str::from_utf8(&head[START_V1.len()..end]).map_err(|_| "is not a line of text")?;
    let origin = match line.split_once(' ').unwrap_or((line, "")) {
        ("UNKNOWN", _) => Origin::Unknown,
        ("TCP4", rest) => Origin::Client(address_pair::<Ipv4Addr>(rest)?),
        ("TCP6", rest) => Origin::Client(address_pair::<Ipv6Addr>(rest)?),
        _ => return Err("names no protocol of version 1"),
    };
    let header = Header {
        origin,
        verbatim: None,
    };
    Ok(Some((header, end + 2)))
}

/// `SOURCE DESTINATION SOURCE-PORT DESTINATION-PORT` with one space between.
fn address_pair<A: FromStr + Into<IpAddr>>(text: &str) -> Result<AddressPair, &'static str> {
    let parts: Vec<&str> = text.split(' ').collect();
    let [source, destination, source_port, destination_port] = parts[..] else {
        return Err("does not have two addresses and two ports");
    };
    let address = |text: &str| text.parse::<A>().map_err(|_| "has a wrong address");
    Ok(AddressPair {
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
        _ => return Err("is not version 2 with command LOCAL or PROXY"),
    };
    let &[family, high, low] = bytes.get(13..FIXED_V2).unwrap_or_default() else {
        return Ok(None);
    };
    let len = FIXED_V2 + usize::from(u16::from_be_bytes([high, low]));
    if len > MAX_LEN {
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

fn endpoints_v4(bytes: &[u8]) -> Result<AddressPair, &'static str> {
    let (addresses, _) = bytes.split_first_chunk::<ADDRESSES_V4>().ok_or(SHORT)?;
    let &[a, b, c, d, e, f, g, h, ports @ ..] = addresses;
    Ok(with_ports([a, b, c, d].into(), [e, f, g, h].into(), ports))
}

fn endpoints_v6(bytes: &[u8]) -> Result<AddressPair, &'static str> {
    let (source, rest) = bytes.split_first_chunk::<16>().ok_or(SHORT)?;
    let (destination, rest) = rest.split_first_chunk::<16>().ok_or(SHORT)?;
    let (ports, _) = rest.split_first_chunk::<4>().ok_or(SHORT)?;
    Ok(with_ports((*source).into(), (*destination).into(), *ports))
}

fn with_ports(source: IpAddr, destination: IpAddr, [a, b, c, d]: [u8; 4]) -> AddressPair {
    AddressPair {
        source: SocketAddr::new(source, u16::from_be_bytes([a, b])),
        destination: SocketAddr::new(destination, u16::from_be_bytes([c, d])),
    }
}

impl Header {
    /// The addresses of the client, if the header has them.
    pub fn client(&self) -> Option<AddressPair> {
        match self.origin {
            Origin::Client(addresses) => Some(addresses),
            Origin::Local | Origin::Unknown => None,
        }
    }

    /// The header for a connection that came without one.
    pub fn of(addresses: Option<AddressPair>) -> Header {
        Header {
            origin: addresses.map_or(Origin::Unknown, Origin::Client),
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
        // Version 1 has only UNKNOWN for LOCAL and for a client without an IP address.
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
        let Origin::Client(AddressPair {
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
mod tests;
