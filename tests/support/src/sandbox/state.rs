//! The state of a sandbox under one lock, with a condition variable that is notified of every
//! change.

use std::collections::HashMap;
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Instant;

use rustls::ServerConfig;
use serde_json::Value;

use super::acceptor::{reset_on_close, until};
use super::access::{Access, Target};
use super::controller::{Controller, Listed};
use super::faults::{Faults, Misbehaviour, Pattern, WatchFault};
use super::http::Request;
use super::store::{Resource, Store};

/// A request in the log, and what became of it.
#[derive(Clone, Debug)]
pub struct LoggedRequest {
    /// When its last byte had been read.
    pub at: Instant,
    /// The number of its connection: a new TLS session has a new number.
    pub connection: u64,
    pub method: String,
    pub path: String,
    /// The raw query.
    pub query: String,
    /// In the words of RBAC: `get`, `list`, `watch`, `patch`, `create`.
    pub verb: &'static str,
    /// `deployments/scale`, `endpointslices`, …; the path if it is neither.
    pub resource: String,
    pub content_type: String,
    pub user_agent: String,
    /// The impersonated user and its groups, in order.
    pub impersonated: Vec<String>,
    pub body: String,
    /// The status of the reply; `None` while there is none.
    pub status: Option<u16>,
}

impl LoggedRequest {
    fn of(request: &Request, connection: u64) -> LoggedRequest {
        let target = Target::of(request);
        let header = |name| request.header(name).unwrap_or_default().to_owned();
        LoggedRequest {
            at: request.at,
            connection,
            method: request.method.clone(),
            path: request.path.clone(),
            query: request.query.clone(),
            verb: target.as_ref().map_or("get", |target| target.verb),
            resource: target.map_or_else(|| request.path.clone(), |target| target.label()),
            content_type: header("content-type"),
            user_agent: header("user-agent"),
            impersonated: impersonated(request),
            body: String::from_utf8_lossy(&request.body).into_owned(),
            status: None,
        }
    }

    /// The body as JSON, or null.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// The replicas that a PATCH asks for.
    pub fn replicas(&self) -> Option<u64> {
        self.json()["spec"]["replicas"].as_u64()
    }
}

fn impersonated(request: &Request) -> Vec<String> {
    let headers = request.headers.iter();
    let named = headers.filter(|(name, _)| {
        ["impersonate-user", "impersonate-group"].contains(&&*name.to_ascii_lowercase())
    });
    named.map(|(_, value)| value.clone()).collect()
}

/// How the API server treats those who connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptMode {
    /// Accepts and serves.
    Serve,
    /// Accepts, and says nothing, not even in the TLS handshake.
    Hang,
    /// Accepts and resets.
    Reset,
}

/// A connection to the API server.
pub struct Connection {
    pub socket: Arc<TcpStream>,
    /// Whether it waits for a request.
    pub idle: bool,
    /// Whether it is to end.
    pub killed: bool,
}

/// Everything that the threads of a sandbox share.
pub struct State {
    pub store: Store,
    pub controller: Controller,
    /// Those of the other apps.
    pub others: Vec<Controller>,
    pub access: Access,
    pub faults: Faults,
    pub log: Vec<LoggedRequest>,
    /// Every order that was ever given to watches.
    pub orders: Vec<WatchFault>,
    /// The watches that are open.
    pub watches: Vec<Resource>,
    pub connections: HashMap<u64, Connection>,
    /// How many connections the API server has accepted and kept so far.
    pub accepted: u64,
    pub reception: AcceptMode,
    pub tls: Arc<ServerConfig>,
    /// The longest chunk of a watch; `None`: one chunk for each event.
    pub chunk_max: Option<usize>,
    pub stopping: bool,
}

impl State {
    pub(super) fn all_controllers(&mut self) -> impl Iterator<Item = &mut Controller> {
        std::iter::once(&mut self.controller).chain(&mut self.others)
    }

    /// Writes the pods of all apps as they are now.
    pub(super) fn write_pods(&mut self) {
        let State {
            store,
            controller,
            others,
            ..
        } = self;
        controller.write_pods(store);
        others.iter().for_each(|other| other.write_pods(store));
    }

    /// `spec.replicas` of another app; 0 if there is none of that name.
    pub fn replicas_of(&self, name: &str) -> u64 {
        let other = self.others.iter().find(|it| it.plan.name == name);
        let namespace = &other.unwrap_or(&self.controller).plan.namespace;
        let object = self.store.get_in(namespace, Resource::Deployments, name);
        object.map_or(0, |object| object["spec"]["replicas"].as_u64().unwrap_or(0))
    }

    /// The pods of another app that are ready.
    pub fn ready_pods_of(&self, name: &str) -> usize {
        let other = self.others.iter().find(|it| it.plan.name == name);
        let pods = other.map_or(&[][..], |it| &it.pods);
        let ready = pods.iter().filter(|pod| pod.ready && !pod.is_terminating());
        ready.count()
    }

    /// `spec.replicas` of what is scaled; 0 if there is none.
    pub fn replicas(&self) -> u64 {
        self.deployment()
            .map_or(0, |object| object["spec"]["replicas"].as_u64().unwrap_or(0))
    }

    /// The object that is scaled: a Deployment, unless the test has chosen another
    /// kind.
    pub fn deployment(&self) -> Option<&Arc<Value>> {
        let plan = &self.controller.plan;
        self.store.get(plan.workload.resource(), &plan.name)
    }

