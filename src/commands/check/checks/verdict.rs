//! The [`Verdict`] of a check, and the functions that come to it from the [`Facts`].

use serde_json::Value;

use super::super::facts::Facts;
use super::super::proxy::settings_of;
use super::Subject;
use crate::duration;
use crate::kube::inspect::Fault;

/// The result of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Good,
    /// Not as it should be, and why.
    Bad(String),
    /// Could not be found out, and why.
    Unknown(String),
    /// Not asked, and why.
    Skipped(&'static str),
}

pub fn words(fault: &Fault) -> String {
    fault.words().to_owned()
}

pub(super) fn exists(object: &Result<Value, Fault>) -> Verdict {
    match object {
        Ok(_) => Verdict::Good,
        Err(Fault::NotFound) => Verdict::Bad("not found".to_owned()),
        Err(fault) => Verdict::Unknown(words(fault)),
    }
}

/// The verdict of `judge` on an object, if there is one.
pub(super) fn with(object: &Result<Value, Fault>, judge: fn(&Value) -> Verdict) -> Verdict {
    match object {
        Ok(object) => judge(object),
        Err(_) => Verdict::Skipped("it could not be read"),
    }
}

fn good_if(is_good: bool, why: impl FnOnce() -> String) -> Verdict {
    match is_good {
        true => Verdict::Good,
        false => Verdict::Bad(why()),
    }
}

pub(super) fn has_probe(target: &Value) -> Verdict {
    let Some(containers) = target["spec"]["template"]["spec"]["containers"].as_array() else {
        return Verdict::Skipped("it has no pod template");
    };
    let probed = containers.iter().any(|it| !it["readinessProbe"].is_null());
    good_if(probed, || "no container has one".to_owned())
}

pub(super) fn has_no_owner(target: &Value) -> Verdict {
    let mut owners = target["metadata"]["ownerReferences"]
        .as_array()
        .into_iter()
        .flatten();
    match owners.find(|owner| owner["controller"] == true) {
        None => Verdict::Good,
        Some(owner) => Verdict::Bad(format!(
            "{} {} does",
            text(&owner["kind"]),
            text(&owner["name"])
        )),
    }
}

/// Those that write a field again and again. Whoever has created or scaled the object
/// once is not among them.
const APPLIERS: [&str; 7] = [
    "apply",
    "helm",
    "argocd",
    "kustomize",
    "flux",
    "terraform",
    "pulumi",
];

pub(super) fn is_not_applied(target: &Value) -> Verdict {
    let mut writers = target["metadata"]["managedFields"]
        .as_array()
        .into_iter()
        .flatten();
    let applies = |entry: &&Value| {
        let manager = text(&entry["manager"]);
        let again = entry["operation"] == "Apply" || APPLIERS.iter().any(|it| manager.contains(it));
        again && !entry["fieldsV1"]["f:spec"]["f:replicas"].is_null() && manager != "zpa"
    };
    match writers.find(applies) {
        None => Verdict::Good,
        Some(entry) => Verdict::Bad(format!("{} does", text(&entry["manager"]))),
    }
}

pub(super) fn no_autoscaler_at_zero(subject: &Subject<'_>, facts: &Facts) -> Verdict {
    let Ok(autoscalers) = &facts.autoscalers else {
        return Verdict::Skipped("HPAs cannot be listed");
    };
    let name = subject.settings.target_ref.name();
    let mut of_it = autoscalers
        .iter()
        .filter(|it| it["spec"]["scaleTargetRef"]["name"].as_str() == name);
    match of_it.find(|it| it["spec"]["minReplicas"] == 0) {
        None => Verdict::Good,
        Some(it) => Verdict::Bad(format!(
            "{} has minReplicas 0",
            text(&it["metadata"]["name"])
        )),
    }
}

