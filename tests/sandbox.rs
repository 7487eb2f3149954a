//! The demo behind `make run` on a machine without a cluster: the real `zpa`
//! before two apps of a sandbox, which it finds by their Services. One is woken by a
//! request, and both are then left to the reader.

use std::collections::HashMap;
use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use support::sandbox::{self, Options, PodProgram, Resource, Sandbox, SandboxApp, State};

const HELP: &str = "\
Shows zpa waking one of two apps, in a stand-in cluster that lives in this process.

    --app-start TIME   from a pod's creation until it is ready (1s)
    --idle-ttl TIME    without connections for so long, the app sleeps (10s)
    --listen ADDRESS   where zpa listens (127.0.0.1:8080), for the other app at the next port
    --zpa PATH         the zpa to run (the one built beside this program)
    --reason TEXT      why this is not a real cluster
";

/// The app that is woken, and the other one.
const APPS: [&str; 2] = ["myapp", "blog"];

/// The label of Services that are apps.
const LABEL: &str = "zero-pod-autoscaler/enabled";

/// How often the demo looks for a signal while nothing happens.
const TICK: Duration = Duration::from_millis(100);

/// How long zpa may take to listen; how long to end.
const START_LIMIT: Duration = Duration::from_secs(10);
const STOP_LIMIT: Duration = Duration::from_secs(3);

/// Set by SIGINT and SIGTERM.
static ENDED: AtomicBool = AtomicBool::new(false);

fn main() -> ExitCode {
    match Arguments::parse().and_then(|arguments| run(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sandbox: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Arguments {
    app_start: Duration,
    idle_ttl: String,
    listen: SocketAddr,
    zpa: PathBuf,
    reason: String,
}

impl Arguments {
    fn parse() -> Result<Arguments, Box<dyn Error>> {
        let mut arguments = Arguments {
            app_start: Duration::from_secs(1),
            idle_ttl: "10s".to_owned(),
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            zpa: neighbour()?,
            reason: "no kind, kubectl or container engine here".to_owned(),
        };
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next()? {
            let lexopt::Arg::Long(name) = argument else {
                return Err(argument.unexpected().into());
            };
            let name = name.to_owned();
            if name == "help" {
                print!("{HELP}");
                std::process::exit(0);
            }
            let value = parser.value()?.to_string_lossy().into_owned();
            match name.as_str() {
                "app-start" => arguments.app_start = duration(&value)?,
                "idle-ttl" => arguments.idle_ttl = value,
                "listen" => arguments.listen = address(&value)?,
                "zpa" => arguments.zpa = value.into(),
                "reason" => arguments.reason = value,
                _ => return Err(format!("--{name}: no such option; see --help").into()),
            }
        }
        Ok(arguments)
    }
}

/// `target/<profile>/zpa`, seen from `target/<profile>/examples/sandbox`.
fn neighbour() -> io::Result<PathBuf> {
    let own = std::env::current_exe()?;
    Ok(own.ancestors().nth(2).unwrap_or(&own).join("zpa"))
}

/// `250ms`, `1s`, `2m`, or plain seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let units = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("", 1.0)];
    let seconds = units.iter().find_map(|(unit, scale)| {
        let number: f64 = text.strip_suffix(unit)?.parse().ok()?;
        Duration::try_from_secs_f64(number * scale).ok()
    });
    seconds.ok_or_else(|| format!("--app-start {text}: not a duration; use e.g. 250ms, 1s or 2m"))
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let example = "use an address and a port, e.g. 127.0.0.1:8081";
    text.parse()
        .map_err(|_| format!("--listen {text}: not an address; {example}"))
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let listen = both_addresses(arguments.listen);
    for address in listen {
        check_port(address)?;
    }
    catch_signals();
    println!(
        "{}: this is the sandbox, a stand-in cluster in this process.\n",
        arguments.reason
    );
    let sandbox = Sandbox::start(Options {
        app: PodProgram::Http,
        start_delay: Some(arguments.app_start),
        stop_delay: Duration::from_millis(500),
        further_apps: vec![SandboxApp::new(APPS[1], 0)],
        ..Options::default()
    });
    for (app, address) in APPS.into_iter().zip(listen) {
        sandbox.edit_service(app, |service| {
            service["metadata"]["labels"] = json!({ LABEL: "true" });
            service["metadata"]["annotations"] =
                json!({ "zero-pod-autoscaler/listen": address.to_string() });
        });
    }
    let admin = free_address()?;
    let mut zpa = Zpa::start(arguments, admin, &sandbox)?;
    let mut show = Demo::begin(&sandbox);
    let watching = |state: &State| state.open_watches(Resource::EndpointSlices) > 0;
    show.wait(START_LIMIT, &mut zpa, watching)?;
    let mut answer = Some(ask(arguments.listen));
    show.tell("request sent", &format!("GET http://{}/", arguments.listen));
    while !ENDED.load(Ordering::Relaxed) {
        zpa.check()?;
        show.tell_changes();
        match answer.as_ref().map(Receiver::try_recv) {
            Some(Ok(result)) => {
                answer = None;
                show.conclude(result?, arguments, admin);
            }
            Some(Err(_)) => {}
            None => show.tell_visits(),
        }
        let shown = show.replicas;
        sandbox.wait_until(TICK, |state| {
            APPS.map(|app| state.replicas_of(app)) != shown || state.listed().len() > show.listed
        });
    }
    println!("\nEnding zpa and the sandbox.");
    Ok(())
}

/// Where zpa listens for each of the apps.
fn both_addresses(first: SocketAddr) -> [SocketAddr; 2] {
    let next = first.port().checked_add(1).unwrap_or(first.port() - 1);
    [first, SocketAddr::new(first.ip(), next)]
}

fn check_port(listen: SocketAddr) -> Result<(), String> {
    match TcpListener::bind(listen) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!(
            "zpa cannot listen on {listen}: {error}\n\
             End what listens there, or choose another port: PORT=8090 make run\n\
             (for this program by itself: --listen 127.0.0.1:8090)"
        )),
    }
}

