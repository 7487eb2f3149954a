//! What there is: the apps, the proxies before them, and the objects of those.

use super::apps::{self, App, Key};
use super::objects::{objects, place};
use super::plan::{Facts, Found, Pods, listed};
use super::proxies::{self, Proxy, Serves};
use super::release::Release;
use super::{LABEL, NAME, Uninstall, line, text};
use crate::commands::check::settings_of;
use crate::kube::inspect::{Fault, segment};
use crate::kube::removal::Traces;

/// What a proxy is to the apps.
enum Role {
    /// It has no other app.
    Whole,
    /// It has others too.
    Shared,
    /// It has none of them, and may have had one until a moment ago.
    Other,
    /// Its list cannot be read, or not be edited, and why.
    Unknown(String),
    /// It never had one.
    None,
}

impl Uninstall {
    pub(super) fn gather(&self) -> Result<Facts, String> {
        let proxies = proxies::proxies(&self.inspector, &self.namespace);
        let proxies = proxies.map_err(|why| line("the Deployments of the proxies", &why))?;
        let mut facts = Facts {
            apps: apps::apps(&self.settings, &self.namespace, &self.inspector)?,
            are_all_found: self.settings.discover.is_some(),
            ..Facts::default()
        };
        let mut names: Vec<(String, String)> = self.further_names();
        let mut whole = Vec::new();
        for proxy in proxies {
            let name = (proxy.namespace.clone(), proxy.name.clone());
            match self.role(&proxy, &facts) {
                Role::Whole => {
                    facts.pods.push(Pods {
                        namespace: proxy.namespace.clone(),
                        selector: proxy.selector.clone(),
                    });
                    self.add_own_list(&proxy, &mut facts);
                    self.add_pods_service(&proxy, &mut facts)?;
                    whole.push(proxy);
                    names.push(name);
                }
                Role::Shared => {
                    facts.hints.extend(hint_about_list(&proxy, &facts.apps));
                    facts.shared.push(proxy);
                }
                Role::Other => facts.others.push(proxy),
                Role::Unknown(why) => self.add_unknown(&proxy, &why, &mut facts)?,
                Role::None => {}
            }
        }
        names.sort_unstable();
        names.dedup();
        for (namespace, name) in &names {
            facts
                .objects
                .extend(objects(&self.inspector, namespace, name).map_err(unread)?);
        }
        for proxy in &whole {
            self.add_fronts(proxy, &mut facts)?;
        }
        self.add_unlabelled(&mut facts)?;
        // By kind, as the kinds are in order.
        facts.objects.sort_by_key(|found| place(found.plural));
        Ok(facts)
    }

    /// The names of objects whose Deployment may be gone.
    fn further_names(&self) -> Vec<(String, String)> {
        let is_one = self.settings.apps.is_none() && self.settings.discover.is_none();
        let app = self.settings.target_ref.name().filter(|_| is_one);
        let usual = app.map(|app| format!("{}-zpa", app.replace('.', "-")));
        let names = self.name.clone().or(usual);
        names
            .map(|name| (self.namespace.clone(), name))
            .into_iter()
            .collect()
    }

    /// What a proxy is to the apps.
    fn role(&self, proxy: &Proxy, facts: &Facts) -> Role {
        let apps = &facts.apps;
        match &proxy.serves {
            Serves::One(key) if apps.iter().any(|app| app.key == *key) => Role::Whole,
            Serves::One(_) => Role::None,
            Serves::UnknownList(why) => Role::Unknown(why.clone()),
            Serves::List(list) => match listed(proxy, apps).count() {
                0 => Role::Other,
                count if count == list.apps.len() => Role::Whole,
                _ => Role::Shared,
            },
            Serves::Found(_) if self.is_whole(proxy) => Role::Whole,
            Serves::Found(services) => {
                let is_found = |app: &App| {
                    let name = (app.key.namespace.clone(), app.service_name.clone());
                    services.contains(&name)
                };
                match apps.iter().any(is_found) {
                    true => Role::Shared,
                    false => Role::Other,
                }
            }
        }
    }

    /// Whether it finds its apps as the settings say.
    fn is_whole(&self, proxy: &Proxy) -> bool {
        let (own, other) = (&self.settings, &proxy.settings);
        let namespace = other.namespace.as_ref().unwrap_or(&proxy.namespace);
        other.discover == own.discover
            && other.all_namespaces == own.all_namespaces
            && (own.all_namespaces || *namespace == self.namespace)
    }

    /// Adds the ConfigMap of a list that came with its proxy.
    fn add_own_list(&self, proxy: &Proxy, facts: &mut Facts) {
        if let Serves::List(list) = &proxy.serves
            && list.is_ours
        {
            facts.objects.push(Found {
                plural: "configmaps",
                kind: "ConfigMap",
                namespace: Some(proxy.namespace.clone()),
                name: list.source.config_map.clone(),
                path: proxies::config_map(&proxy.namespace, &list.source.config_map),
                release: None,
            });
        }
    }

