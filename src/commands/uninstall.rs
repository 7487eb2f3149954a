//! `zpa uninstall` wakes an app, removes the proxies before it with their objects, and what they
//! have left on the app.
//!
//! Everything is read first (`Facts`). What is to be done follows from that alone (`plan`), and
//! is done in that order, so that `--dry-run` prints the same.

use std::ffi::OsString;
use std::fmt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::check::settings_of;
use super::options::{self, CommandOption, Options};
use super::{Environment, Output};
use crate::duration;
use crate::kube::Access;
use crate::kube::inspect::{Fault, Inspector, segment};
use crate::kube::removal::Traces;
use crate::settings::{Origin, Settings};
use crate::workload::WakeReplicas;

/// The interval at which the pods of the proxies are looked for.
const PAUSE: Duration = Duration::from_secs(1);

/// How often the app is scaled up while others write to it.
const ATTEMPTS: u32 = 5;

/// The label of everything that `zpa manifests` and `manifests/base` make.
const LABEL: &str = "app.kubernetes.io/name";

/// and its value.
const NAME: &str = "zero-pod-autoscaler";

/// The condition and the annotation that keep the replicas before the last sleep.
const REMEMBERED: [&str; 2] = [
    "zero-pod-autoscaler/PreviousReplicas",
    "zero-pod-autoscaler/previous-replicas",
];

static OPTIONS: [CommandOption; 4] = [
    CommandOption {
        name: "--dry-run",
        placeholder: "",
        default: "do it",
        help: "Print what would be done, and change nothing",
    },
    CommandOption {
        name: "--keep-objects",
        placeholder: "",
        default: "delete them",
        help: "Leave the proxies, and print the commands that delete them; run this again then",
    },
    CommandOption {
        name: "--name",
        placeholder: "NAME",
        default: "those of the proxies that are found, and the app's name with -zpa",
        help: "The name of the proxy's objects",
    },
    CommandOption {
        name: "--wait",
        placeholder: "DURATION",
        default: "2m",
        help: "How long the pods of the proxies may take to end: the app's traces are removed then",
    },
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

/// What is there.
#[derive(Clone, Debug, Default)]
struct Facts {
    /// The scale target.
    target: Value,
    /// The app's Service, if there is one.
    service: Option<Value>,
    /// The objects of the proxies before this app, with the paths of each.
    objects: Vec<Found>,
    /// The proxies that have other apps too.
    shared: Vec<String>,
}

/// An object of a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Found {
    /// The plural of its kind.
    plural: &'static str,
    kind: &'static str,
    name: String,
    path: String,
}

/// What is done.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Wake {
        replicas: u32,
    },
    Delete(Found),
    /// Wait until the pods with these names in their label have ended.
    AwaitPods,
    ForgetService(Traces),
    ForgetTarget,
}

/// Runs the command.
pub fn run(args: &[OsString], environment: &Environment<'_>) -> Output {
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        return Output::Text(help());
    }
    match Uninstall::new(args, environment) {
        Ok(uninstall) => uninstall.run(environment),
        Err(errors) => Output::Errors(errors),
    }
}

