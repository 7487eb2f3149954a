//! `zpa manifests` prints the objects that put the proxy in front of one app, as YAML.
//!
//! The objects are those of `manifests/base` as the overlay of `manifests/example`
//! has them; tests hold both to one another. The same arguments give the same output.

mod files;
mod head;
mod lookup;
mod monitoring;
mod objects;
mod permissions;
mod routes;
mod take_over;

use std::ffi::OsString;

use super::command::{Command, PRINTED};
use super::options::{CommandOption, Options};
use super::yaml::{Map, document};
use super::{Environment, Output};
use crate::engine::connections_within;
use crate::settings::{self, Settings};
use crate::workload::WakeReplicas;
use files::Mount;
use lookup::Arguments;
use objects::ClientPort;
use routes::Parent;
use take_over::{Services, TakeOver};

/// The label of the proxy's objects that tells those of one app from others,
const INSTANCE: &str = "app.kubernetes.io/instance";

/// and the one that all proxies have, with its value.
const NAME: (&str, &str) = ("app.kubernetes.io/name", "zero-pod-autoscaler");

/// `zpa manifests`.
pub static COMMAND: Command = Command {
    name: "manifests",
    summary: "prints what puts it in front of an app, for kubectl apply -f -",
    usage: &["--deployment NAME [--FLAG VALUE]..."],
    about: "Prints the objects that put zpa in front of an app, for kubectl apply -f -. Without \
            --lookup no cluster is asked.",
    options: &OPTIONS,
    settings: Some(
        "Every setting is an option too, and becomes a variable of the proxy's container: zpa \
         --help lists them.",
    ),
    words: Vec::new,
    variables: &[(
        "KUBECONFIG, ZPA_KUBECONFIG, ...",
        "How the API server is reached, with --lookup. No other setting is taken from the \
         environment.",
    )],
    exit_codes: PRINTED,
    examples: &[
        (
            "--deployment my-app --service-port 5432 --idle-ttl 20m",
            "The proxy for the clients of a database.",
        ),
        (
            "--deployment my-app --lookup --take-over auto",
            "The Service leads to the proxy, once a command has switched it, and clients change nothing.",
        ),
    ],
    run,
};

static OPTIONS: [CommandOption; 16] = [
    CommandOption::value(
        "--image",
        "IMAGE",
        "zero-pod-autoscaler:latest",
        "The container image; by default the one that `make image` builds",
    ),
    CommandOption::value(
        "--name",
        "NAME",
        "the app's name with -zpa",
        "The name of all objects",
    ),
    CommandOption::value(
        "--replicas",
        "NUMBER",
        "2",
        "How many proxies there are to be",
    ),
    CommandOption::value(
        "--service-port",
        "PORT",
        "80",
        "Where clients connect: best what they are used to, such as 5432",
    ),
    CommandOption::value(
        "--take-over",
        "FILE",
        "clients change",
        "Have the clients of the app's Service come to the proxy, so that they change nothing. The \
         Service stays as it is but for the values in its selector, which a command changes once \
         a proxy is ready; the head of the output has that command, and the one that undoes it. \
         With --lookup the value is auto. Without, it is a file with the Service, as \
         `kubectl get service my-app -o json` prints it",
    ),
    CommandOption::switch(
        "--network-policy",
        "none",
        "A NetworkPolicy: clients from anywhere, the admin port from --metrics-from alone",
    ),
    CommandOption::value(
        "--metrics-from",
        "NAMESPACE",
        "monitoring",
        "The namespace of Prometheus, for --network-policy",
    ),
    CommandOption::switch(
        "--pod-monitor",
        "none",
        "A PodMonitor of the Prometheus operator",
    ),
    CommandOption::switch(
        "--alerts",
        "none",
        "A PrometheusRule of the Prometheus operator with the alerts of zpa. They are for all \
         proxies that it scrapes: once is enough",
    ),
    CommandOption::value(
        "--monitoring-labels",
        "KEY=VALUE,...",
        "none",
        "Labels of PodMonitor and PrometheusRule, where Prometheus selects them by labels, such as \
         release=kube-prometheus-stack",
    ),
    CommandOption::value(
        "--tcp-route",
        "GATEWAY",
        "none",
        "A TCPRoute from that Gateway to the proxy: [NAMESPACE/]GATEWAY[:LISTENER]. With several \
         ports one for each, in their order, separated by commas",
    ),
    CommandOption::switch(
        "--hpa",
        "none",
        "A note on what a HorizontalPodAutoscaler of the app has to have",
    ),
    CommandOption::value(
        "--config-map",
        "NAME:DIRECTORY",
        "none",
        "Mount that ConfigMap in the proxy's container, for settings that name files",
    ),
    CommandOption::switch(
        "--lookup",
        "nothing is read",
        "Read the Service and the namespace from the cluster, with your kubeconfig: --namespace, \
         --service-port, the list of --listen for a Service with several ports, and the Service \
         for --take-over auto. The first line of the output is the command that prints the same \
         without a cluster, except with --take-over",
    ),
    CommandOption::switch(
        "--read-pods",
        "with --fail-fast",
        "The permission to list pods and Events, so that the proxy says why a wake takes \
         long",
    ),
    CommandOption::switch(
        "--openshift",
        "none",
        "No user ids: OpenShift's namespaces have their own",
    ),
];

