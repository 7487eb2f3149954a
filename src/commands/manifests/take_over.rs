//! `--take-over`: the clients of the app's Service come to the proxy, and change nothing.
//!
//! Of that Service one field changes, once a proxy is ready: the values in its selector. Its keys
//! stay, and so do the ports that it leads to: the proxy's pods have labels of the same keys, and
//! listen on the same ports. `kubectl apply` and Helm merge a Service's own manifest into what
//! is there, and leave keys and fields that they do not know. They would make of another selector
//! a mixture that no pod has, and of another `targetPort` one that the app's pods have not; of
//! this one they make the selector of before.
//!
//! The app's pods get a Service of another name, which the proxy dials. It has all that
//! the app's Service says of its pods.

use serde_json::{Map as JsonMap, Value, json};

use super::objects::ClientPort;
use super::{INSTANCE, Install, NAME, parse};
use crate::commands::options::Options;
use crate::commands::yaml::{Item, Map, Yaml};
use crate::settings;

/// The fields of a Service's `spec`, apart from ports and selector, that say how its pods are
/// reached.
const OF_THE_PODS: [&str; 6] = [
    "sessionAffinity",
    "sessionAffinityConfig",
    "trafficDistribution",
    "publishNotReadyAddresses",
    "ipFamilies",
    "ipFamilyPolicy",
];

/// The annotation by which a Service asks for endpoints of the same zone, as before
/// `trafficDistribution`.
const TOPOLOGY_MODE: &str = "service.kubernetes.io/topology-mode";

/// The first port of the container for a port that is known by its name alone, if the Service's
/// own may not be had without privileges: 80 becomes 8080, as usual.
const UNPRIVILEGED: u16 = 8000;

/// The Service that the proxy takes over, as it leads to the app.
pub struct TakeOver {
    /// The name of the Service that the app's pods get.
    pub pods_service: String,
    /// The labels of the app's pods.
    pub selector: Vec<(String, String)>,
    ports: Vec<Port>,
    /// The other fields that hold for the pods.
    fields: JsonMap<String, Value>,
    topology_mode: Option<String>,
    /// Whatever else writes the Service, in words.
    pub writers: Vec<String>,
}

/// A port of the Service.
struct Port {
    name: Option<String>,
    number: u16,
    target: Target,
    app_protocol: Option<String>,
}

/// The port of the pods, as in `targetPort`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    Name(String),
    Number(u16),
}

/// What is there: the app's Service, and the Service of its pods, if there is one.
#[derive(Clone, Debug)]
pub struct Services {
    pub app: Value,
    pub pods: Option<Value>,
}

impl TakeOver {
    /// Reads the Service that clients use. Where it leads to the proxy already, what is known of
    /// the app's pods is in the Service that they have got.
    ///
    /// # Errors
    /// Why it cannot be taken over, and what to do.
    pub fn new(
        services: &Services,
        service: &str,
        leads_to_proxy: impl Fn(&[(String, String)]) -> bool,
    ) -> Result<TakeOver, String> {
        let pods_service = settings::dns_label(&format!("{service}-pods"))
            .map_err(|why| format!("--take-over: {service}-pods {why}"))?;
        let is_ours = |it: &Value| it["metadata"]["labels"][NAME.0] == NAME.1;
        let foreign = services.pods.as_ref().filter(|it| !is_ours(it));
        if foreign.is_some() {
            return Err(format!(
                "--take-over: there is a Service {pods_service} already, which is not of zpa: the \
                 app's pods would get a Service of that name"
            ));
        }
        let mut read = &services.app;
        if leads_to_proxy(&selector(read)) {
            read = services.pods.as_ref().ok_or_else(|| {
                format!(
                    "--take-over: {}. If that is by an earlier --take-over, what it was is in the \
                     Service {pods_service}, which is not there; a file has to have that one",
                    selects_proxy(service)
                )
            })?;
        }
        let taken = TakeOver {
            selector: selector(read),
            ports: ports(read, service)?,
            fields: fields(read),
            topology_mode: read["metadata"]["annotations"][TOPOLOGY_MODE]
                .as_str()
                .map(str::to_owned),
            writers: writers(&services.app),
            pods_service,
        };
        match hindrance(read, &taken) {
            Some(why) => Err(format!("--take-over: the Service {service} {why}")),
            None => Ok(taken),
        }
    }

