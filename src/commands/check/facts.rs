//! [`Facts`]: what `zpa check` reads from the API server about the app, the proxy and its
//! permissions. `checks` judges them.

use std::collections::BTreeSet;

use serde_json::Value;

use super::installed::{InFront, Installed};
use super::review::{self, Review};
use super::{Account, Run};
use crate::kube::inspect::{Fault, Reviewed, segment};
use crate::settings::Settings;

/// The replies of the API server. Each of them may be an error by itself.
pub struct Facts {
    /// The scale target.
    pub target: Result<Value, Fault>,
    /// The app's Service.
    pub service: Result<Value, Fault>,
    /// The proxies in front of this app, those that are ready first.
    pub proxies: Result<Vec<InFront>, Fault>,
    /// Deployments that look like proxies, and do not run.
    pub broken: Vec<String>,
    /// The HPAs of the namespace.
    pub autoscalers: Result<Vec<Value>, Fault>,
    /// The permissions of the proxies; none if no account is known.
    pub reviews: Vec<Review>,
    /// The permissions of the caller to install a proxy, where that was asked for.
    pub install: Option<Review>,
}

impl Facts {
    /// Reads all that is to be known about an app; `target` was read before.
    pub(super) fn gather(
        run: &Run,
        settings: &Settings,
        installed: &Installed,
        target: Result<Value, Fault>,
    ) -> Facts {
        let inspector = &run.inspector;
        let namespace = settings.namespace.as_deref().unwrap_or_default();
        let service = settings.service.as_deref().unwrap_or_default();
        let proxies = installed.in_front_of(inspector, settings, &target);
        let reviews = accounts(run, settings, &proxies);
        let reviews = reviews.into_iter().map(|(whose, needed)| {
            let needs = review::needs_of_app(&needed);
            Review::ask(inspector, whose, Some(namespace), needs)
        });
        let autoscalers = format!(
            "/apis/autoscaling/v2/namespaces/{}/horizontalpodautoscalers",
            segment(namespace)
        );
        Facts {
            service: inspector.service(namespace, service),
            autoscalers: inspector.items(&autoscalers),
            reviews: reviews.collect(),
            install: run.asks_for_install().then(|| {
                let needs = review::needs_of_install();
                Review::ask(inspector, Reviewed::Caller, Some(namespace), needs)
            }),
            proxies: match (installed.fault(), proxies.is_empty()) {
                (Some(fault), true) => Err(fault.clone()),
                _ => Ok(proxies),
            },
            broken: installed.broken.clone(),
            target,
        }
    }
}

/// The accounts to review, each with the settings that the proxy has for the app.
fn accounts(run: &Run, settings: &Settings, proxies: &[InFront]) -> Vec<(Reviewed, Settings)> {
    let namespace = settings.namespace.clone().unwrap_or_default();
    match &run.account {
        Account::Caller => vec![(Reviewed::Caller, settings.clone())],
        Account::Named(None, name) => {
            let name = name.clone();
            let whose = Reviewed::ServiceAccount { namespace, name };
            vec![(whose, settings.clone())]
        }
        Account::Named(Some(home), name) => {
            let (namespace, name) = (home.clone(), name.clone());
            let whose = Reviewed::ServiceAccount { namespace, name };
            vec![(whose, settings.clone())]
        }
        Account::OfTheProxy => {
            let mut seen = BTreeSet::new();
            // Those of the first one, with what was given in their place, are `settings`.
            let of_proxies = proxies.iter().enumerate().map(|(place, it)| {
                let own = it.app.as_ref().filter(|_| place > 0);
                (it.proxy.account(), own.unwrap_or(settings).clone())
            });
            of_proxies
                .filter(|(whose, _)| seen.insert(whose.clone()))
                .collect()
        }
    }
}
