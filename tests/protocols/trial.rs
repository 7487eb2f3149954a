//! A real server that sleeps behind the real binary, with the settings of its protocol.

use std::cell::Cell;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;

use support::program::Zpa;
use support::sandbox::{Options, OtherPort, Pattern, PodProgram, Sandbox, on};

use super::recipe;
use super::server::Server;

/// Durations that a recipe has, and those with which it is tried: nobody waits so long.
const SHORTER: [(&str, &str); 1] = [("ZPA_SILENT_AFTER", "1s")];

/// The shortest TTL.
const TTL: &str = "1s";

/// The sandbox with the server, and the proxy.
pub struct Trial {
    pub sandbox: Sandbox,
    pub zpa: Zpa,
    sleeps: Cell<usize>,
    /// What the server prints.
    server_log: Option<PathBuf>,
}

impl Trial {
    /// Puts the server to sleep behind the proxy.
    pub fn start(protocol: &str, server: Server) -> Trial {
        Trial::without(protocol, server, &[])
    }

    /// The same with these settings in addition to the recipe's.
    pub fn with(protocol: &str, server: Server, settings: &[(&str, &str)]) -> Trial {
        Trial::sandboxed(protocol, server, &[], settings)
    }

    /// The same without these settings of the recipe.
    pub fn without(protocol: &str, server: Server, names: &[&str]) -> Trial {
        Trial::sandboxed(protocol, server, names, &[])
    }

    fn sandboxed(protocol: &str, server: Server, without: &[&str], with: &[(&str, &str)]) -> Trial {
        let log = server.log();
        let sandbox = Sandbox::start(Options {
            app: server.app(),
            ..Options::default()
        });
        let mut recipe = recipe_of(protocol);
        recipe.retain(|(name, _)| !without.contains(&&**name));
        let with = with.iter();
        recipe.extend(with.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        Trial::of(sandbox, recipe, Some(log))
    }

    /// A server with a second port, to which the recipe's second listener leads. The proxy
    /// listens with the pods' port there, at an address of its own.
    pub fn with_second_port(protocol: &str, server: Server, name: &'static str) -> Trial {
        let log = server.log();
        let sandbox = Sandbox::start(Options {
            app: server.app(),
            other_ports: vec![OtherPort {
                name,
                number: 30_000,
                app: PodProgram::OfProgram,
            }],
            ..Options::default()
        });
        let mut recipe = recipe_of(protocol);
        let listen = recipe.iter_mut().find(|(it, _)| it == "ZPA_LISTEN");
        let (_, listen) = listen.expect("the recipe has listeners");
        assert!(listen.ends_with(&format!(",30000={name}")), "{listen}");
        let (first, second) = (sandbox.spare_address(), sandbox.other_pod_ports()[0]);
        *listen = format!("{first}=http,{}:{second}={name}", first.ip());
        Trial::of(sandbox, recipe, Some(log))
    }

    /// An app that never gets ready, with a hold limit that is soon over.
    pub fn in_vain(protocol: &str) -> Trial {
        let sandbox = Sandbox::start(Options::default());
        sandbox.never_ready();
        let mut recipe = recipe_of(protocol);
        recipe.retain(|(name, _)| name != "ZPA_LISTEN");
        recipe.push(("ZPA_HOLD_TIMEOUT".to_owned(), "1s".to_owned()));
        Trial::of(sandbox, recipe, None)
    }

    fn of(sandbox: Sandbox, recipe: Vec<(String, String)>, server_log: Option<PathBuf>) -> Trial {
        let mut settings: Vec<(&str, &str)> = vec![("ZPA_IDLE_TTL", TTL)];
        settings.extend(recipe.iter().map(|(name, value)| (&**name, &**value)));
        let zpa = Zpa::start(env!("CARGO_BIN_EXE_zpa"), &sandbox, &settings);
        zpa.expect_log("found at 0 replicas");
        Trial {
            sandbox,
            zpa,
            sleeps: Cell::new(0),
            server_log,
        }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.zpa.address()
    }

    pub fn ip(&self) -> String {
        self.address().ip().to_string()
    }

    pub fn port(&self) -> String {
        self.address().port().to_string()
    }

    /// Connects and leaves without a word, as a TCP check does; that may wake nothing.
    #[track_caller]
    pub fn check(&self) {
        for _ in 0..3 {
            drop(TcpStream::connect(self.address()).expect("a check succeeds"));
        }
        self.zpa.expect_metric("zpa_connections_total", 3.0);
        self.zpa.expect_metric("zpa_connections_open", 0.0);
        let asleep = self.zpa.metric("zpa_phase{phase=\"asleep\"}");
        assert_eq!(
            (asleep, self.wakes()),
            (Some(1.0), 0),
            "a check wakes nothing"
        );
    }

    /// How many times the app was woken.
    pub fn wakes(&self) -> usize {
        self.sandbox.count(&waking())
    }

    /// How many times it was put to sleep.
    pub fn has_slept(&self) -> usize {
        self.zpa.logged("scaled to 0 after")
    }

    /// Waits until it is put to sleep once more, and its pods are gone.
    #[track_caller]
    pub fn expect_sleep(&self) {
        self.sleeps.set(self.sleeps.get() + 1);
        self.zpa
            .expect_log_times("scaled to 0 after", self.sleeps.get());
        self.sandbox
            .expect("the pods are gone", |state| state.pods() == 0);
    }

    /// Uses the app twice, each time from asleep, and lets it sleep after the second.
    #[track_caller]
    pub fn wake_twice(&self, mut client: impl FnMut()) {
        for wake in 1..=2 {
            client();
            self.sandbox
                .expect("a wake for each", |state| state.count(&waking()) == wake);
            self.expect_sleep();
        }
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        let log = self.server_log.as_ref().map(fs::read_to_string);
        if let Some(Ok(log)) = log.filter(|_| std::thread::panicking()) {
            eprintln!("the server's log:\n{log}");
        }
    }
}

/// The settings of a protocol, with shorter durations.
fn recipe_of(protocol: &str) -> Vec<(String, String)> {
    let mut recipe = recipe::read(protocol);
    for (name, value) in &mut recipe {
        if let Some((_, shorter)) = SHORTER.iter().find(|(it, _)| it == name) {
            *value = (*shorter).to_owned();
        }
    }
    recipe
}

/// The PATCHes that have woken the app.
fn waking() -> Pattern {
    on("patch", "deployments/scale").with(|e| e.replicas() == Some(1) && e.status == Some(200))
}
