//! `zpa check` reports whether what the proxy needs is there, and what would disturb it.
//!
//! The proxies that are installed are found first (`installed`), and the app is checked with the
//! settings that they have for it (`given`). Everything is then read from the API server
//! (`facts`). The checks are a table of pure functions of that (`checks`), so that tests pass
//! them objects.

mod checks;
mod facts;
mod given;
mod installed;
mod proxy;
mod report;
mod review;
mod services;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::time::Duration;

use super::command::Command;
use super::options::{CommandOption, Options};
use super::{Environment, Output};
use crate::duration;
use crate::kube::inspect::{Inspector, Reviewed};
use crate::settings::{self, Origin, Settings};

use checks::{Case, CheckResult};
pub use checks::{codes, explain, markdown_table};
use facts::Facts;
use given::Given;
use installed::Installed;
pub use proxy::settings_of;
use report::Format;
use review::Review;
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
            for each check: √ as it should be, ‼ a warning, × a failed check, ? what could not be \
            found out, - a skipped check. zpa explain CODE says more about a code.\n\nA proxy that is \
            installed is found by what it runs, and the checks are made with the settings that it \
            has for the app: beside the app's name none needs to be given.",
    options: &OPTIONS,
    settings: Some(
        "Every setting is an option too, those of kubeconfigs among them: zpa --help lists them. \
         One that is given counts in place of that of the proxy: give those that it is to have.",
    ),
    words: Vec::new,
    variables: &[
        (
            "ZPA_..., KUBECONFIG",
            "The settings, as for the proxy: zpa --help names each.",
        ),
        (
            "NO_COLOR",
            "If it is set and not empty, the table has no colours.",
        ),
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
            "All apps that are found in a namespace, for a program; * is all namespaces.",
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
        "Repeat the checks for up to this long, while one that makes the exit code may still \
         succeed by itself",
    ),
    CommandOption::value(
        "--service-account",
        "NAME",
        "that of the proxy that is found; in a pod, its own",
        "Whose permissions to check; one of another namespace as NAMESPACE/NAME",
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
    /// A service account, of a namespace or that of the app.
    Named(Option<String>, String),
    /// The service accounts of the proxies, if any are found.
    OfTheProxy,
}

fn run(args: &[OsString], environment: &Environment<'_>) -> Output {
    match Run::new(args, environment).and_then(|run| run.check(environment)) {
        Ok(output) => output,
        Err(errors) => Output::Errors(errors),
    }
}

struct Run {
    given: Given,
    /// The namespace in which the app is, where its settings name none.
    namespace: String,
    inspector: Inspector,
    before_install: bool,
    is_in_a_pod: bool,
    wait: Duration,
    account: Account,
    format: Format,
}

impl Run {
    fn new(args: &[OsString], environment: &Environment<'_>) -> Result<Run, Vec<String>> {
        let line = |why: String| vec![why];
        let options = Options::take(&OPTIONS, args).map_err(line)?;
        let given = Given::new(options.rest.clone(), environment)?;
        let wait = match options.value("--wait") {
            Some(text) => duration::parse(text).map_err(|why| line(format!("--wait: {why}")))?,
            None => Duration::ZERO,
        };
        let (inspector, namespace) = super::connect(&given.settings, environment).map_err(line)?;
        Ok(Run {
            namespace: given.settings.namespace.clone().unwrap_or(namespace),
            inspector,
            before_install: options.is_given("--pre"),
            is_in_a_pod: (environment.env)("KUBERNETES_SERVICE_HOST").is_some(),
            wait,
            account: account(&options, environment).map_err(line)?,
            format: format(&options, environment).map_err(line)?,
            given,
        })
    }

