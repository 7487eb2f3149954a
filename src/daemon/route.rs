//! [`Route`]: what connections are relayed to, as the settings define it: the pods, or the
//! *static backend* of `--target`. [`Destinations`]: the addresses for it.

use std::fmt;
use std::net::SocketAddr;

use crate::cluster::HostPort;
use crate::engine::BackendSpec;
use crate::settings::Settings;

/// What connections are relayed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// The pods of the Service; if none answers, the Service's cluster IP.
    Pods,
    /// The pods of the Service; if none answers, or their port is not known, the static backend,
    /// which is the DNS name of the Service.
    PodsThenStatic(HostPort),
    /// The static backend, while there are ready pods.
    Static(HostPort),
}

impl Route {
    /// The route of the settings, for an app in that namespace.
    pub fn of(settings: &Settings, namespace: &str) -> Route {
        match settings.target.clone() {
            None => Route::Pods,
            Some(target) if settings.pods_first && is_service(&target, settings, namespace) => {
                Route::PodsThenStatic(target)
            }
            Some(target) => Route::Static(target),
        }
    }

    /// The static backend, if there is one.
    pub fn static_backend(&self) -> Option<&HostPort> {
        match self {
            Route::Pods => None,
            Route::PodsThenStatic(target) | Route::Static(target) => Some(target),
        }
    }

    /// Whether the pods are dialled, if they can be.
    pub fn is_pods_first(&self) -> bool {
        !matches!(self, Route::Static(_))
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Route::Pods => f.write_str("the pods"),
            Route::PodsThenStatic(target) => {
                write!(
                    f,
                    "the pods; the target {target} where no pod can be dialled"
                )
            }
            Route::Static(target) => write!(f, "the target {target}"),
        }
    }
}

/// The addresses that a route may lead to, except those of the pods.
#[derive(Clone, Debug, Default)]
pub struct Destinations {
    /// The addresses of the static backend, if there is one.
    pub static_backends: Vec<SocketAddr>,
    /// The Service's cluster IP and port.
    pub cluster_ip: Option<SocketAddr>,
}

impl Destinations {
    /// The backends to dial. `pods` are the pods that may be dialled; `is_port_known` says
    /// whether their port is known; `trusts_static_backend` whether the static backend is
    /// dialled without knowing that there are ready pods, because the endpoints were never
    /// listed.
    pub fn backends(
        &self,
        route: &Route,
        pods: Vec<BackendSpec>,
        is_port_known: bool,
        trusts_static_backend: bool,
    ) -> Vec<BackendSpec> {
        let dials_static = match route {
            Route::Pods => false,
            Route::PodsThenStatic(_) => !is_port_known || trusts_static_backend,
            Route::Static(_) if pods.is_empty() && !trusts_static_backend => return Vec::new(),
            Route::Static(_) => true,
        };
        if dials_static {
            self.static_backends.iter().map(static_backend).collect()
        } else {
            pods
        }
    }

    /// The address that is dialled if no backend answers. There is none if a static backend is
    /// dialled instead of the pods: then the operator wants all connections to go through
    /// it.
    pub fn fallback(&self, route: &Route) -> Option<SocketAddr> {
        match route {
            Route::Pods => self.cluster_ip,
            Route::PodsThenStatic(_) => self.static_backends.first().copied().or(self.cluster_ip),
            Route::Static(_) => None,
        }
    }
}

/// A name may stand for several servers, so each of its addresses is a backend.
fn static_backend(address: &SocketAddr) -> BackendSpec {
    BackendSpec {
        is_near: true,
        id: address.to_string(),
        addresses: vec![*address],
    }
}

