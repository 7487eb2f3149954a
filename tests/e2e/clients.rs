//! The rules about clients, through the real binary.

use super::*;
use std::net::SocketAddr;
use std::process::Command;

use socket2::{Domain, Socket, Type};

/// A client that connects from `source`, an address of the loopback network.
pub fn connect_from(zpa: &Zpa, source: [u8; 4]) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    socket.connect(&zpa.address().into()).unwrap();
    socket.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    socket.into()
}

#[test]
fn an_ignored_client_wakes_nothing_is_served_while_awake_and_keeps_nothing_awake() {
    let sandbox = asleep();
    let ignored = ("ZPA_IGNORE_SOURCES", "127.0.0.2");
    let zpa = start_zpa(&sandbox, &[SHORT_TTL, ignored]);
    settle_asleep(&sandbox, &zpa);
    let mut check = connect_from(&zpa, [127, 0, 0, 2]);
    let closed = check.read(&mut [0]).unwrap();
    assert_eq!((closed, patches(&sandbox, 1)), (0, 0), "asleep: closed");
    let mut client = zpa.connect();
    echo(&mut client, "good morning");
    let mut check = connect_from(&zpa, [127, 0, 0, 2]);
    echo(&mut check, "well?");
    drop(client);
    zpa.expect_log("scaled to 0 after");
    let mut rest = Vec::new();
    let _cut = check.read_to_end(&mut rest);
    assert_eq!(rest, b"", "it was open, and the app sleeps all the same");
    expect_one_patch(&sandbox, 0);
}

#[test]
fn a_denied_client_is_reset() {
    let sandbox = awake();
    let denied = ("ZPA_DENY_SOURCES", "127.0.0.2,127.0.0.64/26");
    let zpa = start_zpa(&sandbox, &[LONG_TTL, denied]);
    for source in [[127, 0, 0, 2], [127, 0, 0, 127]] {
        expect_reset(&mut connect_from(&zpa, source));
    }
    echo(&mut connect_from(&zpa, [127, 0, 0, 128]), "let in");
}

#[test]
fn a_silent_connection_does_not_keep_the_app_awake_and_is_closed_when_it_sleeps() {
    let sandbox = awake();
    let silent = ("ZPA_SILENT_AFTER", "500ms");
    let zpa = start_zpa(&sandbox, &[SHORT_TTL, silent]);
    let mut client = zpa.connect();
    echo(&mut client, "only this");
    zpa.expect_log("scaled to 0 after");
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).expect("an end in order");
    assert_eq!(rest, b"");
    expect_one_patch(&sandbox, 0);
    let mut client = zpa.connect();
    echo(&mut client, "it wakes again");
}

/// The pod of its connection is ending, and may well be what has sent the byte: a server
/// that is stopped takes its leave.
#[test]
fn a_byte_on_a_silent_connection_wakes_nothing_once_the_scale_is_zero() {
    let sandbox = awake();
    let silent = ("ZPA_SILENT_AFTER", "500ms");
    let zpa = start_zpa(&sandbox, &[SHORT_TTL, silent]);
    let mut client = zpa.connect();
    echo(&mut client, "only this");
    sandbox.set_stop_delay(seconds(5));
    let zero = on("patch", "deployments/scale").with(|e| e.replicas() == Some(0));
    let late = sandbox::Misbehaviour::Delay(seconds(2));
    sandbox.fault(zero, sandbox::Times::First(1), late);
    sandbox.expect("it sleeps", |state| state.replicas() == 0);
    client.write_all(b"and this").unwrap();
    let ended = client.read(&mut [0]);
    assert!(!matches!(ended, Ok(1..)), "the sleep ends it: {ended:?}");
    zpa.expect_metric("zpa_phase{phase=\"asleep\"}", 1.0);
    assert_eq!(zpa.logged("waking"), 0, "{}", zpa.log());
    assert_eq!(patches(&sandbox, 1), 0);
}

#[test]
fn checks_and_scans_wake_nothing_and_a_request_does() {
    let sandbox = asleep();
    let settings = [
        LONG_TTL,
        ("ZPA_WAKE_ON", "http"),
        ("ZPA_PROBE_ANSWER", "200"),
        ("ZPA_PROBE_PATHS", "/well"),
    ];
    let zpa = start_zpa(&sandbox, &settings);
    settle_asleep(&sandbox, &zpa);
    for check in [
        "GET / HTTP/1.1\r\nUser-Agent: kube-probe/1.34\r\n\r\n",
        "HEAD /well HTTP/1.0\r\n\r\n",
    ] {
        let mut client = zpa.connect();
        client.write_all(check.as_bytes()).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("an end in order");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }
    drop(zpa.connect());
    let mut scan = zpa.connect();
    scan.write_all(b"SSH-2.0-scan\r\n").unwrap();
    assert!(!matches!(scan.read(&mut [0]), Ok(1..)), "it is closed");
    assert_eq!(patches(&sandbox, 1), 0);
    let mut client = zpa.connect();
    echo(&mut client, "GET / HTTP/1.1\r\n\r\n");
    expect_one_patch(&sandbox, 1);
}

/// libpq asks for encryption first, and has to be refused that before it takes an error.
#[test]
fn psql_shows_why_it_was_held_in_vain() {
    let sandbox = asleep();
    sandbox.set_start_delay(TEST_TIMEOUT);
    let settings = [
        LONG_TTL,
        ("ZPA_WAKE_ON", "postgres"),
        ("ZPA_HOLD_ANSWER", "postgres"),
        ("ZPA_HOLD_TIMEOUT", "500ms"),
    ];
    let zpa = start_zpa(&sandbox, &settings);
    settle_asleep(&sandbox, &zpa);
    let port = zpa.address().port();
    let target = format!("host=127.0.0.1 port={port} user=u dbname=d sslmode=prefer");
    let run = Command::new("psql")
        .args(["-c", "select 1", &target])
        .output();
    let Ok(output) = run else {
        support::skip_without("psql");
        return;
    };
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.contains("the database is waking up, try again"),
        "{stderr}"
    );
    expect_one_patch(&sandbox, 1);
}

