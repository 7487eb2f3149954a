//! [`Scene`]: a proxy in a sandbox of its own, as Prometheus sees it.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use serde_json::json;
use socket2::{Domain, Socket, Type};
use support::namespace::Namespace;
use support::program::{TEST_TIMEOUT, Zpa};
use support::sandbox::{Options, Sandbox};

use crate::rules::Labels;

/// The label of Services by which apps are found.
const LABEL: &str = "zero-pod-autoscaler/enabled";

/// What Prometheus scrapes, and the labels that a PodMonitor gives it.
#[derive(Clone)]
pub struct Target {
    pub address: SocketAddr,
    pub labels: Labels,
}

impl Target {
    /// Each pod is in a namespace of its own, of the same name.
    pub fn new(pod: &str, container: &str, address: SocketAddr) -> Target {
        let labels = [("namespace", pod), ("pod", pod), ("container", container)];
        Target {
            address,
            labels: labels
                .map(|(name, value)| (name.into(), value.into()))
                .into(),
        }
    }
}

/// A sandbox, and the program that is to serve it.
pub type Cluster = (Sandbox, Command);

pub struct Scene {
    pub zpa: Zpa,
    pub sandbox: Sandbox,
    /// Where there is one, all of this is in it.
    pub network: Option<Arc<Namespace>>,
    /// A file that the settings may name.
    file: PathBuf,
    /// Where it is scraped.
    address: SocketAddr,
}

impl Scene {
    /// Starts what `cluster` makes, which gets the path of a file that is not there yet.
    pub fn start(
        pod: &str,
        network: Option<Namespace>,
        files: &Path,
        cluster: fn(&Path) -> Cluster,
    ) -> Scene {
        let (network, file) = (network.map(Arc::new), files.join(pod));
        let start = || {
            let (sandbox, command) = cluster(&file);
            (sandbox, Zpa::spawn(command))
        };
        let (sandbox, zpa) = inside(network.as_deref(), start);
        let line = zpa.expect_log("status on http://");
        let (_, admin) = line.rsplit_once("http://").unwrap();
        let admin = admin.parse().unwrap();
        let address = match &network {
            Some(network) => forward(network.clone(), admin),
            None => admin,
        };
        Scene {
            zpa,
            sandbox,
            network,
            file,
            address,
        }
    }

    /// What Prometheus scrapes.
    pub fn target(&self, pod: &str, container: &str) -> Target {
        Target::new(pod, container, self.address)
    }

    /// Does `work` where the proxy is.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        inside(self.network.as_deref(), work)
    }

    /// A client.
    pub fn connect(&self) -> TcpStream {
        connect(self.zpa.address())
    }

    /// A client that has sent a line through the echo server of the pod.
    pub fn served(&self) -> TcpStream {
        let mut client = self.connect();
        client.write_all(b"hello").unwrap();
        client.read_exact(&mut [0; 5]).unwrap();
        client
    }

    /// A client that has come and gone, and was the first to end.
    pub fn visit(&self) {
        let mut client = self.served();
        client.shutdown(Shutdown::Write).unwrap();
        client.read_to_end(&mut Vec::new()).unwrap();
    }

    /// Replaces the file that the settings name.
    pub fn write(&self, content: &str) {
        write(&self.file, content);
    }
}

fn inside<T: Send>(network: Option<&Namespace>, work: impl FnOnce() -> T + Send) -> T {
    match network {
        Some(network) => network.enter(work),
        None => work(),
    }
}

/// A connection from an address that nobody else uses, so that no local port is missing.
fn connect(to: SocketAddr) -> TcpStream {
    static COUNT: AtomicU32 = AtomicU32::new(1);
    let [.., a, b, c] = COUNT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let from = SocketAddr::from(([127, 128 + a, b, c], 0));
    // The proxy may have the same port for a pod, when this one is in TIME_WAIT.
    socket.set_reuse_address(true).unwrap();
    socket.bind(&from.into()).unwrap();
    socket.connect(&to.into()).expect("zpa accepts");
    socket.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    socket.set_write_timeout(Some(TEST_TIMEOUT)).unwrap();
    socket.into()
}

/// An address that leads to one in a network, until this process ends.
fn forward(network: Arc<Namespace>, to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            // A scrape that fails is for Prometheus to notice.
            let _ = client.and_then(|client| relay(&client, &network.enter(|| connect(to))));
        }
    });
    address
}

/// Relays a request and its reply.
fn relay(mut client: &TcpStream, mut server: &TcpStream) -> io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte)?;
        request.push(byte[0]);
    }
    server.write_all(&request)?;
    io::copy(&mut server, &mut client).map(drop)
}

/// Replaces a file in one step.
pub fn write(file: &Path, content: &str) {
    let new = file.with_extension("new");
    fs::write(&new, content).unwrap();
    fs::rename(&new, file).unwrap();
}

/// An app with so many replicas.
pub fn app(replicas: u32) -> Options {
    Options {
        replicas,
        ..Options::default()
    }
}

/// A sandbox as `options` say, with its pods ready unless they never get so, and the program
/// before its app.
pub fn one_app(options: Options, settings: &[(&str, &str)]) -> Cluster {
    let ready = options.start_delay.map_or(0, |_| options.replicas as usize);
    let sandbox = Sandbox::start(options);
    sandbox.expect("its pods are ready", |state| state.ready_pods() == ready);
    let mut command = Command::new(env!("CARGO_BIN_EXE_zpa"));
    command
        .env_clear()
        .envs(sandbox.env())
        .env("ZPA_LISTEN", "127.0.0.1:0")
        .env("ZPA_LOG", "info")
        .env("ZPA_DRAIN_DELAY", "0")
        .env("ZPA_IDLE_TTL", "1h")
        .envs(settings.iter().copied());
    (sandbox, command)
}

/// The same with apps that settings say where to find.
fn apps(settings: &[(&str, &str)]) -> Cluster {
    let (sandbox, mut command) = one_app(app(1), settings);
    for variable in ["ZPA_DEPLOYMENT", "ZPA_SERVICE", "ZPA_LISTEN"] {
        command.env_remove(variable);
    }
    (sandbox, command)
}

/// The app in a list, which is that file.
pub fn listed(file: &Path) -> Cluster {
    write(file, LIST);
    apps(&[("ZPA_APPS", file.to_str().unwrap())])
}

/// A list that is right.
pub const LIST: &str = r#"[{ "deployment": "myapp", "listen": "127.0.0.1:0" }]"#;

/// The app found by its Service.
pub fn found() -> Cluster {
    let cluster = apps(&[("ZPA_DISCOVER", &format!("{LABEL}=true"))]);
    annotate(&cluster.0, &[]);
    cluster
}

/// Gives the Service these annotations beside the one that it needs.
pub fn annotate(sandbox: &Sandbox, annotations: &[(&str, &str)]) {
    sandbox.edit_service("myapp", |service| {
        service["metadata"]["labels"] = json!({ LABEL: "true" });
        let needed = [("listen", "127.0.0.1:0")];
        service["metadata"]["annotations"] = needed
            .iter()
            .chain(annotations)
            .map(|(name, value)| (format!("zero-pod-autoscaler/{name}"), json!(value)))
            .collect::<serde_json::Map<_, _>>()
            .into();
    });
}
