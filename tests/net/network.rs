//! [`Network`]: three network namespaces in a row: the clients, `zpa` with the API server, and the
//! pods.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::thread;

use support::namespace::Namespace;

/// Where the clients are.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
/// Where they find `zpa`.
pub const MIDDLE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// Where pods are.
pub const POD: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 2);
pub const OTHER_POD: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 3);
pub const THIRD_POD: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 4);

/// Clients, `zpa` and pods, with nothing but cables between them. The addresses
/// are the same in each network, for none of them sees another.
pub struct Network {
    pub clients: Namespace,
    pub middle: Namespace,
    pub pods: Namespace,
}

impl Network {
    /// A network, or none and a word about why not where this machine gives
    /// none to us.
    pub fn new() -> Option<Network> {
        match Network::make() {
            Ok(network) => Some(network),
            Err(why) => {
                skipped(&format!(
                    "takes root and the programs ip (iproute2) and nft (nftables): {why}"
                ));
                None
            }
        }
    }

    /// The same for a test that takes minutes and is run only where that is
    /// wanted.
    pub fn for_minutes() -> Option<Network> {
        if !is_slow() {
            skipped("takes minutes; `make net` runs it");
            return None;
        }
        Network::new()
    }

    fn make() -> io::Result<Network> {
        let network = Network {
            clients: Namespace::new()?,
            middle: Namespace::new()?,
            pods: Namespace::new()?,
        };
        network.pods.run("nft", "list ruleset")?;
        network.lay_cable("clients", &network.clients)?;
        network.lay_cable("pods", &network.pods)?;
        for (namespace, addresses, device) in [
            (&network.clients, &[CLIENT][..], "eth0"),
            (&network.middle, &[MIDDLE], "clients"),
            (&network.middle, &[Ipv4Addr::new(10, 0, 1, 1)], "pods"),
            (&network.pods, &[POD, OTHER_POD, THIRD_POD], "eth0"),
        ] {
            for address in addresses {
                namespace.run("ip", &format!("address add {address}/24 dev {device}"))?;
            }
            namespace.run("ip", &format!("link set {device} up"))?;
        }
        Ok(network)
    }

    /// A cable from the middle, where its end is called `name`.
    fn lay_cable(&self, name: &str, to: &Namespace) -> io::Result<()> {
        let far_end = format!("peer name eth0 netns {}", to.path());
        self.middle
            .run("ip", &format!("link add {name} type veth {far_end}"))
            .map(drop)
    }

    /// From now on no packet reaches the address and none leaves it: to all
    /// others it is as if the machine had lost its power.
    pub fn vanish(&self, address: Ipv4Addr) {
        self.filter(
            address,
            &format!(
                "table inet void {{
                    chain arriving {{
                        type filter hook input priority 0; ip daddr {address} drop;
                    }};
                    chain leaving {{
                        type filter hook output priority 0; ip saddr {address} drop;
                    }};
                }}"
            ),
        );
    }

    /// From now on the address answers as a Service without endpoints does,
    /// which kube-proxy has rejected with an ICMP message.
    pub fn reject(&self, address: SocketAddr) {
        let (ip, port) = (address.ip(), address.port());
        self.filter(
            POD,
            &format!(
                "table inet void {{
                    chain arriving {{
                        type filter hook input priority 0;
                        ip daddr {ip} tcp dport {port} reject with icmp port-unreachable;
                    }};
                }}"
            ),
        );
    }

    /// From now on one in so many of the packets that carry bytes to the clients
    /// and to the pods is lost. Those that carry none get through: nobody would
    /// send a reset a second time.
    pub fn lose_one_in(&self, number: u32) {
        for address in [CLIENT, POD] {
            self.filter(
                address,
                &format!(
                    "table inet bad {{
                        chain arriving {{
                            type filter hook input priority 0;
                            meta length > 100 numgen random mod {number} == 0 drop;
                        }};
                    }}"
                ),
            );
        }
    }

    /// From now on one in so many packets of any kind is lost, each way of both cables.
    pub fn lose_one_packet_in(&self, number: u32) {
        for address in [CLIENT, POD] {
            self.filter(
                address,
                &format!(
                    "table inet lossy {{
                        chain arriving {{
                            type filter hook input priority 0;
                            numgen random mod {number} == 0 drop;
                        }};
                        chain leaving {{
                            type filter hook output priority 0;
                            numgen random mod {number} == 0 drop;
                        }};
                    }}"
                ),
            );
        }
    }

    /// From now on the machines of `zpa` and of the pods do what nodes with kube-proxy
    /// do: they track connections, and drop what belongs to none.
    pub fn track_connections(&self) {
        const RULES: &str = "table inet tracked {
            chain arriving {
                type filter hook input priority 0; ct state invalid drop;
            };
        }";
        for namespace in [&self.middle, &self.pods] {
            namespace
                .run("nft", RULES)
                .expect("connections are tracked");
        }
    }

    /// Everybody is there again.
    pub fn restore(&self) {
        for namespace in [&self.clients, &self.pods] {
            namespace.run("nft", "flush ruleset").expect("no rules");
        }
    }

    fn filter(&self, address: Ipv4Addr, rules: &str) {
        let namespace = match address {
            CLIENT => &self.clients,
            _ => &self.pods,
        };
        namespace.run("nft", rules).expect("the rules are in force");
    }
}

/// Whether tests may take minutes.
pub fn is_slow() -> bool {
    std::env::var_os("ZPA_SLOW").is_some()
}

/// Says that a test is not run, and why.
pub fn skipped(why: &str) {
    say("skipped", why);
}

/// Says that a test is not run in full, and why.
pub fn restricted(why: &str) {
    say("restricted", why);
}

fn say(what: &str, why: &str) {
    let thread = thread::current();
    let test = thread.name().unwrap_or("a test");
    // Not eprintln, which cargo captures.
    let _ = writeln!(io::stderr(), "{what}: net: {test}: {why}");
}
