//! The start of the daemon: the configuration of the engine, the policy and the API threads that
//! follows from the settings.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use log::warn;

use super::app::AppConfig;
use super::route::Route;
use crate::admin;
use crate::cluster::{LeaseStore, PortRef};
use crate::duration;
use crate::engine::{self, AdminLimits, Engine, Limits, MAX_PIPES};
use crate::kube::{self, Access};
use crate::policy::Config;
use crate::settings::{Origin, Settings};
use crate::sys::Signals;
use crate::workload::{Dialect, WakeReplicas};

/// Descriptors that are not for connections: both ends of the pipes; admin connections; the
/// API connections, the epoll instance, the credentials files, the log.
const RESERVED_DESCRIPTORS: u64 = 2 * MAX_PIPES as u64 + ADMIN_LIMITS.max_connections as u64 + 48;

/// Descriptors that each further app takes: its listener, and its API connections.
const DESCRIPTORS_PER_APP: u64 = 6;

/// Descriptors that one connection takes: the client's and the pod's.
const DESCRIPTORS_PER_CONNECTION: u64 = 2;

/// The default of the connection limit, however many descriptors there are: it bounds the
/// memory.
const DEFAULT_CONNECTIONS: usize = 100_000;

/// The limits of the admin port, which every pod of the cluster can reach.
const ADMIN_LIMITS: AdminLimits = AdminLimits {
    max_connections: 64,
    timeout: Duration::from_secs(5),
    max_request_bytes: admin::MAX_HEAD_LEN,
};

/// The line that is logged at the start of an app.
pub fn greeting(settings: &Settings, config: &AppConfig, listen: &[SocketAddr]) -> String {
    let through = match &config.route {
        Route::Pods => format!("the pods of Service {}", config.service),
        route => route.to_string(),
    };
    let listen: Vec<String> = listen.iter().map(SocketAddr::to_string).collect();
    let (listen, name) = (listen.join(" and "), &config.name);
    let as_server = match settings.server_names.is_empty() {
        true => String::new(),
        false => format!(" as {}", settings.server_names),
    };
    let who = match settings.origin() {
        Origin::List | Origin::Annotations => String::new(),
        Origin::CommandLine => format!("zpa {} ", env!("CARGO_PKG_VERSION")),
    };
    let idle_ttl = duration::display(settings.idle_ttl);
    format!(
        "{who}listens on {listen}{as_server} for {name}, through {through}; to sleep after {idle_ttl} \
         without a connection"
    )
}

/// How to reach the API server, and the namespace; of no meaning where apps are found in all.
pub fn discover(settings: &Settings) -> Result<(Access, String), String> {
    let found = Access::discover(
        &settings.kube,
        settings.api_server.as_ref(),
        &settings.credentials,
        |name| std::env::var(name).ok(),
    );
    let (access, default_namespace) = found.map_err(|e| e.to_string())?;
    kube::check(&access).map_err(|e| e.to_string())?;
    let namespace = settings.namespace.clone().or(default_namespace);
    if settings.all_namespaces {
        return Ok((access, namespace.unwrap_or_default()));
    }
    let namespace = namespace.ok_or(
        "--namespace (ZPA_NAMESPACE): not set, and the credentials name none; use e.g. default",
    )?;
    Ok((access, namespace))
}

/// The engine with its admin port and limits. It has room for `max_connections`;
/// `memory`, in bytes, is the limit of the container.
pub fn engine(
    settings: &Settings,
    max_connections: usize,
    memory: Option<u64>,
) -> Result<Engine, String> {
    let limits = Limits {
        max_connections,
        memory,
    };
    let mut engine =
        Engine::new(limits, random_seed()).map_err(|e| format!("cannot set up epoll: {e}"))?;
    match listen_for_admin(settings, &mut engine) {
        Err(why) if settings.admin_is_optional => {
            warn!("{why}; going on without health, readiness, metrics and status");
        }
        ended => ended?,
    }
    Ok(engine)
}

/// Why an address of an app cannot be listened on.
pub fn explain_bind(settings: &Settings, address: SocketAddr, error: &io::Error) -> String {
    let setting = settings.given("listen");
    format!("{setting} {address}: {error}{}", cure(error))
}

fn listen_for_admin(settings: &Settings, engine: &mut Engine) -> Result<(), String> {
    let Some(address) = settings.admin_listen else {
        return Ok(());
    };
    engine.listen_for_admin(address, ADMIN_LIMITS).map_err(|e| {
        let setting = settings.given("admin-listen");
        format!(
            "{setting} {address}: {e}{}; use another address, or ZPA_ADMIN_LISTEN=off",
            cure(&e)
        )
    })
}

/// What to do where an address may not be bound, as port 80 may not by a user
/// that is not root. The sysctl is among those that Kubernetes takes for safe
/// (`pkg/kubelet/sysctl/safe_sysctls.go`), and containerd sets it by itself from
/// 2.0 on (`enable_unprivileged_ports`).
fn cure(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 take root, unless the pod's securityContext.sysctls has \
             net.ipv4.ip_unprivileged_port_start=0, which containerd sets by itself from 2.0 on; \
             or use another port"
        }
        _ => "",
    }
}

