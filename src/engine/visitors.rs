//! Visitors: connections that ask the program about itself.
//!
//! They are served by the same loop as the clients, so that an answer proves
//! that the loop turns, and are none of the clients: they are not counted, wake
//! nothing, and take no place among the connections. They are strangers all the
//! same. There may be only a few; each has a few seconds for everything and a
//! few KiB to speak. When one too many comes, the one goes that has been here
//! longest, so that whoever sits and says nothing keeps nobody out.
//!
//! Only sockets are known here. What a visitor has said is handed out by
//! [`Visitors::next_request`], and what it is told comes in by
//! [`Visitors::answer`].

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use slab::Slab;

use super::listener::Listener;
use crate::clock::Time;

/// No connection has a token from here up: its slot would be beyond 4 billion.
const FIRST: usize = usize::MAX - 1024;
const LISTENER: Token = Token(FIRST);
const LAST: usize = FIRST + 256;

/// How much is read and thrown away after an answer, in bytes. To close a
/// socket that has something to read is to reset it (RFC 1122, 4.2.2.13), and
/// that may overtake the answer.
const DISREGARDED: usize = 64 * 1024;

/// What visitors are held to.
#[derive(Clone, Copy, Debug)]
pub struct VisitorLimits {
    /// How many there may be at once, at most 256.
    pub most: usize,
    /// How long one may stay.
    pub patience: Duration,
    /// How many bytes one may say.
    pub longest: usize,
}

/// The visitors, and where they come in.
#[derive(Default)]
pub struct Visitors {
    door: Option<Door>,
    inside: Slab<Visitor>,
    /// How many have come since the start.
    came: u64,
}

struct Door {
    listener: Listener,
    limits: VisitorLimits,
}

/// One of them.
struct Visitor {
    stream: TcpStream,
    /// Counts visitors: the lowest has been here longest.
    serial: u64,
    deadline: Time,
    /// The loop has seen something happen to it.
    ready: bool,
    stage: Stage,
}

enum Stage {
    /// It is speaking.
    Speaking {
        said: Vec<u8>,
        /// It has said something since it was last listened to.
        news: bool,
        /// It will say no more.
        over: bool,
    },
    /// It is being told.
    Listening { answer: Vec<u8>, heard: usize },
    /// It was told all, and is expected to go.
    Leaving { disregarded: usize },
}

/// Whether a visitor stays.
enum Visit {
    GoesOn,
    IsOver,
}

/// Whether an event with that token is one for [`Visitors::set_ready`].
pub fn is_theirs(token: Token) -> bool {
    (FIRST..=LAST).contains(&token.0)
}

fn token(key: usize) -> Token {
    Token(FIRST + 1 + key)
}

impl Visitors {
    /// Lets them in at `address`.
    ///
    /// # Errors
    /// What the kernel says to the address.
    pub(super) fn bind(
        address: SocketAddr,
        limits: VisitorLimits,
        registry: &Registry,
    ) -> io::Result<Visitors> {
        let most = limits.most.clamp(1, LAST - FIRST);
        let listener = Listener::bind(address, registry, LISTENER)?;
        Ok(Visitors {
            door: Some(Door {
                listener,
                limits: VisitorLimits { most, ..limits },
            }),
            ..Visitors::default()
        })
    }

