//! The rows about the clients of an app: which of them count as use, and at which pace held
//! connections are dialled.

use super::{ROW, Setting, Unset, ValueKind, reason};
use crate::cluster::HostPort;
use crate::duration;
use crate::rules::sources::Networks;
use crate::settings::value;

pub(super) const ROWS: &[Setting] = &[
    Setting {
        flag: "ignore-sources",
        variables: &["ZPA_IGNORE_SOURCES"],
        placeholder: "NETWORKS",
        takes: ValueKind::Texts,
        unset: Unset::Means("nobody"),
        help: "Clients whose connections never wake the app and never keep it awake, such as \
               health checks and scrapers: while it sleeps they are accepted and closed, while it \
               is awake they are served. Networks (CIDR) or addresses, separated by commas; \
               repeat the flag for more. `@FILE` is a file with such networks, which is read \
               again when it changes",
        examples: &["10.0.0.0/8", "192.0.2.7,fd00::/8", "@/etc/zpa/ignored"],
        store: |settings, text| settings.rules.sources.ignore(text),
        show: |settings| settings.rules.sources.show_ignored(),
        ..ROW
    },
    Setting {
        flag: "deny-sources",
        variables: &["ZPA_DENY_SOURCES"],
        placeholder: "NETWORKS",
        takes: ValueKind::Texts,
        unset: Unset::Means("nobody"),
        help: "Clients that may not connect: they are reset at once, also if `--ignore-sources` \
               has them. `@FILE` is a file with such networks, which is read again when it changes",
        examples: &["10.0.0.0/8", "192.0.2.7,fd00::/8", "@/etc/zpa/denied"],
        store: |settings, text| settings.rules.sources.deny(text),
        show: |settings| settings.rules.sources.show_denied(),
        ..ROW
    },
    Setting {
        flag: "max-per-source",
        variables: &["ZPA_MAX_PER_SOURCE"],
        placeholder: "NUMBER",
        unset: Unset::Means("unlimited"),
        help: "The most connections of one client address at a time, or of one /64 of IPv6; \
               further ones are reset at once. Behind a load balancer that hides the clients' \
               addresses, all of them are one source",
        examples: &["100"],
        store: |settings, text| {
            settings.rules.max_per_source = Some(value::count_u32(text)?);
            Ok(())
        },
        show: |settings| settings.rules.max_per_source.map(|most| most.to_string()),
        ..ROW
    },
    Setting {
        flag: "max-connections-per-pod",
        variables: &["ZPA_MAX_CONNECTIONS_PER_POD"],
        placeholder: "NUMBER",
        unset: Unset::Means("unlimited"),
        help: "The most connections that each proxy has with a pod at a time, over all its ports; \
               others wait their turn within the hold limit, also while the app is awake",
        examples: &["90"],
        store: |settings, text| {
            settings.rules.max_connections_per_pod = Some(value::count_u32(text)?);
            Ok(())
        },
        show: |settings| {
            let most = settings.rules.max_connections_per_pod;
            most.map(|most| most.to_string())
        },
        ..ROW
    },
    Setting {
        flag: "release-rate",
        variables: &["ZPA_RELEASE_RATE"],
        placeholder: "RATE",
        unset: Unset::Default("off"),
        help: "How fast the connections that were held are dialled after a wake: `off`, all at \
               once; `doubling`, one, then 2, 4, 8 and so on, a batch each 100 ms; or a number \
               per second",
        choices: &["off", "doubling"],
        examples: &["off", "doubling", "50"],
        store: |settings, text| {
            settings.rules.release_rate = text.parse()?;
            Ok(())
        },
        show: |settings| Some(settings.rules.release_rate.to_string()),
        ..ROW
    },
    Setting {
        flag: "idle-timeout",
        variables: &["ZPA_IDLE_TIMEOUT"],
        placeholder: "DURATION",
        unset: Unset::Means("never"),
        help: "Close a connection over which no byte has gone for this long, in either direction",
        examples: &["30m", "12h"],
        store: |settings, text| {
            settings.rules.idle.idle_timeout = Some(value::positive_duration(text)?);
            Ok(())
        },
        show: |settings| settings.rules.idle.idle_timeout.map(duration::display),
        ..ROW
    },
    Setting {
        flag: "half-close-timeout",
        variables: &["ZPA_HALF_CLOSE_TIMEOUT"],
        placeholder: "DURATION",
        unset: Unset::Means("never"),
        help: "The same for a half-closed connection, of which one side has sent its FIN",
        examples: &["1m"],
        store: |settings, text| {
            settings.rules.idle.half_close_timeout = Some(value::positive_duration(text)?);
            Ok(())
        },
        show: |settings| {
            settings
                .rules
                .idle
                .half_close_timeout
                .map(duration::display)
        },
        ..ROW
    },
    Setting {
        flag: "silent-after",
        variables: &["ZPA_SILENT_AFTER"],
        placeholder: "DURATION",
        unset: Unset::Means("never"),
        help: "A connection over which no byte has gone for this long does not keep the app \
               awake, until its next byte. For pools that keep silent connections open",
        examples: &["5m"],
        store: |settings, text| {
            settings.rules.idle.silence = Some(value::positive_duration(text)?);
            Ok(())
        },
        show: |settings| settings.rules.idle.silence.map(duration::display),
        ..ROW
    },
    Setting {
        flag: "silent-connections",
        variables: &["ZPA_SILENT_CONNECTIONS"],
        placeholder: "ACTION",
        unset: Unset::Default("close"),
        help: "What becomes of such a silent connection when the app sleeps: `close`; `detach`, \
               it stays open for the client, and its next byte wakes the app and goes to a pod \
               that is dialled for it, which is right only where a server keeps nothing about a \
               connection between requests, such as HTTP/1.1 and memcached, and answers without a \
               pause of that length; it needs an `--idle-timeout`; or `keep-awake`, the app does \
               not sleep, for one of many apps with `--silent-after`",
        choices: &["close", "detach", "keep-awake"],
        examples: &["close", "detach", "keep-awake"],
        store: |settings, text| {
            settings.rules.idle.silent = text.parse()?;
            Ok(())
        },
        show: |settings| Some(settings.rules.idle.silent.to_string()),
        ..ROW
    },
    Setting {
        flag: "send-proxy-protocol",
        variables: &["ZPA_SEND_PROXY_PROTOCOL"],
        placeholder: "VERSION",
        unset: Unset::Means("no header"),
        help: "Tell the pods who the client is, with a header of the PROXY protocol, `v1` or \
               `v2`, before its first byte. The app has to expect it",
        choices: &["v1", "v2"],
        examples: &["v1", "v2"],
        store: |settings, text| {
            settings.rules.send_proxy_protocol = Some(text.parse()?);
            Ok(())
        },
        show: |settings| {
            let version = settings.rules.send_proxy_protocol;
            version.map(|version| version.to_string())
        },
        ..ROW
    },
    Setting {
        flag: "accept-proxy-protocol",
        variables: &["ZPA_ACCEPT_PROXY_PROTOCOL"],
        placeholder: "NETWORKS",
        takes: ValueKind::Texts,
        unset: Unset::Means("nobody"),
        help: "The addresses of load balancers whose connections begin with a header of the PROXY \
               protocol, version 1 or 2, which says who the client is. Without a header within 5s \
               such a connection is reset; a health check (LOCAL) never wakes the app. From any \
               other address a header is a client's bytes",
        examples: &["10.0.0.0/8", "192.0.2.7,fd00::/8"],
        store: |settings, text| settings.rules.accept_proxy_protocol.extend(text.parse()?),
        show: |settings| show_networks(&settings.rules.accept_proxy_protocol),
        ..ROW
    },
    Setting {
        flag: "wake-on",
        variables: &["ZPA_WAKE_ON"],
        placeholder: "BYTES",
        unset: Unset::Default("accept"),
        help: "What makes a connection count as use of the app: `accept`, that it is accepted; \
               `first-byte`, any byte; `tls`, `http`, `postgres` or `redis`, first bytes that \
               look like that protocol. No pod is dialled before that, so all but `accept` need a \
               protocol in which the client speaks first. A connection with other bytes is passed \
               on while the app is awake, and closed while it sleeps",
        choices: &["accept", "first-byte", "tls", "http", "postgres", "redis"],
        examples: &["accept", "first-byte", "tls", "http", "postgres", "redis"],
        store: |settings, text| {
            settings.rules.first_bytes.wake_on = text.parse()?;
            Ok(())
        },
        show: |settings| Some(settings.rules.first_bytes.wake_on.to_string()),
        ..ROW
    },
    Setting {
        flag: "probe-answer",
        variables: &["ZPA_PROBE_ANSWER"],
        placeholder: "STATUS",
        unset: Unset::Means("none"),
        help: "Answer HTTP health checks with `200` or `503` while the app sleeps, and do not \
               wake it for them; they are recognised by the User-Agent of the kubelet, of cloud \
               load balancers, of Envoy and of Consul, or by `--probe-paths`. The client has to \
               speak first",
        choices: &["200", "503"],
        examples: &["200", "503"],
        store: |settings, text| {
            settings.rules.first_bytes.probes.answer = Some(text.parse()?);
            Ok(())
        },
        show: |settings| {
            let answer = settings.rules.first_bytes.probes.answer;
            answer.map(|answer| answer.to_string())
        },
        ..ROW
    },
    Setting {
        flag: "probe-paths",
        variables: &["ZPA_PROBE_PATHS"],
        placeholder: "PATHS",
        takes: ValueKind::Texts,
        unset: Unset::Means("none"),
        help: "Paths whose GET and HEAD requests are health checks too, with commas between. \
               Without `--probe-answer` checks are closed while the app sleeps",
        examples: &["/healthz", "/healthz,/livez"],
        store: |settings, text| {
            let paths = &mut settings.rules.first_bytes.probes.paths;
            paths.extend(value::url_paths(text)?);
            Ok(())
        },
        show: |settings| {
            let paths = &settings.rules.first_bytes.probes.paths;
            (!paths.is_empty()).then(|| paths.join(","))
        },
        ..ROW
    },
    Setting {
        flag: "waiting-page",
        variables: &["ZPA_WAITING_PAGE"],
        placeholder: "PAGE|FILE",
        unset: Unset::Default("off"),
        help: "What a browser (GET, `Accept: text/html`) gets at once while no pod is there, with \
               status 503: `built-in`, a page that loads itself again until the app has started; \
               or the page in a file, if the value has a slash. It wakes the app. Other requests \
               are held. The client has to speak first, in plain HTTP",
        choices: &["off", "built-in"],
        examples: &["off", "built-in", "/etc/zpa/page.html"],
        store: |settings, text| {
            settings.rules.waiting_page = text.parse()?;
            Ok(())
        },
        show: |settings| Some(settings.rules.waiting_page.to_string()),
        ..ROW
    },
    Setting {
        flag: "backup-target",
        variables: &["ZPA_BACKUP_TARGET"],
        placeholder: "HOST:PORT",
        unset: Unset::Means("none"),
        help: "What a client is connected to in place of a pod at the hold limit, such as a \
               maintenance page or a replica; of all ports of the app. Such a connection does not \
               count as use. Only if that accepts none either, the client is answered \
               (`--hold-answer`) or reset",
        examples: &["maintenance.default.svc:80", "10.0.0.7:5432"],
        store: |settings, text| {
            settings.backup_target = Some(text.parse().map_err(reason)?);
            Ok(())
        },
        show: |settings| settings.backup_target.as_ref().map(HostPort::to_string),
        ..ROW
    },
    Setting {
        flag: "backup-after",
        variables: &["ZPA_BACKUP_AFTER"],
        placeholder: "DURATION",
        unset: Unset::Means("the hold limit"),
        help: "After which time without a pod a client is connected to the `--backup-target`, \
               if that is sooner than the hold limit; the app goes on waking",
        examples: &["5s", "1m"],
        store: |settings, text| {
            settings.rules.backup_after = Some(value::positive_duration(text)?);
            Ok(())
        },
        show: |settings| settings.rules.backup_after.map(duration::display),
        ..ROW
    },
    Setting {
        flag: "hold-answer",
        variables: &["ZPA_HOLD_ANSWER"],
        placeholder: "PROTOCOL|FILE",
        unset: Unset::Means("a reset"),
        help: "The answer to a client at the hold limit, an error of its protocol: `postgres` \
               (57P03), `mysql` (1040), `redis` (LOADING), `http` (503), `smtp` or `ftp` (421), \
               `tls` (an alert); or the content of a file, if the value has a slash",
        choices: &["postgres", "mysql", "redis", "http", "smtp", "ftp", "tls"],
        examples: &["postgres", "http", "/etc/zpa/answer"],
        store: |settings, text| {
            settings.rules.hold_answer = Some(text.parse()?);
            Ok(())
        },
        show: |settings| {
            let answer = settings.rules.hold_answer.as_ref();
            answer.map(|answer| answer.to_string())
        },
        ..ROW
    },
];

fn show_networks(networks: &Networks) -> Option<String> {
    (!networks.is_empty()).then(|| networks.to_string())
}
