//! [`OwnAddresses`]: the addresses of this proxy itself, which it must not dial.

use std::net::{IpAddr, SocketAddr};

/// The addresses of this proxy; empty if they are not known.
#[derive(Clone, Debug, Default)]
pub struct OwnAddresses {
    listeners: Vec<SocketAddr>,
    interfaces: Vec<IpAddr>,
}

impl OwnAddresses {
    /// The addresses of a proxy with these listeners, on a machine with these interfaces.
    pub fn new(listeners: Vec<SocketAddr>, interfaces: Vec<IpAddr>) -> Self {
        OwnAddresses {
            listeners,
            interfaces,
        }
    }

    /// Whether a connection to `address` would reach this proxy.
    ///
    /// The port is compared too: with `hostNetwork` the app may have the same IP address.
    pub fn contains(&self, address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        let at_port = self.listeners.iter();
        let mut at_port = at_port.filter(|listen| listen.port() == address.port());
        at_port.any(|listen| {
            if listen.ip().is_unspecified() {
                ip.is_loopback() || self.interfaces.contains(&ip)
            } else {
                ip == listen.ip().to_canonical()
            }
        })
    }
}

/// The text for an address that leads back to this proxy: the cause and the remedy.
pub fn explain(address: SocketAddr, service: &str) -> String {
    let whose = match service {
        "" => "the target".to_owned(),
        service => format!("Service {service}"),
    };
    format!(
        "{whose} leads back to this proxy ({address} is its own address), so that nothing is \
         dialled: give the app a Service of its own, whose selector matches no proxy, and name it \
         with --service (ZPA_SERVICE)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_ones_own_if_both_ip_and_port_are() {
        let pod: Vec<IpAddr> = ["10.0.0.7", "fd00::7"].map(|ip| ip.parse().unwrap()).into();
        let of = |listen: &str| OwnAddresses::new(vec![listen.parse().unwrap()], pod.clone());
        let any = of("[::]:8080");
        let any4 = of("0.0.0.0:8080");
        let one = of("10.0.0.7:8080");
        let none = OwnAddresses::new(Vec::new(), pod.clone());
        for (label, own, address, is_own) in [
            ("the pod's IPv4 address", &any, "10.0.0.7:8080", true),
            ("its IPv6 address", &any, "[fd00::7]:8080", true),
            ("IPv4 in IPv6", &any, "[::ffff:10.0.0.7]:8080", true),
            ("loopback", &any4, "127.3.2.1:8080", true),
            ("another port", &any, "10.0.0.7:8081", false),
            ("another pod", &any, "10.0.0.8:8080", false),
            ("the one it listens on", &one, "10.0.0.7:8080", true),
            (
                "one that it does not listen on",
                &one,
                "127.0.0.1:8080",
                false,
            ),
            (
                "one that has stopped listening",
                &none,
                "10.0.0.7:8080",
                false,
            ),
        ] {
            assert_eq!(own.contains(address.parse().unwrap()), is_own, "{label}");
        }
    }
}
