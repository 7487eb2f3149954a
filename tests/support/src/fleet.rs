//! [`Fleet`]: a `zpa` with a list of apps, before as many apps of a sandbox.

use std::ffi::OsStr;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use serde_json::{Value, json};

use crate::process::Process;
use crate::program::Zpa;
use crate::sandbox::{Options, Sandbox, SandboxApp};

/// How many lists this process has written.
static LISTS: AtomicUsize = AtomicUsize::new(0);

/// A `zpa` and its apps, of which all but the first sleep at the start, and that one as the
/// options have it.
pub struct Fleet {
    pub zpa: Zpa,
    /// Where it listens for each app.
    pub addresses: Vec<SocketAddr>,
    pub sandbox: Sandbox,
    list: PathBuf,
}

/// The name of an app, by its number.
pub fn name(number: usize) -> String {
    match number {
        0 => Options::default().name,
        number => format!("app-{number:03}"),
    }
}

impl Fleet {
    /// Starts `program`, which is a `zpa`, for `apps` apps with these settings, and waits until
    /// it has seen all of them.
    pub fn start(
        program: impl AsRef<OsStr>,
        apps: usize,
        options: Options,
        settings: &[(&str, &str)],
    ) -> Fleet {
        Fleet::start_in(program, apps, options, settings, |_| {})
    }

    /// The same in a sandbox that `prepare` changes before the program starts.
    pub fn start_in(
        program: impl AsRef<OsStr>,
        apps: usize,
        options: Options,
        settings: &[(&str, &str)],
        prepare: impl FnOnce(&Sandbox),
    ) -> Fleet {
        let others = (1..apps).map(|number| SandboxApp::new(&name(number), 0));
        let sandbox = Sandbox::start(Options {
            further_apps: others.collect(),
            ..options
        });
        prepare(&sandbox);
        let entry = |number| json!({ "deployment": name(number), "listen": "127.0.0.1:0" });
        let list: Value = (0..apps).map(entry).collect();
        let file = LISTS.fetch_add(1, Relaxed);
        let file = format!("zpa-fleet-{}-{file}.json", std::process::id());
        let file = std::env::temp_dir().join(file);
        fs::write(&file, list.to_string()).expect("a temporary file");
        let mut command = Command::new(program);
        command
            .env_clear()
            .envs(sandbox.env())
            .env_remove("ZPA_DEPLOYMENT")
            .env_remove("ZPA_SERVICE")
            .env("ZPA_APPS", &file)
            .env("ZPA_LOG", "info")
            .env("ZPA_DRAIN_DELAY", "0")
            .envs(settings.iter().copied());
        let zpa = Zpa::spawn(command);
        zpa.expect_log_times(" found at ", apps);
        Fleet {
            addresses: addresses(&zpa, apps),
            zpa,
            sandbox,
            list: file,
        }
    }

    /// Its process.
    pub fn process(&self) -> Process {
        Process(self.zpa.id())
    }

    /// The replicas of an app, by its number.
    pub fn replicas(&self, number: usize) -> u64 {
        self.sandbox.state().replicas_of(&name(number))
    }
}

/// In the order of the list.
fn addresses(zpa: &Zpa, apps: usize) -> Vec<SocketAddr> {
    let status = zpa.status();
    let shown = status["apps"].as_array().expect("apps");
    assert_eq!(shown.len(), apps);
    let address = |app: &Value| app["ports"][0]["listen"].as_str()?.parse().ok();
    let addresses = shown.iter().map(|app| address(app).expect("an address"));
    addresses.collect()
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.list);
    }
}
