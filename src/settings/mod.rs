//! [`Settings`]: the flags and environment variables, parsed once at start.
//!
//! One table ([`TABLE`]) has every setting: its flag, its variable, its default, its help,
//! its parser, and its flags in the dialects of the ancestors ([`Column`]). The raw values
//! (`raw.rs`: texts with their flags or variables) are kept apart from the resolved
//! [`Settings`], which are typed and checked. A flag overrides a variable, a variable
//! overrides the default, and all errors are reported in one run.
//!
//! This module reads neither the arguments nor the environment of the process, no file and
//! no clock: arguments and environment are arguments of [`parse`].

pub mod annotations;
pub mod apps;
mod checks;
mod dialect;
mod help;
mod json;
mod links;
mod listen;
pub mod migration;
mod nearest;
mod quote;
mod raw;
mod table;
mod unknown;
mod value;
mod wrap;

use std::ffi::OsString;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use crate::cluster::{ApiServer, HostPort, PortRef};
use crate::kubeconfig_flags::KubeconfigFlags;
use crate::log_format::LogFormat;
use crate::rules::Rules;
use crate::rules::ready_gate::ReadyGate;
use crate::rules::server_name::ServerNames;
use crate::schedule::Schedule;
use crate::webhook_url::WebhookUrl;
use crate::workload::{ANNOTATION_PREFIX, Dialect, TargetRef, WakeReplicas};
use apps::Defaults;
pub use help::{help, markdown_table, scopes, version};
pub use listen::Listener;
pub use nearest::nearest;
use raw::{RawSettings, RawValue};
use table::Store;
pub use table::{
    Column, Scope, Setting, Support, TABLE, Unset, ValueKind, given, in_force, in_force_of,
    variables,
};
pub use unknown::unknown_variables;
pub use value::{label as dns_label, subdomain as dns_subdomain};
pub use wrap::wrap;

