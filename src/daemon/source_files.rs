//! [`SourceLists`]: the networks of the files that `--ignore-sources` and `--deny-sources` name.
//! [`watch`] makes the closure that watches these files, and [`SourceFiles`] is what the daemon
//! knows of them.
//!
//! A file is looked at like the list of apps (`list_file`), by the same threads. The apps share
//! what was read. A file that is wrong, or gone, leaves in force what was read of it last, and at
//! the start it is an error.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use log::warn;

use super::watched_file::{Seen, stamp};
use crate::rules::sources::{Networks, Sources};
use crate::settings::Settings;
use crate::supervisor;

/// The longest file, in bytes: a ConfigMap has at most as many.
const MAX_FILE_LEN: u64 = 1 << 20;

/// The networks of each file that was read, which the threads share.
#[derive(Clone, Default)]
pub struct SourceLists(Arc<Mutex<BTreeMap<PathBuf, Networks>>>);

/// A file that was read again.
pub struct Update {
    path: PathBuf,
    /// Whether it has other networks than before, or all that is wrong, a line each.
    result: Result<bool, Vec<String>>,
}

impl SourceLists {
    /// Reads the files that the settings name, if they were not read yet.
    ///
    /// # Errors
    /// Which of them cannot be used, and why.
    pub fn load(&self, settings: &Settings) -> Result<(), String> {
        let files = &settings.rules.sources.files;
        let ignored = files.ignored.iter().map(|path| ("ignore-sources", path));
        let denied = files.denied.iter().map(|path| ("deny-sources", path));
        for (flag, path) in ignored.chain(denied) {
            if self.lock().contains_key(path) {
                continue;
            }
            let networks = read(path).and_then(|text| parse(&text));
            let networks = networks.map_err(|lines| {
                let (setting, shown) = (settings.given(flag), path.display());
                format!("{setting} @{shown}: {}", lines.join("; "))
            })?;
            self.lock().insert(path.clone(), networks);
        }
        Ok(())
    }

    /// The networks that the settings have, with those of the files that they name.
    pub fn sources(&self, settings: &Settings) -> Sources {
        let mut sources = settings.rules.sources.clone();
        let read = self.lock();
        let files = &settings.rules.sources.files;
        for (networks, files) in [
            (&mut sources.ignored, &files.ignored),
            (&mut sources.denied, &files.denied),
        ] {
            for more in files.iter().filter_map(|path| read.get(path)) {
                networks.add(more);
            }
        }
        sources
    }

    /// Replaces the networks of a file; returns whether they are others.
    fn replace(&self, path: &Path, networks: Networks) -> bool {
        let before = self.lock().insert(path.to_owned(), networks.clone());
        before != Some(networks)
    }

