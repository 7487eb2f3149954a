//! [`TABLE`]: the one table of metrics, a row for each.

use super::{Kind, Metric, Read, seconds};

/// Every metric, in the order in which a scrape has them.
pub static TABLE: &[Metric] = &[
    Metric {
        name: "zpa_build_info",
        kind: Kind::Gauge,
        labels: &["version"],
        help: "1, with the program's version",
        read: Read::Process(|it, samples| samples.labelled(&[it.version], 1)),
    },
    Metric {
        name: "process_start_time_seconds",
        kind: Kind::Gauge,
        labels: &[],
        help: "When the process was started, in seconds since 1970",
        read: Read::Process(|it, samples| samples.one(it.started)),
    },
    Metric {
        name: "process_cpu_seconds_total",
        kind: Kind::Counter,
        labels: &[],
        help: "The processor time of all threads, in user and kernel mode",
        read: Read::Process(|it, samples| samples.maybe(it.cpu.map(seconds))),
    },
    Metric {
        name: "process_resident_memory_bytes",
        kind: Kind::Gauge,
        labels: &[],
        help: "Resident memory",
        read: Read::Process(|it, samples| samples.maybe(it.resident)),
    },
    Metric {
        name: "process_virtual_memory_bytes",
        kind: Kind::Gauge,
        labels: &[],
        help: "Virtual memory",
        read: Read::Process(|it, samples| samples.maybe(it.address_space)),
    },
    Metric {
        name: "process_open_fds",
        kind: Kind::Gauge,
        labels: &[],
        help: "How many descriptors it has open; absent for more than 1,023 where Linux is older than 6.2, and counting them is slow",
        read: Read::Process(|it, samples| samples.maybe(it.open_descriptors)),
    },
    Metric {
        name: "process_max_fds",
        kind: Kind::Gauge,
        labels: &[],
        help: "How many descriptors it may have open; a connection takes two",
        read: Read::Process(|it, samples| samples.one(it.descriptors)),
    },
    Metric {
        name: "zpa_ready",
        kind: Kind::Gauge,
        labels: &[],
        help: "1 if new connections are welcome here, as `/readyz` says",
        read: Read::Process(|it, samples| samples.one(u8::from(it.ready))),
    },
    Metric {
        name: "zpa_apps",
        kind: Kind::Gauge,
        labels: &[],
        help: "How many apps it serves",
        read: Read::Process(|it, samples| samples.one(it.apps.len())),
    },
    Metric {
        name: "zpa_apps_list_wrong",
        kind: Kind::Gauge,
        labels: &[],
        help: "1 if the list of apps as it is now is wrong, so that an older one is in force; \
               absent without `--apps`",
        read: Read::Process(|it, samples| samples.maybe(it.list_wrong.map(u8::from))),
    },
    Metric {
        name: "zpa_apps_lists_total",
        kind: Kind::Counter,
        labels: &["result"],
        help: "Lists of apps that were read since the start, after the first: `taken`, or \
               `refused` because something in them is wrong; absent without `--apps`",
        read: Read::Process(|it, samples| {
            samples.each(it.lists.as_deref().unwrap_or_default());
        }),
    },
    Metric {
        name: "zpa_source_files_wrong",
        kind: Kind::Gauge,
        labels: &[],
        help: "How many files of `--ignore-sources` and `--deny-sources` are wrong or gone, so that what was read before is in force; absent without such a file",
        read: Read::Process(|it, samples| samples.maybe(it.source_files_wrong)),
    },
    Metric {
        name: "zpa_source_files_total",
        kind: Kind::Counter,
        labels: &["result"],
        help: "Changes of these files since the start: `taken`, or `refused` because something in them is wrong",
        read: Read::Process(|it, samples| {
            samples.each(it.source_files.as_deref().unwrap_or_default());
        }),
    },
    Metric {
        name: "zpa_services",
        kind: Kind::Gauge,
        labels: &["state"],
        help: "How many of the Services that are to be apps are `in_force`, maybe as they were \
               before, and how many are `wrong`, as `/status` says; absent without `--discover`",
        read: Read::Process(|it, samples| {
            samples.each(it.services.as_deref().unwrap_or_default());
        }),
    },
    Metric {
        name: "zpa_services_watched",
        kind: Kind::Gauge,
        labels: &[],
        help: "1 if the Services that are apps can be listed and watched; absent without \
               `--discover`",
        read: Read::Process(|it, samples| samples.maybe(it.services_watched.map(u8::from))),
    },
    Metric {
        name: "zpa_server_name_refused_total",
        kind: Kind::Counter,
        labels: &["listen", "reason"],
        help: "Clients at an address where `--server-name` chooses the app, and none was chosen: \
               `unknown_name`, `no_name`; `not_tls`, `malformed` and `too_long` (16 KiB), their \
               ClientHello; `too_late`, none within 5s; `evicted`, too many had sent none yet; \
               `no_room`, the app has as many connections as it may have",
        read: Read::Process(|it, samples| {
            for (listen, reasons) in &it.refused_by_name {
                for (reason, count) in reasons {
                    samples.labelled(&[listen, reason], *count);
                }
            }
        }),
    },
    Metric {
        name: "zpa_app_ready",
        kind: Kind::Gauge,
        labels: &["app"],
        help: "1 if nothing is known that keeps the app from being woken and served; \
               `/status` has the reasons",
        read: Read::App(|it, samples| samples.one(u8::from(it.ready))),
    },
    Metric {
        name: "zpa_phase",
        kind: Kind::Gauge,
        labels: &["app", "phase"],
        help: "1 for the phase that the app is in as far as is known here, 0 for each other",
        read: Read::App(|it, samples| samples.flags(&it.phases)),
    },
    Metric {
        name: "zpa_replicas",
        kind: Kind::Gauge,
        labels: &["app"],
        help: "`spec.replicas` of the scale target as last seen; absent if never seen",
        read: Read::App(|it, samples| samples.maybe(it.replicas)),
    },
    Metric {
        name: "zpa_replicas_age_seconds",
        kind: Kind::Gauge,
        labels: &["app"],
        help: "Age of `zpa_replicas`: time since the scale target was last seen; more than a minute means that the API server is out of reach, or a permission missing",
        read: Read::App(|it, samples| samples.maybe(it.replicas_age.map(seconds))),
    },
    Metric {
        name: "zpa_idle_ttl_seconds",
        kind: Kind::Gauge,
        labels: &["app"],
        help: "The setting `--idle-ttl`",
        read: Read::App(|it, samples| samples.one(seconds(it.idle_ttl))),
    },
    Metric {
        name: "zpa_sleep_due_timestamp_seconds",
        kind: Kind::Gauge,
        labels: &["app"],
        help: "When the app may be put to sleep, in seconds since 1970; absent while it sleeps, \
               and while connections or a fault keep it awake",
        read: Read::App(|it, samples| samples.maybe(it.sleep_due)),
    },
    Metric {
        name: "zpa_lease_seconds",
        kind: Kind::Gauge,
        labels: &["app"],
        help: "Time until the lease of this proxy ends; meanwhile no other proxy puts the app to \
               sleep; renewed while a connection is open, 0 where renewing is forbidden, absent \
               with `--single-proxy`",
        read: Read::App(|it, samples| samples.maybe(it.lease.map(seconds))),
    },
    Metric {
        name: "zpa_backends",
        kind: Kind::Gauge,
        labels: &["app", "port"],
        help: "How many addresses may be dialled",
        read: Read::Port(|it, samples| samples.one(it.backends)),
    },
    Metric {
        name: "zpa_backends_ejected",
        kind: Kind::Gauge,
        labels: &["app", "port"],
        help: "How many pods are avoided after failures, or while a dial to them is overdue: they are dialled only where no other is left",
        read: Read::Port(|it, samples| samples.one(it.backends_ejected)),
    },
    Metric {
        name: "zpa_backends_full",
        kind: Kind::Gauge,
        labels: &["app", "port"],
        help: "How many pods have as many connections as `--max-connections-per-pod` allows",
        read: Read::Port(|it, samples| samples.one(it.backends_full)),
    },
    Metric {
        name: "zpa_backends_near",
        kind: Kind::Gauge,
        labels: &["app", "port"],
        help: "How many pods are dialled before the others, because the hints of their endpoints name the zone or the node of the proxy; all of them where hints are ignored",
        read: Read::Port(|it, samples| samples.one(it.backends_near)),
    },
    Metric {
        name: "zpa_endpoints_synced",
        kind: Kind::Gauge,
        labels: &["app"],
        help: "1 if the list of the pods' addresses is up to date, 0 while it cannot be read",
        read: Read::App(|it, samples| samples.one(u8::from(it.endpoints_synced))),
    },
    Metric {
        name: "zpa_affinity_clients",
        kind: Kind::Gauge,
        labels: &["app"],
        help: "How many clients are remembered with their pods, 10,000 at most; absent unless the Service has `sessionAffinity: ClientIP`",
        read: Read::App(|it, samples| samples.maybe(it.remembered_clients)),
    },
    Metric {
        name: "zpa_connections_limit",
        kind: Kind::Gauge,
        labels: &[],
        help: "How many connections may be open; others wait to be accepted",
        read: Read::Process(|it, samples| samples.one(it.connections_limit)),
    },
    Metric {
        name: "zpa_connections_open",
        kind: Kind::Gauge,
        labels: &["app", "port"],
        help: "Connections open, those that wait included",
        read: Read::Port(|it, samples| samples.one(it.connections_open)),
    },
    Metric {
        name: "zpa_connections_counted",
        kind: Kind::Gauge,
        labels: &["app", "port"],
        help: "Open connections that count as use of the app and keep it awake",
        read: Read::Port(|it, samples| samples.one(it.connections_counted)),
    },
    Metric {
        name: "zpa_connections_waiting",
        kind: Kind::Gauge,
        labels: &["app", "port"],
        help: "Connections that wait for a pod",
        read: Read::Port(|it, samples| samples.one(it.connections_waiting)),
    },
    Metric {
        name: "zpa_connections_detached",
        kind: Kind::Gauge,
        labels: &["app", "port"],
        help: "Connections whose client's side has stayed open while the app sleeps \
               (`--silent-connections detach`)",
        read: Read::Port(|it, samples| samples.one(it.connections_detached)),
    },
    Metric {
        name: "zpa_connections_reattached_total",
        kind: Kind::Counter,
        labels: &["app", "port"],
        help: "How often a detached connection has gone on, because the client's next byte has come",
        read: Read::Port(|it, samples| samples.one(it.reattached)),
    },
    Metric {
        name: "zpa_connections_total",
        kind: Kind::Counter,
        labels: &["app", "port"],
        help: "Connections accepted",
        read: Read::Port(|it, samples| samples.one(it.accepted)),
    },
    Metric {
        name: "zpa_bytes_total",
        kind: Kind::Counter,
        labels: &["app", "port", "direction"],
        help: "Bytes passed on, `to_pods` or `to_clients`, counted when the other side has taken them",
        read: Read::Port(|it, samples| samples.each(&it.bytes)),
    },
    Metric {
        name: "zpa_connections_excluded_total",
        kind: Kind::Counter,
        labels: &["app", "port", "rule"],
        help: "Connections that did not count as use of the app, or stopped counting, by the rule: `denied` (not let in), \
               `ignored`, `silent` (not any more; again for each silence), `local` (a load \
               balancer's own), `first_bytes` (not those of `--wake-on`), `probe` (a health \
               check), `source_limit` (not let in) or `backup` (the backup target serves it)",
        read: Read::Port(|it, samples| samples.each(&it.excluded)),
    },
    Metric {
        name: "zpa_connections_closed_total",
        kind: Kind::Counter,
        labels: &["app", "port", "reason", "phase"],
        help: "Connections that have ended: `finished`, `client_gone`, `backend_gone`, \
               `held_too_long`, `drained`, `out_of_resources` (of the system), `uncounted_no_pod` (it \
               did not count, and no pod was ready), `asleep` (it did not count, and the app was \
               put to sleep), `idle` or `half_closed` (no byte for as long as is allowed), \
               `denied` or `no_header` (handed on by a load balancer), `source_limit` (its \
               source has as many as it may have), `probe` (answered), `waiting_page` (a browser \
               got it), `wake_failed` (`--fail-fast`: waiting would have been in vain) or \
               `no_bytes`, while `holding`, `dialing` or `relaying`",
        read: Read::Port(|it, samples| samples.each(&it.closed)),
    },
    Metric {
        name: "zpa_forwarded_total",
        kind: Kind::Counter,
        labels: &["app", "port"],
        help: "How often a connection was connected to a pod (forwarded); again if that broke off before a byte, or \
               after the connection was detached",
        read: Read::Port(|it, samples| samples.one(it.forwarded)),
    },
    Metric {
        name: "zpa_forwarded_without_lease_total",
        kind: Kind::Counter,
        labels: &["app"],
        help: "How often a connection was forwarded to a pod without a lease, because no renewal \
               succeeded: another proxy may put the app to sleep under it",
        read: Read::App(|it, samples| samples.one(it.without_lease)),
    },
    Metric {
        name: "zpa_dials_failed_total",
        kind: Kind::Counter,
        labels: &["app", "port"],
        help: "Dials that a pod has refused, or not answered in time",
        read: Read::Port(|it, samples| samples.one(it.failed_dials)),
    },
    Metric {
        name: "zpa_dial_local_errors_total",
        kind: Kind::Counter,
        labels: &["error"],
        help: "Dials that failed through no fault of a pod: `no_port`, `no_descriptor`, \
               `no_memory`, `forbidden` (by a rule of this machine) or `self_connect` (an \
               address of this machine where nobody listens)",
        read: Read::Process(|it, samples| samples.each(&it.local_errors)),
    },
    Metric {
        name: "zpa_dials_from_bound_port_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Dials for which the kernel had no local port left, so that one in TIME_WAIT was \
               used again",
        read: Read::Process(|it, samples| samples.one(it.bound_ports)),
    },
    Metric {
        name: "zpa_hold_seconds",
        kind: Kind::Histogram,
        labels: &["app", "port"],
        help: "From accepting a connection to handing it to a pod, be the app asleep or awake",
        read: Read::Port(|it, samples| samples.histogram(&it.hold)),
    },
    Metric {
        name: "zpa_wake_seconds",
        kind: Kind::Histogram,
        labels: &["app"],
        help: "From the first connection that found no pod to a pod for it: the cold starts",
        read: Read::App(|it, samples| samples.histogram(&it.wake)),
    },
    Metric {
        name: "zpa_wake_part_seconds",
        kind: Kind::Histogram,
        labels: &["app", "part"],
        help: "The parts of a wake from zero: `api`, until replicas were written, `pod`, until an address is ready, and `dial`, until a pod has taken a connection",
        read: Read::App(|it, samples| samples.histograms(&it.wake_parts)),
    },
    Metric {
        name: "zpa_wake_results_total",
        kind: Kind::Counter,
        labels: &["app", "result"],
        help: "Wakes from zero that have ended: `served` (a pod has taken a connection), `timed_out` (none was served, one was reset at the hold limit), `failed` (none was served, one was let go because the app could not start: `--fail-fast`) or `abandoned` (all that waited have left)",
        read: Read::App(|it, samples| samples.each(&it.wake_results)),
    },
    Metric {
        name: "zpa_wakes_total",
        kind: Kind::Counter,
        labels: &["app"],
        help: "How often this proxy has scaled the app up from zero",
        read: Read::App(|it, samples| samples.one(it.wakes)),
    },
    Metric {
        name: "zpa_wakes_delayed_total",
        kind: Kind::Counter,
        labels: &["app"],
        help: "How often connections had to wait for a wake that `--wakes-per-minute`, \
               `--min-asleep`, `--no-wake`, a pause or the pause after undone wakes delayed",
        read: Read::App(|it, samples| samples.one(it.wakes_delayed)),
    },
    Metric {
        name: "zpa_sleeps_total",
        kind: Kind::Counter,
        labels: &["app"],
        help: "How often this proxy has scaled the app to zero",
        read: Read::App(|it, samples| samples.one(it.sleeps)),
    },
    Metric {
        name: "zpa_asleep_seconds_total",
        kind: Kind::Counter,
        labels: &["app"],
        help: "How long the app has been seen asleep since the start of this proxy",
        read: Read::App(|it, samples| samples.one(seconds(it.asleep))),
    },
    Metric {
        name: "zpa_saved_replica_seconds_total",
        kind: Kind::Counter,
        labels: &["app"],
        help: "Seconds that the app has been seen asleep, times the replicas before each sleep (1 where their number is not known); each proxy of an app counts all of it",
        read: Read::App(|it, samples| samples.one(it.replica_seconds_saved)),
    },
    Metric {
        name: "zpa_webhook_events_total",
        kind: Kind::Counter,
        labels: &["app", "result"],
        help: "Events for the receiver of `--webhook`: `delivered`, `failed` (refused, or given up after some attempts) or `dropped` (too many waited); absent without it",
        read: Read::App(|it, samples| samples.each(it.webhook.as_deref().unwrap_or_default())),
    },
    Metric {
        name: "zpa_api_requests_total",
        kind: Kind::Counter,
        labels: &["verb", "outcome"],
        help: "Requests to the API server: `get`, `list`, `watch`, `patch` or `create`, and what came back: \
               `ok`, `unauthorized` (401), `forbidden` (403), `not_found` (404), `conflict` (409), \
               `busy` (429), `error` (any other status), `no_reply` or `unreachable`",
        read: Read::Process(|it, samples| samples.each(&it.requests)),
    },
    Metric {
        name: "zpa_api_request_seconds",
        kind: Kind::Histogram,
        labels: &["verb"],
        help: "From a request to the API server to the head of its reply, if there was one",
        read: Read::Process(|it, samples| samples.histograms(&it.replies)),
    },
    Metric {
        name: "zpa_api_fallback",
        kind: Kind::Gauge,
        labels: &["app", "permission"],
        help: "1 while something else is done in place of what this permission would allow",
        read: Read::App(|it, samples| samples.flags(&it.fallbacks)),
    },
    Metric {
        name: "zpa_api_forbidden",
        kind: Kind::Gauge,
        labels: &["app", "permission"],
        help: "1 while this permission is refused and nothing can be done in place of it",
        read: Read::App(|it, samples| samples.flags(&it.forbidden)),
    },
    Metric {
        name: "zpa_thread_panics_total",
        kind: Kind::Counter,
        labels: &[],
        help: "How often a thread that speaks with the API server has panicked, which is a bug; \
               it is started again",
        read: Read::Process(|it, samples| samples.one(it.thread_panics)),
    },
    Metric {
        name: "zpa_log_lines_dropped_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Lines of the log that were lost because whoever reads stderr was too slow",
        read: Read::Process(|it, samples| samples.one(it.log_lines_dropped)),
    },
];