/// The installation of a proxy: the content of its manifests.
struct Install {
    settings: Settings,
    /// The settings that the container is given, by their flags.
    variables: Vec<(&'static str, String)>,
    /// The app's name, which is that of the scale target.
    app: String,
    /// The Service of the app.
    service: String,
    name: String,
    image: String,
    replicas: i64,
    service_port: i64,
    take_over: Option<TakeOver>,
    /// Where clients connect.
    client_ports: Vec<ClientPort>,
    /// How many connections are allowed, and for how many there is memory.
    connections: usize,
    network_policy: Option<String>,
    pod_monitor: bool,
    alerts: bool,
    monitoring_labels: Vec<(String, String)>,
    /// The Gateways of the client ports, if there are to be routes.
    routes: Vec<Parent>,
    hpa_note: bool,
    mount: Option<Mount>,
    openshift: bool,
    /// Whether it may read the pods of the app.
    reads_pods: bool,
}

fn run(args: &[OsString], environment: &Environment<'_>) -> Output {
    let printed = lookup::resolve(args, environment).and_then(|arguments| {
        let install = Install::new(&arguments)?;
        Ok(install.render(&arguments.shown))
    });
    match printed {
        Ok(text) => Output::Text(text),
        Err(errors) => Output::Errors(errors),
    }
}

impl Install {
    /// Parses the arguments.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    fn new(arguments: &Arguments) -> Result<Install, Vec<String>> {
        let line = |why: String| vec![why];
        let options = Options::take(&OPTIONS, &arguments.given).map_err(line)?;
        let settings = parse(options.rest.clone())?;
        let mut install = Install::from_options(&options, settings).map_err(line)?;
        match &arguments.services {
            Some(services) if arguments.takes_over => install.take_over(services, &options)?,
            services => {
                install.check_selector(services.as_ref()).map_err(line)?;
                install.client_ports = install.listed_ports(&options).map_err(line)?;
            }
        }
        install.add_routes(&options).map_err(line)?;
        install.variables = variables(&install.settings)?;
        files::check(&install).map_err(line)?;
        Ok(install)
    }

    fn from_options(options: &Options, settings: Settings) -> Result<Install, String> {
        let Some(app) = settings.target_ref.name().map(str::to_owned) else {
            return Err("what is scaled has to be given by its name: a Role names it".to_owned());
        };
        if settings.webhook.is_some() {
            return Err(
                "--webhook: is a secret, and no part of manifests: put it into a Secret, and let \
                 the container have ZPA_WEBHOOK from there (valueFrom.secretKeyRef)"
                    .to_owned(),
            );
        }
        if settings.admin_listen.is_none() {
            return Err("--admin-listen: the kubelet's probes need that port".to_owned());
        }
        let service = settings.service.clone().unwrap_or_else(|| app.clone());
        let name = match options.value("--name") {
            Some(name) => name.to_owned(),
            None => format!("{}-zpa", app.replace('.', "-")),
        };
        Ok(Install {
            variables: Vec::new(),
            name: dns_label("--name", &name)?,
            image: options
                .value("--image")
                .unwrap_or(OPTIONS[0].default)
                .to_owned(),
            replicas: number(options, "--replicas", 2, 1000)?,
            service_port: number(options, "--service-port", 80, 65_535)?,
            connections: settings.max_connections.unwrap_or(DEFAULT_CONNECTIONS),
            network_policy: options.is_given("--network-policy").then(|| {
                let from = options.value("--metrics-from");
                from.unwrap_or("monitoring").to_owned()
            }),
            pod_monitor: options.is_given("--pod-monitor"),
            alerts: options.is_given("--alerts"),
            monitoring_labels: monitoring::labels(options)?,
            routes: Vec::new(),
            hpa_note: options.is_given("--hpa"),
            mount: Mount::of(options)?,
            openshift: options.is_given("--openshift"),
            reads_pods: settings.fail_fast || options.is_given("--read-pods"),
            app,
            service,
            take_over: None,
            client_ports: Vec::new(),
            settings,
        })
    }

    /// Checks that the Service that is dialled does not select the proxy's pods.
    fn check_selector(&self, services: Option<&Services>) -> Result<(), String> {
        let selector = services.map(|it| take_over::selector(&it.app));
        match selector.is_some_and(|it| self.selects_proxy(&it)) {
            true => Err(format!(
                "--lookup: {}. Where --take-over is why it does, give that again",
                take_over::selects_proxy(&self.service)
            )),
            false => Ok(()),
        }
    }

    /// The ports where clients connect are those of `--listen`.
    fn listed_ports(&self, options: &Options) -> Result<Vec<ClientPort>, String> {
        if options.is_given("--service-port") && self.settings.listen.len() > 1 {
            return Err(
                "--service-port: is for one port, and --listen has several; with those, the \
                 Service's ports follow from the list"
                    .to_owned(),
            );
        }
        Ok(objects::client_ports(
            &self.settings.listen,
            self.service_port,
        ))
    }

