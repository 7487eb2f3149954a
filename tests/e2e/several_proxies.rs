//! Several real proxies for one app: none cuts the connections of another.

use super::*;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use support::sandbox::{Endpoint, Misbehaviour, Times, anything, on};
use zpa::backoff::Random;

const TTL: Duration = Duration::from_secs(2);
const TWO_SECONDS: (&str, &str) = ("ZPA_IDLE_TTL", "2s");

fn three(sandbox: &Sandbox, settings: &[(&str, &str)]) -> [Zpa; 3] {
    [(); 3].map(|()| start_zpa(sandbox, settings))
}

/// Waits until `time` has passed, in which nothing needs to happen.
fn let_pass(sandbox: &Sandbox, time: Duration) {
    assert!(!sandbox.wait_until(time, |_| false));
}

#[test]
fn a_connection_through_one_is_not_cut_by_the_others_however_long_it_lives() {
    let sandbox = awake();
    let [one, _other, _third] = three(&sandbox, &[TWO_SECONDS]);
    let mut client = one.connect();
    for _ in 0..6 {
        echo(&mut client, "still here");
        let_pass(&sandbox, TTL / 2);
    }
    assert_eq!(patches(&sandbox, 0), 0);
}

#[test]
fn the_app_sleeps_one_ttl_after_the_last_connection_anywhere_and_not_before() {
    let sandbox = awake();
    let zpas = three(&sandbox, &[TWO_SECONDS]);
    let mut last = Instant::now();
    for zpa in &zpas {
        let mut client = zpa.connect();
        echo(&mut client, "hello");
        let_pass(&sandbox, TTL * 3 / 4);
        last = Instant::now();
        drop(client);
    }
    sandbox.expect("it sleeps", |state| state.replicas() == 0);
    assert!(last.elapsed() >= TTL, "after {:?}", last.elapsed());
    expect_one_patch(&sandbox, 0);
}

#[test]
fn a_wake_through_any_is_seen_by_all() {
    let sandbox = asleep();
    let zpas = three(&sandbox, &[LONG_TTL]);
    for zpa in &zpas {
        settle_asleep(&sandbox, zpa);
    }
    for zpa in &zpas {
        echo(&mut zpa.connect(), "good morning");
    }
    expect_one_patch(&sandbox, 1);
}

/// By its watch: nothing can be read.
#[test]
fn what_somebody_else_scales_is_known_at_once_and_without_a_read() {
    let sandbox = awake();
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    zpa.expect_log("found at 1 replica");
    cost::expect_watches(&sandbox);
    for resource in ["deployments", "deployments/scale"] {
        sandbox.deny("get", resource);
    }
    sandbox.set_replicas(0);
    zpa.expect_log("scaled to 0 by somebody else");
    sandbox.set_replicas(1);
    zpa.expect_log("scaled from 0 to 1 by somebody else");
    let reads = |path: &'static str| sandbox.count(&on("get", path));
    assert!(reads("deployments") <= 2, "{}", sandbox.summary());
    assert_eq!(reads("deployments/scale"), 0, "{}", sandbox.summary());
}

#[test]
fn three_wakes_at_the_same_time_are_one() {
    let sandbox = asleep();
    let zpas = three(&sandbox, &[LONG_TTL, ("ZPA_WAKE_REPLICAS", "2")]);
    for zpa in &zpas {
        settle_asleep(&sandbox, zpa);
    }
    let mut clients: Vec<_> = zpas.iter().map(Zpa::connect).collect();
    clients
        .iter_mut()
        .for_each(|client| echo(client, "all together"));
    expect_one_patch(&sandbox, 2);
}

#[test]
fn under_lease_no_api_call_is_on_the_way_of_a_connection() {
    let sandbox = awake();
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    let _first = zpa.connect();
    zpa.expect_log("relaying to");
    sandbox.expect("the renewal is answered", |state| {
        state.count(&on("patch", "deployments/status").with(|e| e.status.is_some())) == 1
    });
    sandbox.api_down();
    for _ in 0..100 {
        echo(&mut zpa.connect(), "at once");
    }
    assert_eq!(
        zpa.logged("no renewal has succeeded"),
        0,
        "nobody had to wait for it"
    );
}

