//! List and watch over the recordings of a real API server, a step at a time.

use super::super::endpoints::Store as EndpointStore;
use super::super::pages::MAX_REQUESTS;
use super::super::testing::{recorded_body, recorded_lines};
use super::*;
use crate::cluster::AddressSource;

/// A watcher of slices, with a clock that stands where the test puts it.
struct Rig {
    watcher: Watcher,
    store: EndpointStore,
    now: Time,
}

impl Rig {
    fn new() -> Self {
        Rig {
            watcher: Watcher::new(1),
            store: EndpointStore::new(AddressSource::EndpointSlices),
            now: Time::from_millis(1_000_000),
        }
    }

    /// A watch is open from version 10298.
    fn watching() -> Self {
        let mut rig = Rig::new();
        assert_eq!(rig.list("05-slices-list-empty"), WatcherOutcome::Listed);
        assert_eq!(rig.open(), WatcherOutcome::Opened);
        rig
    }

    fn event(&mut self, event: WatcherInput<'_>) -> WatcherOutcome {
        self.watcher.handle(event, &mut self.store, self.now)
    }

    fn list(&mut self, recording: &str) -> WatcherOutcome {
        self.event(WatcherInput::Page(Response::Ok(recorded_body(recording))))
    }

    fn open(&mut self) -> WatcherOutcome {
        assert!(matches!(self.action(), WatcherAction::Watch { .. }));
        self.event(WatcherInput::Opened(Response::Ok(())))
    }

    fn action(&mut self) -> WatcherAction {
        self.watcher.action(None, self.now)
    }

    /// The version that the next watch begins from.
    fn watches_from(&mut self) -> Option<String> {
        match self.after_pause() {
            WatcherAction::Watch { version, .. } => Some(version),
            _ => None,
        }
    }

    fn after_pause(&mut self) -> WatcherAction {
        if let Some(end) = self.watcher.poll_timeout() {
            self.now = self.now.max(end);
        }
        self.action()
    }

    fn pass(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
    }

    /// How long nothing is asked now.
    fn pause(&self) -> Duration {
        let end = self.watcher.poll_timeout();
        end.map_or(Duration::ZERO, |end| end.since(self.now))
    }
}

fn first_page() -> WatcherAction {
    WatcherAction::List {
        limit: 64,
        continue_token: String::new(),
    }
}

fn line(number: usize) -> Vec<u8> {
    let mut line = recorded_lines("07-slices-watch-zero-one-zero")[number].clone();
    line.push(b'\n');
    line
}

fn refused<T>(status: u16, retry_after: Option<u64>) -> Response<T> {
    Response::Status {
        status,
        retry_after: retry_after.map(Duration::from_secs),
        why: format!("{status} no"),
    }
}

#[test]
fn it_lists_watches_from_there_and_goes_on_from_where_a_watch_has_got() {
    let mut rig = Rig::new();
    assert_eq!(rig.action(), first_page());
    assert_eq!(rig.list("05-slices-list-empty"), WatcherOutcome::Listed);
    assert_eq!(rig.watches_from().as_deref(), Some("10298"));
    assert_eq!(
        rig.event(WatcherInput::Opened(Response::Ok(()))),
        WatcherOutcome::Opened
    );
    for (number, reached) in [(0, "10312"), (1, "10318"), (2, "10326"), (3, "10334")] {
        assert_eq!(rig.action(), WatcherAction::Read);
        assert_eq!(
            rig.event(WatcherInput::Bytes(&line(number))),
            WatcherOutcome::Changed
        );
        rig.pass(20);
        assert!(matches!(
            rig.event(WatcherInput::Ended),
            WatcherOutcome::WatchEnded(_)
        ));
        assert_eq!(rig.watches_from().as_deref(), Some(reached), "{number}");
        rig.event(WatcherInput::Opened(Response::Ok(())));
    }
}

