//! The thread `zpa-apps` watches the file with the list of apps.
//!
//! It looks at the file each second, by its name, and reads it when it looks different. A
//! ConfigMap is mounted as a symbolic link, which the kubelet points to another directory when
//! the ConfigMap changes (`AtomicWriter` in `pkg/volume/util`): the file behind the name is
//! another one then. inotify reports that only to who watches the directory and each link on
//! the way, has a limit of watches for all processes of a user on the node, and reports nothing
//! on several file systems. A stat(2) each second costs nothing that can be measured, and the
//! kubelet takes up to two minutes to bring a change.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::plan::{self, Plan};
use crate::clock::Clock;
use crate::settings::Settings;
use crate::supervisor;

/// The interval at which the file is looked at.
const POLL: Duration = Duration::from_secs(1);

/// The plans of a list, or all that is wrong with it, a line each.
pub type List = Result<Vec<Plan>, Vec<String>>;

/// A file with a list of apps.
pub struct ListFile {
    /// Its path.
    pub path: PathBuf,
    /// The settings of the process, which has the defaults.
    pub process: Settings,
    /// The namespace of apps that name none.
    pub namespace: String,
    /// The text that is in force.
    pub text: Vec<u8>,
}

/// Starts the thread, which calls `report` after each change of the file.
///
/// # Errors
/// If the thread cannot be started.
pub fn watch(
    file: ListFile,
    clock: Clock,
    report: impl Fn(List) + Send + Clone + 'static,
) -> io::Result<()> {
    let ListFile {
        path,
        process,
        namespace,
        text,
    } = file;
    let mut seen = Seen {
        text: Ok(text),
        ..Seen::default()
    };
    let panicked = report.clone();
    let body = move || loop {
        thread::sleep(POLL);
        if !seen.looks_different(stamp(&path)) {
            continue;
        }
        if let Some(read) = seen.take(plan::read_list(&path)) {
            report(read.and_then(|text| plan::of_list(&process, &text, &namespace)));
        }
    };
    supervisor::spawn("zpa-apps", clock, body, move |panic| {
        let why = panic.why.replace(char::is_control, " ");
        panicked(Err(vec![format!(
            "the thread {} has panicked, which is a bug: {why}",
            panic.thread
        )]));
    })
}

/// What tells one state of a file from another: device, inode, size, and the nanoseconds of
/// its last change and of its inode's. None if there is no file.
type Stamp = Option<(u64, u64, u64, i128, i128)>;

fn stamp(path: &Path) -> Stamp {
    let it = fs::metadata(path).ok()?;
    let time = |seconds: i64, nanoseconds: i64| {
        i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds)
    };
    Some((
        it.dev(),
        it.ino(),
        it.size(),
        time(it.mtime(), it.mtime_nsec()),
        time(it.ctime(), it.ctime_nsec()),
    ))
}

/// What was seen of the file.
struct Seen {
    stamp: Stamp,
    /// Whether it looked the same twice in a row. A file that is written twice within a tick
    /// of the kernel's clock may look the same.
    is_settled: bool,
    /// What was read last.
    text: Result<Vec<u8>, Vec<String>>,
}

impl Default for Seen {
    fn default() -> Self {
        Seen {
            stamp: None,
            is_settled: false,
            text: Ok(Vec::new()),
        }
    }
}

impl Seen {
    /// Whether the file is to be read.
    fn looks_different(&mut self, stamp: Stamp) -> bool {
        let is_same = self.stamp == stamp;
        let is_known = is_same && self.is_settled;
        self.stamp = stamp;
        self.is_settled = is_same;
        !is_known
    }

    /// What was read, if it is something else than before.
    fn take(&mut self, read: Result<Vec<u8>, Vec<String>>) -> Option<Result<Vec<u8>, Vec<String>>> {
        let is_news = self.text != read;
        self.text.clone_from(&read);
        is_news.then_some(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written_at(nanosecond: i128) -> Stamp {
        Some((1, 2, 3, nanosecond, nanosecond))
    }

    #[test]
    fn a_file_is_read_when_it_looks_different_and_once_more_to_be_sure() {
        let mut seen = Seen::default();
        for (label, stamp, is_read) in [
            ("the first look", written_at(1), true),
            ("and the second", written_at(1), true),
            ("it stays", written_at(1), false),
            ("it is written", written_at(2), true),
            ("maybe twice in a tick", written_at(2), true),
            ("it stays again", written_at(2), false),
            ("it is gone", None, true),
            ("it is still gone", None, true),
            ("and stays so", None, false),
            ("it is back", written_at(2), true),
        ] {
            assert_eq!(seen.looks_different(stamp), is_read, "{label}");
        }
    }

    #[test]
    fn only_another_text_is_news_and_a_text_that_is_back_is_one() {
        let mut seen = Seen::default();
        let (good, wrong) = (Ok(b"[]".to_vec()), Ok(b"{".to_vec()));
        let gone = Err(vec!["gone".to_owned()]);
        for (label, read, is_news) in [
            ("the first", &good, true),
            ("the same", &good, false),
            ("another", &wrong, true),
            ("none", &gone, true),
            ("none still", &gone, false),
            ("the first again", &good, true),
        ] {
            assert_eq!(seen.take(read.clone()).is_some(), is_news, "{label}");
        }
    }

    /// As the kubelet replaces the files of a ConfigMap.
    #[test]
    fn a_link_that_leads_elsewhere_looks_different() {
        let root = std::env::temp_dir().join(format!("zpa-list-{}", std::process::id()));
        for version in ["1", "2"] {
            fs::create_dir_all(root.join(version)).unwrap();
            fs::write(root.join(version).join("apps.json"), "[]").unwrap();
        }
        let point_to = |version: &str| {
            std::os::unix::fs::symlink(version, root.join("tmp")).unwrap();
            fs::rename(root.join("tmp"), root.join("data")).unwrap();
        };
        point_to("1");
        std::os::unix::fs::symlink("data/apps.json", root.join("apps.json")).unwrap();
        let path = root.join("apps.json");
        let first = stamp(&path);
        assert_eq!(stamp(&path), first);
        point_to("2");
        let second = stamp(&path);
        fs::remove_dir_all(&root).unwrap();
        assert_ne!(second, first);
        assert_eq!(stamp(&path), None);
    }
}
