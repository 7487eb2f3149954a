//! [`Seen`]: what was seen last of a file that is looked at each second.
//!
//! stat(2) is called on the path, and the file is read when the result differs. A ConfigMap is
//! mounted as a symbolic link, which the kubelet points to another directory when the ConfigMap
//! changes (`AtomicWriter` in `pkg/volume/util`): then the path leads to another file. inotify
//! reports that only to a process that watches the directory and each link of the path, has a limit
//! of watches for all processes of a user on the node, and reports nothing on several file systems.
//! A stat(2) each second costs nothing that can be measured, and the kubelet takes up to two
//! minutes to bring a change.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The identity of a state of a file: device, inode, size, and the nanoseconds of
/// its last change and of its inode's. None if there is no file.
pub(super) type Stamp = Option<(u64, u64, u64, i128, i128)>;

/// The present state of the file at a path.
pub(super) fn stamp(path: &Path) -> Stamp {
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

/// The last stat and the last text of a file.
pub(super) struct Seen {
    stamp: Stamp,
    /// Whether the last two stats were equal. A file that is written twice within a tick of the
    /// kernel's clock may have equal ones.
    is_settled: bool,
    /// The last text, or why it could not be read.
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
    /// A file that had this text when it was read.
    pub(super) fn with(text: Vec<u8>) -> Seen {
        Seen {
            text: Ok(text),
            ..Seen::default()
        }
    }

    /// Whether the file is to be read.
    pub(super) fn looks_different(&mut self, stamp: Stamp) -> bool {
        let is_same = self.stamp == stamp;
        let is_known = is_same && self.is_settled;
        self.stamp = stamp;
        self.is_settled = is_same;
        !is_known
    }

    /// Stores `read`, and returns it if it differs from the one before.
    pub(super) fn take(
        &mut self,
        read: Result<Vec<u8>, Vec<String>>,
    ) -> Option<Result<Vec<u8>, Vec<String>>> {
        let is_new = self.text != read;
        self.text.clone_from(&read);
        is_new.then_some(read)
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
    fn only_another_text_is_new_and_a_text_that_is_back_is_one() {
        let mut seen = Seen::default();
        let (good, wrong) = (Ok(b"[]".to_vec()), Ok(b"{".to_vec()));
        let gone = Err(vec!["gone".to_owned()]);
        for (label, read, is_new) in [
            ("the first", &good, true),
            ("the same", &good, false),
            ("another", &wrong, true),
            ("none", &gone, true),
            ("none still", &gone, false),
            ("the first again", &good, true),
        ] {
            assert_eq!(seen.take(read.clone()).is_some(), is_new, "{label}");
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
