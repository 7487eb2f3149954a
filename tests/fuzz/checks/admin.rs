//! Requests of any content, however they are cut: an answer in HTTP, the same
//! one whatever comes after it, or none yet.

use zpa::admin::page::Page;
use zpa::admin::{self, MAX_HEAD_LEN, Pages};

/// What an admin connection says.
pub type Input<'a> = &'a [u8];

/// A proxy that is ready, or is not.
struct Fake(bool);

impl Pages for Fake {
    fn unready(&self) -> Vec<String> {
        self.0.then(|| "draining".to_owned()).into_iter().collect()
    }

    fn metrics(&self) -> (String, &'static str) {
        ("zpa_ready 1\n".to_owned(), "text/plain")
    }

    fn status(&self) -> String {
        "{}".to_owned()
    }

    fn page(&self) -> Page {
        Page::default()
    }

    fn ping_path(&self) -> Option<&str> {
        self.0.then_some("/ping")
    }

    fn metrics_path(&self) -> Option<&str> {
        self.0.then_some("/metrics/of/ours")
    }
}

pub fn check(received: Input) {
    let received = &received[..received.len().min(MAX_HEAD_LEN)];
    for pages in [Fake(false), Fake(true)] {
        let first = (0..=received.len()).find_map(|end| admin::answer(&received[..end], &pages));
        assert_eq!(
            admin::answer(received, &pages),
            first,
            "what comes after an answer changes nothing"
        );
        match first {
            Some(answer) => expect_http(&answer),
            None => assert!(received.len() < MAX_HEAD_LEN, "at its limit it is answered"),
        }
    }
}

fn expect_http(answer: &[u8]) {
    let text = str::from_utf8(answer).expect("text");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 "), "{head}");
    let (_, length) = head.split_once("Content-Length: ").expect("a length");
    let length = length.lines().next().map(str::parse::<usize>);
    assert!(body.is_empty() || length == Some(Ok(body.len())), "{text}");
}
