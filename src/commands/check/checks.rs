//! The checks, as data, and what they come to.

use serde_json::Value;

use super::facts::{Facts, Need};
use super::proxy::settings_of;
use crate::duration;
use crate::kube::inspect::Fault;
use crate::settings::Settings;

/// What is checked.
pub struct Subject<'a> {
    /// The settings of the proxy.
    pub settings: &'a Settings,
    /// Whether the proxy is not installed yet.
    pub before_install: bool,
}

/// How much it matters that something is not as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The proxy does not work.
    Fatal,
    /// It works, and something else may disturb it.
    Warning,
}

/// What a check has come to.
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

/// A check, and what it has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Names the check in [`explain`]; it stays the same from version to version.
    pub code: &'static str,
    /// The heading under which it stands.
    pub category: &'static str,
    /// What should be true.
    pub description: String,
    /// How much it matters.
    pub severity: Severity,
    /// What it has come to.
    pub verdict: Verdict,
    /// What mends it.
    pub hint: &'static str,
    /// Whether it may become true by itself.
    pub may_pass: bool,
}

impl Finding {
    /// Whether it is not true yet, and may become true by itself.
    pub fn may_pass(&self) -> bool {
        self.may_pass && matches!(self.verdict, Verdict::Bad(_) | Verdict::Unknown(_))
    }
}