#[test]
fn an_answer_that_cannot_be_read_is_an_error_that_names_the_setting() {
    let output = Command::new(env!("CARGO_BIN_EXE_zpa"))
        .env_clear()
        .args([
            "--deployment=app",
            "--namespace=n",
            "--api-server=http://127.0.0.1:1",
            "--listen=127.0.0.1:0",
            "--admin-listen=off",
            "--hold-answer=/nonexistent/answer",
        ])
        .output()
        .expect("zpa runs");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let stderr = String::from_utf8_lossy(&output.stderr);
    let named = "--hold-answer (ZPA_HOLD_ANSWER) /nonexistent/answer: No such file";
    assert!(stderr.contains(named), "{stderr}");
}

/// It needs no lease, since anybody may put the app to sleep under it; what is let through
/// without one is an alarm otherwise.
#[test]
fn an_ignored_client_is_served_without_a_lease_and_that_is_no_alarm() {
    let sandbox = awake();
    let ignored = ("ZPA_IGNORE_SOURCES", "127.0.0.2");
    let zpa = start_zpa(&sandbox, &[LONG_TTL, ignored]);
    zpa.expect_metric("zpa_backends", 1.0);
    echo(&mut connect_from(&zpa, [127, 0, 0, 2]), "well?");
    zpa.expect_metric("zpa_forwarded_total", 1.0);
    assert_eq!(zpa.metric("zpa_forwarded_without_lease_total"), Some(0.0));
    let rule = "zpa_connections_excluded_total{rule=\"ignored\"}";
    assert_eq!(zpa.metric(rule), Some(1.0));
}

/// The app never gets ready. The target is named, so that it is resolved.
#[test]
fn who_waits_in_vain_is_led_to_the_backup_target_and_later_ones_to_the_app() {
    let sandbox = asleep();
    sandbox.never_ready();
    let page = sandbox.server_at(
        ([127, 0, 0, 1], 0).into(),
        "page",
        sandbox::PodProgram::Http,
    );
    let target = format!("localhost:{}", page.address().port());
    let zpa = start_zpa(
        &sandbox,
        &[
            LONG_TTL,
            ("ZPA_BACKUP_TARGET", &target),
            ("ZPA_BACKUP_AFTER", "1s"),
        ],
    );
    settle_asleep(&sandbox, &zpa);
    let mut client = zpa.connect();
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: app\r\n\r\n")
        .unwrap();
    let mut answer = vec![0; 1024];
    let len = client.read(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer[..len]);
    assert!(answer.contains("page"), "{answer}");
    zpa.expect_metric("zpa_connections_excluded_total{rule=\"backup\"}", 1.0);
    zpa.expect_metric("zpa_connections_counted", 0.0);
    assert_eq!(zpa.metric("zpa_forwarded_total"), Some(0.0));
    assert_eq!(
        sandbox.count(&on("patch", "deployments/scale")),
        1,
        "it was woken"
    );
}

#[test]
fn a_browser_sees_a_page_until_the_app_is_there_and_its_request_wakes_it() {
    let sandbox = asleep();
    sandbox.never_ready();
    let settings = [
        SHORT_TTL,
        ("ZPA_WAKE_ON", "http"),
        ("ZPA_WAITING_PAGE", "built-in"),
    ];
    let zpa = start_zpa(&sandbox, &settings);
    settle_asleep(&sandbox, &zpa);
    let mut browser = zpa.connect();
    let request = b"GET / HTTP/1.1\r\nHost: app\r\nAccept: text/html\r\n\r\n";
    browser.write_all(request).unwrap();
    let mut page = String::new();
    browser.read_to_string(&mut page).unwrap();
    assert!(page.starts_with("HTTP/1.1 503 "), "{page}");
    assert!(page.contains("<h1>myapp is starting</h1>"), "{page}");
    drop(browser);
    expect_one_patch(&sandbox, 1);
    let mut other = zpa.connect();
    other
        .write_all(b"GET / HTTP/1.1\r\nHost: app\r\n\r\n")
        .unwrap();
    zpa.expect_metric("zpa_connections_closed_total{reason=\"waiting_page\"}", 1.0);
    zpa.expect_metric("zpa_connections_waiting", 1.0);
}

#[test]
fn a_silent_client_keeps_its_connection_over_a_sleep_and_its_next_byte_wakes_the_app() {
    let sandbox = asleep();
    let settings = [
        SHORT_TTL,
        ("ZPA_SILENT_AFTER", "1s"),
        ("ZPA_SILENT_CONNECTIONS", "detach"),
        ("ZPA_IDLE_TIMEOUT", "1h"),
    ];
    let zpa = start_zpa(&sandbox, &settings);
    settle_asleep(&sandbox, &zpa);
    let mut client = zpa.connect();
    for sleep in 1..=2 {
        echo(&mut client, "good morning");
        zpa.expect_log_times("scaled to 0 after", sleep);
        sandbox.expect("the pods are gone", |state| state.pods() == 0);
        zpa.expect_metric("zpa_connections_detached", 1.0);
    }
    assert_eq!(zpa.metric("zpa_connections_total"), Some(1.0));
    assert_eq!(zpa.metric("zpa_connections_reattached_total"), Some(1.0));
    // Its client would be led to another proxy.
    zpa.signal("TERM");
    assert_eq!(client.read(&mut [0]).unwrap(), 0, "it is closed in order");
}
