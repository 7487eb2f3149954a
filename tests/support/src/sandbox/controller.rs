//! [`Controller`]: the controllers of the scaled object, of its pods and of its endpoints.
//!
//! [`Controller::reconcile`] is called on each change and when a delay has
//! run out; it brings everything up to date and says when it is next needed.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::acceptor::{SHORTAGE_PAUSE, Threads};
use super::endpoints::{self, Endpoint, Publishing};
use super::objects::{self, PORT_NAME, SERVICE_PORT, ServicePort};
use super::pods::{PodBehaviour, PodProgram, PodServer, Subnet};
use super::programs::LOOK_PAUSE;
use super::store::{Resource, Store, suffix, text, timestamp, uid};
use super::workloads::{Counts, Workload};

/// What the app is and how long its pods take.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The namespace of all its objects.
    pub namespace: String,
    /// The kind of object that makes the pods.
    pub workload: Workload,
    /// The name of that object.
    pub name: String,
    /// The name of its Service.
    pub service: String,
    /// What the pods run.
    pub app: PodProgram,
    /// The Service's other ports.
    pub other_ports: Vec<OtherPort>,
    /// From a pod's creation until it listens; `None`: it never does.
    pub start_delay: Option<Duration>,
    /// How often a readiness probe is made, from the creation on; zero: all the time.
    pub probe_period: Duration,
    /// From the decision to end a pod until it is gone.
    pub stop_delay: Duration,
    /// From a change of a pod until the slices and Endpoints tell of it.
    pub endpoint_lag: Duration,
    /// What the Service says of its endpoints.
    pub publishing: Publishing,
    /// Whether a quota allows no pod.
    pub quota_exceeded: bool,
    /// How many pods are of an older template.
    pub outdated: u64,
    /// How new pods treat those who connect.
    pub behaviour: PodBehaviour,
    /// What keeps its pods from getting ready, as the kubelet or the scheduler says it.
    pub trouble: Option<PodTrouble>,
}

