//! The [`Roster`] starts the apps of the process, and follows the list of apps.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use log::info;

use super::Outside;
use super::app::{AppConfig, Reconfigured};
use super::plan::{self, Live, Plan};
use super::proxy::Proxy;
use super::route::Route;
use super::start;
use crate::accept_probe::{AcceptProbe, Candidate, ReadyGate};
use crate::clock::{Clock, Time};
use crate::cluster::Report;
use crate::engine::{AppId, AppLimits, BoundListener, Engine, PortId};
use crate::kube::{self, Hub, Requests};
use crate::policy::Policy;
use crate::resolve::Resolver;
use crate::settings::Listener;

/// Where threads put what they report.
#[derive(Clone)]
pub(super) struct Post {
    sender: Sender<(AppId, Report)>,
    waker: Arc<mio::Waker>,
}

impl Post {
    pub(super) fn new(sender: Sender<(AppId, Report)>, waker: Arc<mio::Waker>) -> Post {
        Post { sender, waker }
    }

    fn of_app(&self, id: AppId) -> impl Fn(Report) + Send + Sync + Clone + 'static {
        let post = self.clone();
        move |report| {
            // The receiver is gone when the program is about to end.
            if post.sender.send((id, report)).is_ok() {
                let _ = post.waker.wake();
            }
        }
    }
}

/// The apps of the process, as they were planned.
pub(super) struct Roster {
    hub: Hub,
    clock: Clock,
    post: Post,
    plans: BTreeMap<AppId, Plan>,
    /// The id of the next app.
    next: u32,
}

/// An app that has what it needs to start.
struct Ready {
    id: AppId,
    plan: Plan,
    outside: Outside,
    listeners: Vec<Source>,
}

/// Where a listener comes from.
enum Source {
    /// It was bound for this app.
    Bound(BoundListener),
    /// It is that of an app that leaves.
    Of(PortId),
}

impl Roster {
    pub(super) fn new(hub: Hub, clock: Clock, post: Post) -> Roster {
        Roster {
            hub,
            clock,
            post,
            plans: BTreeMap::new(),
            next: 0,
        }
    }

    /// The requests to the API server.
    pub(super) fn requests(&self) -> &Requests {
        self.hub.requests()
    }

    /// What an app is to be.
    pub(super) fn plan(&self, id: AppId) -> Option<&Plan> {
        self.plans.get(&id)
    }