    /// How many pods run, ready or not; terminating ones count until they are
    /// gone.
    pub fn pods(&self) -> usize {
        self.controller.pods.len()
    }

    /// How many pods are ready and not terminating, whether or not the slices
    /// say so yet.
    pub fn ready_pods(&self) -> usize {
        self.controller
            .pods
            .iter()
            .filter(|pod| pod.ready && !pod.is_terminating())
            .count()
    }

    /// The resourceVersion of the latest write of any kind.
    pub fn store_version(&self) -> u64 {
        self.store.version()
    }

    /// The endpoints that the Deployment's slice lists now.
    pub fn listed_endpoints(&self) -> Vec<Value> {
        let slice = self
            .store
            .get(Resource::EndpointSlices, self.controller.slice());
        slice
            .and_then(|slice| slice["endpoints"].as_array().cloned())
            .unwrap_or_default()
    }

    /// How many pods of an app by its name there are.
    pub fn pods_of(&self, name: &str) -> usize {
        let mut all = std::iter::once(&self.controller).chain(&self.others);
        let found = all.find(|it| it.plan.name == name);
        found.map_or(0, |it| it.pods.len())
    }

    /// Each pod that was ever listed as ready in the slices, and when.
    pub fn listed(&self) -> &[Listed] {
        &self.controller.listed
    }

    /// The same of an app by its name, the first one or another.
    pub fn listed_of(&self, name: &str) -> &[Listed] {
        let mut all = std::iter::once(&self.controller).chain(&self.others);
        let found = all.find(|it| it.plan.name == name);
        found.map_or(&[], |it| &it.listed)
    }

    /// The requests that match, in the order they came.
    pub fn requests<'a>(&'a self, which: &'a Pattern) -> impl Iterator<Item = &'a LoggedRequest> {
        self.log.iter().filter(|exchange| which.is(exchange))
    }

    /// How many requests match.
    pub fn count(&self, which: &Pattern) -> usize {
        self.requests(which).count()
    }

    /// How many watches of that resource are open.
    pub fn open_watches(&self, resource: Resource) -> usize {
        self.watches
            .iter()
            .filter(|open| **open == resource)
            .count()
    }

    /// Enters a request into the log; returns its place there, and what is to
    /// go wrong with it.
    pub fn admit(&mut self, request: &Request, connection: u64) -> (usize, Option<Misbehaviour>) {
        let exchange = LoggedRequest::of(request, connection);
        let fault = self.faults.strike(&exchange);
        self.log.push(exchange);
        (self.log.len() - 1, fault)
    }

    /// Whether the thread of this connection has to end.
    pub fn is_over(&self, connection: u64) -> bool {
        self.stopping || self.connections.get(&connection).is_none_or(|c| c.killed)
    }

    /// Ends the connections of which `which` is true: with RST, or as an
    /// orderly server ends idle ones.
    pub fn end_connections(&mut self, reset: bool, which: impl Fn(&Connection) -> bool) {
        for connection in self.connections.values_mut().filter(|c| which(c)) {
            connection.killed = true;
            if reset {
                reset_on_close(&connection.socket);
            }
            // Its thread wakes from a read and closes the socket.
            let _ = connection.socket.shutdown(Shutdown::Read);
        }
    }
}

/// The state, its lock, and its condition variable.
pub struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    pub fn new(state: State) -> Arc<Shared> {
        Arc::new(Shared {
            state: Mutex::new(state),
            changed: Condvar::new(),
        })
    }

    /// Locks the state, to read it.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("no thread of the sandbox panicked")
    }

    /// Changes the state, and tells everybody.
    pub fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let result = change(&mut self.lock());
        self.changed.notify_all();
        result
    }

    /// Waits for a change, or for `deadline`.
    pub fn wait<'a>(
        &self,
        state: MutexGuard<'a, State>,
        deadline: Option<Instant>,
    ) -> MutexGuard<'a, State> {
        match deadline {
            None => self
                .changed
                .wait(state)
                .expect("no thread of the sandbox panicked"),
            Some(deadline) => {
                let waited = self.changed.wait_timeout(state, until(deadline));
                waited.expect("no thread of the sandbox panicked").0
            }
        }
    }

    /// Waits until `over`, or until `deadline`; tells whether it is over.
    pub fn wait_until(&self, deadline: Option<Instant>, over: impl Fn(&State) -> bool) -> bool {
        let mut state = self.lock();
        while !over(&state) {
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return false;
            }
            state = self.wait(state, deadline);
        }
        true
    }

    /// Runs the controllers until the sandbox stops.
    pub fn run_controllers(&self) {
        let mut state = self.lock();
        while !state.stopping {
            let State {
                controller,
                others,
                store,
                ..
            } = &mut *state;
            let (before, now) = (store.version(), Instant::now());
            let mut others_due = None;
            for other in others.iter_mut() {
                let namespace = other.plan.namespace.clone();
                let due = store.within(&namespace, |store| other.reconcile_if_changed(store, now));
                others_due = others_due.into_iter().chain(due).min();
            }
            let due = controller.reconcile(store, now);
            let due = due.into_iter().chain(others_due).min();
            if store.version() != before {
                self.changed.notify_all();
            }
            state = self.wait(state, due);
        }
    }
}
