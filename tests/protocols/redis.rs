//! Redis, with redis-cli.

use std::net::SocketAddr;
use std::process::Command;

use super::client::{Kept, run, succeed};
use super::server::{Server, Volume, are_there, command, find};
use super::trial::Trial;

fn redis_server() -> Option<Server> {
    if !are_there(&["redis-server", "redis-cli"]) {
        return None;
    }
    let server = Server::new(Volume::new(), |volume, at: &[SocketAddr]| {
        let mut redis = command("redis-server");
        let (ip, port) = (at[0].ip().to_string(), at[0].port().to_string());
        redis.args(["--bind", &ip, "--port", &port, "--protected-mode", "no"]);
        // What it knows outlives its pod.
        redis
            .args(["--appendonly", "yes", "--dir"])
            .arg(volume.path(""));
        redis
    });
    // It accepts while it reads its file, and has but an error to say.
    let is_ready = |at: SocketAddr| {
        let mut ping = command("redis-cli");
        let (ip, port) = (at.ip().to_string(), at.port().to_string());
        let pong = ping.args(["-h", &ip, "-p", &port, "ping"]).output();
        pong.is_ok_and(|output| output.stdout == b"PONG\n")
    };
    Some(server.ready_if(is_ready))
}

fn redis_cli(trial: &Trial, words: &[&str]) -> Command {
    let mut redis_cli = Command::new(find("redis-cli").unwrap());
    redis_cli.args(["-h", &trial.ip(), "-p", &trial.port()]);
    redis_cli.args(words);
    redis_cli
}

#[test]
#[ignore = "make protocols runs it"]
fn redis_cli_wakes_it_and_a_check_does_not() {
    let Some(server) = redis_server() else { return };
    let trial = Trial::start("redis", server);
    trial.check();
    let mut count = 0;
    trial.wake_twice(|| {
        count += 1;
        assert_eq!(
            succeed(&redis_cli(&trial, &["incr", "n"])),
            format!("{count}\n")
        );
    });
}

/// It has chosen no database, and has not logged in.
#[test]
#[ignore = "make protocols runs it"]
fn a_client_without_a_session_keeps_its_connection_over_two_sleeps() {
    let Some(server) = redis_server() else { return };
    let detach = [
        ("ZPA_SILENT_CONNECTIONS", "detach"),
        ("ZPA_IDLE_TIMEOUT", "24h"),
    ];
    let trial = Trial::with("redis", server, &detach);
    let mut client = Kept::connect(trial.address());
    let mut count = 0;
    trial.wake_twice(|| {
        count += 1;
        let answer = client.ask("*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n", "\r\n");
        assert_eq!(answer, format!(":{count}\r\n"));
    });
    assert_eq!(trial.zpa.metric("zpa_connections_total"), Some(1.0));
}

#[test]
#[ignore = "make protocols runs it"]
fn redis_cli_shows_why_it_was_held_in_vain() {
    if !are_there(&["redis-cli"]) {
        return;
    }
    let trial = Trial::in_vain("redis");
    let said = run(&redis_cli(&trial, &["get", "n"]));
    assert!(said.out.contains("LOADING"), "{said:?}");
}
