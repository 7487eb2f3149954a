//! `zpa wake` scales up what a proxy has put to sleep, and changes nothing else. It makes do with
//! the permissions of the proxy, and takes its settings: the Helm chart runs it before the proxy
//! is deleted, so that no app is left at zero.

use std::ffi::OsString;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::check::apps_given;
use super::command::Command;
use super::{Environment, Output};
use crate::kube::SelectedService;
use crate::kube::inspect::{Fault, Inspector};
use crate::settings::Settings;
use crate::settings::annotations::LISTEN;
use crate::workload::{TargetRef, WakeReplicas};

/// The pause before the app is scaled up again, when somebody else has written to it.
const PAUSE: Duration = Duration::from_secs(1);

/// How often the app is scaled up while others write to it.
const ATTEMPTS: u32 = 5;

/// The condition and the annotation that keep the replicas before the last sleep.
const REMEMBERED: [&str; 2] = [
    "zero-pod-autoscaler/PreviousReplicas",
    "zero-pod-autoscaler/previous-replicas",
];

/// `zpa wake`.
pub static COMMAND: Command = Command {
    name: "wake",
    summary: "scales up what sleeps, and changes nothing else",
    usage: &[
        "--deployment NAME [--FLAG VALUE]...",
        "--apps FILE [--FLAG VALUE]...",
        "--discover LABELS [--FLAG VALUE]...",
    ],
    about: "Scales the apps of a proxy up that are at zero, to the replicas that they remember or \
            those of --wake-replicas, and changes nothing else. It makes do with the permissions \
            of the proxy. With --dry-run it prints what it would do.",
    options: &[],
    settings: Some(
        "The settings of the proxy are options, and those of kubeconfigs: zpa --help lists them.",
    ),
    words: Vec::new,
    variables: &[(
        "ZPA_..., KUBECONFIG",
        "The settings, as for the proxy: zpa --help names each.",
    )],
    exit_codes: &[
        (0, "all are awake"),
        (1, "one could not be woken, which is said"),
        (2, "wrong arguments, or the cluster's access is not known"),
    ],
    examples: &[
        ("--deployment my-app --dry-run", "What would be done."),
        (
            "--discover zero-pod-autoscaler/enabled=true --namespace dev",
            "Each app that sleeps in a namespace.",
        ),
    ],
    run: |args, environment| match Waking::new(args, environment) {
        Ok(waking) => waking.run(),
        Err(errors) => Output::Errors(errors),
    },
};

struct Waking {
    settings: Settings,
    /// The settings of the apps, unless they are found by their Services.
    apps: Vec<Settings>,
    namespace: String,
    inspector: Inspector,
}

impl Waking {
    fn new(args: &[OsString], environment: &Environment<'_>) -> Result<Waking, Vec<String>> {
        let settings = super::process_settings(&COMMAND, args.to_vec(), environment.env)?;
        let connected = super::connect(&settings, environment);
        let (inspector, namespace) = connected.map_err(|why| vec![why])?;
        let namespace = settings.namespace.clone().unwrap_or(namespace);
        Ok(Waking {
            apps: apps_given(&settings, &namespace)?,
            inspector,
            namespace,
            settings,
        })
    }

    fn run(&self) -> Output {
        let apps = match self.found() {
            Ok(found) => self.apps.iter().cloned().map(Ok).chain(found),
            Err(why) => {
                let text = format!("the Services of the apps: {}\n", why.words());
                return Output::Report { text, code: 1 };
            }
        };
        let (mut text, mut code) = (String::new(), 0);
        for app in apps {
            let line = app.and_then(|app| self.wake(&app));
            code = u8::from(line.is_err()).max(code);
            text += &line.unwrap_or_else(|why| why);
            text.push('\n');
        }
        Output::Report { text, code }
    }

    /// The apps that are found by their Services, or what is wrong with these.
    fn found(&self) -> Result<Vec<Result<Settings, String>>, Fault> {
        let Some(selector) = &self.settings.discover else {
            return Ok(Vec::new());
        };
        let namespace = (!self.settings.all_namespaces).then_some(&*self.namespace);
        let services = self.inspector.selected_services(namespace, selector)?;
        let apps = services.iter().filter_map(|it| read(&self.settings, it));
        Ok(apps.collect())
    }

