//! [`OpenFiles`]: the descriptors of this process that one test may have for itself. The tests
//! of a file run side by side in one process, and share its limit.

use std::sync::{Mutex, MutexGuard, PoisonError};

use support::descriptors::raise_open_files;

/// The descriptors that the other tests have at most: those of `fleet`, for the most part, which
/// has a socket for each of its apps.
const OTHERS: usize = 4000;

/// One test at a time has very many.
static ALONE: Mutex<()> = Mutex::new(());

/// Descriptors for one test, until this is dropped.
pub struct OpenFiles {
    /// How many there are.
    pub count: usize,
    _alone: MutexGuard<'static, ()>,
}

impl OpenFiles {
    /// As many as are wanted, or fewer if the limit does not allow so many.
    pub fn take(wanted: usize) -> OpenFiles {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let limit = raise_open_files((wanted + OTHERS) as u64).unwrap() as usize;
        OpenFiles {
            count: wanted.min(limit.saturating_sub(OTHERS)),
            _alone: alone,
        }
    }
}
