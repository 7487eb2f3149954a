//! The rows about an app: its scale target, its Service, where its clients connect, and when
//! it sleeps and wakes.

use std::time::Duration;

use super::{Column, GO, PYTHON, PYTHON_DEPLOYMENT, ROW, Setting, Unset, ValueKind, reason};
use crate::cluster::{HostPort, PortRef};
use crate::duration;
use crate::schedule::Schedule;
use crate::settings::listen::{self, Listener};
use crate::settings::value;
use crate::workload::TargetRef;

pub(super) const ROWS: &[Setting] = &[
    Setting {
        flag: "deployment",
        variables: &["ZPA_DEPLOYMENT"],
        placeholder: "NAME",
        unset: Unset::Means("required, or `--scale-target`"),
        help: "The Deployment to scale",
        examples: &["my-app"],
        columns: &[
            Column::new(
                GO,
                &["deployment"],
                Unset::Means("required, or `--selector`"),
            ),
            Column::new(PYTHON_DEPLOYMENT, &["deployment"], Unset::Means("required")),
        ],
        store: |settings, text| {
            settings.target_ref = TargetRef::deployment(&value::subdomain(text)?);
            Ok(())
        },
        show: |settings| settings.target_ref.deployment_name().map(str::to_owned),
        ..ROW
    },
    Setting {
        flag: "scale-target",
        variables: &["ZPA_SCALE_TARGET"],
        placeholder: "PLURAL.GROUP/NAME",
        unset: Unset::Means("the Deployment"),
        help: "What to scale instead of a Deployment, as PLURAL.GROUP/NAME: anything with a scale \
               subresource",
        examples: &["statefulsets.apps/my-app", "rollouts.argoproj.io/my-app"],
        store: |settings, text| {
            settings.target_ref = value::target_ref(text)?;
            Ok(())
        },
        show: |settings| {
            let target = &settings.target_ref;
            let is_other = target.name().is_some() && target.deployment_name().is_none();
            is_other.then(|| target.to_string())
        },
        ..ROW
    },
    Setting {
        flag: "namespace",
        aliases: &["n"],
        variables: &["ZPA_NAMESPACE"],
        placeholder: "NAME",
        unset: Unset::Means("the service account's"),
        help: "The namespace of what is scaled and of the Service; with `--discover`, `*` is all \
               namespaces",
        examples: &["default"],
        columns: &[
            Column::new(GO, &["namespace", "n"], NAMESPACE),
            Column::new(PYTHON, &["namespace"], NAMESPACE),
        ],
        store: |settings, text| {
            settings.all_namespaces = text == "*";
            settings.namespace = match settings.all_namespaces {
                true => None,
                false => Some(value::namespace(text)?),
            };
            Ok(())
        },
        show: |settings| match settings.all_namespaces {
            true => Some("*".to_owned()),
            false => settings.namespace.clone(),
        },
        ..ROW
    },
    Setting {
        flag: "service",
        variables: &["ZPA_SERVICE"],
        placeholder: "NAME",
        unset: Unset::Means("the name of what is scaled"),
        help: "The Service whose ready pods are dialled",
        examples: &["my-app"],
        columns: &[
            Column::new(GO, &["endpoints"], SERVICE),
            Column::new(PYTHON, &["endpoint"], SERVICE),
        ],
        store: |settings, text| {
            settings.service = Some(value::label(text)?);
            Ok(())
        },
        show: |settings| settings.service.clone(),
        ..ROW
    },
    Setting {
        flag: "listen",
        variables: &["ZPA_LISTEN"],
        placeholder: "ADDRESS[=PORT],...",
        unset: Unset::Default(":8080"),
        help: "Where clients connect; `:8080` is every address, of IPv4 and of IPv6 as far as the \
               kernel has them. For several of the Service's ports a list such as \
               `8080=http,5432=postgres`: where clients connect, and the Service's port that they \
               reach, by name or number",
        examples: &[
            ":8080",
            "0.0.0.0:8080",
            "[::1]:8080",
            "8080=http,5432=postgres",
        ],
        columns: &[
            Column::new(GO, &["address"], Unset::Default("localhost:3000")),
            Column::value(PYTHON, Unset::Default("0.0.0.0:80")),
        ],
        store: |settings, text| {
            settings.listen = listen::parse(text)?;
            Ok(())
        },
        show: |settings| {
            let listeners = settings.listen.iter().map(Listener::to_string);
            Some(listeners.collect::<Vec<_>>().join(","))
        },
        ..ROW
    },
    Setting {
        flag: "server-name",
        variables: &["ZPA_SERVER_NAME"],
        placeholder: "NAMES",
        takes: ValueKind::Texts,
        unset: Unset::Means("any client"),
        help: "The TLS server names (SNI) of the app, so that apps of a list may share an address: \
               the name in the ClientHello, which is peeked at, chooses one, and TLS passes \
               through. `*.example.com` is every name of one label more, `*` every name that no \
               other app there has, and no name. A client that is for none of them gets a TLS \
               alert and wakes nothing. Separated by commas; repeat the flag for more",
        examples: &["db.example.com", "shop.example.com,*.shop.example.com", "*"],
        store: |settings, text| settings.server_names.extend(text.parse()?),
        show: |settings| {
            let names = &settings.server_names;
            (!names.is_empty()).then(|| names.to_string())
        },
        ..ROW
    },
    Setting {
        flag: "port",
        variables: &["ZPA_PORT"],
        placeholder: "PORT",
        unset: Unset::Means("the Service's only port"),
        help: "Which of the Service's ports, by name or number, if it has several",
        examples: &["http", "80"],
        store: |settings, text| {
            settings.port = Some(value::port_ref(text)?);
            Ok(())
        },
        show: |settings| settings.port.as_ref().map(PortRef::to_string),
        ..ROW
    },
    Setting {
        flag: "target",
        variables: &["ZPA_TARGET"],
        placeholder: "HOST:PORT",
        unset: Unset::Means("the pods"),
        help: "The host and port to dial instead of the pods' own addresses, for example the \
               Service",
        examples: &["my-app:80", "10.0.0.7:80"],
        columns: &[
            Column::new(GO, &["target"], Unset::Means("the pods")).meaning(
                "What to dial; if it is the Service of `--endpoints`, its pods, and it only where \
                 none of them answers",
            ),
        ],
        store: |settings, text| {
            settings.target = Some(text.parse().map_err(reason)?);
            Ok(())
        },
        show: |settings| settings.target.as_ref().map(HostPort::to_string),
        ..ROW
    },
    Setting {
        flag: "idle-ttl",
        variables: &["ZPA_IDLE_TTL"],
        placeholder: "DURATION",
        unset: Unset::Default("1h"),
        help: "Scale to zero after this long without a connection; at least 1s",
        examples: &["90s", "5m", "1h30m"],
        columns: &[
            Column::new(GO, &["ttl"], Unset::Default("1h")),
            Column::new(PYTHON, &["expiration-time"], Unset::Default("30m")),
        ],
        store: |settings, text| {
            settings.idle_ttl = value::duration_from(Duration::from_secs(1), text)?;
            Ok(())
        },
        show: |settings| Some(duration::display(settings.idle_ttl)),
        ..ROW
    },
    Setting {
        flag: "hold-timeout",
        variables: &["ZPA_HOLD_TIMEOUT"],
        placeholder: "DURATION",
        unset: Unset::Default("5m"),
        help: "Reset a connection that has waited this long for the app to wake",
        examples: &["90s", "5m"],
        // One attempt of theirs with 30 retries a second apart, and 60 connects.
        columns: &[Column::value(PYTHON, Unset::Default("1m30s"))],
        store: |settings, text| {
            settings.hold_timeout = value::positive_duration(text)?;
            Ok(())
        },
        show: |settings| Some(duration::display(settings.hold_timeout)),
        ..ROW
    },
    Setting {
        flag: "abort-on-close",
        variables: &["ZPA_ABORT_ON_CLOSE"],
        takes: ValueKind::Switch,
        unset: Unset::Default("false"),
        help: "Drop a client that half-closes (sends a FIN) while it waits for the app, even \
               after a request: it has probably given up, as `curl -m 1` does, but `nc -N` awaits \
               a reply",
        examples: &["true", "false"],
        store: |settings, text| {
            settings.abort_on_close = value::switch(text)?;
            Ok(())
        },
        show: |settings| Some(settings.abort_on_close.to_string()),
        ..ROW
    },
    Setting {
        flag: "fail-fast",
        variables: &["ZPA_FAIL_FAST"],
        takes: ValueKind::Switch,
        unset: Unset::Default("false"),
        help: "Reset waiting connections at once, and those that come, while the app cannot start for \
               a reason that waiting does not solve: its image cannot be pulled, its configuration \
               is not there, it crashes again and again, a quota allows no pod. Reads the pods, which \
               takes a permission",
        examples: &["true", "false"],
        store: |settings, text| {
            settings.fail_fast = value::switch(text)?;
            Ok(())
        },
        show: |settings| Some(settings.fail_fast.to_string()),
        ..ROW
    },
    Setting {
        flag: "connect-timeout",
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
        ..ROW
    },
    Setting {
        flag: "wake-replicas",
        variables: &["ZPA_WAKE_REPLICAS"],
        placeholder: "NUMBER",
        unset: Unset::Default("1"),
        help: "How many replicas to wake the app with; or `previous`, as many as before the sleep",
        choices: &["previous"],
        examples: &["1", "3", "previous"],
        columns: &[Column::new(PYTHON, &["min-replicas"], Unset::Default("1"))],
        store: |settings, text| {
            settings.wake_replicas = value::wake_replicas(text)?;
            Ok(())
        },
        show: |settings| Some(settings.wake_replicas.to_string()),
        ..ROW
    },
    Setting {
        flag: "ready-gate",
        variables: &["ZPA_READY_GATE"],
        placeholder: "GATE",
        unset: Unset::Default("probe"),
        help: "What a waiting connection waits for: `probe`, that the kubelet's probe has found \
               a pod ready; `accept`, that a pod accepts a connection, which may be a whole \
               period of the probe sooner, for apps that listen only once they can serve; or \
               `greeting`, that a pod has sent the first byte of a connection, before the kubelet \
               finds it ready or after, for protocols in which the server speaks first at the \
               first port (MySQL, SSH, SMTP, FTP). \
               With `accept` and `greeting` each start gets a connection that says nothing",
        choices: &["probe", "accept", "greeting"],
        examples: &["probe", "accept", "greeting"],
        store: |settings, text| {
            settings.ready_gate = text.parse()?;
            Ok(())
        },
        show: |settings| Some(settings.ready_gate.to_string()),
        ..ROW
    },
    Setting {
        flag: "min-ready",
        variables: &["ZPA_MIN_READY"],
        placeholder: "NUMBER",
        unset: Unset::Default("1"),
        help: "After a wake, connections wait until so many pods are ready, at most as many as \
               `--wake-replicas`",
        examples: &["1", "2"],
        store: |settings, text| {
            settings.min_ready = value::count_u32(text)?;
            Ok(())
        },
        show: |settings| Some(settings.min_ready.to_string()),
        ..ROW
    },
    Setting {
        flag: "min-ready-time",
        variables: &["ZPA_MIN_READY_TIME"],
        placeholder: "DURATION",
        unset: Unset::Default("0"),
        help: "After a wake, connections wait until the pods have been ready for so long, for an \
               app whose probe succeeds before it can serve",
        examples: &["0", "2s"],
        store: |settings, text| {
            settings.min_ready_time = value::duration(text)?;
            Ok(())
        },
        show: |settings| Some(duration::display(settings.min_ready_time)),
        ..ROW
    },
    Setting {
        flag: "min-awake",
        variables: &["ZPA_MIN_AWAKE"],
        placeholder: "DURATION",
        unset: Unset::Default("0"),
        help: "Never scale to zero sooner than this after a wake, for an app whose start is costly",
        examples: &["0", "10m"],
        store: |settings, text| {
            settings.min_awake = value::duration(text)?;
            Ok(())
        },
        show: |settings| Some(duration::display(settings.min_awake)),
        ..ROW
    },
    Setting {
        flag: "min-asleep",
        variables: &["ZPA_MIN_ASLEEP"],
        placeholder: "DURATION",
        unset: Unset::Default("0"),
        help: "Never wake the app sooner than this after it was scaled to zero, for an app that \
               needs a while to end; a connection waits for that, within the hold limit",
        examples: &["0", "30s"],
        store: |settings, text| {
            settings.min_asleep = value::duration(text)?;
            Ok(())
        },
        show: |settings| Some(duration::display(settings.min_asleep)),
        ..ROW
    },
    Setting {
        flag: "keep-awake",
        variables: &["ZPA_KEEP_AWAKE"],
        placeholder: "WINDOWS",
        takes: ValueKind::Texts,
        unset: Unset::Means("never"),
        help: "When the app is kept awake, and woken at the beginning: `HH:MM-HH:MM`, then days \
               (without: every day), then a time zone (without: UTC), several separated by \
               commas; repeat the flag for more",
        examples: &[
            "09:00-18:00 Mon-Fri Europe/Berlin",
            "22:00-06:00,00:00-24:00 Sat-Sun",
        ],
        store: |settings, text| {
            settings.keep_awake.extend(text.parse()?);
            Ok(())
        },
        show: |settings| show_schedule(&settings.keep_awake),
        ..ROW
    },
    Setting {
        flag: "no-wake",
        variables: &["ZPA_NO_WAKE"],
        placeholder: "WINDOWS",
        takes: ValueKind::Texts,
        unset: Unset::Means("never"),
        help: "When no connection wakes the app, as windows like those of `--keep-awake`, which \
               comes first: a connection waits for the end of the window, within the hold limit",
        examples: &["22:00-06:00", "00:00-24:00 Sat Sun America/New_York"],
        store: |settings, text| {
            settings.no_wake.extend(text.parse()?);
            Ok(())
        },
        show: |settings| show_schedule(&settings.no_wake),
        ..ROW
    },
    Setting {
        flag: "wakes-per-minute",
        variables: &["ZPA_WAKES_PER_MINUTE"],
        placeholder: "NUMBER",
        unset: Unset::Means("unlimited"),
        help: "The most wakes of the app in a minute, by each proxy; a further connection waits \
               for its turn, within the hold limit",
        examples: &["1", "4"],
        store: |settings, text| {
            settings.wakes_per_minute = Some(value::count_u32(text)?);
            Ok(())
        },
        show: |settings| settings.wakes_per_minute.map(|most| most.to_string()),
        ..ROW
    },
    Setting {
        flag: "single-proxy",
        variables: &["ZPA_SINGLE_PROXY"],
        takes: ValueKind::Switch,
        unset: Unset::Default("false"),
        help: "No other proxy is in front of this app, and no leases are written or read. Never \
               for two proxies of one app: they would cut off each other's users",
        examples: &["true", "false"],
        store: |settings, text| {
            settings.single_proxy = value::switch(text)?;
            Ok(())
        },
        show: |settings| Some(settings.single_proxy.to_string()),
        ..ROW
    },
    Setting {
        flag: "dry-run",
        variables: &["ZPA_DRY_RUN"],
        takes: ValueKind::Switch,
        unset: Unset::Default("false"),
        help: "Write nothing to the scale target, and log when it would be scaled to zero: to see \
               what would happen before it does. Not beside a proxy that writes, which would put the app \
               to sleep under connections of this one",
        examples: &["true", "false"],
        store: |settings, text| {
            settings.dry_run = value::switch(text)?;
            Ok(())
        },
        show: |settings| Some(settings.dry_run.to_string()),
        ..ROW
    },
    Setting {
        flag: "webhook",
        variables: &["ZPA_WEBHOOK"],
        placeholder: "URL",
        takes: ValueKind::Secret,
        unset: Unset::Means("none"),
        help: "Post a small JSON object to this http or https URL when this proxy has scaled the \
               app to zero (`slept`), wakes it (`waking`), when a pod is ready then (`awake`), and \
               if none is at the hold limit (`wake-failed`). The URL counts as a secret and is \
               never shown; the variable is safer",
        examples: &[
            "https://hooks.example.com/T0/B0",
            "http://my-app.default.svc:8080/zpa",
        ],
        store: |settings, text| {
            settings.webhook = Some(text.parse()?);
            Ok(())
        },
        ..ROW
    },
];

fn show_schedule(schedule: &Schedule) -> Option<String> {
    (!schedule.is_empty()).then(|| schedule.to_string())
}

const NAMESPACE: Unset = Unset::Means("the service account's");
const SERVICE: Unset = Unset::Means("the name of what is scaled");
