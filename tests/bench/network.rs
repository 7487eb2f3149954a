//! Off loopback: clients, proxies and servers in network namespaces of their own, in a
//! row, with pairs of virtual Ethernet interfaces between them.
//!
//! Loopback hides what a connection leaves behind: it takes ports in TIME_WAIT again
//! after a second (`tcp_tw_reuse`, tcp(7)), which a network does only for those that
//! ask for it. And it is never far, and never loses anything.

use std::io;
use std::net::Ipv4Addr;

use support::namespace::Namespace;

use crate::Result;

/// Where the clients are,
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
/// where they find a proxy,
const PROXY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// where that finds the servers, and
const TO_SERVERS: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 1);
/// where they are.
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 2);

/// The ports that a proxy has to each server: by default 28,232, which only a machine
/// that is quick enough uses up within a minute.
const PORTS: (&str, &str) = ("ipv4/ip_local_port_range", "20001 24000");

/// Where clients, proxies and servers are.
pub enum Place {
    /// All on the loopback of this machine.
    Loopback,
    /// On a network.
    Network(Network),
}

/// A network of three machines in a row.
pub struct Network {
    clients: Namespace,
    middle: Namespace,
    servers: Namespace,
}

/// What is between the clients and the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distance {
    /// A cable.
    None,
    /// 10 ms each way, and one packet in a thousand is lost.
    FarAndLossy,
}

impl Place {
    /// Does `work` where the servers are, at that address.
    pub fn of_servers<T: Send>(&self, work: impl FnOnce(Ipv4Addr) -> T + Send) -> T {
        match self {
            Place::Loopback => work(Ipv4Addr::LOCALHOST),
            Place::Network(network) => network.servers.enter(|| work(SERVER)),
        }
    }

    /// Does `work` where the proxies are, at that address.
    pub fn of_proxies<T: Send>(&self, work: impl FnOnce(Ipv4Addr) -> T + Send) -> T {
        match self {
            Place::Loopback => work(Ipv4Addr::LOCALHOST),
            Place::Network(network) => network.middle.enter(|| work(PROXY)),
        }
    }

    /// Does `work` where the clients are.
    pub fn of_clients<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        match self {
            Place::Loopback => work(),
            Place::Network(network) => network.clients.enter(work),
        }
    }
}

impl Place {
    /// Sets what is between the clients and the rest, if it is a network.
    ///
    /// # Errors
    /// See [`Network::set`].
    pub fn set(&self, distance: Distance) -> Result<()> {
        match self {
            Place::Loopback => Ok(()),
            Place::Network(network) => network.set(distance),
        }
    }
}

impl Network {
    /// # Errors
    /// What the kernel says, most likely to somebody who is not root.
    pub fn make() -> io::Result<Network> {
        let network = Network {
            clients: Namespace::new()?,
            middle: Namespace::new()?,
            servers: Namespace::new()?,
        };
        for (namespace, cable, near, far) in [
            (&network.clients, "clients", PROXY, CLIENT),
            (&network.servers, "servers", TO_SERVERS, SERVER),
        ] {
            let (middle, path) = (&network.middle, namespace.path());
            let add = format!("link add {cable} type veth peer name eth0 netns {path}");
            middle.run("ip", &add)?;
            middle.run("ip", &format!("address add {near}/24 dev {cable}"))?;
            middle.run("ip", &format!("link set {cable} up"))?;
            namespace.run("ip", &format!("address add {far}/24 dev eth0"))?;
            namespace.run("ip", "link set eth0 up")?;
            // For those without a proxy.
            namespace.run("ip", &format!("route add default via {near}"))?;
        }
        network.middle.set(("ipv4/ip_forward", "1"))?;
        // The clients close first, and there are thousands of them a second. What is
        // looked at is what the proxies do about theirs.
        network.clients.set(("ipv4/tcp_tw_reuse", "1"))?;
        network.middle.set(PORTS)?;
        Ok(network)
    }

    /// Sets what is between the clients and the rest.
    ///
    /// # Errors
    /// The kernel has no `netem`, or the program `tc` is not there.
    fn set(&self, distance: Distance) -> Result<()> {
        for (namespace, device) in [(&self.clients, "eth0"), (&self.middle, "clients")] {
            // There may be none.
            let _ = namespace.run("tc", &format!("qdisc delete dev {device} root"));
            if distance == Distance::FarAndLossy {
                let netem = "netem delay 10ms loss 0.1% limit 100000";
                namespace.run("tc", &format!("qdisc add dev {device} root {netem}"))?;
            }
        }
        Ok(())
    }
}
