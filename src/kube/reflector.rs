//! The reflector of the Service's endpoints, and the [`thread`] that every reflector
//! has.

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
use super::AppConfig;
use super::client::Client;
use super::relist::RelistSignal;
use crate::clock::Clock;
use crate::cluster::Report;
use crate::supervisor::ThreadPanic;

/// Starts the reflector.
pub(super) fn spawn(
    config: &AppConfig,
    client: Client,
    clock: Clock,
    report: impl Fn(Report) + Send + 'static,
    panicked: impl Fn(ThreadPanic) + Send + 'static,
) -> io::Result<Arc<RelistSignal>> {
    let signal = Arc::new(RelistSignal::new(client));
    let core = NamedEndpoints::new(config, thread::seed(&signal, clock), clock());
    Reflector::new(core, signal, clock, report).spawn("zpa-watch", panicked)
}

#[cfg(test)]
mod tests;
