//! [`Inspector`]: single reads and access reviews, for a command that looks at a cluster
//! without running the proxy.

use std::sync::Arc;

use percent_encoding::utf8_percent_encode;
use serde_json::{Value, json};

use super::access::Access;
use super::client::{Calls, Client};
use super::credentials::Credentials;
use super::discovery;
use super::patch::Patch;
use super::paths::{self, UNRESERVED};
use super::pod_problem::{self, Diagnosis};
use super::reply::{Failure, Reply};
use super::selected_service::{self, SelectedService};
use crate::clock::{Clock, WallClock};
use crate::cluster::PodProblem;
use crate::workload::TargetRef;

/// The largest reply, in bytes.
const CAP: u64 = 4 << 20;

/// The objects in a page of a list.
const PAGE: usize = 100;

/// The most pages of a list.
const MAX_PAGES: usize = 100;

/// A connection to the API server for one request after the other.
pub struct Inspector {
    client: Client,
}

/// Why a request got nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// 404.
    NotFound,
    /// 401 or 403, in the API server's words.
    Refused(String),
    /// 409: the object has changed meanwhile.
    Conflict,
    /// No reply, or another one than expected.
    Failed(String),
}

impl Fault {
    /// What to print of it.
    pub fn words(&self) -> &str {
        match self {
            Fault::NotFound => "not found",
            Fault::Conflict => "the object changes all the time",
            Fault::Refused(why) | Fault::Failed(why) => why,
        }
    }
}

/// Whose permissions are reviewed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reviewed {
    /// The user whose credentials are used.
    Caller,
    /// A service account.
    ServiceAccount {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

impl Reviewed {
    /// The kind of the review in a namespace, or in all of them.
    pub fn review(&self, namespace: Option<&str>) -> &'static str {
        match (self, namespace) {
            (Reviewed::Caller, _) => "SelfSubjectAccessReview",
            (Reviewed::ServiceAccount { .. }, Some(_)) => "LocalSubjectAccessReview",
            (Reviewed::ServiceAccount { .. }, None) => "SubjectAccessReview",
        }
    }
}

/// What somebody may do or not, in the words of RBAC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// `get`, `list`, `watch`, `patch` or `create`.
    pub verb: &'static str,
    /// The API group; empty for the core group.
    pub group: String,
    /// The plural.
    pub resource: String,
    /// The subresource; empty for the object itself.
    pub subresource: String,
    /// The object's name; empty for all objects.
    pub name: String,
}

impl Inspector {
    /// Reads the credentials.
    ///
    /// # Errors
    /// Which of them is of no use, and why.
    pub fn new(access: Access, clock: Clock, wall: WallClock) -> Result<Inspector, String> {
        let credentials = Credentials::read(access, clock, wall)?;
        let client = Client::new(Arc::new(credentials), Arc::default());
        Ok(Inspector { client })
    }

    /// Reads what is at `path`, whose segments are made with [`segment`].
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn get(&self, path: &str) -> Result<Value, Fault> {
        read(self.client.calls().get(path, CAP))
    }

