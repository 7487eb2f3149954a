//! The controls of a [`Sandbox`]: changes by users and other controllers, and faults.

use std::time::{Duration, Instant};

use super::acceptor::Acceptor;
use super::access::Rule;
use super::controller::{Plan, PodTrouble};
use super::credentials::{Authority, new_token};
use super::endpoints::{self, Endpoint, Publishing};
use super::faults::{Misbehaviour, Pattern, Times, WatchFault};
use super::objects;
use super::pods::PodBehaviour;
use super::state::{AcceptMode, Connection, State};
use super::store::{Resource, Store};
use super::{Options, Sandbox};

/// The object that is scaled, its pods and its Service.
impl Sandbox {
    /// Scales without asking anybody, as `kubectl scale` does.
    pub fn set_replicas(&self, replicas: u32) {
        self.edit(|object| object["spec"]["replicas"] = replicas.into());
    }

    /// Changes how long pods take from now on; pods that are starting are
    /// judged by the new delay.
    pub fn set_start_delay(&self, delay: Duration) {
        self.set_plan(|plan| plan.start_delay = Some(delay));
    }

    /// No pod gets ready from now on.
    pub fn never_ready(&self) {
        self.set_plan(|plan| plan.start_delay = None);
    }

    /// No pod gets ready from now on, and its status says why; `None`: they do at once.
    pub fn set_pod_trouble(&self, trouble: Option<PodTrouble>) {
        self.set_plan(|plan| {
            plan.start_delay = trouble.is_none().then_some(Duration::ZERO);
            plan.trouble = trouble;
        });
    }

    /// Nothing is wrong with the pods from now on, but they do not get ready yet.
    pub fn set_pods_starting(&self) {
        self.set_plan(|plan| (plan.start_delay, plan.trouble) = (None, None));
    }

    /// Gives the pods another image, as `kubectl set image` does. All of them end, and others
    /// come, as with the strategy `Recreate`.
    pub fn set_image(&self, image: &str) {
        self.edit(|object| {
            object["spec"]["template"]["spec"]["containers"][0]["image"] = image.into();
        });
        self.shared
            .change(|state| state.controller.end_pods(Instant::now()));
    }

    /// A quota allows no pod from now on, or allows them again.
    pub fn set_quota_exceeded(&self, exceeded: bool) {
        self.set_plan(|plan| plan.quota_exceeded = exceeded);
    }

    /// So many pods are of an older template from now on, as in a rollout that goes on until there
    /// are none. The pods themselves stay.
    pub fn set_outdated(&self, outdated: u64) {
        self.set_plan(|plan| plan.outdated = outdated);
    }

    /// Changes how long a pod takes to end, for pods that get a SIGTERM later.
    pub fn set_stop_delay(&self, delay: Duration) {
        self.set_plan(|plan| plan.stop_delay = delay);
    }

    /// Changes how far the slices and Endpoints are behind.
    pub fn set_endpoint_lag(&self, lag: Duration) {
        self.set_plan(|plan| plan.endpoint_lag = lag);
    }

    /// Sets the Service's `publishNotReadyAddresses`.
    pub fn publish_not_ready(&self, publish: bool) {
        self.set_plan(|plan| plan.publishing.not_ready = publish);
        self.shared
            .change(|state| state.controller.note(Instant::now(), false));
    }

    /// Names a `targetPort` in the Service that no container has, or one that they
    /// have.
    pub fn set_has_port(&self, has_port: bool) {
        self.set_plan(|plan| plan.publishing.has_port = has_port);
        self.shared
            .change(|state| state.controller.note(Instant::now(), false));
    }

