//! Browsers that come while no backend is there, and get a page at once.

use super::*;
use crate::engine::counters::CountedAs;
use crate::rules::first_bytes::WakeOn;
use crate::rules::waiting_page::{SHOWN_FOR, WaitingPage};
use crate::rules::{Preread, Rules};

const BROWSER: &str = "GET / HTTP/1.1\r\nHost: app\r\nAccept: text/html\r\n\r\n";
const CURL: &str = "GET / HTTP/1.1\r\nHost: app\r\nAccept: */*\r\n\r\n";

fn rules(wake_on: WakeOn) -> Rules {
    let page = WaitingPage::BuiltIn.load("app", |_| panic!("it has no file"));
    let mut rules = Rules {
        waiting_page: page.unwrap(),
        ..Rules::default()
    };
    rules.first_bytes.wake_on = wake_on;
    rules
}

fn asleep(wake_on: WakeOn) -> Rig {
    let rules = rules(wake_on);
    assert!(rules.needs_first_bytes(false));
    Rig::asleep(rules, Preread::default())
}

#[test]
fn a_browser_gets_the_page_and_counts_until_it_has_come_again() {
    for (label, end) in [
        ("it stays", None),
        ("it leaves", Some(Client(Fin))),
        ("it resets", Some(Client(Reset))),
    ] {
        for wake_on in [WakeOn::Accept, WakeOn::FirstByte, WakeOn::Http] {
            let mut rig = asleep(wake_on);
            rig.play(&[Client(Send(BROWSER))]);
            let page = String::from_utf8(rig.client.received()).unwrap();
            assert!(page.starts_with("HTTP/1.1 503 "), "{label}: {page}");
            assert!(page.ends_with("</html>\n"), "{label}: {page}");
            rig.play(end.as_slice());
            rig.play(&[Wait(SHOWN_FOR - Duration::from_millis(1))]);
            let counts = rig.port.counts;
            assert_eq!((counts.waiting, counts.uses), (1, 1), "{label}");
            rig.play(&[Wait(Duration::from_millis(1))]);
            assert_eq!(rig.close_reason, Some(CloseReason::WaitingPage), "{label}");
            assert_eq!(rig.port.counts.counted, 0, "{label}");
            assert_eq!(rig.leftovers(), [""; 0], "{label}");
        }
    }
}

#[test]
fn others_are_held_and_whoever_a_backend_can_serve_is_served() {
    let mut curl = asleep(WakeOn::Accept);
    curl.play(&[Client(Send(CURL))]);
    assert_eq!(curl.story(), "client:  | backends:  | open, holding");
    assert_eq!(curl.counted_as(), CountedAs::Waiting);
    curl.play(&[Backends(1), Gate(true), Backend(Accept)]);
    assert_eq!(curl.dialled[0].received(), CURL.as_bytes());

    let mut slow = asleep(WakeOn::Accept);
    slow.play(&[Client(Send(&BROWSER[..30]))]);
    assert_eq!(slow.counted_as(), CountedAs::Nothing, "it may become one");
    slow.play(&[Client(Send(&BROWSER[30..]))]);
    assert!(slow.client.received().starts_with(b"HTTP/1.1 503 "));

    for (label, gate_open) in [("awake", true), ("without a lease yet", false)] {
        let preread = Preread::default();
        let mut rig = Rig::screened(rules(WakeOn::Accept), preread, gate_open);
        rig.play(&[Client(Send(BROWSER)), Gate(true), Backend(Accept)]);
        assert_eq!(rig.client.received(), b"", "{label}");
        assert_eq!(rig.dialled[0].received(), BROWSER.as_bytes(), "{label}");
    }

    let ignored = Preread {
        is_ignored: true,
        ..Preread::default()
    };
    let mut rig = Rig::asleep(rules(WakeOn::Http), ignored);
    rig.play(&[Client(Send(BROWSER))]);
    assert_eq!(rig.client.received(), b"", "it does not wake the app");
    assert_eq!(rig.port.counts.uses, 0);
}

#[test]
fn a_browser_that_stops_amid_the_page_does_not_count_for_longer() {
    let mut rig = Rig::accepted(1, 0, false, Usage::Uncounted);
    rig.port.rules = rules(WakeOn::Http);
    rig.preread(Preread::default());
    rig.play(&[Client(Send(BROWSER)), Client(Reset)]);
    assert_eq!(rig.close_reason, Some(CloseReason::WaitingPage));
    assert_eq!(rig.port.counts.counted, 0);
}
