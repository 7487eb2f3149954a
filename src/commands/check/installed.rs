//! The proxies that are installed, with the apps that they serve: [`Installed`].
//!
//! A proxy is found by what its containers run, as `proxy` reads it: the label of zpa's own
//! manifests alone would miss those of its ancestors with another image.

use std::collections::BTreeSet;

use serde_json::Value;

use super::proxy::{account_of, container_of, errors_of};
use crate::commands::uninstall::list::{Source, source_of};
use crate::kube::inspect::{Fault, Inspector, Reviewed, segment};
use crate::settings::{Origin, Settings};

/// What the Deployments of all namespaces are selected by: it is too much to read all of them.
const LABELLED: &str =
    "/apis/apps/v1/deployments?labelSelector=app.kubernetes.io%2Fname%3Dzero-pod-autoscaler";

const LABEL: &str = "app.kubernetes.io/name";
const NAME: &str = "zero-pod-autoscaler";

/// The proxies that may be in front of an app.
pub struct Installed {
    proxies: Vec<Proxy>,
    /// Deployments with the label of a proxy that does not run: what they are, and why.
    pub broken: Vec<String>,
    /// Why the Deployments of a namespace could not be listed.
    fault: Option<Fault>,
}

/// A proxy that is installed.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// Its Deployment.
    pub deployment: Value,
    /// The settings of the process.
    pub settings: Settings,
    /// Its apps.
    apps: Apps,
}

/// The apps of a proxy, which name their namespaces.
#[derive(Clone, Debug)]
enum Apps {
    Known(Vec<Settings>),
    /// Its list could not be read.
    Unseen,
}

/// A proxy in front of an app.
#[derive(Clone, Debug)]
pub struct InFront {
    /// The proxy.
    pub proxy: Proxy,
    /// The settings that it has for the app; `None` if its list of apps could not be read.
    pub app: Option<Settings>,
    /// Why a pod of it is not ready, as far as that is known: the code, and the text.
    pub problem: Option<(&'static str, String)>,
}

impl Installed {
    /// Finds the proxies in the namespaces `places`, and those of other namespaces that have the
    /// label of zpa's manifests, with their apps in `namespaces`.
    pub fn find(
        inspector: &Inspector,
        places: &BTreeSet<String>,
        namespaces: &BTreeSet<String>,
    ) -> Installed {
        let mut installed = Installed {
            proxies: Vec::new(),
            broken: Vec::new(),
            fault: None,
        };
        let mut seen = BTreeSet::new();
        let lists = places.iter().map(|it| {
            let path = format!("/apis/apps/v1/namespaces/{}/deployments", segment(it));
            inspector.items(&path)
        });
        for list in lists.collect::<Vec<_>>() {
            match list {
                Ok(deployments) => installed.take(inspector, namespaces, deployments, &mut seen),
                Err(fault) => installed.fault = Some(fault),
            }
        }
        // Whoever may not list those of all namespaces is content with these.
        let elsewhere = inspector.items(LABELLED).unwrap_or_default();
        installed.take(inspector, namespaces, elsewhere, &mut seen);
        installed
    }

    fn take(
        &mut self,
        inspector: &Inspector,
        namespaces: &BTreeSet<String>,
        deployments: Vec<Value>,
        seen: &mut BTreeSet<String>,
    ) {
        for deployment in deployments {
            let name = named(&deployment);
            if !seen.insert(name.clone()) {
                continue;
            }
            match container_of(&deployment) {
                Some((_, settings)) => {
                    let apps = apps(inspector, &settings, &deployment, namespaces);
                    self.proxies.push(Proxy {
                        deployment,
                        settings,
                        apps,
                    });
                }
                None if deployment["metadata"]["labels"][LABEL] == NAME => {
                    let why = errors_of(&deployment).unwrap_or_default();
                    self.broken.push(format!("{name} does not run: {why}"));
                }
                None => {}
            }
        }
    }

    /// Why not all of them may have been found.
    pub fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }

    /// Those that find their apps by that selector, in that namespace or in all of them.
    pub fn discovering(&self, selector: &str, namespace: Option<&str>) -> Vec<&Proxy> {
        let is_it = |proxy: &&Proxy| {
            let is_there = namespace.is_none_or(|it| proxy.namespace() == it);
            proxy.settings.discover.as_deref() == Some(selector)
                && (proxy.settings.all_namespaces || is_there)
        };
        self.proxies.iter().filter(is_it).collect()
    }

    /// Those that have one of these apps in their lists, or whose lists could not be read.
    pub fn listing(&self, apps: &[Settings]) -> Vec<&Proxy> {
        let has = |proxy: &&Proxy| match &proxy.apps {
            Apps::Unseen => true,
            Apps::Known(own) => own.iter().any(|it| apps.iter().any(|app| is_same(it, app))),
        };
        let lists = self.proxies.iter();
        let lists = lists.filter(|proxy| proxy.settings.apps.is_some());
        lists.filter(has).collect()
    }

    /// Those in front of an app, whose scale target is `target`.
    pub fn in_front_of(
        &self,
        inspector: &Inspector,
        app: &Settings,
        target: &Result<Value, Fault>,
    ) -> Vec<InFront> {
        let is_it = |own: &Settings| {
            is_same(own, app) || own.namespace == app.namespace && leads_to(inspector, own, target)
        };
        let found = self.proxies.iter().filter_map(|proxy| {
            let own = match &proxy.apps {
                Apps::Known(apps) => Some(apps.iter().find(|own| is_it(own))?.clone()),
                Apps::Unseen if app.origin() == Origin::List => None,
                Apps::Unseen => return None,
            };
            let problem = proxy.problem(inspector);
            Some(InFront {
                proxy: proxy.clone(),
                app: own,
                problem,
            })
        });
        let mut found: Vec<InFront> = found.collect();
        found.sort_by_key(|it| it.proxy.ready() == 0);
        found
    }
}