    /// Where the proxy listens: each port that the Service leads to, once.
    ///
    /// # Errors
    /// Which of them the proxy cannot have.
    pub fn listeners(&self, admin: Option<u16>) -> Result<Vec<ClientPort>, String> {
        let mut taken: Vec<u16> = self
            .ports
            .iter()
            .filter_map(|it| it.target.number())
            .collect();
        let mut listeners: Vec<ClientPort> = Vec::new();
        for (at, port) in self.ports.iter().enumerate() {
            if self.ports[..at].iter().any(|it| it.target == port.target) {
                continue;
            }
            let container = match port.target {
                Target::Number(number) if Some(number) == admin => {
                    return Err(format!(
                        "--admin-listen: the Service leads to port {number} of its pods, so that \
                         the proxy has to listen there for clients; use another one, e.g. \
                         --admin-listen=:9081"
                    ));
                }
                Target::Number(number) => number,
                Target::Name(_) => free_port(port.number, &taken, admin),
            };
            taken.push(container);
            listeners.push(ClientPort {
                name: port.target.container_name(self.ports.len(), container),
                container,
                service: port.number.into(),
            });
        }
        Ok(listeners)
    }

    /// The value of `--listen` for these listeners.
    pub fn listen(&self, listeners: &[ClientPort]) -> String {
        if let ([_], [only]) = (&self.ports[..], listeners) {
            return format!(":{}", only.container);
        }
        let entries = listeners.iter().map(|it| {
            let mut ports = self.ports.iter();
            let name = ports.find(|port| i64::from(port.number) == it.service);
            match name.and_then(|port| port.name.as_deref()) {
                Some(name) => format!("{}={name}", it.container),
                None => format!("{}={}", it.container, it.service),
            }
        });
        entries.collect::<Vec<_>>().join(",")
    }
}

impl Target {
    fn number(&self) -> Option<u16> {
        match self {
            Target::Number(number) => Some(*number),
            Target::Name(_) => None,
        }
    }

    /// What the proxy's container calls the port.
    fn container_name(&self, ports: usize, container: u16) -> String {
        match self {
            Target::Name(name) => name.clone(),
            Target::Number(_) if ports == 1 => "proxy".to_owned(),
            Target::Number(_) => format!("proxy-{container}"),
        }
    }
}

/// What is wrong with a Service that selects the proxy's pods.
pub fn selects_proxy(service: &str) -> String {
    format!(
        "the Service {service} selects the proxy's pods, which would dial themselves: give the \
         app's pods a label of their own, and have the Service select them by that"
    )
}

/// A port of the container for clients of that port of the Service.
pub fn free_port(service: u16, taken: &[u16], admin: Option<u16>) -> u16 {
    let first = if service < 1024 {
        UNPRIVILEGED + service
    } else {
        service
    };
    let is_free = |port: &u16| Some(*port) != admin && !taken.contains(port);
    (first..=u16::MAX).find(is_free).unwrap_or(first)
}