    /// The name of the Service that clients connect to.
    fn client_service(&self) -> &str {
        match self.take_over {
            Some(_) => &self.service,
            None => &self.name,
        }
    }

    /// The name of the Service whose pods are dialled.
    fn dialled_service(&self) -> &str {
        self.settings.service.as_deref().unwrap_or(&self.service)
    }

    /// How much memory the container may take, in MiB: the least power of two that has
    /// room for all connections.
    fn memory_limit(&self) -> u64 {
        let has_room = |mib: &u64| connections_within(mib << 20) >= self.connections;
        let mut limits = (6..32).map(|power| 1 << power);
        limits.find(has_room).unwrap_or(1 << 32)
    }

    fn render(&self, args: &[OsString]) -> String {
        let mut text = self.head(args);
        let documents = self.objects().into_iter();
        let documents = documents.map(|(comment, object)| document(comment, &object));
        for document in documents.chain(self.rule()) {
            text += "---\n";
            text += &document;
        }
        text
    }

    /// The replicas of the app's wake, as far as they are given.
    fn wake_replicas(&self) -> u32 {
        match self.settings.wake_replicas {
            WakeReplicas::Replicas(count) => count.get(),
            WakeReplicas::Previous => 1,
        }
    }

    fn objects(&self) -> Vec<(&'static str, Map)> {
        let mut all = vec![
            ("", self.service_account()),
            (permissions::HEAD, self.role()),
            ("", self.role_binding()),
            ("", self.deployment()),
            (
                "Not all proxies at once when nodes are drained: each takes its connections with \
                 it, and with none left nobody can wake the app.",
                self.disruption_budget(),
            ),
        ];
        all.push(match self.pods_service() {
            Some(service) => (objects::PODS_SERVICE, service),
            None => ("Where clients connect.", self.client_service_object()),
        });
        all.extend(self.policy().map(|it| (objects::POLICY, it)));
        all.extend(self.monitor().map(|it| (monitoring::MONITOR, it)));
        all.extend(self.tcp_routes().into_iter().map(|it| ("", it)));
        all
    }
}

/// The number of connections for which there is memory by default, as in `manifests/base`.
const DEFAULT_CONNECTIONS: usize = 10_000;

/// Parses the remaining arguments as settings, without the environment.
fn parse(args: Vec<OsString>) -> Result<Settings, Vec<String>> {
    super::settings(&COMMAND, args, &|_| None)
}

/// The settings that differ from their defaults, and those that whoever reads the
/// manifests is likely to change; by their flags, in the order of the table.
fn variables(settings: &Settings) -> Result<Vec<(&'static str, String)>, Vec<String>> {
    const ALWAYS: [&str; 9] = [
        "deployment",
        "scale-target",
        "service",
        "idle-ttl",
        "hold-timeout",
        "max-connections",
        "drain-delay",
        "drain-timeout",
        "log",
    ];
    let defaults = parse(vec!["--deployment=my-app".into()])?;
    let rows = settings::in_force(settings).zip(settings::in_force(&defaults));
    let mut variables = Vec::new();
    for ((flag, value), (_, default)) in rows {
        let value = match (flag, value) {
            ("max-connections", None) => Some(DEFAULT_CONNECTIONS.to_string()),
            (_, value) => value,
        };
        let is_wanted = ALWAYS.contains(&flag) || value != default;
        // The objects are in the namespace, and the proxy is in theirs.
        if let Some(value) = value.filter(|_| is_wanted && flag != "namespace") {
            variables.push((flag, value));
        }
    }
    Ok(variables)
}

fn number(options: &Options, name: &str, default: i64, most: i64) -> Result<i64, String> {
    let Some(text) = options.value(name) else {
        return Ok(default);
    };
    let number = text
        .parse()
        .ok()
        .filter(|number| (1..=most).contains(number));
    number.ok_or_else(|| format!("{name}: {text} is not a number from 1 to {most}"))
}

/// Labels as `KEY=VALUE,...`; `None` if it is something else.
fn label_list(text: &str) -> Option<Vec<(String, String)>> {
    let labels = text.split(',').map(|label| {
        let (key, value) = label.split_once('=')?;
        let is_given = !key.is_empty() && !value.is_empty();
        is_given.then(|| (key.to_owned(), value.to_owned()))
    });
    labels.collect()
}

/// `text`, if it can be the name of a Service.
fn dns_label(option: &str, text: &str) -> Result<String, String> {
    settings::dns_label(text).map_err(|why| format!("{option}: {text:?} {why}"))
}

impl Install {
    /// The metadata of each object.
    fn metadata(&self, name: &str) -> Map {
        Map::new()
            .set("name", name)
            .set_if("namespace", self.settings.namespace.clone())
            .set("labels", self.labels())
    }

    /// The labels of the proxy's pods. The second tells this app's proxy from others.
    fn labels(&self) -> Map {
        Map::new()
            .set(INSTANCE, self.instance())
            .set(NAME.0, NAME.1)
    }

    /// A label's value has 63 characters at most.
    fn instance(&self) -> String {
        self.app.chars().take(63).collect()
    }
}
