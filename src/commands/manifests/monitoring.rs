//! The objects of the Prometheus operator.

use super::{Install, label_list};
use crate::commands::options::Options;
use crate::commands::yaml::{Item, Map, document};

/// The comment above the PodMonitor.
pub const MONITOR: &str = "Each pod is asked for itself: every proxy counts its own connections.";

/// The comment above the PrometheusRule.
const RULE: &str = "What to alert on. It is for all proxies that this Prometheus scrapes.";

/// The rules, as the component for kustomize has them.
const ALERTS: &str = include_str!("../../../manifests/components/monitoring/alerts.yaml");

/// The value of `--monitoring-labels`.
///
/// # Errors
/// That it is no list of labels.
pub fn labels(options: &Options) -> Result<Vec<(String, String)>, String> {
    let Some(text) = options.value("--monitoring-labels") else {
        return Ok(Vec::new());
    };
    label_list(text).ok_or_else(|| {
        format!(
            "--monitoring-labels: {text} is no list of labels; use e.g. \
             release=kube-prometheus-stack"
        )
    })
}

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
        self.pod_monitor
            .then(|| self.monitoring("PodMonitor").set("spec", spec))
    }

    /// The PrometheusRule, whose `spec` is the text of the component, with its comments.
    pub(super) fn rule(&self) -> Option<String> {
        let at = ALERTS.find("\nspec:\n")? + 1;
        let head = document(RULE, &self.monitoring("PrometheusRule"));
        self.alerts.then(|| head + &ALERTS[at..])
    }

    /// An object without its `spec`.
    fn monitoring(&self, kind: &str) -> Map {
        let labels = self.monitoring_labels.iter();
        let labels = labels.fold(self.labels(), |map, (key, value)| {
            map.set(key, value.as_str())
        });
        let metadata = Map::new()
            .set("name", self.name.as_str())
            .set_if("namespace", self.settings.namespace.clone())
            .set("labels", labels);
        Map::new()
            .set("apiVersion", "monitoring.coreos.com/v1")
            .set("kind", kind)
            .set("metadata", metadata)
    }
}
