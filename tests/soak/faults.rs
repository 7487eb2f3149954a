//! The faults of one round.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use support::sandbox::{
    Endpoint, Misbehaviour, Options, PodBehaviour, Sandbox, Times, WatchFault, anything, on,
};
use zpa::backoff::Random;

/// One kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Faults {
    /// None.
    Fair,
    /// Pods reset their connections.
    Rough,
    /// Pods take their time to get ready, so that everybody is held.
    SlowStart,
    /// Pods are ready, and refuse for a while.
    Refusing,
    /// Pods accept, and reset for a while before any byte.
    Resetting,
    /// Beside the pods an address is listed that does not answer.
    BlackHole,
    /// The API server refuses everything for a while.
    Refusals,
    /// Writes meet conflicts.
    Conflicts,
    /// A write is applied, and its reply is lost.
    LostReplies,
    /// The API server is down for a while.
    Outage,
    /// Its connections are reset again and again.
    Resets,
    /// Watches end in every way there is.
    BrokenWatches,
    /// Token and CA are rotated.
    Rotations,
}

const ALL: [Faults; 13] = [
    Faults::Fair,
    Faults::Rough,
    Faults::SlowStart,
    Faults::Refusing,
    Faults::Resetting,
    Faults::BlackHole,
    Faults::Refusals,
    Faults::Conflicts,
    Faults::LostReplies,
    Faults::Outage,
    Faults::Resets,
    Faults::BrokenWatches,
    Faults::Rotations,
];

/// How long between two strokes.
const PACE: Duration = Duration::from_millis(100);

impl Faults {
    /// One of them.
    pub fn any(random: &mut Random) -> Faults {
        ALL[(random.bits() % ALL.len() as u64) as usize]
    }

    /// Whether a connection may end in a reset that its client has not asked for:
    /// a pod that begins to refuse resets those that it has not accepted.
    pub fn is_rough(self) -> bool {
        use Faults::{Refusing, Resetting, Rough};
        matches!(self, Rough | Refusing | Resetting)
    }

    /// Goes on until then; what outlasts it is healed by the caller.
    pub fn rage(self, sandbox: &Sandbox, until: Instant) {
        let patch = || on("patch", "deployments/scale");
        match self {
            Faults::Fair => {}
            Faults::Rough => repeat(until, |_| sandbox.reset_pod_connections()),
            Faults::SlowStart => {
                sandbox.set_start_delay(PACE * 8);
                sleep_until(until);
                sandbox.set_start_delay(Options::default().start_delay.unwrap_or_default());
            }
            Faults::Refusing => behave(sandbox, PodBehaviour::Refuse, until),
            Faults::Resetting => behave(sandbox, PodBehaviour::Reset, until),
            Faults::BlackHole => {
                let hole = Hole::dig();
                let listed = Endpoint::ready("hole", hole.address);
                sandbox.publish_slice("hole", "IPv4", &[listed]);
                sleep_until(until);
                sandbox.delete_slice("hole");
            }
            Faults::Refusals => {
                let refusal = Misbehaviour::Refuse(503, None);
                let outage = sandbox.fault(anything(), Times::Always, refusal);
                thread::sleep(PACE * 5);
                sandbox.heal_one(outage);
            }
            Faults::Conflicts => {
                sandbox.fault(patch(), Times::First(3), Misbehaviour::Refuse(409, None));
            }
            Faults::LostReplies => {
                sandbox.fault(patch(), Times::First(1), Misbehaviour::LoseReply);
            }
            Faults::Outage => {
                sandbox.api_down();
                thread::sleep(PACE * 5);
                sandbox.api_up();
            }
            Faults::Resets => repeat(until, |_| sandbox.reset_connections()),
            Faults::BrokenWatches => {
                let orders = WatchFault::BREAKS;
                repeat(until, |time| {
                    sandbox.order_watches(orders[time % orders.len()].clone());
                });
                sandbox.expire_versions_and_watches();
            }
            Faults::Rotations => {
                sandbox.rotate_ca();
                sandbox.rotate_token();
                sandbox.reset_connections();
            }
        }
    }
}

/// Gives the pods faulty behaviour, and the normal one in between.
fn behave(sandbox: &Sandbox, behaviour: PodBehaviour, until: Instant) {
    repeat(until, |time| {
        sandbox.set_pod_behaviour(match time % 4 {
            3 => PodBehaviour::Serve,
            _ => behaviour,
        });
    });
    sandbox.set_pod_behaviour(PodBehaviour::Serve);
}

/// An address that does not answer: its queue is full, so that the kernel drops
/// every further SYN.
struct Hole {
    address: SocketAddr,
    _listener: TcpListener,
    _filling: Vec<TcpStream>,
}

impl Hole {
    fn dig() -> Hole {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        socket.bind(&any.into()).expect("any port");
        socket.listen(0).expect("it is bound");
        let listener = TcpListener::from(socket);
        let address = listener.local_addr().expect("it is bound");
        let mut filling = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, PACE) {
            filling.push(stream);
        }
        Hole {
            address,
            _listener: listener,
            _filling: filling,
        }
    }
}

fn sleep_until(until: Instant) {
    thread::sleep(until.saturating_duration_since(Instant::now()));
}

/// Strikes now and then until then.
fn repeat(until: Instant, strike: impl Fn(usize)) {
    for time in 0.. {
        if Instant::now() >= until {
            return;
        }
        strike(time);
        thread::sleep(PACE);
    }
}