/// A port that is free now. Should another take it first, zpa says so and ends.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind(("127.0.0.1", 0))?.local_addr()
}

/// On Ctrl-C the terminal signals the whole group; zpa gets its own.
fn catch_signals() {
    extern "C" fn end(_: libc::c_int) {
        ENDED.store(true, Ordering::Relaxed);
    }
    let handler = end as extern "C" fn(libc::c_int) as libc::sighandler_t;
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the handler only stores to an atomic, which POSIX permits
        // in a signal handler, and it lives as long as the program.
        unsafe { libc::signal(signal, handler) };
    }
}

/// The zpa process; its drop ends it.
struct Zpa {
    process: Child,
    path: PathBuf,
}

impl Zpa {
    fn start(arguments: &Arguments, admin: SocketAddr, sandbox: &Sandbox) -> Result<Zpa, String> {
        let path = arguments.zpa.clone();
        let log = std::env::var("ZPA_LOG").unwrap_or_else(|_| "warn".to_owned());
        let process = Command::new(&path)
            .envs(sandbox.env())
            .env_remove("ZPA_DEPLOYMENT")
            .env_remove("ZPA_SERVICE")
            .env("ZPA_DISCOVER", format!("{LABEL}=true"))
            .env("ZPA_ADMIN_LISTEN", admin.to_string())
            .env("ZPA_IDLE_TTL", &arguments.idle_ttl)
            .env("ZPA_DRAIN_DELAY", "0s")
            .env("ZPA_LOG", log)
            .spawn();
        match process {
            Ok(process) => Ok(Zpa { process, path }),
            Err(error) => Err(format!(
                "{} cannot be run: {error}\nBuild it first (cargo build), or name it with --zpa",
                path.display()
            )),
        }
    }

    fn check(&mut self) -> Result<(), String> {
        // A Ctrl-C ends it, perhaps before we have noticed our own.
        match self.process.try_wait() {
            Ok(Some(status)) if !ENDED.load(Ordering::Relaxed) && !status.success() => {
                Err(format!("{} has ended: {status}", self.path.display()))
            }
            Ok(Some(_)) => {
                ENDED.store(true, Ordering::Relaxed);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn ends_within(&mut self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if !matches!(self.process.try_wait(), Ok(None)) {
                return true;
            }
            thread::sleep(TICK / 10);
        }
        false
    }
}

impl Drop for Zpa {
    fn drop(&mut self) {
        if let (Ok(None), Ok(pid)) = (self.process.try_wait(), self.process.id().try_into()) {
            // SAFETY: the process is our child and has not been waited for,
            // so the number is still its own.
            unsafe { libc::kill(pid, libc::SIGTERM) };
        }
        if !self.ends_within(STOP_LIMIT) {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}

/// What the one request brought.
struct Answer {
    sent: Instant,
    first_byte: Instant,
    text: String,
}

/// Sends one request through the proxy, on a thread of its own. A refused
/// connection is no connection: it is tried until zpa listens.
fn ask(listen: SocketAddr) -> Receiver<io::Result<Answer>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(connect(listen).and_then(request)));
    receiver
}

fn connect(listen: SocketAddr) -> io::Result<(Instant, TcpStream)> {
    let deadline = Instant::now() + START_LIMIT;
    loop {
        let sent = Instant::now();
        match TcpStream::connect(listen) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused && sent < deadline => {
                thread::sleep(TICK / 10);
            }
            connected => return connected.map(|stream| (sent, stream)),
        }
    }
}

fn request((sent, mut stream): (Instant, TcpStream)) -> io::Result<Answer> {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: myapp\r\nConnection: close\r\n\r\n")?;
    let mut first = [0];
    stream.read_exact(&mut first)?;
    let first_byte = Instant::now();
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let text = text
        .rsplit("\r\n")
        .next()
        .unwrap_or_default()
        .trim()
        .to_owned();
    Ok(Answer {
        sent,
        first_byte,
        text,
    })
}

/// Tells what happens, with the time since the start.
struct Demo<'a> {
    sandbox: &'a Sandbox,
    begin: Instant,
    /// Of each app.
    replicas: [u64; 2],
    listed: usize,
    /// How many connections each pod has had, as far as it was printed.
    visits: HashMap<String, u64>,
}