impl Proxy {
    /// The name of its Deployment,
    pub fn name(&self) -> &str {
        text(&self.deployment["metadata"]["name"])
    }

    /// and its namespace, in which its pods are.
    pub fn namespace(&self) -> &str {
        text(&self.deployment["metadata"]["namespace"])
    }

    /// The container that it runs in.
    pub fn container(&self) -> &Value {
        container_of(&self.deployment).map_or(&Value::Null, |(container, _)| container)
    }

    /// Its service account.
    pub fn account(&self) -> Reviewed {
        Reviewed::ServiceAccount {
            namespace: self.namespace().to_owned(),
            name: account_of(&self.deployment).to_owned(),
        }
    }

    /// How many replicas there are to be.
    pub fn wanted(&self) -> u64 {
        self.deployment["spec"]["replicas"].as_u64().unwrap_or(1)
    }

    /// How many of them are ready.
    pub fn ready(&self) -> u64 {
        self.deployment["status"]["readyReplicas"]
            .as_u64()
            .unwrap_or(0)
    }

    /// The ports that it listens on, for all of its apps.
    pub fn ports(&self) -> Vec<u16> {
        let apps = match &self.apps {
            Apps::Known(apps) => &apps[..],
            Apps::Unseen => &[],
        };
        let listeners = apps.iter().flat_map(|app| &app.listen);
        listeners.map(|it| it.address.port()).collect()
    }

    /// The proxy of one app that a Deployment runs.
    #[cfg(test)]
    pub fn of_one_app(deployment: Value) -> Option<Proxy> {
        let (_, settings) = container_of(&deployment)?;
        let mut app = settings.clone();
        app.namespace.get_or_insert_with(|| "default".to_owned());
        Some(Proxy {
            deployment,
            settings,
            apps: Apps::Known(vec![app]),
        })
    }

    /// Its apps, as far as they are known.
    #[cfg(test)]
    pub fn apps(&self) -> &[Settings] {
        match &self.apps {
            Apps::Known(apps) => apps,
            Apps::Unseen => &[],
        }
    }

    fn problem(&self, inspector: &Inspector) -> Option<(&'static str, String)> {
        if self.ready() >= self.wanted() {
            return None;
        }
        let labels = &self.deployment["spec"]["selector"]["matchLabels"];
        let problem = inspector.pod_problem(self.namespace(), labels).ok()??;
        let code = crate::problems::code_of_pod(problem.reason);
        Some((code, problem.text))
    }
}

/// `namespace/name`.
fn named(object: &Value) -> String {
    let metadata = &object["metadata"];
    format!(
        "{}/{}",
        text(&metadata["namespace"]),
        text(&metadata["name"])
    )
}

/// Whether both are the same app by their settings.
fn is_same(a: &Settings, b: &Settings) -> bool {
    a.namespace == b.namespace && a.target_ref == b.target_ref
}

/// Whether what is scaled, found by its labels, is `target`.
fn leads_to(inspector: &Inspector, own: &Settings, target: &Result<Value, Fault>) -> bool {
    let (Some(namespace), None, Ok(target)) = (&own.namespace, own.target_ref.name(), target)
    else {
        return false;
    };
    let found = inspector.target(namespace, &own.target_ref);
    found.is_ok_and(|it| it["metadata"]["uid"] == target["metadata"]["uid"])
}

/// The apps of a proxy in the namespaces that are looked at.
fn apps(
    inspector: &Inspector,
    process: &Settings,
    deployment: &Value,
    namespaces: &BTreeSet<String>,
) -> Apps {
    let home = text(&deployment["metadata"]["namespace"]);
    if let Some(selector) = &process.discover {
        return Apps::Known(discovered(inspector, process, selector, home, namespaces));
    }
    if process.apps.is_some() {
        let list = listed(inspector, process, deployment, home);
        return list.map_or(Apps::Unseen, Apps::Known);
    }
    let mut app = process.clone();
    app.namespace.get_or_insert_with(|| home.to_owned());
    Apps::Known(vec![app])
}

/// The apps that are described by annotations. Those that are wrong are none.
fn discovered(
    inspector: &Inspector,
    process: &Settings,
    selector: &str,
    home: &str,
    namespaces: &BTreeSet<String>,
) -> Vec<Settings> {
    let own = process.namespace.as_deref().unwrap_or(home);
    let place = (!process.all_namespaces).then_some(own);
    let services = inspector.selected_services(place, selector);
    let services = services.into_iter().flatten();
    let services = services.filter(|it| namespaces.contains(&it.namespace));
    let apps = services.filter_map(|service| {
        let annotations = service.annotations.as_ref()?;
        let (namespace, name) = (&service.namespace, &service.name);
        process.read_annotations(namespace, name, annotations).ok()
    });
    apps.collect()
}

/// The apps of a list that is mounted from a ConfigMap; `None` if it cannot be read.
fn listed(
    inspector: &Inspector,
    process: &Settings,
    deployment: &Value,
    home: &str,
) -> Option<Vec<Settings>> {
    let file = process.apps.as_ref()?.to_str()?;
    let Source { config_map, key } = source_of(deployment, file).ok()?;
    let object = inspector.config_map(home, &config_map).ok()?;
    let list = object["data"][key].as_str()?;
    let own = process.namespace.as_deref().unwrap_or(home);
    process.read_apps(list.as_bytes(), own).ok()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