    /// Wakes one app. Returns a line about it.
    fn wake(&self, app: &Settings) -> Result<String, String> {
        let namespace = app.namespace.as_deref().unwrap_or(&self.namespace);
        let name = format!("{namespace}/{}", app.target_ref.label());
        match self.wake_in(app, namespace) {
            Ok(line) => Ok(format!("{name}: {line}")),
            Err(why) => Err(format!("{name}: cannot be woken: {}", why.words())),
        }
    }

    fn wake_in(&self, app: &Settings, namespace: &str) -> Result<String, Fault> {
        let target = match self.inspector.target(namespace, &app.target_ref) {
            Err(Fault::NotFound) => return Ok("is not there".to_owned()),
            found => found?,
        };
        if target["spec"]["replicas"] != 0 {
            return Ok("is awake".to_owned());
        }
        let replicas = remembered(&target).unwrap_or_else(|| wake_replicas(app));
        if app.dry_run {
            return Ok(format!("would be scaled to {replicas}"));
        }
        scale_up(&self.inspector, namespace, &app.target_ref, replicas)?;
        Ok(format!("woken: scaled to {replicas}"))
    }
}

/// The app of a Service, or what is wrong with its annotations: before they were, it may have
/// been put to sleep. `None` if it is no app.
fn read(process: &Settings, service: &SelectedService) -> Option<Result<Settings, String>> {
    let annotations = service.annotations.as_ref()?;
    let (namespace, name) = (&service.namespace, &service.name);
    annotations.contains_key(LISTEN).then(|| {
        let read = process.read_annotations(namespace, name, annotations);
        read.map_err(|errors| {
            let why = errors.lines().collect::<Vec<_>>().join("; ");
            format!("{namespace}/{name}: cannot be woken: the annotations of its Service: {why}")
        })
    })
}

/// Scales a target up, unless somebody has done that meanwhile.
///
/// # Errors
/// See [`Fault`].
pub(super) fn scale_up(
    inspector: &Inspector,
    namespace: &str,
    target: &TargetRef,
    replicas: u32,
) -> Result<(), Fault> {
    for _ in 0..ATTEMPTS {
        let object = inspector.target(namespace, target)?;
        if object["spec"]["replicas"] != 0 {
            return Ok(());
        }
        let version = object["metadata"]["resourceVersion"].as_str();
        match inspector.scale(namespace, target, replicas, version.unwrap_or_default()) {
            Err(Fault::Conflict) => thread::sleep(PAUSE),
            done => return done,
        }
    }
    Err(Fault::Conflict)
}

/// To how many replicas an app is woken that remembers none.
pub(super) fn wake_replicas(app: &Settings) -> u32 {
    match app.wake_replicas {
        WakeReplicas::Replicas(count) => count.get(),
        WakeReplicas::Previous => 1,
    }
}

/// The replicas before the last sleep, if the object keeps them.
pub(super) fn remembered(target: &Value) -> Option<u32> {
    let [condition, annotation] = REMEMBERED;
    let conditions = target["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    let of_condition = conditions.find(|it| it["type"] == condition);
    let texts = [
        of_condition.and_then(|it| it["message"].as_str()),
        target["metadata"]["annotations"][annotation].as_str(),
    ];
    let counts = texts.into_iter().filter_map(|it| it?.parse::<u32>().ok());
    counts
        .filter(|count| (1..=i32::MAX as u32).contains(count))
        .max()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_replicas_that_are_remembered_are_a_count() {
        let with = |text: &str| {
            remembered(&json!({ "status": { "conditions": [
                { "type": "zero-pod-autoscaler/PreviousReplicas", "message": text },
            ] } }))
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
        let annotated = json!({ "metadata": { "annotations": {
            "zero-pod-autoscaler/previous-replicas": "4" } } });
        assert_eq!(remembered(&annotated), Some(4));
        assert_eq!(remembered(&json!({})), None);
    }
}
