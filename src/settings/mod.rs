//! What the user wants: flags and environment variables, read once at start.
//!
//! One table ([`TABLE`]) has every setting: its flag, its variable, its
//! default, its help, its parser, and how two other programs have it
//! ([`Column`]). What the user *said* (`raw.rs`: texts, and whether a flag or a
//! variable had them) is kept apart from what it *resolves to* ([`Settings`]:
//! typed and checked). A flag beats a variable, a variable beats the default, and
//! whatever is wrong is reported all at once.
//!
//! Nothing here reads the process's arguments or environment, a file or a
//! clock: both come in as arguments of [`parse`].

mod dialect;
mod help;
mod links;
pub mod migration;
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
use crate::workload::{Dialect, TargetRef, WakeReplicas};
pub use help::{help, markdown_table, version};
use raw::{RawSettings, RawValue};
use table::Store;
pub use table::{Column, Setting, Support, TABLE, Unset, ValueKind, given, in_force, variables};
pub use unknown::unknown_variables;
pub use value::label as dns_label;

/// What the program is to do, as its user has set it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whose flags the command line is made of.
    pub dialect: Dialect,
    /// The namespace of what is scaled and of the Service; none means the one of
    /// the credentials.
    pub namespace: Option<String>,
    /// The object to scale.
    pub target_ref: TargetRef,
    /// The name of the Service whose pods are dialled; none means the name of
    /// the object to scale, where that has to be found by labels.
    pub service: Option<String>,
    /// Which of the Service's ports; none means that it has only one.
    pub port: Option<PortRef>,
    /// Where clients connect. Port 0 lets the kernel choose one. An
    /// unspecified IPv6 address (`[::]`) stands for IPv4 as well.
    pub listen: SocketAddr,
    /// Where those connect who ask about the program itself; none means that
    /// nobody can.
    pub admin_listen: Option<SocketAddr>,
    /// Whether to go on without that port where it cannot be had: an ancestor that
    /// nobody has told about the port did so, or had no such port.
    pub admin_is_optional: bool,
    /// A path of that port that answers with `{"response": "pong"}`.
    pub ping_path: Option<String>,
    /// A path of that port that has the metrics, beside `/metrics`.
    pub metrics_path: Option<String>,
    /// What to dial in place of the pods' addresses; but see `pods_first`.
    pub target: Option<HostPort>,
    /// Whether a target that is the Service itself stands for its pods, as in
    /// the dialects of the ancestors: they are dialled, and the target only where
    /// no pod can be.
    pub pods_first: bool,
    /// How long there has to be no connection before the Deployment is scaled
    /// to zero; a second or more.
    pub idle_ttl: Duration,
    /// How long a connection may wait for the app to wake; above zero.
    pub hold_timeout: Duration,
    /// Whether a waiting client is dropped that ends its direction after bytes.
    pub abort_on_close: bool,
    /// How long a pod may take to accept a connection; above zero.
    pub connect_timeout: Duration,
    /// `spec.replicas` after a wake.
    pub wake_replicas: WakeReplicas,
    /// Which clients count, and how they are let through.
    pub rules: Rules,
    /// Whether the operator says that there is no other proxy before the app.
    pub single_proxy: bool,
    /// The ConfigMap on which an ancestor keeps its annotations; none where it
    /// keeps them on the object to scale.
    pub state_configmap: Option<String>,
    /// The most client connections at a time, one or more; none means as many
    /// as the limit of open files allows.
    pub max_connections: Option<usize>,
    /// How long to go on accepting after SIGTERM; may be zero.
    pub drain_delay: Duration,
    /// How long connections may go on once nothing is accepted any more; may
    /// be zero.
    pub drain_timeout: Duration,
    /// A kubeconfig, for use outside a cluster, and what is to be used of it.
    pub kube: KubeconfigFlags,
    /// The API server; none means the cluster's own, or the kubeconfig's.
    pub api_server: Option<ApiServer>,
    /// The directory that has `token`, `ca.crt` and `namespace`.
    pub credentials: PathBuf,
    /// What to log, in the syntax of env_logger.
    pub log: String,
    /// How a line of the log is written.
    pub log_format: LogFormat,
    /// What is to be logged about how the settings were given: values that count
    /// as not given, flags that have lost their meaning.
    pub warnings: Vec<String>,
    parts: Parts,
}

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invocation {
    /// To run.
    Run(Box<Settings>),
    /// To print [`help()`] and end.
    Help,
    /// To print [`version`] and end.
    Version,
}

