//! From a request to its answer: routes, permissions, and what each verb means.
//!
//! Every rule and every message was read off the recordings of a real API
//! server in `tests/recordings`. No sockets and no waiting in here.

use std::time::Duration;

use serde_json::{Value, json};

use super::discovery;
use super::http::{Reply, Request};
use super::objects::{bookmark, event};
use super::pages;
use super::patch;
use super::store::{Resource, Store, TooOld, text};

/// How long a watch lasts if the client doesn't say (the API server: 30 to 60
/// minutes).
const WATCH_TIMEOUT: Duration = Duration::from_secs(1_800);

/// What the service account may do unless a test says otherwise.
const PERMISSIONS: &[(&str, &str, &[&str])] = &[
    ("apps", "deployments", &["get", "list", "watch", "patch"]),
    ("apps", "deployments/scale", &["get", "patch"]),
    ("apps", "deployments/status", &["get", "patch"]),
    ("apps", "statefulsets", &["get", "list", "watch", "patch"]),
    ("apps", "statefulsets/scale", &["get", "patch"]),
    ("apps", "statefulsets/status", &["get", "patch"]),
    ("apps", "replicasets", &["get", "list", "watch"]),
    (
        "argoproj.io",
        "rollouts",
        &["get", "list", "watch", "patch"],
    ),
    ("argoproj.io", "rollouts/scale", &["get", "patch"]),
    ("argoproj.io", "rollouts/status", &["get", "patch"]),
    (
        "discovery.k8s.io",
        "endpointslices",
        &["get", "list", "watch"],
    ),
    ("", "endpoints", &["get", "list", "watch"]),
    ("", "services", &["get"]),
    ("", "configmaps", &["get", "list", "watch", "patch"]),
    ("events.k8s.io", "events", &["create"]),
    ("coordination.k8s.io", "leases", &["get", "create"]),
];

/// A rule of a Role. In each list, `*` stands for everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// API groups; the core group is the empty text.
    pub groups: Vec<String>,
    /// Resources, and subresources as `deployments/scale`.
    pub resources: Vec<String>,
    pub verbs: Vec<String>,
    /// The names of the objects; empty for all.
    pub names: Vec<String>,
}

impl Rule {
    /// A rule for all objects of some resources of one group.
    pub fn new(group: &str, resources: &[&str], verbs: &[&str]) -> Rule {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Rule {
            groups: vec![group.to_owned()],
            resources: owned(resources),
            verbs: owned(verbs),
            names: Vec::new(),
        }
    }

    /// The same for the object of that name alone.
    pub fn named(mut self, name: &str) -> Rule {
        self.names.push(name.to_owned());
        self
    }

    /// Whether the rule grants it. Under `resourceNames`, a list or a watch must
    /// select its object by name (recordings 35 to 37), and nothing can be
    /// created, since a new object's name is not in the path.
    fn grants(&self, target: &Target, selected: Option<&str>) -> bool {
        let has = |list: &[String], value: &str| list.iter().any(|one| matches(one, value));
        let name = match target.verb {
            "create" => None,
            "list" | "watch" => selected,
            _ => target.name.as_deref(),
        };
        let is_named = self.names.is_empty()
            || name.is_some_and(|name| self.names.iter().any(|one| one == name));
        has(&self.groups, &target.group)
            && has(&self.resources, &target.label())
            && has(&self.verbs, target.verb)
            && is_named
    }
}

/// Who may come in, and what for.
pub struct Access {
    pub namespace: String,
    /// The service account's name.
    pub account: String,
    /// The only token that is valid.
    pub token: String,
    /// What the service account may do.
    pub rules: Vec<Rule>,
    /// Verbs on resources that were taken away: `("get", "deployments/scale")`.
    pub denied: Vec<(String, String)>,
}

impl Access {
    /// What the service account may do unless a test says otherwise.
    pub fn usual_rules() -> Vec<Rule> {
        let rule =
            |(group, resource, verbs): &(&str, &str, &[&str])| Rule::new(group, &[resource], verbs);
        PERMISSIONS.iter().map(rule).collect()
    }

    fn permits(&self, target: &Target, selector: &Selector) -> bool {
        let (verb, resource) = (target.verb, target.label());
        let selected = selector.name.as_deref();
        let granted = self.rules.iter().any(|rule| rule.grants(target, selected));
        let denied = self
            .denied
            .iter()
            .any(|(v, r)| matches(v, verb) && matches(r, &resource));
        granted && !denied && target.namespace == self.namespace
    }
}

