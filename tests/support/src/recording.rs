//! Recordings of a real API server, and how a reply is compared with one.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::client::{Reply, parse_head};

/// What the sandbox need not model: may be absent, is not compared.
const UNMODELLED: &[&str] = &["managedFields"];

/// Fields of which only the type is compared: they differ from one cluster, or
/// from one moment, to the next.
const VARYING: &[&str] = &[
    "addresses",
    "containerPort",
    "continue",
    "creationTimestamp",
    "endpoints.kubernetes.io/last-change-trigger-time",
    "gitCommit",
    "gitVersion",
    "goVersion",
    "compiler",
    "ip",
    "kubectl.kubernetes.io/last-applied-configuration",
    "lastTransitionTime",
    "lastUpdateTime",
    "platform",
    "port",
    "resourceVersion",
    "storageVersionHash",
    "uid",
];

/// Headers that matter, compared as they are.
const HEADERS: &[&str] = &[
    "Cache-Control",
    "Connection",
    "Content-Type",
    "Retry-After",
    "Transfer-Encoding",
    "Warning",
    "X-Content-Type-Options",
];

/// One exchange.
pub struct Recording {
    pub name: String,
    /// The request, with `TOKEN` for the token.
    pub request: String,
    reply: Reply,
}

/// Where the recordings are.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../recordings")
}

impl Recording {
    /// The request with `edit` applied, framed anew.
    pub fn edited(&self, edit: impl FnOnce(&str) -> String) -> String {
        with_length(&edit(&self.request))
    }

    pub fn load(name: &str) -> Recording {
        let text = fs::read_to_string(directory().join(name))
            .unwrap_or_else(|error| panic!("recording {name}: {error}"));
        let (request, reply) = text.split_once("\n--------\n").expect("a line of dashes");
        let (head, body) = reply
            .split_once("\r\n\r\n")
            .expect("an empty line after the headers");
        let mut reply = parse_head(head);
        reply.body = match reply.header("transfer-encoding") {
            Some(_) => unframed(body),
            None => body.into(),
        };
        let request = with_length(request.trim_end_matches(['\r', '\n']));
        Recording {
            name: name.to_owned(),
            request,
            reply,
        }
    }

    /// The body of the reply.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.reply.body).expect("JSON")
    }

    /// What of `ours` differs from what was recorded, one line each.
    pub fn differences(&self, ours: &Reply) -> Vec<String> {
        let mut found = Vec::new();
        if ours.status != self.reply.status {
            found.push(format!(
                "status {}, recorded {}",
                ours.status, self.reply.status
            ));
        }
        for name in HEADERS {
            let (ours, recorded) = (ours.header(name), self.reply.header(name));
            if ours != recorded {
                found.push(format!("{name}: {ours:?}, recorded {recorded:?}"));
            }
        }
        let sized = |reply: &Reply| reply.header("Content-Length").is_some();
        if sized(ours) != sized(&self.reply) {
            found.push(format!(
                "Content-Length: {:?}",
                ours.header("Content-Length")
            ));
        }
        let (ours, recorded) = (objects(&ours.body), objects(&self.reply.body));
        compare_all("body", &ours, &recorded, &mut found);
        found
    }
}

/// The request, framed anew: bodies change when versions are put in.
fn with_length(request: &str) -> String {
    let (head, body) = request.split_once("\n\n").unwrap_or((request, ""));
    let (head, body) = match request.split_once("\r\n\r\n") {
        Some(parts) => parts,
        None => (head, body),
    };
    let fields = head
        .lines()
        .filter(|line| !line.starts_with("Content-Length"));
    let head: Vec<&str> = fields.collect();
    format!(
        "{}\r\nContent-Length: {}\r\n\r\n{body}",
        head.join("\r\n"),
        body.len()
    )
}

fn unframed(chunked: &str) -> Vec<u8> {
    let mut rest = chunked;
    let mut body = String::new();
    while let Some((size, tail)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).expect("a chunk's size");
        body.push_str(&tail[..size]);
        rest = tail[size..].trim_start_matches("\r\n");
        if size == 0 {
            break;
        }
    }
    body.into()
}

/// One object, or the events of a watch, of which BOOKMARKs in a row are one:
/// how many there are depends on the clock.
fn objects(body: &[u8]) -> Vec<Value> {
    let parser = serde_json::Deserializer::from_slice(body).into_iter();
    let mut objects: Vec<Value> = parser.map(|object| object.expect("JSON")).collect();
    objects.dedup_by(|a, b| a["type"] == "BOOKMARK" && b["type"] == "BOOKMARK");
    objects
}

fn compare_all(path: &str, ours: &[Value], recorded: &[Value], found: &mut Vec<String>) {
    if ours.len() != recorded.len() {
        found.push(format!(
            "{path}: {} items, recorded {}",
            ours.len(),
            recorded.len()
        ));
    }
    for (place, (ours, recorded)) in ours.iter().zip(recorded).enumerate() {
        compare(&format!("{path}[{place}]"), "", ours, recorded, found);
    }
}

fn compare(path: &str, key: &str, ours: &Value, recorded: &Value, found: &mut Vec<String>) {
    match (ours, recorded) {
        (Value::Object(a), Value::Object(b)) => {
            let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
            for key in keys.filter(|key| !UNMODELLED.contains(&key.as_str())) {
                let path = format!("{path}.{key}");
                match (a.get(key), b.get(key)) {
                    (Some(a), Some(b)) => compare(&path, key, a, b, found),
                    (Some(a), None) => found.push(format!("{path}: {a}, recorded none")),
                    (_, b) => found.push(format!("{path}: none, recorded {}", b.unwrap())),
                }
            }
        }
        _ if VARYING.contains(&key) => {
            let kinds = (
                std::mem::discriminant(ours),
                std::mem::discriminant(recorded),
            );
            if kinds.0 != kinds.1 {
                found.push(format!("{path}: {ours}, recorded {recorded}"));
            }
        }
        (Value::Array(a), Value::Array(b)) => compare_all(path, a, b, found),
        _ if stable(key, ours) == stable(key, recorded) => {}
        _ => found.push(format!("{path}: {ours}, recorded {recorded}")),
    }
}

/// A value without what varies within it: the random ends of names, and the
/// numbers in messages.
fn stable(key: &str, value: &Value) -> Value {
    let Some(text) = value.as_str() else {
        return value.clone();
    };
    match key {
        "name" => {
            let words: Vec<&str> = text.split('-').collect();
            format!("{} and {} more", words[0], words.len() - 1).into()
        }
        "message" => {
            let mut words: Vec<&str> = text.split(|c: char| c.is_ascii_digit()).collect();
            words.dedup();
            words.join("#").into()
        }
        _ => value.clone(),
    }
}
