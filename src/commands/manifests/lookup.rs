//! `--lookup`: what the cluster knows of an app becomes arguments of `zpa manifests`, so that the
//! output is what the same command prints without a cluster, and its first line says which. A
//! Service that is taken over is too much for arguments: without a cluster it is in a file.

use std::ffi::OsString;
use std::fs;

use serde_json::Value;

use super::take_over::{Services, free_port, is_tcp, number_of};
use super::{COMMAND, OPTIONS, parse};
use crate::commands::Environment;
use crate::commands::options::Options;
use crate::kube::inspect::{Fault, Inspector};
use crate::settings::Settings;

/// The value of `--take-over` for which the Service is looked up.
const AUTO: &str = "auto";

/// The flags that say how the API server is reached, which are no settings of the proxy.
const ACCESS: [&str; 14] = [
    "--kubeconfig",
    "--context",
    "--cluster",
    "--user",
    "--server",
    "--token",
    "--certificate-authority",
    "--client-certificate",
    "--client-key",
    "--as",
    "--as-group",
    "--request-timeout",
    "--api-server",
    "--credentials",
];

/// The arguments of the command, and what was read besides.
pub struct Arguments {
    /// Those that say all, but for a Service that is taken over.
    pub given: Vec<OsString>,
    /// Those of the command that prints the same.
    pub shown: Vec<OsString>,
    /// The Service, if it was read.
    pub services: Option<Services>,
    /// Whether it is taken over.
    pub takes_over: bool,
}

/// What was given and what was found.
struct Found {
    /// The namespace of the context, if none was given.
    namespace: Option<String>,
    services: Services,
    /// The port of the Service that was given.
    port: Option<String>,
    has_service_port: bool,
    /// Whether `--listen` has several ports: then they are given already.
    has_ports: bool,
    /// The port that no client may have.
    admin: Option<u16>,
    takes_over: bool,
}

/// The arguments with what was found in the cluster, or in the file of the Service.
///
/// # Errors
/// What is not there, or not clear, a line each.
pub fn resolve(args: &[OsString], environment: &Environment<'_>) -> Result<Arguments, Vec<String>> {
    let options = Options::take(&OPTIONS, args).map_err(|why| vec![why])?;
    if options.is_given("--lookup") {
        return look_up(args, &options, environment);
    }
    let services = match options.value("--take-over") {
        Some(AUTO) => return Err(vec!["--take-over auto: takes --lookup".to_owned()]),
        Some(file) => Some(read_file(file, &parse(options.rest.clone())?).map_err(|why| {
            vec![format!(
                "--take-over {file}: {why}; it takes auto with --lookup, or the file that `kubectl \
                 get service NAME -o json` prints"
            )]
        })?),
        None => None,
    };
    Ok(Arguments {
        given: args.to_vec(),
        shown: args.to_vec(),
        takes_over: services.is_some(),
        services,
    })
}

/// The Service in a file, as kubectl prints it.
fn read_file(file: &str, settings: &Settings) -> Result<Services, String> {
    let text = fs::read_to_string(file).map_err(|why| why.to_string())?;
    let object: Value = serde_saphyr::from_str(&text).map_err(|_| "is no YAML".to_owned())?;
    let service = settings.service.as_deref().unwrap_or_default();
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let is_it = name == service || name.strip_suffix("-pods") == Some(service);
    if object["kind"] != "Service" || !is_it {
        return Err(format!("is not the Service {service}"));
    }
    Ok(Services {
        app: object,
        pods: None,
    })
}

