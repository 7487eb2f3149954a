//! PostgreSQL, with psql, a pool, and a herd.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::thread;

use super::client::{run, succeed};
use super::server::{Beside, Server, Volume, are_there, command, find};
use super::trial::Trial;

/// How many clients the server has room for.
const MAX_CONNECTIONS: usize = 100;

fn postgresql() -> Option<Server> {
    if !are_there(&["postgres", "initdb", "pg_isready", "psql"]) {
        return None;
    }
    let volume = Volume::new();
    let mut initdb = command("initdb");
    initdb.args(["--no-sync", "--auth=trust", "--username=postgres", "-D"]);
    let made = initdb.arg(volume.path("data")).output();
    let made = made.expect("initdb runs");
    assert!(made.status.success(), "{made:?}");
    let start = |volume: &Volume, at: &[SocketAddr]| {
        let mut postgres = command("postgres");
        postgres.arg("-D").arg(volume.path("data"));
        for option in [
            format!("listen_addresses={}", at[0].ip()),
            format!("port={}", at[0].port()),
            format!("max_connections={MAX_CONNECTIONS}"),
            "unix_socket_directories=".to_owned(),
            "fsync=off".to_owned(),
        ] {
            postgres.args(["-c", &option]);
        }
        postgres
    };
    let server = Server::new(volume, start).ready_if(|at| {
        let mut probe = command("pg_isready");
        probe.args([
            "-q",
            "-h",
            &at.ip().to_string(),
            "-p",
            &at.port().to_string(),
        ]);
        probe.status().is_ok_and(|status| status.success())
    });
    // A fast shutdown, as in the image.
    Some(server.stopped_by(libc::SIGINT))
}

/// The real psql: that of the path is Debian's wrapper.
fn psql(ip: &str, port: &str, query: &str) -> Command {
    let mut psql = Command::new(find("psql").unwrap());
    psql.args(["-h", ip, "-p", port, "-U", "postgres", "-d", "postgres"]);
    psql.args(["-X", "-A", "-t", "-c", query]);
    psql
}

#[test]
#[ignore = "make protocols runs it"]
fn psql_wakes_it_and_a_check_does_not() {
    let Some(server) = postgresql() else { return };
    let trial = Trial::start("postgresql", server);
    trial.check();
    let mut rows = 0;
    let counted = "create table if not exists t (n int); insert into t values (1); \
                   select count(*) from t";
    trial.wake_twice(|| {
        rows += 1;
        let out = succeed(&psql(&trial.ip(), &trial.port(), counted));
        assert_eq!(out.lines().last(), Some(&*rows.to_string()), "{out}");
    });
}

#[test]
#[ignore = "make protocols runs it"]
fn a_pool_survives_that_its_silent_connections_are_closed_when_it_sleeps() {
    if !are_there(&["pgbouncer"]) {
        return;
    }
    let Some(server) = postgresql() else { return };
    let trial = Trial::start("postgresql", server);
    let (volume, at) = (Volume::new(), trial.sandbox.spare_address());
    let configuration = format!(
        "[databases]\npostgres = host={} port={} user=postgres\n[pgbouncer]\nlisten_addr = {}\n\
         listen_port = {}\nauth_type = any\nunix_socket_dir =\npool_mode = transaction\n",
        trial.ip(),
        trial.port(),
        at.ip(),
        at.port(),
    );
    let mut pgbouncer = command("pgbouncer");
    pgbouncer.arg(volume.write("pgbouncer.ini", &configuration));
    let _pool = Beside::start(pgbouncer, at);
    let (ip, port) = (at.ip().to_string(), at.port().to_string());
    trial.wake_twice(|| {
        let out = succeed(&psql(&ip, &port, "select 6 * 7"));
        assert_eq!(out, "42\n");
    });
}

#[test]
#[ignore = "make protocols runs it"]
fn psql_shows_why_it_was_held_in_vain() {
    if !are_there(&["psql"]) {
        return;
    }
    let trial = Trial::in_vain("postgresql");
    let said = run(&psql(&trial.ip(), &trial.port(), "select 1"));
    let why = "the database is waking up, try again";
    assert!(!said.success && said.err.contains(why), "{said:?}");
}