#[test]
fn without_lease_and_without_an_api_server_connections_are_let_through_after_two_seconds() {
    let sandbox = awake();
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    zpa.expect_log("found at 1 replica");
    sandbox.expect("it watches", |state| {
        state.open_watches(sandbox::Resource::EndpointSlices) == 1
    });
    sandbox.api_down();
    let start = Instant::now();
    echo(&mut zpa.connect(), "better than nothing");
    assert!(start.elapsed() >= Duration::from_secs(2));
    zpa.expect_log("no lease renewed for 2s");
    echo(&mut zpa.connect(), "and the next at once");
}

#[test]
fn where_the_status_may_not_be_patched_an_annotation_does_and_one_line_says_so() {
    let sandbox = awake();
    sandbox.deny("patch", "deployments/status");
    let [one, other, _third] = three(&sandbox, &[TWO_SECONDS]);
    let mut client = one.connect();
    echo(
        &mut client,
        "without a lease, since the refusal is not confirmed yet",
    );
    one.expect_log("renewing the lease in an annotation");
    let_pass(&sandbox, TTL * 2);
    echo(&mut client, "by annotation");
    drop(other);
    assert_eq!(patches(&sandbox, 0), 0);
    assert_eq!(one.logged("renewing the lease in an annotation"), 1);
    assert_eq!(warnings(&one, "cannot patch resource"), 1, "{}", one.log());
}

#[test]
fn where_nothing_may_be_renewed_the_app_is_served_and_stays_awake() {
    let sandbox = awake();
    sandbox.deny("patch", "deployments/status");
    sandbox.deny("patch", "deployments");
    let [one, _other, _third] = three(&sandbox, &[TWO_SECONDS]);
    let mut client = one.connect();
    echo(&mut client, "without a lease");
    let_pass(&sandbox, TTL * 2);
    echo(&mut client, "and kept");
    drop(client);
    let_pass(&sandbox, TTL * 3);
    assert_eq!(patches(&sandbox, 0), 0, "others may be in use as well");
    assert_eq!(warnings(&one, "cannot patch resource"), 1, "{}", one.log());
}

/// Whoever cannot see the leases of others takes nobody's silence for disuse.
#[test]
fn a_proxy_that_may_not_read_the_deployment_wakes_the_app_and_never_puts_it_to_sleep() {
    let sandbox = asleep();
    for verb in ["get", "list"] {
        sandbox.deny(verb, "deployments");
    }
    let zpa = start_zpa(&sandbox, &[TWO_SECONDS]);
    settle_asleep(&sandbox, &zpa);
    echo(&mut zpa.connect(), "by its scale");
    let_pass(&sandbox, TTL * 3);
    assert_eq!(patches(&sandbox, 0), 0);
    let line = "the leases of other proxies cannot be seen";
    assert_eq!(zpa.logged(line), 1, "{}", zpa.log());
}

/// An API server that has just started refuses everything for a moment
/// (`starting-up.txt` of the recordings' source).
#[test]
fn proxies_that_are_refused_everything_at_their_start_are_ready_soon_and_cut_nobody() {
    let sandbox = awake();
    for resource in [
        "deployments",
        "deployments/scale",
        "deployments/status",
        "endpointslices",
    ] {
        sandbox.deny("*", resource);
    }
    let [one, other] = [0, 1].map(|_| start_zpa(&sandbox, &[TWO_SECONDS]));
    one.expect_log("forbidden");
    other.expect_log("forbidden");
    sandbox.allow_all();
    let allowed = Instant::now();
    one.expect_ready();
    other.expect_ready();
    let took = allowed.elapsed();
    assert!(took < Duration::from_secs(29), "{took:?}: not confirmed");
    let mut client = one.connect();
    for _ in 0..4 {
        echo(&mut client, "still here");
        let_pass(&sandbox, TTL / 2);
    }
    assert_eq!(patches(&sandbox, 0), 0);
    assert_eq!(one.metric("zpa_forwarded_without_lease_total"), Some(0.0));
}