/// Everything that is wrong with the settings, a line for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errors(Vec<String>);

impl Errors {
    /// The lines, one for each thing that is wrong; never none.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
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
/// `--help` and `--version` are obeyed whatever else is wrong. Of a repeated
/// flag the last one counts, as in Go's `flag` package, so that appending to a
/// list of arguments overrides what is in it.
///
/// # Errors
/// All that is wrong: flags that do not exist, flags of several dialects, values
/// that cannot be, and nothing to scale.
pub fn parse(
    args: impl IntoIterator<Item = OsString>,
    env: impl Fn(&str) -> Option<OsString>,
) -> Result<Invocation, Errors> {
    let args: Vec<OsString> = args.into_iter().collect();
    let detected = dialect::detect(&args);
    let mut raw = RawSettings::new(*detected.as_ref().unwrap_or(&Dialect::Zpa));
    if let Some(shortcut) = raw.parse_flags(args) {
        return Ok(shortcut);
    }
    // Under which rules the values of mixed flags would be judged is not known.
    detected.map_err(|why| Errors(vec![why]))?;
    raw.read_environment(env);
    resolve(raw).map(|settings| Invocation::Run(Box::new(settings)))
}

/// The rows that name what is scaled, of which one is to be given.
const TARGETS: [&str; 4] = [
    "deployment",
    "scale-target",
    "selector",
    "rs-label-selector",
];

fn resolve(mut raw: RawSettings) -> Result<Settings, Errors> {
    let mut settings = Settings::undecided();
    let mut errors = std::mem::take(&mut raw.errors);
    let mut lost = Vec::new();
    errors.extend(choose_target(&mut raw, &mut lost).err());
    for setting in TABLE {
        let given = raw.values.get(setting.flag).map_or(&[][..], Vec::as_slice);
        match setting.fate(raw.dialect) {
            Support::Kept => {
                errors.extend(decide(setting, raw.dialect, given, &mut settings).err())
            }
            Support::Lost(why) => lost.extend(given.last().map(|value| (value.name(), why))),
            Support::Refused(why) => errors.extend(refuse(given, why)),
        }
    }
    let is_admin_given = raw.values.contains_key("admin-listen");
    settings.admin_is_optional = raw.dialect != Dialect::Zpa && !is_admin_given;
    errors.extend(settings.put_parts_together(raw.dialect).err());
    if !errors.is_empty() {
        return Err(Errors(errors));
    }
    settings.warnings = raw.warnings;
    settings.warnings.extend(lost_meaning(&lost));
    Ok(settings)
}

/// Leaves one way of naming what is scaled. A flag beats a variable also where
/// they are of different rows.
fn choose_target(
    raw: &mut RawSettings,
    lost: &mut Vec<(String, &'static str)>,
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
            let given = row.map_or_else(String::new, |row| row.given(raw.dialect));
            Err(format!(
                "{given}: is not set{other}, and has no default; use e.g. {examples}"
            ))
        }
        [_] => Ok(()),
        [("deployment", ..), ("selector", name, _)] => {
            lost.push((name.clone(), "the Deployment is found by its name"));
            raw.values.remove("selector");
            Ok(())
        }
        [(_, first, _), (_, second, _), ..] => Err(format!(
            "{first} and {second}: both say what to scale; give one of them"
        )),
    }
}

