//! OpenSSH.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use super::client::succeed;
use super::server::{Server, Volume, are_there, is_root, own_command};
use super::trial::Trial;

/// It runs as whoever runs the test, and lets that one in alone.
fn sshd(keys: &Volume) -> Option<Server> {
    if !are_there(&["sshd", "ssh", "ssh-keygen"]) {
        return None;
    }
    if is_root() {
        // What the service's own start makes.
        fs::create_dir_all("/run/sshd").expect("a directory in /run");
    }
    for key in ["host", "client"] {
        let mut keygen = own_command("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]);
        succeed(keygen.arg(keys.path(key)));
    }
    let configuration = format!(
        "HostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\nUsePAM no\n\
         PasswordAuthentication no\nPermitRootLogin prohibit-password\n",
        keys.path("host").display(),
        keys.path("client.pub").display(),
    );
    let file = keys.write("sshd_config", &configuration);
    Some(Server::new(Volume::new(), move |_, at: &[SocketAddr]| {
        let mut sshd = own_command("sshd");
        sshd.args(["-D", "-e", "-f"]).arg(&file);
        sshd.args(["-o", &format!("ListenAddress={}", at[0])]);
        sshd
    }))
}

fn ssh(trial: &Trial, keys: &Volume, words: &str) -> Command {
    let mut ssh = own_command("ssh");
    let known = format!("UserKnownHostsFile={}", keys.path("known").display());
    ssh.args(["-F", "none", "-p", &trial.port(), "-i"]);
    ssh.arg(keys.path("client"));
    // The second time, the server has to have the key that it had.
    for option in ["BatchMode=yes", "StrictHostKeyChecking=accept-new", &known] {
        ssh.args(["-o", option]);
    }
    ssh.args([&*trial.ip(), words]);
    ssh
}

#[test]
#[ignore = "make protocols runs it"]
fn ssh_wakes_it_and_a_check_does_not() {
    let keys = Volume::new();
    let Some(server) = sshd(&keys) else { return };
    let trial = Trial::start("ssh", server);
    trial.check();
    trial.wake_twice(|| assert_eq!(succeed(&ssh(&trial, &keys, "echo hello")), "hello\n"));
}
