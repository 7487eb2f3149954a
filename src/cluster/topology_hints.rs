//! [`TopologyHints`]: for which clients an endpoint is meant.

/// The zones and nodes for whose clients an endpoint is meant (`hints` of an endpoint in an
/// EndpointSlice). The controller of the slices sets them where the Service has
/// `trafficDistribution`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TopologyHints {
    /// The zones (`forZones`).
    pub zones: Vec<String>,
    /// The nodes (`forNodes`).
    pub nodes: Vec<String>,
}
