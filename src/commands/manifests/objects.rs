//! The proxy's Deployment, and the objects around it.

use std::time::Duration;

use super::Install;
use crate::cluster::PortRef;
use crate::commands::yaml::{Item, Map};
use crate::settings::{self, Listener, TABLE};

/// The comment above the Service that the app's pods get.
pub const PODS_SERVICE: &str = "The app's pods, for the proxy: what the Service that it takes \
                                over has led to.";

/// The comment above the NetworkPolicy.
pub const POLICY: &str = "Who may connect to the proxy: clients from anywhere, and to the admin \
                          port only the namespace of Prometheus. The kubelet's probes are let \
                          through all the same.";

/// The settings that the cluster knows: their flags, their variables, the fields of the pod, and
/// the comments.
const PLACES: [(&str, &str, &str, &str); 2] = [
    (
        "zone",
        "ZPA_ZONE",
        "metadata.labels['topology.kubernetes.io/zone']",
        "For a Service with trafficDistribution: pods of the same zone are dialled first. The \
         label is there since Kubernetes 1.35; without it the variable is empty.",
    ),
    ("node", "ZPA_NODE", "spec.nodeName", ""),
];

/// Below this port a process without privileges needs a sysctl to listen.
const FIRST_UNPRIVILEGED_PORT: u16 = 1024;

/// A port where clients connect.
pub struct ClientPort {
    /// The name of the container's port.
    pub name: String,
    /// Its number in the container,
    pub container: u16,
    /// and in the Service.
    pub service: i64,
}

/// Where clients connect, by the list of `--listen`. One alone is called `proxy`, and has that
/// port of the Service; several are called what the app's Service calls them, as far as the
/// name may be that of a port of a container (IANA_SVC_NAME: 15 characters), and have the
/// numbers that they have there.
pub fn client_ports(listeners: &[Listener], service_port: i64) -> Vec<ClientPort> {
    if let [only] = listeners {
        return vec![ClientPort {
            name: "proxy".to_owned(),
            container: only.address.port(),
            service: service_port,
        }];
    }
    let ports = listeners.iter().map(|listener| {
        let container = listener.address.port();
        let (name, service) = match &listener.port {
            Some(PortRef::Name(name)) if name.len() <= 15 && name != "admin" => {
                (name.clone(), container)
            }
            Some(PortRef::Number(number)) => (format!("proxy-{container}"), *number),
            _ => (format!("proxy-{container}"), container),
        };
        ClientPort {
            name,
            container,
            service: service.into(),
        }
    });
    ports.collect()
}

impl Install {
    /// What selects the proxy's pods.
    pub(super) fn selector(&self) -> Map {
        Map::new().set("matchLabels", self.labels())
    }

    pub(super) fn deployment(&self) -> Map {
        let update = Map::new().set("maxSurge", 1).set("maxUnavailable", 0);
        let strategy = Map::new()
            .set("type", "RollingUpdate")
            .set("rollingUpdate", update);
        let template = Map::new()
            .set("metadata", Map::new().set("labels", self.pod_labels()))
            .set("spec", self.pod());
        let spec = Map::new()
            .comment(
                "Any number: they agree through the object that is scaled, and whichever is \
                 left keeps the app awake, or wakes it.",
            )
            .set("replicas", self.replicas)
            .set("selector", self.selector())
            .set("strategy", strategy)
            .set("template", template);
        Map::new()
            .set("apiVersion", "apps/v1")
            .set("kind", "Deployment")
            .set("metadata", self.metadata(&self.name))
            .set("spec", spec)
    }

    /// The labels of the proxy's pods.
    fn pod_labels(&self) -> Map {
        let taken = self.taken_labels();
        let comment = match taken.is_empty() {
            true => "",
            false => "By these the Service of the clients selects, once it is switched.",
        };
        let labels = self.labels().comment(comment);
        taken
            .into_iter()
            .fold(labels, |map, (key, value)| map.set(&key, value))
    }

