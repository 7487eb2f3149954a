//! The proxies that may be before the apps: which apps each has, and where its pods are.

use std::collections::BTreeMap;

use serde_json::Value;

use super::apps::Key;
use super::list::{self, Source};
use super::{LABEL, NAME, text};
use crate::commands::check::settings_of;
use crate::kube::inspect::{Fault, Inspector, segment};
use crate::settings::{Origin, Settings};

/// A Deployment of a proxy.
#[derive(Clone, Debug)]
pub struct Proxy {
    pub namespace: String,
    pub name: String,
    pub settings: Settings,
    pub serves: Serves,
    /// The label selector of its pods.
    pub selector: String,
    /// The labels of its pods.
    labels: Value,
}

/// Which apps a proxy has.
#[derive(Clone, Debug)]
pub enum Serves {
    One(Key),
    List(List),
    /// A list that cannot be edited from here, and why.
    UnknownList(String),
    /// Those of the Services with these names.
    Found(Vec<(String, String)>),
}

/// A list in a ConfigMap.
#[derive(Clone, Debug)]
pub struct List {
    pub source: Source,
    pub text: String,
    pub version: String,
    pub apps: Vec<Key>,
    /// Whether the ConfigMap came with the proxy.
    pub is_ours: bool,
}

/// All proxies of the cluster, or where those cannot be listed of the namespace.
///
/// # Errors
/// Why they cannot be listed.
pub fn proxies(inspector: &Inspector, namespace: &str) -> Result<Vec<Proxy>, Fault> {
    let query = format!("deployments?labelSelector={}", selector());
    let all = match inspector.get(&format!("/apis/apps/v1/{query}")) {
        Err(Fault::Refused(_) | Fault::NotFound) => {
            let namespace = segment(namespace);
            inspector.get(&format!("/apis/apps/v1/namespaces/{namespace}/{query}"))?
        }
        all => all?,
    };
    let all = all["items"].as_array().into_iter().flatten();
    all.filter_map(|deployment| Proxy::of(inspector, deployment).transpose())
        .collect()
}

/// The label selector of all that is a proxy's.
pub fn selector() -> String {
    segment(&format!("{LABEL}={NAME}"))
}

#[cfg(test)]
impl Proxy {
    pub fn new(namespace: &str, name: &str, settings: Settings, serves: Serves) -> Proxy {
        Proxy {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            settings,
            serves,
            selector: String::new(),
            labels: Value::Null,
        }
    }
}

impl Proxy {
    /// `None` if it does not run with its settings.
    fn of(inspector: &Inspector, deployment: &Value) -> Result<Option<Proxy>, Fault> {
        let Some(settings) = settings_of(deployment) else {
            return Ok(None);
        };
        let namespace = text(&deployment["metadata"]["namespace"]).to_owned();
        let serves = if let Some(labels) = &settings.discover {
            Serves::found(inspector, &settings, &namespace, labels)?
        } else if settings.apps.is_some() {
            Serves::listed(inspector, &settings, &namespace, deployment)?
        } else if settings.origin() == Origin::CommandLine {
            Serves::One(Key::of(&settings, &namespace))
        } else {
            return Ok(None);
        };
        let labels = deployment["spec"]["selector"]["matchLabels"].as_object();
        let labels = labels.into_iter().flatten();
        let labels = labels.map(|(key, value)| format!("{key}={}", text(value)));
        Ok(Some(Proxy {
            name: text(&deployment["metadata"]["name"]).to_owned(),
            selector: segment(&labels.collect::<Vec<_>>().join(",")),
            labels: deployment["spec"]["template"]["metadata"]["labels"].clone(),
            namespace,
            settings,
            serves,
        }))
    }

    /// Whether a Service selects its pods, by the labels that they have.
    pub fn is_selected_by(&self, service: &Value) -> bool {
        let selector = service["spec"]["selector"].as_object();
        selector.is_some_and(|selector| {
            let mut pairs = selector.iter();
            !selector.is_empty() && pairs.all(|(key, value)| self.labels[key] == *value)
        })
    }

    /// What messages call it.
    pub fn label(&self) -> String {
        format!("Deployment {}", self.name)
    }
}

impl Serves {
    fn found(
        inspector: &Inspector,
        settings: &Settings,
        namespace: &str,
        labels: &str,
    ) -> Result<Serves, Fault> {
        let own = settings.namespace.as_deref().unwrap_or(namespace);
        let within = (!settings.all_namespaces).then_some(own);
        let services = match inspector.selected_services(within, labels) {
            // Services of namespaces that the caller may not list are none of the caller's.
            Err(Fault::Refused(_)) => Vec::new(),
            services => services?,
        };
        let apps = services.into_iter().filter(|service| {
            let annotations: Option<&BTreeMap<_, _>> = service.annotations.as_ref();
            annotations.is_none_or(|it| it.contains_key(crate::settings::annotations::LISTEN))
        });
        Ok(Serves::Found(
            apps.map(|it| (it.namespace, it.name)).collect(),
        ))
    }

    fn listed(
        inspector: &Inspector,
        settings: &Settings,
        namespace: &str,
        deployment: &Value,
    ) -> Result<Serves, Fault> {
        let file = settings
            .apps
            .as_deref()
            .unwrap_or("".as_ref())
            .display()
            .to_string();
        let source = match list::source_of(deployment, &file) {
            Ok(source) => source,
            Err(why) => return Ok(Serves::UnknownList(format!("{file} {why}"))),
        };
        let path = config_map(namespace, &source.config_map);
        let name = &source.config_map;
        let object = match inspector.get(&path) {
            Err(Fault::NotFound) => {
                let why = format!("the ConfigMap {name} is not there");
                return Ok(Serves::UnknownList(why));
            }
            Err(Fault::Refused(why)) => return Ok(Serves::UnknownList(why)),
            object => object?,
        };
        let Some(text_of_list) = object["data"][&source.key].as_str() else {
            let why = format!("the ConfigMap {name} has no data {}", source.key);
            return Ok(Serves::UnknownList(why));
        };
        let own = settings.namespace.as_deref().unwrap_or(namespace);
        let Ok(apps) = settings.read_apps(text_of_list.as_bytes(), own) else {
            let why = format!("the list in the ConfigMap {name} is wrong");
            return Ok(Serves::UnknownList(why));
        };
        Ok(Serves::List(List {
            text: text_of_list.to_owned(),
            version: text(&object["metadata"]["resourceVersion"]).to_owned(),
            apps: apps.iter().map(|app| Key::of(app, own)).collect(),
            is_ours: object["metadata"]["labels"][LABEL] == NAME,
            source,
        }))
    }
}

/// The path of a ConfigMap.
pub fn config_map(namespace: &str, name: &str) -> String {
    let (namespace, name) = (segment(namespace), segment(name));
    format!("/api/v1/namespaces/{namespace}/configmaps/{name}")
}
