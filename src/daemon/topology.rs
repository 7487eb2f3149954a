//! [`Topology`]: which pods are near the proxy, by the hints of their endpoints.
//!
//! kube-proxy leads the clients of a Service with `trafficDistribution` to the endpoints whose
//! hints name its node or zone. Since the pods are dialled by their own addresses, the proxy
//! does that itself, by the same rules (`topologyModeFromHints` in `pkg/proxy/topology.go`): if
//! a ready endpoint has no hint, or none of them is for this place, hints are ignored. Unlike
//! kube-proxy it dials other pods where those that are near do not accept, or are full.

use std::fmt;

use crate::cluster::{Pod, TopologyHints};

/// Where the proxy runs, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// The zone of the node.
    pub zone: Option<String>,
    /// The node.
    pub node: Option<String>,
}

/// Which pods are dialled first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Nearness {
    /// None: hints are ignored.
    #[default]
    Ignored,
    /// Those for the node.
    Node,
    /// Those for the zone.
    Zone,
}

impl fmt::Display for Nearness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Nearness::Ignored => "ignored",
            Nearness::Node => "node",
            Nearness::Zone => "zone",
        })
    }
}

impl Topology {
    /// Which of the pods that may be dialled are dialled first.
    pub fn nearness<'a>(&self, pods: impl Iterator<Item = &'a Pod> + Clone) -> Nearness {
        let is_for = |place: &Option<String>, names: fn(&TopologyHints) -> &[String]| {
            let Some(place) = place else {
                return false;
            };
            let mut all = pods.clone().map(|pod| names(&pod.hints));
            let has_ours = all.clone().any(|names| names.contains(place));
            has_ours && all.all(|names| !names.is_empty())
        };
        if is_for(&self.node, |hints| &hints.nodes) {
            Nearness::Node
        } else if is_for(&self.zone, |hints| &hints.zones) {
            Nearness::Zone
        } else {
            Nearness::Ignored
        }
    }

    /// Whether a pod is dialled first.
    pub fn is_near(&self, pod: &Pod, nearness: Nearness) -> bool {
        let has = |names: &[String], place: &Option<String>| {
            place.as_ref().is_some_and(|place| names.contains(place))
        };
        match nearness {
            Nearness::Ignored => true,
            Nearness::Node => has(&pod.hints.nodes, &self.node),
            Nearness::Zone => has(&pod.hints.zones, &self.zone),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(zones: &[&str], nodes: &[&str]) -> Pod {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Pod {
            hints: TopologyHints {
                zones: names(zones),
                nodes: names(nodes),
            },
            ..Pod::default()
        }
    }

    fn here(zone: Option<&str>, node: Option<&str>) -> Topology {
        Topology {
            zone: zone.map(str::to_owned),
            node: node.map(str::to_owned),
        }
    }

    #[test]
    fn hints_are_followed_as_by_kube_proxy() {
        let (a, b) = (pod(&["a"], &["n1"]), pod(&["b"], &["n2"]));
        let zones_alone = pod(&["a"], &[]);
        let (both, none) = (pod(&["a", "b"], &[]), pod(&[], &[]));
        let in_a = here(Some("a"), Some("n1"));
        for (label, place, pods, nearness, near) in [
            (
                "the node goes first",
                &in_a,
                vec![&a, &b],
                Nearness::Node,
                vec![true, false],
            ),
            (
                "not all have hints for nodes",
                &in_a,
                vec![&zones_alone, &a, &b],
                Nearness::Zone,
                vec![true, true, false],
            ),
            (
                "none is for the node",
                &here(Some("b"), Some("n3")),
                vec![&a, &b],
                Nearness::Zone,
                vec![false, true],
            ),
            (
                "of several zones",
                &here(Some("b"), None),
                vec![&both, &zones_alone],
                Nearness::Zone,
                vec![true, false],
            ),
            (
                "one has no hint",
                &in_a,
                vec![&a, &none],
                Nearness::Ignored,
                vec![true, true],
            ),
            (
                "none is for the zone",
                &here(Some("c"), None),
                vec![&a, &b],
                Nearness::Ignored,
                vec![true, true],
            ),
            (
                "the place is not known",
                &here(None, None),
                vec![&a],
                Nearness::Ignored,
                vec![true],
            ),
            ("there is no pod", &in_a, vec![], Nearness::Ignored, vec![]),
        ] {
            let found = place.nearness(pods.iter().copied());
            assert_eq!(found, nearness, "{label}");
            let is_near: Vec<bool> = pods.iter().map(|it| place.is_near(it, found)).collect();
            assert_eq!(is_near, near, "{label}");
        }
    }
}
