//! First bytes of any content, however they are cut: each rule decides on a prefix, and nothing
//! that comes after it changes the decision.

use zpa::rules::first_bytes::{MAX_PEEK, Match, ProbeAnswer, Probes, WakeOn};
use zpa::rules::waiting_page::WaitingPage;

/// What a connection begins with.
pub type Input<'a> = &'a [u8];

pub fn check(bytes: Input) {
    let bytes = &bytes[..bytes.len().min(MAX_PEEK)];
    for wake_on in [
        WakeOn::FirstByte,
        WakeOn::Tls,
        WakeOn::Http,
        WakeOn::Postgres,
        WakeOn::Redis,
    ] {
        expect_one_decision(bytes, |prefix| wake_on.matches(prefix));
    }
    let probes = Probes {
        answer: Some(ProbeAnswer::Ok),
        paths: vec!["/healthz".to_owned()],
    };
    expect_one_decision(bytes, |prefix| probes.matches(prefix));
    expect_one_decision(bytes, |prefix| WaitingPage::BuiltIn.matches(prefix));
    if WaitingPage::BuiltIn.matches(bytes) == Match::Yes {
        assert_eq!(WakeOn::Http.matches(bytes), Match::Yes, "it is HTTP");
    }
}

fn expect_one_decision(bytes: &[u8], matches: impl Fn(&[u8]) -> Match) {
    let decided = |end: &usize| matches(&bytes[..*end]) != Match::Undecided;
    let Some(at) = (0..=bytes.len()).find(decided) else {
        return;
    };
    let first = matches(&bytes[..at]);
    for end in [at + 1, (at + bytes.len()) / 2, bytes.len()] {
        let end = end.clamp(at, bytes.len());
        assert_eq!(matches(&bytes[..end]), first, "{at} of {end} bytes decide");
    }
}
