//! A [`List`] is the list of apps while the process runs: what is to be put into force of it,
//! and what is wrong with it.

use std::path::PathBuf;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use log::{info, warn};

use super::list_file;
use super::plan::Plan;
use crate::clock::Time;

/// The interval at which it is tried to put a list into force again that could not be: an
/// address may be free by then.
const RETRY: Duration = Duration::from_secs(5);

/// The list of apps.
pub(super) struct List {
    path: PathBuf,
    news: Receiver<list_file::List>,
    /// What is to be put into force, and when.
    pending: Option<(Vec<Plan>, Time)>,
    /// Why the last list is not in force, a line each; none if it is.
    wrong: Vec<String>,
    /// How many lists were put into force since the start.
    taken: u64,
    /// How many were not.
    refused: u64,
}

impl List {
    /// The list at `path`, which is in force.
    pub(super) fn new(path: PathBuf, news: Receiver<list_file::List>) -> List {
        List {
            path,
            news,
            pending: None,
            wrong: Vec::new(),
            taken: 0,
            refused: 0,
        }
    }

    pub(super) fn path(&self) -> &PathBuf {
        &self.path
    }

    /// Why the last list is not in force, a line each; none if it is.
    pub(super) fn wrong(&self) -> &[String] {
        &self.wrong
    }

    /// How many lists were put into force since the start, and how many not.
    pub(super) fn counts(&self) -> [([&'static str; 1], u64); 2] {
        [(["taken"], self.taken), (["refused"], self.refused)]
    }

    /// When [`List::next`] may return something though nothing is reported.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        self.pending.as_ref().map(|(_, at)| *at)
    }

    /// What is to be put into force now.
    pub(super) fn next(&mut self, now: Time) -> Option<Vec<Plan>> {
        while let Ok(list) = self.news.try_recv() {
            match list {
                Ok(plans) => self.pending = Some((plans, now)),
                Err(lines) => {
                    self.pending = None;
                    self.refuse(lines);
                }
            }
        }
        let (plans, _) = self.pending.take_if(|(_, at)| *at <= now)?;
        Some(plans)
    }

    /// A list is in force.
    pub(super) fn take(&mut self) {
        self.taken += 1;
        self.wrong.clear();
        info!("the list of apps {} is in force", self.path.display());
    }

    /// A list cannot be put into force, and is tried again.
    pub(super) fn put_off(&mut self, plans: Vec<Plan>, lines: Vec<String>, now: Time) {
        self.pending = Some((plans, now + RETRY));
        self.refuse(lines);
    }

    /// Logs what is wrong, unless it was said already.
    fn refuse(&mut self, lines: Vec<String>) {
        if self.wrong == lines {
            return;
        }
        self.refused += 1;
        warn!("the list of apps is wrong, and the apps stay as they are:");
        lines.iter().for_each(|line| warn!("{line}"));
        self.wrong = lines;
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
        let (sender, news) = mpsc::channel();
        let mut list = List::new("/apps.json".into(), news);
        assert_eq!(list.next(at(1)), None);
        sender.send(Err(vec!["wrong".to_owned()])).unwrap();
        assert_eq!(list.next(at(2)), None);
        assert_eq!(list.wrong(), ["wrong"]);
        sender.send(Ok(Vec::new())).unwrap();
        assert_eq!(list.next(at(3)), Some(Vec::new()));
        list.take();
        assert_eq!(list.wrong(), [] as [&str; 0]);
        assert_eq!(list.counts(), [(["taken"], 1), (["refused"], 1)]);
        assert_eq!(list.poll_timeout(), None);
    }

    #[test]
    fn a_list_that_cannot_be_put_into_force_is_tried_again_until_there_is_another() {
        let (sender, news) = mpsc::channel();
        let mut list = List::new("/apps.json".into(), news);
        sender.send(Ok(Vec::new())).unwrap();
        let plans = list.next(at(1)).unwrap();
        list.put_off(plans, vec!["in use".to_owned()], at(1));
        assert_eq!(list.next(at(2)), None);
        assert_eq!(list.poll_timeout(), Some(at(6)));
        let plans = list.next(at(6)).unwrap();
        list.put_off(plans, vec!["in use".to_owned()], at(6));
        assert_eq!(list.counts(), [(["taken"], 0), (["refused"], 1)], "once");
        sender.send(Err(vec!["gone".to_owned()])).unwrap();
        assert_eq!(list.next(at(11)), None);
        assert_eq!(list.wrong(), ["gone"]);
    }
}
