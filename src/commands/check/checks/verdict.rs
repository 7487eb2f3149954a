//! The [`Verdict`] of a check, and the functions that come to it from what was read.

use serde_json::Value;

use super::super::installed::InFront;
use super::Case;
use crate::duration;
use crate::kube::inspect::Fault;
use crate::rules::ready_gate::ReadyGate;

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
    Skipped(String),
}

impl Verdict {
    /// Whether there is something to mend.
    pub fn is_trouble(&self) -> bool {
        matches!(self, Verdict::Bad(_) | Verdict::Unknown(_))
    }
}

pub(super) fn good_if(is_good: bool, why: impl FnOnce() -> String) -> Verdict {
    match is_good {
        true => Verdict::Good,
        false => Verdict::Bad(why()),
    }
}

fn skipped(why: &str) -> Verdict {
    Verdict::Skipped(why.to_owned())
}

// --- The API server ---

/// The least minor version of Kubernetes 1.
const MINOR: u32 = 21;

pub(super) fn answers(version: &Result<Value, Fault>) -> Verdict {
    match version {
        Ok(_) => Verdict::Good,
        Err(fault) => Verdict::Unknown(fault.words().to_owned()),
    }
}

pub(super) fn is_recent(version: &Result<Value, Fault>) -> Verdict {
    let Ok(version) = version else {
        return skipped("the API server does not answer");
    };
    // `36+` is that of a provider.
    let number = |key: &str| {
        let digits = text(&version[key]).trim_end_matches(|it: char| !it.is_ascii_digit());
        digits.parse::<u32>().ok()
    };
    match (number("major"), number("minor")) {
        (Some(major), Some(minor)) => good_if(major > 1 || minor >= MINOR, || {
            format!("it is {}", text(&version["gitVersion"]))
        }),
        _ => Verdict::Unknown("its version has no number".to_owned()),
    }
}

// --- The app ---

pub(super) fn exists(object: &Result<Value, Fault>) -> Verdict {
    match object {
        Ok(_) => Verdict::Good,
        Err(Fault::NotFound) => Verdict::Bad("not found".to_owned()),
        Err(fault) => Verdict::Unknown(fault.words().to_owned()),
    }
}

pub(super) fn has_probe(case: &Case<'_>) -> Verdict {
    if case.settings.ready_gate != ReadyGate::Probe {
        return skipped("--ready-gate: the pods are dialled to see");
    }
    let containers = &target(case)["spec"]["template"]["spec"]["containers"];
    let mut containers = containers.as_array().into_iter().flatten();
    let is_probed = containers.any(|it| !it["readinessProbe"].is_null());
    good_if(is_probed, || "no container has one".to_owned())
}

/// The controller that owns the scale target.
pub(super) fn owner<'a>(case: &Case<'a>) -> Option<&'a Value> {
    let owners = target(case)["metadata"]["ownerReferences"].as_array()?;
    owners.iter().find(|owner| owner["controller"] == true)
}

pub(super) fn has_no_owner(case: &Case<'_>) -> Verdict {
    match owner(case) {
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

/// What `kubectl apply` and Argo CD keep of the manifest.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

pub(super) fn is_not_applied(case: &Case<'_>) -> Verdict {
    let metadata = &target(case)["metadata"];
    let entries = || metadata["managedFields"].as_array().into_iter().flatten();
    let applies = |entry: &&Value| {
        let manager = text(&entry["manager"]);
        let again = entry["operation"] == "Apply" || APPLIERS.iter().any(|it| manager.contains(it));
        again && !entry["fieldsV1"]["f:spec"]["f:replicas"].is_null() && manager != "zpa"
    };
    if let Some(entry) = entries().find(applies) {
        return Verdict::Bad(format!("{} does", text(&entry["manager"])));
    }
    let Some(replicas) = last_applied(case) else {
        return Verdict::Good;
    };
    let has_annotated = |entry: &&Value| {
        let annotations = &entry["fieldsV1"]["f:metadata"]["f:annotations"];
        !annotations[format!("f:{LAST_APPLIED}")].is_null()
    };
    let manager = entries()
        .find(has_annotated)
        .map(|entry| text(&entry["manager"]));
    let manager = manager.unwrap_or("kubectl apply");
    Verdict::Bad(format!(
        "{manager} does: what it applied last has replicas: {replicas}"
    ))
}

/// The replicas of the manifest that was applied last, if it has any.
pub(super) fn last_applied(case: &Case<'_>) -> Option<Value> {
    let applied = &target(case)["metadata"]["annotations"][LAST_APPLIED];
    let applied: Value = serde_json::from_str(applied.as_str()?).ok()?;
    let replicas = &applied["spec"]["replicas"];
    (!replicas.is_null()).then(|| replicas.clone())
}

/// The HPA that scales to or from zero.
pub(super) fn autoscaler<'a>(case: &Case<'a>) -> Option<&'a Value> {
    let target = target(case);
    let is_of_it = |reference: &Value| {
        reference["name"] == target["metadata"]["name"]
            && reference["kind"] == target["kind"]
            && (reference["apiVersion"].is_null() || group(reference) == group(target))
    };
    let autoscalers = case.facts.autoscalers.as_ref().ok()?.iter();
    let mut at_zero = autoscalers.filter(|it| it["spec"]["minReplicas"] == 0);
    at_zero.find(|it| is_of_it(&it["spec"]["scaleTargetRef"]))
}

/// The API group in an `apiVersion`.
pub(super) fn group(object: &Value) -> &str {
    let version = text(&object["apiVersion"]);
    version.split_once('/').map_or("", |(group, _)| group)
}