#[test]
fn a_bookmark_moves_the_version_and_a_line_may_come_in_pieces() {
    let mut rig = Rig::watching();
    let bookmark = line(4);
    let (one, other) = bookmark.split_at(30);
    assert_eq!(rig.event(WatcherInput::Bytes(one)), WatcherOutcome::Quiet);
    assert_eq!(
        rig.event(WatcherInput::Bytes(other)),
        WatcherOutcome::Changed
    );
    rig.event(WatcherInput::Ended);
    assert_eq!(rig.watches_from().as_deref(), Some("10334"));
}

#[test]
fn what_breaks_a_watch_is_followed_by_a_list_and_what_ends_it_in_order_by_a_watch() {
    let expired = [recorded_body("20-slices-watch-too-old"), b"\n".to_vec()].concat();
    let half = line(0)[..200].to_vec();
    let long = [vec![b'x'; MAX_LINE_LEN + 1], b"\n".to_vec()].concat();
    for (label, bytes, end, lists) in [
        ("ended in order", line(0), Some(WatcherInput::Ended), false),
        (
            "ended in mid-line",
            half.clone(),
            Some(WatcherInput::Ended),
            true,
        ),
        (
            "broken off",
            line(0),
            Some(WatcherInput::Broken("reset".into())),
            true,
        ),
        (
            "broken off in mid-line",
            half,
            Some(WatcherInput::Broken("reset".into())),
            true,
        ),
        ("410 as an ERROR event", expired, None, true),
        ("a line that is too long and no event", long, None, true),
        ("not JSON", b"{\"type\":\n".to_vec(), None, true),
        ("not UTF-8", b"{\"type\":\"\xff\"}\n".to_vec(), None, true),
        ("no event", b"{\"kind\":\"Pod\"}\n".to_vec(), None, true),
        (
            "a request to list again",
            line(0),
            Some(WatcherInput::Relist),
            true,
        ),
    ] {
        let mut rig = Rig::watching();
        rig.event(WatcherInput::Bytes(&bytes));
        if let Some(end) = end {
            rig.event(end);
        }
        assert_ne!(
            rig.action(),
            WatcherAction::Read,
            "{label}: the stream is left"
        );
        assert_eq!(rig.after_pause() == first_page(), lists, "{label}");
    }
}

/// A load balancer that ends each after a few seconds would have it opened again all the time.
#[test]
fn a_watch_that_ends_before_ten_seconds_is_opened_again_after_a_pause() {
    for (label, lasted, is_at_once) in
        [("early", 9_999, false), ("after ten seconds", 10_000, true)]
    {
        let mut rig = Rig::watching();
        rig.event(WatcherInput::Bytes(&line(0)));
        rig.now = rig.now + Duration::from_millis(lasted);
        rig.event(WatcherInput::Ended);
        let is_opened = matches!(rig.action(), WatcherAction::Watch { .. });
        assert_eq!(is_opened, is_at_once, "{label}");
    }
}

#[test]
fn a_watch_that_is_refused_is_followed_by_a_list() {
    for (label, answer, outcome) in [
        (
            "410 as a status",
            refused(410, None),
            WatcherOutcome::WatchEnded("410 no".into()),
        ),
        (
            "500",
            refused(500, None),
            WatcherOutcome::WatchEnded("500 no".into()),
        ),
        (
            "401: a token that is being replaced",
            refused(401, None),
            WatcherOutcome::WatchEnded("401 no".into()),
        ),
        (
            "403",
            refused(403, None),
            WatcherOutcome::Denied {
                status: 403,
                why: "403 no".into(),
            },
        ),
        (
            "429",
            refused(429, Some(2)),
            WatcherOutcome::Busy("429 no".into()),
        ),
        (
            "no reply",
            Response::Failed("reset".into()),
            WatcherOutcome::WatchEnded("reset".into()),
        ),
    ] {
        let mut rig = Rig::new();
        rig.list("05-slices-list-empty");
        assert!(rig.watches_from().is_some());
        assert_eq!(rig.event(WatcherInput::Opened(answer)), outcome, "{label}");
        assert_eq!(rig.after_pause(), first_page(), "{label}");
    }
}