/// The resolved settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The program whose flags the command line uses.
    pub dialect: Dialect,
    /// The namespace of the scale target and the Service; `None`: the namespace of the
    /// credentials.
    pub namespace: Option<String>,
    /// Whether apps are found in all namespaces.
    pub all_namespaces: bool,
    /// The scale target.
    pub target_ref: TargetRef,
    /// The name of the Service whose pods are dialled; `None`: the name of the scale target,
    /// which is found by labels.
    pub service: Option<String>,
    /// Which of the Service's ports; `None` means that it has only one.
    pub port: Option<PortRef>,
    /// The addresses to listen on for clients, one or more.
    pub listen: Vec<Listener>,
    /// The TLS server names that choose the app where it listens; none: it has the address
    /// alone.
    pub server_names: ServerNames,
    /// The address of the admin port; `None`: there is none.
    pub admin_listen: Option<SocketAddr>,
    /// Whether the program runs without the admin port if it cannot listen on it. So it does
    /// with the flags of an ancestor that do not name the port, because the ancestor did so,
    /// or had no such port.
    pub admin_is_optional: bool,
    /// A path of the admin port that responds with `{"response": "pong"}`.
    pub ping_path: Option<String>,
    /// A path of the admin port for the metrics, in addition to `/metrics`.
    pub metrics_path: Option<String>,
    /// The static backend, which is dialled instead of the pods; but see `pods_first`.
    pub target: Option<HostPort>,
    /// What connections are dialled to that have waited for too long, if there is such a target.
    pub backup_target: Option<HostPort>,
    /// Whether a static backend that is the Service itself is dialled only if none of its pods
    /// can be: so in the dialects of the ancestors.
    pub pods_first: bool,
    /// The time without a connection after which the app is scaled to zero; at least a
    /// second.
    pub idle_ttl: Duration,
    /// The longest time that a connection waits for the app to wake; above zero.
    pub hold_timeout: Duration,
    /// Whether a waiting client that has sent bytes and a FIN is dropped.
    pub abort_on_close: bool,
    /// Whether waiting connections are let go at once on a reason that waiting does not solve.
    pub fail_fast: bool,
    /// The timeout of a dial; above zero.
    pub connect_timeout: Duration,
    /// `spec.replicas` after a wake.
    pub wake_replicas: WakeReplicas,
    /// The condition on which connections are released to a pod.
    pub ready_gate: ReadyGate,
    /// The number of ready pods before connections are released after a wake.
    pub min_ready: NonZeroU32,
    /// How long so many pods have been ready before that.
    pub min_ready_time: Duration,
    /// The least time that the app stays awake after a wake.
    pub min_awake: Duration,
    /// The least time that the app stays asleep after a sleep.
    pub min_asleep: Duration,
    /// When the app is kept awake.
    pub keep_awake: Schedule,
    /// When no connection wakes the app.
    pub no_wake: Schedule,
    /// The most wakes in a minute; `None`: no limit.
    pub wakes_per_minute: Option<NonZeroU32>,
    /// The rules about connections.
    pub rules: Rules,
    /// Whether there is certainly no other proxy for the app.
    pub single_proxy: bool,
    /// Whether the scale target is only read.
    pub dry_run: bool,
    /// Where the events in the life of the app are posted; `None`: nowhere.
    pub webhook: Option<WebhookUrl>,
    /// The file of the certificates that https webhooks are verified with; `None`: the
    /// cluster's.
    pub webhook_ca: Option<PathBuf>,
    /// The ConfigMap with the annotations of an ancestor; `None`: they are on the scale
    /// target.
    pub state_configmap: Option<String>,
    /// The most client connections at a time; `None`: as many as the limit of open files
    /// allows.
    pub max_connections: Option<usize>,
    /// How long connections are accepted after SIGTERM; may be zero.
    pub drain_delay: Duration,
    /// How long connections may continue after that; may be zero.
    pub drain_timeout: Duration,
    /// The zone in which the program runs; `None`: not known.
    pub zone: Option<String>,
    /// The node on which it runs; `None`: not known.
    pub node: Option<String>,
    /// The kubeconfig, for use outside a cluster, and its overrides.
    pub kube: KubeconfigFlags,
    /// The API server; `None`: the one of the kubeconfig or the cluster.
    pub api_server: Option<ApiServer>,
    /// The directory with `token`, `ca.crt` and `namespace`.
    pub credentials: PathBuf,
    /// The filter of the log, in the syntax of env_logger.
    pub log: String,
    /// How a line of the log is written.
    pub log_format: LogFormat,
    /// The file with the list of apps, in place of the one app that the settings describe.
    pub apps: Option<PathBuf>,
    /// Warnings about the settings: values that count as unset, flags without effect.
    pub warnings: Vec<String>,
    /// The label selector of the Services that are apps, in place of the one app that the
    /// settings describe.
    pub discover: Option<String>,
    origin: Origin,
    defaults: Defaults,
    parts: Parts,
}

/// Where the settings of an app are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In flags and variables: those of the only app of a process.
    CommandLine,
    /// In a list of apps, where a setting has its name alone.
    List,
    /// In annotations of the app's Service.
    Annotations,
}

/// The action that the command line selects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invocation {
    /// To run.
    Run(Box<Settings>),
    /// To print [`help()`] and end.
    Help,
    /// To print [`version`] and end.
    Version,
}

/// The errors of the settings, a line for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errors(Vec<String>);