    /// Where they come in, if anywhere.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.door.as_ref()?.listener.local_addr().ok()
    }

    /// How many are here.
    pub fn len(&self) -> usize {
        self.inside.len()
    }

    /// Whether nobody is here.
    pub fn is_empty(&self) -> bool {
        self.inside.is_empty()
    }

    /// Something has happened to one of them, or to the door.
    pub(super) fn set_ready(&mut self, token: Token) {
        if token == LISTENER {
            if let Some(door) = &mut self.door {
                door.listener.set_ready();
            }
        } else if let Some(visitor) = self.inside.get_mut(token.0 - FIRST - 1) {
            // An event of whoever had the slot before does no harm: what is
            // done about it is a try that finds nothing.
            visitor.ready = true;
        }
    }

    /// Whether [`Visitors::dispatch`] has something to do that no event is
    /// going to announce.
    pub(super) fn has_work(&self, now: Time) -> bool {
        let door = self.door.as_ref();
        door.is_some_and(|door| door.listener.is_ready(now))
    }

    /// When it has something to do even if nothing happens.
    pub(super) fn next_deadline(&self) -> Option<Time> {
        let door = self
            .door
            .as_ref()
            .and_then(|it| it.listener.next_deadline());
        let inside = self.inside.iter().map(|(_, visitor)| visitor.deadline);
        inside.chain(door).min()
    }

    /// Does what the loop has found: hears out who is here, sees out whose time
    /// is up, lets in who comes.
    pub(super) fn dispatch(&mut self, registry: &Registry, now: Time) {
        let longest = self.door.as_ref().map_or(0, |door| door.limits.longest);
        self.inside.retain(|_, visitor| {
            let in_time = now < visitor.deadline;
            in_time && matches!(visitor.go_on(longest), Visit::GoesOn)
        });
        self.let_in(registry, now);
    }

    fn let_in(&mut self, registry: &Registry, now: Time) {
        let Some(Door { listener, limits }) = &mut self.door else {
            return;
        };
        for _ in 0..limits.most {
            if self.inside.len() >= limits.most && longest_here(&self.inside).is_none() {
                return;
            }
            let Some((stream, _)) = listener.accept(now) else {
                return;
            };
            if self.inside.len() >= limits.most
                && let Some(key) = longest_here(&self.inside)
            {
                self.inside.remove(key);
            }
            self.came += 1;
            let mut visitor = Visitor::new(stream, self.came, now + limits.patience);
            let slot = self.inside.vacant_entry();
            let interest = Interest::READABLE | Interest::WRITABLE;
            let known = registry.register(&mut visitor.stream, token(slot.key()), interest);
            // Most have said everything before they are let in.
            if known.is_ok() && matches!(visitor.go_on(limits.longest), Visit::GoesOn) {
                slot.insert(visitor);
            }
        }
    }

    /// Somebody who has said something that was not listened to yet, and all
    /// that they have said. To be followed by [`Visitors::answer`].
    pub fn next_request(&mut self) -> Option<(usize, Vec<u8>)> {
        self.inside.iter_mut().find_map(|(key, visitor)| {
            let Stage::Speaking { said, news, .. } = &mut visitor.stage else {
                return None;
            };
            std::mem::take(news).then(|| (key, said.clone()))
        })
    }

    /// Tells that visitor `answer`, after which it has to leave; `None`: it has
    /// not said enough yet. Who has not, and can say no more, leaves at once.
    pub fn answer(&mut self, key: usize, answer: Option<Vec<u8>>) {
        let longest = self.door.as_ref().map_or(0, |door| door.limits.longest);
        let Some(visitor) = self.inside.get_mut(key) else {
            return;
        };
        let visit = match (&visitor.stage, answer) {
            (_, Some(answer)) => {
                visitor.stage = Stage::Listening { answer, heard: 0 };
                visitor.ready = true;
                visitor.go_on(longest)
            }
            (Stage::Speaking { over: true, .. }, None) => Visit::IsOver,
            (_, None) => Visit::GoesOn,
        };
        if matches!(visit, Visit::IsOver) {
            self.inside.remove(key);
        }
    }
}

/// Who is to go when one too many comes: who has been told everything, else
/// whoever has been here longest, but nobody who is about to be answered.
fn longest_here(inside: &Slab<Visitor>) -> Option<usize> {
    let may_go = |visitor: &Visitor| !matches!(visitor.stage, Stage::Speaking { news: true, .. });
    let all = inside.iter().filter(|(_, visitor)| may_go(visitor));
    all.min_by_key(|(_, visitor)| {
        let told = matches!(visitor.stage, Stage::Leaving { .. });
        (!told, visitor.serial)
    })
    .map(|(key, _)| key)
}

impl Visitor {
    fn new(stream: TcpStream, serial: u64, deadline: Time) -> Visitor {
        let stage = Stage::Speaking {
            said: Vec::new(),
            news: false,
            over: false,
        };
        Visitor {
            stream,
            serial,
            deadline,
            ready: true,
            stage,
        }
    }

    /// Goes on with the visit, if anything has happened.
    fn go_on(&mut self, longest: usize) -> Visit {
        if !std::mem::take(&mut self.ready) {
            return Visit::GoesOn;
        }
        let done = match &mut self.stage {
            Stage::Speaking { said, news, over } => {
                let before = said.len();
                let done = hear_out(&mut self.stream, said, longest);
                *over |= done.is_ok();
                *news |= *over || said.len() > before;
                done
            }
            Stage::Listening { answer, heard } => write(&mut self.stream, answer, heard),
            Stage::Leaving { disregarded } => disregard(&mut self.stream, disregarded),
        };
        match (done, &self.stage) {
            (Err(e), _) if e.kind() == ErrorKind::WouldBlock => Visit::GoesOn,
            (Err(_), _) | (Ok(()), Stage::Leaving { .. }) => Visit::IsOver,
            (Ok(()), Stage::Speaking { .. }) => Visit::GoesOn,
            (Ok(()), Stage::Listening { .. }) => self.see_out(longest),
        }
    }

    /// It was told everything.
    fn see_out(&mut self, longest: usize) -> Visit {
        if self.stream.shutdown(Shutdown::Write).is_err() {
            return Visit::IsOver;
        }
        self.stage = Stage::Leaving { disregarded: 0 };
        self.ready = true;
        self.go_on(longest)
    }
}

/// Reads to the end of what is said, or to the end of the room for it.
fn hear_out(stream: &mut TcpStream, said: &mut Vec<u8>, longest: usize) -> io::Result<()> {
    let room = longest.saturating_sub(said.len()) as u64;
    Read::take(stream, room).read_to_end(said).map(drop)
}

/// Writes what is left of `answer` from `heard` on.
fn write(stream: &mut TcpStream, answer: &[u8], heard: &mut usize) -> io::Result<()> {
    while *heard < answer.len() {
        match stream.write(&answer[*heard..]) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => *heard += count,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Reads to the end, or for as long as it is worth it.
fn disregard(stream: &mut TcpStream, disregarded: &mut usize) -> io::Result<()> {
    let mut scratch = [0; 4096];
    while *disregarded < DISREGARDED {
        match stream.read(&mut scratch) {
            Ok(0) => return Ok(()),
            Ok(count) => *disregarded += count,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
