//! Who stands between the client and the server.

use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::Result;
use crate::load;
use crate::process::Process;
use crate::sandbox::{Options, Sandbox};
use crate::zpa_process::Zpa;

/// A way to the server.
#[derive(Clone, Debug)]
pub struct Way {
    pub name: &'static str,
    pub address: SocketAddr,
    /// Who is on it; `None` on the direct one.
    pub process: Option<Process>,
}

impl Way {
    /// No proxy.
    pub fn direct(server: SocketAddr) -> Way {
        Way {
            name: "direct",
            address: server,
            process: None,
        }
    }
}

/// A `zpa` with a cluster of its own. Its connections go to a server outside
/// the cluster, by way of its `target` setting.
pub struct ZpaProxy {
    zpa: Zpa,
    /// Dropped after the `zpa` that talks to it.
    _sandbox: Sandbox,
}

impl ZpaProxy {
    /// Before an app with that many replicas.
    pub fn start(server: SocketAddr, replicas: u32) -> ZpaProxy {
        let sandbox = Sandbox::start(Options {
            replicas,
            ..Options::default()
        });
        let target = server.to_string();
        let settings = [("ZPA_TARGET", target.as_str()), ("ZPA_LOG", "info")];
        let zpa = Zpa::start(&sandbox, &settings);
        zpa.expect_log(if replicas == 0 {
            "is asleep"
        } else {
            "is awake"
        });
        ZpaProxy {
            zpa,
            _sandbox: sandbox,
        }
    }

    pub fn way(&self) -> Way {
        Way {
            name: "zpa",
            address: self.zpa.address(),
            process: Some(Process(self.zpa.id())),
        }
    }
}

/// HAProxy with one thread, passing TCP through. It ends when dropped.
pub struct HaProxy {
    child: Child,
    address: SocketAddr,
    config: PathBuf,
}

impl HaProxy {
    /// Starts it before `server`; `None` if it isn't installed. Waits until
    /// it serves.
    pub fn start(server: SocketAddr) -> Result<Option<HaProxy>> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let config = std::env::temp_dir().join(format!("zpa-bench-{}.cfg", std::process::id()));
        fs::write(&config, configuration(server))?;
        // The listener is its standard input: a port that nobody can take.
        let child = Command::new("haproxy")
            .args(["-db", "-f"])
            .arg(&config)
            .stdin(OwnedFd::from(listener))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let child = match child {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                fs::remove_file(&config)?;
                return Ok(None);
            }
            child => child.map_err(|e| format!("haproxy: {e}"))?,
        };
        let haproxy = HaProxy {
            child,
            address,
            config,
        };
        // The listener queues connections before HAProxy is there to accept.
        load::probe(address).map_err(|e| format!("haproxy does not serve: {e}"))?;
        Ok(Some(haproxy))
    }

    pub fn way(&self) -> Way {
        Way {
            name: "HAProxy",
            address: self.address,
            process: Some(Process(self.child.id())),
        }
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.config);
    }
}

fn configuration(server: SocketAddr) -> String {
    format!(
        "global\n  nbthread 1\n\
         defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n\
         frontend in\n  bind fd@0\n  default_backend out\n\
         backend out\n  server one {server}\n"
    )
}
