//! The limit of open files.

use std::io;

/// Raises this process's limit of open files, which its children inherit, to
/// `wanted`; to what the hard limit allows if more takes a privilege that is
/// not there. Returns what is now in force.
pub fn raise_open_files(wanted: u64) -> io::Result<u64> {
    let allowed = zpa::sys::raise_descriptor_limit()?;
    if allowed >= wanted {
        return Ok(allowed);
    }
    let limit = libc::rlimit {
        rlim_cur: wanted,
        rlim_max: wanted,
    };
    // SAFETY: `limit` is a valid rlimit that outlives the call.
    let status = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
    Ok(if status == 0 { wanted } else { allowed })
}
