//! `zpa uninstall` wakes apps, removes the proxies before them with their objects, or takes the
//! apps from proxies that have others too, and removes what they have left on the apps.
//!
//! Everything is read first (`Facts`). What is to be done follows from that alone (`plan`), and
//! is done in that order, so that `--dry-run` prints the same.

mod apps;
mod gather;
pub(super) mod list;
mod objects;
mod plan;
mod proxies;
mod release;
mod takeover;

use std::ffi::OsString;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::command::Command;
use super::options::{CommandOption, Options};
use super::{Environment, Output, wake};
use crate::duration;
use crate::kube::inspect::{Fault, Inspector, segment};
use crate::kube::removal::Traces;
use crate::settings::Settings;
use apps::App;
use plan::{Found, Pods, Step, plan};
use proxies::{Proxy, Serves};
use release::Release;

/// The interval at which the pods of the proxies are looked for.
const PAUSE: Duration = Duration::from_secs(1);

/// The label of everything that `zpa manifests` and `manifests/base` make.
const LABEL: &str = "app.kubernetes.io/name";

/// and its value.
const NAME: &str = "zero-pod-autoscaler";

/// `zpa uninstall`.
pub static COMMAND: Command = Command {
    name: "uninstall",
    summary: "wakes an app and removes all that was put before it",
    usage: &[
        "--deployment NAME [--FLAG VALUE]...",
        "--apps FILE [--FLAG VALUE]...",
        "--discover LABELS [--FLAG VALUE]...",
    ],
    about: "Takes zpa away from before an app, from before all apps of a list, or before all that \
            are found by their Services: wakes them, to the replicas that they remember or those \
            of --wake-replicas, waits for a ready pod of each, gives an app back the Service that \
            a proxy has taken over, deletes the proxies that have no other app with their objects, \
            and removes the conditions and annotations that they have left. Clients that were \
            pointed to a proxy's Service must be pointed back before; those of a Service that was \
            taken over are led back by this.\n\nFrom a proxy that has other apps too an app is \
            taken away: the label and annotations of its Service are removed, or its entry in the \
            list, if that is in a ConfigMap that is mounted; then it is waited until the proxy has \
            let the app go, which its /status says. That is read through the API server \
            (permission get on pods/proxy); without it the longest time that this takes is \
            waited.\n\nEach step leaves the apps awake, or with a proxy before them. After a \
            step that fails it can be run again.",
    options: &OPTIONS,
    settings: Some(
        "Every setting is an option too, those of kubeconfigs among them: zpa --help lists them. \
         Of those of an app --namespace, --service and --wake-replicas are of use.",
    ),
    words: Vec::new,
    variables: &[(
        "ZPA_..., KUBECONFIG",
        "The settings, as for the proxy: zpa --help names each.",
    )],
    exit_codes: &[
        (0, "nothing is left"),
        (1, "something is left, which is said; run it again then"),
        (2, "wrong arguments, or the cluster's access is not known"),
    ],
    examples: &[
        ("--deployment my-app --dry-run", "What would be done."),
        ("--deployment my-app --namespace shop", "Do it."),
        (
            "--discover zero-pod-autoscaler/enabled=true --namespace dev",
            "Take the proxy of a whole namespace away.",
        ),
    ],
    run,
};

static OPTIONS: [CommandOption; 4] = [
    CommandOption::switch(
        "--dry-run",
        "do it",
        "Print what would be done, and change nothing",
    ),
    CommandOption::switch(
        "--keep-objects",
        "delete them",
        "Leave the proxies, and print the commands that delete them; run this again then",
    ),
    CommandOption::value(
        "--name",
        "NAME",
        "those of the proxies that are found, and for one app its name with -zpa",
        "The name of further objects to delete: of a proxy whose Deployment is gone already",
    ),
    CommandOption::value(
        "--wait",
        "DURATION",
        "5m",
        "How long a pod of an app may take to be ready, the pods of the proxies to end, and those \
         that stay to let an app go",
    ),
];

/// Whether it goes on though no pod of an app is known to be ready, and what is said. A Service
/// that leads to the proxy is not given back to an app that serves nobody.
fn unready(app: &App, text: String) -> (bool, String) {
    match app.is_taken_over {
        false => (true, text),
        true => {
            let service = &app.service_name;
            let text =
                format!("{text}; the Service {service} still leads to the proxy: run this again");
            (false, text)
        }
    }
}

