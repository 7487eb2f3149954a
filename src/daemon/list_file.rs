//! [`watch`] makes the closure that watches the file with the list of apps.
//!
//! A thread that executes requests to the API server calls it each second, when it has nothing
//! else to do, so that a list takes no thread. The event loop must not: a file system may
//! block. These threads read the token from a file of the same kind of mount anyway.

use std::path::PathBuf;
use std::time::Duration;

use super::app_spec::{self, AppSpec};
use super::source_files::SourceLists;
use super::watched_file::{Seen, stamp};
use crate::settings::Settings;
use crate::supervisor;

/// The interval at which the file is looked at.
pub const POLL: Duration = Duration::from_secs(1);

/// After how many looks at it a list is read again that was wrong, though it has not changed.
const LOOKS_BETWEEN_RETRIES: u32 = 5;

/// The specs of a changed list, or all its errors, a line each.
pub type Update = Result<Vec<AppSpec>, Vec<String>>;

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
    /// The networks of other files.
    pub lists: SourceLists,
}

/// A closure that looks at the file, and calls `report` after each change of it. It does not
/// panic: a list whose parser does is reported as wrong.
pub fn watch(file: ListFile, report: impl Fn(Update) + Send + 'static) -> impl FnMut() + Send {
    let ListFile {
        path,
        process,
        namespace,
        text,
        lists,
    } = file;
    let mut seen = Seen::with(text);
    let (mut wrong, mut looks): (Option<Vec<String>>, u32) = (None, 0);
    move || {
        looks = looks.wrapping_add(1);
        // A file that the list names may have been mended.
        let is_retry = wrong.is_some() && looks.is_multiple_of(LOOKS_BETWEEN_RETRIES);
        if !seen.looks_different(stamp(&path)) && !is_retry {
            return;
        }
        let read = app_spec::read_list(&path);
        let is_new = seen.take(read.clone()).is_some();
        if !is_new && !is_retry {
            return;
        }
        let parse = || read.and_then(|text| app_spec::of_list(&process, &text, &namespace, &lists));
        let list = supervisor::catch_panic(parse).unwrap_or_else(|why| Err(vec![bug(&why)]));
        let errors = list.as_ref().err().cloned();
        if is_new || wrong != errors {
            wrong = errors;
            report(list);
        }
    }
}

fn bug(why: &str) -> String {
    let why = why.replace(char::is_control, " ");
    format!("the parser of the list has panicked, which is a bug: {why}")
}
