//! The results of access reviews.

use super::super::review::{Answer, RequiredPermission, Review, Weight};
use super::{Case, CheckResult, PERMISSION, Part, Severity, Verdict, named};
use crate::kube::inspect::{Attributes, Reviewed};

pub(super) fn of_proxies(case: &Case<'_>) -> Vec<Part> {
    let reviews = &case.facts.reviews;
    if reviews.is_empty() {
        let why = match case.before_install {
            true => {
                "--pre: zpa manifests prints its Role; for an account that exists give \
                 --service-account"
            }
            false => "no service account is known; give one with --service-account",
        };
        return vec![Part {
            description: named(PERMISSION).description.to_owned(),
            severity: Severity::Fatal,
            verdict: Verdict::Skipped(why.to_owned()),
            hint: String::new(),
        }];
    }
    reviews.iter().flat_map(parts).collect()
}

/// The results of a review that is about no app.
pub fn of_review(review: &Review) -> Vec<CheckResult> {
    let check = named(PERMISSION);
    parts(review).map(|part| check.part(part)).collect()
}

pub(super) fn of_installer(case: &Case<'_>) -> Vec<Part> {
    let Some(review) = &case.facts.install else {
        return Vec::new();
    };
    let answers = review.answers.as_deref().unwrap_or_default();
    let each = answers.iter().map(|(need, answer)| Part {
        description: format!("you may {}", phrase(&need.attributes)),
        severity: Severity::Fatal,
        verdict: verdict(need, *answer),
        hint: "have somebody apply the output of zpa manifests who may".to_owned(),
    });
    each.collect()
}

/// Which review was asked for, and its answers.
fn parts(review: &Review) -> impl Iterator<Item = Part> {
    let (who, kind) = (who(review), review.kind());
    let verdict_of_review = match &review.answers {
        Ok(_) => Verdict::Good,
        Err(fault) => Verdict::Unknown(fault.words().to_owned()),
    };
    let asked = Part {
        description: format!("the permissions of {who} can be asked for ({kind})"),
        severity: Severity::Fatal,
        verdict: verdict_of_review,
        hint: format!(
            "have the permission to create {}s, or ask in the pod of the proxy: kubectl exec \
             deploy/NAME -- /zpa check",
            kind.to_ascii_lowercase()
        ),
    };
    let answers = review.answers.as_deref().unwrap_or_default().iter();
    let each = answers.map(move |(need, answer)| Part {
        description: format!("{who} may {}", phrase(&need.attributes)),
        severity: match need.weight {
            Weight::Required => Severity::Fatal,
            Weight::Optional | Weight::OnRequest => Severity::Warning,
        },
        verdict: verdict(need, *answer),
        hint: hint(review, need),
    });
    std::iter::once(asked).chain(each)
}

fn who(review: &Review) -> String {
    match &review.whose {
        Reviewed::Caller => "these credentials".to_owned(),
        Reviewed::ServiceAccount { namespace, name } => {
            match review.namespace.as_ref() == Some(namespace) {
                true => name.clone(),
                false => format!("{namespace}/{name}"),
            }
        }
    }
}

fn verdict(need: &RequiredPermission, answer: Answer) -> Verdict {
    match (answer, need.weight) {
        (Answer::Allowed, _) => Verdict::Good,
        (Answer::Replaced, _) => {
            let instead = need.instead.as_ref().map(phrase).unwrap_or_default();
            Verdict::Skipped(format!("it may {instead}, which does as well"))
        }
        (Answer::Refused, Weight::OnRequest) => {
            let why =
                "zpa manifests --read-pods has it, so that the proxy says why a wake takes long";
            Verdict::Skipped(why.to_owned())
        }
        (Answer::Refused, _) => Verdict::Bad("RBAC does not allow it".to_owned()),
    }
}

/// The rule that is missing.
fn hint(review: &Review, need: &RequiredPermission) -> String {
    let it = &need.attributes;
    let resource = match &*it.subresource {
        "" => it.resource.clone(),
        subresource => format!("{}/{subresource}", it.resource),
    };
    let names = match &*it.name {
        "" => String::new(),
        name => format!("resourceNames: [{name}], "),
    };
    let (role, of) = match review.namespace {
        Some(_) => ("Role", who(review)),
        None => ("ClusterRole", who(review)),
    };
    let group = match &*it.group {
        "" => "\"\"",
        group => group,
    };
    format!(
        "add to a {role} of {of}: {{apiGroups: [{group}], resources: [{resource}], {names}verbs: \
         [{}]}}",
        it.verb
    )
}

/// `patch deployments/scale my-app`.
fn phrase(it: &Attributes) -> String {
    let mut text = format!("{} {}", it.verb, it.resource);
    for (separator, part) in [("/", &*it.subresource), (" ", &*it.name)] {
        if !part.is_empty() {
            text += separator;
            text += part;
        }
    }
    text
}
