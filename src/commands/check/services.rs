//! The checks of the apps that are found by their Services: what their annotations say, and then
//! each of the checks of one app for each of them.

use super::checks::{CheckResult, DISCOVERY, DISCOVERY_HINT, Severity, Verdict, words};
use crate::kube::SelectedService;
use crate::kube::inspect::Inspector;
use crate::settings::Settings;
use crate::settings::annotations::LISTEN;
use crate::settings::apps::{clash, clash_with_admin};

/// Where apps are found by their Services.
pub struct Discovery {
    /// The settings of the process, which has the defaults.
    pub process: Settings,
    /// The label selector of the Services.
    pub selector: String,
    /// Their namespace.
    pub namespace: String,
}

impl Discovery {
    /// The results about the Services themselves, and the apps that they describe, the oldest
    /// first.
    pub fn examine(&self, inspector: &Inspector) -> (Vec<CheckResult>, Vec<Settings>) {
        let selector = &self.selector;
        let listed = format!("the Services with {selector} can be listed");
        let services = match inspector.selected_services(Some(&self.namespace), selector) {
            Ok(services) => services,
            Err(fault) => {
                let verdict = Verdict::Unknown(words(&fault));
                return (vec![finding(listed, verdict)], Vec::new());
            }
        };
        let mut results = vec![finding(listed, Verdict::Good)];
        let mut apps: Vec<(String, Settings)> = Vec::new();
        for service in by_age(services) {
            let name = format!("{}/{}", service.namespace, service.name);
            let verdict = match read(&self.process, &service, &apps) {
                None => Verdict::Skipped("no annotation zero-pod-autoscaler/listen: it is no app"),
                Some(Err(why)) => Verdict::Bad(why),
                Some(Ok(app)) => {
                    apps.push((name.clone(), *app));
                    Verdict::Good
                }
            };
            let subject = format!("the annotations of {name} describe an app");
            results.push(finding(subject, verdict));
        }
        if apps.is_empty() {
            let any = format!("a Service with {selector} is an app");
            results.push(finding(any, Verdict::Bad("there is none".to_owned())));
        }
        (results, apps.into_iter().map(|(_, app)| app).collect())
    }
}

fn finding(description: String, verdict: Verdict) -> CheckResult {
    CheckResult {
        app: None,
        code: DISCOVERY,
        category: "services",
        description,
        severity: Severity::Fatal,
        verdict,
        hint: DISCOVERY_HINT,
        is_transient: true,
    }
}

fn by_age(mut services: Vec<SelectedService>) -> Vec<SelectedService> {
    services.sort_by(|a, b| {
        let age =
            |it: &SelectedService| (it.created.clone(), it.namespace.clone(), it.name.clone());
        age(a).cmp(&age(b))
    });
    services
}

/// The app of a Service, or what is wrong with it beside those of `older` ones; `None` if it
/// says nothing of an app.
fn read(
    process: &Settings,
    service: &SelectedService,
    older: &[(String, Settings)],
) -> Option<Result<Box<Settings>, String>> {
    let Some(annotations) = &service.annotations else {
        return Some(Err("the annotations are too long".to_owned()));
    };
    if !annotations.contains_key(LISTEN) {
        return None;
    }
    let app = match process.read_annotations(&service.namespace, &service.name, annotations) {
        Ok(app) => app,
        Err(errors) => return Some(Err(errors.lines().collect::<Vec<_>>().join("; "))),
    };
    let mut conflicts = older.iter().filter_map(|(name, other)| {
        let why = clash(&app, other)?;
        Some(format!("{why} the older Service {name} too"))
    });
    let conflict = clash_with_admin(&app, process.admin_listen).or_else(|| conflicts.next());
    Some(match conflict {
        Some(why) => Err(why),
        None => Ok(Box::new(app)),
    })
}
