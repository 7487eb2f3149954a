//! The latencies of a wake: from the connection to the write of the scale, and from the ready pod
//! to the first byte.
//!
//! Several clusters, each with a `zpa` of its own, so that the idle TTL is
//! waited for only once for all of them. They wake one after another: at any
//! time there is one wake under way, and nobody falls asleep meanwhile.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use support::program::Zpa;
use support::sandbox::{Endpoint, LoggedRequest, Options, Pattern, Sandbox, State, on};
use support::streams::read_some;

use crate::protocol::{HEADER_BYTES, Request};
use crate::report::{Table, number};
use crate::stats::Latencies;
use crate::{Plan, Result};

/// The shortest that there is.
const IDLE_TTL: &str = "1s";
/// Clusters, which wake within one TTL.
const CLUSTERS: usize = 8;
/// From a pod's creation until it is ready: time enough for the reply to the
/// PATCH, so that it is not in the way of what is measured next.
const START_DELAY: Duration = Duration::from_millis(20);
/// Time for `zpa` to draw its conclusions from what the sandbox has sent, and
/// for the machine to come to rest.
const REST: Duration = Duration::from_millis(10);
/// How long anything may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What `zpa` knows when the connection comes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Knowledge {
    /// The Deployment's version: it has been read since the last change.
    Settled,
    /// An older version: right after the sleep, when the Deployment's status
    /// has changed since `zpa`'s own write and it has not yet read again.
    Stale,
}

/// One wake.
struct Wake {
    /// How many PATCHes it took.
    patches: usize,
    /// From before the client's connect to the arrival of the first PATCH,
    first_patch: Duration,
    /// and of the one that was applied.
    applied_patch: Duration,
    /// From the moment the slices listed the pod as ready to the client's
    /// first byte.
    first_byte: Duration,
}

/// A client that has had its first reply, which the app has echoed.
pub struct Served {
    pub client: TcpStream,
    /// Before its connect.
    pub connecting: Instant,
    /// When the first byte had come.
    pub first_byte: Instant,
}

impl Served {
    /// Connects, and waits for the reply to a message with that number.
    pub fn by(address: SocketAddr, serial: u64) -> Result<Served> {
        let message = Request {
            serial,
            ..Request::default()
        }
        .header();
        let mut reply = [0; HEADER_BYTES];
        let connecting = Instant::now();
        let mut client = TcpStream::connect(address)?;
        client.set_read_timeout(Some(TIMEOUT))?;
        client.write_all(&message)?;
        let first = read_some(&client, &mut reply)?;
        let first_byte = Instant::now();
        client.read_exact(&mut reply[first..])?;
        if reply != message {
            return Err("the reply is not what was sent".into());
        }
        Ok(Served {
            client,
            connecting,
            first_byte,
        })
    }
}

/// Measures; the table.
pub fn measure(plan: &Plan) -> Result<Table> {
    let clusters: Vec<Cluster> = (0..CLUSTERS).map(|_| Cluster::start()).collect();
    let (mut settled, mut stale) = (Vec::new(), Vec::new());
    for _ in 0..plan.choose(13, 1) {
        wake_all(&clusters, Knowledge::Settled, &mut settled)?;
        wake_all(&clusters, Knowledge::Stale, &mut stale)?;
    }
    let all = || settled.iter().chain(&stale);
    let one_patch = || settled.iter().filter(|wake| wake.patches == 1);
    let mut table = Table::new(
        ["wake", "p50, ms", "p99, ms", "most, ms", "wakes"]
            .map(str::to_owned)
            .into(),
    );
    for (label, latencies) in [
        (
            "pod listed as ready → client's first byte",
            all().map(|wake| wake.first_byte).collect(),
        ),
        (
            "connect → PATCH at the API server",
            one_patch().map(|wake| wake.first_patch).collect(),
        ),
        (
            "the same right after falling asleep: first PATCH (409)",
            stale.iter().map(|wake| wake.first_patch).collect(),
        ),
        (
            "the same right after falling asleep: PATCH that is applied",
            stale.iter().map(|wake| wake.applied_patch).collect(),
        ),
    ] {
        table.add(cells(label, &Latencies::new(latencies)));
    }
    let odd = settled.len() - one_patch().count();
    if odd > 0 {
        table.note(&format!(
            "{odd} wakes took more PATCHes than one and are not in the second row."
        ));
    }
    Ok(table)
}

