//! Apps that share a listener, where the TLS server name of a client chooses one.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use socket2::{Domain, Socket, Type};
use zpa::engine::{AppId, BoundListener, Limits, NamedListener, PortId};
use zpa::rules::Rules;

use crate::rig::{APP, LIMITS, PORT, PROCESS, Rig, TEST_TIMEOUT, backend, pod_at};

/// Two apps beside that of the rig.
const DB: AppId = AppId(1);
const WEB: AppId = AppId(2);

const HEADER: &[u8] = b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n";

fn port(app: AppId) -> PortId {
    PortId { app, index: 0 }
}

/// The ClientHello of rustls, with a name or without.
fn hello(name: Option<&str>) -> Vec<u8> {
    hello_with(name, 0)
}

/// The same with so many bytes more.
fn hello_with(name: Option<&str>, bytes: usize) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions().unwrap();
    let mut config = config
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.enable_sni = name.is_some();
    config.alpn_protocols = vec![vec![b'a'; 99]; bytes / 100];
    let server = ServerName::try_from(name.unwrap_or("unnamed.example").to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(config), server).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// Two apps at one address, and their backends.
struct Shared {
    rig: Rig,
    address: SocketAddr,
    db: TcpListener,
    web: TcpListener,
}

impl Shared {
    fn new(db_names: &str, web_names: &str) -> Shared {
        Shared::within(PROCESS, db_names, web_names)
    }

    fn within(process: Limits, db_names: &str, web_names: &str) -> Shared {
        let mut rig = Rig::within(process, LIMITS);
        let (db, web) = (backend(), backend());
        let address = rig.add_named(DB, None, db_names, &db);
        rig.add_named(WEB, Some(address), web_names, &web);
        Shared {
            rig,
            address,
            db,
            web,
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        stream
    }

    /// A client that sends these bytes at once.
    fn send(&self, bytes: &[u8]) -> TcpStream {
        let mut client = self.connect();
        client.write_all(bytes).unwrap();
        client
    }

    fn waiting(&self) -> [usize; 2] {
        [DB, WEB].map(|app| self.rig.engine.counts(app).waiting)
    }

    fn until_waiting(&mut self, expected: [usize; 2]) {
        self.rig.until("those are held", |engine| {
            [DB, WEB].map(|app| engine.counts(app).waiting) == expected
        });
    }

    fn refused(&self, reason: &str) -> u64 {
        let all = self.rig.engine.refused_by_name();
        let here = all.iter().find(|it| it.listen == self.address).unwrap();
        let mut reasons = here.refused.iter();
        reasons.find(|(name, _)| *name == reason).unwrap().1
    }

    /// Expects that a client gets an alert and a FIN, and that no app notices anything.
    fn expect_alert(&mut self, client: &mut TcpStream, description: u8) {
        self.rig.engine.take_changed_apps();
        self.rig.expect(client, &[21, 3, 3, 0, 2, 2, description]);
        self.rig.expect_fin(client);
        assert_eq!(self.rig.engine.take_changed_apps(), [], "it wakes nothing");
    }

    fn expect_served(&mut self, app: AppId, name: &str) {
        let backend = match app {
            DB => self.db.try_clone().unwrap(),
            _ => self.web.try_clone().unwrap(),
        };
        let now = self.rig.now();
        self.rig.engine.set_gate(app, true, now);
        let hello = hello(Some(name));
        let _client = self.send(&hello);
        let mut server = self.rig.accept(&backend);
        self.rig.expect(&mut server, &hello);
    }
}

impl Rig {
    /// Adds an app that is chosen by name at that address, or at one of its own.
    fn add_named(
        &mut self,
        app: AppId,
        shared: Option<SocketAddr>,
        names: &str,
        backend: &TcpListener,
    ) -> SocketAddr {
        let listener = shared.map_or_else(
            || NamedListener::New(BoundListener::bind(([127, 0, 0, 1], 0).into()).unwrap()),
            NamedListener::Shared,
        );
        let names = names.parse().unwrap();
        let added = self.engine.add_named_port(app, listener, &names, LIMITS);
        assert_eq!(added.unwrap(), port(app));
        self.lead(port(app), backend);
        self.engine.local_addr(port(app)).unwrap()
    }

