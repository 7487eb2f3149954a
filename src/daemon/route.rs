//! [`Route`]: what connections go to, and how that follows from the settings.

use std::fmt;

use crate::cluster::HostPort;
use crate::settings::Settings;

/// What connections go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// The pods of the Service; where none answers, the Service's cluster IP.
    Pods,
    /// The pods of the Service; where none answers, or their port is not known,
    /// the target, which is the Service itself under its name.
    PodsThenTarget(HostPort),
    /// The target, as long as there are pods.
    Target(HostPort),
}

impl Route {
    /// What the settings say, for an app in that namespace.
    pub fn of(settings: &Settings, namespace: &str) -> Route {
        match settings.target.clone() {
            None => Route::Pods,
            Some(target) if settings.pods_first && is_service(&target, settings, namespace) => {
                Route::PodsThenTarget(target)
            }
            Some(target) => Route::Target(target),
        }
    }

    /// The target, if there is any.
    pub fn target(&self) -> Option<&HostPort> {
        match self {
            Route::Pods => None,
            Route::PodsThenTarget(target) | Route::Target(target) => Some(target),
        }
    }

    /// Whether the pods are dialled as long as they can be.
    pub fn is_pods_first(&self) -> bool {
        !matches!(self, Route::Target(_))
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Route::Pods => f.write_str("the pods"),
            Route::PodsThenTarget(target) => {
                write!(
                    f,
                    "the pods; the target {target} where no pod can be dialled"
                )
            }
            Route::Target(target) => write!(f, "the target {target}"),
        }
    }
}

/// Whether a target's host is a DNS name of the Service whose endpoints are
/// followed: `app`, `app.ns`, `app.ns.svc` or `app.ns.svc.` and the cluster's
/// domain.
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
