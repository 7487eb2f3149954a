//! SIGTERM under traffic.

use std::io::{self, Read, Write};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use crate::fixture::Fixture;
use crate::network::{Network, POD};

/// From the signal to the end of accepting.
const DELAY: Duration = Duration::from_secs(1);

#[test]
fn under_traffic_a_sigterm_costs_nobody_a_byte_before_the_drain_delay_is_over() {
    let Some(network) = Network::new() else {
        return;
    };
    let mut fixture = Fixture::awake(network, &[POD], &[("ZPA_DRAIN_DELAY", "1s")]);
    let _pod = fixture.echo_at(POD);
    let signalled = Mutex::new(None);
    let mut old = fixture.connect_many(100);
    old.iter_mut().for_each(|client| crate::echo(client, "old"));
    thread::scope(|scope| {
        let coming: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| come_and_go(&fixture, &signalled)))
            .collect();
        fixture.zpa.expect_log_times("finished", 50);
        *signalled.lock().unwrap() = Some(Instant::now());
        fixture.zpa.signal("TERM");
        for thread in coming {
            let served = thread.join().unwrap();
            assert!(served > 0);
        }
    });
    // Nothing new is accepted; what is there goes on.
    old.iter_mut()
        .for_each(|client| crate::echo(client, "still here"));
    drop(old);
    assert!(fixture.zpa.wait().success());
    fixture.zpa.expect_log("drained");
}

/// Visits until one fails, which may happen only after the delay. Returns how
/// many did not.
fn come_and_go(fixture: &Fixture, signalled: &Mutex<Option<Instant>>) -> usize {
    let address = fixture.zpa.address();
    let mut served = 0;
    while fixture.network.clients.enter(|| visit(address)).is_ok() {
        served += 1;
    }
    let since = signalled.lock().unwrap().expect("it got a SIGTERM");
    assert!(since.elapsed() >= DELAY, "{:?}", since.elapsed());
    served
}

/// One connection: a message there and back, and an orderly end each way.
fn visit(address: std::net::SocketAddr) -> io::Result<()> {
    const TEXT: &[u8] = b"just passing";
    let mut stream = std::net::TcpStream::connect(address)?;
    stream.set_read_timeout(Some(support::program::TEST_TIMEOUT))?;
    stream.write_all(TEXT)?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut got = Vec::new();
    stream.read_to_end(&mut got)?;
    assert_eq!(got, TEXT);
    Ok(())
}
