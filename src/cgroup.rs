//! The memory limit of the container: the least `memory.max` of the process's control
//! group and of the groups above it (cgroups(7), version 2).
//!
//! Version 1 is not read: it accounts for the memory of socket buffers separately, and
//! does not limit it by default.

use std::path::{Path, PathBuf};

/// Where the hierarchy is mounted in every container.
const ROOT: &str = "/sys/fs/cgroup";

/// The file with the control group of this process: the line `0::/path`.
const OWN: &str = "/proc/self/cgroup";

/// The memory limit in bytes, if there is one. `read` returns the content of a file, if
/// the file exists.
///
/// A container sees its own group as the root of the hierarchy; or at its full path; or
/// only its own folder is mounted while the path is still the full one. So every folder
/// from the path up to the root is read, and those that exist count.
pub fn memory_limit(read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let groups = read(Path::new(OWN))?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let limit = |group: &Path| {
        let text = read(&PathBuf::from(ROOT).join(group).join("memory.max"))?;
        // `max` stands for no limit.
        text.trim().parse::<u64>().ok()
    };
    Path::new(own).ancestors().filter_map(limit).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_the_least_of_all_groups_that_the_process_is_in() {
        for (label, own, files, expected) in [
            (
                "a container with a hierarchy of its own",
                "0::/\n",
                &[("memory.max", "268435456\n")][..],
                Some(268_435_456),
            ),
            (
                "one without a limit",
                "0::/\n",
                &[("memory.max", "max\n")],
                None,
            ),
            (
                "the host's hierarchy: the pod's limit is lower",
                "0::/kubepods/pod1/abc\n",
                &[
                    ("kubepods/pod1/abc/memory.max", "max"),
                    ("kubepods/pod1/memory.max", "100"),
                    ("kubepods/memory.max", "5000"),
                ],
                Some(100),
            ),
            (
                "the host's path, and only the own folder",
                "0::/kubepods/pod1/abc\n",
                &[("memory.max", "300")],
                Some(300),
            ),
            (
                "both versions, memory in the first",
                "4:memory:/x\n0::/x\n",
                &[("x/cgroup.procs", "")],
                None,
            ),
            (
                "the first version alone",
                "4:memory:/x\n",
                &[("memory.max", "1")],
                None,
            ),
            ("nonsense", "0::/\n", &[("memory.max", "-1 GiB")], None),
        ] {
            let read = |path: &Path| {
                if path == Path::new(OWN) {
                    return Some(own.to_owned());
                }
                let name = path.strip_prefix(ROOT).unwrap().to_str().unwrap();
                let file = files.iter().find(|(file, _)| *file == name);
                file.map(|(_, text)| (*text).to_owned())
            };
            assert_eq!(memory_limit(read), expected, "{label}");
        }
        assert_eq!(memory_limit(|_| None), None, "no /proc");
    }
}
