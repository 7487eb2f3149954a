//! A stand-in Kubernetes cluster in one process, for tests and benches.
//!
//! [`Sandbox::start`] brings up
//! - an API server on loopback, over TLS with a CA and a bearer token of its
//!   own, that answers as a real one does (`tests/contract` compares it with
//!   recordings),
//! - a Deployment (or another kind that can be scaled) with its Service, its
//!   controllers, and pods that are real TCP servers on loopback addresses of their
//!   own,
//! - and a directory of credentials, as the kubelet mounts it.
//!
//! All of it can misbehave on cue, and everything ends when the [`Sandbox`] is
//! dropped. Only [`Sandbox::env`] knows the program under test.
//!
//! ```text
//! sandbox      what tests start, wait for and read     controls  the controls of tests
//! server       connections, TLS                        faults    misbehaviour on cue
//! http         messages                                state     shared state, log of requests
//! api, patch   requests to answers                     watch     streams of events
//! json_patch   RFC 6902                                discovery groups and versions
//! access       RBAC and the token                      selector  fields and labels
//! review       access reviews
//! pages        LIST, with limit and continue
//! store        objects, versions, history              objects   the initial objects
//! workloads    kinds that have pods                    endpoints slices and Endpoints
//! controller   an object's pods over time
//! pods         servers and their addresses             acceptor  listeners, threads
//! programs     real servers, as processes
//! credentials  CA, token, directory
//! ```

mod acceptor;
mod access;
mod api;
mod controller;
mod controls;
mod credentials;
mod discovery;
mod endpoints;
mod event_rules;
mod faults;
mod http;
mod json_patch;
mod objects;
mod pages;
mod patch;
mod pod_proxy;
mod pods;
mod programs;
mod review;
mod selector;
mod server;
mod state;
mod store;
mod watch;
mod workloads;

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use acceptor::{Acceptor, Threads};
use controller::{Controller, Plan};
use credentials::{Authority, Directory};
use state::Shared;

use crate::descriptors::raise_to_hard_limit;

pub use {
    access::Rule,
    controller::{Listed, OtherPort, PodTrouble},
    endpoints::Endpoint,
    faults::{Misbehaviour, Pattern, Times, WatchFault, anything, on},
    objects::{PORT_NAME, SERVICE_PORT},
    pods::{PodBehaviour, PodProgram, PodServer},
    programs::Program,
    state::{AcceptMode, LoggedRequest, State},
    store::Resource,
    workloads::Workload,
};

/// How long the end of a sandbox may take.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// What a sandbox is like at its start.
#[derive(Clone, Debug)]
pub struct Options {
    pub namespace: String,
    /// The kind of object that is scaled.
    pub workload: Workload,
    /// The name of that object.
    pub name: String,
    /// The name of its Service; `None`: the same.
    pub service: Option<String>,
    /// The object's replicas; the pods start when the sandbox does.
    pub replicas: u32,
    /// What runs in the pods.
    pub app: PodProgram,
    /// Further ports of the Service and of its pods.
    pub other_ports: Vec<OtherPort>,
    /// Further Deployments, each with a Service of its name. All else about
    /// them is as with the first.
    pub further_apps: Vec<SandboxApp>,
    /// From a pod's creation until it listens, and a probe succeeds; `None`: it never does.
    pub start_delay: Option<Duration>,
    /// How often a pod's readiness probe is made, from its creation on; zero: all the time.
    pub probe_period: Duration,
    /// From the decision to end a pod until it is gone. It serves until then.
    pub stop_delay: Duration,
    /// From a change of a pod until the slices and Endpoints tell of it.
    pub endpoint_lag: Duration,
}

impl Default for Options {
    /// `default/myapp`, an echo server, asleep, quick in everything.
    fn default() -> Self {
        Options {
            namespace: "default".to_owned(),
            workload: Workload::Deployment,
            name: "myapp".to_owned(),
            service: None,
            replicas: 0,
            app: PodProgram::Echo,
            other_ports: Vec::new(),
            further_apps: Vec::new(),
            start_delay: Some(Duration::from_millis(20)),
            probe_period: Duration::ZERO,
            stop_delay: Duration::from_millis(20),
            endpoint_lag: Duration::ZERO,
        }
    }
}

/// A further Deployment, with a Service of its name.
#[derive(Clone, Debug)]
pub struct SandboxApp {
    /// `None`: that of the first.
    pub namespace: Option<String>,
    pub name: String,
    pub replicas: u32,
}

impl SandboxApp {
    pub fn new(name: &str, replicas: u32) -> SandboxApp {
        SandboxApp {
            namespace: None,
            name: name.to_owned(),
            replicas,
        }
    }

