//! [`PROVOCATIONS`]: what each alert is for, done to a proxy, and mended once it has fired.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use support::namespace::Namespace;
use support::sandbox::{
    Endpoint, Misbehaviour, Options, PodProgram, PodServer, Times, WatchFault, on,
};

use crate::scene::{Cluster, LIST, Scene, Target, annotate, app, found, listed, one_app, write};
use crate::watch::{Fired, MAX_WAIT, Watch};

/// An alert, and what it is for.
pub struct Provocation {
    pub alert: &'static str,
    /// The proxy at which it is provoked.
    pub pod: &'static str,
    /// For how many minutes what it is for must last until it fires.
    pub after: usize,
    /// Its labels beside those of the pod and the severity.
    pub labels: &'static [(&'static str, &'static str)],
    /// What must not fire there beside it.
    pub never: &'static [&'static str],
    /// The container as the labels of the target name it.
    pub container: &'static str,
    /// Whether it answers scrapes meanwhile.
    pub answers: bool,
    /// Whether it takes a network of its own, which only root can make.
    own_network: bool,
    cluster: fn(&Path) -> Cluster,
    /// Provokes it, waits until it fires, and mends what was done.
    provoke: fn(&Scene, &Awaited<'_>) -> Fired,
}

/// The alert that is waited for.
pub struct Awaited<'a> {
    watch: &'a Watch<'a>,
    alert: &'static str,
    pod: &'static str,
}

impl Awaited<'_> {
    /// Waits until it fires.
    fn fires(&self) -> Fired {
        self.watch.expect_firing(self.pod, self.alert)
    }

    /// Does something again and again until it fires.
    fn fires_while(&self, again: impl Fn()) -> Fired {
        let deadline = Instant::now() + MAX_WAIT;
        while Instant::now() < deadline {
            again();
            if let Some(fired) = self.watch.fires(self.pod, self.alert) {
                return fired;
            }
        }
        panic!("{}: {} does not fire", self.pod, self.alert);
    }
}

impl Provocation {
    /// The proxy, or none and a word about why not.
    pub fn start(&self, files: &Path) -> Option<Scene> {
        let network = match self.own_network.then(Namespace::new).transpose() {
            Ok(network) => network,
            Err(why) => {
                let alert = self.alert;
                let said = format!("restricted: {alert} takes root and the program ip: {why}\n");
                // Not eprintln, which cargo captures.
                let _ = io::stderr().write_all(said.as_bytes());
                return None;
            }
        };
        Some(Scene::start(self.pod, network, files, self.cluster))
    }

    /// Has it fire and end, with scrapes from before and after.
    pub fn play(&self, scene: &Scene, watch: &Watch<'_>) -> Fired {
        let awaited = Awaited {
            watch,
            alert: self.alert,
            pod: self.pod,
        };
        watch.expect_scrapes(self.pod, 4);
        let fired = scene.enter(|| (self.provoke)(scene, &awaited));
        watch.expect_ended(self.pod, self.alert);
        watch.expect_scrapes(self.pod, 2);
        fired
    }
}

/// A proxy that serves, and what its clients do meanwhile.
pub struct Healthy {
    pub pod: &'static str,
    cluster: fn(&Path) -> Cluster,
    pub traffic: fn(&Scene, &AtomicBool),
}

impl Healthy {
    pub fn start(&self, files: &Path) -> Scene {
        Scene::start(self.pod, None, files, self.cluster)
    }
}

/// Those at which nothing ever fires.
pub const HEALTHY: &[Healthy] = &[
    Healthy {
        pod: "busy",
        cluster: |_| one_app(named("busy", app(1)), &[]),
        traffic: |scene, is_over| {
            let _open = scene.served();
            while !is_over.load(Ordering::SeqCst) {
                scene.visit();
                thread::sleep(Duration::from_millis(100));
            }
        },
    },
    Healthy {
        pod: "drowsy",
        cluster: |_| one_app(named("drowsy", starts_slowly()), &[("ZPA_IDLE_TTL", "2s")]),
        traffic: |scene, is_over| {
            while !is_over.load(Ordering::SeqCst) {
                scene.visit();
                scene
                    .sandbox
                    .expect("it sleeps", |state| state.replicas() == 0);
                // Long enough to be seen.
                thread::sleep(Duration::from_secs(2));
            }
        },
    },
];

/// A pod that is no proxy, and does not answer.
pub struct Stranger {
    pub pod: &'static str,
}

pub const STRANGER: Stranger = Stranger { pod: "stranger" };

impl Stranger {
    pub fn target(&self) -> Target {
        Target::new(self.pod, "app", ([127, 0, 0, 1], 1).into())
    }
}

const APP: (&str, &str) = ("app", "default/myapp");

/// Half a second until a pod is ready.
fn starts_slowly() -> Options {
    Options {
        start_delay: Some(Duration::from_millis(500)),
        ..Options::default()
    }
}

/// An app with so many replicas whose pods never get ready.
fn never_ready(replicas: u32) -> Options {
    Options {
        start_delay: None,
        ..app(replicas)
    }
}