/// What keeps pods from getting ready.
#[derive(Clone, Debug)]
pub enum PodTrouble {
    /// The container waits for that reason, after so many restarts.
    Waiting(&'static str, &'static str, u32),
    /// No node takes them.
    Unschedulable(&'static str),
    /// The readiness probe fails, with that message.
    Probe(&'static str),
}

impl Plan {
    /// From a pod's creation until the first probe that finds it listening.
    fn probe_delay(&self) -> Option<Duration> {
        let (delay, period) = (self.start_delay?, self.probe_period);
        if period.is_zero() {
            return Some(delay);
        }
        let probes = delay.as_nanos().div_ceil(period.as_nanos());
        Some(period.saturating_mul(u32::try_from(probes).unwrap_or(u32::MAX)))
    }
}

/// A further port of the Service and of its pods.
#[derive(Clone, Debug)]
pub struct OtherPort {
    /// Its name.
    pub name: &'static str,
    /// Its number in the Service; the pods' own differs.
    pub number: u16,
    /// What the pods run there.
    pub app: PodProgram,
}

/// A pod of the object that is scaled.
pub struct Pod {
    pub name: String,
    pub uid: String,
    /// The UID of the object that made it.
    owner: Value,
    created: Instant,
    /// Whether its readiness probe has succeeded.
    pub ready: bool,
    /// When it will be gone, once it is terminating.
    ends: Option<Instant>,
    pub server: PodServer,
    /// Those of its other ports.
    pub other_servers: Vec<PodServer>,
}

impl Pod {
    /// Whether it is terminating.
    pub fn is_terminating(&self) -> bool {
        self.ends.is_some()
    }
}

/// When a pod was first listed as ready in the slices.
#[derive(Clone, Debug)]
pub struct Listed {
    pub pod: String,
    pub address: SocketAddr,
    pub at: Instant,
}

/// What the endpoint controllers have seen and not yet published.
struct Pending {
    due: Instant,
    endpoints: Vec<Endpoint>,
    /// Whether a pod was created: only then is the change stamped with a time.
    stamped: bool,
}

/// The controllers and the pods.
pub struct Controller {
    pub plan: Plan,
    pub pods: Vec<Pod>,
    /// Every pod that was ever listed as ready, in that order.
    pub listed: Vec<Listed>,
    subnet: Subnet,
    threads: Threads,
    pending: VecDeque<Pending>,
    /// Whether a pod could not be made or opened: this process lacks
    /// descriptors.
    short: bool,
    /// The name of the slice that the endpoint slice controller keeps.
    slice: String,
    /// The object as the last call of [`Controller::reconcile_if_changed`] left it, and when
    /// to be called again.
    settled: Option<(Option<Arc<Value>>, Option<Instant>)>,
}

impl Controller {
    /// No pods yet.
    pub fn new(plan: Plan, threads: &Threads) -> io::Result<Controller> {
        let threads = threads.clone();
        let slice = format!("{}-{}", plan.service, suffix());
        let subnet = Subnet::claim(1 + plan.other_ports.len())?;
        let mut plan = plan;
        let others = plan.other_ports.iter().zip(subnet.other_ports());
        plan.publishing.others = others.map(|(port, &target)| (port.name, target)).collect();
        Ok(Controller {
            plan,
            pods: Vec::new(),
            listed: Vec::new(),
            subnet,
            threads,
            pending: VecDeque::new(),
            short: false,
            slice,
            settled: None,
        })
    }

    /// The port of every pod.
    pub fn pod_port(&self) -> u16 {
        self.subnet.port()
    }

    /// The other ports of every pod.
    pub fn other_pod_ports(&self) -> &[u16] {
        self.subnet.other_ports()
    }

    /// The name of the slice that lists the pods.
    pub fn slice(&self) -> &str {
        &self.slice
    }

    /// An address for one more pod-like server.
    pub fn next_address(&mut self) -> SocketAddr {
        self.subnet.next_address()
    }

    /// Applies the manifest of what makes the pods.
    pub fn create_workload(&self, store: &mut Store, replicas: u32) {
        let (workload, name) = (self.plan.workload, &self.plan.name);
        workload.create(store, name, replicas, self.pod_port());
    }

    /// Applies the Service's manifest; its Endpoints and slice come along.
    pub fn create_service(&mut self, store: &mut Store, now: Instant) {
        let name = &self.plan.service;
        let pods = objects::labels(&self.plan.name);
        let service = objects::service(name, pods, self.subnet.cluster_ip(), &self.service_ports());
        let Some(service) = store.create(Resource::Services, service) else {
            return;
        };
        self.slice = format!("{name}-{}", suffix());
        store.create(Resource::Endpoints, objects::endpoints(name));
        let slice = objects::slice(name, &service["metadata"]["uid"], Some(&self.slice), "IPv4");
        store.create(Resource::EndpointSlices, slice);
        if !self.pods.is_empty() {
            self.note(now, false);
        }
    }

    fn service_ports(&self) -> Vec<ServicePort> {
        let first = ServicePort {
            name: PORT_NAME,
            number: SERVICE_PORT,
            target: self.pod_port(),
        };
        let others = self.plan.other_ports.iter().zip(self.subnet.other_ports());
        let others = others.map(|(port, &target)| ServicePort {
            name: port.name,
            number: port.number,
            target,
        });
        std::iter::once(first).chain(others).collect()
    }

    /// Sets how long pods take to get ready, those that start included.
    pub fn set_start_delay(&mut self, delay: Option<Duration>) {
        self.plan.start_delay = delay;
        self.settled = None;
    }

    /// The same as [`Controller::reconcile`], but nothing is done before the object has
    /// changed, or something is due: there may be hundreds of controllers.
    pub fn reconcile_if_changed(&mut self, store: &mut Store, now: Instant) -> Option<Instant> {
        if let Some((object, due)) = &self.settled
            && object.as_ref().map(Arc::as_ptr) == self.object(store).map(Arc::as_ptr)
            && due.is_none_or(|due| now < due)
        {
            return *due;
        }
        let due = self.reconcile(store, now);
        self.settled = Some((self.object(store).cloned(), due));
        due
    }

    fn object<'a>(&self, store: &'a Store) -> Option<&'a Arc<Value>> {
        store.get(self.plan.workload.resource(), &self.plan.name)
    }

    /// Writes the pods as they are now, for whoever reads them.
    pub fn write_pods(&self, store: &mut Store) {
        let Controller { plan, .. } = self;
        store.within(&plan.namespace, |store| {
            let labels = objects::labels(&plan.name);
            let of_app = |pod: &&Arc<Value>| pod["metadata"]["labels"] == labels;
            let known = store.list(Resource::Pods).filter(of_app);
            let names: Vec<String> = known
                .map(|pod| text(&pod["metadata"]["name"]).to_owned())
                .collect();
            for name in names {
                store.delete(Resource::Pods, &name);
            }
            for pod in &self.pods {
                let trouble = plan.trouble.as_ref().filter(|_| !pod.ready);
                let mut object = objects::pod(&pod.name, &labels, pod.ready, trouble);
                if pod.is_terminating() {
                    object["metadata"]["deletionTimestamp"] = timestamp().into();
                }
                store.create(Resource::Pods, object);
                store.update(Resource::Pods, &pod.name, |it| {
                    it["metadata"]["uid"] = pod.uid.clone().into()
                });
                if let Some(PodTrouble::Probe(message)) = trouble {
                    store.create(
                        Resource::CoreEvents,
                        objects::unhealthy(&pod.name, &pod.uid, message),
                    );
                }
            }
        });
    }