/// 500 clients are held, and the server has room for 100, three of which are for the
/// superuser.
#[test]
#[ignore = "make protocols runs it"]
fn five_hundred_clients_at_once_are_all_served_by_a_server_with_room_for_a_hundred() {
    let Some(server) = postgresql() else { return };
    let trial = Trial::start("postgresql", server);
    let clients: Vec<Client> = (0..500).map(|_| Client::connect(trial.address())).collect();
    let threads = clients.into_iter().map(|mut client| {
        let builder = thread::Builder::new().stack_size(128 << 10);
        let query = move || client.query("select 6 * 7").map(|_| client.leave());
        builder.spawn(query).expect("a thread")
    });
    let threads: Vec<_> = threads.collect();
    for (number, thread) in threads.into_iter().enumerate() {
        let answer = thread.join().expect("no panic");
        assert_eq!(answer, Ok(()), "client {number}");
    }
    assert_eq!(trial.wakes(), 1);
}

/// That the other test can fail: as many as that, without the limit, are too many.
#[test]
#[ignore = "make protocols runs it"]
fn without_the_limit_the_server_has_no_room_for_so_many() {
    let Some(server) = postgresql() else { return };
    let trial = Trial::without("postgresql", server, &["ZPA_MAX_CONNECTIONS_PER_POD"]);
    let clients = (0..=MAX_CONNECTIONS).map(|_| Client::connect(trial.address()));
    let mut clients: Vec<Client> = clients.collect();
    let refused = clients
        .iter_mut()
        .filter_map(|it| it.query("select 1").err());
    let refused: Vec<String> = refused.collect();
    let too_many = refused.iter().any(|why| why.contains("too many clients"));
    assert!(too_many, "{refused:?}");
}

/// A client of protocol 3.0 (PostgreSQL's manual, 55.7): small enough that there can be
/// hundreds at once.
struct Client(TcpStream);

impl Client {
    /// Connects, and sends the startup packet.
    fn connect(address: SocketAddr) -> Client {
        let mut stream = TcpStream::connect(address).expect("zpa accepts");
        let limit = Some(support::program::TEST_TIMEOUT);
        stream.set_read_timeout(limit).unwrap();
        let parameters = b"\0\x03\0\0user\0postgres\0database\0postgres\0\0";
        let length = u32::try_from(parameters.len() + 4).unwrap();
        let packet = [&length.to_be_bytes()[..], parameters].concat();
        stream.write_all(&packet).unwrap();
        Client(stream)
    }

    /// Asks once there is somebody to ask; the error of the server, or of the network.
    fn query(&mut self, text: &str) -> Result<(), String> {
        self.until_ready()?;
        let length = u32::try_from(text.len() + 5).unwrap();
        let packet = [b"Q", &length.to_be_bytes()[..], text.as_bytes(), b"\0"].concat();
        self.0.write_all(&packet).map_err(|e| e.to_string())?;
        match self.until_ready()? {
            0 => Err("no row".to_owned()),
            _ => Ok(()),
        }
    }

    /// Reads up to ReadyForQuery; how many rows there were.
    fn until_ready(&mut self) -> Result<usize, String> {
        let mut rows = 0;
        loop {
            let mut head = [0; 5];
            self.0.read_exact(&mut head).map_err(|e| e.to_string())?;
            let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
            let mut body = vec![0; length as usize - 4];
            self.0.read_exact(&mut body).map_err(|e| e.to_string())?;
            match head[0] {
                b'Z' => return Ok(rows),
                b'D' => rows += 1,
                b'E' => return Err(String::from_utf8_lossy(&body).into_owned()),
                _ => {}
            }
        }
    }

    /// Terminates in order.
    fn leave(&mut self) {
        let _ = self.0.write_all(b"X\0\0\0\x04");
    }
}
