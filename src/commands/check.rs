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

use super::command::Command;
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

/// `zpa check`.
pub static COMMAND: Command = Command {
    name: "check",
    summary: "looks whether what it needs is there, and what would disturb it",
    usage: &[
        "--deployment NAME [--FLAG VALUE]...",
        "--apps FILE [--FLAG VALUE]...",
        "--discover LABELS [--FLAG VALUE]...",
    ],
    about: "Checks whether what zpa needs is there, and what would disturb it. It reads with your \
            kubeconfig, or in a pod with its service account, and changes nothing.\n\nPrints a line \
            for each check: √ as it should be, ‼ a warning, × a failed check. zpa explain CODE says \
            more about a code.",
    options: &OPTIONS,
    settings: Some(
        "Every setting is an option too, those of kubeconfigs among them: zpa --help lists them. \
         Give those that the proxy has, or is to have.",
    ),
    words: Vec::new,
    variables: &[
        (
            "ZPA_..., KUBECONFIG",
            "The settings, as for the proxy: zpa --help names each.",
        ),
        ("NO_COLOR", "If it is set, the table has no colours."),
    ],
    exit_codes: &[
        (
            0,
            "everything is as it should be, or there are warnings alone",
        ),
        (1, "a check failed"),
        (2, "wrong arguments, or it could not be checked"),
    ],
    examples: &[
        ("--pre --deployment my-app", "Before the install."),
        (
            "--deployment my-app --wait 5m",
            "After it, until the proxy is ready.",
        ),
        (
            "--discover zero-pod-autoscaler/enabled=true --namespace dev --output json",
            "All apps that are found in a namespace, for a program.",
        ),
    ],
    run,
};

static OPTIONS: [CommandOption; 4] = [
    CommandOption::switch(
        "--pre",
        "everything",
        "Check what can be checked before the proxy is installed",
    ),
    CommandOption::value(
        "--wait",
        "DURATION",
        "0",
        "Repeat the checks for up to this long, while one that fails may still succeed by itself",
    ),
    CommandOption::value(
        "--service-account",
        "NAME",
        "that of the proxy that is found; in a pod, its own",
        "Whose permissions to check",
    ),
    CommandOption::value(
        "--output",
        "FORMAT",
        "table",
        "table, short (only what is not as it should be) or json",
    )
    .of(&["table", "short", "json"]),
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

fn run(args: &[OsString], environment: &Environment<'_>) -> Output {
    match Run::new(args, environment) {
        Ok(run) => run.check(environment),
        Err(errors) => Output::Errors(errors),
    }
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
        let settings = super::process_settings(&COMMAND, options.rest.clone(), environment.env)?;
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
            apps: apps_given(settings, namespace.as_deref().unwrap_or("default"))?,
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

/// The settings of the apps that are given by arguments or by a list, with their namespaces.
///
/// # Errors
/// All that is wrong with them, a line each.
pub(super) fn apps_given(
    settings: &Settings,
    namespace: &str,
) -> Result<Vec<Settings>, Vec<String>> {
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