pub(super) fn selects_the_pods(_: &Subject<'_>, facts: &Facts) -> Verdict {
    let (Ok(service), Ok(target)) = (&facts.service, &facts.target) else {
        return Verdict::Skipped("the Service or what is scaled could not be read");
    };
    let labels = &target["spec"]["template"]["metadata"]["labels"];
    if labels.is_null() {
        return Verdict::Skipped("what is scaled has no pod template");
    }
    good_if(selects(service, labels), || {
        format!(
            "it selects {}, and the pods have {labels}",
            service["spec"]["selector"]
        )
    })
}

/// Whether a Service selects pods with these labels.
fn selects(service: &Value, labels: &Value) -> bool {
    let Some(selector) = service["spec"]["selector"].as_object() else {
        return false;
    };
    !selector.is_empty()
        && selector
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value))
}

pub(super) fn does_not_lead_back(_: &Subject<'_>, facts: &Facts) -> Verdict {
    let (Ok(service), Ok(proxies)) = (&facts.service, &facts.proxies) else {
        return Verdict::Skipped("the Service or the proxies could not be read");
    };
    let led_to = proxies
        .iter()
        .find(|proxy| selects(service, &proxy["spec"]["template"]["metadata"]["labels"]));
    match led_to {
        None => Verdict::Good,
        Some(proxy) => Verdict::Bad(format!(
            "it selects the pods of {}",
            text(&proxy["metadata"]["name"])
        )),
    }
}

pub(super) fn has_the_port(subject: &Subject<'_>, facts: &Facts) -> Verdict {
    let Ok(service) = &facts.service else {
        return Verdict::Skipped("the Service could not be read");
    };
    let ports = service["spec"]["ports"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let names = || {
        let name = |port: &Value| match text(&port["name"]) {
            "" => port["port"].to_string(),
            name => format!("{name} ({})", port["port"]),
        };
        ports.iter().map(name).collect::<Vec<_>>().join(", ")
    };
    let Some(wanted) = &subject.settings.port else {
        return good_if(ports.len() == 1, || {
            format!("it has {}: {}", ports.len(), names())
        });
    };
    let wanted = wanted.to_string();
    let number = wanted.parse::<u64>().ok();
    let is_it = |port: &Value| {
        port["name"] == *wanted || number.is_some() && port["port"].as_u64() == number
    };
    good_if(ports.iter().any(is_it), || {
        format!("it has no {wanted}, but {}", names())
    })
}

pub(super) fn is_ready(_: &Subject<'_>, facts: &Facts) -> Verdict {
    let proxies = match &facts.proxies {
        Ok(proxies) => proxies,
        Err(Fault::Refused(_)) => return Verdict::Skipped("Deployments may not be listed"),
        Err(fault) => return Verdict::Unknown(words(fault)),
    };
    if proxies.is_empty() {
        return Verdict::Bad("there is none".to_owned());
    }
    let ready = |proxy: &Value| proxy["status"]["readyReplicas"].as_u64().unwrap_or(0) > 0;
    good_if(proxies.iter().any(ready), || {
        let names = proxies.iter().map(|it| text(&it["metadata"]["name"]));
        format!("none of {} is", names.collect::<Vec<_>>().join(", "))
    })
}

pub(super) fn one_idle_ttl(_: &Subject<'_>, facts: &Facts) -> Verdict {
    let Ok(proxies) = &facts.proxies else {
        return Verdict::Skipped("the proxies could not be read");
    };
    let mut ttls: Vec<_> = proxies.iter().filter_map(settings_of).collect();
    ttls.sort_by_key(|settings| settings.idle_ttl);
    same(
        ttls.iter()
            .map(|it| duration::display(it.idle_ttl))
            .collect(),
    )
}

pub(super) fn one_image(_: &Subject<'_>, facts: &Facts) -> Verdict {
    let Ok(proxies) = &facts.proxies else {
        return Verdict::Skipped("the proxies could not be read");
    };
    let image = |proxy: &Value| {
        let containers = &proxy["spec"]["template"]["spec"]["containers"];
        text(&containers[0]["image"]).to_owned()
    };
    let mut images: Vec<_> = proxies.iter().map(image).collect();
    images.sort();
    same(images)
}

fn same(mut values: Vec<String>) -> Verdict {
    values.dedup();
    good_if(values.len() <= 1, || values.join(", "))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