    fn pod(&self) -> Map {
        let selector = self.selector();
        let spread = Map::new()
            .set("maxSkew", 1)
            .set("topologyKey", "kubernetes.io/hostname")
            .set("whenUnsatisfiable", "ScheduleAnyway")
            .set("labelSelector", selector);
        Map::new()
            .set("serviceAccountName", self.name.clone())
            .comment("More than ZPA_DRAIN_DELAY and ZPA_DRAIN_TIMEOUT together.")
            .set("terminationGracePeriodSeconds", self.grace_period())
            .comment("Where there is more than one node, on more than one.")
            .set("topologySpreadConstraints", [spread])
            .comment("The variables of every Service in the namespace are of no use here.")
            .set("enableServiceLinks", false)
            .set("securityContext", self.pod_security())
            .set("containers", vec![Item::new("", self.container())])
            .set_if("volumes", self.mount.as_ref().map(|it| [it.volume()]))
    }

    /// Seconds: what the drain takes at most, and five.
    fn grace_period(&self) -> i64 {
        let drain = self.settings.drain_delay + self.settings.drain_timeout;
        i64::try_from((drain + Duration::from_millis(5_999)).as_secs()).unwrap_or(i64::MAX)
    }

    fn pod_security(&self) -> Map {
        let mut security = Map::new().set("runAsNonRoot", true);
        if !self.openshift {
            security = security
                .set("runAsUser", 65_532)
                .set("runAsGroup", 65_532)
                .comment("The service account's token is readable by this group.")
                .set("fsGroup", 65_532);
        }
        security = security.set("seccompProfile", Map::new().set("type", "RuntimeDefault"));
        let mut ports = self.client_ports.iter();
        if ports.any(|port| port.container < FIRST_UNPRIVILEGED_PORT) {
            let sysctl = Map::new()
                .set("name", "net.ipv4.ip_unprivileged_port_start")
                .set("value", "0");
            security = security
                .comment("A safe sysctl: without it only root may listen on a port below 1024.")
                .set("sysctls", [sysctl]);
        }
        security
    }

    fn container(&self) -> Map {
        let dropped = Map::new().set("drop", ["ALL"]);
        let security = Map::new()
            .set("allowPrivilegeEscalation", false)
            .set("readOnlyRootFilesystem", true)
            .set("capabilities", dropped);
        let readiness = Map::new()
            .set("httpGet", probe("/readyz"))
            .set("periodSeconds", 2)
            .set("timeoutSeconds", 2);
        let liveness = Map::new()
            .set("httpGet", probe("/healthz"))
            .set("periodSeconds", 10)
            .set("timeoutSeconds", 5)
            .set("failureThreshold", 6);
        Map::new()
            .set("name", "zpa")
            .set("image", self.image.clone())
            .comment(
                "With the tag `latest` the default is Always, which fails for an image that was \
                 loaded into the node.",
            )
            .set("imagePullPolicy", "IfNotPresent")
            .comment("Every setting is a variable; `zpa --help` lists them.")
            .set("env", self.environment())
            .set("ports", self.ports())
            .comment(
                "Both on the admin port, which is none of the app's: a probe of the proxy port \
                 is a client like any other. It would wake the app, and keep it awake for ever.",
            )
            .set("readinessProbe", readiness)
            .comment(
                "Alive while the event loop turns, whatever the API server does. Not in a hurry: \
                 a restart ends all connections.",
            )
            .set("livenessProbe", liveness)
            .set("securityContext", security)
            .set("resources", self.resources())
            .set_if("volumeMounts", self.mount.as_ref().map(|it| [it.mount()]))
    }

    fn environment(&self) -> Vec<Item> {
        let rows = self.variables.iter().filter_map(|(flag, value)| {
            let row = TABLE.iter().find(|row| row.flag == *flag)?;
            let variable = Map::new()
                .set("name", *row.variables.first()?)
                .set("value", value.clone());
            Some(Item::new(&comment_of(row), variable))
        });
        rows.chain(self.places()).collect()
    }

