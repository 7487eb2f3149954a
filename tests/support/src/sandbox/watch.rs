//! A watch: a stream of events that ends at its timeout, or as a test orders.

use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::sync::MutexGuard;
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::api::{ENDPOINTS_WARNING, Watch};
use super::faults::WatchFault;
use super::http::{LAST_CHUNK, chunk, failure_status, head};
use super::objects::{bookmark, event};
use super::selector::Selector;
use super::state::{Shared, State};
use super::store::{Change, Resource, TooOld};

/// How long before the end of a watch its BOOKMARK comes, at most.
const BOOKMARK_LEAD: Duration = Duration::from_secs(2);

/// How long after one BOOKMARK the next one comes (`defaultBookmarkFrequency` in the API
/// server's cacher).
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);

/// How often a silent watch looks whether its client is still there.
const CLIENT_CHECK: Duration = Duration::from_millis(200);

/// A watch in progress.
pub struct Stream<'a> {
    shared: &'a Shared,
    id: u64,
    socket: &'a TcpStream,
    watch: Watch,
    /// Every change up to this version has been sent.
    cursor: u64,
    deadline: Instant,
    bookmark_at: Option<Instant>,
    /// How many of the orders to all watches this one has followed.
    executed: usize,
    first_order: Option<WatchFault>,
}

/// What a watch does next.
enum Turn {
    Send(String),
    Execute(WatchFault),
    End,
    Leave,
}

impl<'a> Stream<'a> {
    pub fn new(
        shared: &'a Shared,
        id: u64,
        socket: &'a TcpStream,
        watch: Watch,
        first_order: Option<WatchFault>,
    ) -> Self {
        let deadline = Instant::now() + watch.timeout;
        let bookmark_at = next_bookmark(&watch, deadline, Instant::now());
        let (executed, cursor) = (shared.lock().orders.len(), watch.from);
        let first_order = match watch.start {
            Err(too_old) => Some(expiry(cursor, too_old)),
            Ok(()) => first_order,
        };
        Stream {
            shared,
            id,
            socket,
            watch,
            cursor,
            deadline,
            bookmark_at,
            executed,
            first_order,
        }
    }

    /// Streams to the end; tells whether the connection can carry on.
    pub fn run(mut self, out: &mut impl Write, last: bool) -> io::Result<bool> {
        self.send_head(out, last)?;
        let resource = self.watch.resource;
        self.shared.change(|state| state.watches.push(resource));
        let ended = self.send_events(out);
        self.shared.change(|state| {
            let open = state.watches.iter().position(|open| *open == resource);
            open.map(|open| state.watches.swap_remove(open))
        });
        ended
    }

    fn send_head(&mut self, out: &mut impl Write, last: bool) -> io::Result<()> {
        let deprecated = self.watch.resource == Resource::Endpoints;
        let warning = deprecated.then(|| ("Warning", ENDPOINTS_WARNING.to_owned()));
        let mut bytes = head(200, warning.as_slice(), last);
        bytes.extend(b"Transfer-Encoding: chunked\r\n\r\n");
        out.write_all(&bytes)?;
        out.flush()?;
        let initial = std::mem::take(&mut self.watch.initial);
        if initial.is_empty() {
            Ok(())
        } else {
            self.send(out, initial.as_bytes())
        }
    }

    fn send_events(&mut self, out: &mut impl Write) -> io::Result<bool> {
        loop {
            let over = match self.next_turn() {
                Turn::Send(lines) => self.send(out, lines.as_bytes()).map(|()| None)?,
                Turn::Execute(order) => self.execute_commands(order, out)?,
                Turn::End => Some(self.end(out)?),
                Turn::Leave => Some(false),
            };
            if let Some(goes_on) = over {
                return Ok(goes_on);
            }
        }
    }

    fn next_turn(&mut self) -> Turn {
        if let Some(order) = self.first_order.take() {
            return Turn::Execute(order);
        }
        let mut state = self.shared.lock();
        loop {
            if let Some(turn) = self.due(&state) {
                return turn;
            }
            if client_has_left(self.socket) {
                return Turn::Leave;
            }
            state = self.wait(state);
        }
    }

