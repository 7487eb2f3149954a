//! [`NamedWatches`]: the watches of single objects by name, where those of their collection may not
//! be watched together: `resourceNames` in a Role allows a list and a watch that select one object
//! by its name, and no other (recordings 35 to 37).
//!
//! Each takes a thread and a connection, so that there are few: those of the apps that were added
//! first. The objects of the others are read in turn. When an app is removed, the next one that
//! was added takes its place.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::relist::RelistSignal;
use super::super::scheduler::AppKey;

/// The most objects that are watched by name.
pub(super) const MAX_NAMED_WATCHES: usize = 4;

/// A watch, which ends when it is dropped.
pub(super) struct NamedWatch(pub(super) Arc<RelistSignal>);

impl Drop for NamedWatch {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The watches by name, `W` each.
pub(super) struct NamedWatches<W> {
    /// The paths of the collections that may not be watched.
    refused: BTreeSet<String>,
    /// By app, each with a number that no other has had.
    open: BTreeMap<AppKey, (u64, W)>,
    last: u64,
}

impl<W> Default for NamedWatches<W> {
    fn default() -> Self {
        NamedWatches {
            refused: BTreeSet::new(),
            open: BTreeMap::new(),
            last: 0,
        }
    }
}

impl<W> NamedWatches<W> {
    /// A collection may not be watched. Returns whether it might before.
    pub(super) fn refused(&mut self, path: &str) -> bool {
        self.refused.insert(path.to_owned())
    }

    /// A collection is watched. Returns whether it could not be before.
    pub(super) fn granted(&mut self, path: &str) -> bool {
        self.refused.remove(path)
    }

    /// Closes the watches of objects whose collection is watched, and returns the apps whose
    /// objects are to be watched by name, with a number for each. `located` are all apps, each
    /// with the path of its collection.
    pub(super) fn choose<'a>(
        &mut self,
        located: impl Iterator<Item = (AppKey, &'a str)>,
    ) -> Vec<(AppKey, u64)> {
        let refused = located.filter(|(_, path)| self.refused.contains(*path));
        let apps: BTreeSet<AppKey> = refused.map(|(app, _)| app).collect();
        self.open.retain(|app, _| apps.contains(app));
        let free = MAX_NAMED_WATCHES.saturating_sub(self.open.len());
        let unwatched = apps.into_iter().filter(|app| !self.open.contains_key(app));
        let numbers = self.last + 1..;
        let chosen: Vec<_> = unwatched.take(free).zip(numbers).collect();
        self.last += chosen.len() as u64;
        chosen
    }

    /// A watch that was chosen is open.
    pub(super) fn open(&mut self, app: AppKey, number: u64, watch: W) {
        self.open.insert(app, (number, watch));
    }

    /// Ends the watch of an app, if it has one.
    pub(super) fn close(&mut self, app: AppKey) {
        self.open.remove(&app);
    }

    /// The watch of an app.
    pub(super) fn get(&self, app: AppKey) -> Option<&W> {
        self.open.get(&app).map(|(_, watch)| watch)
    }

    /// Whether the object of an app is watched by name.
    pub(super) fn is_open(&self, app: AppKey) -> bool {
        self.open.contains_key(&app)
    }

    /// The number of the watch of an app.
    pub(super) fn number(&self, app: AppKey) -> Option<u64> {
        self.open.get(&app).map(|(number, _)| *number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATHS: [&str; 2] = ["deployments", "statefulsets"];

    /// Apps 0 to 9, of which those with an odd number are StatefulSets.
    struct Apps {
        watches: NamedWatches<()>,
        located: BTreeMap<AppKey, &'static str>,
    }

    impl Apps {
        fn new() -> Apps {
            let located = (0..10).map(|app| (app, PATHS[app as usize % 2]));
            Apps {
                watches: NamedWatches::default(),
                located: located.collect(),
            }
        }

        /// The apps that are watched by name after the choice.
        fn choose(&mut self) -> Vec<AppKey> {
            let located = self.located.iter().map(|(&app, &path)| (app, path));
            for (app, number) in self.watches.choose(located) {
                self.watches.open(app, number, ());
            }
            self.watches.open.keys().copied().collect()
        }
    }

    #[test]
    fn nothing_is_watched_by_name_while_all_are_watched_together() {
        let mut apps = Apps::new();
        assert!(apps.choose().is_empty());
        assert!(!apps.watches.granted(PATHS[0]), "it never was refused");
    }

    #[test]
    fn the_first_four_of_a_refused_collection_are_watched_until_it_is_granted() {
        let mut apps = Apps::new();
        assert!(apps.watches.refused(PATHS[1]));
        assert!(!apps.watches.refused(PATHS[1]), "no news");
        assert_eq!(apps.choose(), [1, 3, 5, 7]);
        assert!(apps.watches.granted(PATHS[1]));
        assert!(apps.choose().is_empty());
    }

    #[test]
    fn who_is_watched_stays_and_who_was_added_first_follows_an_app_that_leaves() {
        let mut apps = Apps::new();
        apps.watches.refused(PATHS[1]);
        apps.choose();
        assert!(apps.watches.refused(PATHS[0]));
        assert_eq!(apps.choose(), [1, 3, 5, 7], "though app 0 came first");
        apps.located.remove(&3);
        assert_eq!(apps.choose(), [0, 1, 5, 7]);
    }

    #[test]
    fn a_watch_that_is_opened_again_has_another_number() {
        let mut apps = Apps::new();
        apps.watches.refused(PATHS[0]);
        apps.choose();
        let first = apps.watches.number(2);
        apps.watches.close(2);
        assert_eq!(apps.watches.number(2), None);
        apps.choose();
        assert!(apps.watches.number(2) > first, "{first:?}");
    }
}