    /// The same in another namespace.
    pub fn within(mut self, namespace: &str) -> SandboxApp {
        self.namespace = Some(namespace.to_owned());
        self
    }
}

impl Options {
    fn service_name(&self) -> &str {
        self.service.as_ref().unwrap_or(&self.name)
    }
}

/// A cluster, until it is dropped.
pub struct Sandbox {
    shared: Arc<Shared>,
    threads: Threads,
    /// The TLS listener, and the plain one that stands for `kubectl proxy`.
    listeners: Mutex<[Acceptor; 2]>,
    address: SocketAddr,
    forward_proxy_address: SocketAddr,
    directory: Directory,
    options: Options,
}

impl Sandbox {
    /// Brings up a cluster, and raises the limit of open files to the hard one:
    /// a shell's usual 1024 are few for the ends of connections that clients
    /// and pods in one process have.
    pub fn start(options: Options) -> Sandbox {
        raise_to_hard_limit().expect("a limit of open files");
        let threads = Threads::default();
        let authority = Authority::new();
        let token = credentials::new_token();
        let directory = Directory::create(&options.namespace, &token, &authority.ca_pem)
            .expect("a temporary directory for the credentials");
        let state = new_state(&options, &threads, &authority, token);
        let shared = Shared::new(state);
        let listeners = [true, false].map(|tls| listen(&shared, &threads, tls));
        let [address, forward_proxy_address] = [listeners[0].address(), listeners[1].address()];
        let controllers = shared.clone();
        threads.spawn("controllers", move || controllers.run_controllers());
        let listeners = Mutex::new(listeners);
        Sandbox {
            shared,
            threads,
            listeners,
            address,
            forward_proxy_address,
            directory,
            options,
        }
    }

    /// The environment of a `zpa` that is to serve this cluster.
    pub fn env(&self) -> Vec<(String, String)> {
        let Options { workload, name, .. } = &self.options;
        let target = match workload {
            Workload::Deployment => ("ZPA_DEPLOYMENT", name.clone()),
            other => ("ZPA_SCALE_TARGET", other.resource().qualified(name)),
        };
        let variables = [
            ("ZPA_NAMESPACE", self.options.namespace.clone()),
            target,
            ("ZPA_SERVICE", self.options.service_name().to_owned()),
            ("ZPA_API_SERVER", self.url()),
            ("ZPA_CREDENTIALS", self.credentials().display().to_string()),
            // Several may run beside each other.
            ("ZPA_ADMIN_LISTEN", "127.0.0.1:0".to_owned()),
        ];
        variables
            .map(|(name, value)| (name.to_owned(), value))
            .into()
    }

    /// The API server's address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `https://127.0.0.1:…`.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// `http://127.0.0.1:…`, for those who come through `kubectl proxy`.
    pub fn proxy_url(&self) -> String {
        format!("http://{}", self.forward_proxy_address)
    }

    /// The directory with `token`, `ca.crt` and `namespace`.
    pub fn credentials(&self) -> &Path {
        self.directory.path()
    }

    /// The token that is valid now.
    pub fn token(&self) -> String {
        self.shared.lock().access.token.clone()
    }

    /// The port of every pod.
    pub fn pod_port(&self) -> u16 {
        self.shared.lock().controller.pod_port()
    }

    /// The other ports of every pod.
    pub fn other_pod_ports(&self) -> Vec<u16> {
        self.shared.lock().controller.other_pod_ports().to_vec()
    }

    /// A loopback address that no pod has, at which this sandbox's ports are free.
    pub fn spare_address(&self) -> SocketAddr {
        self.shared.lock().controller.next_address()
    }

    /// The addresses of the pods that are ready and not terminating.
    pub fn pod_addresses(&self) -> Vec<SocketAddr> {
        let state = self.state();
        let ready = state
            .controller
            .pods
            .iter()
            .filter(|pod| pod.ready && !pod.is_terminating());
        ready.map(|pod| pod.server.address()).collect()
    }

    /// Everything, to look at. The cluster stands still meanwhile, and so does
    /// a thread that uses the sandbox itself before it lets go of this.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }

    /// How many requests match.
    pub fn count(&self, which: &Pattern) -> usize {
        self.state().count(which)
    }

    /// The requests that match, in the order they came.
    pub fn requests(&self, which: &Pattern) -> Vec<LoggedRequest> {
        self.state().requests(which).cloned().collect()
    }

    /// Waits until `over`; false if `limit` passed first.
    pub fn wait_until(&self, limit: Duration, over: impl Fn(&State) -> bool) -> bool {
        self.shared.wait_until(Some(Instant::now() + limit), over)
    }

