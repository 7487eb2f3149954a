//! [`Fleet`]: a `zpa` with several apps, of a list or found by their Services, in front of as many
//! apps of a [`Sandbox`].

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
    list: Option<PathBuf>,
}

/// The label of the Services by which apps are found.
const LABEL: &str = "zero-pod-autoscaler/enabled";

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
        let sandbox = sandbox(apps, options);
        prepare(&sandbox);
        let entry = |number| json!({ "deployment": name(number), "listen": "127.0.0.1:0" });
        let list: Value = (0..apps).map(entry).collect();
        let file = LISTS.fetch_add(1, Relaxed);
        let file = format!("zpa-fleet-{}-{file}.json", std::process::id());
        let file = std::env::temp_dir().join(file);
        fs::write(&file, list.to_string()).expect("a temporary file");
        let mut command = command(program, &sandbox, settings);
        command.env("ZPA_APPS", &file);
        Fleet::spawn(command, apps, sandbox, Some(file))
    }

    /// The same with apps that are found by their Services.
    pub fn discovered(
        program: impl AsRef<OsStr>,
        apps: usize,
        options: Options,
        settings: &[(&str, &str)],
    ) -> Fleet {
        let sandbox = sandbox(apps, options);
        for number in 0..apps {
            sandbox.edit_service(&name(number), |service| {
                service["metadata"]["labels"] = json!({ LABEL: "true" });
                let listen = json!({ "zero-pod-autoscaler/listen": "127.0.0.1:0" });
                service["metadata"]["annotations"] = listen;
            });
        }
        let mut command = command(program, &sandbox, settings);
        command.env("ZPA_DISCOVER", format!("{LABEL}=true"));
        Fleet::spawn(command, apps, sandbox, None)
    }

    fn spawn(command: Command, apps: usize, sandbox: Sandbox, list: Option<PathBuf>) -> Fleet {
        let zpa = Zpa::spawn_without_waiting(command);
        zpa.expect_log_times(" found at ", apps);
        let status = zpa.status();
        let shown = status["apps"].as_array().expect("apps");
        assert_eq!(shown.len(), apps);
        let by_name = shown.iter().map(|app| {
            let address = app["ports"][0]["listen"].as_str();
            let address = address.and_then(|text| text.parse().ok());
            (&app["app"]["name"], address.expect("an address"))
        });
        let by_name: Vec<(&Value, SocketAddr)> = by_name.collect();
        let address = |number| {
            let name = format!("default/{}", name(number));
            let mut found = by_name.iter().filter(|(shown, _)| **shown == *name);
            found.next().expect("every app is shown").1
        };
        Fleet {
            addresses: (0..apps).map(address).collect(),
            zpa,
            sandbox,
            list,
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

fn sandbox(apps: usize, options: Options) -> Sandbox {
    let others = (1..apps).map(|number| SandboxApp::new(&name(number), 0));
    Sandbox::start(Options {
        further_apps: others.collect(),
        ..options
    })
}

fn command(program: impl AsRef<OsStr>, sandbox: &Sandbox, settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .envs(sandbox.env())
        .env_remove("ZPA_DEPLOYMENT")
        .env_remove("ZPA_SERVICE")
        .env("ZPA_LOG", "info")
        .env("ZPA_DRAIN_DELAY", "0")
        .envs(settings.iter().copied());
    command
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if let Some(list) = &self.list {
            let _ = fs::remove_file(list);
        }
    }
}