/// Whether `pattern` is `value` or the `*` that is anything.
pub fn matches(pattern: &str, value: &str) -> bool {
    pattern == "*" || pattern == value
}

/// What a request is about.
#[derive(Clone, Debug)]
pub struct Target {
    /// In the words of RBAC: `get`, `list`, `watch`, `create`, `patch`, …
    pub verb: &'static str,
    group: String,
    version: String,
    namespace: String,
    plural: String,
    name: Option<String>,
    subresource: Option<String>,
}

impl Target {
    /// Reads verb and object from method, path and query; `None` for a path
    /// that leads to no namespaced object.
    pub fn of(request: &Request) -> Option<Target> {
        let mut parts = request.path.trim_matches('/').split('/').map(str::to_owned);
        let group = match parts.next()?.as_str() {
            "api" => String::new(),
            "apis" => parts.next()?,
            _ => return None,
        };
        let version = parts.next()?;
        parts.next().filter(|word| word == "namespaces")?;
        let (namespace, plural) = (parts.next()?, parts.next()?);
        let (name, subresource) = (parts.next(), parts.next());
        let verb = verb(request, name.is_some());
        Some(Target {
            verb,
            group,
            version,
            namespace,
            plural,
            name,
            subresource,
        })
    }

    /// The resource as RBAC names it: `deployments/scale`.
    pub fn label(&self) -> String {
        match &self.subresource {
            Some(subresource) => format!("{}/{subresource}", self.plural),
            None => self.plural.clone(),
        }
    }

    /// The API group; empty for the core group.
    pub fn group(&self) -> &str {
        &self.group
    }

    /// The name in the path, or an empty one.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    fn qualified(&self) -> String {
        match self.group.as_str() {
            "" => self.plural.clone(),
            group => format!("{}.{group}", self.plural),
        }
    }

    fn details(&self) -> Value {
        let mut details = json!({ "kind": self.plural });
        for (key, value) in [("name", self.name()), ("group", &self.group)] {
            if !value.is_empty() {
                details[key] = value.into();
            }
        }
        details
    }

    /// 403 for the service account, in the words of RBAC.
    pub fn forbidden(&self, access: &Access) -> Reply {
        let (namespace, account) = (&access.namespace, &access.account);
        self.forbidden_to(&format!("system:serviceaccount:{namespace}:{account}"))
    }

    fn forbidden_to(&self, user: &str) -> Reply {
        let object = match &self.name {
            Some(name) => format!("{} \"{name}\"", self.qualified()),
            None => self.qualified(),
        };
        let message = format!(
            "{object} is forbidden: User \"{user}\" cannot {} resource \"{}\" in API group \"{}\" \
             in the namespace \"{}\"",
            self.verb,
            self.label(),
            self.group,
            self.namespace
        );
        Reply::failure(403, "Forbidden", &message, Some(self.details()))
            .with("X-Content-Type-Options", "nosniff")
    }

    /// 409, as for a stale resourceVersion.
    pub fn conflict(&self) -> Reply {
        let message = format!(
            "Operation cannot be fulfilled on {} \"{}\": the object has been modified; please \
             apply your changes to the latest version and try again",
            self.qualified(),
            self.name()
        );
        Reply::failure(409, "Conflict", &message, Some(self.details()))
    }

    /// 404.
    pub fn not_found(&self) -> Reply {
        let message = format!("{} \"{}\" not found", self.qualified(), self.name());
        Reply::failure(404, "NotFound", &message, Some(self.details()))
    }

    fn already_exists(&self, name: &str) -> Reply {
        let message = format!("{} \"{name}\" already exists", self.qualified());
        let mut details = self.details();
        details["name"] = name.into();
        Reply::failure(409, "AlreadyExists", &message, Some(details))
    }
}

fn verb(request: &Request, named: bool) -> &'static str {
    match request.method.as_str() {
        "GET" if named => "get",
        "GET" if is_true(request, "watch") => "watch",
        "GET" => "list",
        "POST" => "create",
        "PATCH" => "patch",
        "PUT" => "update",
        "DELETE" => "delete",
        _ => "unknown",
    }
}

fn is_true(request: &Request, parameter: &str) -> bool {
    request
        .parameter(parameter)
        .is_some_and(|value| matches!(value.as_str(), "true" | "1"))
}

/// Which objects a list or a watch is about.
#[derive(Clone, Debug, Default)]
pub struct Selector {
    name: Option<String>,
    labels: Vec<Requirement>,
}

/// One part of a label selector: whether the label is there, and has the value.
#[derive(Clone, Debug)]
enum Requirement {
    Equals(String, String),
    Differs(String, String),
    Exists(String),
    Absent(String),
}

