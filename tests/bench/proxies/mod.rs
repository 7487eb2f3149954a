//! The proxies between client and server.
//!
//! ```text
//! zpa            ours, with a cluster of its own; any number of builds of it
//! other_proxies  HAProxy, nginx and socat, if they are installed
//! configuration  how these are started
//! ```

mod configuration;
mod other_proxies;
mod zpa;

use std::net::SocketAddr;

use crate::Result;
use crate::network::Place;
use crate::server::Server;

use configuration::Capacity;
use other_proxies::Started;
pub use other_proxies::{Kind, Missing, versions};
use support::process::Process;
use zpa::ZpaProxy;
pub use zpa::builds;

/// What a contender is compared as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// No proxy.
    Direct,
    /// The `zpa` of this source.
    Zpa,
    /// Another build of it, for comparison.
    Build,
    /// Somebody else's proxy.
    OtherProxy(Kind),
}

/// A path from the clients to servers of its own, through a proxy or direct: to one address there
/// are 28,000 local ports, and a closed connection keeps its own for a second at least.
pub struct Contender {
    pub name: String,
    pub role: Role,
    pub address: SocketAddr,
    /// The proxy on it, if any; dropped before the servers that it talks to.
    proxy: Option<Box<dyn Proxy>>,
    _servers: Vec<Server>,
}

/// A running proxy, which ends when dropped.
trait Proxy {
    fn address(&self) -> SocketAddr;
    fn process(&self) -> Process;
}

impl Contender {
    /// No proxy.
    pub fn direct(place: &Place) -> Result<Contender> {
        let server = place.of_servers(Server::start)?;
        Ok(Contender {
            name: "direct".to_owned(),
            role: Role::Direct,
            address: server.address(),
            proxy: None,
            _servers: vec![server],
        })
    }

    /// Through this `zpa` and then through other builds of it.
    ///
    /// # Panics
    /// If one does not start.
    pub fn zpas(place: &Place, servers: usize) -> Result<Vec<Contender>> {
        builds()
            .into_iter()
            .map(|build| {
                let servers = start_servers(place, servers)?;
                let (program, addresses) = (&build.program, addresses(&servers));
                let start = |ip| ZpaProxy::start(program, ip, &addresses);
                let proxy = place.of_proxies(start);
                Ok(Contender {
                    name: build.name,
                    role: build.role,
                    address: proxy.address(),
                    proxy: Some(Box::new(proxy)),
                    _servers: servers,
                })
            })
            .collect()
    }

    /// Through somebody else's proxy, which is to have that many connections
    /// at most.
    ///
    /// # Errors
    /// If it is there and does not serve.
    pub fn other_proxy(
        place: &Place,
        kind: Kind,
        servers: usize,
        connections: usize,
    ) -> Result<std::result::Result<Contender, Missing>> {
        let servers = start_servers(place, servers)?;
        let addresses = addresses(&servers);
        let capacity = Capacity {
            connections,
            of_server: None,
        };
        let start = |ip| other_proxies::start(kind, ip, &addresses, capacity);
        let started = place.of_proxies(start)?;
        Ok(Contender::started(kind, started, servers))
    }

    /// Through somebody else's proxy whose only server takes one connection at a time,
    /// so that further ones wait.
    ///
    /// # Errors
    /// If it is there and does not serve.
    pub fn queue(
        place: &Place,
        kind: Kind,
        connections: usize,
    ) -> Result<std::result::Result<Contender, Missing>> {
        let servers = start_servers(place, 1)?;
        let addresses = addresses(&servers);
        let capacity = Capacity {
            connections,
            of_server: Some(1),
        };
        let start = |ip| other_proxies::start(kind, ip, &addresses, capacity);
        let started = place.of_proxies(start)?;
        Ok(Contender::started(kind, started, servers))
    }

    fn started(
        kind: Kind,
        started: Started,
        servers: Vec<Server>,
    ) -> std::result::Result<Contender, Missing> {
        match started {
            Started::Missing(missing) => Err(missing),
            Started::Serving(proxy) => Ok(Contender {
                name: kind.name().to_owned(),
                role: Role::OtherProxy(kind),
                address: proxy.address(),
                proxy: Some(Box::new(proxy)),
                _servers: servers,
            }),
        }
    }

    /// Whose cost is measured; `None` on the direct way.
    pub fn process(&self) -> Option<Process> {
        self.proxy.as_ref().map(|proxy| proxy.process())
    }

    /// Processor time that its proxy has taken so far, in seconds; on the
    /// direct way that of the client and the server, which are this process.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let Some(process) = self.process() else {
            return Process(std::process::id()).cpu_seconds();
        };
        match self.role {
            Role::OtherProxy(kind) if kind.forks() => process.cpu_seconds_with_children(),
            _ => process.cpu_seconds(),
        }
    }
}

fn start_servers(place: &Place, count: usize) -> Result<Vec<Server>> {
    let start = |_| place.of_servers(Server::start);
    (0..count).map(start).collect()
}

fn addresses(servers: &[Server]) -> Vec<SocketAddr> {
    servers.iter().map(Server::address).collect()
}