fn help() -> String {
    let head = "Takes zpa away from before an app: wakes the app, to the replicas that it remembers \
                or those of\n--wake-replicas, deletes the proxies that have no other app with their \
                objects, and removes the\nconditions and annotations that they have left. Its clients \
                must connect past them before.\n\nExit code: 0 nothing is left, 1 something is, 2 \
                wrong arguments.\n\nUsage: zpa uninstall --deployment NAME [--FLAG VALUE]...\n\n";
    head.to_owned()
        + &options::help(&OPTIONS)
        + "\nThe settings of the app are flags too, those of kubeconfigs among them: see zpa --help.\n"
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
        let settings = super::settings("uninstall", options.rest.clone(), environment.env)?;
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
        let steps = match plan(&facts, self.wake_replicas(), self.service()) {
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

    /// The replicas of a wake, where the app remembers none.
    fn wake_replicas(&self) -> u32 {
        match self.settings.wake_replicas {
            WakeReplicas::Replicas(count) => count.get(),
            WakeReplicas::Previous => 1,
        }
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
            Step::Wake { replicas } => self.wake(*replicas),
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
            Err(why) => (false, format!("failed: {step}: {}", words(&why))),
        }
    }

    /// Scales the app up, unless somebody has done that meanwhile.
    fn wake(&self, replicas: u32) -> Result<(), Fault> {
        let (namespace, target) = (&*self.namespace, &self.settings.target_ref);
        for _ in 0..ATTEMPTS {
            let object = self.inspector.target(namespace, target)?;
            if object["spec"]["replicas"] != 0 {
                return Ok(());
            }
            let version = text(&object["metadata"]["resourceVersion"]);
            match self.inspector.scale(namespace, target, replicas, version) {
                Err(Fault::Conflict) => thread::sleep(PAUSE),
                done => return done,
            }
        }
        Err(Fault::Conflict)
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

/// What is to be done, in that order.
///
/// # Errors
/// Why nothing is done.
fn plan(facts: &Facts, wake_replicas: u32, service_name: &str) -> Result<Vec<Step>, String> {
    let is_ours = |it: &Value| it["metadata"]["labels"][LABEL] == NAME;
    if facts.service.as_ref().is_some_and(is_ours) {
        return Err(format!(
            "the Service {service_name} leads to the proxy (--take-over): apply your own Service \
             {service_name} again first\n"
        ));
    }
    let mut steps = Vec::new();
    if facts.target["spec"]["replicas"] == 0 {
        steps.push(Step::Wake {
            replicas: remembered(&facts.target).unwrap_or(wake_replicas),
        });
    }
    let traces = facts.service.as_ref().map(Traces::of);
    steps.extend(traces.filter(|it| !it.is_empty()).map(Step::ForgetService));
    steps.extend(facts.objects.iter().cloned().map(Step::Delete));
    if facts.objects.iter().any(|it| it.plural == "deployments") {
        steps.push(Step::AwaitPods);
    }
    // A proxy that is deleted may renew its lease until it has ended.
    if !steps.is_empty() || !Traces::of(&facts.target).is_empty() {
        steps.push(Step::ForgetTarget);
    }
    Ok(steps)
}

/// The replicas before the last sleep, if the object keeps them.
fn remembered(target: &Value) -> Option<u32> {
    let [condition, annotation] = REMEMBERED;
    let conditions = target["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    let of_condition = conditions.find(|it| it["type"] == condition);
    let texts = [
        of_condition.map_or("", |it| text(&it["message"])),
        text(&target["metadata"]["annotations"][annotation]),
    ];
    let counts = texts.into_iter().filter_map(|it| it.parse::<u32>().ok());
    counts
        .filter(|count| (1..=i32::MAX as u32).contains(count))
        .max()
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Wake { replicas } => write!(f, "wake the app: scale it to {replicas}"),
            Step::Delete(Found { kind, name, .. }) => write!(f, "delete the {kind} {name}"),
            Step::AwaitPods => f.write_str("wait until the pods of the proxies have ended"),
            Step::ForgetService(traces) => {
                let names: Vec<&str> = traces.names().collect();
                write!(f, "remove from the Service: {}", names.join(", "))
            }
            Step::ForgetTarget => {
                f.write_str("remove the conditions and annotations of zpa from the app")
            }
        }
    }
}

/// The label selector of all that is a proxy's.
fn selector() -> String {
    segment(&format!("{LABEL}={NAME}"))
}

fn line(subject: &str, why: &Fault) -> String {
    format!("{subject}: {}\n", words(why))
}

fn words(why: &Fault) -> &str {
    match why {
        Fault::NotFound => "not found",
        Fault::Conflict => "the object changes all the time",
        Fault::Refused(why) | Fault::Failed(why) => why,
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(plural: &'static str, kind: &'static str) -> Found {
        Found {
            plural,
            kind,
            name: "my-app-zpa".to_owned(),
            path: String::new(),
        }
    }

    fn asleep() -> Value {
        json!({
            "metadata": { "resourceVersion": "7", "annotations": {} },
            "spec": { "replicas": 0 },
            "status": { "conditions": [
                { "type": "zero-pod-autoscaler/PreviousReplicas", "message": "3" },
            ] },
        })
    }

    fn lines(facts: &Facts) -> Vec<String> {
        let steps = plan(facts, 2, "my-app").unwrap();
        steps.iter().map(Step::to_string).collect()
    }

    #[test]
    fn the_app_is_woken_first_and_its_traces_are_removed_once_nobody_can_write_them() {
        let facts = Facts {
            target: asleep(),
            service: Some(json!({ "metadata": {
                "annotations": { "zero-pod-autoscaler/listen": ":8080" } } })),
            objects: vec![found("deployments", "Deployment"), found("roles", "Role")],
            shared: Vec::new(),
        };
        assert_eq!(
            lines(&facts),
            [
                "wake the app: scale it to 3",
                "remove from the Service: zero-pod-autoscaler/listen",
                "delete the Deployment my-app-zpa",
                "delete the Role my-app-zpa",
                "wait until the pods of the proxies have ended",
                "remove the conditions and annotations of zpa from the app",
            ]
        );
    }

    #[test]
    fn what_is_not_there_is_not_removed_and_a_service_that_leads_to_the_proxy_ends_it() {
        let mut target = asleep();
        target["status"] = json!({});
        let woken = Facts {
            target: target.clone(),
            ..Facts::default()
        };
        assert_eq!(lines(&woken)[0], "wake the app: scale it to 2");
        target["spec"]["replicas"] = 1.into();
        let clean = Facts {
            target,
            ..Facts::default()
        };
        assert_eq!(lines(&clean), [] as [&str; 0]);
        let taken_over = Facts {
            service: Some(json!({ "metadata": { "labels": { LABEL: NAME } } })),
            ..clean
        };
        let why = plan(&taken_over, 1, "my-app").unwrap_err();
        assert!(why.contains("apply your own Service my-app again"), "{why}");
    }

    #[test]
    fn the_replicas_that_are_remembered_are_a_count() {
        let with = |text: &str| {
            let mut target = asleep();
            target["status"]["conditions"][0]["message"] = text.into();
            remembered(&target)
        };
        for (text, count) in [
            ("3", Some(3)),
            ("0", None),
            ("-1", None),
            ("three", None),
            ("2147483648", None),
        ] {
            assert_eq!(with(text), count, "{text}");
        }
    }
}