    /// Deletes the object at `path`; one that is gone is no error.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn delete(&self, path: &str) -> Result<(), Fault> {
        match successful(self.calls().delete(path, CAP)) {
            Ok(_) | Err(Fault::NotFound) => Ok(()),
            Err(why) => Err(why),
        }
    }

    pub(super) fn patch(&self, path: &str, patch: &Patch) -> Result<(), Fault> {
        successful(self.calls().patch(path, patch, CAP)).map(|_| ())
    }

    pub(super) fn calls(&self) -> Calls<'_> {
        self.client.calls()
    }

    /// Reads the scale target, which is found as the proxy finds it. A custom kind that counts
    /// its replicas elsewhere gets a `spec.replicas` from its Scale.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn target(&self, namespace: &str, target: &TargetRef) -> Result<Value, Fault> {
        let object = match discovery::find(&self.client.calls(), namespace, target) {
            Ok(object) => object,
            Err(unfound) => return read(unfound),
        };
        let path = paths::object(namespace, &object);
        let mut found = self.get(&path)?;
        if object.resource.is_custom() && found["spec"]["replicas"].is_null() {
            let scale = self.get(&paths::scale(&path))?;
            let replicas = scale["spec"]["replicas"].as_u64().unwrap_or(0);
            if found["spec"].is_null() {
                found["spec"] = json!({});
            }
            if let Some(spec) = found["spec"].as_object_mut() {
                spec.insert("replicas".to_owned(), replicas.into());
            }
        }
        Ok(found)
    }

    /// Reads a Service.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn service(&self, namespace: &str, name: &str) -> Result<Value, Fault> {
        self.get(&paths::service(namespace, name))
    }

    /// Reads a ConfigMap.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn config_map(&self, namespace: &str, name: &str) -> Result<Value, Fault> {
        self.get(&paths::config_map(namespace, name))
    }

    /// Lists the Services of a namespace, or of all, that `selector` selects by their labels.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn selected_services(
        &self,
        namespace: Option<&str>,
        selector: &str,
    ) -> Result<Vec<SelectedService>, Fault> {
        let path = paths::selected_services(namespace, selector);
        let reply = successful(self.client.calls().list(&path, CAP))?;
        selected_service::listed(&reply.body).map_err(|_| not_json())
    }

    /// Lists all objects at `path`, page by page; one with a selector has a query already.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn items(&self, path: &str) -> Result<Vec<Value>, Fault> {
        let separator = if path.contains('?') { '&' } else { '?' };
        let mut page = format!("{path}{separator}limit={PAGE}");
        let mut items = Vec::new();
        for _ in 0..MAX_PAGES {
            let list = self.get(&page)?;
            items.extend(list["items"].as_array().into_iter().flatten().cloned());
            let Some(rest) = list["metadata"]["continue"]
                .as_str()
                .filter(|it| !it.is_empty())
            else {
                return Ok(items);
            };
            page = format!("{path}{separator}limit={PAGE}&continue={}", segment(rest));
        }
        Err(Fault::Failed(format!(
            "more than {} objects",
            PAGE * MAX_PAGES
        )))
    }

    /// Why pods with these labels are not ready, as far as their statuses say it.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn pod_problem(
        &self,
        namespace: &str,
        labels: &Value,
    ) -> Result<Option<PodProblem>, Fault> {
        let labels = labels.as_object().into_iter().flatten();
        let labels = labels.filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)));
        let selector = segment(&labels.collect::<Vec<_>>().join(","));
        let namespace = segment(namespace);
        let path = format!("/api/v1/namespaces/{namespace}/pods?labelSelector={selector}");
        let mut pods = self.items(&path)?;
        pods.retain(|pod| !pod_problem::is_ready(pod));
        let unready = json!({ "items": pods }).to_string();
        let listed = pod_problem::diagnose(unready.as_bytes());
        Ok(listed.and_then(|listed| match listed.diagnosis {
            Diagnosis::Problem(problem) => Some(problem),
            Diagnosis::Nothing | Diagnosis::Unexplained { .. } => None,
        }))
    }

    /// Whether something is allowed in a namespace, or in all of them.
    ///
    /// # Errors
    /// See [`Fault`]. To ask about a service account takes the permission to create
    /// `localsubjectaccessreviews` or, of all namespaces, `subjectaccessreviews`.
    pub fn is_allowed(
        &self,
        namespace: Option<&str>,
        whose: &Reviewed,
        attributes: &Attributes,
    ) -> Result<bool, Fault> {
        let kind = whose.review(namespace);
        let plural = format!("{}s", kind.to_ascii_lowercase());
        let mut review = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": kind,
            "spec": { "resourceAttributes": attributes.json(namespace) },
        });
        let mut path = plural;
        if let Reviewed::ServiceAccount {
            namespace: home,
            name,
        } = whose
        {
            review["spec"]["user"] = json!(format!("system:serviceaccount:{home}:{name}"));
            // Those of every token of a service account: a review knows the groups that it names.
            review["spec"]["groups"] = json!([
                "system:serviceaccounts",
                format!("system:serviceaccounts:{home}"),
                "system:authenticated",
            ]);
            if let Some(namespace) = namespace {
                review["metadata"] = json!({ "namespace": namespace });
                path = format!("namespaces/{}/{path}", segment(namespace));
            }
        }
        let path = format!("/apis/authorization.k8s.io/v1/{path}");
        let reply = read(self.client.calls().review(&path, &review, CAP))?;
        let allowed = reply["status"]["allowed"].as_bool();
        allowed.ok_or_else(|| Fault::Failed(format!("a {kind} without status.allowed")))
    }
}

impl Attributes {
    fn json(&self, namespace: Option<&str>) -> Value {
        let mut attributes = json!({
            "verb": self.verb,
            "group": self.group,
            "resource": self.resource,
        });
        for (key, value) in [
            ("namespace", namespace.unwrap_or_default()),
            ("subresource", &*self.subresource),
            ("name", &*self.name),
        ] {
            if !value.is_empty() {
                attributes[key] = json!(value);
            }
        }
        attributes
    }
}

/// `text` as one segment of a path.
pub fn segment(text: &str) -> String {
    utf8_percent_encode(text, UNRESERVED).to_string()
}

/// Why a call got nothing that was not successful.
pub(super) fn fault(reply: Result<Reply, Failure>) -> Fault {
    match successful(reply) {
        Ok(_) => not_json(),
        Err(why) => why,
    }
}

