//! Lists in pages, against a server that says what each test has it say.

use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use super::super::client::Client;
use super::super::credentials::Credentials;
use super::super::objects::EndpointSlice;
use super::super::pages::MAX_REQUESTS;
use super::super::testing::{self, Asked, recorded_reply, recorded_target, reply, serve};
use super::*;

const LIST: &str = "/list?labelSelector=a";

/// What a list ended in: the names of the items, and the status or the failure
/// if there was one; and what was asked for.
type Seen = (Vec<String>, Result<(), String>, Vec<String>);

fn list_from(
    answer: impl Fn(&Asked, &mut TcpStream) -> bool + Send + Sync + 'static,
) -> (Vec<String>, Result<(), String>) {
    let credentials = Credentials::new(testing::access(serve(answer)), testing::clock).unwrap();
    let client = Client::new(Arc::new(credentials), Arc::default());
    let mut names = Vec::new();
    let ended = list::<EndpointSlice>(&client.calls(), LIST, |page| {
        if page.is_first {
            names.clear();
        }
        names.extend(page.items.into_iter().map(|slice| slice.metadata.name));
    });
    let ended = match ended {
        Ok(Listed::Whole) => Ok(()),
        Ok(Listed::Refused(reply)) => Err(reply.explanation()),
        Err(failure) => Err(failure.text),
    };
    (names, ended)
}

/// Answers the requests one after the other; the last answer is repeated.
fn list_answered(answers: Vec<(u16, String)>) -> Seen {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = asked.clone();
    let (names, ended) = list_from(move |asked, stream| {
        let mut log = log.lock().unwrap();
        let (status, body) = &answers[log.len().min(answers.len() - 1)];
        log.push(asked.target.clone());
        reply(stream, *status, "", body)
    });
    let asked = asked.lock().unwrap().clone();
    (names, ended, asked)
}

fn page(names: &[&str], version: &str, token: &str) -> (u16, String) {
    let items: Vec<_> = names
        .iter()
        .map(|name| format!(r#"{{"metadata":{{"name":"{name}"}}}}"#))
        .collect();
    let body = format!(
        r#"{{"metadata":{{"resourceVersion":"{version}","continue":"{token}"}},"items":[{}]}}"#,
        items.join(",")
    );
    (200, body)
}

fn status(code: u16) -> (u16, String) {
    (code, format!(r#"{{"message":"why","code":{code}}}"#))
}

#[test]
fn the_recorded_pages_are_one_list_and_the_second_is_asked_for_as_recorded() {
    let (names, ended) = list_from(|asked, stream| {
        let second = asked.target.contains("&continue=");
        let recorded = recorded_target("40-slices-list-page-two");
        let token = recorded.split("&continue=").nth(1).unwrap();
        assert!(!second || asked.target.ends_with(&format!("&continue={token}")));
        let name = if second {
            "40-slices-list-page-two"
        } else {
            "39-slices-list-page-one"
        };
        let _ = std::io::Write::write_all(stream, &recorded_reply(name));
        false
    });
    assert_eq!(names, ["hand-0", "hand-1", "hand-2"]);
    assert_eq!(ended, Ok(()));
}

/// A label, the answers, the names of the items, how the list ends, and after
/// how many requests.
type Case<'a> = (
    &'a str,
    Vec<(u16, String)>,
    &'a [&'a str],
    Result<(), &'a str>,
    usize,
);

#[test]
fn a_list_ends_as_its_pages_say() {
    let first = || page(&["a", "b"], "7", "t1");
    let last = || page(&["c"], "7", "");
    let cases: [Case; 8] = [
        ("one page", vec![last()], &["c"], Ok(()), 1),
        (
            "two pages",
            vec![first(), last()],
            &["a", "b", "c"],
            Ok(()),
            2,
        ),
        (
            "an expired token: the list begins again, and nothing is there twice",
            vec![
                first(),
                status(410),
                page(&["a"], "9", "t2"),
                page(&["d"], "9", ""),
            ],
            &["a", "d"],
            Ok(()),
            4,
        ),
        (
            "a token that the server does not understand: the same",
            vec![first(), status(400), page(&["a"], "9", "")],
            &["a"],
            Ok(()),
            3,
        ),
        (
            "400 without a token is an answer",
            vec![status(400)],
            &[],
            Err("400 why"),
            1,
        ),
        (
            "403 in the middle is an answer",
            vec![first(), status(403)],
            &["a", "b"],
            Err("403 why"),
            2,
        ),
        (
            "tokens that expire each time: it gives up",
            vec![
                first(),
                status(410),
                first(),
                status(410),
                first(),
                status(410),
                first(),
                status(410),
            ],
            &["a", "b"],
            Err("410 why"),
            8,
        ),
        (
            "no list",
            vec![(200, "[]".to_owned())],
            &[],
            Err(
                "not what was asked for: invalid length 0, expected struct List with 2 elements \
                 at line 1 column 2",
            ),
            1,
        ),
    ];
    for (label, answers, expected, end, requests) in cases {
        let (names, ended, asked) = list_answered(answers);
        assert_eq!(names, expected, "{label}");
        assert_eq!(ended, end.map_err(str::to_owned), "{label}");
        assert_eq!(asked.len(), requests, "{label}: {asked:?}");
        assert_eq!(asked[0], format!("{LIST}&limit=64"), "{label}");
    }
}

#[test]
fn a_page_too_large_begins_the_list_again_with_half_as_many_items() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = asked.clone();
    let (names, ended) = list_from(move |asked, stream| {
        log.lock().unwrap().push(asked.target.clone());
        let large = !asked.target.contains("&limit=16");
        let name = if large {
            "a".repeat(4 << 20)
        } else {
            "fits".to_owned()
        };
        reply(stream, 200, "", &page(&[&name], "7", "").1)
    });
    assert_eq!((names, ended), (vec!["fits".to_owned()], Ok(())));
    let limits = [64, 32, 16].map(|limit| format!("{LIST}&limit={limit}"));
    assert_eq!(*asked.lock().unwrap(), limits);
}

#[test]
fn a_page_of_one_item_may_be_larger() {
    let (names, ended) = list_from(move |_, stream| {
        reply(stream, 200, "", &page(&[&"a".repeat(5 << 20)], "7", "").1)
    });
    assert_eq!((names[0].len(), ended), (5 << 20, Ok(())));
    let (names, ended) = list_from(move |_, stream| {
        let too_large = "a".repeat(16 << 20);
        reply(stream, 200, "", &page(&[&too_large], "7", "").1)
    });
    assert!(names.is_empty() && ended.is_err());
}

#[test]
fn a_list_without_an_end_is_given_up() {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    let (_, ended) = list_from(move |_, stream| {
        counted.fetch_add(1, Relaxed);
        reply(stream, 200, "", &page(&["a"], "7", "again").1)
    });
    assert_eq!(ended, Err("a list without an end".to_owned()));
    assert_eq!(count.load(Relaxed), MAX_REQUESTS as usize);
}
