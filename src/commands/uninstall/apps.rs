//! The apps to take zpa away from: the one of the settings, those of a list, or those that are
//! found by their Services.

use serde_json::Value;

use super::takeover;
use crate::commands::wake;
use crate::kube::inspect::{Fault, Inspector};
use crate::kube::removal::Traces;
use crate::settings::{self, Settings};
use crate::workload::TargetRef;

/// What an app is known by: its namespace and what is scaled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    pub namespace: String,
    pub target: TargetRef,
}

impl Key {
    /// That of an app with these settings, in `namespace` if they name none.
    pub fn of(settings: &Settings, namespace: &str) -> Key {
        let own = settings.namespace.as_deref().unwrap_or(namespace);
        Key {
            namespace: own.to_owned(),
            target: settings.target_ref.clone(),
        }
    }
}

/// An app, and what is there of it.
#[derive(Clone, Debug)]
pub struct App {
    pub key: Key,
    /// The name of its Service.
    pub service_name: String,
    /// The replicas of a wake, where the app remembers none.
    pub wake_replicas: u32,
    /// The scale target; null if it is not there.
    pub target: Value,
    /// Its Service, if there is one.
    pub service: Option<Value>,
    /// Whether its Service leads to a proxy.
    pub is_taken_over: bool,
    /// The Service by which a proxy that has taken that over finds the pods.
    pub pods_service: Option<Value>,
}

impl App {
    /// The name of the Service whose endpoints are the app's pods: those of its own are the
    /// proxy's where that has taken it over.
    pub fn service_of_pods(&self) -> &str {
        let of_pods = self.pods_service.as_ref();
        let name = of_pods.and_then(|it| it["metadata"]["name"].as_str());
        name.unwrap_or(&self.service_name)
    }

    /// One of several may name a target that is not there.
    fn read(
        settings: &Settings,
        namespace: &str,
        inspector: &Inspector,
        is_only: bool,
    ) -> Result<App, String> {
        let key = Key::of(settings, namespace);
        let service_name = settings.service.clone().unwrap_or_default();
        let subject = |why: Fault| format!("{}: {}\n", key.label(), why.words());
        let target = match inspector.target(&key.namespace, &key.target) {
            Err(Fault::NotFound) if !is_only => Value::Null,
            target => target.map_err(subject)?,
        };
        let service = match inspector.service(&key.namespace, &service_name) {
            Err(Fault::NotFound) => None,
            service => Some(service.map_err(subject)?),
        };
        Ok(App {
            target,
            wake_replicas: wake::wake_replicas(settings),
            is_taken_over: service.as_ref().is_some_and(takeover::is_labelled),
            service_name,
            service,
            pods_service: None,
            key,
        })
    }

    /// What is left on its Service.
    pub fn service_traces(&self) -> Traces {
        self.service.as_ref().map(Traces::of).unwrap_or_default()
    }
}

impl Key {
    /// `namespace/name`.
    pub fn label(&self) -> String {
        format!("{}/{}", self.namespace, self.target.label())
    }
}

/// The apps that the settings describe.
///
/// # Errors
/// What cannot be read, a line each.
pub fn apps(
    settings: &Settings,
    namespace: &str,
    inspector: &Inspector,
) -> Result<Vec<App>, String> {
    if let Some(labels) = &settings.discover {
        return found(settings, namespace, labels, inspector);
    }
    let Some(file) = &settings.apps else {
        return Ok(vec![App::read(settings, namespace, inspector, true)?]);
    };
    let line = |why: &str| format!("--apps (ZPA_APPS) {}: {why}\n", file.display());
    let text = std::fs::read(file).map_err(|why| line(&format!("cannot be read: {why}")))?;
    let apps = settings.read_apps(&text, namespace);
    let apps = apps.map_err(|errors| errors.lines().map(line).collect::<String>())?;
    let read = apps
        .iter()
        .map(|app| App::read(app, namespace, inspector, false));
    read.collect()
}

/// Those of the Services that are selected.
fn found(
    settings: &Settings,
    namespace: &str,
    labels: &str,
    inspector: &Inspector,
) -> Result<Vec<App>, String> {
    let within = (!settings.all_namespaces).then_some(namespace);
    let services = inspector.selected_services(within, labels);
    let services =
        services.map_err(|why| format!("the Services with {labels}: {}\n", why.words()))?;
    let mut apps = Vec::new();
    for service in services {
        let annotations = service.annotations.unwrap_or_default();
        if !annotations.contains_key(settings::annotations::LISTEN) {
            continue;
        }
        let read = settings.read_annotations(&service.namespace, &service.name, &annotations);
        let subject = format!("Service {}/{}", service.namespace, service.name);
        let app = read.map_err(|errors| {
            errors
                .lines()
                .map(|why| format!("{subject}: {why}\n"))
                .collect::<String>()
        })?;
        apps.push(App::read(&app, &service.namespace, inspector, false)?);
    }
    Ok(apps)
}