    fn check(&self, environment: &Environment<'_>) -> Result<Output, Vec<String>> {
        let end = (environment.clock)() + self.wait;
        loop {
            let results = self.run_checks(environment)?;
            let is_pending = results.iter().any(CheckResult::may_still_pass);
            if !is_pending || (environment.clock)() >= end {
                return Ok(Output::Report {
                    text: report::render(&results, self.format),
                    code: report::exit_code(&results),
                });
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn run_checks(&self, environment: &Environment<'_>) -> Result<Vec<CheckResult>, Vec<String>> {
        let version = self.inspector.get("/version");
        let mut results = checks::of_cluster(&version);
        let settings = &self.given.settings;
        results.extend(match (&settings.discover, &settings.apps) {
            _ if version.is_err() => checks::of_silence(),
            (Some(selector), _) => self.check_discovery(selector, environment)?,
            (None, Some(_)) => self.check_list(environment)?,
            (None, None) => self.check_one(environment)?,
        });
        Ok(results)
    }

    /// Whether the caller is likely to install it.
    fn asks_for_install(&self) -> bool {
        self.before_install && !self.is_in_a_pod
    }

    // --- Which apps ---

    /// Checks the app that is named, with the settings that an installed proxy has for it.
    fn check_one(&self, environment: &Environment<'_>) -> Result<Vec<CheckResult>, Vec<String>> {
        let mut app = self.given.settings.clone();
        app.namespace = Some(self.namespace.clone());
        let namespaces = BTreeSet::from([self.namespace.clone()]);
        let installed = Installed::find(&self.inspector, &namespaces, &namespaces);
        let target = self.inspector.target(&self.namespace, &app.target_ref);
        let proxies = installed.in_front_of(&self.inspector, &app, &target);
        if let Some(found) = proxies.iter().find_map(|it| it.app.as_ref()) {
            app = self.given.over(found, environment)?;
            app.namespace = Some(self.namespace.clone());
            app.target_ref = found.target_ref.clone();
        }
        Ok(self.check_app(app, &installed))
    }

    /// Checks each app of a list.
    fn check_list(&self, environment: &Environment<'_>) -> Result<Vec<CheckResult>, Vec<String>> {
        let mut apps = read_list(&self.given.settings, &self.namespace)?;
        let namespaces = namespaces(&apps);
        let installed = Installed::find(&self.inspector, &namespaces, &namespaces);
        if let Some(proxy) = installed.listing(&apps).first() {
            let process = self.given.over(&proxy.settings, environment)?;
            apps = read_list(&process, &self.namespace)?;
        }
        let apps = apps.into_iter();
        Ok(apps
            .flat_map(|app| self.check_app(app, &installed))
            .collect())
    }

    /// Checks the apps that are found by their Services.
    fn check_discovery(
        &self,
        selector: &str,
        environment: &Environment<'_>,
    ) -> Result<Vec<CheckResult>, Vec<String>> {
        let is_of_all = self.given.settings.all_namespaces;
        let namespace = (!is_of_all).then(|| self.namespace.clone());
        let mut discovery = Discovery {
            process: self.given.settings.clone(),
            selector: selector.to_owned(),
            namespace: namespace.clone(),
        };
        let (_, apps) = discovery.examine(&self.inspector);
        let places: BTreeSet<String> = namespace.clone().into_iter().collect();
        let installed = Installed::find(&self.inspector, &places, &namespaces(&apps));
        let proxies = installed.discovering(selector, namespace.as_deref());
        if let Some(proxy) = proxies.first() {
            discovery.process = self.given.over(&proxy.settings, environment)?;
        }
        let accounts: BTreeSet<Reviewed> = match &self.account {
            Account::OfTheProxy => proxies.iter().map(|proxy| proxy.account()).collect(),
            Account::Caller => BTreeSet::from([Reviewed::Caller]),
            Account::Named(home, name) => BTreeSet::from([Reviewed::ServiceAccount {
                namespace: home.clone().unwrap_or_else(|| self.namespace.clone()),
                name: name.clone(),
            }]),
        };
        let (mut results, apps) = discovery.examine(&self.inspector);
        for whose in accounts {
            let needs = review::needs_of_discovery();
            let review = Review::ask(&self.inspector, whose, namespace.as_deref(), needs);
            results.extend(checks::of_review(&review));
        }
        let apps = apps.into_iter();
        results.extend(apps.flat_map(|app| self.check_app(app, &installed)));
        Ok(results)
    }

    /// Checks an app, whose settings name its namespace.
    fn check_app(&self, mut app: Settings, installed: &Installed) -> Vec<CheckResult> {
        let namespace = app.namespace.clone().unwrap_or_default();
        let target = self.inspector.target(&namespace, &app.target_ref);
        if let (None, Ok(target)) = (&app.service, &target) {
            app.service = target["metadata"]["name"].as_str().map(str::to_owned);
        }
        let facts = Facts::gather(self, &app, installed, target);
        let case = Case {
            settings: &app,
            before_install: self.before_install,
            facts: &facts,
        };
        let name = (app.origin() != Origin::CommandLine).then(|| name(&app));
        let results = checks::of_app(&case).into_iter();
        let named = results.map(|result| CheckResult {
            app: name.clone(),
            ..result
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
    if settings.apps.is_some() {
        return read_list(settings, namespace);
    }
    if settings.target_ref.name().is_none() {
        return Err(vec![
            "what is scaled has to be given by its name".to_owned(),
        ]);
    }
    let mut app = settings.clone();
    app.namespace = Some(namespace.to_owned());
    Ok(vec![app])
}

/// The apps of the list that the settings of a process name.
fn read_list(process: &Settings, namespace: &str) -> Result<Vec<Settings>, Vec<String>> {
    let file = process.apps.clone().unwrap_or_default();
    let line = |why: &str| format!("--apps (ZPA_APPS) {}: {why}", file.display());
    let text = std::fs::read(&file);
    let text = text.map_err(|why| vec![line(&format!("cannot be read: {why}"))])?;
    let apps = process.read_apps(&text, namespace);
    apps.map_err(|errors| errors.lines().map(line).collect())
}

fn namespaces(apps: &[Settings]) -> BTreeSet<String> {
    apps.iter()
        .filter_map(|app| app.namespace.clone())
        .collect()
}

/// `namespace/name`.
fn name(settings: &Settings) -> String {
    let namespace = settings.namespace.as_deref().unwrap_or_default();
    format!("{namespace}/{}", settings.target_ref.label())
}

fn format(options: &Options, environment: &Environment<'_>) -> Result<Format, String> {
    // An empty one does not count (no-color.org).
    let is_plain = (environment.env)("NO_COLOR").is_some_and(|value| !value.is_empty());
    match options.value("--output") {
        None | Some("table") => Ok(Format::Table {
            colours: environment.is_terminal && !is_plain,
        }),
        Some("short") => Ok(Format::Short),
        Some("json") => Ok(Format::Json),
        Some(other) => Err(format!("--output: {other} is not table, short or json")),
    }
}

fn account(options: &Options, environment: &Environment<'_>) -> Result<Account, String> {
    let is_in_a_pod = (environment.env)("KUBERNETES_SERVICE_HOST").is_some();
    let Some(given) = options.value("--service-account") else {
        return Ok(match is_in_a_pod {
            true => Account::Caller,
            false => Account::OfTheProxy,
        });
    };
    let checked = |name: &str| {
        let checked = settings::dns_subdomain(name);
        checked.map_err(|why| format!("--service-account: {name:?} {why}"))
    };
    match given.split_once('/') {
        Some((namespace, name)) => Ok(Account::Named(Some(checked(namespace)?), checked(name)?)),
        None => checked(given).map(|name| Account::Named(None, name)),
    }
}

#[cfg(test)]
mod tests;
