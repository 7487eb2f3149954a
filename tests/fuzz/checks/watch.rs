//! The stream of a watch, cut anywhere: lines come out as they went in, and
//! whatever they say is stored or refused without a panic, and to the same end
//! however it was cut.

#[rustfmt::skip]
#[path = "../../../src/kube/endpoints.rs"]
mod endpoints;
#[rustfmt::skip]
#[path = "../../../src/kube/items.rs"]
mod items;
#[rustfmt::skip]
#[path = "../../../src/kube/lines.rs"]
mod lines;
#[rustfmt::skip]
#[path = "../../../src/kube/watcher_io.rs"]
mod watcher_io;
#[rustfmt::skip]
#[path = "../../../src/kube/namespaces.rs"]
mod namespaces;
#[rustfmt::skip]
#[path = "../../../src/kube/objects.rs"]
mod objects;
#[rustfmt::skip]
#[path = "../../../src/kube/pages.rs"]
mod pages;
#[rustfmt::skip]
#[path = "../../../src/kube/rfc3339.rs"]
mod rfc3339;
#[rustfmt::skip]
#[path = "../../../src/kube/scaled.rs"]
mod scaled;
#[rustfmt::skip]
#[path = "../../../src/kube/target_status.rs"]
mod target_status;
#[rustfmt::skip]
#[path = "../../../src/kube/target_store.rs"]
mod target_store;
#[rustfmt::skip]
#[path = "../../../src/kube/text.rs"]
mod text;
#[rustfmt::skip]
#[path = "../../../src/kube/watcher.rs"]
mod watcher;

use std::convert::Infallible;

use clock::Time;
use cluster::{AddressSource, Pod};
use endpoints::{IpFamily, PortChoice, Selection, Store};
use lines::Lines;
use target_store::{Change, Store as Targets};
use watcher::Watcher;
use watcher_io::{Response, Store as _, WatcherAction, WatcherInput, WatcherOutcome};
use zpa::{clock, cluster};

/// Short, so that the fuzzer gets there.
const MAX_LEN: usize = 4096;

/// How the stream is cut, and the stream.
pub type Input<'a> = (Vec<u16>, bool, &'a [u8]);

pub fn check(input: Input) {
    let (cuts, named, stream) = input;
    let whole = lines_of(&[stream]);
    assert_eq!(whole, oracle(stream));
    assert_eq!(whole, lines_of(&pieces(stream, &cuts)));
    let selection = if named {
        Selection {
            port: PortChoice::Named("http".to_owned()),
            first_family: IpFamily::Ipv4,
        }
    } else {
        Selection {
            port: PortChoice::Only,
            first_family: IpFamily::Ipv6,
        }
    };
    for source in [AddressSource::EndpointSlices, AddressSource::Endpoints] {
        let at_once = watch(source, &[stream], &selection);
        assert_eq!(at_once, watch(source, &pieces(stream, &cuts), &selection));
    }
    let targets = watch_targets(&[stream]);
    assert_eq!(targets, watch_targets(&pieces(stream, &cuts)));
    for line in &whole.0 {
        let _ = scaled::scale(line);
        let _ = serde_json::from_slice::<objects::Service>(line);
        list_targets(line);
        list(AddressSource::EndpointSlices, line, &selection);
        list(AddressSource::Endpoints, line, &selection);
    }
}

/// The lines, and whether the stream has ended in mid-line.
type Seen = (Vec<Vec<u8>>, bool);

fn lines_of(pieces: &[&[u8]]) -> Seen {
    let (mut lines, mut seen) = (Lines::new(MAX_LEN), Vec::new());
    for piece in pieces {
        let fed = lines.feed(piece, |line| {
            seen.push(line.to_vec());
            Ok::<(), Infallible>(())
        });
        assert_eq!(fed, Ok(()));
    }
    (seen, lines.cut())
}

/// The same by other means.
fn oracle(stream: &[u8]) -> Seen {
    let mut all: Vec<&[u8]> = stream.split(|byte| *byte == b'\n').collect();
    let tail = all.pop().unwrap_or_default();
    let kept = |line: &&[u8]| line[..line.len().min(MAX_LEN)].to_vec();
    (all.iter().map(kept).collect(), !tail.is_empty())
}

fn pieces<'a>(stream: &'a [u8], cuts: &[u16]) -> Vec<&'a [u8]> {
    let inside = cuts
        .iter()
        .map(|cut| usize::from(*cut) % (stream.len() + 1));
    let mut borders: Vec<usize> = inside.chain([0, stream.len()]).collect();
    borders.sort_unstable();
    borders
        .windows(2)
        .map(|two| &stream[two[0]..two[1]])
        .collect()
}

/// Watches the stream from version 1 on, to its end in order; returns the pods, and
/// what is done next.
fn watch(
    source: AddressSource,
    pieces: &[&[u8]],
    selection: &Selection,
) -> (Vec<Pod>, WatcherAction) {
    let (mut watcher, mut store) = (Watcher::new(1), Store::new(source));
    let now = Time::from_millis(1_000_000);
    let mut handle = |event| watcher.handle(event, &mut store, now);
    let list = br#"{"metadata":{"resourceVersion":"1"}}"#;
    handle(WatcherInput::Page(Response::Ok(list.to_vec())));
    handle(WatcherInput::Opened(Response::Ok(())));
    for piece in pieces {
        if let WatcherOutcome::WatchEnded(why) = handle(WatcherInput::Bytes(piece)) {
            assert!(!why.contains(char::is_control), "{why:?}");
        }
    }
    handle(WatcherInput::Ended);
    let pods = pods(&store, selection);
    let next = watcher.action(None, watcher.poll_timeout().unwrap_or(now));
    if let WatcherAction::Watch { version, .. } = &next {
        assert!(!version.is_empty(), "there is nowhere to watch from");
    }
    (pods, next)
}

/// What the stream shows of scale targets.
fn watch_targets(pieces: &[&[u8]]) -> Vec<Change> {
    let (mut watcher, mut store) = (Watcher::new(1), Targets::default());
    store.set_kind("Deployment");
    let now = Time::from_millis(1_000_000);
    let list = br#"{"metadata":{"resourceVersion":"1"}}"#;
    watcher.handle(
        WatcherInput::Page(Response::Ok(list.to_vec())),
        &mut store,
        now,
    );
    watcher.handle(WatcherInput::Opened(Response::Ok(())), &mut store, now);
    for piece in pieces {
        watcher.handle(WatcherInput::Bytes(piece), &mut store, now);
    }
    store.take_changes()
}

/// Stores a line as a list of scale targets, if it is one: listed again, it shows nothing
/// new.
fn list_targets(line: &[u8]) {
    let mut store = Targets::default();
    store.set_kind("Rollout");
    for first in [true, false] {
        if store.add_page(line, true).is_ok() {
            store.replace();
            assert!(first || store.take_changes().is_empty());
            store.take_changes();
        }
    }
}

/// Stores a line as a list, if it is one.
fn list(source: AddressSource, line: &[u8], selection: &Selection) {
    let mut store = Store::new(source);
    if store.add_page(line, true).is_ok() {
        store.replace();
        pods(&store, selection);
    }
}

fn pods(store: &Store, selection: &Selection) -> Vec<Pod> {
    let pods = store.pods(selection);
    assert!(pods.is_sorted_by_key(|pod| pod.uid.clone()));
    let missing = store.port_missing(&selection.port);
    assert!(missing.is_none() || pods.is_empty(), "{pods:?}");
    pods
}
