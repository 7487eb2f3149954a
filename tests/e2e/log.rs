//! A log without a reader: it stops neither connections, nor admin requests, nor the exit.

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
    // A line that a thread logs meanwhile may be lost too.
    let said: f64 = said.unwrap().parse().unwrap();
    assert!(said >= dropped, "{line}");
    assert!(zpa.metric(DROPPED) >= Some(said), "{line}");
    echo(&mut zpa.connect(), "and the log goes on");
    zpa.expect_log(&format!("#{} relaying", CONNECTIONS + 1));

    zpa.pause_log(true);
    serve_many(&zpa);
    drop(old);
    zpa.signal("TERM");
    let start = Instant::now();
    while zpa.is_running() {
        assert!(start.elapsed() < TEST_TIMEOUT, "it does not end");
        thread::sleep(Duration::from_millis(10));
    }
    zpa.pause_log(false);
    assert!(zpa.wait().success());
}

#[test]
fn as_json_every_line_is_one_object_with_time_level_and_message() {
    let sandbox = asleep();
    let json = ("ZPA_LOG_FORMAT", "json");
    let mut zpa = start_zpa(&sandbox, &[LONG_TTL, json, ("ZPA_IDLE", "a mistake")]);
    echo(&mut zpa.connect(), "a wake");
    zpa.signal("TERM");
    zpa.wait();
    let mut levels = std::collections::BTreeSet::new();
    for line in zpa.log().lines() {
        let object: serde_json::Value = serde_json::from_str(line).unwrap();
        let keys: Vec<&String> = object.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["level", "msg", "time"], "{line}");
        assert!(object["time"].as_str().unwrap().ends_with('Z'), "{line}");
        levels.insert(object["level"].as_str().unwrap().to_owned());
    }
    let expected = ["debug", "info", "warn"].map(str::to_owned);
    assert_eq!(levels, expected.into());
}

#[test]
fn as_json_the_error_that_ends_the_program_is_an_object_too() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_zpa"))
        .env_clear()
        .args(["--deployment=app", "--log-format=json"])
        .args([
            "--credentials=/nonexistent",
            "--api-server=https://127.0.0.1:1",
        ])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8(output.stderr).unwrap();
    let last = stderr.lines().last().unwrap();
    let object: serde_json::Value = serde_json::from_str(last).unwrap();
    assert_eq!(object["level"], "error");
    let message = object["msg"].as_str().unwrap();
    assert!(message.contains("/nonexistent"), "{message}");
}

/// `spec.replicas` is written by somebody else while a client is connected here.
#[test]
fn a_sleep_that_somebody_else_causes_under_a_connection_is_a_warning() {
    let sandbox = awake();
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    let mut client = zpa.connect();
    echo(&mut client, "connected");
    sandbox.set_replicas(0);
    let line = zpa.expect_log("scaled to 0 by somebody else while 1 connection is open here");
    assert!(line.contains("WARN"), "{line}");
}
