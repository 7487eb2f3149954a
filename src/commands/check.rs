//! `zpa check` reports whether what the proxy needs is there, and what would disturb it.
//!
//! Everything is read from the API server first (`facts`). The checks are a table of pure
//! functions of that (`checks`), so that tests pass them objects.

mod checks;
mod facts;
mod proxy;
mod report;

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use super::options::{CommandOption, Options};
use super::{Output, World};
use crate::duration;
use crate::kube::Access;
use crate::kube::inspect::Inspector;
use crate::settings::{self, Settings};

use checks::{Finding, Subject, examine};
pub use checks::{codes, explain};
use facts::Facts;
use report::Format;

/// The interval between two checks with `--wait`.
const PAUSE: Duration = Duration::from_secs(1);

static OPTIONS: [CommandOption; 4] = [
    CommandOption {
        name: "--pre",
        placeholder: "",
        default: "everything",
        help: "Check what can be checked before the proxy is installed",
    },
    CommandOption {
        name: "--wait",
        placeholder: "DURATION",
        default: "0",
        help: "Look again for so long, until nothing is found that may pass",
    },
    CommandOption {
        name: "--service-account",
        placeholder: "NAME",
        default: "that of the proxy that is found; in a pod, its own",
        help: "Whose permissions to ask for",
    },
    CommandOption {
        name: "--output",
        placeholder: "FORMAT",
        default: "table",
        help: "table, short (only what is not as it should be) or json",
    },
];

/// The user whose permissions are reviewed.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Account {
    /// The user whose credentials are used.
    Caller,
    /// A service account of the namespace.
    Named(String),
    /// The service account of the proxy, if one is found.
    OfTheProxy,
}

/// Runs the command.
pub fn run(args: &[OsString], world: &World<'_>) -> Output {
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        return Output::Text(help());
    }
    match Run::new(args, world) {
        Ok(run) => run.check(world),
        Err(errors) => Output::Errors(errors),
    }
}

fn help() -> String {
    let head = "Checks whether what zpa needs is there, and what would disturb it. Prints a line \
                for each check:\n√ as it should be, ‼ a warning, × a finding. zpa explain CODE says \
                more about a code.\n\nExit code: 0 good or warnings, 1 findings, 2 could not \
                check.\n\nUsage: zpa check --deployment NAME [--FLAG VALUE]...\n\n";
    head.to_owned()
        + &super::options::help(&OPTIONS)
        + "\nEvery setting's flag is understood too, those of kubeconfigs among them: see zpa \
           --help.\n"
}

struct Run {
    settings: Settings,
    inspector: Inspector,
    namespace: String,
    before_install: bool,
    wait: Duration,
    account: Account,
    format: Format,
}

impl Run {
    fn new(args: &[OsString], world: &World<'_>) -> Result<Run, Vec<String>> {
        let options = Options::take(&OPTIONS, args).map_err(|why| vec![why])?;
        let settings = super::settings("check", options.rest.clone(), world.env)?;
        Run::from_options(&options, settings, world).map_err(|why| vec![why])
    }

    fn from_options(
        options: &Options,
        settings: Settings,
        world: &World<'_>,
    ) -> Result<Run, String> {
        if settings.target_ref.name().is_none() {
            return Err("what is scaled has to be given by its name".to_owned());
        }
        let wait = match options.value("--wait") {
            Some(text) => duration::parse(text).map_err(|why| format!("--wait: {why}"))?,
            None => Duration::ZERO,
        };
        let format = match options.value("--output") {
            None | Some("table") => Format::Table {
                colours: world.is_terminal && (world.env)("NO_COLOR").is_none(),
            },
            Some("short") => Format::Short,
            Some("json") => Format::Json,
            Some(other) => return Err(format!("--output: {other} is not table, short or json")),
        };
        let in_a_pod = (world.env)("KUBERNETES_SERVICE_HOST").is_some();
        let account = match options.value("--service-account") {
            Some(name) => Account::Named(
                settings::dns_subdomain(name)
                    .map_err(|why| format!("--service-account: {name:?} {why}"))?,
            ),
            None if in_a_pod => Account::Caller,
            None => Account::OfTheProxy,
        };
        let env = |name: &str| (world.env)(name)?.into_string().ok();
        let (access, namespace) = Access::discover(
            &settings.kube,
            settings.api_server.as_ref(),
            Path::new(&settings.credentials),
            env,
        )
        .map_err(|why| why.to_string())?;
        let inspector = Inspector::new(access, world.clock, world.wall)?;
        let namespace = settings.namespace.clone().or(namespace);
        Ok(Run {
            inspector,
            namespace: namespace.unwrap_or_else(|| "default".to_owned()),
            before_install: options.is_given("--pre"),
            wait,
            account,
            format,
            settings,
        })
    }

    fn check(&self, world: &World<'_>) -> Output {
        let end = (world.clock)() + self.wait;
        loop {
            let findings = self.look();
            let is_pending = findings.iter().any(Finding::may_pass);
            if !is_pending || (world.clock)() >= end {
                return Output::Report {
                    text: report::render(&findings, self.format),
                    code: report::exit_code(&findings),
                };
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn look(&self) -> Vec<Finding> {
        let facts = Facts::gather(self);
        let subject = Subject {
            settings: &self.settings,
            before_install: self.before_install,
        };
        examine(&subject, &facts)
    }
}
