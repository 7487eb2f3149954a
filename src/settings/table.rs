//! The one table of settings.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use super::{Settings, value};
use crate::cluster::{ApiServer, HostPort, PortRef};
use crate::duration;

/// A setting: how it is given, what it means, and how it is read.
pub struct Setting {
    /// The flag's name, without its dashes.
    pub flag: &'static str,
    /// Other names of the flag that are understood, but not advertised.
    pub aliases: &'static [&'static str],
    /// The variables, the first that is set counts. The first is `ZPA_` and
    /// the flag's name.
    pub variables: &'static [&'static str],
    /// What stands for the value in the help.
    pub placeholder: &'static str,
    /// What holds if nothing is said.
    pub unset: Unset,
    /// What it is for: a sentence or a few, without the full stop at the end.
    pub help: &'static str,
    /// Values that are right, for the errors; at least one.
    pub examples: &'static [&'static str],
    /// Reads a text that is not empty and stores what it means, or says in a
    /// clause why it means nothing.
    pub(super) store: fn(&mut Settings, &str) -> Result<(), String>,
    /// What is stored, as a text that would be read as the same; `None` if that
    /// is [`Unset::Means`].
    pub(super) show: fn(&Settings) -> Option<String>,
}

/// What holds if a setting is not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unset {
    /// This value, read like a user's.
    Default(&'static str),
    /// No value; the text says what that means.
    Means(&'static str),
    /// An error.
    Error,
}

impl fmt::Display for Setting {
    /// How to give it: `--idle-ttl (ZPA_IDLE_TTL)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--{} ({})", self.flag, self.variables[0])
    }
}

/// The setting of a flag, with or without its own name, and that name as the
/// table has it.
pub(super) fn find(flag: &str) -> Option<(&'static Setting, &'static str)> {
    TABLE.iter().find_map(|setting| {
        let name = setting.flags().find(|name| *name == flag)?;
        Some((setting, name))
    })
}

/// Every variable that is read.
pub fn variables() -> impl Iterator<Item = &'static str> {
    TABLE.iter().flat_map(|setting| setting.variables).copied()
}

/// Every setting by its flag, with what is in force; `None` for what was not
/// said and has no default. There is no secret among them: credentials are given
/// as files.
pub fn in_force(settings: &Settings) -> impl Iterator<Item = (&'static str, Option<String>)> {
    TABLE.iter().map(|row| (row.flag, (row.show)(settings)))
}

impl Setting {
    /// The flag's name and its aliases.
    fn flags(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.flag).chain(self.aliases.iter().copied())
    }
}