fn look_up(
    args: &[OsString],
    options: &Options,
    environment: &Environment<'_>,
) -> Result<Arguments, Vec<String>> {
    let line = |why: String| vec![why];
    let takes_over = match options.value("--take-over") {
        None => false,
        Some(AUTO) => true,
        Some(file) => return Err(line(format!("--take-over {file}: is auto with --lookup"))),
    };
    let settings = parse(options.rest.clone())?;
    // How the API server is reached may be in the environment, and nothing else.
    let access = crate::commands::settings(&COMMAND, options.rest.clone(), environment.env)?;
    let (inspector, namespace) = crate::commands::connect(&access, environment).map_err(line)?;
    let namespace = settings.namespace.clone().unwrap_or(namespace);
    let target = inspector.target(&namespace, &settings.target_ref);
    target.map_err(|why| line(missing(&settings.target_ref.to_string(), &namespace, &why)))?;
    let found = Found {
        services: services(&inspector, &settings, &namespace).map_err(line)?,
        namespace: settings.namespace.is_none().then_some(namespace),
        port: settings.port.as_ref().map(ToString::to_string),
        has_service_port: options.is_given("--service-port"),
        has_ports: settings.listen.len() > 1,
        admin: settings.admin_listen.map(|at| at.port()),
        takes_over,
    };
    let mut given = without_lookup(args);
    given.extend(
        found
            .arguments()
            .map_err(line)?
            .into_iter()
            .map(OsString::from),
    );
    let mut shown = given.clone();
    // What is taken over is in no argument.
    shown.extend(takes_over.then(|| "--lookup".into()));
    Ok(Arguments {
        given,
        shown,
        takes_over,
        services: Some(found.services),
    })
}

/// The app's Service, and the Service that its pods get if the first is taken over.
fn services(
    inspector: &Inspector,
    settings: &Settings,
    namespace: &str,
) -> Result<Services, String> {
    let name = settings.service.as_deref().unwrap_or_default();
    let app = inspector.service(namespace, name);
    let app = app.map_err(|why| missing(&format!("Service {name}"), namespace, &why))?;
    let of_pods = format!("{name}-pods");
    let pods = match inspector.service(namespace, &of_pods) {
        Ok(service) => Some(service),
        Err(Fault::NotFound) => None,
        Err(why) => return Err(missing(&format!("Service {of_pods}"), namespace, &why)),
    };
    Ok(Services { app, pods })
}

/// The arguments without those that only the look-up needs.
fn without_lookup(args: &[OsString]) -> Vec<OsString> {
    let mut kept = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let text = arg.to_str().unwrap_or_default();
        let (name, is_attached) = match text.split_once('=') {
            Some((name, _)) => (name, true),
            None => (text, false),
        };
        if name == "--lookup" {
            continue;
        }
        if ACCESS.contains(&name) {
            if !is_attached {
                args.next();
            }
            continue;
        }
        kept.push(arg.clone());
    }
    kept
}

impl Found {
    /// The arguments that say what was found.
    fn arguments(&self) -> Result<Vec<String>, String> {
        let mut arguments = Vec::new();
        arguments.extend(self.namespace.iter().map(|it| format!("--namespace={it}")));
        if self.has_ports || self.takes_over {
            return Ok(arguments);
        }
        match self.service_ports()?[..] {
            [_] if self.has_service_port => {}
            [only] => arguments.push(format!("--service-port={only}")),
            ref several => arguments.push(self.listen(several)),
        }
        Ok(arguments)
    }

    /// The list of `--listen` for these ports of the Service.
    fn listen(&self, ports: &[u16]) -> String {
        let mut taken = Vec::new();
        for &port in ports {
            taken.push(free_port(port, &taken, self.admin));
        }
        let entries = taken.iter().zip(ports);
        let entries: Vec<String> = entries.map(|(at, port)| format!("{at}={port}")).collect();
        format!("--listen={}", entries.join(","))
    }

    /// The ports of the Service that are meant: the one that is given, or all of TCP.
    fn service_ports(&self) -> Result<Vec<u16>, String> {
        let service = &self.services.app;
        let name = service["metadata"]["name"].as_str().unwrap_or_default();
        let ports = service["spec"]["ports"].as_array();
        let ports = ports.into_iter().flatten();
        let ports: Vec<&Value> = ports.filter(|it| is_tcp(it)).collect();
        let is_given = |port: &&&Value| {
            let given = self.port.as_deref();
            given.is_none_or(|given| {
                port["name"] == given || given.parse() == Ok(port["port"].as_u64().unwrap_or(0))
            })
        };
        let meant = ports.iter().filter(is_given);
        let meant: Vec<u16> = meant.filter_map(|it| number_of(&it["port"])).collect();
        let is_clear = meant.len() == 1 || !self.has_service_port;
        if !meant.is_empty() && is_clear {
            return Ok(meant);
        }
        let all: Vec<String> = ports
            .iter()
            .map(|port| match port["name"].as_str() {
                Some(name) => format!("{name} ({})", port["port"]),
                None => port["port"].to_string(),
            })
            .collect();
        Err(match (&self.port, all.is_empty()) {
            (_, true) => format!("the Service {name} has no port for TCP"),
            (Some(given), _) => {
                format!("--port {given}: the Service {name} has {}", all.join(", "))
            }
            (None, _) => format!(
                "--service-port: is for one port, and the Service {name} has {}: choose one with \
                 --port, or leave --service-port out",
                all.join(", "),
            ),
        })
    }
}

