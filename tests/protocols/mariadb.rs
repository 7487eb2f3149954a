//! MariaDB, with its own client.

use std::net::SocketAddr;
use std::process::Command;

use super::client::{run, succeed};
use super::server::{Server, Volume, are_there, command, find};
use super::trial::Trial;

fn mariadb_server() -> Option<Server> {
    if !are_there(&["mariadbd", "mariadb", "mariadb-install-db"]) {
        return None;
    }
    let volume = Volume::new();
    let mut install = command("mariadb-install-db");
    install.args(["--no-defaults", "--skip-test-db", "--skip-name-resolve"]);
    install.arg("--auth-root-authentication-method=normal");
    install.arg(format!("--datadir={}", volume.path("data").display()));
    let made = install.output().expect("mariadb-install-db runs");
    assert!(made.status.success(), "{made:?}");
    Some(Server::new(volume, |volume: &Volume, at: &[SocketAddr]| {
        let mut mariadbd = command("mariadbd");
        let file = |name| volume.path(name).display().to_string();
        // Clients come from the proxy's address, which has no name and need none.
        mariadbd.args([
            "--no-defaults",
            "--skip-name-resolve",
            "--skip-grant-tables",
        ]);
        mariadbd.args([
            format!("--datadir={}", file("data")),
            format!("--socket={}", file("socket")),
            format!("--pid-file={}", file("pid")),
            format!("--bind-address={}", at[0].ip()),
            format!("--port={}", at[0].port()),
        ]);
        mariadbd
    }))
}

fn mariadb(trial: &Trial, query: &str) -> Command {
    let mut mariadb = Command::new(find("mariadb").unwrap());
    mariadb.args(["--no-defaults", "--protocol=tcp", "--skip-column-names"]);
    mariadb.args(["-h", &trial.ip(), "-P", &trial.port(), "-u", "root"]);
    mariadb.args(["--batch", "-e", query]);
    mariadb
}

#[test]
#[ignore = "make protocols runs it"]
fn mariadb_wakes_it_and_finds_its_data() {
    let Some(server) = mariadb_server() else {
        return;
    };
    let trial = Trial::start("mariadb", server);
    let mut rows = 0;
    trial.wake_twice(|| {
        rows += 1;
        let counted = "create database if not exists d; create table if not exists d.t (n int); \
                       insert into d.t values (1); select count(*) from d.t";
        assert_eq!(succeed(&mariadb(&trial, counted)), format!("{rows}\n"));
    });
}

#[test]
#[ignore = "make protocols runs it"]
fn mariadb_shows_why_it_was_held_in_vain() {
    if !are_there(&["mariadb"]) {
        return;
    }
    let trial = Trial::in_vain("mariadb");
    let said = run(&mariadb(&trial, "select 1"));
    assert!(!said.success && said.err.contains("1040"), "{said:?}");
}