#[test]
fn a_list_that_fails_is_tried_again_after_a_pause_that_grows() {
    for (label, answer, outcome) in [
        (
            "401",
            refused(401, None),
            WatcherOutcome::Failed("401 no".into()),
        ),
        (
            "500",
            refused(500, None),
            WatcherOutcome::Failed("500 no".into()),
        ),
        (
            "503 with a Retry-After of 0",
            refused(503, Some(0)),
            WatcherOutcome::Failed("503 no".into()),
        ),
        (
            "no reply",
            Response::Failed("reset".into()),
            WatcherOutcome::Failed("reset".into()),
        ),
    ] {
        let mut rig = Rig::new();
        let mut pauses = Vec::new();
        for _ in 0..12 {
            assert_eq!(rig.after_pause(), first_page(), "{label}");
            assert_eq!(
                rig.event(WatcherInput::Page(answer.clone())),
                outcome,
                "{label}"
            );
            assert_eq!(rig.action(), WatcherAction::Wait, "{label}");
            pauses.push(rig.pause());
        }
        assert!(
            pauses[0] <= Duration::from_millis(50),
            "{label}: {pauses:?}"
        );
        assert!(pauses[11] >= Duration::from_secs(15), "{label}: {pauses:?}");
    }
}

#[test]
fn a_retry_after_is_kept_to_within_five_seconds_of_whoever_waits() {
    for (label, asked, waiting, pause) in [
        ("nobody waits", 60, false, 60),
        ("somebody waits", 60, true, 5),
        ("somebody waits for less", 2, true, 2),
    ] {
        let mut rig = Rig::new();
        rig.event(WatcherInput::Waiting(waiting));
        let outcome = rig.event(WatcherInput::Page(refused(429, Some(asked))));
        assert_eq!(outcome, WatcherOutcome::Busy("429 no".into()), "{label}");
        assert_eq!(rig.pause(), Duration::from_secs(pause), "{label}");
    }
}

#[test]
fn whoever_begins_to_wait_or_asks_for_a_list_shortens_a_pause_that_is_on() {
    for (label, event) in [
        ("somebody waits", WatcherInput::Waiting(true)),
        ("a list is requested", WatcherInput::Relist),
    ] {
        let mut rig = Rig::new();
        for _ in 0..12 {
            rig.event(WatcherInput::Page(refused(500, None)));
        }
        assert!(rig.pause() > Duration::from_secs(10));
        rig.event(event);
        assert_eq!(rig.pause(), PAUSE_WAITING, "{label}");
        rig.pass(1);
        assert_eq!(rig.action(), first_page(), "{label}");
    }
}