fn read(reply: Result<Reply, Failure>) -> Result<Value, Fault> {
    let reply = successful(reply)?;
    serde_json::from_slice(&reply.body).map_err(|_| not_json())
}

fn not_json() -> Fault {
    Fault::Failed("a reply that is no JSON".to_owned())
}

fn successful(reply: Result<Reply, Failure>) -> Result<Reply, Fault> {
    let reply = reply.map_err(|failure| Fault::Failed(failure.text))?;
    match reply.status {
        200..=299 => Ok(reply),
        404 => Err(Fault::NotFound),
        409 => Err(Fault::Conflict),
        401 | 403 => Err(Fault::Refused(reply.explanation())),
        _ => Err(Fault::Failed(reply.explanation())),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{self, recorded_body, serve};
    use super::*;

    fn attributes(verb: &'static str, subresource: &str) -> Attributes {
        Attributes {
            verb,
            group: "apps".to_owned(),
            resource: "deployments".to_owned(),
            subresource: subresource.to_owned(),
            name: "myapp".to_owned(),
        }
    }

    fn inspector(server: std::net::SocketAddr) -> Inspector {
        Inspector::new(testing::access(server), testing::clock, || 0).unwrap()
    }

    #[test]
    fn the_reviews_are_asked_for_as_recorded() {
        let account = Reviewed::ServiceAccount {
            namespace: "rec2".to_owned(),
            name: "named".to_owned(),
        };
        let recorded = [
            (
                Reviewed::Caller,
                attributes("patch", "scale"),
                "58-self-subject-access-review",
                false,
            ),
            (
                account,
                attributes("watch", ""),
                "59-local-subject-access-review",
                true,
            ),
        ];
        for (whose, attributes, name, allowed) in recorded {
            let server = serve(move |asked, stream| {
                assert_eq!(asked.target, testing::recorded_target(name));
                let recorded = testing::recorded_patch(name);
                let [asked, mut recorded] = [&asked.body, &recorded]
                    .map(|body| serde_json::from_str::<Value>(body).unwrap());
                if recorded["spec"]["user"].is_string() {
                    // The recorded one was about a grant to the account by its name.
                    recorded["spec"]["groups"] = json!([
                        "system:serviceaccounts",
                        "system:serviceaccounts:rec2",
                        "system:authenticated"
                    ]);
                }
                assert_eq!(asked, recorded);
                let body = String::from_utf8(recorded_body(name)).unwrap();
                testing::reply(stream, 201, "", &body)
            });
            let answer = inspector(server).is_allowed(Some("rec2"), &whose, &attributes);
            assert_eq!(answer, Ok(allowed), "{name}");
        }
    }

    #[test]
    fn what_is_not_there_is_not_what_is_refused() {
        for (status, expected) in [
            (404, Fault::NotFound),
            (403, Fault::Refused("403 no".to_owned())),
            (401, Fault::Refused("401 no".to_owned())),
            (500, Fault::Failed("500 no".to_owned())),
        ] {
            let server =
                serve(move |_, stream| testing::reply(stream, status, "", r#"{"message":"no"}"#));
            let answer = inspector(server).get("/version");
            assert_eq!(answer, Err(expected));
        }
    }

    #[test]
    fn a_custom_kind_that_counts_its_replicas_elsewhere_has_those_of_its_scale() {
        let server = serve(|asked, stream| {
            let body = match asked.target.rsplit('/').next() {
                Some("v1alpha1") => {
                    r#"{"resources":[{"name":"rollouts","kind":"Rollout","namespaced":true},{"name":"rollouts/scale","kind":"Scale","namespaced":true}]}"#
                }
                Some("argoproj.io") => {
                    r#"{"preferredVersion":{"version":"v1alpha1"},"versions":[{"version":"v1alpha1"}]}"#
                }
                Some("scale") => r#"{"kind":"Scale","spec":{}}"#,
                _ => r#"{"kind":"Rollout","metadata":{"name":"a"},"spec":{"size":0}}"#,
            };
            testing::reply(stream, 200, "", body)
        });
        let target = "rollouts.argoproj.io/a";
        let target =
            match crate::settings::parse([format!("--scale-target={target}").into()], |_| None) {
                Ok(crate::settings::Invocation::Run(settings)) => settings.target_ref,
                other => panic!("{other:?}"),
            };
        let found = inspector(server).target("shop", &target).unwrap();
        assert_eq!(found["spec"], json!({ "size": 0, "replicas": 0 }));
    }

    #[test]
    fn a_name_stays_in_its_segment() {
        assert_eq!(segment("a/../b?c"), "a%2F..%2Fb%3Fc");
    }
}
