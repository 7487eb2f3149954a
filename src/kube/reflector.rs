//! The reflectors of endpoints, of one Service or of a namespace, and the [`thread`] and the
//! [`interface`] that all reflectors have.

mod caller;
mod endpoint_watch;
pub(super) mod interface;
mod named;
mod namespace;
mod source;
mod status;
pub(super) mod thread;
mod view;

use std::io;
use std::sync::Arc;

use self::named::NamedEndpoints;
pub(super) use self::namespace::NamespaceEndpoints;
use self::thread::Reflector;
use super::WatchedApp;
use super::client::Client;
use super::relist::RelistSignal;
use crate::clock::Clock;
use crate::cluster::Report;
use crate::supervisor::ThreadPanic;

/// Starts the reflector of one Service's endpoints.
pub(super) fn spawn(
    config: &WatchedApp,
    client: Client,
    clock: Clock,
    report: impl Fn(Report) + Send + 'static,
    panicked: impl Fn(ThreadPanic) + Send + 'static,
) -> io::Result<Arc<RelistSignal>> {
    let signal = Arc::new(RelistSignal::new(client));
    let core = NamedEndpoints::new(config, thread::seed(&signal, clock), clock());
    Reflector::new(core, signal, clock, report).spawn("zpa-endpoints", panicked)
}

#[cfg(test)]
mod tests;
