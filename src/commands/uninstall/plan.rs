//! What the uninstall finds ([`Facts`]) and what it does about it ([`Step`]).

use std::fmt;

use serde_json::Value;

use super::apps::{App, Key};
use super::list;
use super::proxies::{Proxy, Serves};
use super::takeover;
use crate::commands::wake::remembered;
use crate::kube::removal::Traces;

/// What is there.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub apps: Vec<App>,
    /// Whether the apps are all of those that proxies find by their Services.
    pub are_all_found: bool,
    /// The objects of the proxies that have no other app.
    pub objects: Vec<Found>,
    /// The pods of those proxies.
    pub pods: Vec<Pods>,
    /// The proxies that have other apps too.
    pub shared: Vec<Proxy>,
    /// Those that may have had an app until a moment ago.
    pub others: Vec<Proxy>,
    /// What somebody has to do by hand before it can be done.
    pub notes: Vec<String>,
    /// What is left to whoever has applied it.
    pub hints: Vec<String>,
}

/// An object of a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The plural of its kind.
    pub plural: &'static str,
    pub kind: &'static str,
    /// Its namespace, if it is in one.
    pub namespace: Option<String>,
    pub name: String,
    pub path: String,
    /// The release of Helm that has made it.
    pub release: Option<String>,
}

/// The pods of a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pods {
    pub namespace: String,
    /// Their label selector.
    pub selector: String,
}

/// What is done.
#[derive(Clone, Debug)]
pub enum Step<'a> {
    /// Scale an app up, if it is at zero.
    Wake {
        app: &'a App,
        replicas: u32,
    },
    /// The same once no proxy is there that could have put it to sleep.
    SeeAwake {
        app: &'a App,
        replicas: u32,
    },
    /// Wait until a pod of an app is ready.
    AwaitReady {
        app: &'a App,
    },
    /// Make the Service of an app lead to its pods again.
    Restore {
        app: &'a App,
        patch: Value,
    },
    /// Take apps out of the list of a proxy.
    EditList {
        proxy: &'a Proxy,
        apps: Vec<Key>,
    },
    ForgetService {
        app: &'a App,
    },
    Delete(&'a Found),
    /// Wait until these pods have ended.
    AwaitPods(&'a [Pods]),
    /// Wait until the proxies have the apps no more.
    AwaitRelease {
        proxies: Vec<&'a Proxy>,
        apps: &'a [App],
    },
    ForgetTarget {
        app: &'a App,
    },
}

/// What is to be done, in that order: at each point an app is awake or has a proxy before it.
///
/// # Errors
/// Why nothing is done.
pub fn plan(facts: &Facts) -> Result<Vec<Step<'_>>, String> {
    let asleep = || facts.apps.iter().filter(|app| is_asleep(app));
    let wakes = asleep().map(|app| Step::Wake {
        replicas: replicas(app),
        app,
    });
    if let Some(text) = helm_uninstall(facts) {
        return Err(text);
    }
    let unready = facts
        .apps
        .iter()
        .filter(|app| is_asleep(app) || app.is_taken_over);
    let with_service = unready.filter(|app| app.service.is_some());
    let ready = with_service.map(|app| Step::AwaitReady { app });
    let restored: Result<Vec<Step<'_>>, String> = facts.apps.iter().filter_map(restore).collect();
    let begin = wakes.chain(ready).chain(restored?);
    let mut removal = removal(facts);
    let mut end = end(facts, !removal.is_empty());
    if facts.are_all_found && facts.shared.is_empty() {
        // Last, so that a second run finds the apps that a first one has left.
        end.extend(forget_services(facts));
        removal.retain(|step| !matches!(step, Step::ForgetService { .. }));
    }
    Ok(begin.chain(removal).chain(end).collect())
}

/// What is to be done instead, where Helm has made a proxy: it could not remove the rest.
fn helm_uninstall(facts: &Facts) -> Option<String> {
    let mut objects = facts.objects.iter();
    let (found, release) = objects.find_map(|found| Some((found, found.release.as_ref()?)))?;
    let (kind, name) = (found.kind, &found.name);
    let namespace = found.namespace.as_deref().unwrap_or_default();
    Some(format!(
        "{kind} {name} is of the Helm release {release}. Remove that first, which wakes what sleeps:\n  \
         helm uninstall -n {namespace} {release}\nThen run this again, for what is left on the app.\n"
    ))
}

/// What is done once no proxy has the apps. One may have put an app to sleep until it had ended,
/// or renewed its lease.
fn end(facts: &Facts, is_removed: bool) -> Vec<Step<'_>> {
    let there = facts.apps.iter().filter(|app| !app.target.is_null());
    let touched = there.filter(|app| is_removed || is_asleep(app) || is_marked(app));
    let touched: Vec<&App> = touched.collect();
    let awake = touched.iter().filter(|_| is_removed);
    let awake = awake.map(|app| Step::SeeAwake {
        replicas: replicas(app),
        app,
    });
    let forget = touched.iter().map(|app| Step::ForgetTarget { app });
    awake.chain(forget).collect()
}

