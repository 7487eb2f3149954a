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
use super::reply::{Failure, Reply};
use super::selected_service::{self, SelectedService};
use crate::clock::{Clock, WallClock};
use crate::workload::TargetRef;

/// The largest reply, in bytes.
const CAP: u64 = 4 << 20;

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

/// What somebody may do or not, in the words of RBAC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// `get`, `list`, `watch` or `patch`.
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

    /// Reads the scale target, which is found as the proxy finds it.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn target(&self, namespace: &str, target: &TargetRef) -> Result<Value, Fault> {
        let found = discovery::find(&self.client.calls(), namespace, target);
        match found {
            Ok(object) => self.get(&paths::object(namespace, &object)),
            Err(unfound) => read(unfound),
        }
    }

    /// Reads a Service.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn service(&self, namespace: &str, name: &str) -> Result<Value, Fault> {
        self.get(&paths::service(namespace, name))
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

    /// Whether something is allowed: to `user`, or without one to the credentials that
    /// are used.
    ///
    /// # Errors
    /// See [`Fault`]. To ask about somebody else takes the permission to create
    /// `localsubjectaccessreviews`.
    pub fn is_allowed(
        &self,
        namespace: &str,
        user: Option<&str>,
        attributes: &Attributes,
    ) -> Result<bool, Fault> {
        let (kind, path) = match user {
            Some(_) => {
                let namespace = segment(namespace);
                let plural = format!("namespaces/{namespace}/localsubjectaccessreviews");
                ("LocalSubjectAccessReview", plural)
            }
            None => (
                "SelfSubjectAccessReview",
                "selfsubjectaccessreviews".to_owned(),
            ),
        };
        let mut review = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": kind,
            "spec": { "resourceAttributes": attributes.json(namespace) },
        });
        if let Some(user) = user {
            review["metadata"] = json!({ "namespace": namespace });
            review["spec"]["user"] = json!(user);
        }
        let path = format!("/apis/authorization.k8s.io/v1/{path}");
        let reply = read(self.client.calls().review(&path, &review, CAP))?;
        let allowed = reply["status"]["allowed"].as_bool();
        allowed.ok_or_else(|| Fault::Failed(format!("a {kind} without status.allowed")))
    }
}

impl Attributes {
    fn json(&self, namespace: &str) -> Value {
        let mut attributes = json!({
            "namespace": namespace,
            "verb": self.verb,
            "group": self.group,
            "resource": self.resource,
        });
        for (key, value) in [("subresource", &*self.subresource), ("name", &*self.name)] {
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
        let recorded = [
            (
                None,
                attributes("patch", "scale"),
                "58-self-subject-access-review",
                false,
            ),
            (
                Some("system:serviceaccount:rec2:named"),
                attributes("watch", ""),
                "59-local-subject-access-review",
                true,
            ),
        ];
        for (user, attributes, name, allowed) in recorded {
            let server = serve(move |asked, stream| {
                assert_eq!(asked.target, testing::recorded_target(name));
                let recorded = testing::recorded_patch(name);
                let [asked, recorded] = [&asked.body, &recorded]
                    .map(|body| serde_json::from_str::<Value>(body).unwrap());
                assert_eq!(asked, recorded);
                let body = String::from_utf8(recorded_body(name)).unwrap();
                testing::reply(stream, 201, "", &body)
            });
            let answer = inspector(server).is_allowed("rec2", user, &attributes);
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
    fn a_name_stays_in_its_segment() {
        assert_eq!(segment("a/../b?c"), "a%2F..%2Fb%3Fc");
    }
}
