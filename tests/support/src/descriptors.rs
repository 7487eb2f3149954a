//! This process's limit of open files, which its children inherit.

use std::io;

/// Raises the limit to `wanted`; to what the hard limit allows if more takes a
/// privilege that is not there. Returns what is now in force.
pub fn raise_open_files(wanted: u64) -> io::Result<u64> {
    let allowed = raise_to_hard_limit()?;
    if allowed >= wanted {
        return Ok(allowed);
    }
    let raised = set_limit(libc::rlimit {
        rlim_cur: wanted,
        rlim_max: wanted,
    });
    Ok(if raised { wanted } else { allowed })
}

/// Raises the limit to the hard one, and returns what is now in force.
pub fn raise_to_hard_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a valid rlimit that outlives the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } == -1 {
        return Err(io::Error::last_os_error());
    }
    let raised = set_limit(libc::rlimit {
        rlim_cur: limit.rlim_max,
        ..limit
    });
    Ok(if raised {
        limit.rlim_max
    } else {
        limit.rlim_cur
    })
}

/// Whether the kernel takes the limit.
fn set_limit(limit: libc::rlimit) -> bool {
    // SAFETY: `limit` is a valid rlimit that outlives the call.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) == 0 }
}