    /// Where the pod runs, as the cluster says, unless the settings do.
    fn places(&self) -> impl Iterator<Item = Item> {
        let places = PLACES.iter().filter(|(flag, ..)| {
            let mut given = self.variables.iter();
            !given.any(|(other, _)| other == flag)
        });
        places.map(|(_, variable, path, comment)| {
            let field = Map::new().set("fieldPath", *path);
            let from = Map::new().set("fieldRef", field);
            let variable = Map::new().set("name", *variable).set("valueFrom", from);
            Item::new(comment, variable)
        })
    }

    fn ports(&self) -> Vec<Item> {
        let port = |name: &str, number: u16| {
            let port = Map::new()
                .set("name", name)
                .set("containerPort", i32::from(number));
            Item::new("", port)
        };
        let admin = self
            .settings
            .admin_listen
            .map(|at| port("admin", at.port()));
        let clients = self.client_ports.iter();
        let clients = clients.map(|it| port(&it.name, it.container));
        clients.chain(admin).collect()
    }

    fn resources(&self) -> Map {
        let requests = Map::new().set("cpu", "10m").set("memory", "16Mi");
        let memory = format!("{}Mi", self.memory_limit());
        Map::new()
            .set("requests", requests)
            .comment(
                "For ZPA_MAX_CONNECTIONS: the kernel's sockets count too. No CPU limit: throttling \
             would be latency for every client.",
            )
            .set("limits", Map::new().set("memory", memory))
    }

    /// The Service that clients connect to, where they are pointed to one of the proxy's own.
    pub(super) fn client_service_object(&self) -> Map {
        let port = |port: &ClientPort| {
            let port = Map::new()
                .set("name", port.name.as_str())
                .set("port", port.service)
                .set("targetPort", port.name.as_str());
            Item::new("", port)
        };
        let ports: Vec<Item> = self.client_ports.iter().map(port).collect();
        let spec = Map::new()
            .set("ports", ports)
            .set("selector", self.labels());
        Map::new()
            .set("apiVersion", "v1")
            .set("kind", "Service")
            .set("metadata", self.metadata(self.client_service()))
            .set("spec", spec)
    }

    pub(super) fn disruption_budget(&self) -> Map {
        let spec = Map::new()
            .set("maxUnavailable", 1)
            .set("selector", self.selector());
        Map::new()
            .set("apiVersion", "policy/v1")
            .set("kind", "PodDisruptionBudget")
            .set("metadata", self.metadata(&self.name))
            .set("spec", spec)
    }

    pub(super) fn policy(&self) -> Option<Map> {
        let from = self.network_policy.as_deref()?;
        let item = |port: &str| Item::new("", Map::new().set("port", port));
        let on = |port: &str| vec![item(port)];
        let clients: Vec<Item> = self.client_ports.iter().map(|it| item(&it.name)).collect();
        let names = Map::new().set("kubernetes.io/metadata.name", from);
        let namespace = Map::new().set("namespaceSelector", Map::new().set("matchLabels", names));
        let admin = Map::new()
            .set("ports", on("admin"))
            .set("from", [namespace]);
        let ingress = vec![
            Item::new("", Map::new().set("ports", clients)),
            Item::new("", admin),
        ];
        let spec = Map::new()
            .set("podSelector", self.selector())
            .set("policyTypes", ["Ingress"])
            .set("ingress", ingress);
        let object = Map::new()
            .set("apiVersion", "networking.k8s.io/v1")
            .set("kind", "NetworkPolicy")
            .set("metadata", self.metadata(&self.name))
            .set("spec", spec);
        Some(object)
    }
}

fn probe(path: &str) -> Map {
    Map::new().set("path", path).set("port", "admin")
}

/// What a setting is for, from the table.
fn comment_of(row: &settings::Setting) -> String {
    format!("{}.", row.help.trim_end_matches('.'))
}
