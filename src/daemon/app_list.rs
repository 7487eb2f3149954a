//! [`AppList`]: the list of apps while the process runs: the list that is still to be put into
//! force, and why the last one is not.

use std::path::PathBuf;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use log::{info, warn};

use super::app_spec::AppSpec;
use super::list_file;
use crate::clock::Time;

/// The interval of the attempts to put a list into force after a failure: an address may be
/// free by then.
const RETRY: Duration = Duration::from_secs(5);

/// The list of apps.
pub(super) struct AppList {
    path: PathBuf,
    updates: Receiver<list_file::Update>,
    /// The list that is to be put into force, and when.
    pending: Option<(Vec<AppSpec>, Time)>,
    /// Why the last list is not in force, a line each; empty if it is.
    errors: Vec<String>,
    /// How many lists were put into force since the start.
    taken: u64,
    /// How many were refused.
    refused: u64,
}

impl AppList {
    /// The list at `path`, which is in force.
    pub(super) fn new(path: PathBuf, updates: Receiver<list_file::Update>) -> AppList {
        AppList {
            path,
            updates,
            pending: None,
            errors: Vec::new(),
            taken: 0,
            refused: 0,
        }
    }

    pub(super) fn path(&self) -> &PathBuf {
        &self.path
    }

    /// Why the last list is not in force, a line each; empty if it is.
    pub(super) fn errors(&self) -> &[String] {
        &self.errors
    }

    /// How many lists were put into force since the start, and how many not.
    pub(super) fn counts(&self) -> [([&'static str; 1], u64); 2] {
        [(["taken"], self.taken), (["refused"], self.refused)]
    }

    /// When [`AppList::next`] returns a list without a new update.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        self.pending.as_ref().map(|(_, at)| *at)
    }

    /// The list that is to be put into force now.
    pub(super) fn next(&mut self, now: Time) -> Option<Vec<AppSpec>> {
        while let Ok(list) = self.updates.try_recv() {
            match list {
                Ok(specs) => self.pending = Some((specs, now)),
                Err(lines) => {
                    self.pending = None;
                    self.refuse(lines);
                }
            }
        }
        let (specs, _) = self.pending.take_if(|(_, at)| *at <= now)?;
        Some(specs)
    }

    /// The list was put into force.
    pub(super) fn set_in_force(&mut self) {
        self.taken += 1;
        self.errors.clear();
        info!("the list of apps {} is in force", self.path.display());
    }

    /// The list cannot be put into force now; it is tried again.
    pub(super) fn retry_later(&mut self, specs: Vec<AppSpec>, lines: Vec<String>, now: Time) {
        self.pending = Some((specs, now + RETRY));
        self.refuse(lines);
    }

    /// Logs the errors, unless they are those that were logged last.
    fn refuse(&mut self, lines: Vec<String>) {
        if self.errors == lines {
            return;
        }
        self.refused += 1;
        warn!("the list of apps cannot be put into force, and the apps stay as they are:");
        lines.iter().for_each(|line| warn!("{line}"));
        self.errors = lines;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn at(seconds: u64) -> Time {
        Time::new(Duration::from_secs(seconds))
    }

    #[test]
    fn a_list_is_taken_at_once_and_one_that_is_wrong_changes_nothing() {
        let (sender, updates) = mpsc::channel();
        let mut list = AppList::new("/apps.json".into(), updates);
        assert_eq!(list.next(at(1)), None);
        sender.send(Err(vec!["wrong".to_owned()])).unwrap();
        assert_eq!(list.next(at(2)), None);
        assert_eq!(list.errors(), ["wrong"]);
        sender.send(Ok(Vec::new())).unwrap();
        assert_eq!(list.next(at(3)), Some(Vec::new()));
        list.set_in_force();
        assert_eq!(list.errors(), [] as [&str; 0]);
        assert_eq!(list.counts(), [(["taken"], 1), (["refused"], 1)]);
        assert_eq!(list.poll_timeout(), None);
    }

    #[test]
    fn a_list_that_cannot_be_put_into_force_is_tried_again_until_there_is_another() {
        let (sender, updates) = mpsc::channel();
        let mut list = AppList::new("/apps.json".into(), updates);
        sender.send(Ok(Vec::new())).unwrap();
        let specs = list.next(at(1)).unwrap();
        list.retry_later(specs, vec!["in use".to_owned()], at(1));
        assert_eq!(list.next(at(2)), None);
        assert_eq!(list.poll_timeout(), Some(at(6)));
        let specs = list.next(at(6)).unwrap();
        list.retry_later(specs, vec!["in use".to_owned()], at(6));
        assert_eq!(list.counts(), [(["taken"], 0), (["refused"], 1)], "once");
        sender.send(Err(vec!["gone".to_owned()])).unwrap();
        assert_eq!(list.next(at(11)), None);
        assert_eq!(list.errors(), ["gone"]);
    }
}