    fn wait<'s>(&self, state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        let check = Instant::now() + CLIENT_CHECK;
        let next = self
            .bookmark_at
            .unwrap_or(self.deadline)
            .min(self.deadline)
            .min(check);
        self.shared.wait(state, Some(next))
    }

    fn due(&mut self, state: &State) -> Option<Turn> {
        if state.is_over(self.id) {
            return Some(Turn::Leave);
        }
        if let Some(order) = state.orders.get(self.executed) {
            self.executed += 1;
            return Some(Turn::Execute(order.clone()));
        }
        match self.news(state) {
            Err(too_old) => return Some(Turn::Execute(expiry(self.cursor, too_old))),
            Ok(Some(lines)) => return Some(Turn::Send(lines)),
            Ok(None) => {}
        }
        let now = Instant::now();
        if self.bookmark_at.is_some_and(|at| at <= now) {
            self.bookmark_at = next_bookmark(&self.watch, self.deadline, now);
            let object = bookmark(self.watch.resource, state.store.version());
            return Some(Turn::Send(event("BOOKMARK", &object)));
        }
        (self.deadline <= now).then_some(Turn::End)
    }

    /// The changes since the last look, and up to now.
    fn news(&mut self, state: &State) -> Result<Option<String>, TooOld> {
        let changes = state.store.changes_after(self.cursor)?;
        let Watch {
            resource,
            namespace,
            ..
        } = &self.watch;
        let ours = changes.filter(|change| {
            let of = &change.object["metadata"]["namespace"];
            change.resource == *resource && (namespace.is_empty() || of == namespace.as_str())
        });
        let selector = &self.watch.selector;
        let lines: String = ours
            .filter_map(|change| line_of(selector, change))
            .collect();
        self.cursor = self.cursor.max(state.store.version());
        Ok((!lines.is_empty()).then_some(lines))
    }

    /// Follows an order; `Some` if that was the end, and whether the
    /// connection can carry on.
    fn execute_commands(
        &self,
        order: WatchFault,
        out: &mut impl Write,
    ) -> io::Result<Option<bool>> {
        match order {
            WatchFault::CutInLine => self.send(out, half_an_event().as_bytes())?,
            WatchFault::CutInCharacter => {
                let mut bytes = half_an_event().into_bytes();
                bytes.extend(&"é".as_bytes()[..1]);
                self.send(out, &bytes)?;
            }
            WatchFault::Freeze => self.freeze(),
            WatchFault::LongLine(bytes) => return self.send_long_line(bytes, out).map(|()| None),
            WatchFault::Garbage => {
                return self
                    .send(out, b"{\"type\":\"MODIFIED\",\"object\":]\n")
                    .map(|()| None);
            }
            WatchFault::End => return self.end(out).map(Some),
            WatchFault::Expire { asked, oldest } => {
                let message = format!("too old resource version: {asked} ({oldest})");
                let status = failure_status(410, "Expired", &message);
                self.send(out, event("ERROR", &status).as_bytes())?;
                return self.end(out).map(Some);
            }
        }
        // The thread that ends closes the socket without a last chunk.
        self.shared
            .change(|state| state.end_connections(false, |c| is(c, self.socket)));
        Ok(Some(false))
    }

    fn freeze(&self) {
        let left = |state: &State| state.is_over(self.id) || client_has_left(self.socket);
        while !self
            .shared
            .wait_until(Some(Instant::now() + CLIENT_CHECK), left)
        {}
    }

    fn send_long_line(&self, length: usize, out: &mut impl Write) -> io::Result<()> {
        let mut line = half_an_event().into_bytes();
        line.resize(length.max(line.len()), b'x');
        line.extend(b"\n");
        self.send(out, &line)
    }

    /// Sends whole lines or parts of them, in chunks as they are set.
    fn send(&self, out: &mut impl Write, data: &[u8]) -> io::Result<()> {
        let max = self.shared.lock().chunk_max;
        match max {
            // One chunk for each event, all in one write.
            None => {
                let lines = data.split_inclusive(|byte| *byte == b'\n');
                out.write_all(&lines.flat_map(chunk).collect::<Vec<u8>>())?;
                out.flush()
            }
            Some(max) => data.chunks(max).try_for_each(|piece| {
                out.write_all(&chunk(piece))?;
                out.flush()
            }),
        }
    }

    fn end(&self, out: &mut impl Write) -> io::Result<bool> {
        out.write_all(LAST_CHUNK)?;
        out.flush()?;
        Ok(true)
    }
}

/// The line about a change, if a watch with that selector shows it. An object that is not
/// selected any more is DELETED to it: as it was, with the version of the change (recording 63;
/// `convertToWatchEvent` in the API server's cacher). One that is from now on is ADDED.
fn line_of(selector: &Selector, change: &Change) -> Option<String> {
    let Change {
        event: kind,
        object,
        before,
        ..
    } = change;
    let was_selected = before.as_ref().is_some_and(|it| selector.selects(it));
    match (before, was_selected, selector.selects(object)) {
        (_, false, false) => None,
        (Some(before), true, false) => {
            let mut last = (**before).clone();
            last["metadata"]["resourceVersion"] = change.version.to_string().into();
            Some(event("DELETED", &last))
        }
        (Some(_), false, true) => Some(event("ADDED", object)),
        _ => Some(event(kind, object)),
    }
}

/// When the BOOKMARK after `now` is sent to a watch that ends at `deadline`.
fn next_bookmark(watch: &Watch, deadline: Instant, now: Instant) -> Option<Instant> {
    let last = deadline - BOOKMARK_LEAD.min(watch.timeout / 4);
    let is_due = watch.bookmarks && now < last;
    is_due.then(|| last.min(now + BOOKMARK_INTERVAL))
}

fn expiry(asked: u64, too_old: TooOld) -> WatchFault {
    WatchFault::Expire {
        asked,
        oldest: too_old.oldest,
    }
}

fn is(connection: &super::state::Connection, socket: &TcpStream) -> bool {
    std::ptr::eq(&*connection.socket, socket)
}

/// An event that breaks off within a string.
fn half_an_event() -> String {
    "{\"type\":\"MODIFIED\",\"object\":{\"kind\":\"EndpointSlice\",\
     \"apiVersion\":\"discovery.k8s.io/v1\",\"metadata\":{\"name\":\"caf"
        .to_owned()
}

/// Whether the client has closed, or is about to: it has nothing to say on a
/// watch but goodbye.
fn client_has_left(socket: &TcpStream) -> bool {
    let mut byte = [MaybeUninit::uninit()];
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
    match SockRef::from(socket).recv_with_flags(&mut byte, flags) {
        Ok(_) => true,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    }
}
