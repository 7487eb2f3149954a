//! [`Facts`]: what `zpa check` reads from the API server about the app, the proxy and its
//! permissions. `checks` judges them.

use serde_json::Value;

use super::proxy::{account_of, settings_of};
use super::{Account, Run};
use crate::commands::permissions;
use crate::kube::inspect::{Attributes, Fault, Inspector, segment};
use crate::settings::{Origin, Settings};

/// The replies of the API server. Each of them may be an error by itself.
pub struct Facts {
    /// `/version`.
    pub version: Result<Value, Fault>,
    /// The scale target.
    pub target: Result<Value, Fault>,
    /// The app's Service.
    pub service: Result<Value, Fault>,
    /// The Deployments of proxies in front of this app.
    pub proxies: Result<Vec<Value>, Fault>,
    /// The HPAs of the namespace.
    pub autoscalers: Result<Vec<Value>, Fault>,
    /// The service account whose permissions were reviewed; `None` if they are those of the
    /// caller, or if the account of the proxy is not known.
    pub account: Option<String>,
    /// The permissions that the proxy needs, with the answers of the reviews; empty if the
    /// account of the proxy is not known.
    pub permissions: Vec<(RequiredPermission, Result<bool, Fault>)>,
}

/// A permission that the proxy needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequiredPermission {
    /// The attributes of an access review. An empty name is any name.
    pub attributes: Attributes,
    /// Whether the proxy works without it.
    pub is_optional: bool,
}

impl Facts {
    pub(super) fn gather(run: &Run, settings: &Settings) -> Facts {
        let inspector = &run.inspector;
        let namespace_name = settings.namespace.as_deref().unwrap_or_default();
        let namespace = segment(namespace_name);
        let version = inspector.get("/version");
        let service = settings.service.as_deref().unwrap_or_default();
        let proxies = proxies(inspector, &namespace, |other| match settings.origin() {
            // Which apps are in its list is not seen from here.
            Origin::List => other.apps.is_some(),
            Origin::Annotations => other.discover == settings.discover,
            Origin::CommandLine => other.target_ref == settings.target_ref,
        });
        let account = match &run.account {
            Account::Caller => None,
            Account::Named(name) => Some(name.clone()),
            Account::OfTheProxy => {
                let first = proxies.as_ref().ok().and_then(|it| it.first());
                first.map(|proxy| account_of(proxy).to_owned())
            }
        };
        let is_known = account.is_some() || run.account == Account::Caller;
        let needs = if is_known {
            needs(settings)
        } else {
            Vec::new()
        };
        let user = account
            .as_ref()
            .map(|name| format!("system:serviceaccount:{namespace_name}:{name}"));
        let ask = |need: RequiredPermission| {
            let user = user.as_deref();
            let answer = inspector.is_allowed(namespace_name, user, &need.attributes);
            (need, answer)
        };
        Facts {
            target: inspector.target(namespace_name, &settings.target_ref),
            service: inspector.service(namespace_name, service),
            autoscalers: items(inspector.get(&format!(
                "/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers"
            ))),
            permissions: needs.into_iter().map(ask).collect(),
            version,
            proxies,
            account,
        }
    }
}

/// The Deployments of proxies with settings by which they are in front of this app.
fn proxies(
    inspector: &Inspector,
    namespace: &str,
    is_of_app: impl Fn(&Settings) -> bool,
) -> Result<Vec<Value>, Fault> {
    let labelled = format!(
        "/apis/apps/v1/namespaces/{namespace}/deployments\
         ?labelSelector=app.kubernetes.io%2Fname%3Dzero-pod-autoscaler"
    );
    let all = items(inspector.get(&labelled))?;
    let is_in_front = |proxy: &Value| settings_of(proxy).is_some_and(|other| is_of_app(&other));
    Ok(all.into_iter().filter(is_in_front).collect())
}

fn items(list: Result<Value, Fault>) -> Result<Vec<Value>, Fault> {
    let list = list?;
    Ok(list["items"].as_array().cloned().unwrap_or_default())
}

/// The permissions of the Role, one for each verb and resource.
fn needs(settings: &Settings) -> Vec<RequiredPermission> {
    let service = settings.service.as_deref().unwrap_or_default();
    let mut needs = Vec::new();
    for rule in permissions::rules(settings, service, settings.fail_fast) {
        for resource in &rule.resources {
            let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
            needs.extend(rule.verbs.iter().map(|verb| RequiredPermission {
                attributes: Attributes {
                    verb,
                    group: rule.group.clone(),
                    resource: resource.to_owned(),
                    subresource: subresource.to_owned(),
                    name: rule.name.clone().unwrap_or_default(),
                },
                is_optional: rule.optional.contains(verb),
            }));
        }
    }
    needs
}
