//! The objects of the Prometheus operator.

use super::Install;
use crate::commands::yaml::{Item, Map};

/// The comment above the PodMonitor.
pub const MONITOR: &str = "Each pod is asked for itself: every proxy counts its own connections.";

impl Install {
    pub(super) fn monitor(&self) -> Option<Map> {
        let spec = Map::new()
            .set("selector", self.selector())
            .comment("Which app: becomes the label app_kubernetes_io_instance of every series.")
            .set("podTargetLabels", ["app.kubernetes.io/instance"])
            .set(
                "podMetricsEndpoints",
                vec![Item::new("", Map::new().set("port", "admin"))],
            );
        let object = Map::new()
            .set("apiVersion", "monitoring.coreos.com/v1")
            .set("kind", "PodMonitor")
            .set("metadata", self.metadata(&self.name))
            .set("spec", spec);
        self.pod_monitor.then_some(object)
    }
}
