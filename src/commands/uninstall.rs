//! `zpa uninstall` wakes apps, removes the proxies before them with their objects, or takes the
//! apps from proxies that have others too, and removes what they have left on the apps.
//!
//! Everything is read first (`Facts`). What is to be done follows from that alone (`plan`), and
//! is done in that order, so that `--dry-run` prints the same.

mod apps;
pub(super) mod list;
mod plan;
mod proxies;
mod release;

use std::ffi::OsString;
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::command::Command;
use super::options::{CommandOption, Options};
use super::{Environment, Output, wake};
use crate::duration;
use crate::kube::Access;
use crate::kube::inspect::{Fault, Inspector, segment};
use crate::kube::removal::Traces;
use crate::settings::Settings;
use apps::App;
use plan::{Facts, Found, Pods, Step, listed, plan};
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
            of --wake-replicas, deletes the proxies that have no other app with their objects, \
            and removes the conditions and annotations that they have left. The clients must \
            connect past the proxies before.\n\nFrom a proxy that has other apps too an app is \
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
        "How long the pods of the proxies may take to end, or to let an app go: the app's traces \
         are removed then",
    ),
];

/// The kinds of objects that a proxy has: plural, path of the API, and name for people. The
/// Role is among the last, so that a proxy that drains keeps its permissions.
const KINDS: [(&str, &str, &str); 9] = [
    ("deployments", "/apis/apps/v1", "Deployment"),
    (
        "tcproutes",
        "/apis/gateway.networking.k8s.io/v1alpha2",
        "TCPRoute",
    ),
    ("services", "/api/v1", "Service"),
    (
        "poddisruptionbudgets",
        "/apis/policy/v1",
        "PodDisruptionBudget",
    ),
    (
        "networkpolicies",
        "/apis/networking.k8s.io/v1",
        "NetworkPolicy",
    ),
    (
        "podmonitors",
        "/apis/monitoring.coreos.com/v1",
        "PodMonitor",
    ),
    ("rolebindings", RBAC, "RoleBinding"),
    ("roles", RBAC, "Role"),
    ("serviceaccounts", "/api/v1", "ServiceAccount"),
];

