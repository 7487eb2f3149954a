//! [`AppSpec`]: the desired state of an app: its settings, with the contents of the files that
//! they name.
//!
//! [`changes`] compares the specs of a list with those of the apps that run.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::source_files::SourceLists;
use crate::engine::AppId;
use crate::rules::Rules;
use crate::rules::ready_gate::ReadyGate;
use crate::settings::Settings;
use crate::settings::annotations::LISTEN;
use crate::settings::apps::MAX_LIST_LEN;

/// The desired state of an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppSpec {
    /// Its settings, which name its namespace.
    pub settings: Settings,
    /// The rules about its clients, with the contents of their files.
    pub rules: Rules,
}

/// The spec of the only app of a process.
///
/// # Errors
/// Why a file that a setting names cannot be used.
pub fn of_only_app(
    process: &Settings,
    namespace: &str,
    lists: &SourceLists,
) -> Result<AppSpec, String> {
    let mut settings = process.clone();
    settings.namespace = Some(namespace.to_owned());
    spec(settings, lists)
}

/// The text of the list; one byte more than allowed of a list that is too long.
///
/// # Errors
/// Why it cannot be read, as the only line.
pub fn read_list(file: &Path) -> Result<Vec<u8>, Vec<String>> {
    let read = || -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        File::open(file)?
            .take(MAX_LIST_LEN as u64 + 1)
            .read_to_end(&mut text)?;
        Ok(text)
    };
    read().map_err(|why| vec![format!("{}: cannot be read: {why}", subject(file))])
}

/// The specs of the apps of a list with that text.
///
/// # Errors
/// All its errors, a line each.
pub fn of_list(
    process: &Settings,
    text: &[u8],
    namespace: &str,
    lists: &SourceLists,
) -> Result<Vec<AppSpec>, Vec<String>> {
    let subject = process.apps.as_deref().map(subject).unwrap_or_default();
    let line = |why: &str| format!("{subject}: {why}");
    let apps = process
        .read_apps(text, namespace)
        .map_err(|errors| errors.lines().map(line).collect::<Vec<_>>())?;
    let (mut specs, mut errors) = (Vec::new(), Vec::new());
    for app in apps {
        let name = app.target_ref.label().to_owned();
        match spec(app, lists) {
            Ok(spec) => specs.push(spec),
            Err(why) => errors.push(line(&format!("{name}: {why}"))),
        }
    }
    match errors.is_empty() {
        true => Ok(specs),
        false => Err(errors),
    }
}

/// The spec of the app that a Service describes by its annotations, whose names are without
/// `zero-pod-autoscaler/`; `None` if it describes none.
///
/// # Errors
/// All that is wrong in them, a line each.
pub fn of_service(
    process: &Settings,
    namespace: &str,
    service: &str,
    annotations: &BTreeMap<String, String>,
    lists: &SourceLists,
) -> Result<Option<AppSpec>, Vec<String>> {
    if !annotations.contains_key(LISTEN) {
        return Ok(None);
    }
    let settings = process.read_annotations(namespace, service, annotations);
    let settings = settings.map_err(|errors| errors.lines().map(str::to_owned).collect::<Vec<_>>());
    spec(settings?, lists).map(Some).map_err(|why| vec![why])
}

/// The beginning of messages about a list.
fn subject(file: &Path) -> String {
    format!("--apps (ZPA_APPS) {}", file.display())
}

fn spec(settings: Settings, lists: &SourceLists) -> Result<AppSpec, String> {
    let mut rules = settings.rules.clone();
    lists.load(&settings)?;
    rules.sources = lists.sources(&settings);
    if let Some(answer) = &settings.rules.hold_answer {
        let loaded = answer.load(|path| std::fs::read(path)).map_err(|why| {
            let setting = settings.given("hold-answer");
            format!("{setting} {answer}: {why}; use e.g. postgres, http, or the path of a file")
        })?;
        rules.hold_answer = Some(loaded);
    }
    let page = &settings.rules.waiting_page;
    let loaded = page.load(settings.target_ref.label(), |path| std::fs::read(path));
    rules.waiting_page = loaded.map_err(|why| {
        let setting = settings.given("waiting-page");
        format!("{setting} {page}: {why}; use e.g. built-in, or the path of a file")
    })?;
    rules.awaits_greeting = settings.ready_gate == ReadyGate::Greeting;
    Ok(AppSpec { settings, rules })
}

/// The difference between the apps that run and those that are wanted.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The apps to end.
    pub removed: Vec<AppId>,
    /// The apps to start, in the order of the list.
    pub added: Vec<AppSpec>,
    /// The apps to change while they run.
    pub updated: Vec<Update>,
}

/// The change of an app that goes on running.
#[derive(Debug, PartialEq, Eq)]
pub struct Update {
    /// The app.
    pub id: AppId,
    /// Its new spec.
    pub spec: AppSpec,
    /// Whether its policy changes.
    pub is_policy_changed: bool,
}

/// The changes that make the apps that run those of `wanted`.
///
/// An app is identified by its scale target. If its Service, port, target or listen address
/// changes, it is ended and started again.
pub fn changes(running: &BTreeMap<AppId, AppSpec>, wanted: Vec<AppSpec>) -> Changes {
    let mut changes = Changes::default();
    let mut left: BTreeMap<_, _> = running
        .iter()
        .map(|(&id, spec)| (identity(spec), (id, spec)))
        .collect();
    for spec in wanted {
        match left.remove(&identity(&spec)) {
            None => changes.added.push(spec),
            Some((_, before)) if *before == spec => {}
            Some((id, before)) if fixed(before) == fixed(&spec) => changes.updated.push(Update {
                id,
                is_policy_changed: policy(before) != policy(&spec),
                spec,
            }),
            Some((id, _)) => {
                changes.removed.push(id);
                changes.added.push(spec);
            }
        }
    }
    changes.removed.extend(left.into_values().map(|(id, _)| id));
    changes
}

/// What identifies an app: its namespace, and what is scaled.
pub type Identity = (Option<String>, String);

/// The identity of an app.
pub fn identity(spec: &AppSpec) -> Identity {
    let settings = &spec.settings;
    (settings.namespace.clone(), settings.target_ref.to_string())
}

/// The settings that cannot change while the app runs: where its connections come from and go
/// to, and whether it has a thread that dials starting pods.
fn fixed(spec: &AppSpec) -> impl PartialEq + use<> {
    let settings = spec.settings.clone();
    (
        settings.service,
        settings.port,
        settings.target,
        settings.backup_target,
        settings.listen,
        // Whether it has its listeners alone: a list with other names is no other place.
        settings.server_names.is_empty(),
        settings.ready_gate,
    )
}

/// The settings of an app's policy.
fn policy(spec: &AppSpec) -> impl PartialEq + use<> {
    let settings = &spec.settings;
    (
        settings.idle_ttl,
        settings.wake_replicas,
        settings.min_awake,
        settings.min_asleep,
        settings.wakes_per_minute,
        settings.single_proxy,
        settings.dry_run,
    )
}

#[cfg(test)]
mod tests;