fn cells(label: &str, latencies: &Latencies) -> Vec<String> {
    let ms = |percent| number(latencies.percentile_us(percent) / 1e3);
    vec![
        label.to_owned(),
        ms(50.0),
        ms(99.0),
        ms(100.0),
        latencies.len().to_string(),
    ]
}

/// Wakes each cluster's app, then lets them all fall asleep.
fn wake_all(clusters: &[Cluster], knowledge: Knowledge, wakes: &mut Vec<Wake>) -> Result<()> {
    for cluster in clusters {
        cluster.fall_asleep()?;
    }
    if knowledge == Knowledge::Settled {
        for cluster in clusters {
            cluster.make_zpa_read()?;
        }
    }
    let mut clients = Vec::new();
    for cluster in clusters {
        thread::sleep(REST);
        let (wake, client) = cluster.wake()?;
        wakes.push(wake);
        clients.push(client);
    }
    Ok(())
}

/// A cluster and its `zpa`.
struct Cluster {
    sandbox: Sandbox,
    zpa: Zpa,
}

impl Cluster {
    fn start() -> Cluster {
        let sandbox = Sandbox::start(Options {
            start_delay: Some(START_DELAY),
            ..Options::default()
        });
        let zpa = Zpa::start(
            env!("CARGO_BIN_EXE_zpa"),
            &sandbox,
            &[("ZPA_IDLE_TTL", IDLE_TTL), ("ZPA_LOG", "info")],
        );
        zpa.expect_log("found at 0 replicas");
        Cluster { sandbox, zpa }
    }

    /// Waits until there are neither replicas nor pods.
    fn fall_asleep(&self) -> Result<()> {
        let is_asleep = |state: &State| state.replicas() == 0 && state.pods() == 0;
        self.wait("asleep", is_asleep)
    }

    /// Makes `zpa` read the scale, as it does by itself every ten seconds: an
    /// endpoint that appears while the app sleeps makes it look.
    fn make_zpa_read(&self) -> Result<()> {
        let reads = |state: &State| state.count(&answered_reads());
        let before = reads(&self.sandbox.state());
        let endpoint = Endpoint::ready("passer-by", ([127, 0, 0, 1], 9).into());
        self.sandbox.publish_slice("passing", "IPv4", &[endpoint]);
        let seen = self.wait("a read of the scale", |state| reads(state) > before);
        self.sandbox.delete_slice("passing");
        seen
    }

    fn wake(&self) -> Result<(Wake, TcpStream)> {
        let (logged, listed) = {
            let state = self.sandbox.state();
            (state.log.len(), state.listed().len())
        };
        let Served {
            client,
            connecting,
            first_byte,
        } = Served::by(self.zpa.address(), logged as u64)?;
        let state = self.sandbox.state();
        let wakes_up = on("patch", "deployments/scale").with(|e| e.replicas() == Some(1));
        let patches = state.log[logged..].iter().filter(|e| wakes_up.is(e));
        let patches: Vec<&LoggedRequest> = patches.collect();
        let ready = &state.listed().get(listed).ok_or("no pod got ready")?;
        let (Some(asked), Some(applied)) = (
            patches.first(),
            patches.iter().find(|patch| patch.status == Some(200)),
        ) else {
            return Err("a pod got ready without a PATCH".into());
        };
        let wake = Wake {
            patches: patches.len(),
            first_patch: asked.at - connecting,
            applied_patch: applied.at - connecting,
            first_byte: first_byte - ready.at,
        };
        drop(state);
        Ok((wake, client))
    }

    fn wait(&self, what: &str, over: impl Fn(&State) -> bool) -> Result<()> {
        if self.sandbox.wait_until(TIMEOUT, over) {
            Ok(())
        } else {
            Err(format!("not within {TIMEOUT:?}: {what}").into())
        }
    }
}

fn answered_reads() -> Pattern {
    on("get", "deployments").with(|exchange| exchange.status == Some(200))
}
