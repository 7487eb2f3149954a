//! A [`Plan`] is what an app is to be: its settings, and what they have in files.
//!
//! [`changes`] compares the plans of a list with those of the apps that there are.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::engine::AppId;
use crate::rules::Rules;
use crate::settings::Settings;
use crate::settings::apps::LONGEST;

/// What an app is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Its settings, which name its namespace.
    pub settings: Settings,
    /// The rules about its clients, with what they have in a file.
    pub rules: Rules,
}

/// The plan of the only app of a process.
///
/// # Errors
/// Why a file that a setting names is of no use.
pub fn of_only_app(process: &Settings, namespace: &str) -> Result<Plan, String> {
    let mut settings = process.clone();
    settings.namespace = Some(namespace.to_owned());
    plan(settings)
}

/// The text of the list; one byte more than allowed of a list that is too long.
///
/// # Errors
/// Why it cannot be read, as the only line.
pub fn read_list(file: &Path) -> Result<Vec<u8>, Vec<String>> {
    let read = || -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        File::open(file)?
            .take(LONGEST as u64 + 1)
            .read_to_end(&mut text)?;
        Ok(text)
    };
    read().map_err(|why| vec![format!("{}: cannot be read: {why}", subject(file))])
}

/// The plans of the apps of a list with that text.
///
/// # Errors
/// All that is wrong in it, a line each.
pub fn of_list(process: &Settings, text: &[u8], namespace: &str) -> Result<Vec<Plan>, Vec<String>> {
    let subject = process.apps.as_deref().map(subject).unwrap_or_default();
    let line = |why: &str| format!("{subject}: {why}");
    let apps = process
        .read_apps(text, namespace)
        .map_err(|errors| errors.lines().map(line).collect::<Vec<_>>())?;
    let (mut plans, mut errors) = (Vec::new(), Vec::new());
    for app in apps {
        let name = app.target_ref.label().to_owned();
        match plan(app) {
            Ok(plan) => plans.push(plan),
            Err(why) => errors.push(line(&format!("{name}: {why}"))),
        }
    }
    match errors.is_empty() {
        true => Ok(plans),
        false => Err(errors),
    }
}

/// What messages about a list begin with.
fn subject(file: &Path) -> String {
    format!("--apps (ZPA_APPS) {}", file.display())
}

fn plan(settings: Settings) -> Result<Plan, String> {
    let mut rules = settings.rules.clone();
    if let Some(answer) = &settings.rules.hold_answer {
        let loaded = answer.load(|path| std::fs::read(path)).map_err(|why| {
            let setting = settings.given("hold-answer");
            format!("{setting} {answer}: {why}; use e.g. postgres, http, or the path of a file")
        })?;
        rules.hold_answer = Some(loaded);
    }
    Ok(Plan { settings, rules })
}

/// The difference between the apps that there are and those that there are to be.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Those that are to leave.
    pub gone: Vec<AppId>,
    /// Those that are to start, with the place that they have in the list.
    pub new: Vec<Plan>,
    /// Those that change while they run.
    pub live: Vec<Live>,
}

/// An app that changes while it runs.
#[derive(Debug, PartialEq, Eq)]
pub struct Live {
    /// The app.
    pub id: AppId,
    /// What it is to be.
    pub plan: Plan,
    /// Whether its policy changes.
    pub has_other_policy: bool,
}

/// The changes that lead from the apps that there are to those of `wanted`.
///
/// An app is the same while its scale target is. One that leads elsewhere (another Service,
/// port or target), or listens elsewhere, leaves and starts anew.
pub fn changes(present: &BTreeMap<AppId, Plan>, wanted: Vec<Plan>) -> Changes {
    let mut changes = Changes::default();
    let mut left: BTreeMap<_, _> = present
        .iter()
        .map(|(&id, plan)| (key(plan), (id, plan)))
        .collect();
    for plan in wanted {
        match left.remove(&key(&plan)) {
            None => changes.new.push(plan),
            Some((_, before)) if *before == plan => {}
            Some((id, before)) if place(before) == place(&plan) => changes.live.push(Live {
                id,
                has_other_policy: policy(before) != policy(&plan),
                plan,
            }),
            Some((id, _)) => {
                changes.gone.push(id);
                changes.new.push(plan);
            }
        }
    }
    changes.gone.extend(left.into_values().map(|(id, _)| id));
    changes
}

/// What an app is known by.
fn key(plan: &Plan) -> (Option<String>, String) {
    let settings = &plan.settings;
    (settings.namespace.clone(), settings.target_ref.to_string())
}

/// Where an app's connections come from and go to, and the thread that its gate takes.
fn place(plan: &Plan) -> impl PartialEq + use<> {
    let settings = plan.settings.clone();
    (
        settings.service,
        settings.port,
        settings.target,
        settings.listen,
        settings.ready_gate,
    )
}

/// What an app's policy keeps to.
fn policy(plan: &Plan) -> impl PartialEq + use<> {
    let settings = &plan.settings;
    (
        settings.idle_ttl,
        settings.wake_replicas,
        settings.min_awake,
        settings.wakes_per_minute,
        settings.single_proxy,
    )
}

#[cfg(test)]
mod tests;
