//! The rows about the process: its admin port, its limits, its log, and its drain.

use super::{Column, GO, PROCESS_ROW, PYTHON, PYTHON_LABELS, Setting, Unset};
use crate::duration;
use crate::settings::value;

pub(super) const ROWS: &[Setting] = &[
    Setting {
        flag: "apps",
        variables: &["ZPA_APPS"],
        placeholder: "FILE",
        unset: Unset::Means("one app"),
        help: "A JSON file with a list of apps, each an object whose keys are settings, such as \
               `[{\"deployment\": \"my-app\", \"listen\": \":8080\"}]`. It is read again when it \
               changes. An app's settings that are given as flags or variables are the defaults of \
               all",
        examples: &["/etc/zpa/apps.json"],
        store: |settings, text| {
            settings.apps = Some(text.into());
            Ok(())
        },
        show: |settings| {
            let file = settings.apps.as_ref();
            file.map(|file| file.display().to_string())
        },
        ..PROCESS_ROW
    },
    Setting {
        flag: "discover",
        variables: &["ZPA_DISCOVER"],
        placeholder: "LABELS",
        unset: Unset::Means("one app"),
        help: "Serve every Service that this label selector selects and that has the annotation \
               `zero-pod-autoscaler/listen`. Its annotations `zero-pod-autoscaler/SETTING` are the \
               settings of its app, and `zero-pod-autoscaler/target`, as `deployments.apps/NAME`, \
               is what is scaled, if not the Deployment of its own name. An app's settings that \
               are given as flags or variables are the defaults of all",
        examples: &["zero-pod-autoscaler/enabled=true", "tier=dev"],
        store: |settings, text| {
            settings.discover = Some(value::selector(text)?);
            Ok(())
        },
        show: |settings| settings.discover.clone(),
        ..PROCESS_ROW
    },
    Setting {
        flag: "admin-listen",
        variables: &["ZPA_ADMIN_LISTEN"],
        placeholder: "ADDRESS",
        unset: Unset::Default(":8081"),
        help: "Where probes and Prometheus connect: health, readiness, metrics and status; or \
               `off`",
        choices: &["off"],
        examples: &[":8081", "0.0.0.0:8081", "127.0.0.1:9090", "off"],
        columns: &[
            Column::new(GO, &["admin-address"], Unset::Default("localhost:8080")),
            Column::new(PYTHON_LABELS, &["http-server-port"], Unset::Default("8080")).read(
                // The ancestor's value is a port; zpa's is an address.
                |settings, text| {
                    settings.admin_listen = value::admin_port(text)?;
                    Ok(())
                },
            ),
        ],
        store: |settings, text| {
            settings.admin_listen = value::admin_listen(text)?;
            Ok(())
        },
        show: |settings| {
            let address = settings.admin_listen.map(|address| address.to_string());
            Some(address.unwrap_or_else(|| "off".to_owned()))
        },
        ..PROCESS_ROW
    },
    Setting {
        flag: "max-connections",
        variables: &["ZPA_MAX_CONNECTIONS"],
        placeholder: "NUMBER",
        unset: Unset::Means("from RLIMIT_NOFILE, at most 100000"),
        help: "How many clients may be connected at a time; others wait in the kernel's backlog",
        examples: &["1000"],
        store: |settings, text| {
            settings.max_connections = Some(value::count(text)?);
            Ok(())
        },
        show: |settings| settings.max_connections.map(|most| most.to_string()),
        ..PROCESS_ROW
    },
    Setting {
        flag: "drain-delay",
        variables: &["ZPA_DRAIN_DELAY"],
        placeholder: "DURATION",
        unset: Unset::Default("5s"),
        help: "Go on accepting for this long after SIGTERM, until no client is led to this pod \
               any more; may be 0",
        examples: &["5s", "0"],
        store: |settings, text| {
            settings.drain_delay = value::duration(text)?;
            Ok(())
        },
        show: |settings| Some(duration::display(settings.drain_delay)),
        ..PROCESS_ROW
    },
    Setting {
        flag: "drain-timeout",
        variables: &["ZPA_DRAIN_TIMEOUT"],
        placeholder: "DURATION",
        unset: Unset::Default("20s"),
        help: "After the drain delay, let connections finish for this long before they are \
               reset; may be 0",
        examples: &["20s", "0"],
        store: |settings, text| {
            settings.drain_timeout = value::duration(text)?;
            Ok(())
        },
        show: |settings| Some(duration::display(settings.drain_timeout)),
        ..PROCESS_ROW
    },
    Setting {
        flag: "zone",
        variables: &["ZPA_ZONE"],
        placeholder: "NAME",
        unset: Unset::Means("not known"),
        help: "The zone in which the proxy runs: pods whose endpoints have hints for it, as they do \
               where the Service has `trafficDistribution`, are dialled before others. The \
               manifests take it from the pod's label `topology.kubernetes.io/zone`",
        examples: &["eu-central-1a"],
        store: |settings, text| {
            settings.zone = Some(text.to_owned());
            Ok(())
        },
        show: |settings| settings.zone.clone(),
        ..PROCESS_ROW
    },
    Setting {
        flag: "node",
        variables: &["ZPA_NODE"],
        placeholder: "NAME",
        unset: Unset::Means("not known"),
        help: "The same for the node, which goes before the zone (`PreferSameNode`)",
        examples: &["node-1"],
        store: |settings, text| {
            settings.node = Some(text.to_owned());
            Ok(())
        },
        show: |settings| settings.node.clone(),
        ..PROCESS_ROW
    },
    Setting {
        flag: "webhook-ca",
        variables: &["ZPA_WEBHOOK_CA"],
        placeholder: "FILE",
        unset: Unset::Means("the cluster's"),
        help: "The certificates to verify an https `--webhook` with, in PEM, since the image has \
               none",
        examples: &["/etc/zpa/ca.crt"],
        store: |settings, text| {
            settings.webhook_ca = Some(text.into());
            Ok(())
        },
        show: |settings| {
            let file = settings.webhook_ca.as_ref();
            file.map(|file| file.display().to_string())
        },
        ..PROCESS_ROW
    },
    Setting {
        flag: "log",
        variables: &["ZPA_LOG"],
        placeholder: "FILTER",
        unset: Unset::Default("info"),
        help: "What to log: off, error, warn, info or debug, or a list such as warn,zpa=debug",
        choices: &["off", "error", "warn", "info", "debug"],
        examples: &["info", "warn,zpa=debug"],
        columns: &[
            Column::new(PYTHON, &["log-level"], Unset::Default("info")).read(|settings, text| {
                settings.log = value::python_log_level(text);
                Ok(())
            }),
        ],
        store: |settings, text| {
            settings.log = value::log(text)?;
            Ok(())
        },
        show: |settings| Some(settings.log.clone()),
        ..PROCESS_ROW
    },
    Setting {
        flag: "log-format",
        variables: &["ZPA_LOG_FORMAT"],
        placeholder: "FORMAT",
        unset: Unset::Default("text"),
        help: "How a line of the log is written: `text`, or `json`, an object with `time`, \
               `level` and `msg`",
        choices: &["text", "json"],
        examples: &["text", "json"],
        store: |settings, text| {
            settings.log_format = value::log_format(text)?;
            Ok(())
        },
        show: |settings| Some(value::show_log_format(settings.log_format).to_owned()),
        ..PROCESS_ROW
    },
];
