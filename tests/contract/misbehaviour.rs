//! Each control of the sandbox does what its documentation says.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use support::client::{Client, Reply, request};
use support::sandbox::{
    self, AcceptMode, Misbehaviour, Options, PodProgram, Resource, Sandbox, Times, WatchFault,
    anything, on,
};

const SCALE: &str = "/apis/apps/v1/namespaces/default/deployments/myapp/scale";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices\
                      ?labelSelector=kubernetes.io/service-name%3Dmyapp";
const ONE: &str = r#"{"spec":{"replicas":1}}"#;

/// Long enough to be sure that nothing comes, short enough to wait for.
const SILENCE: Duration = Duration::from_millis(100);

pub fn sandbox() -> Sandbox {
    Sandbox::start(Options::default())
}

pub fn client(sandbox: &Sandbox) -> Client {
    Client::connect(sandbox).expect("a connection to the API server")
}

pub fn get_scale(sandbox: &Sandbox) -> std::io::Result<Reply> {
    Client::connect(sandbox)?.get(SCALE)
}

/// A watch that is open, from the version of a list.
fn watch(sandbox: &Sandbox) -> Client {
    let mut client = client(sandbox);
    let list: Value = serde_json::from_slice(&client.get(SLICES).unwrap().body).unwrap();
    let version = list["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .to_owned();
    let open = sandbox.state().open_watches(Resource::EndpointSlices);
    let path = format!("{SLICES}&watch=true&timeoutSeconds=60&resourceVersion={version}");
    client.start(&request("GET", &path, "", "")).unwrap();
    sandbox.expect("an open watch", |s| {
        s.open_watches(Resource::EndpointSlices) > open
    });
    client
}

pub fn slices(sandbox: &Sandbox) -> Vec<Value> {
    let list = client(sandbox).get(SLICES).unwrap();
    let mut list: Value = serde_json::from_slice(&list.body).unwrap();
    let Value::Array(items) = list["items"].take() else {
        panic!("a list without items")
    };
    items
}

pub fn awake(options: Options) -> (Sandbox, SocketAddr) {
    let sandbox = Sandbox::start(Options {
        replicas: 1,
        ..options
    });
    sandbox.expect("a pod listed as ready", |state| state.listed().len() == 1);
    let address = sandbox.pod_addresses()[0];
    (sandbox, address)
}

#[test]
fn refuses_connections_and_comes_back_on_the_same_port() {
    let sandbox = sandbox();
    let mut kept = client(&sandbox);
    assert_eq!(kept.get(SCALE).unwrap().status, 200);
    sandbox.api_down();
    assert!(kept.get(SCALE).is_err(), "the connection was reset");
    assert_eq!(
        get_scale(&sandbox).unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );
    sandbox.api_up();
    assert_eq!(get_scale(&sandbox).unwrap().status, 200);
}

#[test]
fn hangs_in_the_handshake_or_resets_there() {
    let sandbox = sandbox();
    sandbox.receive(AcceptMode::Hang);
    let mut client = client(&sandbox);
    client.set_read_limit(SILENCE);
    assert_eq!(client.get(SCALE).unwrap_err().kind(), ErrorKind::WouldBlock);
    sandbox.receive(AcceptMode::Reset);
    assert_eq!(
        get_scale(&sandbox).unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
    sandbox.heal();
    assert_eq!(get_scale(&sandbox).unwrap().status, 200);
}

#[test]
fn hangs_on_one_request_and_serves_the_others() {
    let sandbox = sandbox();
    sandbox.fault(
        on("get", "deployments/scale"),
        Times::Nth(2),
        Misbehaviour::Hang,
    );
    assert_eq!(get_scale(&sandbox).unwrap().status, 200);
    let mut hung = client(&sandbox);
    hung.set_read_limit(SILENCE);
    assert_eq!(hung.get(SCALE).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(get_scale(&sandbox).unwrap().status, 200);
    let statuses: Vec<_> = sandbox
        .requests(&anything())
        .iter()
        .map(|e| e.status)
        .collect();
    assert_eq!(statuses, [Some(200), None, Some(200)]);
}

#[test]
fn applies_at_once_and_replies_late() {
    let sandbox = sandbox();
    sandbox.fault(
        on("patch", "*"),
        Times::Always,
        Misbehaviour::Delay(SILENCE * 2),
    );
    let mut client = client(&sandbox);
    let sent = Instant::now();
    client
        .start(&request(
            "PATCH",
            SCALE,
            "application/merge-patch+json",
            ONE,
        ))
        .unwrap();
    sandbox.expect("one replica", |state| state.replicas() == 1);
    assert!(sent.elapsed() < SILENCE * 2, "applied before the reply");
    assert_eq!(client.read_reply().unwrap().status, 200);
    assert!(sent.elapsed() >= SILENCE * 2, "replied after the delay");
}

#[test]
fn applies_late_even_if_the_client_has_gone() {
    let sandbox = sandbox();
    sandbox.fault(
        on("patch", "*"),
        Times::First(1),
        Misbehaviour::ApplyAfter(SILENCE),
    );
    let mut client = client(&sandbox);
    client
        .start(&request(
            "PATCH",
            SCALE,
            "application/merge-patch+json",
            ONE,
        ))
        .unwrap();
    sandbox.expect("the request", |state| state.count(&on("patch", "*")) == 1);
    drop(client);
    assert_eq!(sandbox.state().replicas(), 0);
    sandbox.expect("one replica", |state| state.replicas() == 1);
}

#[test]
fn loses_the_reply_after_applying() {
    let sandbox = sandbox();
    sandbox.fault(on("patch", "*"), Times::First(1), Misbehaviour::LoseReply);
    let error = client(&sandbox).patch(SCALE, ONE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    assert_eq!(sandbox.state().replicas(), 1);
    assert_eq!(sandbox.requests(&on("patch", "*"))[0].replicas(), Some(1));
}

#[test]
fn resets_in_place_of_a_reply_without_applying() {
    let sandbox = sandbox();
    sandbox.fault(on("patch", "*"), Times::First(1), Misbehaviour::Reset);
    let error = client(&sandbox).patch(SCALE, ONE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(sandbox.state().replicas(), 0);
}

#[test]
fn refuses_with_any_status_and_a_retry_after() {
    let sandbox = sandbox();
    let mut client = client(&sandbox);
    for status in [401, 403, 404, 409, 410, 429, 500, 503, 504] {
        let refusal = Misbehaviour::Refuse(status, Some(7));
        let fault = sandbox.fault(on("patch", "deployments/scale"), Times::Always, refusal);
        let reply = client.patch(SCALE, ONE).unwrap();
        assert_eq!(
            (reply.status, reply.header("retry-after")),
            (status, Some("7"))
        );
        sandbox.heal_one(fault);
    }
    assert_eq!(sandbox.state().replicas(), 0, "nothing was applied");
    assert_eq!(
        client.patch(SCALE, ONE).unwrap().status,
        200,
        "and all is well again"
    );
}

#[test]
fn takes_permissions_away_and_gives_them_back() {
    let sandbox = sandbox();
    sandbox.deny("list", "endpointslices");
    let mut client = client(&sandbox);
    let reply = client.get(SLICES).unwrap();
    assert_eq!(reply.status, 403);
    assert!(
        reply
            .text()
            .contains("cannot list resource \\\"endpointslices\\\"")
    );
    sandbox.allow_all();
    assert_eq!(client.get(SLICES).unwrap().status, 200);
}

#[test]
fn cuts_a_watch_within_a_line_and_within_a_character() {
    let sandbox = sandbox();
    for (order, is_text) in [
        (WatchFault::CutInLine, true),
        (WatchFault::CutInCharacter, false),
    ] {
        let mut watch = watch(&sandbox);
        sandbox.order_watches(order);
        let reply = watch.read_reply().unwrap();
        assert!(
            !reply.complete && !reply.body.ends_with(b"\n"),
            "{}",
            reply.text()
        );
        assert_eq!(std::str::from_utf8(&reply.body).is_ok(), is_text);
    }
}

#[test]
fn ends_a_watch_sends_garbage_and_a_line_of_ten_megabytes() {
    let sandbox = sandbox();
    let mut watch = watch(&sandbox);
    sandbox.order_watches(WatchFault::Garbage);
    sandbox.order_watches(WatchFault::LongLine(10 << 20));
    sandbox.order_watches(WatchFault::End);
    let reply = watch.read_reply().unwrap();
    assert!(reply.complete);
    let lines: Vec<usize> = reply.chunks.iter().map(Vec::len).collect();
    assert_eq!(lines[1], (10 << 20) + 1);
    assert!(serde_json::from_slice::<Value>(&reply.chunks[0]).is_err());
}

#[test]
fn a_watch_that_begins_badly_is_one_fault_among_others() {
    let sandbox = sandbox();
    let what = Misbehaviour::Watch(WatchFault::CutInLine);
    sandbox.fault(on("watch", "endpointslices"), Times::First(1), what);
    let path = format!("{SLICES}&watch=1&timeoutSeconds=0");
    assert!(!client(&sandbox).get(&path).unwrap().complete);
    assert!(client(&sandbox).get(&path).unwrap().complete);
}

#[test]
fn a_frozen_watch_stays_open_and_says_nothing() {
    let sandbox = sandbox();
    let mut watch = watch(&sandbox);
    watch.read_head().unwrap();
    sandbox.order_watches(WatchFault::Freeze);
    sandbox.set_replicas(1);
    sandbox.expect("a pod listed as ready", |state| state.listed().len() == 1);
    watch.set_read_limit(SILENCE);
    assert_eq!(
        watch.read_chunk().unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
    drop(watch);
    sandbox.expect("no open watch", |state| state.watches.is_empty());
}

#[test]
fn expires_versions_for_new_watches_and_for_open_ones() {
    let sandbox = sandbox();
    let mut open = watch(&sandbox);
    let old = sandbox.state().store_version();
    sandbox.expire_versions();
    let path = format!("{SLICES}&watch=1&timeoutSeconds=5&resourceVersion={old}");
    let reply = client(&sandbox).get(&path).unwrap();
    assert_eq!(reply.status, 200);
    let event: Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(
        (&event["type"], &event["object"]["code"]),
        (&json!("ERROR"), &json!(410))
    );
    sandbox.set_replicas(1);
    open.read_head().unwrap();
    assert!(
        String::from_utf8(open.read_chunk().unwrap())
            .unwrap()
            .contains("MODIFIED")
    );
    sandbox.expire_versions_and_watches();
    let mut rest = String::new();
    while let Ok(chunk) = open.read_chunk() {
        rest.push_str(&String::from_utf8(chunk.clone()).unwrap());
        if chunk.is_empty() {
            break;
        }
    }
    assert!(
        rest.ends_with("\"status\":\"Failure\"}}\n") && rest.contains("410"),
        "{rest}"
    );
}

#[test]
fn splits_events_at_any_byte() {
    let sandbox = sandbox();
    sandbox.split_chunks(Some(7));
    let mut watch = watch(&sandbox);
    sandbox.set_replicas(1);
    sandbox.expect("a pod listed as ready", |state| state.listed().len() == 1);
    watch.read_head().unwrap();
    let mut line = Vec::new();
    while !line.contains(&b'\n') {
        let chunk = watch.read_chunk().unwrap();
        assert!(chunk.len() <= 7);
        line.extend(chunk);
    }
    let end = line.iter().position(|byte| *byte == b'\n').unwrap();
    let event: Value = serde_json::from_slice(&line[..end]).unwrap();
    assert_eq!(event["type"], "MODIFIED");
}

#[test]
fn rotates_the_token_with_a_gap_if_asked() {
    let sandbox = sandbox();
    let mut old = client(&sandbox);
    sandbox.rotate_token();
    assert_eq!(old.get(SCALE).unwrap().status, 401);
    assert_eq!(get_scale(&sandbox).unwrap().status, 200);
    sandbox.revoke_token();
    assert_eq!(get_scale(&sandbox).unwrap().status, 401);
    sandbox.empty_token_file();
    assert_eq!(get_scale(&sandbox).unwrap().status, 403, "anonymous");
    sandbox.remove_token_file();
    assert_eq!(get_scale(&sandbox).unwrap().status, 403, "anonymous");
    sandbox.write_token();
    assert_eq!(get_scale(&sandbox).unwrap().status, 200);
}

#[test]
fn rotates_the_ca_and_may_be_impersonated() {
    let sandbox = sandbox();
    let mut kept = client(&sandbox);
    assert_eq!(kept.get(SCALE).unwrap().status, 200);
    sandbox.rotate_ca();
    assert_eq!(
        kept.get(SCALE).unwrap().status,
        200,
        "connections that exist live on"
    );
    assert_eq!(get_scale(&sandbox).unwrap().status, 200);
    sandbox.impersonate();
    assert_eq!(
        get_scale(&sandbox).unwrap_err().kind(),
        ErrorKind::InvalidData
    );
}

#[test]
fn closes_idle_connections_and_leaves_watches_alone() {
    let sandbox = sandbox();
    let mut watch = watch(&sandbox);
    let mut idle = client(&sandbox);
    assert_eq!(idle.get(SCALE).unwrap().status, 200);
    sandbox.expect("an idle connection", |s| {
        s.connections.values().any(|c| c.idle)
    });
    sandbox.close_idle_connections();
    assert!(idle.get(SCALE).is_err());
    sandbox.set_replicas(1);
    watch.read_head().unwrap();
    assert!(!watch.read_chunk().unwrap().is_empty());
}

#[test]
fn serves_without_a_token_where_kubectl_proxy_would() {
    let sandbox = sandbox();
    let address = sandbox
        .proxy_url()
        .strip_prefix("http://")
        .unwrap()
        .to_owned();
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "GET {SCALE} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    assert!(
        reply.starts_with("HTTP/1.1 200 OK") && reply.contains("\"Scale\""),
        "{reply}"
    );
}

#[test]
fn sandboxes_side_by_side_share_no_address_and_leave_none_behind() {
    let all: Vec<(Sandbox, SocketAddr)> = (0..8).map(|_| awake(Options::default())).collect();
    let mut addresses: Vec<SocketAddr> = all.iter().map(|(_, address)| *address).collect();
    addresses.extend(all.iter().map(|(sandbox, _)| sandbox.address()));
    let directory = all[0].0.credentials().to_owned();
    assert!(directory.join("token").exists());
    let held = TcpStream::connect(addresses[0]).unwrap();
    let mut sorted = addresses.clone();
    sorted.sort();
    sorted.dedup();
    assert_eq!(sorted.len(), addresses.len());
    drop(all);
    for address in addresses {
        assert!(
            TcpStream::connect(address).is_err(),
            "{address} is still served"
        );
    }
    assert!(!directory.exists());
    drop(held);
}

/// Whether this process has that limit of open files, as `ulimit` takes it, and
/// nothing to run but the test of that name. If not, it starts one that has: the
/// tests beside would starve as well.
fn is_alone(name: &str, limit: &str) -> bool {
    const ALONE: &str = "ALONE";
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let script = format!("ulimit {limit} && exec \"$0\" --exact \"$1\"");
    let output = std::process::Command::new("sh")
        .args(["-c", &script])
        .arg(std::env::current_exe().unwrap())
        .arg(name)
        .env(ALONE, "")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("1 passed"), "{said}");
    false
}

#[test]
fn raises_a_shells_limit_of_open_files_to_the_hard_one() {
    const NAME: &str = "misbehaviour::raises_a_shells_limit_of_open_files_to_the_hard_one";
    if !is_alone(NAME, "-S -n 64") {
        return;
    }
    let _sandbox = sandbox();
    let files: Vec<_> = (0..100)
        .map_while(|_| File::open("/dev/null").ok())
        .collect();
    assert_eq!(files.len(), 100);
}

#[test]
fn a_pod_that_finds_no_descriptor_starts_later_and_the_sandbox_lives_on() {
    const NAME: &str =
        "misbehaviour::a_pod_that_finds_no_descriptor_starts_later_and_the_sandbox_lives_on";
    if !is_alone(NAME, "-n 100") {
        return;
    }
    let sandbox = sandbox();
    let server = sandbox.lone_server("echo", PodProgram::Echo);
    let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let files: Vec<_> = (0..).map_while(|_| File::open("/dev/null").ok()).collect();
    assert!(files.len() > 50, "{} files", files.len());
    sandbox.set_replicas(1);
    let ready = |state: &sandbox::State| state.ready_pods() == 1;
    assert!(!sandbox.wait_until(SILENCE, ready));
    client.connect(&server.address().into()).unwrap();
    drop(files);
    sandbox.expect("the pod is ready", ready);
    let mut client = TcpStream::from(client);
    client.write_all(b"late").unwrap();
    let mut echo = [0; 4];
    client.read_exact(&mut echo).unwrap();
    assert_eq!(&echo, b"late");
}