    /// Brings everything up to date; returns when to be called again at the
    /// latest.
    pub fn reconcile(&mut self, store: &mut Store, now: Instant) -> Option<Instant> {
        let (workload, name) = (self.plan.workload, self.plan.name.clone());
        let object = store.get(workload.resource(), &name).cloned();
        let owner = object
            .as_ref()
            .map_or(Value::Null, |object| object["metadata"]["uid"].clone());
        let desired = object.map_or(0, |it| it["spec"]["replicas"].as_u64().unwrap_or(0));
        workload.observe(store, &name, self.counts(desired));
        self.scale(desired, &owner, now);
        let created = self.create_missing(desired, &owner, store, now);
        let opened = self.age(now);
        self.publish(store, now);
        workload.report(store, &name, self.counts(desired));
        match created.and(opened) {
            Ok(()) => {
                self.short = false;
                self.poll_timeout(now)
            }
            Err(cause) => Some(self.try_again(&cause, now)),
        }
    }

    /// When to try again what has failed for that cause, which is said once.
    ///
    /// A panic here would leave the state poisoned, and fail every test that
    /// looks at it in place of the one that takes too much.
    fn try_again(&mut self, cause: &io::Error, now: Instant) -> Instant {
        if !std::mem::replace(&mut self.short, true) {
            eprintln!(
                "sandbox: a pod of {} cannot start yet: {cause}",
                self.plan.name
            );
        }
        now + SHORTAGE_PAUSE
    }

    /// Ends the pods that are too many, not ready and youngest first.
    fn scale(&mut self, desired: u64, owner: &Value, now: Instant) {
        let ends = now + self.plan.stop_delay;
        let mut kept: Vec<&mut Pod> = self.pods.iter_mut().filter(|p| p.ends.is_none()).collect();
        kept.sort_by_key(|pod| (pod.owner != *owner, !pod.ready));
        let strangers = kept.iter().filter(|pod| pod.owner != *owner).count();
        let keep = kept.len().saturating_sub(strangers).min(desired as usize);
        let ended = kept.len() - keep;
        for pod in kept.into_iter().skip(keep) {
            pod.ends = Some(ends);
        }
        if ended > 0 {
            self.note(now, false);
        }
    }

    /// Ends all pods; others come in their place.
    pub fn end_pods(&mut self, now: Instant) {
        let ends = now + self.plan.stop_delay;
        for pod in &mut self.pods {
            pod.ends.get_or_insert(ends);
        }
        self.note(now, false);
    }

    fn create_missing(
        &mut self,
        desired: u64,
        owner: &Value,
        store: &mut Store,
        now: Instant,
    ) -> io::Result<()> {
        if self.plan.quota_exceeded {
            return Ok(());
        }
        let (missing, before) = (desired.saturating_sub(self.alive() as u64), self.pods.len());
        let created = (0..missing).try_for_each(|_| {
            let pod = self.create_pod(owner, now)?;
            self.pods.push(pod);
            Ok(())
        });
        if self.pods.len() > before {
            // The kubelet's and the scheduler's writes have versions too.
            let (workload, name) = (self.plan.workload, &self.plan.name);
            workload.report_unavailable(store, name, self.counts(desired));
            self.note(now, true);
        }
        created
    }

    fn create_pod(&mut self, owner: &Value, now: Instant) -> io::Result<Pod> {
        let name = self.new_pod_name();
        let address = self.subnet.next_address();
        let server = PodServer::reserve(address, &name, self.plan.app.clone(), &self.threads)?;
        let others = self.plan.other_ports.iter().zip(self.subnet.other_ports());
        let other_servers = others.map(|(port, &number)| {
            let address = SocketAddr::new(address.ip(), number);
            PodServer::reserve(address, &name, port.app.clone(), &self.threads)
        });
        let other_servers = other_servers.collect::<io::Result<_>>()?;
        let (uid, owner) = (uid(), owner.clone());
        Ok(Pod {
            name,
            uid,
            owner,
            created: now,
            ready: false,
            ends: None,
            server,
            other_servers,
        })
    }

    /// A StatefulSet's pods are numbered, and a name comes again; those of a
    /// ReplicaSet have random ends.
    fn new_pod_name(&self) -> String {
        let name = &self.plan.name;
        if self.plan.workload != Workload::StatefulSet {
            return format!("{}-{}", objects::replica_set(name), suffix());
        }
        let is_free = |name: &String| self.pods.iter().all(|pod| pod.name != *name);
        let mut numbered = (0..).map(|number| format!("{name}-{number}"));
        numbered.find(is_free).unwrap_or_default()
    }

