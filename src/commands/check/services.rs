//! The checks of the apps that are found by their Services: what their annotations say, and then
//! each of the checks of one app for each of them.

use super::checks::{CheckResult, Verdict, of_services};
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
    /// Their namespace; `None`: all.
    pub namespace: Option<String>,
}

impl Discovery {
    /// The results about the Services themselves, and the apps that they describe, the oldest
    /// first.
    pub fn examine(&self, inspector: &Inspector) -> (Vec<CheckResult>, Vec<Settings>) {
        let selector = &self.selector;
        let listed = format!("the Services with {selector} can be listed");
        let services = match inspector.selected_services(self.namespace.as_deref(), selector) {
            Ok(services) => services,
            Err(fault) => {
                let hint = match &self.namespace {
                    Some(_) => "list and watch services in a Role",
                    None => "list and watch services in a ClusterRole, or give one --namespace",
                };
                let verdict = Verdict::Unknown(fault.words().to_owned());
                return (
                    vec![of_services(listed, verdict, hint.to_owned())],
                    Vec::new(),
                );
            }
        };
        let mut results = vec![of_services(listed, Verdict::Good, String::new())];
        let mut apps: Vec<(String, Settings)> = Vec::new();
        for service in by_age(services) {
            let name = format!("{}/{}", service.namespace, service.name);
            let verdict = match read(&self.process, &service, &apps) {
                None => {
                    let why = "no annotation zero-pod-autoscaler/listen: it is no app";
                    Verdict::Skipped(why.to_owned())
                }
                Some(Err(why)) => Verdict::Bad(why),
                Some(Ok(app)) => {
                    apps.push((name.clone(), *app));
                    Verdict::Good
                }
            };
            let subject = format!("the annotations of {name} describe an app");
            results.push(of_services(subject, verdict, annotate(&service)));
        }
        if apps.is_empty() {
            let any = format!("a Service with {selector} is an app");
            let verdict = Verdict::Bad("there is none".to_owned());
            results.push(of_services(any, verdict, self.first()));
        }
        (results, apps.into_iter().map(|(_, app)| app).collect())
    }

    /// How to make a Service an app.
    fn first(&self) -> String {
        let namespace = self.namespace.as_deref().unwrap_or("NAMESPACE");
        let label = &self.selector;
        format!(
            "kubectl -n {namespace} label service NAME {label}\nkubectl -n {namespace} annotate \
             service NAME zero-pod-autoscaler/listen=:8080"
        )
    }
}

/// How to change an annotation of a Service.
fn annotate(service: &SelectedService) -> String {
    format!(
        "kubectl -n {} annotate --overwrite service {} zero-pod-autoscaler/SETTING=VALUE",
        service.namespace, service.name
    )
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