impl<'a> Demo<'a> {
    fn begin(sandbox: &'a Sandbox) -> Self {
        let show = Demo {
            sandbox,
            begin: Instant::now(),
            replicas: [0; 2],
            listed: 0,
            visits: HashMap::new(),
        };
        let [one, other] = APPS;
        let detail = format!("{one} and {other} have 0 replicas and no pod");
        show.tell("asleep", &detail);
        show
    }

    fn tell(&self, what: &str, detail: &str) {
        self.tell_at(Instant::now(), what, detail);
    }

    fn tell_at(&self, at: Instant, what: &str, detail: &str) {
        println!(
            "{:9.3} s  {what:<13} {detail}",
            (at - self.begin).as_secs_f64()
        );
    }

    /// Waits for zpa to do its part, unless it ends first.
    fn wait(
        &self,
        limit: Duration,
        zpa: &mut Zpa,
        done: impl Fn(&State) -> bool,
    ) -> Result<(), String> {
        let deadline = Instant::now() + limit;
        while !self.sandbox.wait_until(TICK, &done) {
            zpa.check()?;
            if ENDED.load(Ordering::Relaxed) || Instant::now() > deadline {
                break;
            }
        }
        Ok(())
    }

    fn tell_changes(&mut self) {
        let (replicas, listed) = {
            let state = self.sandbox.state();
            let replicas = APPS.map(|app| state.replicas_of(app));
            (replicas, state.listed()[self.listed..].to_vec())
        };
        for ((app, before), now) in APPS.into_iter().zip(self.replicas).zip(replicas) {
            if now == before {
                continue;
            }
            let what = if now == 0 { "asleep again" } else { "woken" };
            let at = self.latest_patch(app).unwrap_or_else(Instant::now);
            let detail = format!("{app}: PATCH: replicas {before} -> {now}");
            self.tell_at(at, what, &detail);
        }
        self.replicas = replicas;
        for pod in &listed {
            self.tell_at(
                pod.at,
                "pod ready",
                &format!("{} at {}", pod.pod, pod.address),
            );
        }
        self.listed += listed.len();
    }

    /// Tells which pods were connected with since the last time.
    fn tell_visits(&mut self) {
        let visits = self.visits();
        // Earlier events are printed before them.
        self.tell_changes();
        for (pod, count) in &visits {
            let more = count - self.visits.get(pod).unwrap_or(&0);
            match more {
                0 => {}
                1 => self.tell("served", &format!("a connection, by {pod}")),
                _ => self.tell("served", &format!("{more} connections, by {pod}")),
            }
        }
        self.visits = visits;
    }

    /// How many connections each pod has had.
    fn visits(&self) -> HashMap<String, u64> {
        let state = self.sandbox.state();
        let others = state.others.iter().flat_map(|other| &other.pods);
        let pods = state.controller.pods.iter().chain(others);
        pods.map(|pod| (pod.name.clone(), pod.server.accepted()))
            .collect()
    }

    fn latest_patch(&self, app: &str) -> Option<Instant> {
        let scale = format!("/{app}/scale");
        let of_app = sandbox::on("patch", "deployments/scale");
        let of_app = of_app.with(move |it| it.path.ends_with(&scale));
        let patches = self.sandbox.requests(&of_app);
        patches.last().map(|patch| patch.at)
    }

    fn conclude(&mut self, answer: Answer, arguments: &Arguments, admin: SocketAddr) {
        self.tell_changes();
        self.visits = self.visits();
        let took = (answer.first_byte - answer.sent).as_secs_f64() * 1_000.0;
        let detail = format!("first byte after {took:.1} ms, from {}", answer.text);
        self.tell_at(answer.first_byte, "answered", &detail);
        let [one, other] = both_addresses(arguments.listen);
        println!(
            "\nNow you:  curl http://{one}/\n\
             The other app, which sleeps on:  curl http://{other}/\n\
             What zpa knows and does:  curl http://{admin}/status\n\
             After {} without a connection an app sleeps; the next one wakes it. \
             Ctrl-C ends all.\n",
            arguments.idle_ttl
        );
    }
}
