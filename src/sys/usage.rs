//! The resource usage of the process: processor time, memory, descriptors.

use std::fs;
use std::time::Duration;

/// Beyond that many, descriptors are not counted one by one: it would keep the caller from
/// its work for milliseconds.
const MAX_COUNTED: usize = 1024;

/// What the process uses. What cannot be read is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The processor time of all threads since the start, in user and kernel mode.
    pub cpu: Option<Duration>,
    /// The memory that is in RAM, in bytes.
    pub resident: Option<u64>,
    /// The address space that is in use, in bytes.
    pub address_space: Option<u64>,
    /// The number of open descriptors.
    pub descriptors: Option<u64>,
}

/// What the process uses now.
pub fn usage() -> Usage {
    let pages = fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.as_deref().and_then(parse_statm);
    let bytes = |pages: u64| pages.saturating_mul(page_bytes());
    Usage {
        cpu: cpu_time(),
        resident: pages.map(|(_, resident)| bytes(resident)),
        address_space: pages.map(|(all, _)| bytes(all)),
        descriptors: open_descriptors(),
    }
}

/// The first two fields of `/proc/self/statm`: the size of the address space, and what is
/// resident of it, in pages.
fn parse_statm(text: &str) -> Option<(u64, u64)> {
    let mut fields = text.split_ascii_whitespace();
    let mut next = || fields.next()?.parse().ok();
    Some((next()?, next()?))
}

fn page_bytes() -> u64 {
    // SAFETY: the call takes no pointer.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(bytes).unwrap_or(4096)
}

fn cpu_time() -> Option<Duration> {
    let mut used = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `used` is a valid timespec that outlives the call.
    let status = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut used) };
    let seconds = u64::try_from(used.tv_sec).ok()?;
    let nanos = u32::try_from(used.tv_nsec).ok()?;
    (status == 0).then(|| Duration::new(seconds, nanos))
}

/// The number of open descriptors. Since Linux 6.2 it is the size of `/proc/self/fd`
/// (proc(5)); before, that is 0, and the entries are counted unless there are very many.
fn open_descriptors() -> Option<u64> {
    let size = fs::metadata("/proc/self/fd").ok()?.len();
    if size > 0 {
        return Some(size);
    }
    let counted = fs::read_dir("/proc/self/fd")
        .ok()?
        .take(MAX_COUNTED)
        .count();
    // One of them is the directory itself.
    (counted < MAX_COUNTED).then_some(counted as u64 - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_time_memory_and_descriptors() {
        let before = usage();
        let files: Vec<_> = (0..8).map(|_| fs::File::open("/proc/self/statm")).collect();
        let block = vec![1_u8; 16 << 20];
        let sum: u64 = block.iter().map(|&byte| u64::from(byte)).sum();
        let after = usage();
        assert_eq!((files.len(), sum), (8, 16 << 20));
        assert!(after.cpu > before.cpu);
        assert!(after.address_space.unwrap() >= after.resident.unwrap());
        assert!(after.resident.unwrap() >= 16 << 20);
        assert!(after.descriptors.unwrap() >= 8);
    }

    #[test]
    fn the_sizes_are_the_first_two_fields() {
        assert_eq!(parse_statm("1753 1027 923 9 0 274 0\n"), Some((1753, 1027)));
        for text in ["", "1753", "a b c", "-1 2"] {
            assert_eq!(parse_statm(text), None, "{text:?}");
        }
    }
}