/// One that could wake nobody: its Service has no such port.
#[test]
fn a_proxy_that_cannot_wake_the_app_never_puts_it_to_sleep() {
    let sandbox = awake();
    let zpa = start_zpa(&sandbox, &[TWO_SECONDS, ("ZPA_PORT", "65000")]);
    zpa.expect_page("/readyz", "not ready", |status, _| status == 503);
    let_pass(&sandbox, TTL * 3);
    assert_eq!(patches(&sandbox, 0), 0, "{}", zpa.log());
}

/// The app's clients would lose it after a TTL, and no wake of this proxy would serve them: they
/// connect past it.
#[test]
fn a_proxy_that_sees_no_pod_of_an_app_that_is_up_never_puts_it_to_sleep() {
    type Break = fn(&Sandbox, &Zpa);
    let cases: [(&str, Break); 3] = [
        ("its Service leads back to the proxy", |sandbox, zpa| {
            let listed = [Endpoint::ready("zpa", zpa.address())];
            sandbox.publish_slice("proxies", "IPv4", &listed);
        }),
        ("its pods do not have the port", |sandbox, _| {
            sandbox.set_has_port(false);
        }),
        ("its Service is gone", |sandbox, _| {
            sandbox.delete_service();
        }),
    ];
    for (label, break_it) in cases {
        let sandbox = awake();
        let zpa = start_zpa(&sandbox, &[TWO_SECONDS]);
        zpa.expect_ready();
        let client = zpa.connect();
        break_it(&sandbox, &zpa);
        drop(client);
        zpa.expect_status(label, |status| {
            status["app"]["sleep"]["kept_awake_by"] == "cannot_wake"
        });
        let_pass(&sandbox, TTL * 3);
        assert_eq!(patches(&sandbox, 0), 0, "{label}: {}", zpa.log());
    }
}

#[test]
fn a_proxy_with_a_shorter_ttl_respects_the_lease_of_one_with_a_longer_and_says_so_once() {
    let sandbox = awake();
    let longer = start_zpa(&sandbox, &[("ZPA_IDLE_TTL", "30s")]);
    let shorter = start_zpa(&sandbox, &[("ZPA_IDLE_TTL", "1s")]);
    let mut client = longer.connect();
    echo(&mut client, "under a lease of 30 s");
    let line = shorter.expect_log("another proxy has an idle TTL of 30s");
    assert!(line.contains("WARN"), "{line}");
    let_pass(&sandbox, Duration::from_secs(4));
    echo(&mut client, "still here");
    assert_eq!(patches(&sandbox, 0), 0, "{}", shorter.log());
    assert_eq!(shorter.logged("another proxy has an idle TTL"), 1);
}

/// What `kubectl describe` shows of the condition.
#[test]
fn in_use_is_true_while_there_are_connections_and_false_after_the_last_close() {
    let sandbox = awake();
    let zpa = start_zpa(&sandbox, &[TWO_SECONDS]);
    echo(&mut zpa.connect(), "and leaves");
    sandbox.expect("it sleeps", |state| state.replicas() == 0);
    let renewals = sandbox.requests(&on("patch", "deployments/status"));
    let shown: Vec<_> = renewals
        .iter()
        .map(|renewal| {
            let condition = &renewal.json()["status"]["conditions"][0];
            let text = |key: &str| condition[key].as_str().unwrap().to_owned();
            (text("status"), text("reason"))
        })
        .collect();
    let pair = |status: &str, reason: &str| (status.to_owned(), reason.to_owned());
    assert_eq!(shown.first(), Some(&pair("True", "Connections")));
    assert_eq!(shown.last(), Some(&pair("False", "NoConnections")));
}

