//! [`Review`]: the permissions that somebody needs, each with the answer of an access review.

use crate::commands::permissions::{self, Rule};
use crate::kube::inspect::{Attributes, Fault, Inspector, Reviewed};
use crate::settings::Settings;

/// The permissions of one user.
#[derive(Clone, Debug)]
pub struct Review {
    /// Whose they are.
    pub whose: Reviewed,
    /// The namespace in which they are needed; `None`: in all.
    pub namespace: Option<String>,
    /// The permissions with the answers, or why none could be asked for.
    pub answers: Result<Vec<(RequiredPermission, Answer)>, Fault>,
}

/// A permission that is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequiredPermission {
    /// The attributes of an access review. An empty name is any name.
    pub attributes: Attributes,
    /// What it is worth.
    pub weight: Weight,
    /// The permission with which the proxy does as well.
    pub instead: Option<Attributes>,
}

/// What a permission is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// The proxy does not work without it.
    Required,
    /// It does something lesser without it.
    Optional,
    /// It is not in the Role unless it is asked for.
    OnRequest,
}

/// Whether it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is.
    Allowed,
    /// It is not, and that which does as well is.
    Replaced,
    /// It is not.
    Refused,
}

impl Review {
    /// Asks for the permissions of `whose`.
    pub fn ask(
        inspector: &Inspector,
        whose: Reviewed,
        namespace: Option<&str>,
        needs: Vec<RequiredPermission>,
    ) -> Review {
        let is_allowed =
            |attributes: &Attributes| inspector.is_allowed(namespace, &whose, attributes);
        let ask = |need: RequiredPermission| {
            if is_allowed(&need.attributes)? {
                return Ok((need, Answer::Allowed));
            }
            let is_replaced = need.instead.as_ref().map(is_allowed);
            Ok(match is_replaced.transpose()? {
                Some(true) => (need, Answer::Replaced),
                _ => (need, Answer::Refused),
            })
        };
        let answers = needs.into_iter().map(ask).collect();
        Review {
            answers,
            namespace: namespace.map(str::to_owned),
            whose,
        }
    }

    /// The kind of the review.
    pub fn kind(&self) -> &'static str {
        self.whose.review(self.namespace.as_deref())
    }
}

/// The permissions of the proxy for an app with these settings.
pub fn needs_of_app(settings: &Settings) -> Vec<RequiredPermission> {
    let service = settings.service.as_deref().unwrap_or_default();
    let rules = permissions::rules(settings, service, true);
    let needs = rules.iter().flat_map(needs);
    let weighed = needs.map(|need| RequiredPermission {
        weight: weight(&need, settings),
        ..need
    });
    weighed.collect()
}

/// The permissions of a proxy that finds its apps, beside those for each app.
pub fn needs_of_discovery() -> Vec<RequiredPermission> {
    permissions::discovery_rules()
        .iter()
        .flat_map(needs)
        .collect()
}

/// The permissions of whoever installs a proxy.
pub fn needs_of_install() -> Vec<RequiredPermission> {
    let created = permissions::CREATED.into_iter();
    let need = |(group, plural): (&str, &str)| RequiredPermission {
        attributes: attributes("create", group, plural, None),
        weight: Weight::Required,
        instead: None,
    };
    created.map(need).collect()
}

/// The permissions of a rule, one for each verb and resource.
fn needs(rule: &Rule) -> Vec<RequiredPermission> {
    let of_resource = move |resource: &String| {
        let (group, name) = (rule.group.clone(), rule.name.clone());
        let resource = resource.clone();
        rule.verbs.iter().map(move |verb| RequiredPermission {
            attributes: attributes(verb, &group, &resource, name.as_deref()),
            weight: match rule.optional.contains(verb) {
                true => Weight::Optional,
                false => Weight::Required,
            },
            instead: instead(verb, &group, &resource, name.as_deref()),
        })
    };
    rule.resources.iter().flat_map(of_resource).collect()
}

/// What an installation without `--fail-fast` and `--read-pods` does not have, and what is not
/// needed where another address than the pods' is dialled.
fn weight(need: &RequiredPermission, settings: &Settings) -> Weight {
    let it = &need.attributes;
    let reads_pods = it.group.is_empty() && matches!(&*it.resource, "pods" | "events");
    let dials_pods = settings.target.is_none();
    match &*it.resource {
        _ if reads_pods && !settings.fail_fast => Weight::OnRequest,
        "endpointslices" if !dials_pods => Weight::Optional,
        _ => need.weight,
    }
}

/// The permission with which the proxy does as well: that of its ancestors.
fn instead(
    verb: &'static str,
    group: &str,
    resource: &str,
    name: Option<&str>,
) -> Option<Attributes> {
    match resource {
        "deployments/status" => Some(attributes(verb, group, "deployments", name)),
        "endpointslices" => Some(attributes(verb, "", "endpoints", None)),
        _ => None,
    }
}

fn attributes(verb: &'static str, group: &str, resource: &str, name: Option<&str>) -> Attributes {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    Attributes {
        verb,
        group: group.to_owned(),
        resource: resource.to_owned(),
        subresource: subresource.to_owned(),
        name: name.unwrap_or_default().to_owned(),
    }
}
