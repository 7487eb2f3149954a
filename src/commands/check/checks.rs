//! The checks of `zpa check` as data, and their [`CheckResult`]s. `table` has them, `verdict`
//! judges, `hint` says how to mend what is found.

mod hint;
mod permissions;
mod ports;
mod table;
mod verdict;

use serde_json::Value;

pub use self::permissions::of_review;
use self::table::CHECKS;
pub use self::verdict::Verdict;
use super::facts::Facts;
use crate::kube::inspect::Fault;
use crate::settings::Settings;

/// The code of the checks of the Services by which apps are found.
pub const DISCOVERY: &str = "DISCOVERY";
/// The code of the checks of the proxy's permissions.
pub const PERMISSION: &str = "PERMISSION";

/// The app that is checked.
pub struct Case<'a> {
    /// The settings of the proxy for it.
    pub settings: &'a Settings,
    /// Whether the proxy is not installed yet.
    pub before_install: bool,
    /// What was read.
    pub facts: &'a Facts,
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
    /// The app; `None` if only one is checked, or none.
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
    /// How to mend it, in lines; empty where nothing is to be mended.
    pub hint: String,
    /// Whether it may become true by itself.
    pub is_transient: bool,
}

impl CheckResult {
    /// Whether it is not true yet, and may become true by itself. What makes no difference to
    /// the exit code is not waited for.
    pub fn may_still_pass(&self) -> bool {
        self.is_transient && self.severity == Severity::Fatal && self.verdict.is_trouble()
    }
}

