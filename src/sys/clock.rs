//! The clocks: the time since boot, and the time of day.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::clock::Time;

/// The time since the machine booted, suspend included (`CLOCK_BOOTTIME`).
///
/// Other proxies and the API server go on while this machine sleeps, so a
/// clock that stops meanwhile would make us believe that little has happened.
pub fn boot_time() -> Time {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is a valid timespec that outlives the call.
    let status = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut now) };
    debug_assert_eq!(status, 0, "CLOCK_BOOTTIME exists since Linux 2.6.39");
    Time::new(Duration::new(now.tv_sec as u64, now.tv_nsec as u32))
}

/// The time of day, in whole seconds since 1970; 0 for a clock that is set to
/// a time before. It may jump, so that nothing may be decided by it.
pub fn unix_time() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_never_goes_back() {
        let first = boot_time();
        assert!(boot_time() >= first && first > Time::default());
    }
}
