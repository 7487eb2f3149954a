//! The API server without its sockets: routes, permissions and verbs, from a request to its reply.
//!
//! Every rule and every message was read off the recordings of a real API
//! server in `tests/recordings`. No sockets and no waiting in here.

use std::time::Duration;

use serde_json::{Value, json};

use super::access::{Access, Target, is_true};
use super::discovery;
use super::event_rules;
use super::http::{Reply, Request};
use super::objects::{bookmark, event};
use super::pages;
use super::patch;
use super::pod_proxy;
use super::review;
use super::selector::Selector;
use super::store::{Resource, Store, TooOld, text};

/// How long a watch lasts if the client doesn't say (the API server: 30 to 60
/// minutes).
const WATCH_TIMEOUT: Duration = Duration::from_secs(1_800);

/// A watch that has been admitted.
#[derive(Clone, Debug)]
pub struct Watch {
    pub resource: Resource,
    /// Empty: all of them.
    pub namespace: String,
    pub selector: Selector,
    /// The version after which changes are sent.
    pub from: u64,
    /// Whether that version is known.
    pub start: Result<(), TooOld>,
    /// What is sent before any change: the objects as they are.
    pub initial: String,
    pub bookmarks: bool,
    pub timeout: Duration,
}

/// How a request is answered.
pub enum Answer {
    Reply(Reply),
    Watch(Watch),
}

/// Answers a request without a token: the API server takes it for one of
/// `system:anonymous`, who may see the version and nothing else here.
fn anonymous(request: &Request) -> Reply {
    match Target::of(request) {
        Some(target) => target.forbidden_to("system:anonymous"),
        None if request.path == "/version" => version(),
        None => no_such_page(),
    }
}

/// Answers one request. `trusted`: it came through the plain listener, where
/// `kubectl proxy` would have put its own credentials in.
pub fn answer(store: &mut Store, access: &Access, trusted: bool, request: &Request) -> Answer {
    let token = request
        .header("authorization")
        .and_then(|v| v.strip_prefix("Bearer "));
    if !trusted && token.unwrap_or_default().is_empty() {
        return Answer::Reply(anonymous(request));
    }
    if !trusted && token != Some(&access.token) {
        return Answer::Reply(unauthorized());
    }
    if request.path == "/version" && request.method == "GET" {
        return Answer::Reply(version());
    }
    if let Some(reply) = review::answer(access, store, request) {
        return Answer::Reply(reply);
    }
    let Some(target) = Target::of(request) else {
        return Answer::Reply(discovery::answer(request).unwrap_or_else(no_such_page));
    };
    if !access.permits(&target, &Selector::of(request)) {
        return Answer::Reply(target.forbidden(access));
    }
    let Some(resource) = Resource::of(&target.group, &target.version, &target.plural) else {
        return Answer::Reply(no_such_page());
    };
    let answered = store.within(&target.namespace, |store| {
        answer_permitted(store, resource, &target, request)
    });
    match answered {
        Answer::Reply(reply) if resource == Resource::Endpoints => {
            Answer::Reply(reply.with("Warning", ENDPOINTS_WARNING))
        }
        answer => answer,
    }
}

/// The header with which the API server sees off users of `v1` Endpoints.
pub const ENDPOINTS_WARNING: &str =
    r#"299 - "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice""#;

fn answer_permitted(
    store: &mut Store,
    resource: Resource,
    target: &Target,
    request: &Request,
) -> Answer {
    let subresource = target.subresource.as_deref();
    Answer::Reply(match (target.verb, subresource) {
        ("watch", None) => return watch(store, resource, target, request),
        ("list", None) => pages::list(store, resource, &Selector::of(request), request),
        ("create", None) => create(store, resource, target, request),
        ("delete", None) => delete(store, resource, target),
        (_, Some("scale")) if !resource.is_scalable() => no_such_page(),
        ("get", Some("scale")) => scale(store, resource, target),
        ("get", Some("proxy")) => pod_proxy::answer(store, target, request),
        ("get", _) => found(store, resource, target, Value::clone),
        ("patch", _) => patch::answer(store, resource, target, subresource, request),
        _ => no_such_page(),
    })
}

