//! HTTP/1.1 and HTTP/2 in plain text, with nginx and curl.

use std::net::SocketAddr;
use std::process::Command;

use super::client::{Kept, run, succeed};
use super::server::{Beside, Server, Volume, are_there, command, find};
use super::trial::Trial;

/// nginx with that in its `http` block, where `ADDRESS` is where it listens.
pub fn nginx(volume: Volume, http: &str) -> Option<Server> {
    if !are_there(&["nginx", "curl"]) {
        return None;
    }
    let http = http.to_owned();
    let start = move |volume: &Volume, at: &[SocketAddr]| nginx_command(volume, &http, at[0]);
    // It lets requests finish.
    Some(Server::new(volume, start).stopped_by(libc::SIGQUIT))
}

fn nginx_command(volume: &Volume, http: &str, at: SocketAddr) -> Command {
    let path = |name| volume.path(name).display().to_string();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary = temporary.map(|name| format!("{name}_temp_path {};", path(name)));
    let configuration = format!(
        "daemon off; worker_processes 1; pid {}; error_log stderr;\n\
         events {{}}\nhttp {{ access_log off; {}\n{} }}\n",
        path("pid"),
        temporary.concat(),
        http.replace("ADDRESS", &at.to_string()),
    );
    let mut nginx = command("nginx");
    // Without -e it opens Debian's log first.
    nginx.args(["-e", "stderr", "-p"]).arg(volume.path(""));
    nginx
        .arg("-c")
        .arg(volume.write("nginx.conf", &configuration));
    nginx
}

pub fn curl(words: &[&str]) -> Command {
    let mut curl = Command::new(find("curl").unwrap());
    curl.args(["--silent", "--show-error", "--max-time", "60"]);
    curl.args(words);
    curl
}

const HELLO: &str = "server { listen ADDRESS; location / { return 200 \"hello\\n\"; } }";

#[test]
#[ignore = "make protocols runs it"]
fn curl_wakes_it_once_for_two_requests_and_health_checks_do_not() {
    let Some(server) = nginx(Volume::new(), HELLO) else {
        return;
    };
    let trial = Trial::start("http", server);
    trial.check();
    let url = format!("http://{}/", trial.address());
    let health = curl(&["-A", "kube-probe/1.34", "-w", "%{http_code}", &url]);
    assert!(
        succeed(&health).ends_with("200"),
        "answered while it sleeps"
    );
    assert_eq!(trial.wakes(), 0);
    trial.wake_twice(|| {
        let connects = "%{num_connects}\n";
        let said = succeed(&curl(&["-w", connects, &url, &url]));
        assert_eq!(said, "hello\n1\nhello\n0\n", "one connection for both");
    });
}

/// An ingress that keeps connections open is what keeps an app awake for ever.
#[test]
#[ignore = "make protocols runs it"]
fn the_pool_of_an_ingress_lets_it_sleep_and_loses_no_request() {
    let Some(server) = nginx(Volume::new(), HELLO) else {
        return;
    };
    let trial = Trial::start("http", server);
    let (volume, at) = (Volume::new(), trial.sandbox.spare_address());
    let ingress = format!(
        "upstream app {{ server {}; keepalive 8; }}\n\
         server {{ listen ADDRESS; location / {{ proxy_pass http://app; \
         proxy_http_version 1.1; proxy_set_header Connection \"\"; }} }}",
        trial.address(),
    );
    let _ingress = Beside::start(nginx_command(&volume, &ingress, at), at);
    let url = format!("http://{at}/");
    trial.wake_twice(|| assert_eq!(succeed(&curl(&["--fail", &url])), "hello\n"));
}

/// The pods of the two wakes are processes of their own.
#[test]
#[ignore = "make protocols runs it"]
fn a_client_keeps_its_connection_over_two_sleeps() {
    let Some(server) = nginx(Volume::new(), HELLO) else {
        return;
    };
    let trial = Trial::start("http-detach", server);
    let mut client = Kept::connect(trial.address());
    trial.wake_twice(|| {
        for _ in 0..2 {
            let answer = client.ask("GET / HTTP/1.1\r\nHost: app\r\n\r\n", "hello\n");
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        }
    });
    assert_eq!(trial.zpa.metric("zpa_connections_total"), Some(1.0));
    assert_eq!(trial.zpa.metric("zpa_connections_detached"), Some(1.0));
    drop(client);
    trial.zpa.expect_metric("zpa_connections_open", 0.0);
}

#[test]
#[ignore = "make protocols runs it"]
fn curl_is_informed_when_to_try_again_if_it_was_held_in_vain() {
    if !are_there(&["curl"]) {
        return;
    }
    let trial = Trial::in_vain("http");
    let url = format!("http://{}/", trial.address());
    let said = succeed(&curl(&["--include", &url])).to_lowercase();
    assert!(
        said.starts_with("http/1.1 503") && said.contains("\nretry-after: "),
        "{said}"
    );
}

#[test]
#[ignore = "make protocols runs it"]
fn curl_speaks_http_2_in_plain_text_at_once() {
    let http = HELLO.replace("ADDRESS", "ADDRESS http2");
    let Some(server) = nginx(Volume::new(), &http) else {
        return;
    };
    let trial = Trial::start("http2", server);
    trial.check();
    let url = format!("http://{}/", trial.address());
    trial.wake_twice(|| {
        let words = ["--http2-prior-knowledge", "-w", "%{http_version}", &url];
        assert_eq!(succeed(&curl(&words)), "hello\n2");
    });
}

/// There is no answer that a client of HTTP/2 would read as one; it gets a reset.
#[test]
#[ignore = "make protocols runs it"]
fn a_client_of_http_2_that_was_held_in_vain_is_reset() {
    if !are_there(&["curl"]) {
        return;
    }
    let trial = Trial::in_vain("http2");
    let url = format!("http://{}/", trial.address());
    let said = run(&curl(&["--http2-prior-knowledge", &url]));
    assert!(said.err.contains("Connection reset"), "{said:?}");
}