/// The kinds of objects that it deletes.
#[cfg(test)]
pub fn kinds() -> impl Iterator<Item = &'static str> {
    objects::KINDS.iter().map(|(_, _, kind)| *kind)
}

fn run(args: &[OsString], environment: &Environment<'_>) -> Output {
    match Uninstall::new(args, environment) {
        Ok(uninstall) => uninstall.run(environment),
        Err(errors) => Output::Errors(errors),
    }
}

struct Uninstall {
    settings: Settings,
    namespace: String,
    inspector: Inspector,
    is_dry_run: bool,
    keeps_objects: bool,
    name: Option<String>,
    wait: Duration,
}

impl Uninstall {
    fn new(args: &[OsString], environment: &Environment<'_>) -> Result<Uninstall, Vec<String>> {
        let line = |why: String| vec![why];
        let options = Options::take(&OPTIONS, args).map_err(line)?;
        let settings = super::process_settings(&COMMAND, options.rest.clone(), environment.env)?;
        let wait = options.value("--wait").unwrap_or("5m");
        let wait = duration::parse(wait).map_err(|why| line(format!("--wait: {why}")))?;
        let (inspector, namespace) = super::connect(&settings, environment).map_err(line)?;
        Ok(Uninstall {
            namespace: settings.namespace.clone().unwrap_or(namespace),
            inspector,
            is_dry_run: options.is_given("--dry-run"),
            keeps_objects: options.is_given("--keep-objects"),
            name: options.value("--name").map(str::to_owned),
            wait,
            settings,
        })
    }

    fn run(&self, environment: &Environment<'_>) -> Output {
        let facts = match self.gather() {
            Ok(facts) => facts,
            Err(text) => return Output::Report { text, code: 1 },
        };
        let steps = match plan(&facts) {
            Ok(steps) => steps,
            Err(text) => return Output::Report { text, code: 1 },
        };
        let steps = match self.keeps_objects {
            true => deletions_first(steps),
            false => steps,
        };
        let mut report = String::new();
        let mut is_clean = facts.notes.is_empty();
        for step in &steps {
            let (done, text) = self.execute(step, environment);
            report += &text;
            report.push('\n');
            if !done {
                is_clean = false;
                break;
            }
        }
        for note in facts.notes.iter().chain(&facts.hints) {
            report += note;
            report.push('\n');
        }
        if steps.is_empty() && facts.notes.is_empty() {
            report += "nothing is left of zpa\n";
        }
        Output::Report {
            text: report,
            code: u8::from(!is_clean),
        }
    }

    /// Does a step. Returns whether it is done, and what to print.
    fn execute(&self, step: &Step<'_>, environment: &Environment<'_>) -> (bool, String) {
        if self.is_dry_run {
            return (true, format!("would {step}"));
        }
        let inspector = &self.inspector;
        let done = match step {
            Step::Wake { app, replicas } | Step::SeeAwake { app, replicas } => {
                wake::scale_up(inspector, &app.key.namespace, &app.key.target, *replicas)
            }
            Step::AwaitReady { app } => return self.await_ready(app, environment),
            Step::Restore { app, patch } => self.restore(app, patch),
            Step::Delete(found) if self.keeps_objects => return (true, delete_command(found)),
            Step::Delete(found) => inspector.delete(&found.path),
            Step::AwaitPods(_) if self.keeps_objects => {
                let text = "the proxies are left: delete them, and run this again";
                return (false, text.to_owned());
            }
            Step::AwaitPods(pods) => self.await_pods(pods, environment),
            Step::EditList { proxy, apps } => self.edit_list(proxy, apps),
            Step::AwaitRelease { proxies, apps } => {
                Release::new(inspector, proxies, apps).wait(self.wait, environment.clock)
            }
            Step::ForgetService { app } => inspector.remove_traces_of_service(
                &app.key.namespace,
                &app.service_name,
                &app.service_traces(),
            ),
            Step::ForgetTarget { app } => self.forget_target(app),
        };
        match done {
            Ok(()) => (true, format!("done: {step}")),
            Err(why) => {
                let why = why.words();
                (
                    false,
                    format!("failed: {step}: {why}\nrun this again once that is mended"),
                )
            }
        }
    }