/// The scale of an object. A custom kind has no default for a count that is not
/// there (`scaleFromCustomResource` in apiextensions-apiserver).
fn scale(store: &Store, resource: Resource, target: &Target) -> Reply {
    let object = store.get(resource, target.name());
    if resource.is_custom() && object.is_some_and(|it| it["spec"]["replicas"].is_null()) {
        let message = "Internal error occurred: the spec replicas field \".spec.replicas\" does \
                       not exist";
        return Reply::failure(500, "InternalError", message, None);
    }
    found(store, resource, target, patch::scale_of)
}

fn found(
    store: &Store,
    resource: Resource,
    target: &Target,
    show: impl Fn(&Value) -> Value,
) -> Reply {
    match store.get(resource, target.name()) {
        Some(object) => Reply::json(200, &show(object)),
        None => target.not_found(),
    }
}

fn watch(store: &Store, resource: Resource, target: &Target, request: &Request) -> Answer {
    let selector = Selector::of(request);
    let bookmarks = is_true(request, "allowWatchBookmarks");
    let asked = request.parameter("resourceVersion").unwrap_or_default();
    let wants_initial = is_true(request, "sendInitialEvents");
    let (from, initial) = match asked.parse() {
        Ok(from) if from > 0 && !wants_initial => (from, String::new()),
        Err(_) if !asked.is_empty() => return Answer::Reply(bad_version(&asked)),
        // No version, or any: the objects as they are come first.
        _ => {
            let end = wants_initial && bookmarks;
            (
                store.version(),
                initial_events(store, resource, &selector, end),
            )
        }
    };
    let timeout = request
        .parameter("timeoutSeconds")
        .and_then(|v| v.parse().ok());
    let timeout = timeout.map_or(WATCH_TIMEOUT, Duration::from_secs);
    let start = store.check_start(from);
    Answer::Watch(Watch {
        resource,
        namespace: target.namespace.clone(),
        selector,
        from,
        start,
        initial,
        bookmarks,
        timeout,
    })
}

fn initial_events(store: &Store, resource: Resource, selector: &Selector, end: bool) -> String {
    let selected = store
        .list(resource)
        .filter(|object| selector.selects(object));
    let mut lines: String = selected.map(|object| event("ADDED", object)).collect();
    if end {
        let mut bookmark = bookmark(resource, store.version());
        bookmark["metadata"]["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        lines.push_str(&event("BOOKMARK", &bookmark));
    }
    lines
}

/// Deletes an object; the reply is a Status, as for every kind here.
fn delete(store: &mut Store, resource: Resource, target: &Target) -> Reply {
    if !store.delete(resource, target.name()) {
        return target.not_found();
    }
    let status =
        json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success" });
    Reply::json(200, &status)
}

fn create(store: &mut Store, resource: Resource, target: &Target, request: &Request) -> Reply {
    let Ok(mut object) = serde_json::from_slice::<Value>(&request.body) else {
        return Reply::failure(
            400,
            "BadRequest",
            "the object provided is unrecognized",
            None,
        );
    };
    if resource == Resource::Events
        && let Err(reply) = event_rules::check_new(&mut object)
    {
        return reply;
    }
    let name = text(&object["metadata"]["name"]).to_owned();
    match store.create(resource, object) {
        Some(created) => Reply::json(201, &created),
        None => target.already_exists(&name),
    }
}

/// 401.
pub fn unauthorized() -> Reply {
    Reply::failure(401, "Unauthorized", "Unauthorized", None)
}

fn bad_version(asked: &str) -> Reply {
    let message = format!("Invalid value: \"{asked}\": strconv.ParseUint: invalid syntax");
    Reply::failure(400, "BadRequest", &message, None)
}

fn no_such_page() -> Reply {
    let body = "404 page not found\n".to_owned();
    Reply {
        status: 404,
        headers: Vec::new(),
        body,
    }
    .with("Content-Type", "text/plain; charset=utf-8")
}

fn version() -> Reply {
    Reply::json(
        200,
        &json!({
            "major": "1",
            "minor": "36",
            "emulationMajor": "1",
            "emulationMinor": "36",
            "minCompatibilityMajor": "1",
            "minCompatibilityMinor": "35",
            "gitVersion": "v1.36.0-sandbox",
            "gitCommit": "0000000000000000000000000000000000000000",
            "gitTreeState": "",
            "buildDate": "1970-01-01T00:00:00Z",
            "goVersion": "none",
            "compiler": "rustc",
            "platform": "linux/amd64",
        }),
    )
}
