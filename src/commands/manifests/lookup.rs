//! `--lookup`: what the cluster knows of an app becomes arguments of `zpa manifests`, so that the
//! output is what the same command prints without a cluster, and its first line says which.

use std::ffi::OsString;
use std::path::Path;

use serde_json::Value;

use super::{COMMAND, OPTIONS, parse};
use crate::commands::Environment;
use crate::commands::options::Options;
use crate::kube::Access;
use crate::kube::inspect::{Fault, Inspector};
use crate::settings::Settings;

/// The value of `--take-over` for which labels and port are looked up.
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

/// What was given and what was found.
struct Found {
    /// The namespace of the context, if none was given.
    namespace: Option<String>,
    service: Value,
    /// The port of the Service that was given.
    port: Option<String>,
    has_service_port: bool,
    /// Whether `--listen` has several ports: then they are given already.
    has_ports: bool,
    takes_over: bool,
}

/// The arguments with what was found in the cluster; as they are without `--lookup`.
///
/// # Errors
/// What is not there, or not clear, a line each.
pub fn resolve(
    args: &[OsString],
    environment: &Environment<'_>,
) -> Result<Vec<OsString>, Vec<String>> {
    let line = |why: String| vec![why];
    let options = Options::take(&OPTIONS, args).map_err(line)?;
    let takes_over = options.value("--take-over") == Some(AUTO);
    if !options.is_given("--lookup") {
        return match takes_over {
            true => Err(line("--take-over auto: takes --lookup".to_owned())),
            false => Ok(args.to_vec()),
        };
    }
    let settings = parse(options.rest.clone())?;
    // How the API server is reached may be in the environment, and nothing else.
    let access = crate::commands::settings(&COMMAND, options.rest.clone(), environment.env)?;
    let (inspector, namespace) = connect(&access, environment).map_err(line)?;
    let namespace = settings.namespace.clone().unwrap_or(namespace);
    let service_name = settings.service.clone().unwrap_or_default();
    let target = inspector.target(&namespace, &settings.target_ref);
    target.map_err(|why| line(missing(&settings.target_ref.to_string(), &namespace, &why)))?;
    let service = inspector.service(&namespace, &service_name);
    let service = service.map_err(|why| {
        line(missing(
            &format!("Service {service_name}"),
            &namespace,
            &why,
        ))
    })?;
    let found = Found {
        namespace: settings.namespace.is_none().then_some(namespace),
        service,
        port: settings.port.as_ref().map(ToString::to_string),
        has_service_port: options.is_given("--service-port"),
        has_ports: settings.listen.len() > 1,
        takes_over,
    };
    let mut resolved = without_lookup(args, takes_over);
    resolved.extend(
        found
            .arguments()
            .map_err(line)?
            .into_iter()
            .map(OsString::from),
    );
    Ok(resolved)
}

fn connect(
    settings: &Settings,
    environment: &Environment<'_>,
) -> Result<(Inspector, String), String> {
    let env = |name: &str| (environment.env)(name)?.into_string().ok();
    let access = Access::discover(
        &settings.kube,
        settings.api_server.as_ref(),
        Path::new(&settings.credentials),
        env,
    );
    let (access, namespace) = access.map_err(|why| why.to_string())?;
    let inspector = Inspector::new(access, environment.clock, environment.wall)?;
    Ok((inspector, namespace.unwrap_or_else(|| "default".to_owned())))
}