    /// Waits until a pod of an app is ready. One that does not start is no reason to leave the
    /// proxies, unless its clients still come through them.
    fn await_ready(&self, app: &App, environment: &Environment<'_>) -> (bool, String) {
        let end = (environment.clock)() + self.wait;
        let namespace = segment(&app.key.namespace);
        let service = format!("kubernetes.io/service-name={}", app.service_of_pods());
        let selector = segment(&service);
        let path = format!(
            "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices?labelSelector={selector}"
        );
        let step = Step::AwaitReady { app };
        loop {
            let slices = match self.inspector.get(&path) {
                Ok(slices) => slices,
                Err(why) => {
                    let why = why.words();
                    return unready(app, format!("not known: {step}: {why}"));
                }
            };
            let slices = slices["items"].as_array().into_iter().flatten();
            let mut endpoints = slices
                .filter_map(|slice| slice["endpoints"].as_array())
                .flatten();
            if endpoints.any(|endpoint| endpoint["conditions"]["ready"] == true) {
                return (true, format!("done: {step}"));
            }
            if (environment.clock)() >= end {
                let wait = duration::display(self.wait);
                return unready(app, format!("in vain: {step}: none is after {wait}"));
            }
            thread::sleep(PAUSE);
        }
    }

    /// Makes the Service of an app lead to its pods again.
    fn restore(&self, app: &App, patch: &Value) -> Result<(), Fault> {
        let (namespace, name) = (segment(&app.key.namespace), segment(&app.service_name));
        let path = format!("/api/v1/namespaces/{namespace}/services/{name}");
        let service = app.service.as_ref().unwrap_or(&Value::Null);
        let version = text(&service["metadata"]["resourceVersion"]);
        self.inspector.merge_at(&path, version, patch.clone())
    }

    /// Writes the list without the apps, if it is still the one that was read.
    fn edit_list(&self, proxy: &Proxy, apps: &[apps::Key]) -> Result<(), Fault> {
        let (Serves::List(list), Some(text)) = (&proxy.serves, plan::shortened(proxy, apps)) else {
            return Ok(());
        };
        let path = proxies::config_map(&proxy.namespace, &list.source.config_map);
        let (key, version) = (&list.source.key, &list.version);
        let body = json!({ "data": { key: text } });
        self.inspector.merge_at(&path, version, body)
    }

    /// Waits until no pod of the deleted proxies is left: one that drains may renew its lease.
    fn await_pods(&self, pods: &[Pods], environment: &Environment<'_>) -> Result<(), Fault> {
        let end = (environment.clock)() + self.wait;
        loop {
            let mut left = 0;
            for Pods {
                namespace,
                selector,
            } in pods
            {
                let list = self.inspector.get(&release::pods(namespace, selector))?;
                left += list["items"].as_array().map_or(0, Vec::len);
            }
            if left == 0 {
                return Ok(());
            }
            if (environment.clock)() >= end {
                let wait = duration::display(self.wait);
                return Err(Fault::Failed(format!("{left} are there after {wait}")));
            }
            thread::sleep(PAUSE);
        }
    }

    /// Removes what is left on the target by now.
    fn forget_target(&self, app: &App) -> Result<(), Fault> {
        let (namespace, target) = (&*app.key.namespace, &app.key.target);
        let traces = Traces::of(&self.inspector.target(namespace, target)?);
        self.inspector.remove_traces(namespace, target, &traces)
    }
}

/// The steps with the deletions, which are left to others, before what waits for them.
fn deletions_first(steps: Vec<Step<'_>>) -> Vec<Step<'_>> {
    let is_wait = |step: &Step<'_>| matches!(step, Step::AwaitPods(_));
    let (waits, others): (Vec<_>, Vec<_>) = steps.into_iter().partition(is_wait);
    let last = others
        .iter()
        .rposition(|step| matches!(step, Step::Delete(_)));
    let mut steps = others;
    let at = last.map_or(0, |last| last + 1);
    steps.splice(at..at, waits);
    steps
}

fn delete_command(found: &Found) -> String {
    let namespace = found.namespace.as_ref();
    let namespace = namespace.map_or_else(String::new, |it| format!(" -n {it}"));
    format!("kubectl delete{namespace} {} {}", found.plural, found.name)
}

/// A text of an object; empty if it is none.
fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn line(subject: &str, why: &Fault) -> String {
    format!("{subject}: {}\n", why.words())
}
