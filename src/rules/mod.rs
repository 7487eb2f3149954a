//! The [`Rules`] of an app are the settings about its connections: which of them are
//! admitted, which count as use of the app and for how long, how fast they are dialled after a
//! wake, where the address of the client comes from, and the answer at the hold limit.
//!
//! Every rule is pure: addresses, bytes and times go in, and a decision comes out. The settings
//! parse the rules, the engine applies them. A rule that is not set costs a connection nothing.

pub mod answer;
pub mod client_hello;
pub mod first_bytes;
pub mod idle;
mod names;
pub mod per_source;
pub mod proxy_protocol;
pub mod ready_gate;
pub mod release;
pub mod server_name;
pub mod sources;
pub mod waiting_page;

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use self::answer::HoldAnswer;
use self::first_bytes::FirstBytes;
use self::idle::IdleRules;
use self::proxy_protocol::Version;
use self::release::ReleaseRate;
use self::sources::{Admission, Networks, Sources};
use self::waiting_page::WaitingPage;

/// How long a server that speaks first may take to send its greeting. Some look up the client's
/// name before, and some mail servers let it wait on purpose.
pub const GREETING_TIMEOUT: Duration = Duration::from_secs(30);

/// The rules of one app. The default sets none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Which clients count, by their addresses.
    pub sources: Sources,
    /// The most connections of one source at a time; `None` if that is not limited.
    pub max_per_source: Option<NonZeroU32>,
    /// The most connections of one pod at a time; `None` if that is not limited.
    pub max_connections_per_pod: Option<NonZeroU32>,
    /// How fast the connections that were held are dialled after a wake.
    pub release_rate: ReleaseRate,
    /// When a connection over which no byte goes stops counting, or ends.
    pub idle: IdleRules,
    /// The version of the PROXY protocol in which backends get the address of the client.
    pub send_proxy_protocol: Option<Version>,
    /// The load balancers whose connections begin with a header of the PROXY protocol.
    pub accept_proxy_protocol: Networks,
    /// Which connections count, by their first bytes.
    pub first_bytes: FirstBytes,
    /// What browsers get while no pod is there.
    pub waiting_page: WaitingPage,
    /// Whether a pod is to send a byte of each connection before it is sent the first one of the
    /// client; at the first port of the app.
    pub awaits_greeting: bool,
    /// After which time without a backend a connection is dialled to the backup target; `None`:
    /// at the hold limit.
    pub backup_after: Option<Duration>,
    /// The answer to a client at the hold limit; `None` for a reset.
    pub hold_answer: Option<HoldAnswer>,
}

/// What the preread of a connection inspects, before it is dialled or held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Preread {
    /// Whether the PROXY header of a load balancer comes first.
    pub awaits_header: bool,
    /// Whether the client is ignored: its bytes decide only whether it is answered.
    pub is_ignored: bool,
}

impl Rules {
    /// What the preread of a connection from that address inspects; `None` if nothing.
    pub fn preread(&self, peer: IpAddr) -> Option<Preread> {
        let awaits_header = self.accept_proxy_protocol.contains(peer);
        let is_ignored = self.admission(peer) == Admission::Ignored;
        let preread = Preread {
            awaits_header,
            is_ignored,
        };
        let needs_first_bytes = self.needs_first_bytes(is_ignored);
        (awaits_header || needs_first_bytes).then_some(preread)
    }

    /// Whether the first bytes of a connection are needed. Those of an ignored client could
    /// only be a health check.
    pub fn needs_first_bytes(&self, is_ignored: bool) -> bool {
        if is_ignored {
            !self.first_bytes.probes.is_off()
        } else {
            !self.first_bytes.is_off() || !self.waiting_page.is_off()
        }
    }

    /// The admission of a connection from that address, before anything is read from it. A
    /// load balancer may be denied; else the client that its PROXY header names decides.
    pub fn admission(&self, peer: IpAddr) -> Admission {
        match self.sources.admission(peer) {
            Admission::Ignored if self.accept_proxy_protocol.contains(peer) => Admission::Counted,
            admission => admission,
        }
    }
}