    /// Pods get ready, and pods end.
    fn age(&mut self, now: Instant) -> io::Result<()> {
        let (delay, behaviour) = (self.plan.start_delay, self.plan.behaviour);
        let due = |pod: &Pod| delay.is_some_and(|delay| pod.created + delay <= now);
        let probe_delay = self.plan.probe_delay();
        let is_probed = |pod: &Pod| probe_delay.is_some_and(|it| pod.created + it <= now);
        let (mut changed, mut opened) = (false, Ok(()));
        for pod in self
            .pods
            .iter_mut()
            .filter(|p| !p.ready && p.ends.is_none() && due(p))
        {
            let mut servers = std::iter::once(&mut pod.server).chain(&mut pod.other_servers);
            let answer = servers.try_for_each(|server| server.open(behaviour));
            pod.server.run(self.subnet.other_ports());
            pod.ready = answer.is_ok() && is_probed(pod) && pod.server.is_ready();
            changed |= pod.ready;
            opened = opened.and(answer);
        }
        if changed {
            self.note(now, false);
        }
        let before = self.pods.len();
        self.pods
            .retain(|pod| pod.ends.is_none_or(|ends| ends > now) || !pod.server.end());
        if self.pods.len() != before {
            self.note(now, false);
        }
        opened
    }

    /// Remembers the pods as they are now, to be published after the lag.
    pub fn note(&mut self, now: Instant, stamped: bool) {
        self.settled = None;
        let endpoints = self.pods.iter().map(endpoint).collect();
        self.pending.push_back(Pending {
            due: now + self.plan.endpoint_lag,
            endpoints,
            stamped,
        });
    }

    fn publish(&mut self, store: &mut Store, now: Instant) {
        while self
            .pending
            .front()
            .is_some_and(|pending| pending.due <= now)
        {
            let Some(pending) = self.pending.pop_front() else {
                return;
            };
            let stamp = pending.stamped.then(timestamp);
            let (name, publishing) = (&self.plan.service, &self.plan.publishing);
            store.update(Resource::Endpoints, name, |object| {
                endpoints::write_endpoints(
                    object,
                    &pending.endpoints,
                    publishing,
                    stamp.as_deref(),
                );
            });
            let slice = store.update(Resource::EndpointSlices, &self.slice, |object| {
                endpoints::write_slice(object, &pending.endpoints, publishing, stamp.as_deref());
            });
            if slice.is_some() {
                self.remember_listed(&pending.endpoints);
            }
        }
    }

    fn remember_listed(&mut self, endpoints: &[Endpoint]) {
        let at = Instant::now();
        for endpoint in endpoints.iter().filter(|e| e.ready == Some(true)) {
            if self
                .listed
                .iter()
                .rev()
                .all(|listed| listed.address != endpoint.address)
            {
                let (pod, address) = (endpoint.pod.clone(), endpoint.address);
                self.listed.push(Listed { pod, address, at });
            }
        }
    }

    fn counts(&self, desired: u64) -> Counts {
        let alive = self.alive() as u64;
        Counts {
            desired,
            alive,
            available: self.available(),
            terminating: self.pods.len() as u64 - alive,
            quota_exceeded: self.plan.quota_exceeded,
            outdated: self.plan.outdated.min(alive),
        }
    }

    fn alive(&self) -> usize {
        self.pods.iter().filter(|pod| pod.ends.is_none()).count()
    }

    fn available(&self) -> u64 {
        self.pods
            .iter()
            .filter(|pod| pod.ready && pod.ends.is_none())
            .count() as u64
    }

    fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let look = now + LOOK_PAUSE;
        let pod_times = self.pods.iter().filter_map(|pod| match pod.ends {
            // What is due and there is a program that ends, or is not ready, that starts.
            Some(ends) if ends <= now => Some(look),
            Some(ends) => Some(ends),
            None if pod.ready => None,
            None => {
                let steps = [self.plan.start_delay, self.plan.probe_delay()];
                let mut steps = steps.into_iter().flatten().map(|it| pod.created + it);
                (self.plan.start_delay).map(|_| steps.find(|&at| at > now).unwrap_or(look))
            }
        });
        pod_times
            .chain(self.pending.iter().map(|pending| pending.due))
            .min()
    }
}

fn endpoint(pod: &Pod) -> Endpoint {
    let ready = pod.ready && !pod.is_terminating();
    Endpoint {
        pod: pod.name.clone(),
        uid: pod.uid.clone(),
        address: pod.server.address(),
        ready: Some(ready),
        serving: pod.ready,
        terminating: pod.is_terminating(),
    }
}