    /// Makes the apps those of `wanted`: starts, changes and ends them. Nothing changes if
    /// that cannot be done.
    ///
    /// # Errors
    /// Which listeners cannot be bound, and threads not be started.
    pub(super) fn follow(
        &mut self,
        wanted: Vec<Plan>,
        proxy: &mut Proxy<Engine, Outside>,
        now: Time,
    ) -> Result<(), Vec<String>> {
        let changes = plan::changes(&self.plans, wanted);
        let stays = |id: &AppId| self.plans.contains_key(id) && !changes.gone.contains(id);
        let leaving = proxy.apps().filter(|(id, _)| !stays(id));
        let leaving: Vec<PortId> = leaving.flat_map(|(_, app)| app.port_ids()).collect();
        let (mut ready, mut errors) = (Vec::new(), Vec::new());
        for plan in changes.new {
            match self.prepare(plan, &leaving, &proxy.sockets) {
                Ok(app) => ready.push(app),
                Err(lines) => errors.extend(lines),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        for app in ready {
            errors.extend(self.start(app, proxy, now).err());
        }
        for id in changes.gone {
            self.plans.remove(&id);
            if let Some(app) = proxy.app(id) {
                info!(
                    "{}: is not in the list any more, and drains",
                    app.config().name
                );
            }
            proxy.leave(id, now);
        }
        for live in changes.live {
            self.change(live, proxy, now);
        }
        match errors.is_empty() {
            true => Ok(()),
            false => Err(errors),
        }
    }

    /// Binds the listeners of an app, except those that apps have that leave, and starts its
    /// threads.
    fn prepare(
        &mut self,
        plan: Plan,
        leaving: &[PortId],
        engine: &Engine,
    ) -> Result<Ready, Vec<String>> {
        let settings = &plan.settings;
        let named = |why: String| match settings.is_of_list() {
            true => format!("{}: {why}", name(&plan)),
            false => why,
        };
        let (mut listeners, mut errors) = (Vec::new(), Vec::new());
        for Listener { address, .. } in &settings.listen {
            let mut leaving = leaving.iter();
            let same = leaving.find(|&&port| is_at(engine, port, *address));
            let source = match same {
                Some(&port) => Ok(Source::Of(port)),
                None => BoundListener::bind(*address).map(Source::Bound),
            };
            match source {
                Ok(source) => listeners.push(source),
                Err(why) => errors.push(named(start::explain_bind(settings, *address, &why))),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let id = AppId(self.next);
        self.next += 1;
        let outside = self.outside(id, &plan).map_err(|why| vec![named(why)])?;
        Ok(Ready {
            id,
            plan,
            outside,
            listeners,
        })
    }

    fn outside(&self, id: AppId, plan: &Plan) -> Result<Outside, String> {
        let settings = &plan.settings;
        let route = route(plan);
        let post = self.post.of_app(id);
        let resolver = route.static_backend().cloned().map(|target| {
            let (found, panicked) = (post.clone(), post.clone());
            Resolver::spawn(
                target,
                self.clock,
                move |addresses| found(Report::StaticBackends(addresses)),
                move |panic| panicked(Report::Panicked(panic)),
            )
        });
        let resolver = resolver
            .transpose()
            .map_err(|e| format!("cannot start the thread that looks up the target: {e}"))?;
        let accept_probe = (settings.ready_gate == ReadyGate::Accept).then(|| {
            let (found, panicked) = (post.clone(), post.clone());
            AcceptProbe::spawn(
                self.clock,
                move |Candidate { port, uid, .. }| found(Report::Accepts(port, uid)),
                move |panic| panicked(Report::Panicked(panic)),
            )
        });
        let accept_probe = accept_probe
            .transpose()
            .map_err(|e| format!("cannot start the thread that dials starting pods: {e}"))?;
        let app = kube::AppConfig {
            namespace: namespace(plan).to_owned(),
            target: settings.target_ref.clone(),
            dialect: settings.dialect,
            state_configmap: settings.state_configmap.clone(),
            idle_ttl: settings.idle_ttl,
            service: start::service(settings)?,
            ports: start::ports(settings, &route),
            port_flag: start::port_flag(settings),
        };
        let api = self
            .hub
            .add(app, post)
            .map_err(|e| format!("cannot start the API threads: {e}"))?;
        Ok(Outside {
            api,
            resolver,
            accept_probe,
        })
    }

    fn start(
        &mut self,
        app: Ready,
        proxy: &mut Proxy<Engine, Outside>,
        now: Time,
    ) -> Result<(), String> {
        let Ready {
            id,
            plan,
            outside,
            listeners,
        } = app;
        let engine = &mut proxy.sockets;
        for source in listeners {
            let listener = match source {
                Source::Bound(listener) => Some(listener),
                Source::Of(port) => engine.take_listener(port),
            };
            let listener = listener.ok_or_else(|| std::io::Error::other("the listener is gone"));
            let added = listener.and_then(|it| engine.add_bound_port(id, it, limits(&plan)));
            if let Err(why) = added {
                engine.remove_app(id, now);
                return Err(format!("{}: cannot listen: {why}", name(&plan)));
            }
        }
        engine.set_rules(id, &plan.rules);
        let settings = &plan.settings;
        let policy = Policy::new(start::policy_config(settings), start::random_seed(), now);
        let config = AppConfig {
            name: name(&plan),
            label: format!("{}/{}", namespace(&plan), start::service(settings)?),
            service: settings.service.clone().unwrap_or_default(),
            route: route(&plan),
            ports: start::port_names(settings),
            ready_gate: settings.ready_gate,
            hold_timeout: settings.hold_timeout,
        };
        let ports = (0..).map(|index| PortId { app: id, index });
        let listen: Vec<SocketAddr> = ports.map_while(|port| engine.local_addr(port)).collect();
        info!("{}", start::greeting(settings, &config, &listen));
        proxy.add(id, outside, policy, config, now);
        self.plans.insert(id, plan);
        Ok(())
    }

    fn change(&mut self, live: Live, proxy: &mut Proxy<Engine, Outside>, now: Time) {
        let Live {
            id,
            plan,
            has_other_policy,
        } = live;
        proxy.sockets.set_limits(id, limits(&plan));
        proxy.sockets.set_rules(id, &plan.rules);
        let policy =
            has_other_policy.then(|| (start::policy_config(&plan.settings), start::random_seed()));
        let change = Reconfigured {
            hold_timeout: plan.settings.hold_timeout,
            policy,
        };
        proxy.reconfigure(id, change, now);
        let clock = if has_other_policy {
            "; its idle clock starts anew"
        } else {
            ""
        };
        info!("{}: has other settings{clock}", name(&plan));
        self.plans.insert(id, plan);
    }
}

/// Whether a port listens at that address.
fn is_at(engine: &Engine, port: PortId, address: SocketAddr) -> bool {
    engine.local_addr(port) == Some(address)
}

fn namespace(plan: &Plan) -> &str {
    plan.settings.namespace.as_deref().unwrap_or_default()
}

/// `namespace/deployment`.
fn name(plan: &Plan) -> String {
    format!("{}/{}", namespace(plan), plan.settings.target_ref.label())
}

fn route(plan: &Plan) -> Route {
    Route::of(&plan.settings, namespace(plan))
}

fn limits(plan: &Plan) -> AppLimits {
    let settings = &plan.settings;
    AppLimits {
        hold_timeout: settings.hold_timeout,
        abort_on_close: settings.abort_on_close,
        connect_timeout: settings.connect_timeout,
    }
}