    /// Gives the endpoints hints for these zones, one after the other, as for a Service with
    /// `trafficDistribution`.
    pub fn set_zones(&self, zones: &[&'static str]) {
        self.set_plan(|plan| plan.publishing.zones = zones.to_vec());
        self.shared
            .change(|state| state.controller.note(Instant::now(), false));
    }

    /// Changes how pods treat those who connect: the ready ones and all to
    /// come. The endpoints don't tell.
    pub fn set_pod_behaviour(&self, behaviour: PodBehaviour) {
        self.shared.change(|state| {
            state.controller.plan.behaviour = behaviour;
            for pod in state.controller.pods.iter_mut().filter(|pod| pod.ready) {
                // One that cannot open is not ready, and tried again.
                pod.ready = pod.server.open(behaviour).is_ok();
            }
        });
    }

    /// Resets every connection to every pod.
    pub fn reset_pod_connections(&self) {
        self.shared
            .lock()
            .controller
            .pods
            .iter()
            .for_each(|pod| pod.server.reset_connections());
    }

    /// Deletes the Deployment; its pods end.
    pub fn delete_deployment(&self) {
        let Options { workload, name, .. } = &self.options;
        self.change_store(|store| workload.delete(store, name));
    }

    /// Makes it again, with a new UID.
    pub fn create_deployment(&self, replicas: u32) {
        self.shared.change(
            |State {
                 store, controller, ..
             }| {
                controller.create_workload(store, replicas);
            },
        );
    }

    /// Deletes the Service; its Endpoints and all its slices go with it.
    pub fn delete_service(&self) {
        let name = self.options.service_name();
        self.change_store(|store| {
            store.delete(Resource::Services, name);
            store.delete(Resource::Endpoints, name);
            let names = |s: &Store| s.list(Resource::EndpointSlices).map(name_of).collect();
            let slices: Vec<String> = names(store);
            for slice in slices {
                store.delete(Resource::EndpointSlices, &slice);
            }
        });
    }

    /// Makes it again, with a new UID and a new slice.
    pub fn create_service(&self) {
        self.shared.change(
            |State {
                 store, controller, ..
             }| {
                controller.create_service(store, Instant::now());
            },
        );
    }

    /// Publishes a slice of the Service beside the one of the Deployment's
    /// pods, or changes it. `family` is `IPv4` or `IPv6`.
    pub fn publish_slice(&self, name: &str, family: &str, listed: &[Endpoint]) {
        let service = self.options.service_name();
        self.change_store(|store| {
            let owner = store.get(Resource::Services, service);
            let owner = owner.map_or_else(Default::default, |s| s["metadata"]["uid"].clone());
            store.create(
                Resource::EndpointSlices,
                objects::slice(service, &owner, Some(name), family),
            );
            store.update(Resource::EndpointSlices, name, |slice| {
                endpoints::write_slice(slice, listed, &Publishing::default(), None);
            });
        });
    }

    /// Creates an object as `kubectl create` does.
    pub fn create(&self, resource: Resource, object: serde_json::Value) {
        self.change_store(|store| store.create(resource, object));
    }

    /// Deletes an object as `kubectl delete` does.
    pub fn delete(&self, resource: Resource, name: &str) {
        self.change_store(|store| store.delete(resource, name));
    }

    /// The same in another namespace, which an object of the cluster has none of (an empty one).
    pub fn create_in(&self, namespace: &str, resource: Resource, object: serde_json::Value) {
        self.change_store(|store| store.within(namespace, |store| store.create(resource, object)));
    }

    /// Changes any object, as `kubectl edit` does, or its controller.
    pub fn edit_object(
        &self,
        namespace: &str,
        resource: Resource,
        name: &str,
        edit: impl FnOnce(&mut serde_json::Value),
    ) {
        self.change_store(|store| {
            store.within(namespace, |store| store.update(resource, name, edit))
        });
    }

    /// Changes the Service of an app, as `kubectl edit` does.
    pub fn edit_service(&self, name: &str, edit: impl FnOnce(&mut serde_json::Value)) {
        self.change_store(|store| store.update(Resource::Services, name, edit));
    }

    /// The same, of a Service in another namespace.
    pub fn edit_service_in(
        &self,
        namespace: &str,
        name: &str,
        edit: impl FnOnce(&mut serde_json::Value),
    ) {
        self.change_store(|store| {
            store.within(namespace, |store| {
                store.update(Resource::Services, name, edit)
            })
        });
    }

    /// Deletes the Service of that name; its slices stay, until the controller of a real cluster
    /// would have taken them away.
    pub fn delete_service_of(&self, name: &str) {
        self.change_store(|store| store.delete(Resource::Services, name));
    }

    /// Removes a slice that [`Sandbox::publish_slice`] made.
    pub fn delete_slice(&self, name: &str) {
        self.change_store(|store| store.delete(Resource::EndpointSlices, name));
    }

    /// Changes the object that is scaled, as `kubectl edit` does.
    pub fn edit(&self, edit: impl FnOnce(&mut serde_json::Value)) {
        let Options { workload, name, .. } = &self.options;
        self.change_store(|store| store.update(workload.resource(), name, edit));
    }

    /// Lets the pods of another app get ready after that time from now on, or never.
    pub fn set_start_delay_of(&self, name: &str, delay: Option<Duration>) {
        self.shared.change(|state| {
            let others = state.others.iter_mut();
            others
                .filter(|it| it.plan.name == name)
                .for_each(|it| it.set_start_delay(delay));
        });
    }

    fn change_store<R>(&self, change: impl FnOnce(&mut Store) -> R) {
        self.shared.change(|state| drop(change(&mut state.store)));
    }

    fn set_plan(&self, change: impl FnOnce(&mut Plan)) {
        self.shared
            .change(|state| change(&mut state.controller.plan));
    }
}

fn name_of(object: &std::sync::Arc<serde_json::Value>) -> String {
    super::store::text(&object["metadata"]["name"]).to_owned()
}

/// Requests that go wrong.
impl Sandbox {
    /// From now on, requests that match go wrong. The number returned is for
    /// [`Sandbox::heal_one`].
    pub fn fault(&self, which: Pattern, times: Times, what: Misbehaviour) -> u64 {
        self.shared
            .change(|state| state.faults.add(which, times, what))
    }

    /// Ends one fault. Requests that it has already struck stay struck.
    pub fn heal_one(&self, fault: u64) {
        self.shared.change(|state| state.faults.remove(fault));
    }