/// A check.
struct Check {
    code: &'static str,
    category: &'static str,
    description: &'static str,
    severity: Severity,
    hint: &'static str,
    /// More about it, for [`explain`].
    about: &'static str,
    /// Whether it may become true by itself.
    pub may_pass: bool,
    examine: fn(&Subject<'_>, &Facts) -> Verdict,
}

const APPLY: &str = "zpa manifests --deployment NAME | kubectl apply -f -";

const PERMISSION_ABOUT: &str = "The proxy's service account needs each permission of the Role that \
    zpa manifests prints. In a pod its own are asked for (SelfSubjectAccessReview); elsewhere those \
    of the service account of the proxy that is found, or of --service-account \
    (LocalSubjectAccessReview, which takes the permission to create that).";

static CHECKS: [Check; 13] = [
    Check {
        code: "API",
        category: "kubernetes",
        description: "the API server answers",
        severity: Severity::Fatal,
        hint: "kubectl version",
        about: "GET /version. The address and the credentials are found as for the proxy: flags, \
                a kubeconfig, or the service account of a pod.",
        may_pass: true,
        examine: |_, facts| match &facts.version {
            Ok(_) => Verdict::Good,
            Err(fault) => Verdict::Unknown(words(fault)),
        },
    },
    Check {
        code: "TARGET",
        category: "app",
        description: "what is to be scaled exists",
        severity: Severity::Fatal,
        hint: "kubectl get deployments",
        about: "The object of --deployment or --scale-target, in the namespace.",
        may_pass: true,
        examine: |_, facts| exists(&facts.target),
    },
    Check {
        code: "PROBE",
        category: "app",
        description: "its pods have a readiness probe",
        severity: Severity::Warning,
        hint: "add a readinessProbe to the pod template",
        about: "Without a readiness probe Kubernetes lists a pod as ready as soon as its containers \
                run, before they listen: held connections are then dialled in vain and again until \
                one is taken.",
        may_pass: false,
        examine: |_, facts| with(&facts.target, has_probe),
    },
    Check {
        code: "OWNER",
        category: "app",
        description: "no other controller owns it",
        severity: Severity::Warning,
        hint: "scale the owner, with --scale-target, or have it leave the replicas alone",
        about: "A controller that owns the object, such as an operator, is likely to scale it back.",
        may_pass: false,
        examine: |_, facts| with(&facts.target, has_no_owner),
    },
    Check {
        code: "REPLICAS",
        category: "app",
        description: "nothing that is applied sets its replicas",
        severity: Severity::Warning,
        hint: "take replicas out of the manifest; for Argo CD see ignoreDifferences",
        about: "Where a manifest with replicas is applied again, by hand or by a GitOps tool, the \
                app wakes. The object's managedFields say who has written the field.",
        may_pass: false,
        examine: |_, facts| with(&facts.target, is_not_applied),
    },
    Check {
        code: "HPA",
        category: "app",
        description: "no HPA scales it to or from zero",
        severity: Severity::Warning,
        hint: "set minReplicas of the HPA to 1 or more",
        about: "An HPA with minReplicas of 1 or more ignores what is at zero. With minReplicas 0 it \
                scales to and from zero by itself.",
        may_pass: false,
        examine: no_autoscaler_at_zero,
    },
    Check {
        code: "SERVICE",
        category: "service",
        description: "the app's Service exists",
        severity: Severity::Fatal,
        hint: "kubectl get services; give its name with --service",
        about: "The Service whose pods are dialled: --service, by default the name of what is scaled.",
        may_pass: true,
        examine: |_, facts| exists(&facts.service),
    },
    Check {
        code: "SELECTOR",
        category: "service",
        description: "the Service selects the pods that are scaled",
        severity: Severity::Fatal,
        hint: "kubectl get service NAME -o yaml; compare spec.selector with the pods' labels",
        about: "If the Service selects other pods, no address gets ready however the app is scaled.",
        may_pass: false,
        examine: selects_the_pods,
    },
    Check {
        code: "LOOP",
        category: "service",
        description: "the Service does not lead to the proxy itself",
        severity: Severity::Fatal,
        hint: "give the Service of the app's own pods with --service",
        about: "If the Service leads back to the proxy, each connection would be dialled by the \
                proxy to itself. It refuses to, and nobody is served.",
        may_pass: false,
        examine: does_not_lead_back,
    },
    Check {
        code: "PORT",
        category: "service",
        description: "it is clear which port of the Service is meant",
        severity: Severity::Fatal,
        hint: "give it with --port, by name or number",
        about: "A Service with several ports takes --port.",
        may_pass: false,
        examine: has_the_port,
    },
    Check {
        code: "PROXY",
        category: "proxy",
        description: "a proxy before the app is ready",
        severity: Severity::Fatal,
        hint: APPLY,
        about: "A Deployment with the label app.kubernetes.io/name=zero-pod-autoscaler whose \
                ZPA_DEPLOYMENT or ZPA_SCALE_TARGET names the app, with a ready replica. Its \
                /readyz says why a pod is not ready.",
        may_pass: true,
        examine: is_ready,
    },
    Check {
        code: "TTL",
        category: "proxy",
        description: "all proxies before the app have one idle TTL",
        severity: Severity::Warning,
        hint: "give all of them the same --idle-ttl",
        about: "A lease holds for the TTL of the proxy that renews it. Proxies with shorter ones \
                respect it, and put the app to sleep later than set.",
        may_pass: false,
        examine: one_idle_ttl,
    },
    Check {
        code: "IMAGE",
        category: "proxy",
        description: "all proxies before the app are of one version",
        severity: Severity::Warning,
        hint: "kubectl set image",
        about: "Proxies of different versions agree as far as both know the same rules.",
        may_pass: true,
        examine: one_image,
    },
];

/// Carries out all checks.
pub fn examine(subject: &Subject<'_>, facts: &Facts) -> Vec<Finding> {
    let finding = |check: &Check| Finding {
        code: check.code,
        category: check.category,
        description: check.description.to_owned(),
        severity: check.severity,
        verdict: match (&facts.version, check.code) {
            (Err(_), code) if code != "API" => Verdict::Skipped("the API server does not answer"),
            _ if subject.before_install && check.category == "proxy" => {
                Verdict::Skipped("--pre: not installed yet")
            }
            _ => (check.examine)(subject, facts),
        },
        hint: check.hint,
        may_pass: check.may_pass,
    };
    let mut findings: Vec<Finding> = CHECKS.iter().map(finding).collect();
    if facts.version.is_ok() {
        findings.extend(permissions(facts));
    }
    findings
}

fn permissions(facts: &Facts) -> Vec<Finding> {
    let who = facts.account.as_deref().unwrap_or("these credentials");
    let finding = |description: String, severity, verdict| Finding {
        code: "PERMISSION",
        category: "permissions",
        description,
        severity,
        verdict,
        hint: APPLY,
        may_pass: true,
    };
    if facts.permissions.is_empty() {
        let description = "the proxy has its permissions".to_owned();
        let why = "no service account is known; give one with --service-account";
        return vec![finding(description, Severity::Fatal, Verdict::Skipped(why))];
    }
    let each = facts.permissions.iter().map(|(need, answer)| {
        let severity = match need.is_optional {
            true => Severity::Warning,
            false => Severity::Fatal,
        };
        let verdict = match answer {
            Ok(true) => Verdict::Good,
            Ok(false) => Verdict::Bad("RBAC does not allow it".to_owned()),
            Err(fault) => Verdict::Unknown(words(fault)),
        };
        finding(format!("{who} may {}", phrase(need)), severity, verdict)
    });
    each.collect()
}

/// `patch deployments/scale my-app`.
fn phrase(need: &Need) -> String {
    let it = &need.attributes;
    let mut text = format!("{} {}", it.verb, it.resource);
    for (separator, part) in [("/", &*it.subresource), (" ", &*it.name)] {
        if !part.is_empty() {
            text += separator;
            text += part;
        }
    }
    text
}

/// More about the check with that code; None if there is none.
pub fn explain(code: &str) -> Option<String> {
    let code = code.to_ascii_uppercase();
    if code == "PERMISSION" {
        return Some(format!(
            "{code}\n\n{PERMISSION_ABOUT}\n\nTo mend it: {APPLY}\n"
        ));
    }
    let check = CHECKS.iter().find(|check| check.code == code)?;
    Some(format!(
        "{code}: {}\n\n{}\n\nTo mend it: {}\n",
        check.description, check.about, check.hint
    ))
}

/// The codes of all checks.
pub fn codes() -> Vec<&'static str> {
    let codes = CHECKS.iter().map(|check| check.code);
    codes.chain(["PERMISSION"]).collect()
}