/// The labels by which a Service selects.
pub fn selector(service: &Value) -> Vec<(String, String)> {
    let labels = service["spec"]["selector"].as_object();
    let labels = labels.into_iter().flatten();
    labels
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

fn ports(service: &Value, name: &str) -> Result<Vec<Port>, String> {
    let ports = service["spec"]["ports"].as_array();
    ports
        .into_iter()
        .flatten()
        .map(|it| port(it, name))
        .collect()
}

fn port(port: &Value, service: &str) -> Result<Port, String> {
    let why = |why: &str| {
        format!(
            "--take-over: the Service {service}, port {}: {why}",
            port["port"]
        )
    };
    if !is_tcp(port) {
        return Err(why(
            "is not for TCP, and the proxy serves nothing else: move it to a Service of its own \
             first",
        ));
    }
    let number = number_of(&port["port"]).ok_or_else(|| why("is no port"))?;
    let target = match &port["targetPort"] {
        Value::Null => Target::Number(number),
        Value::String(name) if name == "admin" => {
            return Err(why(
                "its targetPort is called admin, as the proxy's own port for probes is: give the \
                 number of that port",
            ));
        }
        Value::String(name) => Target::Name(name.clone()),
        target => Target::Number(number_of(target).ok_or_else(|| why("has no targetPort"))?),
    };
    let text = |key: &str| port[key].as_str().map(str::to_owned);
    Ok(Port {
        name: text("name"),
        number,
        target,
        app_protocol: text("appProtocol"),
    })
}

/// Whether the proxy can serve a port of a Service.
pub fn is_tcp(port: &Value) -> bool {
    matches!(port["protocol"].as_str(), None | Some("TCP"))
}

/// The number of a port.
pub fn number_of(port: &Value) -> Option<u16> {
    let number = u16::try_from(port.as_u64()?).ok()?;
    (number > 0).then_some(number)
}

fn fields(service: &Value) -> JsonMap<String, Value> {
    let is_default = |value: &Value| *value == json!("None") || *value == json!(false);
    let fields = OF_THE_PODS.into_iter().filter_map(|key| {
        let value = service["spec"].get(key)?;
        (!is_default(value)).then(|| (key.to_owned(), value.clone()))
    });
    fields.collect()
}

/// What a Service has by which its clients would lose what they have.
fn hindrance(service: &Value, taken: &TakeOver) -> Option<&'static str> {
    let spec = &service["spec"];
    if taken.selector.is_empty() {
        return Some("has no selector: which pods are the app's is not known");
    }
    if spec["clusterIP"] == "None" {
        return Some(
            "is headless: its clients connect to the pods' own addresses, and each pod may have a \
             name there. Leave --take-over out, and have those clients use the proxy's Service \
             that are to wake the app",
        );
    }
    if spec["internalTrafficPolicy"] == "Local" {
        return Some(
            "has internalTrafficPolicy: Local: on nodes without a proxy its clients would not be \
             served. Set it to Cluster first",
        );
    }
    taken.ports.is_empty().then_some("has no port")
}

/// The first of the flags that say what a Service that is taken over says itself.
fn given_by_the_service(options: &Options) -> Option<&'static str> {
    if options.is_given("--service-port") {
        return Some("--service-port");
    }
    let is_given = |flag: &&str| {
        let mut args = options.rest.iter().filter_map(|it| it.to_str());
        args.any(|it| it.split('=').next() == Some(*flag))
    };
    ["--listen", "--port"].into_iter().find(|it| is_given(it))
}

/// What else writes the Service, by the marks that it leaves.
fn writers(service: &Value) -> Vec<String> {
    const ANNOTATIONS: [(&str, &str); 4] = [
        ("meta.helm.sh/release-name", "Helm"),
        ("argocd.argoproj.io/tracking-id", "Argo CD"),
        (
            "kubectl.kubernetes.io/last-applied-configuration",
            "kubectl apply",
        ),
        ("objectset.rio.cattle.io/id", "Rancher"),
    ];
    const LABELS: [(&str, &str); 3] = [
        ("kustomize.toolkit.fluxcd.io/name", "Flux"),
        ("helm.toolkit.fluxcd.io/name", "Flux"),
        ("argocd.argoproj.io/instance", "Argo CD"),
    ];
    let metadata = &service["metadata"];
    let marks = |place: &str, marks: &[(&str, &str)]| {
        let marks = marks
            .iter()
            .filter(|(key, _)| metadata[place].get(*key).is_some());
        marks
            .map(|(_, name)| (*name).to_owned())
            .collect::<Vec<_>>()
    };
    let owners = metadata["ownerReferences"].as_array();
    let owners = owners.into_iter().flatten().filter_map(|it| {
        Some(format!(
            "the {} {}",
            it["kind"].as_str()?,
            it["name"].as_str()?
        ))
    });
    let mut writers = marks("annotations", &ANNOTATIONS);
    writers.extend(marks("labels", &LABELS));
    writers.extend(owners);
    writers.dedup();
    writers
}

impl Install {
    /// Takes over the app's Service: the proxy listens on the ports that it leads to, and dials
    /// the Service that the app's pods get.
    ///
    /// # Errors
    /// Why it cannot.
    pub(super) fn take_over(
        &mut self,
        services: &Services,
        options: &Options,
    ) -> Result<(), Vec<String>> {
        let line = |why: String| vec![why];
        if let Some(flag) = given_by_the_service(options) {
            return Err(line(format!(
                "{flag}: follows from the Service with --take-over; leave it out"
            )));
        }
        let taken = TakeOver::new(services, &self.service, |it| self.selects_proxy(it));
        let taken = taken.map_err(line)?;
        let admin = self.settings.admin_listen.map(|at| at.port());
        self.client_ports = taken.listeners(admin).map_err(line)?;
        let listen = format!("--listen={}", taken.listen(&self.client_ports));
        self.settings.listen = parse(vec!["--deployment=app".into(), listen.into()])?.listen;
        self.settings.service = Some(taken.pods_service.clone());
        self.take_over = Some(taken);
        Ok(())
    }

