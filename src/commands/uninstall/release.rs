//! [`Release`]: how one sees that proxies have let apps go.
//!
//! The `/status` of each pod names the apps that it has, those that drain among them. It is read
//! through the API server. Where that is refused, or does not reach the pods, the longest time
//! that a proxy takes is waited: until it sees the change, and until it has drained.

use std::thread;
use std::time::Duration;

use super::apps::App;
use super::proxies::{Proxy, Serves};
use super::text;
use crate::clock::Clock;
use crate::duration;
use crate::kube::inspect::{Fault, Inspector, segment};

/// The interval at which the proxies are asked.
const PAUSE: Duration = Duration::from_secs(1);

/// How long a change of a Service may take to be seen by a proxy that watches,
const WATCHED: Duration = Duration::from_secs(10);

/// and one of a ConfigMap to be in the files of a pod, which the kubelet writes once a minute by
/// default, of what it has read up to a minute before.
const MOUNTED: Duration = Duration::from_secs(130);

/// The proxies that are to let apps go.
pub struct Release<'a> {
    inspector: &'a Inspector,
    proxies: &'a [&'a Proxy],
    /// What `/status` calls the apps.
    names: Vec<String>,
}

impl<'a> Release<'a> {
    pub fn new(inspector: &'a Inspector, proxies: &'a [&'a Proxy], apps: &[App]) -> Release<'a> {
        let name = |app: &App| format!("{}/{}", app.key.namespace, app.service_name);
        Release {
            inspector,
            proxies,
            names: apps.iter().map(name).collect(),
        }
    }

    /// Whether no pod of the proxies has any of the apps.
    ///
    /// # Errors
    /// Why the pods cannot be asked.
    pub fn ask(&self) -> Result<bool, Fault> {
        for proxy in self.proxies {
            let Some(admin) = proxy.settings.admin_listen else {
                return Err(Fault::Failed("has no admin port".to_owned()));
            };
            let listed = pods(&proxy.namespace, &proxy.selector);
            let list = self.inspector.get(&listed)?;
            for pod in list["items"].as_array().into_iter().flatten() {
                if pod["status"]["phase"] != "Running" {
                    continue;
                }
                let namespace = segment(&proxy.namespace);
                let name = segment(text(&pod["metadata"]["name"]));
                let path = format!(
                    "/api/v1/namespaces/{namespace}/pods/{name}:{}/proxy/status",
                    admin.port()
                );
                let status = self.inspector.get(&path)?;
                let apps = status["apps"].as_array().into_iter().flatten();
                let mut names = apps.map(|app| text(&app["app"]["name"]));
                if names.any(|name| self.names.iter().any(|it| it == name)) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Waits until they have let the apps go.
    ///
    /// # Errors
    /// That they have not within that time.
    pub fn wait(&self, longest: Duration, clock: Clock) -> Result<(), Fault> {
        let start = clock();
        let bound = self
            .proxies
            .iter()
            .map(|proxy| bound(proxy))
            .max()
            .unwrap_or_default();
        let mut has_answered = false;
        loop {
            let passed = clock().since(start);
            match self.ask() {
                Ok(true) => return Ok(()),
                Ok(false) => has_answered = true,
                Err(_) if passed >= bound && !has_answered => return Ok(()),
                Err(_) => {}
            }
            if passed >= longest {
                let wait = duration::display(longest);
                return Err(Fault::Failed(format!("not within {wait}")));
            }
            thread::sleep(PAUSE);
        }
    }
}

/// The longest time that a proxy takes to let an app go.
fn bound(proxy: &Proxy) -> Duration {
    let settings = &proxy.settings;
    let seen = match proxy.serves {
        Serves::Found(_) => WATCHED,
        Serves::One(_) | Serves::List(_) | Serves::UnknownList(_) => MOUNTED,
    };
    seen + settings.drain_delay + settings.drain_timeout
}

/// The path of the pods that a selector selects.
pub fn pods(namespace: &str, selector: &str) -> String {
    let namespace = segment(namespace);
    format!("/api/v1/namespaces/{namespace}/pods?labelSelector={selector}")
}