fn words(fault: &Fault) -> String {
    match fault {
        Fault::NotFound => "not found".to_owned(),
        Fault::Refused(why) | Fault::Failed(why) => why.clone(),
    }
}

fn exists(object: &Result<Value, Fault>) -> Verdict {
    match object {
        Ok(_) => Verdict::Good,
        Err(Fault::NotFound) => Verdict::Bad("not found".to_owned()),
        Err(fault) => Verdict::Unknown(words(fault)),
    }
}

/// The verdict of `judge` on an object, if there is one.
fn with(object: &Result<Value, Fault>, judge: fn(&Value) -> Verdict) -> Verdict {
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

fn has_probe(target: &Value) -> Verdict {
    let Some(containers) = target["spec"]["template"]["spec"]["containers"].as_array() else {
        return Verdict::Skipped("it has no pod template");
    };
    let probed = containers.iter().any(|it| !it["readinessProbe"].is_null());
    good_if(probed, || "no container has one".to_owned())
}

fn has_no_owner(target: &Value) -> Verdict {
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

fn is_not_applied(target: &Value) -> Verdict {
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

fn no_autoscaler_at_zero(subject: &Subject<'_>, facts: &Facts) -> Verdict {
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

fn selects_the_pods(_: &Subject<'_>, facts: &Facts) -> Verdict {
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

fn does_not_lead_back(_: &Subject<'_>, facts: &Facts) -> Verdict {
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

fn has_the_port(subject: &Subject<'_>, facts: &Facts) -> Verdict {
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

fn is_ready(_: &Subject<'_>, facts: &Facts) -> Verdict {
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

fn one_idle_ttl(_: &Subject<'_>, facts: &Facts) -> Verdict {
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

fn one_image(_: &Subject<'_>, facts: &Facts) -> Verdict {
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

#[cfg(test)]
mod tests;