    /// Waits until `over`.
    ///
    /// # Panics
    /// After ten seconds, with what was awaited and the log of requests.
    #[track_caller]
    pub fn expect(&self, what: &str, over: impl Fn(&State) -> bool) {
        if self.wait_until(Duration::from_secs(10), over) {
            return;
        }
        panic!("not within 10 s: {what}\n{}", self.summary());
    }

    /// The state of the cluster and the log of requests, for a failing test.
    pub fn summary(&self) -> String {
        let state = self.state();
        let mut text = format!(
            "replicas {}, pods {}, of which ready {}; requests:\n",
            state.replicas(),
            state.pods(),
            state.ready_pods()
        );
        for LoggedRequest {
            verb,
            path,
            query,
            body,
            status,
            connection,
            ..
        } in &state.log
        {
            let status = status.map_or("no reply".to_owned(), |status| status.to_string());
            text.push_str(&format!(
                "  #{connection} {verb} {path}?{query} {body} -> {status}\n"
            ));
        }
        text
    }

    /// A server of the kind that runs in pods, on an address of its own that
    /// no slice lists; it serves until dropped.
    pub fn lone_server(&self, name: &str, app: PodProgram) -> PodServer {
        let address = self.shared.lock().controller.next_address();
        self.server_at(address, name, app)
    }

    /// The same, on an address of the test's choice, such as `[::1]:0`.
    pub fn server_at(&self, address: SocketAddr, name: &str, app: PodProgram) -> PodServer {
        let server = PodServer::reserve(address, name, app, &self.threads);
        let server = server.and_then(|mut server| {
            server.open(PodBehaviour::Serve)?;
            server.run(&[]);
            Ok(server)
        });
        server.unwrap_or_else(|error| panic!("{address} cannot be bound: {error}"))
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if let Ok(mut listeners) = self.listeners.lock() {
            listeners.iter_mut().for_each(Acceptor::close);
        }
        self.shared.change(|state| {
            state.stopping = true;
            state.end_connections(true, |_| true);
            state
                .all_controllers()
                .for_each(|controller| controller.pods.clear());
        });
        let ended = self.threads.wait_for_all(STOP_LIMIT);
        assert!(
            ended || std::thread::panicking(),
            "threads of the sandbox outlived it"
        );
    }
}

fn new_state(options: &Options, threads: &Threads, authority: &Authority, token: String) -> State {
    let plan = Plan {
        namespace: options.namespace.clone(),
        workload: options.workload,
        name: options.name.clone(),
        service: options.service_name().to_owned(),
        app: options.app.clone(),
        other_ports: options.other_ports.clone(),
        start_delay: options.start_delay,
        probe_period: options.probe_period,
        stop_delay: options.stop_delay,
        endpoint_lag: options.endpoint_lag,
        publishing: endpoints::Publishing::default(),
        quota_exceeded: false,
        outdated: 0,
        behaviour: PodBehaviour::Serve,
        trouble: None,
    };
    let namespace = options.namespace.clone();
    let mut store = store::Store::new(&namespace);
    let mut controller = Controller::new(plan, threads).expect("a loopback subnet for the pods");
    controller.create_service(&mut store, Instant::now());
    controller.create_workload(&mut store, options.replicas);
    let others = options.further_apps.iter().map(|other| {
        let namespace = other
            .namespace
            .as_ref()
            .unwrap_or(&controller.plan.namespace);
        let plan = Plan {
            namespace: namespace.clone(),
            workload: Workload::Deployment,
            name: other.name.clone(),
            service: other.name.clone(),
            other_ports: Vec::new(),
            ..controller.plan.clone()
        };
        let mut controller = Controller::new(plan, threads).expect("a subnet for its pods");
        store.within(namespace, |store| {
            controller.create_service(store, Instant::now());
            controller.create_workload(store, other.replicas);
        });
        controller
    });
    let others = others.collect();
    let account = "zpa".to_owned();
    State {
        store,
        controller,
        others,
        access: access::Access {
            namespace,
            account,
            token,
            rules: access::Access::usual_rules(),
            cluster_rules: Vec::new(),
            denied: Vec::new(),
        },
        faults: faults::Faults::default(),
        log: Vec::new(),
        orders: Vec::new(),
        watches: Vec::new(),
        connections: HashMap::new(),
        accepted: 0,
        reception: AcceptMode::Serve,
        tls: authority.server.clone(),
        chunk_max: None,
        stopping: false,
    }
}

fn listen(shared: &Arc<Shared>, threads: &Threads, tls: bool) -> Acceptor {
    let (shared, own) = (shared.clone(), threads.clone());
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let serve = move |stream| server::admit(&shared, &own, stream, tls);
    let mut acceptor = Acceptor::reserve(address, threads, serve).expect("a free port on loopback");
    acceptor.open().expect("a listener on a port of our own");
    acceptor
}