#[test]
fn the_first_page_of_a_list_that_begins_again_makes_the_others_void() {
    let mut rig = Rig::new();
    rig.list("15-slices-list-ready");
    assert!(!rig.store.is_empty());
    rig.event(WatcherInput::Relist);
    let page = |token: &str| {
        let metadata = format!(r#"{{"resourceVersion":"5","continue":"{token}"}}"#);
        WatcherInput::Page(Response::Ok(
            format!(r#"{{"metadata":{metadata}}}"#).into_bytes(),
        ))
    };
    rig.event(page("more"));
    assert!(
        !rig.store.is_empty(),
        "what is stored stands until a list is whole"
    );
    rig.event(page(""));
    assert!(rig.store.is_empty());
}

#[test]
fn watches_that_do_not_last_are_opened_less_and_less_often() {
    let mut rig = Rig::watching();
    let mut pauses = Vec::new();
    for _ in 0..12 {
        rig.event(WatcherInput::Ended);
        pauses.push(rig.pause());
        assert!(rig.watches_from().is_some());
        rig.event(WatcherInput::Opened(Response::Ok(())));
    }
    assert!(pauses[11] >= Duration::from_secs(15), "{pauses:?}");
    rig.pass(10);
    rig.event(WatcherInput::Ended);
    assert_eq!(rig.pause(), Duration::ZERO, "a steady one");
}

#[test]
fn a_watch_lasts_as_long_as_it_is_asked_for_and_a_short_one_is_a_good_one() {
    let mut rig = Rig::new();
    rig.list("05-slices-list-empty");
    let WatcherAction::Watch { seconds, .. } = rig.action() else {
        panic!("a watch is next")
    };
    assert!((270..=300).contains(&seconds), "{seconds}");
    let until = rig.now + Duration::from_secs(2);
    let action = rig.watcher.action(Some(until), rig.now);
    assert!(
        matches!(action, WatcherAction::Watch { seconds: 2, .. }),
        "{action:?}"
    );
    rig.event(WatcherInput::Opened(Response::Ok(())));
    rig.pass(1);
    rig.event(WatcherInput::Ended);
    assert_eq!(rig.pause(), Duration::ZERO);
    let action = rig.watcher.action(Some(rig.now), rig.now);
    assert!(
        matches!(action, WatcherAction::Watch { seconds: 1, .. }),
        "{action:?}"
    );
    rig.event(WatcherInput::Opened(Response::Ok(())));
    rig.event(WatcherInput::Ended);
    assert!(rig.pause() > Duration::ZERO, "one that ends at once is not");
}

/// A label, the answers to pages, the tokens that are asked for, and what comes of the
/// last answer.
type Pages<'a> = (
    &'a str,
    Vec<Response<Vec<u8>>>,
    &'a [(u32, &'a str)],
    WatcherOutcome,
);

#[test]
fn a_list_goes_on_where_each_page_says_and_begins_again_where_it_must() {
    let page = |token: &str| {
        let metadata = format!(r#"{{"resourceVersion":"7","continue":"{token}"}}"#);
        Response::Ok(format!(r#"{{"metadata":{metadata}}}"#).into_bytes())
    };
    let too_large = || Response::TooLarge("4 MiB".into());
    let no_list = "not what was asked for: expected value at line 1 column 1";
    let cases: [Pages; 6] = [
        (
            "one page",
            vec![page("")],
            &[(64, "")],
            WatcherOutcome::Listed,
        ),
        (
            "two pages",
            vec![page("t1"), page("")],
            &[(64, ""), (64, "t1")],
            WatcherOutcome::Listed,
        ),
        (
            "an expired token",
            vec![page("t1"), refused(410, None), page("")],
            &[(64, ""), (64, "t1"), (64, "")],
            WatcherOutcome::Listed,
        ),
        (
            "pages that are too large",
            vec![too_large(), page("t1"), too_large(), page("")],
            &[(64, ""), (32, ""), (32, "t1"), (16, "")],
            WatcherOutcome::Listed,
        ),
        (
            "400 without a token",
            vec![refused(400, None)],
            &[(64, "")],
            WatcherOutcome::Failed("400 no".into()),
        ),
        (
            "no list",
            vec![page("t1"), Response::Ok(b"<html>".to_vec())],
            &[(64, ""), (64, "t1")],
            WatcherOutcome::Failed(no_list.into()),
        ),
    ];
    for (label, answers, asked, outcome) in cases {
        let mut rig = Rig::new();
        let mut last = WatcherOutcome::Quiet;
        for (answer, (limit, token)) in answers.into_iter().zip(asked) {
            let page = WatcherAction::List {
                limit: *limit,
                continue_token: (*token).to_owned(),
            };
            assert_eq!(rig.action(), page, "{label}");
            last = rig.event(WatcherInput::Page(answer));
        }
        assert_eq!(last, outcome, "{label}");
    }
}

#[test]
fn a_list_without_an_end_is_given_up() {
    let mut rig = Rig::new();
    let page = br#"{"metadata":{"resourceVersion":"7","continue":"again"}}"#;
    let outcomes =
        std::iter::from_fn(|| Some(rig.event(WatcherInput::Page(Response::Ok(page.into())))));
    let ended = outcomes
        .take(20_000)
        .position(|outcome| outcome != WatcherOutcome::Quiet);
    assert_eq!(ended, Some(MAX_REQUESTS as usize));
}
