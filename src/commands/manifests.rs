//! `zpa manifests` prints the objects that put the proxy in front of one app, as YAML.
//!
//! The objects are those of `manifests/base` as the overlay of `manifests/example`
//! has them; tests hold both to one another. The same arguments give the same output.

mod lookup;
mod objects;
mod permissions;

use std::ffi::OsString;
use std::fmt::Write;

use super::command::{Command, PRINTED};
use super::options::{CommandOption, Options};
use super::yaml::{Map, document};
use super::{Environment, Output};
use crate::engine::connections_within;
use crate::kubeconfig_flags::KubeconfigFlags;
use crate::settings::{self, Settings};

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
            "The proxy gets the Service's own name, and clients change nothing.",
        ),
    ],
    run,
};

static OPTIONS: [CommandOption; 12] = [
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
        "SELECTOR:PORT",
        "clients change",
        "Give the proxy the Service's own name, so that clients change nothing. The \
               app's pods get a Service of another name, which needs their labels and their \
               port, e.g. app=my-app,tier=web:5432, or auto with --lookup",
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
    CommandOption::value(
        "--tcp-route",
        "GATEWAY",
        "none",
        "A TCPRoute from that Gateway to the proxy",
    ),
    CommandOption::switch(
        "--lookup",
        "nothing is read",
        "Read the Service and the namespace from the cluster, with your kubeconfig: \
               --namespace, --service-port, and labels and port for --take-over auto. The first line \
               of the output is the command that prints the same without a cluster",
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
    /// How many connections are allowed, and for how many there is memory.
    connections: usize,
    network_policy: Option<String>,
    pod_monitor: bool,
    tcp_route: Option<String>,
    openshift: bool,
    /// Whether it may read the pods of the app.
    reads_pods: bool,
}

/// What the proxy needs to take over the name of the app's Service.
struct TakeOver {
    /// The labels of the app's pods.
    labels: Vec<(String, String)>,
    /// The port of the app's pods, by number or name.
    port: String,
    /// The name of the Service that the app's pods get.
    service: String,
}

fn run(args: &[OsString], environment: &Environment<'_>) -> Output {
    let printed = lookup::resolve(args, environment)
        .and_then(|args| Install::new(&args).map(|install| install.render(&args)));
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
    fn new(args: &[OsString]) -> Result<Install, Vec<String>> {
        let options = Options::take(&OPTIONS, args).map_err(|why| vec![why])?;
        let settings = parse(options.rest.clone())?;
        let service = settings.service.clone().unwrap_or_default();
        let take_over = options.value("--take-over");
        let take_over = take_over.map(|text| TakeOver::parse(text, &service));
        let take_over = take_over.transpose().map_err(|why| vec![why])?;
        let variables = variables(&settings, take_over.as_ref())?;
        let install = Install::from_options(&options, settings, take_over, variables);
        install.map_err(|why| vec![why])
    }

    fn from_options(
        options: &Options,
        settings: Settings,
        take_over: Option<TakeOver>,
        variables: Vec<(&'static str, String)>,
    ) -> Result<Install, String> {
        let Some(app) = settings.target_ref.name().map(str::to_owned) else {
            return Err("what is scaled has to be given by its name: a Role names it".to_owned());
        };
        if let Some(flag) = of_no_pod(&settings) {
            return Err(format!(
                "--{flag}: is for use outside a cluster; the proxy has its service account"
            ));
        }
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
        let of_one_port = [
            ("--service-port", options.is_given("--service-port")),
            ("--take-over", take_over.is_some()),
        ];
        let of_one_port = of_one_port.into_iter().find(|(_, is_given)| *is_given);
        if let (Some((option, _)), [_, _, ..]) = (of_one_port, &settings.listen[..]) {
            return Err(format!(
                "{option}: is for one port, and --listen has several; with those, the Service's \
                 ports follow from the list"
            ));
        }
        let service = settings.service.clone().unwrap_or_else(|| app.clone());
        let name = match options.value("--name") {
            Some(name) => name.to_owned(),
            None => format!("{}-zpa", app.replace('.', "-")),
        };
        Ok(Install {
            variables,
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
            tcp_route: options.value("--tcp-route").map(str::to_owned),
            openshift: options.is_given("--openshift"),
            reads_pods: settings.fail_fast || options.is_given("--read-pods"),
            app,
            service,
            take_over,
            settings,
        })
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
        match &self.take_over {
            Some(take_over) => &take_over.service,
            None => &self.service,
        }
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
        for (comment, object) in self.objects() {
            text += "---\n";
            text += &document(comment, &object);
        }
        text
    }

    /// The comment at the top: what this is, and how to apply, check and remove it.
    fn head(&self, args: &[OsString]) -> String {
        let args: Vec<String> = args.iter().map(shell_word).collect();
        let command = format!("zpa manifests {}", args.join(" "));
        let namespace = self.settings.namespace.as_deref();
        let in_namespace = namespace.map_or_else(String::new, |it| format!(" -n {it}"));
        let (name, service) = (&self.name, self.client_service());
        let mut text = format!(
            "# {command}\n#\n\
             # To apply:  {command} | kubectl apply -f -\n\
             # To watch:  kubectl{in_namespace} port-forward deploy/{name} 8081\n\
             #            and http://localhost:8081/status\n"
        );
        let _ = match &self.take_over {
            None => writeln!(
                text,
                "# Clients connect to the Service {service} in place of {}.\n\
                 # To remove: point the clients back, delete these objects, and scale {} up.",
                self.service, self.settings.target_ref
            ),
            Some(take_over) => writeln!(
                text,
                "# Clients go on connecting to the Service {service}, which now leads to the\n\
                 # proxy; {} leads to the app's pods.\n\
                 # To remove: apply your own Service {service} again, delete these objects but\n\
                 # that one, and scale {} up.",
                take_over.service, self.settings.target_ref
            ),
        };
        text
    }

    fn objects(&self) -> Vec<(&'static str, Map)> {
        let mut all = vec![
            ("", self.service_account()),
            (permissions::HEAD, self.role()),
            ("", self.role_binding()),
            ("", self.deployment()),
            ("Where clients connect.", self.service()),
            (
                "Not all proxies at once when nodes are drained: each takes its connections with \
                 it, and with none left nobody can wake the app.",
                self.disruption_budget(),
            ),
        ];
        all.extend(self.app_service().map(|it| (objects::APP_SERVICE, it)));
        all.extend(self.policy().map(|it| (objects::POLICY, it)));
        all.extend(self.monitor().map(|it| (objects::MONITOR, it)));
        all.extend(self.route().map(|it| ("", it)));
        all
    }
}

/// The number of connections for which there is memory by default, as in `manifests/base`.
const DEFAULT_CONNECTIONS: usize = 10_000;

impl TakeOver {
    fn parse(text: &str, service: &str) -> Result<TakeOver, String> {
        let why = || {
            format!(
                "--take-over: {text} is not the labels of the app's pods and their port; use \
                 e.g. app={service}:5432"
            )
        };
        let (selector, port) = text.rsplit_once(':').ok_or_else(why)?;
        let labels = selector.split(',').map(|label| {
            let (key, value) = label.split_once('=')?;
            let is_given = !key.is_empty() && !value.is_empty();
            is_given.then(|| (key.to_owned(), value.to_owned()))
        });
        let labels: Option<Vec<_>> = labels.collect();
        match labels {
            Some(labels) if !port.is_empty() => Ok(TakeOver {
                labels,
                port: port.to_owned(),
                service: dns_label("--service", &format!("{service}-pods"))?,
            }),
            _ => Err(why()),
        }
    }
}

/// An argument quoted for a shell. A line break, which would end a
/// comment, becomes a blank.
fn shell_word(arg: &OsString) -> String {
    let text = arg.to_string_lossy().replace(char::is_control, " ");
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_=.,:/@%+".contains(c);
    match text.chars().all(is_plain) && !text.is_empty() {
        true => text,
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// Parses the remaining arguments as settings, without the environment.
fn parse(args: Vec<OsString>) -> Result<Settings, Vec<String>> {
    super::settings(&COMMAND, args, &|_| None)
}

/// The settings that differ from their defaults, and those that whoever reads the
/// manifests is likely to change; by their flags, in the order of the table.
fn variables(
    settings: &Settings,
    take_over: Option<&TakeOver>,
) -> Result<Vec<(&'static str, String)>, Vec<String>> {
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
            ("service", value) => take_over.map(|it| it.service.clone()).or(value),
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

/// The setting that says how the API server is reached, if that is not as in a pod.
fn of_no_pod(settings: &Settings) -> Option<&'static str> {
    if settings.kube != KubeconfigFlags::default() {
        return Some("kubeconfig");
    }
    settings.api_server.is_some().then_some("api-server")
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
            .set("app.kubernetes.io/instance", self.instance())
            .set("app.kubernetes.io/name", "zero-pod-autoscaler")
    }

    /// A label's value has 63 characters at most.
    fn instance(&self) -> String {
        self.app.chars().take(63).collect()
    }
}
