//! The stream of a watch, cut anywhere: lines come out as they went in, and
//! whatever they say is taken in or refused without a panic.

#[rustfmt::skip]
#[path = "../../../src/kube/endpoints.rs"]
mod endpoints;
#[rustfmt::skip]
#[path = "../../../src/kube/lines.rs"]
mod lines;
#[rustfmt::skip]
#[path = "../../../src/kube/objects.rs"]
mod objects;
#[rustfmt::skip]
#[path = "../../../src/kube/text.rs"]
mod text;

use endpoints::{Applied, IpFamily, PortChoice, Selection, Source, Store};
use lines::{Lines, TooLong};
use objects::{EndpointSlice, Endpoints, List, WatchEvent};

/// Short, so that the fuzzer gets there.
const LONGEST: usize = 4096;

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
    follow::<EndpointSlice>(&whole.0, &selection);
    follow::<Endpoints>(&whole.0, &selection);
    for line in &whole.0 {
        let _ = objects::scale(line);
        let _ = serde_json::from_slice::<objects::Service>(line);
    }
}

/// The lines, and whether the stream has ended in an error, and in mid-line.
type Seen = (Vec<Vec<u8>>, bool, bool);

fn lines_of(pieces: &[&[u8]]) -> Seen {
    let (mut lines, mut seen) = (Lines::new(LONGEST), Vec::new());
    for piece in pieces {
        let fed = lines.feed(piece, |line| {
            seen.push(line.to_vec());
            Ok::<(), TooLong>(())
        });
        if fed.is_err() {
            return (seen, true, true);
        }
    }
    (seen, false, lines.cut())
}

/// The same by other means.
fn oracle(stream: &[u8]) -> Seen {
    let mut all: Vec<&[u8]> = stream.split(|byte| *byte == b'\n').collect();
    let tail = all.pop().unwrap_or_default();
    let fits = |line: &&&[u8]| line.len() <= LONGEST;
    let seen: Vec<_> = all
        .iter()
        .take_while(fits)
        .map(|line| line.to_vec())
        .collect();
    let failed = seen.len() < all.len() || tail.len() > LONGEST;
    (seen, failed, failed || !tail.is_empty())
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

/// Takes every line in as an event, and as a list.
fn follow<T: Source>(lines: &[Vec<u8>], selection: &Selection) {
    let (mut store, mut version) = (Store::default(), "1".to_owned());
    for line in lines {
        if let Ok(list) = serde_json::from_slice::<List<T>>(line) {
            let items = list.items.unwrap_or_default().into_iter();
            store = Store::default();
            store.add(items.map(T::into_object).collect());
        }
        let Ok(event) = serde_json::from_slice::<WatchEvent<T>>(line) else {
            continue;
        };
        if let Applied::Failed(status) = store.apply(event, &mut version) {
            let said = status.explanation();
            assert!(!said.contains(char::is_control), "{said:?}");
        }
        assert!(!version.is_empty(), "there is nowhere to watch from");
        let pods = store.pods(selection);
        assert!(pods.is_sorted_by_key(|pod| pod.uid.clone()));
        let missing = store.port_missing(&selection.port);
        assert!(missing.is_none() || pods.is_empty(), "{pods:?}");
    }
}
