//! Apps at one address, distinguished by the TLS server name, which passes through.

use super::apps_file::{List, app, expect_status, start, status_of, three};
use super::discover::{self, annotate};
use super::*;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::{AlertDescription, ClientConfig, ClientConnection, Error, RootCertStore, StreamOwned};
use serde_json::{Value, json};
use support::sandbox::{PodProgram, Program, SandboxApp};

const SHOP: &str = "shop.example.com";
const BLOG: &str = "www.blog.example";

/// An address that is free, of an IP address that no other test has.
fn free_address(last: u8) -> SocketAddr {
    let address = SocketAddr::from(([127, 0, 77, last], 0));
    let free = std::net::TcpListener::bind(address).unwrap();
    free.local_addr().unwrap()
}

fn named(name: &str, address: SocketAddr, server_name: &str) -> Value {
    json!({ "deployment": name, "listen": address.to_string(), "server-name": server_name })
}

fn client_of(name: Option<&str>, roots: RootCertStore) -> ClientConnection {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.enable_sni = name.is_some();
    let server = name.unwrap_or(SHOP).to_owned().try_into().unwrap();
    ClientConnection::new(Arc::new(config), server).unwrap()
}

/// The ClientHello that names this server: an echo server sends it back.
fn hello(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut client = client_of(Some(name), RootCertStore::empty());
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// Connects to an echo server by its name.
#[track_caller]
fn connect(zpa: &Zpa, address: SocketAddr, name: &str) -> TcpStream {
    let mut stream = zpa.connect_to(address);
    let hello = hello(name);
    stream.write_all(&hello).unwrap();
    let mut reply = vec![0; hello.len()];
    stream.read_exact(&mut reply).unwrap();
    assert_eq!(reply, hello, "every byte has passed through");
    stream
}

/// `openssl s_server` with a certificate that signs itself.
#[derive(Debug)]
struct Tls {
    directory: PathBuf,
    certificate: CertificateDer<'static>,
}

impl Tls {
    fn new() -> Tls {
        let directory = format!("zpa-by-name-{}", std::process::id());
        let directory = std::env::temp_dir().join(directory);
        std::fs::create_dir_all(&directory).unwrap();
        let names = [SHOP, BLOG].map(str::to_owned);
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        std::fs::write(directory.join("cert.pem"), made.cert.pem()).unwrap();
        std::fs::write(directory.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        Tls {
            directory,
            certificate: made.cert.der().clone(),
        }
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

impl Program for Tls {
    fn command(&self, at: &[SocketAddr]) -> Command {
        let mut openssl = Command::new("openssl");
        openssl.args(["s_server", "-quiet", "-www", "-accept", &at[0].to_string()]);
        openssl.arg("-cert").arg(self.directory.join("cert.pem"));
        openssl.arg("-key").arg(self.directory.join("key.pem"));
        openssl.stdout(Stdio::null()).stderr(Stdio::null());
        openssl
    }
}

/// What `openssl s_client` prints; `None`, and a note, where it is not installed.
fn s_client(address: SocketAddr, args: &[&str]) -> Option<String> {
    let mut openssl = Command::new("openssl");
    openssl.args(["s_client", "-connect", &address.to_string()]);
    let run = openssl.args(args).stdin(Stdio::null()).output();
    match run {
        Ok(output) => {
            let printed = [output.stdout, output.stderr].concat();
            Some(String::from_utf8_lossy(&printed).into_owned())
        }
        Err(_) => {
            support::skip_without("openssl");
            None
        }
    }
}

#[test]
fn a_client_wakes_the_app_that_it_names_and_sees_its_certificate() {
    if Command::new("openssl").arg("version").output().is_err() {
        return support::skip_without("openssl");
    }
    let tls = Arc::new(Tls::new());
    let sandbox = Sandbox::start(Options {
        app: PodProgram::Program(tls.clone()),
        further_apps: vec![SandboxApp::new("blog", 0)],
        ..Options::default()
    });
    let address = free_address(1);
    let apps = json!([
        named("myapp", address, SHOP),
        named("blog", address, "*.blog.example"),
    ]);
    let list = List::new("by-name", &apps);
    let zpa = start(&sandbox, &list, &[LONG_TTL]);
    zpa.expect_log(&format!("listens on {address} as {SHOP} for default/myapp"));
    let replicas = |name| sandbox.state().replicas_of(name);

    let mut roots = RootCertStore::empty();
    roots.add(tls.certificate.clone()).unwrap();
    let client = client_of(Some(SHOP), roots);
    let mut shop = StreamOwned::new(client, zpa.connect_to(address));
    shop.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut page = [0; 15];
    shop.read_exact(&mut page).unwrap();
    assert_eq!(&page, b"HTTP/1.0 200 ok");
    assert_eq!(
        (replicas("myapp"), replicas("blog")),
        (1, 0),
        "it sleeps on"
    );

    let certificate = tls.directory.join("cert.pem");
    let args = ["-servername", BLOG, "-verify_hostname", BLOG, "-CAfile"];
    let args = [&args[..], &[certificate.to_str().unwrap()]].concat();
    let printed = s_client(address, &args).unwrap();
    assert!(printed.contains("Verify return code: 0 (ok)"), "{printed}");
    assert_eq!(replicas("blog"), 1);
    for app in ["myapp", "blog"] {
        let series = format!("zpa_connections_total{{app=\"default/{app}\"}}");
        assert_eq!(zpa.metric(&series), Some(1.0), "{app}");
    }
}

#[test]
fn who_names_no_app_gets_an_alert_and_wakes_none() {
    let sandbox = three(0);
    let address = free_address(2);
    let apps = json!([named("myapp", address, SHOP), named("blog", address, BLOG)]);
    let list = List::new("unknown", &apps);
    let zpa = start(&sandbox, &list, &[LONG_TTL]);
    zpa.expect_ready();
    for (name, alert) in [
        (Some("blog.example"), AlertDescription::UnrecognisedName),
        (None, AlertDescription::MissingExtension),
    ] {
        let mut stream = zpa.connect_to(address);
        let mut client = client_of(name, RootCertStore::empty());
        let error = client.complete_io(&mut stream).unwrap_err();
        let expected = Error::AlertReceived(alert);
        assert_eq!(
            error.into_inner().unwrap().to_string(),
            expected.to_string()
        );
    }
    for (args, alert) in [
        (&["-servername", "blog.example"][..], "unrecognized name"),
        (&["-noservername"], "missing extension"),
        (&["-noservername", "-tls1_2"], "missing extension"),
    ] {
        if let Some(printed) = s_client(address, args) {
            assert!(printed.contains(alert), "{args:?}: {printed}");
        }
    }
    // PostgreSQL's SSLRequest, and a name that nobody may send.
    let mut psql = zpa.connect_to(address);
    psql.write_all(&[0, 0, 0, 8, 4, 0xD2, 0x16, 0x2F]).unwrap();
    expect_reset(&mut psql);
    let mut wrong = hello(SHOP);
    let at = wrong
        .windows(SHOP.len())
        .position(|it| it == SHOP.as_bytes());
    wrong[at.unwrap()] = 0x1B;
    zpa.connect_to(address).write_all(&wrong).unwrap();

    let unknown =
        format!("zpa_server_name_refused_total{{listen=\"{address}\",reason=\"unknown_name\"}}");
    let openssl = s_client(address, &["-servername", "blog.example"]).map_or(0.0, |_| 2.0);
    zpa.expect_metric(&unknown, 1.0 + openssl);
    expect_status(&zpa, "what was refused", |status| {
        let here = &status["by_server_name"][0];
        here["listen"] == address.to_string()
            && here["refused"]["not_tls"] == 1
            && here["refused"]["malformed"] == 1
            && here["waiting"] == 0
    });
    let from = format!("a connection of 127.0.0.1 to {address} is refused: it names a server");
    zpa.expect_log(&format!(
        "{from} that no app there has, blog.example (1 such)"
    ));
    assert_eq!(zpa.logged("Illegal SNI"), 0, "one line a minute says it");
    let state = sandbox.state();
    let replicas = ["myapp", "blog"].map(|name| state.replicas_of(name));
    assert_eq!(replicas, [0, 0]);
    drop(state);
    assert_eq!(sandbox.count(&on("patch", "")), 0, "nothing was written");
    for app in ["myapp", "blog"] {
        let series = format!("zpa_connections_total{{app=\"default/{app}\"}}");
        assert_eq!(zpa.metric(&series), Some(0.0), "{app}");
    }
}

#[test]
fn a_list_that_changes_moves_names_and_keeps_the_listener() {
    let sandbox = three(1);
    let address = free_address(3);
    let before = json!([named("myapp", address, SHOP), named("blog", address, BLOG)]);
    let mut list = List::new("moved", &before);
    let zpa = start(&sandbox, &list, &[LONG_TTL, ("ZPA_DRAIN_TIMEOUT", "1h")]);
    let mut shop = connect(&zpa, address, SHOP);
    let mut blog = connect(&zpa, address, BLOG);
    // Who has connected and sent nothing yet is the client of whoever has its name then.
    let mut waits = zpa.connect_to(address);
    expect_status(&zpa, "it waits", |status| {
        status["by_server_name"][0]["waiting"] == 1
    });
    list.set(&json!([named("myapp", address, SHOP), named("news", address, BLOG)]).to_string());
    zpa.expect_log("default/blog: drains: it is not in the list any more");
    let hello = hello(BLOG);
    waits.write_all(&hello).unwrap();
    waits.read_exact(&mut vec![0; hello.len()]).unwrap();
    let accepted = |name: &str| status_of(&zpa, name).unwrap()["connections"]["accepted"].clone();
    assert_eq!(accepted("news"), 1);
    echo(&mut blog, "it may finish");
    echo(&mut shop, "nothing was noticed");
    assert_eq!(accepted("myapp"), 1);

    // A name more is no other listener; without a name the app has it alone.
    let names = format!("{SHOP},*");
    list.set(&json!([named("myapp", address, &names)]).to_string());
    zpa.expect_log("default/myapp: settings changed");
    let _any = connect(&zpa, address, "any.example");
    echo(&mut shop, "still");
    let mut alone = app("myapp");
    alone["listen"] = address.to_string().into();
    list.set(&json!([alone]).to_string());
    expect_names(&zpa, "myapp", &Value::Null);
    echo(&mut zpa.connect_to(address), "no name");
    list.set(&before.to_string());
    expect_names(&zpa, "blog", &BLOG.into());
    connect(&zpa, address, BLOG);
    echo(&mut shop, "through all of it");
}

/// Waits until an app has those names, or none.
#[track_caller]
fn expect_names(zpa: &Zpa, name: &str, names: &Value) {
    expect_status(zpa, "its names", |status| {
        let mut apps = status["apps"].as_array().unwrap().iter();
        let name = format!("default/{name}");
        apps.any(|it| {
            let is_it = it["app"]["name"] == *name && it["leaving"] == false;
            is_it && it["settings"]["server-name"] == *names
        })
    });
}

#[test]
fn an_app_alone_may_be_reached_by_its_name_only() {
    let sandbox = awake();
    let zpa = start_zpa(&sandbox, &[LONG_TTL, ("ZPA_SERVER_NAME", "*.example.com")]);
    connect(&zpa, zpa.address(), SHOP);
    let mut client = client_of(Some("a.shop.example.com"), RootCertStore::empty());
    let error = client.complete_io(&mut zpa.connect()).unwrap_err();
    assert!(error.to_string().contains("UnrecognisedName"), "{error}");
    assert_eq!(zpa.metric("zpa_connections_total{}"), Some(1.0));
}

#[test]
fn services_share_a_port_by_their_annotations() {
    let sandbox = three(0);
    let address = free_address(4).to_string();
    let at = |names: &'static str| [("listen", &*address), ("server-name", names)];
    annotate(&sandbox, "myapp", &at(SHOP));
    annotate(&sandbox, "blog", &at("*.blog.example"));
    let zpa = discover::start(&sandbox, &[LONG_TTL]);
    expect_names(&zpa, "myapp", &SHOP.into());
    expect_names(&zpa, "blog", &"*.blog.example".into());
    let _blog = connect(&zpa, address.parse().unwrap(), BLOG);
    let replicas = |name| sandbox.state().replicas_of(name);
    assert_eq!((replicas("myapp"), replicas("blog")), (0, 1));
}

#[test]
fn a_client_whose_name_has_yet_to_come_may_finish_at_the_end() {
    let sandbox = awake();
    let settings = [
        LONG_TTL,
        ("ZPA_SERVER_NAME", SHOP),
        ("ZPA_DRAIN_DELAY", "0"),
    ];
    let mut zpa = start_zpa(&sandbox, &settings);
    let mut client = zpa.connect();
    expect_status(&zpa, "it is inspected", |status| {
        status["by_server_name"][0]["waiting"] == 1
    });
    zpa.signal("TERM");
    while TcpStream::connect(zpa.address()).is_ok() {}
    let hello = hello(SHOP);
    client.write_all(&hello).unwrap();
    client.read_exact(&mut vec![0; hello.len()]).unwrap();
    drop(client);
    assert!(zpa.wait().success());
}

/// Nothing else of its app is open, which leaves the list meanwhile.
#[test]
fn a_client_whose_name_has_yet_to_come_is_that_of_an_app_that_leaves() {
    let sandbox = three(1);
    let address = free_address(7);
    let before = json!([named("myapp", address, SHOP), named("blog", address, BLOG)]);
    let mut list = List::new("unnamed", &before);
    let zpa = start(&sandbox, &list, &[LONG_TTL, ("ZPA_DRAIN_DELAY", "0")]);
    let mut client = zpa.connect_to(address);
    expect_status(&zpa, "it is inspected", |status| {
        status["by_server_name"][0]["waiting"] == 1
    });
    list.set(&json!([named("blog", address, BLOG)]).to_string());
    zpa.expect_log("default/myapp: drains: it is not in the list any more");
    echo(&mut connect(&zpa, address, BLOG), "a turn later");
    let hello = hello(SHOP);
    client.write_all(&hello).unwrap();
    client.read_exact(&mut vec![0; hello.len()]).unwrap();
    drop(client);
    zpa.expect_log("default/myapp: drained, and removed");
}
