//! The rows of flags that `zpa` itself does not have, but an ancestor (a program that it
//! replaces) does: parts of a setting of `zpa`, and flags without effect.

use super::{
    Column, GO, NOTHING, PROCESS_ROW, PYTHON, PYTHON_LABELS, ROW, Setting, Unset, ValueKind,
};
use crate::settings::value;
use crate::workload::{Resource, TargetRef};

pub(super) const ROWS: &[Setting] = &[
    Setting {
        flag: "selector",
        placeholder: "LABELS",
        help: "The labels of the Deployment to scale, where no name is given",
        examples: &["app=my-app"],
        columns: &[Column::new(GO, &["selector", "l"], NOTHING)],
        store: |settings, text| {
            settings.target_ref = TargetRef::Labels {
                resource: Resource::deployments(),
                selector: value::selector(text)?,
            };
            Ok(())
        },
        ..ROW
    },
    Setting {
        flag: "rs-label-selector",
        placeholder: "LABELS",
        help: "The labels of a ReplicaSet; what owns it is scaled",
        examples: &["app=my-app"],
        columns: &[Column::new(
            PYTHON_LABELS,
            &["rs-label-selector"],
            Unset::Means("required"),
        )],
        store: |settings, text| {
            settings.target_ref = TargetRef::ReplicaSetOwner {
                selector: value::selector(text)?,
            };
            Ok(())
        },
        ..ROW
    },
    Setting {
        flag: "config-map",
        placeholder: "NAME",
        help: "The ConfigMap on which replicas of the ancestor keep their annotations",
        examples: &["traffic-pod-autoscaler-cm"],
        columns: &[Column::new(
            PYTHON_LABELS,
            &["config-map"],
            Unset::Default("traffic-pod-autoscaler-cm"),
        )],
        store: |settings, text| {
            settings.state_configmap = Some(value::subdomain(text)?);
            Ok(())
        },
        ..ROW
    },
    Setting {
        flag: "local-address",
        part_of: Some("listen"),
        placeholder: "ADDRESS",
        help: "The address of `--listen`",
        examples: &["0.0.0.0", "::"],
        columns: &[Column::new(
            PYTHON,
            &["local-address"],
            Unset::Means("every address of IPv4"),
        )],
        store: |settings, text| {
            let ip = value::ip(text)?;
            for listener in &mut settings.listen {
                listener.address.set_ip(ip);
            }
            Ok(())
        },
        ..ROW
    },
    Setting {
        flag: "local-port",
        part_of: Some("listen"),
        placeholder: "PORT",
        help: "The port of `--listen`",
        examples: &["80", "8080"],
        columns: &[Column::new(PYTHON, &["local-port"], Unset::Means("80"))],
        store: |settings, text| {
            let port = value::port(text)?;
            for listener in &mut settings.listen {
                listener.address.set_port(port);
            }
            Ok(())
        },
        ..ROW
    },
    Setting {
        flag: "target-address",
        part_of: Some("target"),
        placeholder: "HOST",
        help: "The host to dial; if it is the Service of `--endpoint`, its pods, and it only where none of \
               them answers",
        examples: &["my-app"],
        columns: &[Column::new(
            PYTHON,
            &["target-address"],
            Unset::Means("the pods"),
        )],
        store: |settings, text| {
            settings.target = Some(value::host(text)?);
            Ok(())
        },
        ..ROW
    },
    Setting {
        flag: "target-port",
        part_of: Some("target"),
        placeholder: "PORT",
        help: "The port of `--target-address`; of the Service's ports the one that is meant",
        examples: &["80"],
        columns: &[Column::new(PYTHON, &["target-port"], Unset::Means("80"))],
        store: |settings, text| {
            let port = value::port(text)?;
            if let Some(target) = &mut settings.target {
                target.port = port;
            }
            Ok(())
        },
        ..ROW
    },
    Setting {
        flag: "max-retry",
        part_of: Some("hold-timeout"),
        placeholder: "NUMBER",
        help: "`--hold-timeout` is this many times `--waiting-time` and one minute",
        examples: &["30"],
        columns: &[Column::new(PYTHON, &["max-retry"], Unset::Means("30"))],
        store: |settings, text| {
            settings.parts.max_retry = Some(value::retries(text)?);
            Ok(())
        },
        ..ROW
    },
    Setting {
        flag: "waiting-time",
        part_of: Some("hold-timeout"),
        placeholder: "MILLISECONDS",
        help: "See `--max-retry`",
        examples: &["1000"],
        columns: &[Column::new(PYTHON, &["waiting-time"], Unset::Means("1000"))],
        store: |settings, text| {
            settings.parts.waiting_time = Some(value::milliseconds(text)?);
            Ok(())
        },
        ..ROW
    },
    Setting {
        flag: "ping-url",
        placeholder: "PATH",
        help: "The path of the admin port that answers with `{\"response\": \"pong\"}`",
        examples: &["/ping"],
        columns: &[Column::new(
            PYTHON_LABELS,
            &["ping-url"],
            Unset::Default("/ping"),
        )],
        store: |settings, text| {
            settings.ping_path = Some(value::url_path(text)?);
            Ok(())
        },
        ..PROCESS_ROW
    },
    Setting {
        flag: "metrics-url",
        placeholder: "PATH",
        help: "The path of the admin port that has the metrics, beside `/metrics`",
        examples: &["/metrics"],
        columns: &[Column::new(
            PYTHON_LABELS,
            &["metrics-url"],
            Unset::Default("/metrics"),
        )],
        store: |settings, text| {
            settings.metrics_path = Some(value::url_path(text)?);
            Ok(())
        },
        ..PROCESS_ROW
    },
    Setting {
        flag: "check-interval",
        placeholder: "SECONDS",
        help: "Has no meaning here",
        examples: &["60"],
        columns: &[Column::ignored(
            PYTHON,
            &["check-interval"],
            "the end of the expiration time is kept to the moment, not looked for at intervals",
        )],
        ..ROW
    },
    Setting {
        flag: "pods-check-interval",
        placeholder: "SECONDS",
        help: "Has no meaning here",
        examples: &["5"],
        columns: &[Column::ignored(
            PYTHON_LABELS,
            &["pods-check-interval"],
            "pods are watched, not counted at intervals",
        )],
        ..ROW
    },
    Setting {
        flag: "update-annotation-refresh-interval",
        placeholder: "SECONDS",
        help: "Has no meaning here",
        examples: &["20"],
        columns: &[Column::ignored(
            PYTHON_LABELS,
            &["update-annotation-refresh-interval"],
            "the lease is renewed every quarter of the expiration time while connections live",
        )],
        ..ROW
    },
    Setting {
        flag: "target-timeout",
        placeholder: "SECONDS",
        help: "Has no meaning here",
        examples: &["120"],
        columns: &[Column::ignored(
            PYTHON_LABELS,
            &["target-timeout"],
            "it never had a meaning; ZPA_CONNECT_TIMEOUT bounds a connect",
        )],
        ..ROW
    },
    Setting {
        flag: "sock-max-handle-buffer",
        placeholder: "NUMBER",
        help: "Has no meaning here",
        examples: &["200"],
        columns: &[Column::ignored(
            PYTHON_LABELS,
            &["sock-max-handle-buffer"],
            "the kernel's queue of connections is as long as net.core.somaxconn allows",
        )],
        ..ROW
    },
    Setting {
        flag: "insecure-skip-tls-verify",
        takes: ValueKind::Switch,
        help: "Is refused",
        examples: &["false"],
        columns: &[Column::refused(
            GO,
            &["insecure-skip-tls-verify"],
            "whoever stands between could take the token; name the certificates to trust with \
             --certificate-authority",
        )],
        ..ROW
    },
    Setting {
        flag: "username",
        placeholder: "NAME",
        help: "Is refused",
        examples: &["admin"],
        columns: &[Column::refused(GO, &["username"], NO_BASIC)],
        ..ROW
    },
    Setting {
        flag: "password",
        placeholder: "PASSWORD",
        takes: ValueKind::Secret,
        help: "Is refused",
        examples: &["secret"],
        columns: &[Column::refused(GO, &["password"], NO_BASIC)],
        ..ROW
    },
];

/// `--basic-auth-file` was removed from the API server in Kubernetes 1.19.
const NO_BASIC: &str = "API servers know no passwords since Kubernetes 1.19; use a token, a \
                        client certificate, or the service account";
