//! `zpa uninstall` wakes an app, removes the proxies before it with their objects, and what they
//! have left on the app.
//!
//! Everything is read first (`Facts`). What is to be done follows from that alone (`plan`), and
//! is done in that order, so that `--dry-run` prints the same.

mod plan;

use std::ffi::OsString;
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::check::settings_of;
use super::command::Command;
use super::options::{CommandOption, Options};
use super::{Environment, Output, wake};
use crate::duration;
use crate::kube::Access;
use crate::kube::inspect::{Fault, Inspector, segment};
use crate::kube::removal::Traces;
use crate::settings::{Origin, Settings};
use plan::{Facts, Found, LABEL, NAME, Step, plan, text};

/// The interval at which the pods of the proxies are looked for.
const PAUSE: Duration = Duration::from_secs(1);

/// `zpa uninstall`.
pub static COMMAND: Command = Command {
    name: "uninstall",
    summary: "wakes an app and removes all that was put before it",
    usage: &["--deployment NAME [--FLAG VALUE]..."],
    about: "Takes zpa away from before an app: wakes the app, to the replicas that it remembers or \
            those of --wake-replicas, deletes the proxies that have no other app with their \
            objects, and removes the conditions and annotations that they have left. Its clients \
            must connect past them before.",
    options: &OPTIONS,
    settings: Some(
        "The settings of the app are options too, and those of kubeconfigs: zpa --help lists them.",
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
        "those of the proxies that are found, and the app's name with -zpa",
        "The name of the proxy's objects",
    ),
    CommandOption::value(
        "--wait",
        "DURATION",
        "2m",
        "How long the pods of the proxies may take to end: the app's traces are removed then",
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
    (
        "rolebindings",
        "/apis/rbac.authorization.k8s.io/v1",
        "RoleBinding",
    ),
    ("roles", "/apis/rbac.authorization.k8s.io/v1", "Role"),
    ("serviceaccounts", "/api/v1", "ServiceAccount"),
];

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
        let settings = super::settings(&COMMAND, options.rest.clone(), environment.env)?;
        let wait = options.value("--wait").unwrap_or("2m");
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
            Err(why) => return Output::Report { text: why, code: 1 },
        };
        let steps = match plan(&facts, wake::wake_replicas(&self.settings), self.service()) {
            Ok(steps) => steps,
            Err(why) => return Output::Report { text: why, code: 1 },
        };
        let mut report = String::new();
        let mut is_clean = true;
        for step in &steps {
            let (done, text) = self.execute(step, environment);
            report += &text;
            report.push('\n');
            is_clean &= done;
            if !done {
                break;
            }
        }
        for shared in &facts.shared {
            is_clean = false;
            report += &format!(
                "{shared} has other apps too and goes on: take this one out of its list, and run \
                 this again\n"
            );
        }
        if steps.is_empty() && facts.shared.is_empty() {
            report += "nothing is left of zpa\n";
        }
        Output::Report {
            text: report,
            code: u8::from(!is_clean),
        }
    }

    /// The Service of the app.
    fn service(&self) -> &str {
        self.settings.service.as_deref().unwrap_or_default()
    }

    // --- Reading ---

    fn gather(&self) -> Result<Facts, String> {
        let (namespace, target) = (&*self.namespace, &self.settings.target_ref);
        let subject = format!("{namespace}/{}", target.label());
        let found = self.inspector.target(namespace, target);
        let mut facts = Facts {
            target: found.map_err(|why| line(&subject, &why))?,
            service: self.optional(self.inspector.service(namespace, self.service()))?,
            ..Facts::default()
        };
        let path = format!("{}?labelSelector={}", self.path(0, ""), selector());
        let proxies = self.inspector.get(&path);
        let proxies = proxies.map_err(|why| line("the Deployments of the proxies", &why))?;
        let mut names: Vec<String> = self.name.iter().cloned().collect();
        for proxy in proxies["items"].as_array().into_iter().flatten() {
            let name = text(&proxy["metadata"]["name"]).to_owned();
            match settings_of(proxy) {
                Some(other)
                    if other.target_ref == self.settings.target_ref
                        && other.origin() == Origin::CommandLine
                        && other.apps.is_none()
                        && other.discover.is_none() =>
                {
                    names.push(name)
                }
                Some(other) if self.may_have(&other, &facts) => {
                    facts.shared.push(format!("Deployment {name}"))
                }
                _ => {}
            }
        }
        if self.name.is_none() {
            let app = target.name().unwrap_or_default().replace('.', "-");
            names.push(format!("{app}-zpa"));
        }
        names.sort_unstable();
        names.dedup();
        for (at, (plural, _, kind)) in KINDS.into_iter().enumerate() {
            for name in &names {
                let path = self.path(at, name);
                let object = self.optional(self.inspector.get(&path))?;
                let is_ours = |object: &Value| object["metadata"]["labels"][LABEL] == NAME;
                if object.as_ref().is_some_and(is_ours) {
                    facts.objects.push(Found {
                        plural,
                        kind,
                        name: name.clone(),
                        path,
                    });
                }
            }
        }
        Ok(facts)
    }

    /// Whether a proxy with a list, or one that finds its apps, may have this one.
    fn may_have(&self, other: &Settings, facts: &Facts) -> bool {
        let is_found = other.discover.is_some()
            && facts
                .service
                .as_ref()
                .is_some_and(|it| !Traces::of(it).annotations.is_empty());
        // Which apps are in its list is not seen from here: those that renew are.
        let is_listed = other.apps.is_some() && !Traces::of(&facts.target).is_empty();
        // What is found ends with the annotations of the Service.
        is_listed && !is_found
    }

    fn optional(&self, answer: Result<Value, Fault>) -> Result<Option<Value>, String> {
        match answer {
            Ok(object) => Ok(Some(object)),
            Err(Fault::NotFound) => Ok(None),
            Err(why) => Err(line("the objects of the proxies", &why)),
        }
    }

    /// The path of the objects of a kind, or of one of them.
    fn path(&self, kind: usize, name: &str) -> String {
        let (plural, version, _) = KINDS[kind];
        let namespace = segment(&self.namespace);
        let all = format!("{version}/namespaces/{namespace}/{plural}");
        match name {
            "" => all,
            name => format!("{all}/{}", segment(name)),
        }
    }

    // --- Writing ---

    /// Does a step. Returns whether it is done, and what to print.
    fn execute(&self, step: &Step, environment: &Environment<'_>) -> (bool, String) {
        if self.is_dry_run {
            return (true, format!("would {step}"));
        }
        let (namespace, inspector) = (&*self.namespace, &self.inspector);
        let done = match step {
            Step::Wake { replicas } => {
                wake::scale_up(inspector, namespace, &self.settings.target_ref, *replicas)
            }
            Step::Delete(Found { plural, name, .. }) if self.keeps_objects => {
                let command = format!("kubectl delete -n {namespace} {plural} {name}");
                return (true, command);
            }
            Step::Delete(found) => inspector.delete(&found.path),
            Step::AwaitPods if self.keeps_objects => {
                let text = "the proxies are left: delete them, and run this again";
                return (false, text.to_owned());
            }
            Step::AwaitPods => self.await_pods(environment),
            Step::ForgetService(traces) => {
                inspector.remove_traces_of_service(namespace, self.service(), traces)
            }
            Step::ForgetTarget => self.forget_target(),
        };
        match done {
            Ok(()) => (true, format!("done: {step}")),
            Err(why) => (false, format!("failed: {step}: {}", why.words())),
        }
    }

    /// Waits until no pod of the deleted proxies is left: one that drains may renew its lease.
    fn await_pods(&self, environment: &Environment<'_>) -> Result<(), Fault> {
        let end = (environment.clock)() + self.wait;
        let namespace = segment(&self.namespace);
        let app: String = self.settings.target_ref.label().chars().take(63).collect();
        let path = format!(
            "/api/v1/namespaces/{namespace}/pods?labelSelector={}%2Capp.kubernetes.io%2Finstance%3D{}",
            selector(),
            segment(&app)
        );
        loop {
            let pods = self.inspector.get(&path)?;
            let left = pods["items"].as_array().map_or(0, Vec::len);
            if left == 0 {
                return Ok(());
            }
            if (environment.clock)() >= end {
                let wait = duration::display(self.wait);
                let why =
                    format!("{left} are there after {wait}; run this again when they have ended");
                return Err(Fault::Failed(why));
            }
            thread::sleep(PAUSE);
        }
    }

    /// Removes what is left on the target by now.
    fn forget_target(&self) -> Result<(), Fault> {
        let (namespace, target) = (&*self.namespace, &self.settings.target_ref);
        let traces = Traces::of(&self.inspector.target(namespace, target)?);
        self.inspector.remove_traces(namespace, target, &traces)
    }
}

/// The label selector of all that is a proxy's.
fn selector() -> String {
    segment(&format!("{LABEL}={NAME}"))
}

fn line(subject: &str, why: &Fault) -> String {
    format!("{subject}: {}\n", why.words())
}