/// Those of a proxy for all namespaces that are in none.
const CLUSTER_KINDS: [(&str, &str, &str); 2] = [
    ("clusterrolebindings", RBAC, "ClusterRoleBinding"),
    ("clusterroles", RBAC, "ClusterRole"),
];

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

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
        let env = |name: &str| (environment.env)(name)?.into_string().ok();
        let access = Access::discover(
            &settings.kube,
            settings.api_server.as_ref(),
            Path::new(&settings.credentials),
            env,
        );
        let (access, namespace) = access.map_err(|why| line(why.to_string()))?;
        let namespace = settings.namespace.clone().or(namespace);
        Ok(Uninstall {
            namespace: namespace.unwrap_or_else(|| "default".to_owned()),
            inspector: Inspector::new(access, environment.clock, environment.wall).map_err(line)?,
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

    // --- Reading ---

    fn gather(&self) -> Result<Facts, String> {
        let proxies = proxies::proxies(&self.inspector, &self.namespace);
        let proxies = proxies.map_err(|why| line("the Deployments of the proxies", &why))?;
        let mut facts = Facts {
            apps: apps::apps(&self.settings, &self.namespace, &self.inspector)?,
            are_all_found: self.settings.discover.is_some(),
            ..Facts::default()
        };
        let mut names: Vec<(String, String)> = self.further_names();
        let mut whole = Vec::new();
        for proxy in proxies {
            let name = (proxy.namespace.clone(), proxy.name.clone());
            match self.role(&proxy, &facts) {
                Role::Whole => {
                    facts.pods.push(Pods {
                        namespace: proxy.namespace.clone(),
                        selector: proxy.selector.clone(),
                    });
                    self.add_own_list(&proxy, &mut facts);
                    whole.push(proxy);
                    names.push(name);
                }
                Role::Shared => {
                    facts.hints.extend(hint_about_list(&proxy, &facts.apps));
                    facts.shared.push(proxy);
                }
                Role::Other => facts.others.push(proxy),
                Role::Unknown(why) => self.add_unknown(&proxy, &why, &mut facts)?,
                Role::None => {}
            }
        }
        names.sort_unstable();
        names.dedup();
        for (namespace, name) in &names {
            facts.objects.extend(self.objects(namespace, name)?);
        }
        for proxy in &whole {
            self.add_fronts(proxy, &mut facts)?;
        }
        // By kind, as the kinds are in order.
        facts.objects.sort_by_key(|found| place(found.plural));
        Ok(facts)
    }

    /// The names of objects whose Deployment may be gone.
    fn further_names(&self) -> Vec<(String, String)> {
        let is_one = self.settings.apps.is_none() && self.settings.discover.is_none();
        let app = self.settings.target_ref.name().filter(|_| is_one);
        let usual = app.map(|app| format!("{}-zpa", app.replace('.', "-")));
        let names = self.name.clone().or(usual);
        names
            .map(|name| (self.namespace.clone(), name))
            .into_iter()
            .collect()
    }

    /// What a proxy is to the apps.
    fn role(&self, proxy: &Proxy, facts: &Facts) -> Role {
        let apps = &facts.apps;
        match &proxy.serves {
            Serves::One(key) if apps.iter().any(|app| app.key == *key) => Role::Whole,
            Serves::One(_) => Role::None,
            Serves::UnknownList(why) => Role::Unknown(why.clone()),
            Serves::List(list) => match listed(proxy, apps).count() {
                0 => Role::Other,
                count if count == list.apps.len() => Role::Whole,
                _ => Role::Shared,
            },
            Serves::Found(_) if self.is_whole(proxy) => Role::Whole,
            Serves::Found(services) => {
                let is_found = |app: &App| {
                    let name = (app.key.namespace.clone(), app.service_name.clone());
                    services.contains(&name)
                };
                match apps.iter().any(is_found) {
                    true => Role::Shared,
                    false => Role::Other,
                }
            }
        }
    }

    /// Whether it finds its apps as the settings say.
    fn is_whole(&self, proxy: &Proxy) -> bool {
        let (own, other) = (&self.settings, &proxy.settings);
        let namespace = other.namespace.as_ref().unwrap_or(&proxy.namespace);
        other.discover == own.discover
            && other.all_namespaces == own.all_namespaces
            && (own.all_namespaces || *namespace == self.namespace)
    }

    /// Adds the ConfigMap of a list that came with its proxy.
    fn add_own_list(&self, proxy: &Proxy, facts: &mut Facts) {
        if let Serves::List(list) = &proxy.serves
            && list.is_ours
        {
            facts.objects.push(Found {
                plural: "configmaps",
                kind: "ConfigMap",
                namespace: Some(proxy.namespace.clone()),
                name: list.source.config_map.clone(),
                path: proxies::config_map(&proxy.namespace, &list.source.config_map),
            });
        }
    }

    /// Adds a hint for each Service that is not deleted and leads to a proxy that is.
    fn add_fronts(&self, proxy: &Proxy, facts: &mut Facts) -> Result<(), String> {
        let namespace = &proxy.namespace;
        let path = format!("/api/v1/namespaces/{}/services", segment(namespace));
        let services = match self.inspector.get(&path) {
            Err(Fault::Refused(_)) => return Ok(()),
            services => services.map_err(|why| line("the Services", &why))?,
        };
        for service in services["items"].as_array().into_iter().flatten() {
            let name = text(&service["metadata"]["name"]);
            let is_deleted = |found: &Found| found.plural == "services" && found.name == name;
            if proxy.is_selected_by(service) && !facts.objects.iter().any(is_deleted) {
                facts.hints.push(format!(
                    "left: the Service {name} leads to {} alone: kubectl delete -n {namespace} \
                     services {name}",
                    proxy.label()
                ));
            }
        }
        Ok(())
    }

    /// Adds what is to be done by hand about a proxy whose list is not known, if it may have one
    /// of the apps.
    ///
    /// # Errors
    /// That, if it has one.
    fn add_unknown(&self, proxy: &Proxy, why: &str, facts: &mut Facts) -> Result<(), String> {
        let file = proxy
            .settings
            .apps
            .as_deref()
            .unwrap_or("".as_ref())
            .display();
        let label = proxy.label();
        let cure = format!(
            "its list is not known, since {why}: take the app out of {file} by hand, restart the proxy if it does not \
             follow that (kubectl rollout restart -n {} deployment {}), and run this again",
            proxy.namespace, proxy.name
        );
        let proxies = [proxy];
        match Release::new(&self.inspector, &proxies, &facts.apps).ask() {
            Ok(true) => return Ok(()),
            Ok(false) => return Err(format!("{label} has the app: {cure}\n")),
            Err(_) => {}
        }
        let is_marked = |app: &App| !Traces::of(&app.target).is_empty();
        if facts.apps.iter().any(is_marked) {
            facts
                .notes
                .push(format!("{label} may have the app: {cure}"));
        }
        Ok(())
    }

    /// The objects of a proxy with that name.
    fn objects(&self, namespace: &str, name: &str) -> Result<Vec<Found>, String> {
        let within = format!("/namespaces/{}", segment(namespace));
        let of_namespace = KINDS.iter().map(|kind| (kind, &*within));
        let of_cluster = CLUSTER_KINDS.iter().map(|kind| (kind, ""));
        let mut found = Vec::new();
        for ((plural, version, kind), within) in of_namespace.chain(of_cluster) {
            let path = format!("{version}{within}/{plural}/{}", segment(name));
            let object = match self.inspector.get(&path) {
                Err(Fault::NotFound) => continue,
                // Of the cluster only a proxy for all namespaces has any.
                Err(Fault::Refused(_)) if within.is_empty() => continue,
                object => object.map_err(|why| line("the objects of the proxies", &why))?,
            };
            if object["metadata"]["labels"][LABEL] == NAME {
                found.push(Found {
                    plural,
                    kind,
                    namespace: (!within.is_empty()).then(|| namespace.to_owned()),
                    name: name.to_owned(),
                    path,
                });
            }
        }
        Ok(found)
    }

    // --- Writing ---

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

    /// Writes the list without the apps, if it is still the one that was read.
    fn edit_list(&self, proxy: &Proxy, apps: &[apps::Key]) -> Result<(), Fault> {
        let (Serves::List(list), Some(text)) = (&proxy.serves, plan::shortened(proxy, apps)) else {
            return Ok(());
        };
        let path = proxies::config_map(&proxy.namespace, &list.source.config_map);
        let (key, version) = (&list.source.key, &list.version);
        self.inspector.set_data(&path, key, &text, version)
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

/// What still names an app that has left a list.
fn hint_about_list(proxy: &Proxy, apps: &[App]) -> Option<String> {
    let names: Vec<String> = listed(proxy, apps).map(|key| key.label()).collect();
    (!names.is_empty()).then(|| {
        format!(
            "left: the Role and the Service of {} still name {}, as does the list in what you \
             apply",
            proxy.label(),
            names.join(", ")
        )
    })
}

/// What a proxy is to the apps.
enum Role {
    /// It has no other app.
    Whole,
    /// It has others too.
    Shared,
    /// It has none of them, and may have had one until a moment ago.
    Other,
    /// Its list cannot be read, or not be edited, and why.
    Unknown(String),
    /// It never had one.
    None,
}

/// The place of a kind in the order of deletion. The list of a proxy goes with its pods.
fn place(plural: &str) -> usize {
    let place = KINDS.iter().position(|(known, ..)| *known == plural);
    place.unwrap_or(KINDS.len())
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
