use super::*;

fn client(source: &str, destination: &str) -> Origin {
    Origin::Client(AddressPair {
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
    let longest = vec![7; MAX_LEN - FIXED_V2];
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
    let oversized = v2(0x21, 0x00, &vec![0; MAX_LEN - FIXED_V2 + 1]);
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
        let header = Header::of(Some(AddressPair {
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