/// What takes the proxies away from before the apps.
fn removal(facts: &Facts) -> Vec<Step<'_>> {
    let mut steps: Vec<Step<'_>> = forget_services(facts).collect();
    let edits = facts.shared.iter().filter_map(|proxy| {
        let apps: Vec<Key> = listed(proxy, &facts.apps).collect();
        (!apps.is_empty()).then_some(Step::EditList { proxy, apps })
    });
    steps.extend(edits);
    // A proxy that drains keeps its permissions.
    let (programs, others): (Vec<&Found>, Vec<&Found>) = facts
        .objects
        .iter()
        .partition(|found| found.plural == "deployments");
    steps.extend(programs.into_iter().map(Step::Delete));
    if !facts.pods.is_empty() {
        steps.push(Step::AwaitPods(&facts.pods));
    }
    steps.extend(others.into_iter().map(Step::Delete));
    let is_left = facts.objects.is_empty() && facts.apps.iter().any(is_marked);
    let others = facts.others.iter().filter(|_| is_left);
    let proxies: Vec<&Proxy> = facts.shared.iter().chain(others).collect();
    if !proxies.is_empty() {
        let apps = &facts.apps[..];
        steps.push(Step::AwaitRelease { proxies, apps });
    }
    steps
}

/// Those of the apps that are in the list of a proxy.
pub fn listed(proxy: &Proxy, apps: &[App]) -> impl Iterator<Item = Key> {
    let list = match &proxy.serves {
        Serves::List(list) => &list.apps[..],
        _ => &[],
    };
    let is_meant = |key: &&Key| apps.iter().any(|app| app.key == **key);
    list.iter().filter(is_meant).cloned()
}

fn forget_services(facts: &Facts) -> impl Iterator<Item = Step<'_>> {
    let apps = facts
        .apps
        .iter()
        .filter(|app| !app.service_traces().is_empty());
    apps.map(|app| Step::ForgetService { app })
}

/// What gives an app its Service back, if a proxy has taken that over.
fn restore(app: &App) -> Option<Result<Step<'_>, String>> {
    let service = app.service.as_ref().filter(|_| app.is_taken_over)?;
    let patch = app.pods_service.as_ref();
    let patch = patch.and_then(|pods| takeover::restored(service, pods));
    Some(match patch {
        Some(patch) => Ok(Step::Restore { app, patch }),
        None => Err(format!(
            "the Service {0} leads to the proxy (--take-over), and what it has led to is not known: \
             apply your own Service {0} again first\n",
            app.service_name
        )),
    })
}

/// The replicas that a wake sets.
fn replicas(app: &App) -> u32 {
    remembered(&app.target).unwrap_or(app.wake_replicas)
}

/// Whether a proxy has left something on the scale target.
fn is_marked(app: &App) -> bool {
    !Traces::of(&app.target).is_empty()
}

fn is_asleep(app: &App) -> bool {
    app.target["spec"]["replicas"] == 0
}

/// The list of a proxy without these apps.
pub fn shortened(proxy: &Proxy, apps: &[Key]) -> Option<String> {
    let Serves::List(list) = &proxy.serves else {
        return None;
    };
    let places = list.apps.iter().enumerate();
    let places = places.filter(|(_, key)| apps.contains(key));
    let places: Vec<usize> = places.map(|(place, _)| place).collect();
    Some(list::without(&list.text, &places))
}

impl fmt::Display for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Wake { app, replicas } => {
                write!(f, "wake {}: scale it to {replicas}", app.key.label())
            }
            Step::SeeAwake { app, .. } => {
                write!(f, "see that {} is awake, or wake it again", app.key.label())
            }
            Step::AwaitReady { app } => {
                write!(f, "wait until a pod of {} is ready", app.key.label())
            }
            Step::Restore { app, .. } => {
                write!(
                    f,
                    "lead the Service {} to the app's pods again",
                    app.service_name
                )
            }
            Step::EditList { proxy, apps } => {
                let names: Vec<String> = apps.iter().map(Key::label).collect();
                let map = match &proxy.serves {
                    Serves::List(list) => &list.source.config_map,
                    _ => "",
                };
                write!(f, "take {} out of the ConfigMap {map}", names.join(", "))
            }
            Step::ForgetService { app } => {
                let traces = app.service_traces();
                let names: Vec<&str> = traces.names().collect();
                write!(
                    f,
                    "remove from the Service {}: {}",
                    app.service_name,
                    names.join(", ")
                )
            }
            Step::Delete(Found { kind, name, .. }) => write!(f, "delete the {kind} {name}"),
            Step::AwaitPods(_) => f.write_str("wait until the pods of the proxies have ended"),
            Step::AwaitRelease { proxies, .. } => {
                let names: Vec<String> = proxies.iter().map(|proxy| proxy.label()).collect();
                write!(f, "wait until {} has let go", names.join(" and "))
            }
            Step::ForgetTarget { app } => write!(
                f,
                "remove the conditions and annotations of zpa from {}",
                app.key.label()
            ),
        }
    }
}

#[cfg(test)]
mod tests;