/// Puts one setting in its place, from what was said or from its default.
fn decide(
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

/// The error of a flag that cannot be had. A switch that is off asks for
/// nothing.
fn refuse(given: &[RawValue], why: &str) -> Option<String> {
    let value = given.last().filter(|value| value.value != "false")?;
    Some(format!("{}: is refused: {why}", value.name()))
}

/// The one warning about all flags that change nothing.
fn lost_meaning(lost: &[(String, &'static str)]) -> Option<String> {
    let ignored: Vec<String> = lost
        .iter()
        .map(|(name, why)| format!("{name} ({why})"))
        .collect();
    (!ignored.is_empty()).then(|| {
        format!(
            "accepted, but without a meaning here: {}",
            ignored.join(", ")
        )
    })
}

/// `text` without the quotes at both its ends, which survive YAML in an argument
/// such as `--selector='app=web'`: no shell takes them away. No value begins and
/// ends with quotes of its own.
fn unquoted(text: &str) -> &str {
    let inner = |quote| text.strip_prefix(quote)?.strip_suffix(quote);
    inner('\'').or_else(|| inner('"')).unwrap_or(text)
}

impl Settings {
    /// Where [`resolve`] starts from: what stays of it is the meaning of
    /// [`Unset::Means`], everything else is overwritten or ends in an error.
    fn undecided() -> Settings {
        Settings {
            dialect: Dialect::Zpa,
            namespace: None,
            target_ref: TargetRef::deployment(""),
            service: None,
            port: None,
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            admin_listen: None,
            admin_is_optional: false,
            ping_path: None,
            metrics_path: None,
            target: None,
            pods_first: false,
            idle_ttl: Duration::ZERO,
            hold_timeout: Duration::ZERO,
            abort_on_close: false,
            connect_timeout: Duration::ZERO,
            wake_replicas: WakeReplicas::Replicas(NonZeroU32::MIN),
            rules: Rules::default(),
            single_proxy: false,
            state_configmap: None,
            max_connections: None,
            drain_delay: Duration::ZERO,
            drain_timeout: Duration::ZERO,
            kube: KubeconfigFlags::default(),
            api_server: None,
            credentials: PathBuf::new(),
            log: String::new(),
            log_format: LogFormat::Text,
            warnings: Vec::new(),
            parts: Parts::default(),
        }
    }

    /// Makes settings of what rows have said in part, and of what is given by
    /// others.
    fn put_parts_together(&mut self, dialect: Dialect) -> Result<(), String> {
        self.dialect = dialect;
        self.pods_first = dialect != Dialect::Zpa;
        let parts = std::mem::take(&mut self.parts);
        if let Some(hold_timeout) = parts.hold_timeout() {
            self.hold_timeout = hold_timeout;
        }
        self.name_service_like_target()
    }

    /// Not every object's name can be a Service's: it may have dots, and may be
    /// longer. (An object without a name has had its error.) Where the object has to
    /// be found by labels, an ancestor's target names the Service.
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
            format!(
                "--service (ZPA_SERVICE): is not set, and the name {name} of what is scaled cannot \
                 be a Service's: {why}; name the Service"
            )
        })?;
        self.service = Some(service);
        Ok(())
    }
}

/// The Service that a host names, if it has the form of one in the cluster's DNS:
/// `app`, `app.ns.svc`, or the latter with the cluster's domain.
fn service_of_host(host: &str) -> Option<String> {
    let host = host.to_ascii_lowercase();
    let mut labels = host.split('.');
    let (name, namespace) = (labels.next()?, labels.next());
    let is_service = namespace.is_none() || labels.next() == Some("svc");
    value::label(name).ok().filter(|_| is_service)
}

/// What traffic-pod-autoscaler says in two flags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Parts {
    max_retry: Option<u32>,
    waiting_time: Option<Duration>,
}

impl Parts {
    /// How long one attempt of traffic-pod-autoscaler holds a connection: it
    /// waits for Endpoints that many times, and then tries to connect for up to
    /// 60 s. `None` if neither part was said.
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
