//! Requests to the admin port of a running `zpa`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::program::{TEST_TIMEOUT, Zpa};

impl Zpa {
    /// Sends `request` to the admin port; the status and the body of the reply.
    pub fn asked(&self, request: &str) -> (u16, String) {
        let mut stream = self.visit();
        stream.write_all(request.as_bytes()).unwrap();
        reply(&mut stream)
    }

    /// Sends a GET; the status and the body of the reply.
    pub fn get(&self, path: &str) -> (u16, String) {
        self.asked(&format!("GET {path} HTTP/1.1\r\nHost: zpa\r\n\r\n"))
    }

    /// What `/status` says.
    pub fn status(&self) -> Value {
        let (status, body) = self.get("/status");
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// The sum of the series of that name that have at least these labels, written as in
    /// the text format; none if there is no such series.
    pub fn metric(&self, series: &str) -> Option<f64> {
        let (_, body) = self.get("/metrics");
        sum(&body, series)
    }

    /// Asks `/metrics` until [`Program::metric`] is that value.
    #[track_caller]
    pub fn expect_metric(&self, series: &str, value: f64) {
        self.expect_page("/metrics", series, |_, body| {
            sum(body, series) == Some(value)
        });
    }

    /// Asks `path` until the reply is as wanted.
    #[track_caller]
    pub fn expect_page(&self, path: &str, what: &str, wanted: impl Fn(u16, &str) -> bool) {
        let start = Instant::now();
        loop {
            let (status, body) = self.get(path);
            if wanted(status, &body) {
                return;
            }
            assert!(
                start.elapsed() < TEST_TIMEOUT,
                "never: {what}\n{status} {body}"
            );
            // Not in a hurry: the others have but two cores.
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Asks `/readyz` until it is ready.
    #[track_caller]
    pub fn expect_ready(&self) {
        self.expect_page("/readyz", "ready", |status, _| status == 200);
    }

    /// Asks `/status` until it is as wanted.
    #[track_caller]
    pub fn expect_status(&self, what: &str, wanted: impl Fn(&Value) -> bool) {
        self.expect_page("/status", what, |_, body| {
            wanted(&serde_json::from_str(body).unwrap())
        });
    }
}

/// Reads a whole reply: its status and its body.
pub fn reply(stream: &mut TcpStream) -> (u16, String) {
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    let (head, body) = reply.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).expect("a status line");
    (status.parse().expect("a number"), body.to_owned())
}

fn sum(page: &str, series: &str) -> Option<f64> {
    let (name, labels) = parts(series);
    let of_line = |line: &str| {
        let (series, value) = line.rsplit_once(' ')?;
        let (of_name, all) = parts(series);
        let has_all = labels.iter().all(|label| all.contains(label));
        (name == of_name && has_all).then(|| value.parse::<f64>().ok())?
    };
    page.lines()
        .filter_map(of_line)
        .reduce(|sum, value| sum + value)
}

/// The name and the labels of a series. A comma that follows a quote ends a label; those
/// within a value, as in `list,watch endpoints`, do not.
fn parts(series: &str) -> (&str, Vec<&str>) {
    let Some((name, labels)) = series.split_once('{') else {
        return (series, Vec::new());
    };
    let labels = labels.trim_end_matches('}').split_inclusive("\",");
    (
        name,
        labels.map(|label| label.trim_end_matches(',')).collect(),
    )
}