#[test]
fn a_rollout_of_the_proxy_loses_no_connection_held_ones_included() {
    let sandbox = asleep();
    sandbox.set_start_delay(Duration::from_millis(500));
    let mut old = start_zpa(&sandbox, &[TWO_SECONDS, ("ZPA_DRAIN_DELAY", "300ms")]);
    settle_asleep(&sandbox, &old);
    let mut held = old.connect();
    old.expect_log("waking");
    let new = start_zpa(&sandbox, &[TWO_SECONDS]);
    old.signal("TERM");
    echo(&mut held, "held by the old one");
    let mut client = new.connect();
    echo(&mut client, "with the new one");
    for _ in 0..4 {
        let_pass(&sandbox, TTL / 2);
        echo(&mut held, "held");
        echo(&mut client, "new");
    }
    drop(held);
    assert!(old.wait().success());
    echo(&mut client, "the new one alone");
    assert_eq!(patches(&sandbox, 0), 0);
}

#[test]
fn a_proxy_that_was_stopped_for_two_ttls_cuts_nobody_when_it_goes_on() {
    let sandbox = awake();
    let [one, other, _third] = three(&sandbox, &[TWO_SECONDS]);
    other.expect_log("found at");
    other.signal("STOP");
    let mut client = one.connect();
    for _ in 0..5 {
        echo(&mut client, "in use");
        let_pass(&sandbox, TTL / 2);
    }
    let reads = sandbox.count(&on("get", "deployments"));
    other.signal("CONT");
    sandbox.expect("everybody has read again", |state| {
        state.count(&on("get", "deployments")) >= reads + 6
    });
    echo(&mut client, "undisturbed");
    assert_eq!(patches(&sandbox, 0), 0);
}

/// Traffic through all of them at random moments around the TTL.
struct Traffic {
    over: Arc<AtomicBool>,
    served: Arc<AtomicU64>,
    clients: Vec<thread::JoinHandle<()>>,
}

impl Traffic {
    /// Each address has two clients. All are silent at the same time, for about
    /// a TTL, so that they come back when the app is about to sleep, or does.
    fn start(zpas: &[Zpa], ttl: Duration, seed: u64) -> Traffic {
        let over = Arc::new(AtomicBool::new(false));
        let served = Arc::new(AtomicU64::new(0));
        let start = Instant::now();
        let mut clients = Vec::new();
        for (n, zpa) in zpas.iter().flat_map(|zpa| [zpa, zpa]).enumerate() {
            let (over, served, address) = (over.clone(), served.clone(), zpa.address());
            let mut random = Random::new(seed + n as u64);
            clients.push(thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    visit(address, ttl, &mut random, &served);
                    let period = ttl.mul_f64(1.8);
                    let next = start.elapsed().div_duration_f64(period).ceil();
                    let next = period.mul_f64(next) + ttl.mul_f64(random.fraction() * 0.4);
                    thread::sleep(next.saturating_sub(start.elapsed()));
                }
            }));
        }
        Traffic {
            over,
            served,
            clients,
        }
    }

    /// Ends it; every message has come back, or this panics.
    fn end(self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().expect("nothing was lost");
        }
        self.served.load(Ordering::Relaxed)
    }
}

/// A connection with a few messages, all of which must come back.
fn visit(address: SocketAddr, ttl: Duration, random: &mut Random, served: &AtomicU64) {
    let mut stream = TcpStream::connect(address).expect("zpa accepts");
    stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    for n in 0..1 + random.bits() % 3 {
        echo(&mut stream, &format!("message {n}"));
        served.fetch_add(1, Ordering::Relaxed);
        thread::sleep(ttl.mul_f64(random.fraction() * 0.15));
    }
}

