//! Parses lists and watches object by object, so that one that cannot be parsed, or is too large,
//! does not hide the others: it is skipped, and the [`SkipLog`] names it.
//!
//! Whoever may write one object of a namespace would otherwise end the watch of all apps.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Error as _};
use serde_json::Error;
use serde_json::value::RawValue;

use super::lines::MAX_LINE_LEN;
use super::objects::{ListMetadata, Metadata, Status};
use super::text::printable;
use crate::clock::Time;

/// How long an object that was named in the log is not named again.
const NAMED_FOR: Duration = Duration::from_secs(3600);
/// The most objects that are named in that time.
const MAX_NAMED: usize = 20;

/// An object that is skipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Skipped {
    /// Empty if that cannot be parsed either.
    pub(super) metadata: Metadata,
    why: String,
}

/// The event of a line of a watch.
#[derive(Debug)]
pub(super) enum WatchEvent<T> {
    Added(T),
    Modified(T),
    Deleted(Metadata),
    /// An object was added or modified that is skipped.
    Skipped(Skipped),
    /// The version that the watch has reached.
    Bookmark(Metadata),
    Error(Status),
}

/// A list of objects, or one page of it.
#[derive(Deserialize)]
struct RawPage<'a> {
    metadata: ListMetadata,
    #[serde(borrow)]
    items: Option<Vec<&'a RawValue>>,
}

/// A line of a watch.
#[derive(Deserialize)]
struct RawLine<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

/// An object of which no more than the metadata is read.
#[derive(Deserialize)]
struct Identified {
    metadata: Metadata,
}

/// Parses a list of objects, or a page of one, and passes each to `take`: one at a time, because a
/// parsed object may be several times as large as its text.
///
/// # Errors
/// If it is no list.
pub(super) fn page<T: DeserializeOwned>(
    body: &[u8],
    mut take: impl FnMut(Result<T, Skipped>),
) -> Result<ListMetadata, Error> {
    let page: RawPage<'_> = serde_json::from_slice(body)?;
    for item in page.items.into_iter().flatten() {
        let parsed = serde_json::from_str(item.get());
        take(parsed.map_err(|cause: Error| Skipped {
            metadata: metadata_of(item).unwrap_or_default(),
            why: printable(&cause.to_string()),
        }));
    }
    Ok(page.metadata)
}

/// Parses a line of a watch.
///
/// # Errors
/// If it is no event, or it does not show which object it is about.
pub(super) fn event<T: DeserializeOwned>(line: &[u8]) -> Result<WatchEvent<T>, Error> {
    let raw: RawLine<'_> = match serde_json::from_slice(line) {
        Ok(raw) => raw,
        Err(cause) if line.len() >= MAX_LINE_LEN => return cut(line).ok_or(cause),
        Err(cause) => return Err(cause),
    };
    let is_new = raw.kind == "ADDED";
    Ok(match raw.kind {
        "ADDED" | "MODIFIED" => match serde_json::from_str(raw.object.get()) {
            Ok(object) if is_new => WatchEvent::Added(object),
            Ok(object) => WatchEvent::Modified(object),
            Err(cause) => WatchEvent::Skipped(Skipped {
                metadata: metadata_of(raw.object)?,
                why: printable(&cause.to_string()),
            }),
        },
        "DELETED" => WatchEvent::Deleted(metadata_of(raw.object)?),
        "BOOKMARK" => WatchEvent::Bookmark(metadata_of(raw.object)?),
        "ERROR" => WatchEvent::Error(serde_json::from_str(raw.object.get())?),
        _ => return Err(Error::custom("an event of an unknown type")),
    })
}

/// The event of a line that is longer than allowed, by its beginning: there the API server writes
/// the type, and the metadata of a kind of its own.
fn cut<T>(start: &[u8]) -> Option<WatchEvent<T>> {
    let kind: String = value_of("\"type\":", start)?;
    let metadata: Metadata = value_of("\"metadata\":", start)?;
    match kind.as_str() {
        "ADDED" | "MODIFIED" => Some(WatchEvent::Skipped(Skipped {
            metadata,
            why: format!("it has more than {MAX_LINE_LEN} bytes as JSON"),
        })),
        "DELETED" => Some(WatchEvent::Deleted(metadata)),
        _ => None,
    }
}

/// The value of the first occurrence of a key. In a string its quotes would be escaped.
fn value_of<T: DeserializeOwned>(key: &str, start: &[u8]) -> Option<T> {
    let mut windows = start.windows(key.len());
    let at = windows.position(|window| window == key.as_bytes())?;
    let rest = serde_json::Deserializer::from_slice(&start[at + key.len()..]);
    rest.into_iter().next()?.ok()
}

fn metadata_of(object: &RawValue) -> Result<Metadata, Error> {
    let Identified { metadata } = serde_json::from_str(object.get())?;
    Ok(metadata)
}

/// Names the objects that were skipped: each once an hour, however often it is listed or changes.
#[derive(Debug, Default)]
pub(super) struct SkipLog {
    named: BTreeSet<(String, String)>,
    since: Time,
    warnings: Vec<String>,
}

impl SkipLog {
    /// Adds objects that were skipped.
    pub(super) fn add(&mut self, skipped: Vec<Skipped>, now: Time) {
        for Skipped { metadata, why } in skipped {
            if now.since(self.since) >= NAMED_FOR || self.named.is_empty() {
                self.named.clear();
                self.since = now;
            }
            let name = (metadata.namespace, metadata.name);
            if self.named.len() > MAX_NAMED || self.named.contains(&name) {
                continue;
            }
            self.warnings.push(match self.named.len() {
                MAX_NAMED => "further objects are skipped, which are not named".to_owned(),
                _ => format!("{} is skipped: {why}", shown(&name)),
            });
            self.named.insert(name);
        }
    }

    /// What is to be logged.
    pub(super) fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }
}

fn shown((namespace, name): &(String, String)) -> String {
    match (namespace.as_str(), name.as_str()) {
        (_, "") => "an object without a name that can be read".to_owned(),
        ("", name) => printable(name),
        (namespace, name) => printable(&format!("{namespace}/{name}")),
    }
}

#[cfg(test)]
mod tests;