    /// Adds a note for each Deployment that runs with the settings of a proxy of an app, such as an
    /// ancestor's, and does not say by its labels that it is one.
    fn add_unlabelled(&self, facts: &mut Facts) -> Result<(), String> {
        let mut namespaces: Vec<&str> = facts.apps.iter().map(|it| &*it.key.namespace).collect();
        namespaces.sort_unstable();
        namespaces.dedup();
        let mut notes = Vec::new();
        for namespace in namespaces {
            let path = format!(
                "/apis/apps/v1/namespaces/{}/deployments",
                segment(namespace)
            );
            let deployments = match self.inspector.get(&path) {
                Err(Fault::Refused(_)) => continue,
                deployments => deployments.map_err(|why| line("the Deployments", &why))?,
            };
            for deployment in deployments["items"].as_array().into_iter().flatten() {
                let metadata = &deployment["metadata"];
                let is_labelled = metadata["labels"][LABEL] == NAME;
                let settings = settings_of(deployment).filter(|_| !is_labelled);
                let key = settings.map(|settings| Key::of(&settings, namespace));
                if let Some(key) = key.filter(|key| facts.apps.iter().any(|app| app.key == *key)) {
                    notes.push(format!(
                        "Deployment {0} has the settings of a proxy of {1}, and not the labels of \
                         zpa: if it is one, delete it by hand with what came with it (kubectl delete \
                         -n {namespace} deployment {0}), and run this again",
                        text(&metadata["name"]),
                        key.label()
                    ));
                }
            }
        }
        facts.notes.extend(notes);
        Ok(())
    }

    /// Adds the Service that the app's pods have got from a proxy that has taken over theirs.
    fn add_pods_service(&self, proxy: &Proxy, facts: &mut Facts) -> Result<(), String> {
        let (Serves::One(key), Some(name)) = (&proxy.serves, &proxy.settings.service) else {
            return Ok(());
        };
        let service = match self.inspector.service(&key.namespace, name) {
            Err(Fault::NotFound) => return Ok(()),
            service => service.map_err(unread)?,
        };
        let of_app = facts.apps.iter_mut().filter(|app| app.key == *key);
        for app in of_app.filter(|app| app.service_name != *name) {
            app.is_taken_over |= app
                .service
                .as_ref()
                .is_some_and(|it| proxy.is_selected_by(it));
            app.pods_service = Some(service.clone());
        }
        if service["metadata"]["labels"][LABEL] == NAME {
            let (namespace, segment) = (segment(&key.namespace), segment(name));
            facts.objects.push(Found {
                plural: "services",
                kind: "Service",
                namespace: Some(key.namespace.clone()),
                name: name.clone(),
                path: format!("/api/v1/namespaces/{namespace}/services/{segment}"),
                release: None,
            });
        }
        Ok(())
    }

    /// Adds a hint for each Service that is not deleted and leads to a proxy that is.
    fn add_fronts(&self, proxy: &Proxy, facts: &mut Facts) -> Result<(), String> {
        let namespace = &proxy.namespace;
        let path = format!("/api/v1/namespaces/{}/services", segment(namespace));
        let services = match self.inspector.get(&path) {
            Err(Fault::Refused(_)) => return Ok(()),
            services => services.map_err(|why| line("the Services", &why))?,
        };
        for service in services["items"].as_array().into_iter().flatten() {
            let name = text(&service["metadata"]["name"]);
            let is_deleted = |found: &Found| found.plural == "services" && found.name == name;
            // That of an app is led back.
            if facts.apps.iter().any(|app| app.service_name == name) {
                continue;
            }
            if proxy.is_selected_by(service) && !facts.objects.iter().any(is_deleted) {
                facts.hints.push(format!(
                    "left: the Service {name} leads to {} alone: kubectl delete -n {namespace} \
                     services {name}",
                    proxy.label()
                ));
            }
        }
        Ok(())
    }

    /// Adds what is to be done by hand about a proxy whose list is not known, if it may have one
    /// of the apps.
    ///
    /// # Errors
    /// That, if it has one.
    fn add_unknown(&self, proxy: &Proxy, why: &str, facts: &mut Facts) -> Result<(), String> {
        let file = proxy
            .settings
            .apps
            .as_deref()
            .unwrap_or("".as_ref())
            .display();
        let label = proxy.label();
        let cure = format!(
            "its list is not known, since {why}: take the app out of {file} by hand, restart the proxy if it does not \
             follow that (kubectl rollout restart -n {} deployment {}), and run this again",
            proxy.namespace, proxy.name
        );
        let proxies = [proxy];
        match Release::new(&self.inspector, &proxies, &facts.apps).ask() {
            Ok(true) => return Ok(()),
            Ok(false) => return Err(format!("{label} has the app: {cure}\n")),
            Err(_) => {}
        }
        let is_marked = |app: &App| !Traces::of(&app.target).is_empty();
        if facts.apps.iter().any(is_marked) {
            facts
                .notes
                .push(format!("{label} may have the app: {cure}"));
        }
        Ok(())
    }
}

/// What still names an app that has left a list.
fn hint_about_list(proxy: &Proxy, apps: &[App]) -> Option<String> {
    let names: Vec<String> = listed(proxy, apps).map(|key| key.label()).collect();
    (!names.is_empty()).then(|| {
        format!(
            "left: the Role and the Service of {} still name {}, as does the list in what you \
             apply",
            proxy.label(),
            names.join(", ")
        )
    })
}

fn unread(why: Fault) -> String {
    line("the objects of the proxies", &why)
}