/// Whether the host of a static backend is a DNS name of the Service whose endpoints are watched:
/// `app`, `app.ns`, `app.ns.svc` or `app.ns.svc.` and the cluster's domain.
fn is_service(target: &HostPort, settings: &Settings, namespace: &str) -> bool {
    let Some(service) = &settings.service else {
        return false;
    };
    let host = target.host.to_ascii_lowercase();
    let host = host.strip_suffix('.').unwrap_or(&host);
    let mut labels = host.split('.');
    labels.next() == Some(service)
        && labels.next().is_none_or(|label| label == namespace)
        && labels.next().is_none_or(|label| label == "svc")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{self, Invocation};

    /// What is dialled, and the way round, by the ports of the addresses: 1 is a
    /// pod's, 2 the target's, 3 the cluster IP's.
    fn dialled(
        route: &Route,
        [pods, port_known, trusts, resolved]: [bool; 4],
    ) -> (Vec<u16>, Option<u16>) {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let destinations = Destinations {
            static_backends: resolved.then(|| address(2)).into_iter().collect(),
            cluster_ip: Some(address(3)),
        };
        let pod = BackendSpec {
            is_near: true,
            id: "pod".to_owned(),
            addresses: vec![address(1)],
        };
        let pods = pods.then_some(pod).into_iter().collect();
        let backends = destinations.backends(route, pods, port_known, trusts);
        let addresses = backends.into_iter().flat_map(|backend| backend.addresses);
        let ports = addresses.map(|address| address.port()).collect();
        let fallback = destinations.fallback(route);
        (ports, fallback.map(|address| address.port()))
    }

    #[test]
    fn what_is_dialled_and_what_then() {
        let target = || "app:80".parse().unwrap();
        let (first, instead) = (Route::PodsThenStatic(target()), Route::Static(target()));
        let known = [true, true, false, true];
        let asleep = [false, true, false, true];
        let many_ports = [false, false, false, true];
        let api_silent = [false, true, true, true];
        let unresolved = [true, true, false, false];
        for (label, route, state, backends, fallback) in [
            ("pods", &Route::Pods, known, &[1][..], Some(3)),
            ("no pods", &Route::Pods, asleep, &[], Some(3)),
            ("no API server", &Route::Pods, api_silent, &[], Some(3)),
            ("pods before the target", &first, known, &[1], Some(2)),
            (
                "no target as long as there are no pods",
                &first,
                asleep,
                &[],
                Some(2),
            ),
            (
                "the target where the pods' port is not known",
                &first,
                many_ports,
                &[2],
                Some(2),
            ),
            (
                "the target where the API server is silent",
                &first,
                api_silent,
                &[2],
                Some(2),
            ),
            (
                "the cluster IP while its name leads nowhere",
                &first,
                unresolved,
                &[1],
                Some(3),
            ),
            (
                "the target in place of the pods",
                &instead,
                known,
                &[2],
                None,
            ),
            ("but not without pods", &instead, asleep, &[], None),
            (
                "unless the endpoints were never listed",
                &instead,
                api_silent,
                &[2],
                None,
            ),
            (
                "nothing while its name leads nowhere",
                &instead,
                unresolved,
                &[],
                None,
            ),
        ] {
            assert_eq!(
                dialled(route, state),
                (backends.to_vec(), fallback),
                "{label}"
            );
        }
    }

    fn route(args: &[&str]) -> String {
        let args = args.iter().map(Into::into);
        match settings::parse(args, |_| None) {
            Ok(Invocation::Run(settings)) => Route::of(&settings, "web").to_string(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_target_that_is_the_service_stands_for_its_pods_in_the_ancestors_dialects() {
        let first = |target| format!("the pods; the target {target} where no pod can be dialled");
        let other = |target| format!("the target {target}");
        for (label, target, expected) in [
            ("its name", "app:80", first("app:80")),
            ("with the namespace", "app.web:80", first("app.web:80")),
            ("in capitals", "APP.Web.svc:80", first("APP.Web.svc:80")),
            (
                "in full",
                "app.web.svc.cluster.local.:80",
                first("app.web.svc.cluster.local.:80"),
            ),
            ("another Service", "db:80", other("db:80")),
            ("another namespace", "app.prod:80", other("app.prod:80")),
            (
                "a host outside",
                "app.web.example:80",
                other("app.web.example:80"),
            ),
            ("an address", "10.0.0.7:80", other("10.0.0.7:80")),
        ] {
            let target_flag = format!("--target={target}");
            let go = ["--deployment=app", "--endpoints=app", &target_flag];
            assert_eq!(route(&go), expected, "{label}");
            let own = ["--deployment=app", "--service=app", &target_flag];
            assert_eq!(route(&own), other(target), "{label}, in zpa's own dialect");
        }
        let python = ["--deployment=app", "--endpoint=app", "--target-address=app"];
        assert_eq!(route(&python), first("app:80"));
        assert_eq!(route(&["--deployment=app"]), "the pods");
    }
}
