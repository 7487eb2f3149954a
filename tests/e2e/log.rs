//! A log that nobody reads: it stops neither connections, nor answers, nor the end.

use super::*;
use std::thread;
use std::time::Instant;

/// Each connection is three lines at the level debug. The pipe has room for some
/// 800 lines, and the queue before it for some 8,000.
const CONNECTIONS: usize = 4_000;

const DROPPED: &str = "zpa_log_lines_dropped_total";

fn serve_many(zpa: &Zpa) {
    for _ in 0..CONNECTIONS {
        echo(&mut zpa.connect(), "served");
    }
}

#[test]
fn a_log_that_nobody_reads_stops_nothing_and_what_is_lost_is_counted_and_said() {
    let sandbox = awake();
    let mut zpa = start_zpa(&sandbox, &[LONG_TTL]);
    let mut old = zpa.connect();
    echo(&mut old, "before");
    zpa.visit(); // Its address is in the log.
    assert_eq!(zpa.metric(DROPPED), Some(0.0));
    zpa.pause_log(true);
    serve_many(&zpa);
    echo(&mut old, "an old connection");
    assert_eq!(zpa.get("/healthz").0, 200);
    let dropped = zpa.metric(DROPPED).unwrap();
    assert!(dropped > 0.0);

    zpa.pause_log(false);
    let line = zpa.expect_log("lines of the log dropped: whoever reads stderr was too slow");
    let said = line
        .strip_prefix("zpa: ")
        .and_then(|line| line.split(' ').next());
    assert_eq!(said.unwrap().parse(), Ok(dropped), "{line}");
    echo(&mut zpa.connect(), "and the log goes on");
    zpa.expect_log(&format!("#{} relaying", CONNECTIONS + 1));

    zpa.pause_log(true);
    serve_many(&zpa);
    drop(old);
    zpa.signal("TERM");
    let start = Instant::now();
    while zpa.is_running() {
        assert!(start.elapsed() < PATIENCE, "it does not end");
        thread::sleep(Duration::from_millis(10));
    }
    zpa.pause_log(false);
    assert!(zpa.wait().success());
}
