//! Admin connections: one request, one reply, a deadline.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use zpa::engine::AdminLimits;

use crate::rig::{APP, LIMITS, Rig, TEST_TIMEOUT};

const ADMIN_LIMITS: AdminLimits = AdminLimits {
    max_connections: 3,
    timeout: Duration::from_secs(3600),
    max_request_bytes: 64,
};

/// An engine that lets admin connections in.
fn admin_rig(limits: AdminLimits) -> Rig {
    let mut rig = Rig::new(LIMITS);
    let address = ([127, 0, 0, 1], 0).into();
    rig.engine.listen_for_admin(address, limits).unwrap();
    rig
}

impl Rig {
    fn visit(&mut self) -> TcpStream {
        let address = self.engine.admin().local_addr().unwrap();
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        stream
    }

    /// A turn in which each admin connection that has said a whole line, or all that it
    /// may, gets `answer`.
    fn answer(&mut self, answer: &[u8]) {
        self.turn();
        while let Some((admin_connection, said)) = self.engine.admin().next_request() {
            let whole = said.ends_with(b"\n") || said.len() >= ADMIN_LIMITS.max_request_bytes;
            let answer = whole.then(|| Arc::new(answer.to_vec()));
            self.engine.admin().answer(admin_connection, answer);
        }
    }

    /// Answers until `stream` has ended, and returns what came.
    fn answered(&mut self, stream: &mut TcpStream, answer: &[u8]) -> std::io::Result<Vec<u8>> {
        stream.set_nonblocking(true).unwrap();
        let start = Instant::now();
        let mut received = Vec::new();
        loop {
            assert!(
                start.elapsed() < TEST_TIMEOUT,
                "received only {} bytes",
                received.len()
            );
            match stream.read_to_end(&mut received) {
                Err(e) if e.kind() == ErrorKind::WouldBlock => self.answer(answer),
                other => return other.map(|_| received),
            }
        }
    }
}

#[test]
fn an_admin_connection_is_answered_and_is_no_connection() {
    let mut rig = admin_rig(ADMIN_LIMITS);
    let mut admin_connection = rig.visit();
    admin_connection.write_all(b"how ").unwrap();
    for _ in 0..5 {
        rig.answer(b"fine");
    }
    assert_eq!(rig.engine.admin().len(), 1, "it has not said everything");
    admin_connection.write_all(b"are you?\n").unwrap();
    assert_eq!(
        rig.answered(&mut admin_connection, b"fine").unwrap(),
        b"fine"
    );
    drop(admin_connection);
    rig.until("it has left", |e| e.admin().is_empty());
    let counts = rig.counts();
    assert_eq!((counts.accepted, counts.open, counts.waiting), (0, 0, 0));
}

#[test]
fn an_answer_of_any_length_reaches_an_admin_connection_that_reads_slowly() {
    let mut rig = admin_rig(ADMIN_LIMITS);
    let mut admin_connection = rig.visit();
    admin_connection.write_all(b"tell me all\n").unwrap();
    let all = vec![b'x'; 8 << 20];
    for _ in 0..20 {
        rig.answer(&all);
    }
    assert_eq!(
        rig.answered(&mut admin_connection, &all).unwrap().len(),
        all.len()
    );
}

#[test]
fn an_answer_is_not_lost_to_what_the_admin_connection_has_said_beyond_its_limit() {
    let mut rig = admin_rig(ADMIN_LIMITS);
    let mut admin_connection = rig.visit();
    admin_connection.write_all(&[b'x'; 4096]).unwrap();
    assert_eq!(
        rig.answered(&mut admin_connection, b"enough").unwrap(),
        b"enough"
    );
}

#[test]
fn an_admin_connection_that_ends_before_it_has_said_everything_is_let_go() {
    let mut rig = admin_rig(ADMIN_LIMITS);
    let mut admin_connection = rig.visit();
    admin_connection.write_all(b"ne").unwrap();
    admin_connection.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rig.answered(&mut admin_connection, b"?").unwrap(), b"");
    assert!(rig.engine.admin().is_empty());
}

#[test]
fn an_admin_connection_that_shuts_its_side_after_its_line_is_answered() {
    let mut rig = admin_rig(ADMIN_LIMITS);
    let mut admin_connection = rig.visit();
    admin_connection.write_all(b"all\n").unwrap();
    admin_connection.shutdown(Shutdown::Write).unwrap();
    assert_eq!(
        rig.answered(&mut admin_connection, b"fine").unwrap(),
        b"fine"
    );
}

#[test]
fn an_admin_connection_that_dawdles_is_shown_out_at_its_deadline_and_not_before() {
    let mut rig = admin_rig(ADMIN_LIMITS);
    let (mut silent, mut slow) = (rig.visit(), rig.visit());
    slow.write_all(b"on and ").unwrap();
    rig.until("both are in", |e| e.admin().len() == 2);
    rig.skew += ADMIN_LIMITS.timeout - Duration::from_secs(600);
    slow.write_all(b"on ").unwrap();
    rig.answer(b"?");
    assert_eq!(rig.engine.admin().len(), 2);
    assert!(rig.engine.poll_timeout().is_some_and(|at| at > rig.now()));
    rig.skew += Duration::from_secs(600);
    rig.until("they are out", |e| e.admin().is_empty());
    for admin_connection in [&mut silent, &mut slow] {
        assert_eq!(rig.answered(admin_connection, b"?").unwrap(), b"");
    }
    assert_eq!(rig.engine.poll_timeout(), None, "nothing is left of them");
}

#[test]
fn however_many_sit_and_say_nothing_the_next_one_is_answered() {
    let mut rig = admin_rig(ADMIN_LIMITS);
    let mut silent: Vec<_> = (0..ADMIN_LIMITS.max_connections)
        .map(|_| rig.visit())
        .collect();
    rig.until("the room is full", |e| {
        e.admin().len() == ADMIN_LIMITS.max_connections
    });
    let mut admin_connection = rig.visit();
    admin_connection.write_all(b"and me?\n").unwrap();
    assert_eq!(
        rig.answered(&mut admin_connection, b"fine").unwrap(),
        b"fine"
    );
    let first = rig.answered(&mut silent[0], b"?").unwrap();
    assert_eq!(first, b"", "it was there longest");
    silent[2].write_all(b"me too\n").unwrap();
    assert_eq!(rig.answered(&mut silent[2], b"fine").unwrap(), b"fine");
}

#[test]
fn a_crowd_of_admin_connections_is_answered_to_the_last() {
    let mut rig = admin_rig(ADMIN_LIMITS);
    let mut all: Vec<_> = (0..50).map(|_| rig.visit()).collect();
    for admin_connection in &mut all {
        admin_connection.write_all(b"hello\n").unwrap();
    }
    for admin_connection in &mut all {
        assert_eq!(rig.answered(admin_connection, b"fine").unwrap(), b"fine");
        assert!(rig.engine.admin().len() <= ADMIN_LIMITS.max_connections);
    }
}

#[test]
fn admin_connections_are_answered_while_nothing_is_accepted_any_more() {
    let mut rig = admin_rig(ADMIN_LIMITS);
    rig.engine.stop_accepting(APP, rig.now());
    let mut admin_connection = rig.visit();
    admin_connection.write_all(b"still there?\n").unwrap();
    assert_eq!(rig.answered(&mut admin_connection, b"yes").unwrap(), b"yes");
}