    /// Ends all faults, gives back all permissions, accepts and serves again.
    pub fn heal(&self) {
        self.shared.change(|state| {
            state.faults.clear();
            state.access.denied.clear();
            state.chunk_max = None;
            state.reception = AcceptMode::Serve;
        });
        self.open_listeners();
    }

    /// Takes away a permission: a verb (`get`, `list`, `watch`, `patch`, `create`,
    /// or `*`) on a resource (`deployments/scale`, or `*`).
    pub fn deny(&self, verb: &str, resource: &str) {
        let permission = (verb.to_owned(), resource.to_owned());
        self.shared
            .change(|state| state.access.denied.push(permission));
    }

    /// From now on the service account may do what `rules` grant, and nothing
    /// else.
    pub fn set_rules(&self, rules: Vec<Rule>) {
        self.shared.change(|state| state.access.rules = rules);
    }

    /// From now on the service account may do what `rules` grant in all namespaces, besides.
    pub fn set_cluster_rules(&self, rules: Vec<Rule>) {
        self.shared
            .change(|state| state.access.cluster_rules = rules);
    }

    /// Gives back all permissions that were taken away.
    pub fn allow_all(&self) {
        self.shared.change(|state| state.access.denied.clear());
    }

    /// Names the service account as the messages of 403 do.
    pub fn set_account(&self, account: &str) {
        self.shared
            .change(|state| state.access.account = account.to_owned());
    }

    /// Every watch that is open now does this. Watches to come don't.
    pub fn order_watches(&self, order: WatchFault) {
        self.shared.change(|state| state.orders.push(order));
    }

    /// Forgets the history of changes: a watch from any version read so far is
    /// answered with 410. Watches that are open continue.
    pub fn expire_versions(&self) {
        self.change_store(Store::compact);
    }

    /// The same, and watches that are open end with 410 too.
    pub fn expire_versions_and_watches(&self) {
        self.shared.change(|state| {
            state.store.compact();
            let oldest = state.store.version();
            state.orders.push(WatchFault::Expire {
                asked: oldest - 1,
                oldest,
            });
        });
    }

    /// Watches are sent in chunks of at most that many bytes, each flushed by
    /// itself; `None`: one chunk for each event.
    pub fn split_chunks(&self, max_bytes: Option<usize>) {
        self.shared
            .change(|state| state.chunk_max = max_bytes.map(|max| max.max(1)));
    }
}

/// The API server's connections.
impl Sandbox {
    /// Goes down: connections are refused, those that exist are reset.
    pub fn api_down(&self) {
        self.refuse_connections();
        self.reset_connections();
    }

    /// Comes up again, on the same port.
    pub fn api_up(&self) {
        self.receive(AcceptMode::Serve);
    }

    /// Refuses new connections; those that exist live on.
    pub fn refuse_connections(&self) {
        let mut listeners = self.listeners.lock().expect("the sandbox's listeners");
        listeners.iter_mut().for_each(Acceptor::close);
    }

    /// Changes how new connections are received; those that exist live on.
    pub fn receive(&self, reception: AcceptMode) {
        self.shared.change(|state| state.reception = reception);
        self.open_listeners();
    }

    /// Resets every connection.
    pub fn reset_connections(&self) {
        self.shared
            .change(|state| state.end_connections(true, |_| true));
    }

    /// Closes the connections that wait for a request, as a server does when
    /// its idle time-out has run out.
    pub fn close_idle_connections(&self) {
        let idle = |connection: &Connection| connection.idle;
        self.shared
            .change(|state| state.end_connections(false, idle));
    }

    fn open_listeners(&self) {
        let mut listeners = self.listeners.lock().expect("the sandbox's listeners");
        for listener in listeners.iter_mut() {
            listener.open().expect("a listener on a port of our own");
        }
    }
}

/// Credentials.
impl Sandbox {
    /// A new token is valid from now on, the old one is not; the directory
    /// has the new one.
    pub fn rotate_token(&self) {
        self.revoke_token();
        self.write_token();
    }

    /// A new token is valid from now on; the directory still has the old one.
    pub fn revoke_token(&self) {
        self.shared.change(|state| state.access.token = new_token());
    }

    /// Writes the token that is valid into the directory.
    pub fn write_token(&self) {
        self.write_credential("token", &self.token());
    }

    /// The file of the token is there, and empty.
    pub fn empty_token_file(&self) {
        self.write_credential("token", "");
    }

    /// The file of the token is not there.
    pub fn remove_token_file(&self) {
        self.directory
            .remove("token")
            .expect("a token file to remove");
    }

    /// A new CA and a new server certificate; the directory has the new CA.
    /// Connections that exist live on.
    pub fn rotate_ca(&self) {
        let authority = Authority::new();
        self.write_credential("ca.crt", &authority.ca_pem);
        self.shared.change(|state| state.tls = authority.server);
    }

    /// The server has a certificate of another CA; the directory doesn't know.
    pub fn impersonate(&self) {
        let authority = Authority::new();
        self.shared.change(|state| state.tls = authority.server);
    }

    fn write_credential(&self, file: &str, content: &str) {
        self.directory
            .write(file, content)
            .expect("a file in the credentials directory");
    }
}
