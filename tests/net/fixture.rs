//! [`Fixture`]: the real `zpa` and the sandbox's API server in the middle of a network.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use support::process::Process;
use support::program::{TEST_TIMEOUT, Zpa};
use support::sandbox::{Endpoint, Options, PodProgram, PodServer, Sandbox};

use crate::network::{MIDDLE, Network, POD};
use crate::until;

/// The port of every pod.
const PORT: u16 = 80;

/// A cluster whose pods are in a namespace of their own, and a `zpa` in front of it.
pub struct Fixture {
    pub zpa: Zpa,
    pub sandbox: Sandbox,
    pub network: Network,
}

impl Fixture {
    /// The app is asleep.
    pub fn asleep(network: Network, settings: &[(&str, &str)]) -> Fixture {
        Fixture::asleep_as(program(), network, settings)
    }

    /// The same with that program for `zpa`.
    pub fn asleep_as(program: Command, network: Network, settings: &[(&str, &str)]) -> Fixture {
        let sandbox = cluster(&network, 0);
        let zpa = network
            .middle
            .enter(|| Zpa::spawn(command(program, &sandbox, settings)));
        let fixture = Fixture {
            zpa,
            sandbox,
            network,
        };
        fixture.zpa.expect_log("found at 0 replicas");
        fixture
    }

    /// The app is awake, with pods at these addresses.
    pub fn awake(network: Network, pods: &[Ipv4Addr], settings: &[(&str, &str)]) -> Fixture {
        Fixture::awake_as(program(), network, pods, settings)
    }

    /// The same for a `zpa` that may have so many files open.
    pub fn awake_with_descriptors(network: Network, limit: usize) -> Fixture {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("ulimit -n {limit} && exec \"$0\"")]);
        shell.arg(env!("CARGO_BIN_EXE_zpa"));
        Fixture::awake_as(shell, network, &[POD], &[])
    }

    /// The same with that program for `zpa`.
    pub fn awake_as(
        program: Command,
        network: Network,
        pods: &[Ipv4Addr],
        settings: &[(&str, &str)],
    ) -> Fixture {
        let sandbox = cluster(&network, 1);
        publish(&sandbox, pods);
        let zpa = network
            .middle
            .enter(|| Zpa::spawn(command(program, &sandbox, settings)));
        Fixture {
            zpa,
            sandbox,
            network,
        }
    }

    /// Lists pods at these addresses as ready.
    pub fn publish(&self, pods: &[Ipv4Addr]) {
        publish(&self.sandbox, pods);
    }

    /// An echo server at this address, until dropped.
    pub fn echo_at(&self, address: Ipv4Addr) -> PodServer {
        let at = SocketAddr::from((address, PORT));
        self.network
            .pods
            .enter(|| self.sandbox.server_at(at, "echo", PodProgram::Echo))
    }

    /// A listener at every pod's address.
    pub fn listen(&self) -> TcpListener {
        listen(&self.network)
    }

    /// A client.
    pub fn connect(&self) -> TcpStream {
        self.connect_many(1).remove(0)
    }

    /// Clients, one after the other.
    pub fn connect_many(&self, count: usize) -> Vec<TcpStream> {
        self.network
            .clients
            .enter(|| (0..count).map(|_| self.zpa.connect()).collect())
    }

    /// Client and pod of one connection, after a byte has gone each way.
    pub fn pair(&self, pod: &TcpListener) -> (TcpStream, TcpStream) {
        let mut client = self.connect();
        let (mut server, _) = pod.accept().unwrap();
        server.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        server.set_write_timeout(Some(TEST_TIMEOUT)).unwrap();
        greet(&mut client, &mut server);
        (client, server)
    }

    /// Waits until `zpa` opens and closes nothing of its own accord any more,
    /// such as files and connections for the API.
    pub fn settle(&self) {
        const QUIET: Duration = Duration::from_millis(300);
        let (mut last, mut since) = (0, Instant::now());
        until(TEST_TIMEOUT, "nothing is opened or closed", || {
            let now = self.process().descriptors().unwrap();
            if now != last {
                (last, since) = (now, Instant::now());
            }
            since.elapsed() > QUIET
        });
    }

    /// The process of `zpa`.
    pub fn process(&self) -> Process {
        Process(self.zpa.id())
    }
}

/// A byte each way.
pub fn greet(client: &mut TcpStream, server: &mut TcpStream) {
    client.write_all(b"?").unwrap();
    server.read_exact(&mut [0]).unwrap();
    server.write_all(b"!").unwrap();
    client.read_exact(&mut [0]).unwrap();
}

/// A listener at every pod's address.
pub fn listen(network: &Network) -> TcpListener {
    network.pods.enter(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT));
        socket.bind(&address.into()).unwrap();
        socket.listen(4096).unwrap();
        socket.into()
    })
}

/// A cluster whose own pods never get ready: the others are all there is.
fn cluster(network: &Network, replicas: u32) -> Sandbox {
    let options = Options {
        replicas,
        start_delay: None,
        ..Options::default()
    };
    network.middle.enter(|| Sandbox::start(options))
}

fn publish(sandbox: &Sandbox, pods: &[Ipv4Addr]) {
    let listed: Vec<_> = pods
        .iter()
        .map(|&ip| Endpoint::ready(&format!("pod-at-{ip}"), SocketAddr::from((ip, PORT))))
        .collect();
    sandbox.publish_slice("elsewhere", "IPv4", &listed);
}

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_zpa"))
}

fn command(mut program: Command, sandbox: &Sandbox, settings: &[(&str, &str)]) -> Command {
    program
        .env_clear()
        .envs(sandbox.env())
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("ZPA_LISTEN", format!("{MIDDLE}:8080"))
        .env("ZPA_IDLE_TTL", "1h")
        .env("ZPA_LOG", "debug")
        .env("ZPA_DRAIN_DELAY", "0")
        .envs(settings.iter().copied());
    program
}

/// Asserts that the process does next to nothing for a second. One that goes
/// round and round takes all of it.
#[track_caller]
pub fn expect_calm(process: Process) {
    let busy = support::process::watch(process, Duration::from_secs(1)).unwrap();
    assert!(busy.cpu < Duration::from_millis(200), "{busy:?}");
}