impl Errors {
    /// The lines, at least one.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// The first `most` of them, and how many more there are.
    fn shortened(mut self, most: usize) -> Errors {
        let more = self.0.len().saturating_sub(most);
        if more > 0 {
            self.0.truncate(most);
            self.0.push(format!("and {more} more errors"));
        }
        self
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for Errors {}

/// Resolves the arguments (without the program's name) and the environment.
///
/// `--help` and `--version` take precedence over all errors. Of a repeated flag the last one
/// counts, as in Go's `flag` package, so that an appended argument overrides an earlier one.
///
/// # Errors
/// All errors: unknown flags, flags of several dialects, invalid values, no scale target.
pub fn parse(
    args: impl IntoIterator<Item = OsString>,
    env: impl Fn(&str) -> Option<OsString>,
) -> Result<Invocation, Errors> {
    parse_beside(Vec::new(), args, env)
}

/// The same for a command, which has taken its own `options` out of the arguments: they are
/// among the suggestions for an unknown flag.
///
/// # Errors
/// See [`parse`].
pub fn parse_beside(
    options: Vec<&'static str>,
    args: impl IntoIterator<Item = OsString>,
    env: impl Fn(&str) -> Option<OsString>,
) -> Result<Invocation, Errors> {
    let args: Vec<OsString> = args.into_iter().collect();
    let detected = dialect::detect(&args);
    let dialect = *detected.as_ref().unwrap_or(&Dialect::Zpa);
    let mut raw = RawSettings::new(dialect).beside(options);
    if let Some(shortcut) = raw.parse_flags(args) {
        return Ok(shortcut);
    }
    // Without a dialect, the values cannot be parsed.
    detected.map_err(|why| Errors(vec![why]))?;
    raw.read_environment(env);
    resolve(raw).map(|settings| Invocation::Run(Box::new(settings)))
}

/// The rows that name the scale target, of which one must be given.
const TARGETS: [&str; 4] = [
    "deployment",
    "scale-target",
    "selector",
    "rs-label-selector",
];

fn resolve(mut raw: RawSettings) -> Result<Settings, Errors> {
    let mut settings = Settings::blank();
    settings.origin = raw.origin;
    settings.dialect = raw.dialect;
    let mut errors = std::mem::take(&mut raw.errors);
    let mut ignored = Vec::new();
    let are_several = apps::are_several(&raw);
    if are_several {
        errors.extend(apps::refuse_beside_several(&raw));
    } else {
        errors.extend(choose_target(&mut raw, &mut ignored).err());
    }
    for setting in TABLE {
        let given = raw.values.get(setting.flag).map_or(&[][..], Vec::as_slice);
        match setting.support(raw.dialect) {
            Support::Supported => {
                errors.extend(store(setting, raw.dialect, given, &mut settings).err())
            }
            Support::Ignored(why) => ignored.extend(given.last().map(|value| (value.name(), why))),
            Support::Refused(why) => errors.extend(refuse(given, why)),
        }
    }
    let is_admin_given = raw.values.contains_key("admin-listen");
    settings.admin_is_optional = raw.dialect != Dialect::Zpa && !is_admin_given;
    errors.extend(settings.combine_parts(raw.dialect).err());
    errors.extend(settings.check_listeners().err());
    errors.extend(settings.check_namespaces().err());
    errors.extend(settings.check_min_ready().err());
    errors.extend(settings.check_detached().err());
    if !errors.is_empty() {
        return Err(Errors(errors));
    }
    settings.warnings = raw.warnings;
    settings.warnings.extend(ignored_flags(&ignored));
    if are_several {
        settings.defaults = Defaults::new(raw.values);
    }
    Ok(settings)
}

/// Chooses one row that names the scale target. A flag overrides a variable of another row
/// too.
fn choose_target(
    raw: &mut RawSettings,
    ignored: &mut Vec<(String, &'static str)>,
) -> Result<(), String> {
    let given = |raw: &RawSettings| -> Vec<(&'static str, String, bool)> {
        let given = TARGETS.into_iter().filter_map(|flag| {
            let value = raw.values.get(flag)?.last()?;
            Some((flag, value.name(), value.is_variable()))
        });
        given.collect()
    };
    if given(raw).iter().any(|(_, _, is_variable)| !is_variable) {
        for (flag, _, _) in given(raw).into_iter().filter(|(_, _, it)| *it) {
            raw.values.remove(flag);
        }
    }
    match &given(raw)[..] {
        [] => {
            let (flag, other) = match raw.dialect {
                Dialect::PythonLabels => ("rs-label-selector", ""),
                Dialect::PythonDeployment => ("deployment", ", nor is --rs-label-selector"),
                Dialect::Go => ("deployment", ", nor is --selector"),
                Dialect::Zpa => ("deployment", ", nor is --scale-target"),
            };
            let row = TABLE.iter().find(|setting| setting.flag == flag);
            let examples = row.map_or(&[][..], |row| row.examples).join(", ");
            let (given, other) = match raw.origin {
                Origin::List => (flag.to_owned(), ", nor is scale-target"),
                _ => (table::given(flag, raw.dialect), other),
            };
            Err(format!(
                "{given}: is not set{other}, and has no default; use e.g. {examples}"
            ))
        }
        [_] => Ok(()),
        [("deployment", ..), ("selector", name, _)] => {
            ignored.push((name.clone(), "the Deployment is found by its name"));
            raw.values.remove("selector");
            Ok(())
        }
        [(_, first, _), (_, second, _), ..] => Err(format!(
            "{first} and {second}: both say what to scale; give one of them"
        )),
    }
}

/// Stores one setting, from its raw values or its default.
fn store(
    setting: &Setting,
    dialect: Dialect,
    given: &[RawValue],
    settings: &mut Settings,
) -> Result<(), String> {
    let given = match setting.takes {
        ValueKind::Texts => given,
        _ => &given[given.len().saturating_sub(1)..],
    };
    if given.is_empty() {
        return match setting.unset(dialect) {
            Unset::Default(default) => {
                let subject = setting.given(dialect);
                read(setting, setting.store(dialect), &subject, default, settings)
            }
            Unset::Means(_) => Ok(()),
        };
    }
    given.iter().try_for_each(|value| {
        // A variable is zpa's own in every dialect.
        let store = if value.is_variable() {
            setting.store
        } else {
            setting.store(dialect)
        };
        let subject = value.to_string();
        match value.value.to_str() {
            Some(text) => read(setting, store, &subject, unquoted(text), settings),
            None => Err(complaint(setting, &subject, "is not UTF-8")),
        }
    })
}

fn read(
    setting: &Setting,
    store: Store,
    subject: &str,
    text: &str,
    settings: &mut Settings,
) -> Result<(), String> {
    if text.is_empty() {
        return Err(complaint(setting, subject, "needs a value"));
    }
    store(settings, text).map_err(|why| complaint(setting, subject, &why))
}

fn complaint(setting: &Setting, subject: &str, why: &str) -> String {
    format!("{subject}: {why}; use e.g. {}", setting.examples.join(", "))
}

/// The error of an ancestor's flag that is refused. A switch that is off is no error.
fn refuse(given: &[RawValue], why: &str) -> Option<String> {
    let value = given.last().filter(|value| value.value != "false")?;
    Some(format!("{}: is refused: {why}", value.name()))
}

/// The warning about all flags without effect.
fn ignored_flags(ignored: &[(String, &'static str)]) -> Option<String> {
    let ignored: Vec<String> = ignored
        .iter()
        .map(|(name, why)| format!("{name} ({why})"))
        .collect();
    (!ignored.is_empty())
        .then(|| format!("accepted, but without effect here: {}", ignored.join(", ")))
}

/// `text` without the quotes at both its ends, which survive YAML in an argument
/// such as `--selector='app=web'`: no shell takes them away. No value begins and
/// ends with quotes of its own.
fn unquoted(text: &str) -> &str {
    let inner = |quote| text.strip_prefix(quote)?.strip_suffix(quote);
    inner('\'').or_else(|| inner('"')).unwrap_or(text)
}

impl Settings {
    /// The initial value of [`resolve`]. Fields that it does not overwrite have the meaning
    /// of [`Unset::Means`].
    fn blank() -> Settings {
        Settings {
            dialect: Dialect::Zpa,
            namespace: None,
            all_namespaces: false,
            target_ref: TargetRef::deployment(""),
            service: None,
            port: None,
            listen: vec![Listener {
                address: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
                port: None,
            }],
            server_names: ServerNames::default(),
            admin_listen: None,
            admin_is_optional: false,
            ping_path: None,
            metrics_path: None,
            target: None,
            backup_target: None,
            pods_first: false,
            idle_ttl: Duration::ZERO,
            hold_timeout: Duration::ZERO,
            abort_on_close: false,
            fail_fast: false,
            connect_timeout: Duration::ZERO,
            wake_replicas: WakeReplicas::Replicas(NonZeroU32::MIN),
            ready_gate: ReadyGate::Probe,
            min_ready: NonZeroU32::MIN,
            min_ready_time: Duration::ZERO,
            min_awake: Duration::ZERO,
            min_asleep: Duration::ZERO,
            keep_awake: Schedule::default(),
            no_wake: Schedule::default(),
            wakes_per_minute: None,
            rules: Rules::default(),
            single_proxy: false,
            dry_run: false,
            webhook: None,
            webhook_ca: None,
            state_configmap: None,
            max_connections: None,
            drain_delay: Duration::ZERO,
            drain_timeout: Duration::ZERO,
            zone: None,
            node: None,
            kube: KubeconfigFlags::default(),
            api_server: None,
            credentials: PathBuf::new(),
            log: String::new(),
            log_format: LogFormat::Text,
            apps: None,
            discover: None,
            warnings: Vec::new(),
            origin: Origin::CommandLine,
            defaults: Defaults::default(),
            parts: Parts::default(),
        }
    }

    /// Where they are written.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// How to give a setting, for messages: `--listen (ZPA_LISTEN)`, `listen` in a list of
    /// apps, or `zero-pod-autoscaler/listen` of a Service.
    pub fn given(&self, flag: &str) -> String {
        match self.origin {
            Origin::CommandLine => given(flag, self.dialect),
            Origin::List => flag.to_owned(),
            Origin::Annotations => format!("{ANNOTATION_PREFIX}{flag}"),
        }
    }

    /// Computes the settings that depend on several rows.
    fn combine_parts(&mut self, dialect: Dialect) -> Result<(), String> {
        self.dialect = dialect;
        self.pods_first = dialect != Dialect::Zpa;
        let parts = std::mem::take(&mut self.parts);
        if let Some(hold_timeout) = parts.hold_timeout() {
            self.hold_timeout = hold_timeout;
        }
        self.name_service_like_target()
    }

    /// Sets the default name of the Service: the name of the scale target, if a Service can
    /// have it (no dots, not too long). If the scale target is found by labels, it is the
    /// host of an ancestor's target.
    fn name_service_like_target(&mut self) -> Result<(), String> {
        if self.pods_first && self.service.is_none() && self.target_ref.name().is_none() {
            let host = self.target.as_ref().map(|target| target.host.as_str());
            self.service = host.and_then(service_of_host);
        }
        let name = self.target_ref.name().filter(|name| !name.is_empty());
        let (None, Some(name)) = (&self.service, name) else {
            return Ok(());
        };
        let service = value::label(name).map_err(|why| {
            let name = quote::quote(name.as_ref());
            let service = self.given("service");
            format!(
                "{service}: is not set, and the name {name} of what is scaled cannot \
                 be a Service's: {why}; name the Service"
            )
        })?;
        self.service = Some(service);
        Ok(())
    }
}

/// The name of the Service in a DNS name of the cluster: `app`, `app.ns.svc`, or the latter
/// with the cluster's domain.
fn service_of_host(host: &str) -> Option<String> {
    let host = host.to_ascii_lowercase();
    let mut labels = host.split('.');
    let (name, namespace) = (labels.next()?, labels.next());
    let is_service = namespace.is_none() || labels.next() == Some("svc");
    value::label(name).ok().filter(|_| is_service)
}

/// A setting that traffic-pod-autoscaler has in two flags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Parts {
    max_retry: Option<u32>,
    waiting_time: Option<Duration>,
}

impl Parts {
    /// How long one attempt of traffic-pod-autoscaler holds a connection: it waits for
    /// Endpoints for the given number of tries, and then tries to connect for up to 60 s.
    /// `None` if neither flag was given.
    fn hold_timeout(&self) -> Option<Duration> {
        if *self == Parts::default() {
            return None;
        }
        let waiting_time = self.waiting_time.unwrap_or(Duration::from_secs(1));
        let waiting = waiting_time.saturating_mul(self.max_retry.unwrap_or(30));
        Some(waiting.saturating_add(Duration::from_secs(60)))
    }
}

#[cfg(test)]
mod tests;
