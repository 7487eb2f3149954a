//! A target by name, and a name server that answers for IPv4 and fails in several ways for IPv6.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::process::Command;
use std::thread;

use support::namespace::Namespace;
use support::program::Zpa;
use support::sandbox::{Options, PodProgram, Sandbox};

use crate::echo;

/// What the name server does where it is asked for an IPv6 address, by the first
/// label of the name: the RCODE (RFC 1035, 4.1.1), or nothing at all.
const FAULTS: [(&str, Option<u8>); 6] = [
    ("empty", Some(0)),
    ("nxdomain", Some(3)),
    ("servfail", Some(2)),
    ("refused", Some(5)),
    ("notimp", Some(4)),
    ("silent", None),
];

/// Longer than any of the tests waits, so that nothing is served by a resolver
/// that has given up.
const RESOLV_CONF: &str = "nameserver 127.0.0.1\noptions timeout:30 attempts:1\n";

#[test]
fn a_target_that_has_an_ipv4_address_is_dialled_whatever_is_said_of_ipv6() {
    let namespace = match Namespace::new() {
        Ok(namespace) => namespace,
        Err(why) => return support::skip(&format!("no network namespace: {why}")),
    };
    let directory = std::env::temp_dir().join(format!("zpa-resolver-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory of our own");
    let resolv_conf = directory.join("resolv.conf");
    std::fs::write(&resolv_conf, RESOLV_CONF).expect("a file of our own");
    namespace.enter(|| {
        let sandbox = Sandbox::start(Options {
            replicas: 1,
            ..Options::default()
        });
        let server = sandbox.lone_server("target", PodProgram::Echo);
        let IpAddr::V4(ip) = server.address().ip() else {
            panic!("the sandbox has IPv4 addresses");
        };
        let socket = UdpSocket::bind("127.0.0.1:53").expect("the port of a namespace of our own");
        thread::spawn(move || serve(&socket, ip));
        for (name, _) in FAULTS {
            let target = format!("{name}.test:{}", server.address().port());
            // A mount namespace of its own, so that no other program sees the file.
            let mut command = Command::new("unshare");
            let script = "mount --bind \"$1\" /etc/resolv.conf && exec \"$0\"";
            command
                .args(["--mount", "sh", "-c", script])
                .arg(binary())
                .arg(&resolv_conf)
                .envs(sandbox.env())
                .env("ZPA_LISTEN", "127.0.0.1:0")
                .env("ZPA_LOG", "debug")
                .env("ZPA_TARGET", &target);
            let zpa = Zpa::spawn(command);
            echo(&mut zpa.connect(), name);
        }
    });
    let _ = std::fs::remove_dir_all(directory);
}

/// Answers every question until the process ends.
fn serve(socket: &UdpSocket, ip: Ipv4Addr) {
    let mut buffer = [0; 512];
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        if let Some(reply) = reply(&buffer[..length], ip) {
            let _ = socket.send_to(&reply, from);
        }
    }
}

/// The answer to a question about one name (RFC 1035, 4.1); None for silence.
fn reply(query: &[u8], ip: Ipv4Addr) -> Option<Vec<u8>> {
    const A: [u8; 2] = [0, 1];
    let length = usize::from(query[12]);
    let label = std::str::from_utf8(&query[13..13 + length]).expect("a label of ours");
    let end = 12
        + query[12..]
            .iter()
            .position(|byte| *byte == 0)
            .expect("a whole name")
        + 1;
    let (kind, question) = (&query[end..end + 2], &query[12..end + 4]);
    let fault = FAULTS.iter().find(|(name, _)| *name == label);
    let (_, fault) = fault.expect("a name of ours");
    let is_v4 = kind == A;
    let rcode = if is_v4 { 0 } else { (*fault)? };
    let answers = u8::from(is_v4);
    let mut reply = query[..2].to_vec();
    reply.extend([0x81, 0x80 | rcode, 0, 1, 0, answers, 0, 0, 0, 0]);
    reply.extend(question);
    if is_v4 {
        // The name of the question, A, IN, a minute, four bytes.
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        reply.extend(ip.octets());
    }
    Some(reply)
}

/// The program, or another build of it: musl resolves names in its own way.
fn binary() -> String {
    let built = env!("CARGO_BIN_EXE_zpa").to_owned();
    std::env::var("ZPA_BINARY").unwrap_or(built)
}