/// Every setting, in the order in which the help has them.
pub static TABLE: &[Setting] = &[
    Setting {
        flag: "deployment",
        aliases: &[],
        variables: &["ZPA_DEPLOYMENT"],
        placeholder: "NAME",
        unset: Unset::Error,
        help: "The Deployment to scale",
        examples: &["my-app"],
        store: |settings, text| {
            settings.deployment = value::subdomain(text)?;
            Ok(())
        },
        show: |settings| Some(settings.deployment.clone()),
    },
    Setting {
        flag: "namespace",
        aliases: &[],
        variables: &["ZPA_NAMESPACE"],
        placeholder: "NAME",
        unset: Unset::Means("the service account's"),
        help: "The namespace of the Deployment and the Service",
        examples: &["default"],
        store: |settings, text| {
            settings.namespace = Some(value::label(text)?);
            Ok(())
        },
        show: |settings| settings.namespace.clone(),
    },
    Setting {
        flag: "service",
        aliases: &[],
        variables: &["ZPA_SERVICE"],
        placeholder: "NAME",
        unset: Unset::Means("the Deployment's name"),
        help: "The Service whose ready pods are dialled",
        examples: &["my-app"],
        store: |settings, text| {
            settings.service = value::label(text)?;
            Ok(())
        },
        show: |settings| Some(settings.service.clone()),
    },
    Setting {
        flag: "port",
        aliases: &[],
        variables: &["ZPA_PORT"],
        placeholder: "PORT",
        unset: Unset::Means("the only one"),
        help: "Which of the Service's ports, by name or number, if it has several",
        examples: &["http", "80"],
        store: |settings, text| {
            settings.port = Some(value::port_ref(text)?);
            Ok(())
        },
        show: |settings| settings.port.as_ref().map(PortRef::to_string),
    },
    Setting {
        flag: "listen",
        aliases: &[],
        variables: &["ZPA_LISTEN"],
        placeholder: "ADDRESS",
        unset: Unset::Default(":8080"),
        help: "Where clients connect; `:8080` is every address, of IPv4 and of IPv6 as far as the kernel has them",
        examples: &[":8080", "0.0.0.0:8080", "[::1]:8080"],
        store: |settings, text| {
            settings.listen = value::listen(text)?;
            Ok(())
        },
        show: |settings| Some(settings.listen.to_string()),
    },
    Setting {
        flag: "admin-listen",
        aliases: &[],
        variables: &["ZPA_ADMIN_LISTEN"],
        placeholder: "ADDRESS",
        unset: Unset::Default(":8081"),
        help: "Where probes and Prometheus connect: health, readiness, metrics and status; or `off`",
        examples: &[":8081", "0.0.0.0:8081", "127.0.0.1:9090", "off"],
        store: |settings, text| {
            settings.admin_listen = match text {
                "off" => None,
                address => Some(value::listen(address)?),
            };
            Ok(())
        },
        show: |settings| {
            let address = settings.admin_listen.map(|address| address.to_string());
            Some(address.unwrap_or_else(|| "off".to_owned()))
        },
    },
    Setting {
        flag: "target",
        aliases: &[],
        variables: &["ZPA_TARGET"],
        placeholder: "HOST:PORT",
        unset: Unset::Means("the pods"),
        help: "Dial this instead of the pods' own addresses, for example the Service",
        examples: &["my-app:80", "10.0.0.7:80"],
        store: |settings, text| {
            settings.target = Some(text.parse().map_err(reason)?);
            Ok(())
        },
        show: |settings| settings.target.as_ref().map(HostPort::to_string),
    },
    Setting {
        flag: "idle-ttl",
        aliases: &[],
        variables: &["ZPA_IDLE_TTL"],
        placeholder: "DURATION",
        unset: Unset::Default("1h"),
        help: "Scale to zero after this long without a connection; at least 1s",
        examples: &["90s", "5m", "1h30m"],
        store: |settings, text| {
            settings.idle_ttl = value::duration_from(Duration::from_secs(1), text)?;
            Ok(())
        },
        show: |settings| Some(duration::display(settings.idle_ttl)),
    },
    Setting {
        flag: "hold-timeout",
        aliases: &[],
        variables: &["ZPA_HOLD_TIMEOUT"],
        placeholder: "DURATION",
        unset: Unset::Default("5m"),
        help: "Close a connection that has waited this long for the app to wake",
        examples: &["90s", "5m"],
        store: |settings, text| {
            settings.hold_timeout = value::positive_duration(text)?;
            Ok(())
        },
        show: |settings| Some(duration::display(settings.hold_timeout)),
    },
    Setting {
        flag: "connect-timeout",
        aliases: &[],
        variables: &["ZPA_CONNECT_TIMEOUT"],
        placeholder: "DURATION",
        unset: Unset::Default("2s"),
        help: "Try the next pod if one has not accepted after this long",
        examples: &["500ms", "2s"],
        store: |settings, text| {
            settings.connect_timeout = value::positive_duration(text)?;
            Ok(())
        },
        show: |settings| Some(duration::display(settings.connect_timeout)),
    },
    Setting {
        flag: "wake-replicas",
        aliases: &[],
        variables: &["ZPA_WAKE_REPLICAS"],
        placeholder: "NUMBER",
        unset: Unset::Default("1"),
        help: "How many replicas to wake the Deployment with",
        examples: &["1", "3"],
        store: |settings, text| {
            settings.wake_replicas = value::replicas(text)?;
            Ok(())
        },
        show: |settings| Some(settings.wake_replicas.to_string()),
    },
    Setting {
        flag: "max-connections",
        aliases: &[],
        variables: &["ZPA_MAX_CONNECTIONS"],
        placeholder: "NUMBER",
        unset: Unset::Means("from RLIMIT_NOFILE, at most 100000"),
        help: "How many clients may be connected at a time; others wait to be accepted",
        examples: &["1000"],
        store: |settings, text| {
            settings.max_connections = Some(value::count(text)?);
            Ok(())
        },
        show: |settings| settings.max_connections.map(|most| most.to_string()),
    },
    Setting {
        flag: "drain-delay",
        aliases: &[],
        variables: &["ZPA_DRAIN_DELAY"],
        placeholder: "DURATION",
        unset: Unset::Default("5s"),
        help: "Go on accepting for this long after SIGTERM, until the Service has forgotten us; may be 0",
        examples: &["5s", "0"],
        store: |settings, text| {
            settings.drain_delay = value::duration(text)?;
            Ok(())
        },
        show: |settings| Some(duration::display(settings.drain_delay)),
    },
    Setting {
        flag: "drain-timeout",
        aliases: &[],
        variables: &["ZPA_DRAIN_TIMEOUT"],
        placeholder: "DURATION",
        unset: Unset::Default("20s"),
        help: "Then let connections finish for this long before they are reset; may be 0",
        examples: &["20s", "0"],
        store: |settings, text| {
            settings.drain_timeout = value::duration(text)?;
            Ok(())
        },
        show: |settings| Some(duration::display(settings.drain_timeout)),
    },
    Setting {
        flag: "kubeconfig",
        aliases: &[],
        variables: &["ZPA_KUBECONFIG", "KUBECONFIG"],
        placeholder: "FILE",
        unset: Unset::Means("none"),
        help: "The kubeconfig to use outside a cluster",
        examples: &["/home/me/.kube/config"],
        store: |settings, text| {
            settings.kubeconfig = Some(text.into());
            Ok(())
        },
        show: |settings| settings.kubeconfig.as_deref().map(path),
    },
    Setting {
        flag: "api-server",
        aliases: &[],
        variables: &["ZPA_API_SERVER"],
        placeholder: "URL",
        unset: Unset::Means("the cluster's own"),
        help: "The API server; http:// on a loopback address only, for `kubectl proxy`",
        examples: &["https://10.96.0.1:443", "http://127.0.0.1:8001"],
        store: |settings, text| {
            settings.api_server = Some(text.parse().map_err(reason)?);
            Ok(())
        },
        show: |settings| settings.api_server.as_ref().map(ApiServer::to_string),
    },
    Setting {
        flag: "credentials",
        aliases: &[],
        variables: &["ZPA_CREDENTIALS"],
        placeholder: "DIRECTORY",
        unset: Unset::Default("/var/run/secrets/kubernetes.io/serviceaccount"),
        help: "The directory that has the files token, ca.crt and namespace",
        examples: &["/var/run/secrets/kubernetes.io/serviceaccount"],
        store: |settings, text| {
            settings.credentials = text.into();
            Ok(())
        },
        show: |settings| Some(path(&settings.credentials)),
    },
    Setting {
        flag: "log",
        aliases: &[],
        variables: &["ZPA_LOG"],
        placeholder: "FILTER",
        unset: Unset::Default("info"),
        help: "What to log: off, error, warn, info or debug, or a list such as warn,zpa=debug",
        examples: &["info", "warn,zpa=debug"],
        store: |settings, text| {
            settings.log = value::log(text)?;
            Ok(())
        },
        show: |settings| Some(settings.log.clone()),
    },
];

fn path(path: &Path) -> String {
    path.display().to_string()
}

fn reason(error: crate::address::ParseError) -> String {
    error.to_string()
}
