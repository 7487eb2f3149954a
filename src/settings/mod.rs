//! What the user wants: flags and environment variables, read once at start.
//!
//! One table ([`TABLE`]) has every setting: its flag, its variable, its
//! default, its help and its parser. What the user *said* (`raw.rs`: texts, and
//! whether a flag or a variable had them) is kept apart from what it
//! *resolves to* ([`Settings`]: typed and checked). A flag beats a variable, a
//! variable beats the default, and whatever is wrong is reported all at once.
//!
//! Nothing here reads the process's arguments or environment, a file or a
//! clock: both come in as arguments of [`parse`].

mod help;
mod links;
mod quote;
mod raw;
mod table;
mod unknown;
mod value;

use std::ffi::OsString;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use crate::cluster::{ApiServer, HostPort, PortRef};
pub use help::{help, markdown_table, version};
use raw::{RawSettings, RawValue};
pub use table::{Setting, TABLE, Unset, in_force, variables};
pub use unknown::unknown_variables;

/// What the program is to do, as its user has set it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The namespace of the Deployment and the Service; none means the one of
    /// the credentials.
    pub namespace: Option<String>,
    /// The name of the Deployment to scale.
    pub deployment: String,
    /// The name of the Service whose pods are dialled.
    pub service: String,
    /// Which of the Service's ports; none means that it has only one.
    pub port: Option<PortRef>,
    /// Where clients connect. Port 0 lets the kernel choose one. An
    /// unspecified IPv6 address (`[::]`) stands for IPv4 as well.
    pub listen: SocketAddr,
    /// Where those connect who ask about the program itself; none means that
    /// nobody can.
    pub admin_listen: Option<SocketAddr>,
    /// What to dial in place of the pods' addresses.
    pub target: Option<HostPort>,
    /// How long there has to be no connection before the Deployment is scaled
    /// to zero; a second or more.
    pub idle_ttl: Duration,
    /// How long a connection may wait for the app to wake; above zero.
    pub hold_timeout: Duration,
    /// How long a pod may take to accept a connection; above zero.
    pub connect_timeout: Duration,
    /// `spec.replicas` after a wake; at most [`i32::MAX`], Kubernetes' limit.
    pub wake_replicas: NonZeroU32,
    /// The most client connections at a time, one or more; none means as many
    /// as the limit of open files allows.
    pub max_connections: Option<usize>,
    /// How long to go on accepting after SIGTERM; may be zero.
    pub drain_delay: Duration,
    /// How long connections may go on once nothing is accepted any more; may
    /// be zero.
    pub drain_timeout: Duration,
    /// A kubeconfig, for use outside a cluster.
    pub kubeconfig: Option<PathBuf>,
    /// The API server; none means the cluster's own, or the kubeconfig's.
    pub api_server: Option<ApiServer>,
    /// The directory that has `token`, `ca.crt` and `namespace`.
    pub credentials: PathBuf,
    /// What to log, in the syntax of env_logger.
    pub log: String,
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
/// All that is wrong: flags that do not exist, values that cannot be, and a
/// missing `--deployment`.
pub fn parse(
    args: impl IntoIterator<Item = OsString>,
    env: impl Fn(&str) -> Option<OsString>,
) -> Result<Invocation, Errors> {
    let mut raw = RawSettings::default();
    if let Some(shortcut) = raw.parse_flags(args) {
        return Ok(shortcut);
    }
    raw.read_environment(env);
    resolve(raw).map(|settings| Invocation::Run(Box::new(settings)))
}

fn resolve(raw: RawSettings) -> Result<Settings, Errors> {
    let mut settings = Settings::undecided();
    let mut errors = raw.errors;
    for setting in TABLE {
        let word = raw.values.get(setting.flag);
        errors.extend(decide(setting, word, &mut settings).err());
    }
    if settings.service.is_empty() {
        errors.extend(settings.name_service_like_deployment().err());
    }
    if errors.is_empty() {
        Ok(settings)
    } else {
        Err(Errors(errors))
    }
}

/// Puts one setting in its place, from what was said or from its default.
fn decide(
    setting: &Setting,
    word: Option<&RawValue>,
    settings: &mut Settings,
) -> Result<(), String> {
    let complain = |subject: &dyn fmt::Display, why: &str| {
        Err(format!(
            "{subject}: {why}; use e.g. {}",
            setting.examples.join(", ")
        ))
    };
    let (subject, text) = match (word, setting.unset) {
        (Some(word), _) => match word.value.to_str() {
            Some(text) => (word.to_string(), text),
            None => return complain(word, "is not UTF-8"),
        },
        (None, Unset::Default(default)) => (setting.to_string(), default),
        (None, Unset::Means(_)) => return Ok(()),
        (None, Unset::Error) => return complain(setting, "is not set, and has no default"),
    };
    if text.is_empty() {
        return complain(&subject, "needs a value");
    }
    (setting.store)(settings, text).or_else(|why| complain(&subject, &why))
}

impl Settings {
    /// Where [`resolve`] starts from: what stays of it is the meaning of
    /// [`Unset::Means`], everything else is overwritten or ends in an error.
    fn undecided() -> Settings {
        Settings {
            namespace: None,
            deployment: String::new(),
            service: String::new(),
            port: None,
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            admin_listen: None,
            target: None,
            idle_ttl: Duration::ZERO,
            hold_timeout: Duration::ZERO,
            connect_timeout: Duration::ZERO,
            wake_replicas: NonZeroU32::MIN,
            max_connections: None,
            drain_delay: Duration::ZERO,
            drain_timeout: Duration::ZERO,
            kubeconfig: None,
            api_server: None,
            credentials: PathBuf::new(),
            log: String::new(),
        }
    }

    /// Not every Deployment's name can be a Service's: it may have dots, and
    /// may be longer. (A Deployment without a name has had its error.)
    fn name_service_like_deployment(&mut self) -> Result<(), String> {
        if self.deployment.is_empty() {
            return Ok(());
        }
        self.service = value::label(&self.deployment).map_err(|why| {
            let name = quote::quote(self.deployment.as_ref());
            format!(
                "--service (ZPA_SERVICE): is not set, and the Deployment's name {name} cannot be \
                 a Service's: {why}; name the Service"
            )
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
