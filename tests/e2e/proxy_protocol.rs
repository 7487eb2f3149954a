//! The PROXY protocol with HAProxy before and behind the binary.

use super::*;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// HAProxy as a load balancer that says who the client is, and as an app that answers
/// with the client in the header.
struct Haproxy {
    child: Child,
    configuration: PathBuf,
    front: SocketAddr,
}

/// A port that was free a moment ago.
fn free_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

fn is_installed() -> bool {
    let run = Command::new("haproxy")
        .arg("-v")
        .stdout(Stdio::null())
        .status();
    let is_there = run.is_ok_and(|status| status.success());
    if !is_there {
        support::skip_without("haproxy");
    }
    is_there
}

impl Haproxy {
    /// Hands `front` on to `zpa`, with a header as `send` has it, and answers at `back`.
    fn start(zpa: SocketAddr, back: SocketAddr, send: &str) -> Haproxy {
        let front = free_port();
        let configuration = format!(
            "global\n  maxconn 100\n\
             defaults\n  timeout connect 10s\n  timeout client 60s\n  timeout server 60s\n\
             listen front\n  mode tcp\n  bind {front}\n  unique-id-format id-%cp\n  \
             server zpa {zpa} {send}\n\
             frontend back\n  mode http\n  bind {back} accept-proxy\n  \
             http-request return status 200 content-type text/plain \
             lf-string \"%[src]:%[src_port] %[fc_pp_unique_id]\"\n"
        );
        let name = format!("zpa-e2e-haproxy-{}-{}", std::process::id(), front.port());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, configuration).unwrap();
        let child = Command::new("haproxy")
            .args(["-db", "-f"])
            .arg(&path)
            .stdout(Stdio::null())
            .spawn()
            .expect("haproxy runs");
        let haproxy = Haproxy {
            child,
            configuration: path,
            front,
        };
        let deadline = Instant::now() + TEST_TIMEOUT;
        while TcpStream::connect(back).is_err() {
            assert!(Instant::now() < deadline, "haproxy does not listen");
            std::thread::yield_now();
        }
        haproxy
    }

    /// The client in the header at the app, and the address that the client has.
    fn ask(&self) -> io::Result<(String, SocketAddr)> {
        let mut client = TcpStream::connect(self.front)?;
        client.set_read_timeout(Some(TEST_TIMEOUT))?;
        client.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        client.read_to_string(&mut answer)?;
        let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        Ok((body.to_owned(), client.local_addr()?))
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.configuration);
    }
}

/// The address of the client comes through, from a load balancer to the app, in either
/// version; in version 2 with the TLVs, over which HAProxy has made a checksum that it
/// verifies where it reads it.
#[test]
fn the_address_of_a_client_comes_through_from_haproxy_to_haproxy() {
    if !is_installed() {
        return;
    }
    for (send, version, has_tlvs) in [
        ("send-proxy", "v1", false),
        ("send-proxy", "v2", false),
        (
            "send-proxy-v2 proxy-v2-options unique-id,crc32c",
            "v2",
            true,
        ),
        ("send-proxy-v2 proxy-v2-options unique-id", "v1", false),
    ] {
        let sandbox = asleep();
        let back = free_port();
        let zpa = start_zpa(
            &sandbox,
            &[
                LONG_TTL,
                ("ZPA_TARGET", &back.to_string()),
                ("ZPA_ACCEPT_PROXY_PROTOCOL", "127.0.0.1"),
                ("ZPA_SEND_PROXY_PROTOCOL", version),
            ],
        );
        settle_asleep(&sandbox, &zpa);
        let haproxy = Haproxy::start(zpa.address(), back, send);
        let (stated, client) = haproxy.ask().unwrap();
        let id = if has_tlvs {
            format!("id-{}", client.port())
        } else {
            String::new()
        };
        assert_eq!(stated, format!("{client} {id}"), "{send}, {version}");
        expect_one_patch(&sandbox, 1);
    }
}

#[test]
fn a_load_balancer_that_sends_no_header_is_logged_and_others_headers_are_bytes() {
    let sandbox = asleep();
    let balancer = ("ZPA_ACCEPT_PROXY_PROTOCOL", "127.0.0.1/32");
    let zpa = start_zpa(&sandbox, &[LONG_TTL, balancer]);
    settle_asleep(&sandbox, &zpa);
    let mut client = zpa.connect();
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    expect_reset(&mut client);
    let line = zpa.expect_log("are to begin with a PROXY header");
    assert!(
        line.contains("WARN") && line.contains("127.0.0.1"),
        "{line}"
    );
    assert_eq!(patches(&sandbox, 1), 0, "it wakes nothing");
    let mut client = clients::connect_from(&zpa, [127, 0, 0, 2]);
    echo(&mut client, "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n");
}