/// A check.
struct Check {
    code: &'static str,
    category: &'static str,
    /// What should be true.
    description: &'static str,
    severity: Severity,
    /// Whether it may become true by itself, so that `--wait` repeats it.
    is_transient: bool,
    /// What it needs: where that is not there the check is skipped.
    needs: &'static [Need],
    examine: Examine,
    /// How to mend what it has found, by what was read.
    hint: fn(&Case<'_>) -> String,
    /// The same in general, for [`explain`].
    mend: &'static str,
    /// What it looks at and why, for [`explain`].
    about: &'static str,
}

/// How a check comes to its verdict.
enum Examine {
    /// By the version of the API server.
    Cluster(fn(&Result<Value, Fault>) -> Verdict),
    /// By what was read about an app.
    App(fn(&Case<'_>) -> Verdict),
    /// The same, with a result for each of several things.
    Each(fn(&Case<'_>) -> Vec<Part>),
    /// By the Services, before there is an app.
    Services,
}

/// One of several results of a check.
pub struct Part {
    description: String,
    severity: Severity,
    verdict: Verdict,
    hint: String,
}

/// What a check needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// That the proxy is installed.
    Installed,
    /// The scale target.
    Target,
    /// Its pod template.
    Template,
    /// The Service.
    Service,
    /// That the Service's pods are dialled.
    Pods,
    /// The Deployments of the proxies.
    Deployments,
    /// That one of them is in front of the app.
    Proxy,
    /// The HPAs.
    Autoscalers,
}

impl Need {
    /// Why it is not there; `None` if it is.
    fn missing(self, case: &Case<'_>) -> Option<&'static str> {
        let Case {
            settings, facts, ..
        } = case;
        let (is_missing, why) = match self {
            Need::Installed => (case.before_install, "--pre: not installed yet"),
            Need::Target => (facts.target.is_err(), "what is scaled could not be read"),
            Need::Template => {
                let has_none = |it: &Value| it["spec"]["template"].is_null();
                let is_missing = facts.target.as_ref().is_ok_and(has_none);
                (is_missing, "what is scaled has no pod template")
            }
            Need::Service => (facts.service.is_err(), "the Service could not be read"),
            Need::Pods => {
                let is_other = settings.target.is_some() && !settings.pods_first;
                (is_other, "--target is dialled in place of the pods")
            }
            Need::Deployments => (facts.proxies.is_err(), "Deployments could not be listed"),
            Need::Proxy => {
                let has_none = facts.proxies.as_ref().is_ok_and(Vec::is_empty);
                (has_none, "no proxy was found")
            }
            Need::Autoscalers => (facts.autoscalers.is_err(), "HPAs could not be listed"),
        };
        is_missing.then_some(why)
    }
}

impl Check {
    fn result(&self, description: &str, verdict: Verdict, hint: String) -> CheckResult {
        CheckResult {
            app: None,
            code: self.code,
            category: self.category,
            description: description.to_owned(),
            severity: self.severity,
            hint: match verdict.is_trouble() {
                true => hint,
                false => String::new(),
            },
            verdict,
            is_transient: self.is_transient,
        }
    }

    fn skipped(&self, why: &'static str) -> CheckResult {
        let verdict = Verdict::Skipped(why.to_owned());
        self.result(self.description, verdict, String::new())
    }

    fn part(&self, part: Part) -> CheckResult {
        CheckResult {
            severity: part.severity,
            ..self.result(&part.description, part.verdict, part.hint)
        }
    }

    /// The results for an app.
    fn of_app(&self, case: &Case<'_>) -> Vec<CheckResult> {
        let mut needs = self.needs.iter();
        let missing = needs.find_map(|need| need.missing(case));
        match self.examine {
            Examine::Cluster(_) | Examine::Services => Vec::new(),
            _ if missing.is_some() => missing.into_iter().map(|why| self.skipped(why)).collect(),
            Examine::App(judge) => {
                let verdict = judge(case);
                let hint = match verdict.is_trouble() {
                    true => (self.hint)(case),
                    false => String::new(),
                };
                vec![self.result(self.description, verdict, hint)]
            }
            Examine::Each(judge) => {
                let parts = judge(case).into_iter();
                parts.map(|part| self.part(part)).collect()
            }
        }
    }
}

/// The results about the API server itself.
pub fn of_cluster(version: &Result<Value, Fault>) -> Vec<CheckResult> {
    let results = CHECKS.iter().filter_map(|check| match check.examine {
        Examine::Cluster(judge) => {
            Some(check.result(check.description, judge(version), check.mend.to_owned()))
        }
        _ => None,
    });
    results.collect()
}

/// The results for an app.
pub fn of_app(case: &Case<'_>) -> Vec<CheckResult> {
    CHECKS.iter().flat_map(|check| check.of_app(case)).collect()
}

/// The results for an app where the API server does not answer.
pub fn of_silence() -> Vec<CheckResult> {
    let of_app = |check: &&Check| matches!(check.examine, Examine::App(_));
    let checks = CHECKS.iter().filter(of_app);
    checks
        .map(|check| check.skipped("the API server does not answer"))
        .collect()
}

/// A result about the Services by which apps are found. What is written in one does not change
/// by itself.
pub fn of_services(description: String, verdict: Verdict, hint: String) -> CheckResult {
    named(DISCOVERY).result(&description, verdict, hint)
}

/// The check with that code, which is in the table.
fn named(code: &str) -> &'static Check {
    let found = CHECKS.iter().find(|check| check.code == code);
    found.unwrap_or(&CHECKS[0])
}

/// The explanation of the check with that code; `None` if there is none.
pub fn explain(code: &str) -> Option<String> {
    let code = code.to_ascii_uppercase();
    let check = CHECKS.iter().find(|check| check.code == code)?;
    Some(format!(
        "{code}: {}\n\n{}\n\nTo mend it: {}\n",
        check.description, check.about, check.mend
    ))
}

/// The codes of all checks.
pub fn codes() -> Vec<&'static str> {
    CHECKS.iter().map(|check| check.code).collect()
}

/// The table of the checks for the pages.
pub fn markdown_table() -> String {
    let rows = CHECKS.iter().map(|check| {
        let severity = match check.severity {
            Severity::Fatal => "×",
            Severity::Warning => "‼",
        };
        let wait = match check.is_transient && check.severity == Severity::Fatal {
            true => "yes",
            false => "",
        };
        let (code, description) = (check.code, check.description);
        format!("| `{code}` | {description} | {severity} | {wait} |\n")
    });
    let head = "| Code | What should be true | If not | `--wait` |\n|---|---|---|---|\n";
    head.to_owned() + &rows.collect::<String>()
}

#[cfg(test)]
mod tests;
