//! First bytes of any content, however they are cut, at an address where a server name chooses
//! the app: the same verdict whatever comes after it, as rustls alone would find it.

use zpa::rules::client_hello::{Hello, MAX_LEN, Refusal, read};
use zpa::rules::server_name::{MAX_PEEK, NameTable, Verdict};

/// Whether a PROXY header comes first, and what a connection begins with.
pub type Input<'a> = (bool, &'a [u8]);

/// The apps of the table: the names of the seeds, and a wildcard.
const APPS: [&str; 2] = ["db.example.com", "*.example.net"];

pub fn check(input: Input) {
    let (has_header, bytes) = input;
    let mut table = NameTable::default();
    for (app, names) in APPS.iter().enumerate() {
        table.set(app, &names.parse().expect("names"));
    }
    let route = |len: usize| table.route(&bytes[..len], has_header, |_| true);
    match first_decided(bytes.len(), |len| route(len) != Verdict::Undecided) {
        None => assert!(bytes.len() < MAX_PEEK, "at its limit it is decided"),
        Some(at) => assert_eq!(
            route(bytes.len()),
            route(at),
            "what follows changes nothing"
        ),
    }
    let Some(at) = first_decided(bytes.len(), |len| read(&bytes[..len]) != Hello::Incomplete)
    else {
        assert!(bytes.len() < MAX_LEN, "so is a hello without a header");
        return;
    };
    expect_as_rustls_reads_it(&bytes[..at]);
}

/// The fewest bytes that are decided, by bisection: later ones are decided too.
fn first_decided(len: usize, is_decided: impl Fn(usize) -> bool) -> Option<usize> {
    let (mut low, mut high) = (0, len);
    while low < high {
        let middle = (low + high) / 2;
        match is_decided(middle) {
            true => high = middle,
            false => low = middle + 1,
        }
    }
    let neighbours = [low.checked_sub(1), Some(low)];
    let found = neighbours.map(|at| at.is_some_and(&is_decided));
    assert!(!found[0], "what was decided is undecided later");
    found[1].then_some(low)
}

/// rustls is given the bytes as they would come, one at a time.
fn expect_as_rustls_reads_it(bytes: &[u8]) {
    let mut acceptor = rustls::server::Acceptor::default();
    for (at, byte) in bytes.iter().enumerate() {
        let mut one = std::slice::from_ref(byte);
        acceptor.read_tls(&mut one).expect("it has room");
        let is_last = at + 1 == bytes.len();
        match (acceptor.accept(), read(bytes)) {
            (Ok(None), Hello::Refused(_)) => {}
            (Ok(None), hello) => assert!(!is_last, "{hello:?}"),
            (Ok(Some(accepted)), hello) => {
                let name = accepted.client_hello().server_name().map(str::to_owned);
                assert!(name.iter().all(|name| *name == name.to_ascii_lowercase()));
                let is_long = hello == Hello::Refused(Refusal::TooLong);
                assert!(is_long || hello == Hello::Complete(name), "{hello:?}");
                return;
            }
            // It may know before the last byte.
            (Err(_), hello) => return assert!(matches!(hello, Hello::Refused(_)), "{hello:?}"),
        }
    }
}
