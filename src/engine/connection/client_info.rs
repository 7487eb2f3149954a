//! [`ClientInfo`]: the facts about the client of a connection that a rule needs.

use super::Connection;
use crate::clock::Time;
use crate::rules::per_source::Entry;
use crate::rules::proxy_protocol::Header;

/// What is known of a client. On the heap, since most connections have none.
#[derive(Debug, Default)]
pub(super) struct ClientInfo {
    /// The PROXY header of a load balancer, if it is to be passed on.
    pub(super) header: Option<Header>,
    /// The place of the connection in the count of its source, if that is limited.
    pub(super) source: Option<Entry>,
    /// When the connection was accepted, if it was detached and has been held again since.
    pub(super) accepted: Option<Time>,
}

impl<S> Connection<S> {
    /// Counts the connection for its source until it is closed.
    pub fn set_source(&mut self, entry: Entry) {
        self.client_info().source = Some(entry);
    }

    pub(super) fn client_info(&mut self) -> &mut ClientInfo {
        self.client_info.get_or_insert_default()
    }
}
