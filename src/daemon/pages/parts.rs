//! The parts of `/status` about what the process has for its apps.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Serialize;

use super::super::discovery;
use super::super::drain::Drain;
use super::super::source_files::SourceFiles;
use super::seconds;
use crate::clock::Time;
use crate::kube::Webhook;

/// The drain after a signal.
#[derive(Serialize)]
pub(super) struct DrainState {
    /// Whether connections are still accepted.
    pub(super) accepting: bool,
    /// Since the signal.
    pub(super) for_seconds: f64,
    /// Until no connections are accepted any more, or until those that are open are reset.
    pub(super) left_seconds: f64,
}

impl DrainState {
    /// `None` if no signal has come.
    pub(super) fn of(drain: Drain, now: Time) -> Option<DrainState> {
        let (accepting, since, until) = match drain {
            Drain::NotBegun => return None,
            Drain::Delay { since, until } => (true, since, until),
            Drain::Finish { since, until, .. } => (false, since, until),
        };
        Some(DrainState {
            accepting,
            for_seconds: seconds(now.since(since)),
            left_seconds: seconds(until.since(now)),
        })
    }
}

/// The list of apps.
#[derive(Serialize)]
pub(super) struct ListState<'a> {
    pub(super) file: String,
    /// What is wrong in it, so that it is not in force.
    pub(super) wrong: &'a [String],
}

/// A file with networks of clients.
#[derive(Serialize)]
pub(super) struct SourceFile<'a> {
    pub(super) file: String,
    /// How many networks of it are in force.
    pub(super) networks: usize,
    /// What is wrong in it, so that older ones are in force.
    pub(super) wrong: &'a [String],
}

/// The apps that are found by their Services.
#[derive(Serialize)]
pub(super) struct DiscoveryState<'a> {
    /// The label selector of the Services.
    pub(super) services: &'a str,
    /// Why they cannot be listed and watched.
    pub(super) problem: Option<&'a str>,
    /// How many have no annotation that makes them apps.
    pub(super) without_listen: usize,
    /// How many are wrong, of which not all may be shown.
    pub(super) wrong_services: usize,
    pub(super) wrong: Vec<discovery::Wrong<'a>>,
}

/// An address at which server names choose the app.
#[derive(Serialize)]
pub(super) struct ByServerName {
    pub(super) listen: SocketAddr,
    /// How many clients have not sent their name yet.
    pub(super) waiting: usize,
    /// How many were refused, by the reason.
    pub(super) refused: BTreeMap<&'static str, u64>,
}

/// The webhook of an app, without its URL.
#[derive(Serialize)]
pub(super) struct WebhookState {
    /// Why its receiver takes no events.
    pub(super) problem: Option<String>,
    /// The number of events since the start, by what was done with them.
    pub(super) events: BTreeMap<&'static str, u64>,
}

impl WebhookState {
    pub(super) fn of(webhook: &Webhook) -> WebhookState {
        let counts = webhook.counts().into_iter();
        WebhookState {
            problem: webhook.trouble(),
            events: counts.map(|([result], count)| (result, count)).collect(),
        }
    }
}

impl<'a> SourceFile<'a> {
    /// Those that there are.
    pub(super) fn all(sources: &'a SourceFiles) -> Vec<SourceFile<'a>> {
        let files = sources.files().into_iter();
        let file = |(path, networks, wrong): (PathBuf, usize, &'a [String])| SourceFile {
            file: path.display().to_string(),
            networks,
            wrong,
        };
        files.map(file).collect()
    }
}