pub(super) fn no_autoscaler_at_zero(case: &Case<'_>) -> Verdict {
    match autoscaler(case) {
        None => Verdict::Good,
        Some(it) => Verdict::Bad(format!(
            "{} has minReplicas 0",
            text(&it["metadata"]["name"])
        )),
    }
}

// --- The Service ---

pub(super) fn selects_the_pods(case: &Case<'_>) -> Verdict {
    let (service, labels) = (service(case), pod_labels(target(case)));
    good_if(selects(service, labels), || {
        let selector = &service["spec"]["selector"];
        format!("it selects {selector}, and the pods have {labels}")
    })
}

/// Whether a Service selects pods with these labels.
fn selects(service: &Value, labels: &Value) -> bool {
    let Some(selector) = service["spec"]["selector"].as_object() else {
        return false;
    };
    let mut selector = selector.iter();
    selector.len() > 0 && selector.all(|(key, value)| labels.get(key) == Some(value))
}

pub(super) fn does_not_lead_back(case: &Case<'_>) -> Verdict {
    let namespace = case.settings.namespace.as_deref();
    let leads_to = |it: &&InFront| {
        let labels = pod_labels(&it.proxy.deployment);
        namespace == Some(it.proxy.namespace()) && selects(service(case), labels)
    };
    match proxies(case).iter().find(leads_to) {
        None => Verdict::Good,
        Some(it) => Verdict::Bad(format!("it selects the pods of {}", it.proxy.name())),
    }
}

// --- The proxies ---

pub(super) fn is_ready(case: &Case<'_>) -> Verdict {
    let proxies = match &case.facts.proxies {
        Ok(proxies) => proxies,
        Err(Fault::Refused(_)) => return skipped("Deployments may not be listed"),
        Err(fault) => return Verdict::Unknown(fault.words().to_owned()),
    };
    if proxies.is_empty() {
        let mut why = vec!["there is none".to_owned()];
        why.extend(case.facts.broken.iter().cloned());
        return Verdict::Bad(why.join("; "));
    }
    let any = proxies.iter().any(|it| it.proxy.ready() > 0);
    good_if(any, || listed(proxies.iter()))
}

pub(super) fn all_are_ready(case: &Case<'_>) -> Verdict {
    let lacks = |it: &&InFront| it.proxy.ready() < it.proxy.wanted();
    let lacking = || proxies(case).iter().filter(lacks);
    good_if(lacking().next().is_none(), || listed(lacking()))
}

/// How many replicas of each are ready, and why no more.
fn listed<'a>(proxies: impl Iterator<Item = &'a InFront>) -> String {
    let texts = proxies.map(|it| {
        let (name, ready, wanted) = (it.proxy.name(), it.proxy.ready(), it.proxy.wanted());
        let text = match ready {
            0 => format!("none of {wanted} replicas of {name} is"),
            _ => format!("{ready} of {wanted} replicas of {name} are"),
        };
        match &it.problem {
            Some((code, why)) => format!("{text}: {why} ({code})"),
            None => text,
        }
    });
    texts.collect::<Vec<_>>().join("; ")
}

pub(super) fn one_idle_ttl(case: &Case<'_>) -> Verdict {
    let apps = proxies(case).iter().filter_map(|it| it.app.as_ref());
    let mut ttls: Vec<_> = apps.map(|app| app.idle_ttl).collect();
    ttls.sort();
    let mut texts: Vec<_> = ttls.into_iter().map(duration::display).collect();
    texts.dedup();
    good_if(texts.len() <= 1, || texts.join(", "))
}

/// The image of a proxy.
pub(super) fn image(it: &InFront) -> &str {
    text(&it.proxy.container()["image"])
}

pub(super) fn one_image(case: &Case<'_>) -> Verdict {
    let mut images: Vec<_> = proxies(case).iter().map(image).collect();
    images.sort_unstable();
    images.dedup();
    if images.len() > 1 {
        return Verdict::Bad(images.join(", "));
    }
    let own = env!("CARGO_PKG_VERSION");
    let version = images.first().and_then(|image| version_of(image));
    let is_other = version.is_some_and(|version| version != own);
    good_if(!is_other, || {
        format!("{} is, and this zpa is {own}", images.join(", "))
    })
}

/// The version that an image's tag is, such as `1.2.3` or `v1.2.3`.
fn version_of(image: &str) -> Option<&str> {
    let (_, name) = image.rsplit_once('/').unwrap_or(("", image));
    let (name, _) = name.split_once('@').unwrap_or((name, ""));
    let (_, tag) = name.split_once(':')?;
    let version = tag.strip_prefix('v').unwrap_or(tag);
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|it| it.is_ascii_digit());
    let parts: Vec<_> = version.split('.').collect();
    (parts.len() == 3 && parts.into_iter().all(is_number)).then_some(version)
}

// --- Parts of what was read ---

const NOTHING: &Value = &Value::Null;

pub(super) fn target<'a>(case: &Case<'a>) -> &'a Value {
    case.facts.target.as_ref().unwrap_or(NOTHING)
}

pub(super) fn service<'a>(case: &Case<'a>) -> &'a Value {
    case.facts.service.as_ref().unwrap_or(NOTHING)
}

pub(super) fn proxies<'a>(case: &Case<'a>) -> &'a [InFront] {
    case.facts.proxies.as_deref().unwrap_or_default()
}

pub(super) fn pod_labels(workload: &Value) -> &Value {
    &workload["spec"]["template"]["metadata"]["labels"]
}

pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