    fn lead(&mut self, port: PortId, backend: &TcpListener) {
        let now = self.now();
        self.engine.set_backends(port, &[pod_at(backend)], now);
    }
}

#[test]
fn the_name_chooses_the_app_whose_backend_gets_every_byte() {
    let mut shared = Shared::new("db.example.com", "*.example.org");
    let hello = hello(Some("db.example.com"));
    let mut client = shared.send(&hello);
    shared.until_waiting([1, 0]);
    shared.rig.settle();
    assert_eq!(shared.rig.engine.counts(WEB).accepted, 0, "it sleeps on");
    let now = shared.rig.now();
    shared.rig.engine.set_gate(DB, true, now);
    let mut server = shared.rig.accept(&shared.db);
    client.write_all(b" and more").unwrap();
    let sent = [&hello[..], b" and more"].concat();
    shared.rig.expect(&mut server, &sent);
    server.write_all(b"answer").unwrap();
    shared.rig.expect(&mut client, b"answer");
    shared.expect_served(WEB, "shop.example.org");
}

#[test]
fn a_hello_may_come_in_any_number_of_segments() {
    let mut shared = Shared::new("db.example.com", "web.example.com");
    let hello = hello(Some("web.example.com"));
    let mut client = shared.connect();
    client.set_nodelay(true).unwrap();
    for byte in &hello[..hello.len() - 1] {
        client.write_all(&[*byte]).unwrap();
        shared.rig.turn();
    }
    shared.rig.settle();
    assert_eq!(shared.waiting(), [0, 0]);
    client.write_all(&hello[hello.len() - 1..]).unwrap();
    shared.until_waiting([0, 1]);
}

/// More than the window of a client that is held.
#[test]
fn a_hello_of_16_kib_fits_into_the_window() {
    let mut shared = Shared::new("a.example", "b.example");
    let hello = hello_with(Some("a.example"), 15_900);
    assert!(hello.len() > 16_000, "{}", hello.len());
    let mut client = shared.connect();
    client.set_nodelay(true).unwrap();
    let (first, rest) = hello.split_at(1000);
    client.write_all(first).unwrap();
    shared.rig.settle();
    client.write_all(rest).unwrap();
    shared.until_waiting([1, 0]);
}

#[test]
fn who_names_no_app_gets_an_alert_and_wakes_none() {
    let mut shared = Shared::new("db.example.com", "web.example.com");
    for (name, description, reason) in [
        (Some("other.example.com"), 112, "unknown_name"),
        (None, 109, "no_name"),
    ] {
        let mut client = shared.send(&hello(name));
        shared.expect_alert(&mut client, description);
        assert_eq!(shared.refused(reason), 1, "{reason}");
    }
    let mut plain = shared.send(b"GET / HTTP/1.1\r\n\r\n");
    shared.rig.expect_reset(&mut plain);
    assert_eq!(shared.refused("not_tls"), 1);
    shared.rig.until("nobody is left", |engine| {
        engine.refused_by_name()[0].waiting == 0
    });
    let accepted = [DB, WEB].map(|app| shared.rig.engine.counts(app).accepted);
    assert_eq!(accepted, [0, 0]);
    assert_eq!(shared.rig.engine.poll_timeout(), None, "no timer is left");
}

#[test]
fn an_app_may_take_what_no_other_is_named_for() {
    let mut shared = Shared::new("db.example.com", "*");
    let _clients = [Some("other.example.com"), None].map(|name| shared.send(&hello(name)));
    shared.until_waiting([0, 2]);
    let _client = shared.send(&hello(Some("db.example.com")));
    shared.until_waiting([1, 2]);
}

#[test]
fn who_sends_no_hello_is_reset_after_5_s() {
    let mut shared = Shared::new("a.example", "b.example");
    let hello = hello(Some("a.example"));
    let mut clients = [shared.connect(), shared.send(&hello[..hello.len() - 1])];
    shared.rig.until("they are accepted", |engine| {
        engine.refused_by_name()[0].waiting == 2
    });
    shared.rig.skew += Duration::from_millis(4_000);
    shared.rig.settle();
    assert_eq!(shared.refused("too_late"), 0);
    shared.rig.skew += Duration::from_millis(1_000);
    for client in &mut clients {
        shared.rig.expect_reset(client);
    }
    assert_eq!(shared.refused("too_late"), 2);
    // A TCP health check is nobody's fault.
    drop(shared.connect());
    shared.rig.settle();
    let here = &shared.rig.engine.refused_by_name()[0];
    assert_eq!(here.waiting, 0);
    assert_eq!(here.refused.iter().map(|(_, count)| count).sum::<u64>(), 2);
}

/// An alert that the client does not answer with a FIN.
#[test]
fn who_stays_after_an_alert_is_closed() {
    let mut shared = Shared::new("a.example", "b.example");
    let mut client = shared.send(&hello(None));
    shared.expect_alert(&mut client, 109);
    let waiting = |shared: &Shared| shared.rig.engine.refused_by_name()[0].waiting;
    assert_eq!(waiting(&shared), 1);
    shared.rig.skew += Duration::from_secs(2);
    shared.rig.settle();
    assert_eq!(waiting(&shared), 0);
    assert_eq!(shared.refused("too_late"), 0);
}

/// Of 100 connections 12 are kept for those whose name is awaited.
#[test]
fn a_flood_of_silent_clients_evicts_itself_and_no_client_of_another_listener() {
    let mut shared = Shared::new("a.example", "b.example");
    let (other, other_pod) = (AppId(3), backend());
    let other_address = shared.rig.add_named(other, None, "c.example", &other_pod);
    let elsewhere = hello(Some("c.example"));
    let mut slow = TcpStream::connect(other_address).unwrap();
    slow.write_all(&elsewhere[..9]).unwrap();
    // And one of another source, at the same listener.
    let mut beside = connect_from([127, 0, 0, 2], shared.address);
    let hello_b = hello(Some("b.example"));
    beside.write_all(&hello_b[..9]).unwrap();
    shared.rig.settle();
    let mut flood: Vec<_> = (0..30).map(|_| shared.connect()).collect();
    shared.rig.settle();
    assert_eq!(shared.refused("evicted"), 20);
    shared.rig.expect_reset(&mut flood[0]);
    let _client = shared.send(&hello(Some("a.example")));
    shared.until_waiting([1, 0]);
    slow.write_all(&elsewhere[9..]).unwrap();
    shared.rig.until("the slow one is held", |engine| {
        engine.counts(other).waiting == 1
    });
    beside.write_all(&hello_b[9..]).unwrap();
    shared.until_waiting([1, 1]);
    assert_eq!(shared.rig.counts().open, 0);
}

fn connect_from(source: [u8; 4], address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let source = SocketAddr::from((source, 0));
    socket.bind(&source.into()).unwrap();
    socket.connect(&address.into()).unwrap();
    socket.into()
}

/// Each listener in turn, and an app that has its own beside them.
#[test]
fn a_storm_at_one_address_holds_up_no_client_of_another_address() {
    let many = Limits {
        max_connections: 2000,
        ..PROCESS
    };
    let mut shared = Shared::within(many, "a.example", "b.example");
    let (other, other_pod) = (AppId(3), backend());
    let other_address = shared.rig.add_named(other, None, "c.example", &other_pod);
    let _storm: Vec<_> = (0..150).map(|_| shared.connect()).collect();
    let _alone = shared.rig.connect();
    let mut named = TcpStream::connect(other_address).unwrap();
    named.write_all(&hello(Some("c.example"))).unwrap();
    let now = shared.rig.now();
    shared.rig.engine.wait(None, now).unwrap();
    shared.rig.engine.dispatch(now);
    assert_eq!(shared.rig.engine.counts(APP).accepted, 1, "in one turn");
    assert_eq!(shared.rig.engine.counts(other).accepted, 1, "likewise");
    let all = shared.rig.engine.refused_by_name();
    let here = all.iter().find(|it| it.listen == shared.address).unwrap();
    assert_eq!(here.waiting, 63, "of 64 that a turn accepts");
}

#[test]
fn an_app_that_has_all_it_may_have_takes_no_place_of_another() {
    let few = Limits {
        max_connections: 16,
        ..PROCESS
    };
    let mut shared = Shared::within(few, "a.example", "b.example");
    // Of 14, a third of one half is each app's own, and 8 are for who comes first.
    let clients: Vec<_> = (0..10)
        .map(|_| shared.send(&hello(Some("a.example"))))
        .collect();
    shared.until_waiting([10, 0]);
    let mut refused = shared.send(&hello(Some("a.example")));
    shared.rig.expect_reset(&mut refused);
    assert_eq!(shared.refused("no_room"), 1);
    let _other = shared.send(&hello(Some("b.example")));
    shared.until_waiting([10, 1]);
    drop(clients);
    shared.until_waiting([10, 1]);
}

#[test]
fn the_rules_of_the_app_hold_once_it_is_chosen() {
    let mut shared = Shared::new("a.example", "b.example");
    let mut rules = Rules::default();
    rules
        .sources
        .denied
        .extend("127.0.0.0/8".parse().unwrap())
        .unwrap();
    shared.rig.engine.set_rules(DB, &rules);
    let mut denied = shared.send(&hello(Some("a.example")));
    shared.rig.expect_reset(&mut denied);
    let excluded =
        |shared: &Shared, app| shared.rig.engine.counters(port(app)).unwrap().exclusions();
    assert!(excluded(&shared, DB).contains(&(["denied"], 1)));
    assert!(excluded(&shared, WEB).contains(&(["denied"], 0)));
    let mut rules = Rules {
        max_per_source: std::num::NonZeroU32::new(1),
        ..Rules::default()
    };
    rules.first_bytes.wake_on = "tls".parse().unwrap();
    shared.rig.engine.set_rules(WEB, &rules);
    let _first = shared.send(&hello(Some("b.example")));
    shared.until_waiting([0, 1]);
    let mut second = shared.send(&hello(Some("b.example")));
    shared.rig.expect_reset(&mut second);
    assert!(excluded(&shared, WEB).contains(&(["source_limit"], 1)));
}

/// The header is peeked at too, and consumed by the preread of the app that expects it.
#[test]
fn a_header_of_a_load_balancer_comes_before_the_hello() {
    let mut shared = Shared::new("a.example", "b.example");
    let mut rules = Rules::default();
    rules
        .accept_proxy_protocol
        .extend("127.0.0.0/8".parse().unwrap())
        .unwrap();
    shared.rig.engine.set_rules(DB, &rules);
    let now = shared.rig.now();
    shared.rig.engine.set_gate(DB, true, now);
    let hello_a = hello(Some("a.example"));
    let mut client = shared.connect();
    for part in [&HEADER[..10], &HEADER[10..], &hello_a[..7], &hello_a[7..]] {
        client.write_all(part).unwrap();
        shared.rig.settle();
    }
    let mut server = shared.rig.accept(&shared.db);
    shared.rig.expect(&mut server, &hello_a);
    // The other app expects none: to its pods a header would be a client's bytes.
    let mut other = shared.send(&[HEADER, &hello(Some("b.example"))].concat());
    shared.rig.expect_reset(&mut other);
    assert_eq!(shared.refused("not_tls"), 1);
    // And the first app expects one of every client there.
    let mut bare = shared.send(&hello_a);
    shared.rig.skew += Duration::from_secs(5);
    shared.rig.expect_reset(&mut bare);
    let mut unknown = shared.send(&[HEADER, &hello(None)].concat());
    shared.expect_alert(&mut unknown, 109);
}

#[test]
fn names_change_while_clients_come() {
    let mut shared = Shared::new("a.example", "b.example");
    let mut slow = shared.connect();
    shared.rig.settle();
    let names = "a.example,b.example".parse().unwrap();
    shared.rig.engine.set_names(DB, &names);
    shared
        .rig
        .engine
        .set_names(WEB, &"c.example".parse().unwrap());
    slow.write_all(&hello(Some("b.example"))).unwrap();
    shared.until_waiting([1, 0]);
    let _client = shared.send(&hello(Some("c.example")));
    shared.until_waiting([1, 1]);
}

/// One of two apps leaves: first it accepts no more, then it is removed. Who had connected to it
/// before is its client, and the other app notices nothing.
#[test]
fn an_app_that_leaves_closes_no_listener_of_another() {
    let mut shared = Shared::new("a.example", "b.example");
    let slow = |shared: &mut Shared| {
        let client = shared.connect();
        shared.rig.settle();
        client
    };
    let mut accepted = slow(&mut shared);
    let mut queued = shared.connect();
    let now = shared.rig.now();
    shared.rig.engine.stop_accepting(DB, now);
    assert_eq!(shared.rig.engine.local_addr(port(DB)), None);
    assert_eq!(
        shared.rig.engine.local_addr(port(WEB)),
        Some(shared.address)
    );
    let mut late = shared.send(&hello(Some("a.example")));
    shared.expect_alert(&mut late, 112);
    for client in [&mut accepted, &mut queued] {
        client.write_all(&hello(Some("a.example"))).unwrap();
    }
    shared.until_waiting([2, 0]);
    let mut other = slow(&mut shared);
    let now = shared.rig.now();
    shared.rig.engine.remove_app(DB, now);
    shared.rig.expect_reset(&mut accepted);
    other.write_all(&hello(Some("b.example"))).unwrap();
    shared.until_waiting([0, 1]);
    // The last one closes it.
    let mut silent = slow(&mut shared);
    let now = shared.rig.now();
    shared.rig.engine.remove_app(WEB, now);
    shared.rig.expect_reset(&mut silent);
    assert!(TcpStream::connect(shared.address).is_err());
    assert!(shared.rig.engine.refused_by_name().is_empty());
    assert_eq!(shared.rig.engine.poll_timeout(), None);
}

/// Its connections may go on for hours. Its exact name is nobody's meanwhile, and a wildcard or
/// the default of an app that stays has it.
#[test]
fn the_names_of_an_app_that_has_stopped_hide_none_of_another() {
    for (stopped, stays, sent) in [
        ("db.example.com", "*.example.com", Some("db.example.com")),
        ("db.example.com", "*", Some("db.example.com")),
        ("*.example.com", "*", Some("db.example.com")),
    ] {
        let mut shared = Shared::new(stopped, stays);
        let _open = shared.send(&hello(sent));
        shared.until_waiting([1, 0]);
        let now = shared.rig.now();
        shared.rig.engine.stop_accepting(DB, now);
        let _late = shared.send(&hello(sent));
        shared.until_waiting([1, 1]);
    }
    let mut shared = Shared::new("*", "web.example.com");
    let now = shared.rig.now();
    shared.rig.engine.stop_accepting(DB, now);
    for (sent, description) in [(None, 109), (Some("other.example.com"), 112)] {
        let mut late = shared.send(&hello(sent));
        shared.expect_alert(&mut late, description);
    }
}

/// The first listener is closed, and there for the connections of its apps.
#[test]
fn an_address_that_is_opened_again_is_counted_once() {
    let mut shared = Shared::new("a.example", "b.example");
    let mut refused = shared.send(&hello(None));
    shared.expect_alert(&mut refused, 109);
    drop(refused);
    let _open = shared.send(&hello(Some("a.example")));
    shared.until_waiting([1, 0]);
    let now = shared.rig.now();
    for app in [DB, WEB] {
        shared.rig.engine.stop_accepting(app, now);
    }
    let (anew, pod) = (AppId(3), backend());
    let listener = NamedListener::New(BoundListener::bind(shared.address).unwrap());
    let names = "c.example".parse().unwrap();
    let added = shared
        .rig
        .engine
        .add_named_port(anew, listener, &names, LIMITS);
    shared.rig.lead(added.unwrap(), &pod);
    assert_eq!(shared.rig.engine.refused_by_name().len(), 1);
    assert_eq!(shared.refused("no_name"), 1, "what was counted stays");
    let mut refused = shared.send(&hello(None));
    shared.expect_alert(&mut refused, 109);
    assert_eq!(shared.refused("no_name"), 2);
    for app in [DB, WEB] {
        shared.rig.engine.remove_app(app, now);
    }
    assert_eq!(shared.refused("no_name"), 2);
    shared.rig.engine.remove_app(anew, now);
    assert!(shared.rig.engine.refused_by_name().is_empty());
}

#[test]
fn the_listener_of_names_gives_way_to_one_that_overlaps() {
    let mut shared = Shared::new("a.example", "b.example");
    let mut queued = shared.connect();
    let wide = SocketAddr::from(([0, 0, 0, 0], shared.address.port()));
    let ports = [DB, WEB].map(port);
    let bound = shared.rig.engine.bind_beside(&ports, wide).unwrap();
    let alone = AppId(3);
    let added = shared.rig.engine.add_bound_port(alone, bound, LIMITS);
    assert_eq!(shared.rig.engine.local_addr(added.unwrap()), Some(wide));
    let now = shared.rig.now();
    for port in ports {
        shared.rig.engine.stop_listening(port, now);
    }
    let _later = shared.connect();
    shared
        .rig
        .until("it is held", |engine| engine.counts(alone).waiting == 1);
    queued.write_all(&hello(Some("b.example"))).unwrap();
    shared.until_waiting([0, 1]);
}

/// The listener of an app alone becomes one of names, and that of an app alone again.
#[test]
fn a_listener_goes_over_with_those_who_wait() {
    let (pod, named_pod) = (backend(), backend());
    let mut rig = Rig::new(LIMITS);
    let address = rig.address();
    let listener = rig.engine.take_listener(PORT).unwrap();
    let mut between = TcpStream::connect(address).unwrap();
    between.write_all(&hello(Some("a.example"))).unwrap();
    let names = "a.example".parse().unwrap();
    let new = NamedListener::New(listener);
    rig.engine.add_named_port(DB, new, &names, LIMITS).unwrap();
    rig.lead(port(DB), &named_pod);
    rig.until("it is held", |engine| engine.counts(DB).waiting == 1);
    let now = rig.now();
    rig.engine.remove_app(APP, now);

    let mut slow = TcpStream::connect(address).unwrap();
    rig.settle();
    let listener = rig.engine.take_listener(port(DB)).unwrap();
    assert_eq!(rig.engine.local_addr(port(DB)), None);
    let _queued = TcpStream::connect(address).unwrap();
    let added = rig.engine.add_bound_port(WEB, listener, LIMITS).unwrap();
    rig.lead(added, &pod);
    rig.until("it is the new app's", |e| e.counts(WEB).waiting == 1);
    slow.write_all(&hello(Some("a.example"))).unwrap();
    rig.until("who came before is the old one's", |engine| {
        engine.counts(DB).waiting == 2
    });
    rig.engine.stop_accepting(DB, rig.now());
    assert_eq!(rig.engine.local_addr(added), Some(address));
    let missing = NamedListener::Shared(address);
    let added = rig.engine.add_named_port(DB, missing, &names, LIMITS);
    assert!(added.is_err(), "names choose no app there");
}