/// The arguments without those that only the look-up needs.
fn without_lookup(args: &[OsString], takes_over: bool) -> Vec<OsString> {
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
        if ACCESS.contains(&name) || (takes_over && name == "--take-over") {
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
        if self.has_ports {
            return Ok(arguments);
        }
        let port = self.service_port()?;
        if !self.has_service_port {
            arguments.push(format!("--service-port={}", port["port"]));
        }
        if self.takes_over {
            arguments.push(format!(
                "--take-over={}:{}",
                self.labels()?,
                target_port(port)
            ));
        }
        Ok(arguments)
    }

    /// The port of the Service that is meant.
    fn service_port(&self) -> Result<&Value, String> {
        let name = self.service["metadata"]["name"]
            .as_str()
            .unwrap_or_default();
        let ports = self.service["spec"]["ports"].as_array();
        let ports: Vec<&Value> = ports.into_iter().flatten().collect();
        let is_given = |port: &&&Value| {
            let given = self.port.as_deref();
            given.is_none_or(|given| {
                port["name"] == given || given.parse() == Ok(port["port"].as_u64().unwrap_or(0))
            })
        };
        let meant: Vec<&&Value> = ports.iter().filter(is_given).collect();
        if let [only] = meant[..] {
            return Ok(only);
        }
        let all: Vec<String> = ports
            .iter()
            .map(|port| match port["name"].as_str() {
                Some(name) => format!("{name} ({})", port["port"]),
                None => port["port"].to_string(),
            })
            .collect();
        Err(match (&self.port, all.is_empty()) {
            (_, true) => format!("the Service {name} has no port"),
            (Some(given), _) => {
                format!("--port {given}: the Service {name} has {}", all.join(", "))
            }
            (None, _) => format!(
                "the Service {name} has {}: choose one with --port, or several with --listen, e.g. \
                 --listen 8080={},8082=...",
                all.join(", "),
                ports.first().map_or(String::new(), |port| {
                    port["name"].as_str().unwrap_or("80").to_owned()
                }),
            ),
        })
    }

    /// The labels by which the Service selects the app's pods.
    fn labels(&self) -> Result<String, String> {
        let selector = self.service["spec"]["selector"].as_object();
        let labels = selector.into_iter().flatten();
        let labels = labels.filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)));
        let labels: Vec<String> = labels.collect();
        match labels.is_empty() {
            true => Err("--take-over auto: the Service has no selector".to_owned()),
            false => Ok(labels.join(",")),
        }
    }
}

/// The port of the pods, by number or name.
fn target_port(port: &Value) -> String {
    match &port["targetPort"] {
        Value::String(name) => name.clone(),
        Value::Number(number) => number.to_string(),
        _ => port["port"].to_string(),
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
            service: json!({
                "metadata": { "name": "db" },
                "spec": { "ports": ports, "selector": { "app": "db", "tier": "data" } },
            }),
            port: port.map(str::to_owned),
            has_service_port: false,
            has_ports: false,
            takes_over: false,
        }
    }

    fn two() -> Value {
        json!([
            { "name": "sql", "port": 5432, "targetPort": "pg" },
            { "name": "admin", "port": 80, "targetPort": 8000 },
        ])
    }

    #[test]
    fn namespace_port_and_labels_become_arguments() {
        let one = || json!([{ "port": 5432 }]);
        let given = Found {
            namespace: None,
            has_service_port: true,
            ..found(one(), None)
        };
        let several = Found {
            has_ports: true,
            ..found(two(), None)
        };
        let take_over = Found {
            takes_over: true,
            ..found(two(), Some("sql"))
        };
        let by_number = Found {
            takes_over: true,
            ..found(two(), Some("80"))
        };
        for (label, found, expected) in [
            (
                "one port",
                found(one(), None),
                &["--namespace=shop", "--service-port=5432"][..],
            ),
            ("what is given stays", given, &[]),
            ("a list of ports", several, &["--namespace=shop"]),
            (
                "by name",
                take_over,
                &[
                    "--namespace=shop",
                    "--service-port=5432",
                    "--take-over=app=db,tier=data:pg",
                ],
            ),
            (
                "by number",
                by_number,
                &[
                    "--namespace=shop",
                    "--service-port=80",
                    "--take-over=app=db,tier=data:8000",
                ],
            ),
        ] {
            assert_eq!(found.arguments().unwrap(), expected, "{label}");
        }
    }

    #[test]
    fn what_is_not_clear_names_the_choices() {
        let mut no_selector = found(two(), Some("sql"));
        no_selector.service["spec"]["selector"] = Value::Null;
        no_selector.takes_over = true;
        for (found, why) in [
            (
                found(two(), None),
                "the Service db has sql (5432), admin (80): choose one with --port, or several with \
                 --listen, e.g. --listen 8080=sql,8082=...",
            ),
            (
                found(two(), Some("http")),
                "--port http: the Service db has sql (5432), admin (80)",
            ),
            (found(Value::Null, None), "the Service db has no port"),
            (no_selector, "--take-over auto: the Service has no selector"),
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
            "--take-over",
            "auto",
            "--idle-ttl",
            "5m",
        ]);
        let left = args(&["--deployment=db", "--idle-ttl", "5m"]);
        assert_eq!(without_lookup(&given, true), left);
    }
}