    fn paths(&self) -> Vec<PathBuf> {
        self.lock().keys().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Networks>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The text of a file.
fn read(path: &Path) -> Result<Vec<u8>, Vec<String>> {
    let line = |why: String| vec![why];
    let mut text = Vec::new();
    let file = File::open(path).map_err(|why| line(format!("cannot be read: {why}")))?;
    file.take(MAX_FILE_LEN + 1)
        .read_to_end(&mut text)
        .map_err(|why| line(format!("cannot be read: {why}")))?;
    match text.len() as u64 {
        ..=MAX_FILE_LEN => Ok(text),
        _ => Err(line(format!("has more than {MAX_FILE_LEN} bytes"))),
    }
}

fn parse(text: &[u8]) -> Result<Networks, Vec<String>> {
    match std::str::from_utf8(text) {
        Ok(text) => Networks::of_lines(text),
        Err(_) => Err(vec!["is not UTF-8".to_owned()]),
    }
}

/// A closure that looks at the files, replaces the networks of each that has changed, and calls
/// `report`. It does not panic.
pub fn watch(lists: SourceLists, report: impl Fn(Update) + Send + 'static) -> impl FnMut() + Send {
    let mut seen: BTreeMap<PathBuf, Seen> = BTreeMap::new();
    move || {
        for path in lists.paths() {
            let seen = seen.entry(path.clone()).or_default();
            if !seen.looks_different(stamp(&path)) {
                continue;
            }
            let Some(text) = seen.take(read(&path)) else {
                continue;
            };
            let parsed = supervisor::catch_panic(|| text.and_then(|text| parse(&text)));
            let networks = parsed.unwrap_or_else(|why| Err(vec![format!("a bug: {why}")]));
            let result = networks.map(|networks| lists.replace(&path, networks));
            report(Update { path, result });
        }
    }
}

/// The files while the process runs: the errors of those that are wrong.
pub(super) struct SourceFiles {
    lists: SourceLists,
    updates: Receiver<Update>,
    /// What is wrong in a file, a line each.
    errors: BTreeMap<PathBuf, Vec<String>>,
    /// How many changes were put into force since the start.
    taken: u64,
    /// How many were refused.
    refused: u64,
}

impl SourceFiles {
    pub(super) fn new(lists: SourceLists, updates: Receiver<Update>) -> SourceFiles {
        SourceFiles {
            lists,
            updates,
            errors: BTreeMap::new(),
            taken: 0,
            refused: 0,
        }
    }

    /// The next file whose networks are others now.
    pub(super) fn next(&mut self) -> Option<PathBuf> {
        while let Ok(Update { path, result }) = self.updates.try_recv() {
            match result {
                Ok(is_other) => {
                    self.errors.remove(&path);
                    if is_other {
                        self.taken += 1;
                        return Some(path);
                    }
                }
                Err(lines) => self.refuse(path, lines),
            }
        }
        None
    }

    fn refuse(&mut self, path: PathBuf, lines: Vec<String>) {
        if self.errors.get(&path) == Some(&lines) {
            return;
        }
        self.refused += 1;
        let file = path.display();
        warn!("the sources in {file} are wrong, and those that were read before stay in force:");
        lines.iter().for_each(|line| warn!("{file}: {line}"));
        self.errors.insert(path, lines);
    }

    /// Each file that was read, with the number of its networks, and what is wrong in it now, a
    /// line each.
    pub(super) fn files(&self) -> Vec<(PathBuf, usize, &[String])> {
        let read = self.lists.lock();
        let files = read.iter().map(|(path, networks)| {
            let wrong = self.errors.get(path).map_or(&[][..], Vec::as_slice);
            (path.clone(), networks.len(), wrong)
        });
        files.collect()
    }

    /// How many files are wrong; `None` if none was named.
    pub(super) fn wrong(&self) -> Option<usize> {
        let is_any = !self.lists.lock().is_empty();
        is_any.then_some(self.errors.len())
    }

    /// How many changes were put into force since the start, and how many not; `None` if no file
    /// was named.
    pub(super) fn counts(&self) -> Option<[([&'static str; 1], u64); 2]> {
        let counts = [(["taken"], self.taken), (["refused"], self.refused)];
        self.wrong().map(|_| counts)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::mpsc;

    use super::*;
    use crate::settings::{self, Invocation};

    /// A file of a test, removed with it.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str, text: &str) -> Scratch {
            let name = format!("zpa-sources-{}-{name}", std::process::id());
            let file = Scratch(std::env::temp_dir().join(name));
            file.write(text);
            file
        }

        /// Replaces the file, as the kubelet does: the new one has another inode.
        fn write(&self, text: &str) {
            let new = self.0.with_extension("new");
            fs::write(&new, text).unwrap();
            fs::rename(&new, &self.0).unwrap();
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    fn settings(args: &[String]) -> Settings {
        let args = args.iter().map(Into::into);
        let all = ["--deployment=app".into()].into_iter().chain(args);
        match settings::parse(all, |_| None) {
            Ok(Invocation::Run(settings)) => *settings,
            other => panic!("{other:?}"),
        }
    }

    fn denied(lists: &SourceLists, settings: &Settings, address: &str) -> bool {
        let address = address.parse().unwrap();
        lists.sources(settings).denied.contains(address)
    }

    #[test]
    fn a_file_that_changes_is_in_force_and_one_that_is_wrong_or_gone_is_not() {
        let file = Scratch::new("changes", "192.0.2.1\n");
        let path = file.0.display();
        let settings = settings(&[format!("--deny-sources=198.51.100.0/24,@{path}")]);
        let lists = SourceLists::default();
        lists.load(&settings).unwrap();
        let (sender, updates) = mpsc::channel();
        let mut files = SourceFiles::new(lists.clone(), updates);
        let mut look = watch(lists.clone(), move |update| sender.send(update).unwrap());
        look();
        assert_eq!(files.next(), None, "nothing is new");
        for (label, text, is_taken, is_first, is_second, wrong) in [
            ("others", Some("192.0.2.2"), true, false, true, 0),
            (
                "wrong",
                Some("192.0.2.1\n192.0.2.0/33\n"),
                false,
                false,
                true,
                1,
            ),
            ("gone", None, false, false, true, 1),
            ("back", Some("192.0.2.2"), false, false, true, 0),
            ("none", Some("# nobody\n"), true, false, false, 0),
        ] {
            match text {
                Some(text) => file.write(text),
                None => fs::remove_file(&file.0).unwrap(),
            }
            look();
            assert_eq!(files.next().is_some(), is_taken, "{label}");
            assert_eq!(files.next(), None, "{label}");
            assert_eq!(denied(&lists, &settings, "192.0.2.1"), is_first, "{label}");
            assert_eq!(denied(&lists, &settings, "192.0.2.2"), is_second, "{label}");
            assert!(denied(&lists, &settings, "198.51.100.7"), "{label}");
            assert_eq!(files.wrong(), Some(wrong), "{label}");
        }
        assert_eq!(files.counts(), Some([(["taken"], 2), (["refused"], 2)]));
    }

    #[test]
    fn without_a_file_there_is_nothing_to_say() {
        let lists = SourceLists::default();
        lists.load(&settings(&[])).unwrap();
        let files = SourceFiles::new(lists, mpsc::channel().1);
        assert_eq!((files.wrong(), files.counts()), (None, None));
    }

    #[test]
    fn a_file_that_cannot_be_used_at_the_start_is_named_with_its_setting() {
        let lists = SourceLists::default();
        let long = Scratch::new("long", &" ".repeat(1 + (1 << 20)));
        for (flag, path, why) in [
            (
                "ignore-sources",
                "/nonexistent/x",
                "cannot be read: No such file",
            ),
            ("deny-sources", "/", "cannot be read: Is a directory"),
            (
                "deny-sources",
                long.0.to_str().unwrap(),
                "has more than 1048576 bytes",
            ),
        ] {
            let error = lists.load(&settings(&[format!("--{flag}=@{path}")]));
            let variable = flag.to_uppercase().replace('-', "_");
            let expected = format!("--{flag} (ZPA_{variable}) @{path}: {why}");
            let error = error.unwrap_err();
            assert!(error.starts_with(&expected), "{error}");
        }
    }
}
