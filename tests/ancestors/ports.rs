//! Port 80 for a user that is not root, as in the image.

use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};

use support::program::Zpa;
use support::sandbox::{Options, Sandbox};

use crate::{echo, in_a_network_of_its_own};

/// The user of the image.
const USER: u32 = 65532;

/// The program as that user, on that port.
fn command(sandbox: &Sandbox, port: u16) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zpa"));
    command
        .args(["--deployment=myapp", "--endpoints=myapp"])
        .arg(format!("--address=127.0.0.1:{port}"))
        .env_clear()
        .envs(sandbox.env())
        .uid(USER)
        .gid(USER);
    command
}

#[test]
fn a_port_that_takes_root_is_an_error_that_names_the_cure_which_cures_it() {
    in_a_network_of_its_own(|network| {
        let sandbox = Sandbox::start(Options::default());
        let variable = "ipv4/ip_unprivileged_port_start";
        network.set((variable, "1024")).unwrap();
        let Output { status, stderr, .. } =
            command(&sandbox, 80).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8(stderr).unwrap();
        assert_eq!(status.code(), Some(2), "{said}");
        for part in [
            "--address (ZPA_LISTEN) 127.0.0.1:80: Permission denied",
            "securityContext.sysctls",
            "net.ipv4.ip_unprivileged_port_start=0",
            "containerd",
            "use another port",
        ] {
            assert!(said.contains(part), "{part} in {said}");
        }
        network.set((variable, "0")).unwrap();
        let zpa = Zpa::spawn(command(&sandbox, 80));
        assert_eq!(zpa.address().port(), 80);
        echo(&zpa, "on port 80");
    });
}