fn named(name: &str, options: Options) -> Options {
    Options {
        name: name.to_owned(),
        ..options
    }
}

const USUAL: Provocation = Provocation {
    alert: "",
    pod: "",
    after: 0,
    labels: &[APP],
    never: &[],
    container: "zpa",
    answers: true,
    own_network: false,
    cluster: |_| one_app(app(1), &[]),
    provoke: |_, awaited| awaited.fires(),
};

pub const PROVOCATIONS: &[Provocation] = &[
    Provocation {
        alert: "ZpaDown",
        pod: "stopped",
        after: 2,
        labels: &[],
        answers: false,
        provoke: is_stopped,
        ..USUAL
    },
    Provocation {
        alert: "ZpaDown",
        pod: "stopped-elsewhere",
        after: 2,
        labels: &[],
        container: "proxy",
        answers: false,
        provoke: is_stopped,
        ..USUAL
    },
    Provocation {
        alert: "ZpaGone",
        pod: "gone",
        after: 2,
        labels: &[("job", "zpa")],
        answers: false,
        provoke: is_stopped,
        ..USUAL
    },
    Provocation {
        alert: "ZpaNotReady",
        pod: "no-endpoints",
        after: 2,
        labels: &[],
        provoke: |scene, awaited| {
            scene.sandbox.deny("*", "endpointslices");
            scene.sandbox.deny("*", "endpoints");
            scene.sandbox.order_watches(WatchFault::End);
            let fired = awaited.fires();
            scene.sandbox.allow_all();
            fired
        },
        ..USUAL
    },
    Provocation {
        alert: "ZpaWakeTakesLong",
        pod: "no-pod-ready",
        after: 1,
        // Who waits for a wake is no use of the app that others could end.
        never: &["ZpaLeaseNotRenewed", "ZpaClientsReset"],
        cluster: |_| one_app(never_ready(0), &[]),
        provoke: |scene, awaited| {
            let _waiting = scene.connect();
            let fired = awaited.fires();
            scene.sandbox.set_start_delay(Duration::ZERO);
            fired
        },
        ..USUAL
    },
    Provocation {
        alert: "ZpaClientsReset",
        pod: "hold-limit",
        labels: &[APP, ("reason", "held_too_long")],
        cluster: |_| one_app(never_ready(0), &[("ZPA_HOLD_TIMEOUT", "1s")]),
        provoke: |scene, awaited| {
            let reset = scene.connect().read(&mut [0]).unwrap_err();
            assert_eq!(reset.kind(), io::ErrorKind::ConnectionReset);
            awaited.fires()
        },
        ..USUAL
    },
    Provocation {
        alert: "ZpaLeaseNotRenewed",
        pod: "cut-off-while-used",
        cluster: |_| one_app(app(1), &[("ZPA_IDLE_TTL", "10s")]),
        provoke: |scene, awaited| {
            let _open = scene.served();
            api_is_down(scene, awaited)
        },
        ..USUAL
    },
    Provocation {
        alert: "ZpaForwardedWithoutLease",
        pod: "no-lease",
        provoke: |scene, awaited| {
            scene.sandbox.api_down();
            scene.visit();
            let fired = awaited.fires();
            scene.sandbox.api_up();
            fired
        },
        ..USUAL
    },
    Provocation {
        alert: "ZpaReplicasOld",
        pod: "cut-off",
        // All proxies would be taken away from their clients at once.
        never: &["ZpaNotReady", "ZpaPermissionMissing"],
        provoke: api_is_down,
        ..USUAL
    },
    Provocation {
        alert: "ZpaEndpointsNotSynced",
        pod: "old-endpoints",
        after: 2,
        never: &["ZpaNotReady"],
        provoke: |scene, awaited| {
            let refused = Misbehaviour::Refuse(503, None);
            scene
                .sandbox
                .fault(on("*", "endpointslices"), Times::Always, refused);
            scene.sandbox.order_watches(WatchFault::End);
            let fired = awaited.fires();
            scene.sandbox.heal();
            fired
        },
        ..USUAL
    },
    Provocation {
        alert: "ZpaLocalPortsScarce",
        pod: "few-ports",
        after: 5,
        labels: &[],
        never: &["ZpaCannotDial"],
        own_network: true,
        cluster: |_| one_app(never_ready(1), &[]),
        provoke: |scene, awaited| {
            let _pod = leave_ports(scene, 40);
            awaited.fires_while(|| {
                scene.visit();
                // Not in a hurry: a few in each second are enough.
                thread::sleep(Duration::from_millis(50));
            })
        },
        ..USUAL
    },
    Provocation {
        alert: "ZpaCannotDial",
        pod: "no-ports",
        labels: &[("error", "no_port")],
        own_network: true,
        cluster: |_| one_app(never_ready(1), &[]),
        provoke: |scene, awaited| {
            let _waiting: Vec<_> = (0..20).map(|_| scene.connect()).collect();
            let _pod = leave_ports(scene, 10);
            awaited.fires()
        },
        ..USUAL
    },
    Provocation {
        alert: "ZpaPermissionMissing",
        pod: "forbidden",
        after: 1,
        labels: &[APP, ("permission", "get deployments")],
        // What may not be read gets old, and has this alert in place of the other.
        never: &["ZpaReplicasOld"],
        provoke: |scene, awaited| {
            scene.sandbox.deny("*", "deployments");
            scene.sandbox.deny("*", "deployments/scale");
            scene.sandbox.order_watches(WatchFault::End);
            let fired = awaited.fires();
            scene.zpa.expect_page("/metrics", "it is old", |_, page| {
                let age = page.lines().find_map(|it| {
                    it.strip_prefix("zpa_replicas_age_seconds{app=\"default/myapp\"} ")
                });
                age.is_some_and(|age| age.parse::<f64>().unwrap() > 63.0)
            });
            scene.sandbox.allow_all();
            fired
        },
        ..USUAL
    },
    Provocation {
        alert: "ZpaPermissionReplaced",
        pod: "without-watch",
        after: 5,
        labels: &[APP, ("permission", "list,watch deployments")],
        never: &["ZpaPermissionMissing", "ZpaNotReady"],
        provoke: |scene, awaited| {
            scene.sandbox.deny("list", "deployments");
            scene.sandbox.deny("watch", "deployments");
            scene.sandbox.order_watches(WatchFault::End);
            let fired = awaited.fires();
            scene.sandbox.allow_all();
            fired
        },
        ..USUAL
    },
    Provocation {
        alert: "ZpaConnectionLimitNear",
        pod: "almost-full",
        labels: &[],
        cluster: |_| one_app(app(1), &[("ZPA_MAX_CONNECTIONS", "10")]),
        provoke: |scene, awaited| {
            let _open: Vec<_> = (0..10).map(|_| scene.served()).collect();
            awaited.fires()
        },
        ..USUAL
    },
    Provocation {
        alert: "ZpaAppNotAsDescribed",
        pod: "wrong-list",
        after: 10,
        labels: &[],
        cluster: listed,
        provoke: |scene, awaited| {
            scene.write("[");
            let fired = awaited.fires();
            scene.write(LIST);
            fired
        },
        ..USUAL
    },
    Provocation {
        alert: "ZpaAppNotAsDescribed",
        pod: "wrong-service",
        after: 10,
        labels: &[("state", "wrong")],
        cluster: |_| found(),
        provoke: |scene, awaited| {
            annotate(&scene.sandbox, &[("idle-tll", "5m")]);
            let fired = awaited.fires();
            annotate(&scene.sandbox, &[]);
            fired
        },
        ..USUAL
    },
    Provocation {
        alert: "ZpaAppNotAsDescribed",
        pod: "wrong-sources",
        after: 10,
        labels: &[],
        cluster: |file| {
            write(file, "192.0.2.1\n");
            one_app(
                app(1),
                &[("ZPA_DENY_SOURCES", &format!("@{}", file.display()))],
            )
        },
        provoke: |scene, awaited| {
            scene.write("192.0.2.1/33\n");
            let fired = awaited.fires();
            scene.write("192.0.2.2\n");
            fired
        },
        ..USUAL
    },
    Provocation {
        alert: "ZpaServicesNotWatched",
        pod: "no-services",
        after: 5,
        labels: &[],
        never: &["ZpaNotReady"],
        cluster: |_| found(),
        provoke: |scene, awaited| {
            let refused = Misbehaviour::Refuse(503, None);
            scene
                .sandbox
                .fault(on("*", "services"), Times::Always, refused);
            scene.sandbox.order_watches(WatchFault::End);
            let fired = awaited.fires();
            scene.sandbox.heal();
            fired
        },
        ..USUAL
    },
];

fn is_stopped(scene: &Scene, awaited: &Awaited<'_>) -> Fired {
    scene.zpa.signal("STOP");
    let fired = awaited.fires();
    scene.zpa.signal("CONT");
    fired
}

fn api_is_down(scene: &Scene, awaited: &Awaited<'_>) -> Fired {
    scene.sandbox.api_down();
    let fired = awaited.fires();
    scene.sandbox.api_up();
    fired
}

/// Leaves so many local ports for connections to a pod that is not of the loopback, where the
/// kernel would use those in TIME_WAIT again by itself.
fn leave_ports(scene: &Scene, count: u16) -> PodServer {
    let network = scene.network.as_ref().expect("a network of its own");
    network.run("ip", "address add 10.0.1.2/32 dev lo").unwrap();
    let range = format!("20001 {}", 20_000 + count);
    network.set(("ipv4/ip_local_port_range", &range)).unwrap();
    let address = SocketAddr::from(([10, 0, 1, 2], 80));
    let pod = scene
        .sandbox
        .server_at(address, "elsewhere", PodProgram::Echo);
    let listed = [Endpoint::ready("elsewhere", address)];
    scene.sandbox.publish_slice("elsewhere", "IPv4", &listed);
    pod
}