    /// The value of a label of the proxy's pods: of those by which proxies are found, and of those
    /// by which a Service that it takes over selects.
    fn label(&self, key: &str) -> String {
        match key {
            INSTANCE => self.instance(),
            key if key == NAME.0 => NAME.1.to_owned(),
            _ => self.name.clone(),
        }
    }

    /// Whether these labels select the proxy's pods.
    pub(super) fn selects_proxy(&self, selector: &[(String, String)]) -> bool {
        let has = |(key, value): &(String, String)| self.label(key) == *value;
        !selector.is_empty() && selector.iter().all(has)
    }

    /// The labels that the proxy's pods have beside those of all its objects.
    pub(super) fn taken_labels(&self) -> Vec<(String, String)> {
        let taken = self.take_over.iter().flat_map(|it| &it.selector);
        let keys = taken.map(|(key, _)| key.as_str());
        let keys = keys.filter(|key| ![INSTANCE, NAME.0].contains(key));
        keys.map(|key| (key.to_owned(), self.label(key))).collect()
    }

    /// The patch of the Service's selector that leads its clients to the proxy, and the one that
    /// leads them back (RFC 7396).
    pub(super) fn switches(&self, taken: &TakeOver) -> [String; 2] {
        let old = taken.selector.iter();
        let old = old.map(|(key, value)| (key.clone(), Value::from(value.as_str())));
        let mut back: JsonMap<String, Value> = old.collect();
        for key in self.added_keys(taken) {
            back.insert(key.to_owned(), Value::Null);
        }
        let there = back.keys().map(|key| (key.clone(), self.label(key).into()));
        let there: JsonMap<String, Value> = there.collect();
        [there, back].map(|selector| json!({ "spec": { "selector": selector } }).to_string())
    }

    /// The labels that the selector has to have more than before. Those that all objects of
    /// the proxy have tell it from others only together.
    pub(super) fn added_keys(&self, taken: &TakeOver) -> Vec<&'static str> {
        let of_all = [INSTANCE, NAME.0];
        let has = |key: &str| taken.selector.iter().any(|(it, _)| it == key);
        if taken
            .selector
            .iter()
            .any(|(key, _)| !of_all.contains(&&**key))
        {
            return Vec::new();
        }
        of_all.into_iter().filter(|key| !has(key)).collect()
    }

    /// The Service that the app's pods get, where the proxy takes over theirs.
    pub(super) fn pods_service(&self) -> Option<Map> {
        let taken = self.take_over.as_ref()?;
        let selector = taken.selector.iter();
        let selector = selector.fold(Map::new(), |map, (key, value)| map.set(key, value.as_str()));
        let mut spec = Map::new()
            .set(
                "ports",
                taken.ports.iter().map(Port::yaml).collect::<Vec<_>>(),
            )
            .set("selector", selector);
        for (key, value) in &taken.fields {
            spec = spec.set(key, Yaml::from(value));
        }
        let mode = taken.topology_mode.as_deref();
        let mode = mode.map(|mode| Map::new().set(TOPOLOGY_MODE, mode));
        let metadata = self
            .metadata(&taken.pods_service)
            .set_if("annotations", mode);
        let object = Map::new()
            .set("apiVersion", "v1")
            .set("kind", "Service")
            .set("metadata", metadata)
            .set("spec", spec);
        Some(object)
    }
}

impl Port {
    fn yaml(&self) -> Item {
        let target: Yaml = match &self.target {
            Target::Name(name) => name.as_str().into(),
            Target::Number(number) => i64::from(*number).into(),
        };
        let port = Map::new()
            .set_if("name", self.name.as_deref())
            .set("port", i64::from(self.number))
            .set("targetPort", target)
            .set_if("appProtocol", self.app_protocol.as_deref());
        Item::new("", port)
    }
}