/// How many sleeps a test of random traffic goes on for: `ZPA_CYCLES`, or a
/// few.
fn cycles() -> usize {
    std::env::var("ZPA_CYCLES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(4)
}

/// Random traffic through three proxies while `disturb` is called once in a
/// while; ends after so many sleeps.
fn survive(sandbox: &Sandbox, zpas: &[Zpa], seed: u64, disturb: impl Fn(&Sandbox, u64)) {
    let ttl = Duration::from_secs(1);
    let traffic = Traffic::start(zpas, ttl, seed);
    let start = Instant::now();
    let mut round = 0;
    while patches(sandbox, 0) < cycles() {
        assert!(
            start.elapsed() < TEST_TIMEOUT * (cycles() as u32),
            "{}",
            sandbox.summary()
        );
        let_pass(sandbox, ttl);
        disturb(sandbox, round);
        round += 1;
    }
    sandbox.heal();
    assert!(traffic.end() > 0);
}

#[test]
fn nothing_is_lost_in_many_cycles_of_sleep_and_wake() {
    let sandbox = asleep();
    let zpas = three(&sandbox, &[SHORT_TTL]);
    survive(&sandbox, &zpas, 1, |_, _| {});
}

#[test]
fn nothing_is_lost_while_old_pods_stay_listed_as_ready() {
    let sandbox = asleep();
    sandbox.set_endpoint_lag(Duration::from_millis(700));
    let zpas = three(&sandbox, &[SHORT_TTL]);
    survive(&sandbox, &zpas, 2, |_, _| {});
}

#[test]
fn nothing_is_lost_in_outages_of_the_api_server() {
    let sandbox = asleep();
    let zpas = three(&sandbox, &[SHORT_TTL]);
    survive(&sandbox, &zpas, 3, |sandbox, round| match round % 4 {
        0 => drop(sandbox.fault(anything(), Times::First(9), Misbehaviour::Refuse(503, None))),
        1 => sandbox.reset_connections(),
        2 => drop(sandbox.fault(anything(), Times::Nth(3), Misbehaviour::LoseReply)),
        _ => sandbox.heal(),
    });
}

#[test]
fn a_proxy_that_is_killed_takes_nothing_with_it_but_its_own() {
    let sandbox = asleep();
    let [one, other, third] = three(&sandbox, &[SHORT_TTL]);
    let remaining = [one, other];
    let victim = std::cell::RefCell::new(Some(third));
    survive(&sandbox, &remaining, 4, |sandbox, round| {
        let mut victim = victim.borrow_mut();
        if round % 3 == 2 {
            // Dropping it is a SIGKILL.
            *victim = None;
            *victim = Some(start_zpa(sandbox, &[SHORT_TTL]));
        } else if let Some(zpa) = victim.as_ref() {
            // It may be waking the app, or be leased, when it is killed.
            drop(zpa.connect());
        }
    });
}

/// OPERATING.md states these as the cost to the API server.
mod cost {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(31);

    pub fn expect_watches(sandbox: &Sandbox) {
        sandbox.expect("it watches", |state| {
            let open = |resource| state.open_watches(resource);
            open(sandbox::Resource::EndpointSlices) == 1
                && open(sandbox::Resource::Deployments) == 1
        });
    }

    fn requests_in_a_window(sandbox: &Sandbox) -> usize {
        let before = sandbox.count(&anything());
        let_pass(sandbox, WINDOW);
        sandbox.count(&anything()) - before
    }

    #[test]
    fn an_app_asleep_costs_at_most_four_requests_a_minute() {
        let sandbox = asleep();
        let zpa = start_zpa(&sandbox, &[LONG_TTL]);
        settle_asleep(&sandbox, &zpa);
        expect_watches(&sandbox);
        let requests = requests_in_a_window(&sandbox);
        assert!((1..=2).contains(&requests), "{}", sandbox.summary());
    }

    #[test]
    fn an_app_awake_costs_at_most_four_busy_or_not() {
        let sandbox = awake();
        let zpa = start_zpa(&sandbox, &[LONG_TTL]);
        zpa.expect_log("found at 1 replica");
        let mut client = zpa.connect();
        echo(&mut client, "busy");
        expect_watches(&sandbox);
        let requests = requests_in_a_window(&sandbox);
        assert!((1..=2).contains(&requests), "{}", sandbox.summary());
    }

    #[test]
    fn a_wake_costs_a_handful() {
        let sandbox = asleep();
        let zpa = start_zpa(&sandbox, &[LONG_TTL]);
        settle_asleep(&sandbox, &zpa);
        expect_watches(&sandbox);
        let before = sandbox.count(&anything());
        echo(&mut zpa.connect(), "wake up");
        let requests = sandbox.count(&anything()) - before;
        assert!(requests <= 5, "{}", sandbox.summary());
    }
}