fn missing(what: &str, namespace: &str, why: &Fault) -> String {
    match why {
        Fault::NotFound => format!("--lookup: {what} is not in the namespace {namespace}"),
        Fault::Conflict => format!("--lookup: {what}: conflict"),
        Fault::Refused(why) | Fault::Failed(why) => format!("--lookup: {what}: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(ports: Value, port: Option<&str>) -> Found {
        Found {
            namespace: Some("shop".to_owned()),
            services: Services {
                app: json!({
                    "metadata": { "name": "db" },
                    "spec": { "ports": ports, "selector": { "app": "db", "tier": "data" } },
                }),
                pods: None,
            },
            port: port.map(str::to_owned),
            has_service_port: false,
            has_ports: false,
            admin: Some(8081),
            takes_over: false,
        }
    }

    fn several() -> Value {
        json!([
            { "name": "sql", "port": 5432, "targetPort": "pg" },
            { "name": "http", "port": 80, "targetPort": 8000 },
            { "name": "more", "port": 8081 },
            { "name": "dns", "port": 53, "protocol": "UDP" },
        ])
    }

    #[test]
    fn namespace_and_ports_become_arguments() {
        let one = || json!([{ "port": 5432 }]);
        let given = Found {
            namespace: None,
            has_service_port: true,
            ..found(one(), None)
        };
        let listed = Found {
            has_ports: true,
            ..found(several(), None)
        };
        let take_over = Found {
            takes_over: true,
            ..found(several(), None)
        };
        for (label, found, expected) in [
            (
                "one port",
                found(one(), None),
                &["--namespace=shop", "--service-port=5432"][..],
            ),
            ("what is given stays", given, &[]),
            ("a list that is given", listed, &["--namespace=shop"]),
            (
                "several",
                found(several(), None),
                &["--namespace=shop", "--listen=5432=5432,8080=80,8082=8081"],
            ),
            (
                "one of several, by name",
                found(several(), Some("sql")),
                &["--namespace=shop", "--service-port=5432"],
            ),
            (
                "by number",
                found(several(), Some("80")),
                &["--namespace=shop", "--service-port=80"],
            ),
            (
                "what is taken over is none",
                take_over,
                &["--namespace=shop"],
            ),
        ] {
            assert_eq!(found.arguments().unwrap(), expected, "{label}");
        }
    }

    #[test]
    fn what_is_not_clear_names_the_choices() {
        let one_for_all = Found {
            has_service_port: true,
            ..found(several(), None)
        };
        for (found, why) in [
            (
                one_for_all,
                "--service-port: is for one port, and the Service db has sql (5432), http (80), \
                 more (8081): choose one with --port, or leave --service-port out",
            ),
            (
                found(several(), Some("smtp")),
                "--port smtp: the Service db has sql (5432), http (80), more (8081)",
            ),
            (
                found(Value::Null, None),
                "the Service db has no port for TCP",
            ),
        ] {
            assert_eq!(found.arguments(), Err(why.to_owned()));
        }
    }

    #[test]
    fn the_arguments_that_are_left_need_no_cluster() {
        let args = |texts: &[&str]| texts.iter().map(OsString::from).collect::<Vec<_>>();
        let given = args(&[
            "--deployment=db",
            "--lookup",
            "--context",
            "dev",
            "--token=canary",
            "--idle-ttl",
            "5m",
        ]);
        let left = args(&["--deployment=db", "--idle-ttl", "5m"]);
        assert_eq!(without_lookup(&given), left);
    }
}
