//! The checks of `zpa check` as a table, and their [`CheckResult`]s. `verdict` judges.

mod verdict;

pub use self::verdict::{Verdict, words};
use self::verdict::{
    does_not_lead_back, exists, has_no_owner, has_probe, has_the_port, is_not_applied, is_ready,
    no_autoscaler_at_zero, one_idle_ttl, one_image, selects_the_pods, with,
};
use super::facts::{Facts, RequiredPermission};
use crate::settings::Settings;

/// The code of the checks of the Services by which apps are found.
pub const DISCOVERY: &str = "DISCOVERY";

const DISCOVERY_ABOUT: &str = "With --discover, each Service that the label selector selects and \
    that has the annotation zero-pod-autoscaler/listen is an app, and its annotations \
    zero-pod-autoscaler/SETTING are the settings. Of two that ask for one port or one target the \
    older Service has it.";

/// How to mend what they find.
pub const DISCOVERY_HINT: &str =
    "kubectl annotate --overwrite service NAME zero-pod-autoscaler/...";

/// The proxy that is checked.
pub struct Subject<'a> {
    /// The settings of the proxy.
    pub settings: &'a Settings,
    /// Whether the proxy is not installed yet.
    pub before_install: bool,
}

/// The severity of a check that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The proxy does not work.
    Fatal,
    /// It works, and something else may disturb it.
    Warning,
}

/// A check with its verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckResult {
    /// The app; `None` if only one is checked.
    pub app: Option<String>,
    /// Names the check in [`explain`]; it stays the same from version to version.
    pub code: &'static str,
    /// The heading under which it stands.
    pub category: &'static str,
    /// What should be true.
    pub description: String,
    /// The severity if it is not true.
    pub severity: Severity,
    /// Whether it is true.
    pub verdict: Verdict,
    /// How to mend it.
    pub hint: &'static str,
    /// Whether it may become true by itself.
    pub is_transient: bool,
}

impl CheckResult {
    /// Whether it is not true yet, and may become true by itself.
    pub fn may_still_pass(&self) -> bool {
        self.is_transient && matches!(self.verdict, Verdict::Bad(_) | Verdict::Unknown(_))
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
    pub is_transient: bool,
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
        is_transient: true,
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
        is_transient: true,
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
        is_transient: false,
        examine: |_, facts| with(&facts.target, has_probe),
    },
    Check {
        code: "OWNER",
        category: "app",
        description: "no other controller owns it",
        severity: Severity::Warning,
        hint: "scale the owner, with --scale-target, or have it leave the replicas alone",
        about: "A controller that owns the object, such as an operator, is likely to scale it back.",
        is_transient: false,
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
        is_transient: false,
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
        is_transient: false,
        examine: no_autoscaler_at_zero,
    },
    Check {
        code: "SERVICE",
        category: "service",
        description: "the app's Service exists",
        severity: Severity::Fatal,
        hint: "kubectl get services; give its name with --service",
        about: "The Service whose pods are dialled: --service, by default the name of what is scaled.",
        is_transient: true,
        examine: |_, facts| exists(&facts.service),
    },
    Check {
        code: "SELECTOR",
        category: "service",
        description: "the Service selects the pods that are scaled",
        severity: Severity::Fatal,
        hint: "kubectl get service NAME -o yaml; compare spec.selector with the pods' labels",
        about: "If the Service selects other pods, no address gets ready however the app is scaled.",
        is_transient: false,
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
        is_transient: false,
        examine: does_not_lead_back,
    },
    Check {
        code: "PORT",
        category: "service",
        description: "it is clear which port of the Service is meant",
        severity: Severity::Fatal,
        hint: "give it with --port, by name or number",
        about: "A Service with several ports takes --port.",
        is_transient: false,
        examine: has_the_port,
    },
    Check {
        code: "PROXY",
        category: "proxy",
        description: "a proxy in front of the app is ready",
        severity: Severity::Fatal,
        hint: APPLY,
        about: "A Deployment with the label app.kubernetes.io/name=zero-pod-autoscaler whose \
                ZPA_DEPLOYMENT or ZPA_SCALE_TARGET names the app, or for a list one that has \
                ZPA_APPS, with a ready replica. Its /readyz says why a pod is not ready.",
        is_transient: true,
        examine: is_ready,
    },
    Check {
        code: "TTL",
        category: "proxy",
        description: "all proxies in front of the app have one idle TTL",
        severity: Severity::Warning,
        hint: "give all of them the same --idle-ttl",
        about: "A lease holds for the TTL of the proxy that renews it. Proxies with shorter ones \
                respect it, and put the app to sleep later than set.",
        is_transient: false,
        examine: one_idle_ttl,
    },
    Check {
        code: "IMAGE",
        category: "proxy",
        description: "all proxies in front of the app are of one version",
        severity: Severity::Warning,
        hint: "kubectl set image",
        about: "Proxies of different versions agree as far as both know the same rules.",
        is_transient: true,
        examine: one_image,
    },
];

/// Runs all checks.
pub fn examine(subject: &Subject<'_>, facts: &Facts) -> Vec<CheckResult> {
    let finding = |check: &Check| CheckResult {
        app: None,
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
        is_transient: check.is_transient,
    };
    let mut results: Vec<CheckResult> = CHECKS.iter().map(finding).collect();
    if facts.version.is_ok() {
        results.extend(permissions(facts));
    }
    results
}

fn permissions(facts: &Facts) -> Vec<CheckResult> {
    let who = facts.account.as_deref().unwrap_or("these credentials");
    let finding = |description: String, severity, verdict| CheckResult {
        app: None,
        code: "PERMISSION",
        category: "permissions",
        description,
        severity,
        verdict,
        hint: APPLY,
        is_transient: true,
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
fn phrase(need: &RequiredPermission) -> String {
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

/// The explanation of the check with that code; `None` if there is none.
pub fn explain(code: &str) -> Option<String> {
    let code = code.to_ascii_uppercase();
    if code == DISCOVERY {
        let (about, hint) = (DISCOVERY_ABOUT, DISCOVERY_HINT);
        return Some(format!("{code}\n\n{about}\n\nTo mend it: {hint}\n"));
    }
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
    codes.chain(["PERMISSION", DISCOVERY]).collect()
}

#[cfg(test)]
mod tests;
