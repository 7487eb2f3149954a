//! `zpa`, started for a measurement.

use std::env;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use support::process::Process;
use support::program::Zpa;
use support::sandbox::{Endpoint, Options, Sandbox};

use super::{Proxy, Role};

/// Further builds to run in columns of their own: programs, separated by colons.
const ALSO: &str = "ZPA_BENCH_ALSO";

/// A program to measure.
pub struct Build {
    pub name: String,
    pub role: Role,
    pub program: PathBuf,
}

/// The `zpa` of this source, then those that the environment names.
pub fn builds() -> Vec<Build> {
    let also = env::var_os(ALSO).unwrap_or_default();
    let others = env::split_paths(&also).filter(|path| !path.as_os_str().is_empty());
    let mut builds = vec![Build {
        name: "zpa".to_owned(),
        role: Role::Zpa,
        program: env!("CARGO_BIN_EXE_zpa").into(),
    }];
    builds.extend(others.enumerate().map(|(n, program)| Build {
        name: format!("also {}", n + 1),
        role: Role::Build,
        program,
    }));
    builds
}

/// A `zpa` with a cluster of its own, whose app is awake and is what the
/// servers are.
pub struct ZpaProxy {
    zpa: Zpa,
    /// Dropped after the `zpa` that talks to it.
    _sandbox: Sandbox,
}

impl ZpaProxy {
    pub fn start(program: &Path, ip: Ipv4Addr, servers: &[SocketAddr]) -> ZpaProxy {
        // The sandbox's own pod never gets ready: the servers are all there is.
        let sandbox = Sandbox::start(Options {
            replicas: 1,
            start_delay: None,
            ..Options::default()
        });
        for (n, &server) in servers.iter().enumerate() {
            // A slice has one port for all its endpoints, so each has its own.
            let name = format!("server-{n}");
            sandbox.publish_slice(&name, "IPv4", &[Endpoint::ready(&name, server)]);
        }
        let listen = format!("{ip}:0");
        let settings = [("ZPA_LOG", "info"), ("ZPA_LISTEN", listen.as_str())];
        let zpa = Zpa::start(program, &sandbox, &settings);
        // Older builds, for comparison, say that it is awake.
        zpa.expect_log("1 replica");
        ZpaProxy {
            zpa,
            _sandbox: sandbox,
        }
    }
}

impl Proxy for ZpaProxy {
    fn address(&self) -> SocketAddr {
        self.zpa.address()
    }

    fn process(&self) -> Process {
        Process(self.zpa.id())
    }
}
