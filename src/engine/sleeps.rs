//! [`Sleeps`]: the apps that have fallen asleep, and whose uncounted connections end.
//!
//! There may be ten thousand of these, and to end one takes a hundred microseconds, so that each
//! turn ends a few. Until its turn comes, a connection moves no byte: the pods that it leads to
//! are about to go. An event of it ends it at once.

use std::collections::VecDeque;

use super::ids::AppId;

/// The apps whose uncounted connections end.
#[derive(Default)]
pub struct Sleeps(VecDeque<Sleep>);

/// One of them.
pub struct Sleep {
    /// The app.
    pub app: AppId,
    /// The serial number of the first connection that was accepted afterwards.
    pub end: u64,
    /// The slot of the connection that is looked at next.
    pub next: usize,
}

impl Sleeps {
    /// An app has fallen asleep, when `end` connections were accepted so far.
    pub fn begin(&mut self, app: AppId, end: u64) {
        self.end(app);
        self.0.push_back(Sleep { app, end, next: 0 });
    }

    /// The connections of an app have ended.
    pub fn end(&mut self, app: AppId) {
        self.0.retain(|it| it.app != app);
    }

    /// The app whose connections are looked at now.
    pub fn first(&mut self) -> Option<&mut Sleep> {
        self.0.front_mut()
    }

    /// Whether connections are left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the connection of an app with that serial number is to end, if it is served and
    /// does not count.
    pub fn includes(&self, app: AppId, serial: u64) -> bool {
        self.0.iter().any(|it| it.app == app && serial < it.end)
    }
}
