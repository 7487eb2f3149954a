//! [`Facts`]: what the API server says of the app, of the proxy and of its permissions.

use serde_json::Value;

use super::proxy::{account_of, settings_of};
use super::{Run, Who};
use crate::commands::permissions;
use crate::kube::inspect::{Attributes, Fault, Inspector, segment};
use crate::settings::Settings;

/// What was asked, and what came back.
pub struct Facts {
    /// `/version`.
    pub version: Result<Value, Fault>,
    /// The object to scale.
    pub target: Result<Value, Fault>,
    /// The app's Service.
    pub service: Result<Value, Fault>,
    /// The Deployments of proxies before this app.
    pub proxies: Result<Vec<Value>, Fault>,
    /// The HPAs of the namespace.
    pub autoscalers: Result<Vec<Value>, Fault>,
    /// Whose permissions were asked for: a service account, or nobody in particular.
    pub account: Option<String>,
    /// What the proxy has to be allowed; empty if nobody is known to ask for.
    pub permissions: Vec<(Need, Result<bool, Fault>)>,
}

/// Something that the proxy has to be allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// In the words of RBAC.
    pub attributes: Attributes,
    /// Whether the proxy is of use without it.
    pub is_optional: bool,
}

impl Facts {
    pub(super) fn gather(run: &Run) -> Facts {
        let (inspector, settings) = (&run.inspector, &run.settings);
        let namespace = segment(&run.namespace);
        let version = inspector.get("/version");
        let service = settings.service.as_deref().unwrap_or_default();
        let proxies = proxies(inspector, &namespace, settings);
        let account = match &run.who {
            Who::Ourselves => None,
            Who::Account(name) => Some(name.clone()),
            Who::OfTheProxy => {
                let first = proxies.as_ref().ok().and_then(|it| it.first());
                first.map(|proxy| account_of(proxy).to_owned())
            }
        };
        let is_known = account.is_some() || run.who == Who::Ourselves;
        let needs = if is_known {
            needs(settings)
        } else {
            Vec::new()
        };
        let namespace_name = &run.namespace;
        let user = account
            .as_ref()
            .map(|name| format!("system:serviceaccount:{namespace_name}:{name}"));
        let ask = |need: Need| {
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

/// The Deployments of proxies that are before this app.
fn proxies(
    inspector: &Inspector,
    namespace: &str,
    settings: &Settings,
) -> Result<Vec<Value>, Fault> {
    let labelled = format!(
        "/apis/apps/v1/namespaces/{namespace}/deployments\
         ?labelSelector=app.kubernetes.io%2Fname%3Dzero-pod-autoscaler"
    );
    let all = items(inspector.get(&labelled))?;
    let is_before = |proxy: &Value| {
        settings_of(proxy).is_some_and(|other| other.target_ref == settings.target_ref)
    };
    Ok(all.into_iter().filter(is_before).collect())
}

fn items(list: Result<Value, Fault>) -> Result<Vec<Value>, Fault> {
    let list = list?;
    Ok(list["items"].as_array().cloned().unwrap_or_default())
}

/// What the Role grants, one verb and resource after the other.
fn needs(settings: &Settings) -> Vec<Need> {
    let service = settings.service.as_deref().unwrap_or_default();
    let mut needs = Vec::new();
    for rule in permissions::rules(settings, service) {
        for resource in &rule.resources {
            let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
            needs.extend(rule.verbs.iter().map(|verb| Need {
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