impl Requirement {
    /// Reads a part without sets (`in`, `notin`), which the sandbox does not know.
    fn of(part: &str) -> Requirement {
        let own = |text: &str| text.trim().to_owned();
        if let Some((key, value)) = part.split_once("!=") {
            return Requirement::Differs(own(key), own(value));
        }
        if let Some((key, value)) = part.split_once('=') {
            return Requirement::Equals(own(key), own(value.trim_start_matches('=')));
        }
        match part.trim().strip_prefix('!') {
            Some(key) => Requirement::Absent(own(key)),
            None => Requirement::Exists(own(part)),
        }
    }

    fn is_met(&self, labels: &Value) -> bool {
        match self {
            Requirement::Equals(key, value) => labels[key] == value.as_str(),
            Requirement::Differs(key, value) => labels[key] != value.as_str(),
            Requirement::Exists(key) => !labels[key].is_null(),
            Requirement::Absent(key) => labels[key].is_null(),
        }
    }
}

impl Selector {
    fn of(request: &Request) -> Selector {
        let field = request.parameter("fieldSelector").unwrap_or_default();
        let labels = request.parameter("labelSelector").unwrap_or_default();
        let parts = labels.split(',').filter(|part| !part.trim().is_empty());
        Selector {
            name: field.strip_prefix("metadata.name=").map(str::to_owned),
            labels: parts.map(Requirement::of).collect(),
        }
    }

    /// Whether it selects every object.
    pub fn is_empty(&self) -> bool {
        self.name.is_none() && self.labels.is_empty()
    }

    /// Whether it selects `object`.
    pub fn selects(&self, object: &Value) -> bool {
        let meta = &object["metadata"];
        let labels = &meta["labels"];
        let is_named = |name: &String| meta["name"] == name.as_str();
        self.name.as_ref().is_none_or(is_named)
            && self.labels.iter().all(|part| part.is_met(labels))
    }
}

/// A watch that has been admitted.
#[derive(Clone, Debug)]
pub struct Watch {
    pub resource: Resource,
    pub selector: Selector,
    /// The version after which changes are told.
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
    let Some(target) = Target::of(request) else {
        return Answer::Reply(discovery::answer(request).unwrap_or_else(no_such_page));
    };
    if !access.permits(&target, &Selector::of(request)) {
        return Answer::Reply(target.forbidden(access));
    }
    let Some(resource) = Resource::of(&target.group, &target.version, &target.plural) else {
        return Answer::Reply(no_such_page());
    };
    match answer_permitted(store, resource, &target, request) {
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
        ("watch", None) => return watch(store, resource, request),
        ("list", None) => pages::list(store, resource, &Selector::of(request), request),
        ("create", None) => create(store, resource, target, request),
        (_, Some("scale")) if !resource.is_scalable() => no_such_page(),
        ("get", Some("scale")) => scale(store, resource, target),
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

fn watch(store: &Store, resource: Resource, request: &Request) -> Answer {
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

fn create(store: &mut Store, resource: Resource, target: &Target, request: &Request) -> Reply {
    let Ok(mut object) = serde_json::from_slice::<Value>(&request.body) else {
        return Reply::failure(
            400,
            "BadRequest",
            "the object provided is unrecognized",
            None,
        );
    };
    if resource == Resource::Events {
        if let Err(reply) = check_event_time(text(&object["eventTime"])) {
            return reply;
        }
        object["deprecatedSource"] = json!({});
        object["deprecatedFirstTimestamp"] = Value::Null;
        object["deprecatedLastTimestamp"] = Value::Null;
    }
    let name = text(&object["metadata"]["name"]).to_owned();
    match store.create(resource, object) {
        Some(created) => Reply::json(201, &created),
        None => target.already_exists(&name),
    }
}

/// `metav1.MicroTime` wants exactly six digits of a second.
fn check_event_time(time: &str) -> Result<(), Reply> {
    let (seconds, rest) = time
        .split_at_checked("2006-01-02T15:04:05".len())
        .unwrap_or(("", time));
    let digits = rest
        .strip_prefix('.')
        .and_then(|fraction| fraction.get(..6));
    if !seconds.is_empty() && digits.is_some_and(|d| d.bytes().all(|b| b.is_ascii_digit())) {
        return Ok(());
    }
    let message = format!(
        "Event in version \"v1\" cannot be handled as a Event: parsing time \"{time}\" as \
         \"2006-01-02T15:04:05.000000Z07:00\": cannot parse \"{rest}\" as \".000000\""
    );
    Err(Reply::failure(400, "BadRequest", &message, None))
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
