//! `zpa check` reports whether what the proxy needs is there, and what would disturb it.
//!
//! Everything is read from the API server first (`facts`). The checks are a table of pure
//! functions of that (`checks`), so that tests pass them objects.

mod checks;
mod facts;
mod proxy;
mod report;
mod services;

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use super::options::{CommandOption, Options};
use super::{Environment, Output};
use crate::duration;
use crate::kube::Access;
use crate::kube::inspect::Inspector;
use crate::settings::{self, Origin, Settings};

use checks::{CheckResult, Subject, examine};
pub use checks::{codes, explain};
use facts::Facts;
pub use proxy::settings_of;
use report::Format;
use services::Discovery;

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
        help: "Repeat the checks for up to this long, while one that fails may still succeed by itself",
    },
    CommandOption {
        name: "--service-account",
        placeholder: "NAME",
        default: "that of the proxy that is found; in a pod, its own",
        help: "Whose permissions to check",
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
pub fn run(args: &[OsString], environment: &Environment<'_>) -> Output {
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        return Output::Text(help());
    }
    match Run::new(args, environment) {
        Ok(run) => run.check(environment),
        Err(errors) => Output::Errors(errors),
    }
}

fn help() -> String {
    let head = "Checks whether what zpa needs is there, and what would disturb it. Prints a line \
                for each check:\n√ as it should be, ‼ a warning, × a failed check. zpa explain CODE says \
                more about a code.\n\nExit code: 0 good or warnings, 1 a check failed, 2 could not \
                check.\n\nUsage: zpa check --deployment NAME [--FLAG VALUE]...\n       zpa check --apps \
                FILE [--FLAG VALUE]...\n       zpa check --discover LABELS [--FLAG VALUE]...\n\n";
    head.to_owned()
        + &super::options::help(&OPTIONS)
        + "\nEvery setting's flag is understood too, those of kubeconfigs among them: see zpa \
           --help.\n"
}

struct Run {
    /// The settings of the apps, each with its namespace, where they are not found.
    apps: Vec<Settings>,
    /// Where apps are found by their Services.
    discovery: Option<Discovery>,
    inspector: Inspector,
    before_install: bool,
    wait: Duration,
    account: Account,
    format: Format,
}

impl Run {
    fn new(args: &[OsString], environment: &Environment<'_>) -> Result<Run, Vec<String>> {
        let options = Options::take(&OPTIONS, args).map_err(|why| vec![why])?;
        let settings = super::process_settings("check", options.rest.clone(), environment.env)?;
        Run::from_options(&options, &settings, environment)
    }

    fn from_options(
        options: &Options,
        settings: &Settings,
        environment: &Environment<'_>,
    ) -> Result<Run, Vec<String>> {
        let wait = match options.value("--wait") {
            Some(text) => duration::parse(text).map_err(|why| vec![format!("--wait: {why}")])?,
            None => Duration::ZERO,
        };
        let format = format(options, environment).map_err(|why| vec![why])?;
        let account = account(options, environment).map_err(|why| vec![why])?;
        let env = |name: &str| (environment.env)(name)?.into_string().ok();
        let (access, namespace) = Access::discover(
            &settings.kube,
            settings.api_server.as_ref(),
            Path::new(&settings.credentials),
            env,
        )
        .map_err(|why| vec![why.to_string()])?;
        let inspector =
            Inspector::new(access, environment.clock, environment.wall).map_err(|why| vec![why])?;
        let namespace = settings.namespace.clone().or(namespace);
        Ok(Run {
            apps: apps(settings, namespace.as_deref().unwrap_or("default"))?,
            discovery: discovery(settings, namespace.as_deref().unwrap_or("default"))?,
            inspector,
            before_install: options.is_given("--pre"),
            wait,
            account,
            format,
        })
    }

    fn check(&self, environment: &Environment<'_>) -> Output {
        let end = (environment.clock)() + self.wait;
        loop {
            let results = self.run_checks();
            let is_pending = results.iter().any(CheckResult::may_still_pass);
            if !is_pending || (environment.clock)() >= end {
                return Output::Report {
                    text: report::render(&results, self.format),
                    code: report::exit_code(&results),
                };
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn run_checks(&self) -> Vec<CheckResult> {
        let (mut results, found) = match &self.discovery {
            Some(discovery) => discovery.examine(&self.inspector),
            None => (Vec::new(), Vec::new()),
        };
        let apps = self.apps.iter().chain(&found);
        results.extend(apps.flat_map(|app| self.check_app(app)));
        results
    }

    fn check_app(&self, settings: &Settings) -> Vec<CheckResult> {
        let facts = Facts::gather(self, settings);
        let subject = Subject {
            settings,
            before_install: self.before_install,
        };
        let results = examine(&subject, &facts);
        let named = results.into_iter().map(|finding| CheckResult {
            app: (settings.origin() != Origin::CommandLine).then(|| name(settings)),
            ..finding
        });
        named.collect()
    }
}

/// The settings of the apps to check, which name their namespaces.
///
/// # Errors
/// All that is wrong with them, a line each.
fn apps(settings: &Settings, namespace: &str) -> Result<Vec<Settings>, Vec<String>> {
    if settings.discover.is_some() {
        return Ok(Vec::new());
    }
    let Some(file) = &settings.apps else {
        if settings.target_ref.name().is_none() {
            return Err(vec![
                "what is scaled has to be given by its name".to_owned(),
            ]);
        }
        let mut app = settings.clone();
        app.namespace = Some(namespace.to_owned());
        return Ok(vec![app]);
    };
    let line = |why: &str| format!("--apps (ZPA_APPS) {}: {why}", file.display());
    let text = std::fs::read(file).map_err(|why| vec![line(&format!("cannot be read: {why}"))])?;
    let apps = settings.read_apps(&text, namespace);
    apps.map_err(|errors| errors.lines().map(line).collect())
}

/// Where apps are to be found by their Services, if that is asked for.
///
/// # Errors
/// Where they are to be found in all namespaces.
fn discovery(settings: &Settings, namespace: &str) -> Result<Option<Discovery>, Vec<String>> {
    let Some(selector) = &settings.discover else {
        return Ok(None);
    };
    if settings.all_namespaces {
        let why = "check takes one namespace at a time; give it as --namespace";
        return Err(vec![why.to_owned()]);
    }
    Ok(Some(Discovery {
        process: settings.clone(),
        selector: selector.clone(),
        namespace: namespace.to_owned(),
    }))
}

/// `namespace/name`.
fn name(settings: &Settings) -> String {
    let namespace = settings.namespace.as_deref().unwrap_or_default();
    format!("{namespace}/{}", settings.target_ref.label())
}

fn format(options: &Options, environment: &Environment<'_>) -> Result<Format, String> {
    match options.value("--output") {
        None | Some("table") => Ok(Format::Table {
            colours: environment.is_terminal && (environment.env)("NO_COLOR").is_none(),
        }),
        Some("short") => Ok(Format::Short),
        Some("json") => Ok(Format::Json),
        Some(other) => Err(format!("--output: {other} is not table, short or json")),
    }
}

fn account(options: &Options, environment: &Environment<'_>) -> Result<Account, String> {
    let in_a_pod = (environment.env)("KUBERNETES_SERVICE_HOST").is_some();
    match options.value("--service-account") {
        Some(name) => settings::dns_subdomain(name)
            .map(Account::Named)
            .map_err(|why| format!("--service-account: {name:?} {why}")),
        None if in_a_pod => Ok(Account::Caller),
        None => Ok(Account::OfTheProxy),
    }
}