/// How many connections of so many apps `descriptors` and the limit of `memory`, in bytes,
/// allow; at most what was asked for.
pub fn connection_limit(
    wanted: Option<usize>,
    apps: usize,
    descriptors: u64,
    memory: Option<u64>,
) -> usize {
    let connections = wanted.unwrap_or(DEFAULT_CONNECTIONS);
    let setting = "--max-connections (ZPA_MAX_CONNECTIONS)";
    let of_apps = DESCRIPTORS_PER_APP * apps.saturating_sub(1) as u64;
    let left = descriptors.saturating_sub(RESERVED_DESCRIPTORS);
    let left = left - of_apps.min(left / 2);
    let by_files = left / DESCRIPTORS_PER_CONNECTION;
    let by_files = usize::try_from(by_files).unwrap_or(usize::MAX).max(1);
    if wanted.is_some() && connections > by_files {
        warn!(
            "{setting} {connections}: the limit of {descriptors} open files allows {by_files}; \
             raise it (ulimit -Hn, LimitNOFILE) to have more"
        );
    }
    let by_memory = memory.map_or(usize::MAX, engine::connections_within);
    if wanted.is_some() && connections > by_memory {
        let mib = memory.unwrap_or_default() >> 20;
        warn!(
            "{setting} {connections}: the memory limit of {mib} MiB has room for {by_memory}; \
             raise it (resources.limits.memory) to have more"
        );
    }
    connections.min(by_files).min(by_memory)
}

/// Lets signals wake the event loop, and returns the waker for messages.
pub fn set_up_wakeups(engine: &Engine, signals: &Signals) -> Result<Arc<mio::Waker>, String> {
    let waker = engine.waker().and_then(|waker| {
        engine.watch(signals)?;
        Ok(Arc::new(waker))
    });
    waker.map_err(|e| format!("cannot set up the event loop: {e}"))
}

/// Which of the Service's ports to dial for each listener. A target that is the Service
/// has its number; the ancestors' roles do not allow to read what that is in the
/// endpoints.
pub fn ports(settings: &Settings, route: &Route) -> Vec<Option<PortRef>> {
    let likely = match route {
        Route::PodsThenStatic(target) => Some(PortRef::NumberOrOnly(target.port)),
        Route::Pods | Route::Static(_) => None,
    };
    let of_all = settings.port.clone().or(likely);
    let listeners = settings.listen.iter();
    let ports = listeners.map(|listener| listener.port.clone().or(of_all.clone()));
    ports.collect()
}

/// The flag that names the ports of the Service.
pub fn port_flag(settings: &Settings) -> &'static str {
    let mut listeners = settings.listen.iter();
    if listeners.any(|listener| listener.port.is_some()) {
        "--listen"
    } else {
        "--port"
    }
}

/// What metrics call the ports.
pub fn port_names(settings: &Settings) -> Vec<String> {
    let listeners = settings.listen.iter();
    let names = listeners.map(|listener| listener.label(settings.port.as_ref()));
    names.collect()
}

/// The name of the Service whose endpoints to watch.
///
/// # Errors
/// Where it is to be that of an object that has yet to be found.
pub fn service(settings: &Settings) -> Result<String, String> {
    settings.service.clone().ok_or_else(|| {
        format!(
            "{}: name the Service too (--service, ZPA_SERVICE, --endpoints), since its name \
             does not follow from labels",
            settings.target_ref
        )
    })
}

/// What the policy keeps to.
///
/// Leases go into the status of a Deployment, which keeps the conditions of others.
/// A StatefulSet's controller wipes them, of other kinds nothing is known, and the
/// roles of the ancestors' users allow no write of a status: there they go into an
/// annotation.
pub fn policy_config(settings: &Settings) -> Config {
    let (wake_replicas, wakes_to_previous) = match settings.wake_replicas {
        WakeReplicas::Replicas(count) => (count.get(), false),
        WakeReplicas::Previous => (1, true),
    };
    let is_deployment = settings.target_ref.is_deployment();
    Config {
        idle_ttl: settings.idle_ttl,
        min_awake: settings.min_awake,
        min_asleep: settings.min_asleep,
        wakes_per_minute: settings.wakes_per_minute,
        wake_replicas,
        wakes_to_previous,
        lease_store: if is_deployment && settings.dialect == Dialect::Zpa {
            LeaseStore::Status
        } else {
            LeaseStore::Annotation
        },
        annotation_moves_generation: is_deployment,
        single: settings.single_proxy,
        dry_run: settings.dry_run,
        ..Config::default()
    }
}

/// A number that no other proxy has: the standard library seeds its hash maps
/// from the system's randomness.
pub fn random_seed() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_connection_limit_leaves_descriptors_to_the_others_and_fits_into_the_memory() {
        const MIB: u64 = 1 << 20;
        for (label, wanted, descriptors, memory, expected) in [
            ("as many as there is room for", None, 20_000, None, 9_912),
            ("a hundred thousand at most", None, 1 << 30, None, 100_000),
            ("more on demand", Some(200_000), 1 << 20, None, 200_000),
            ("fewer on demand", Some(100), 1 << 20, None, 100),
            ("the files end it", Some(5000), 1024, None, 424),
            ("one at the very least", None, 3, Some(MIB), 1),
            (
                "memory is no reason",
                Some(100),
                1 << 20,
                Some(256 * MIB),
                100,
            ),
            ("the memory ends it", None, 1 << 30, Some(64 * MIB), 2_560),
            ("also on demand", Some(9000), 1 << 30, Some(64 * MIB), 2_560),
        ] {
            let limit = connection_limit(wanted, 1, descriptors, memory);
            assert_eq!(limit, expected, "{label}");
        }
        let of_many = connection_limit(None, 101, 20_000, None);
        assert_eq!(of_many, 9_912 - 100 * 6 / 2, "further apps take some");
    }

    #[test]
    fn two_starts_do_not_have_the_same_seed() {
        assert_ne!(random_seed(), random_seed());
    }
}
