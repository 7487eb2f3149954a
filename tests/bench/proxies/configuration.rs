//! The configurations and command lines of the other proxies.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::other_proxies::Kind;
use crate::Result;

/// How many connections there are to be.
#[derive(Clone, Copy)]
pub struct Capacity {
    /// The most that the proxy is to have.
    pub connections: usize,
    /// The most that it is to have with a server, of those that can limit that;
    /// further ones wait.
    pub of_server: Option<usize>,
}

/// Where a proxy stands.
pub struct Site<'a> {
    pub address: SocketAddr,
    pub servers: &'a [SocketAddr],
    pub capacity: Capacity,
    pub directory: &'a Path,
}

/// How to start one there; writes its configuration.
pub fn command(kind: Kind, site: &Site<'_>) -> Result<Command> {
    let configuration = match kind {
        Kind::HaProxy => haproxy(site, "", ""),
        Kind::HaProxyTuned => haproxy(
            site,
            "  tune.pipesize 1048576\n",
            "  option splice-request\n  option splice-response\n",
        ),
        Kind::Nginx => nginx(site),
        Kind::Socat => return Ok(socat(site)),
    };
    let file = site.directory.join("configuration");
    fs::write(&file, configuration)?;
    let mut command = Command::new(kind.program());
    match kind {
        Kind::Nginx => command.args(["-e", "stderr", "-c"]),
        _ => command.args(["-db", "-f"]),
    };
    command.arg(file);
    Ok(command)
}

fn haproxy(site: &Site<'_>, global: &str, defaults: &str) -> String {
    let servers = each(site.servers, |n, server| match site.capacity.of_server {
        Some(most) => format!("  server s{n} {server} maxconn {most}\n"),
        None => format!("  server s{n} {server}\n"),
    });
    format!(
        "global\n  nbthread 1\n{global}\
         defaults\n  mode tcp\n  timeout connect 1s\n  timeout client 1h\n  timeout server 1h\n  timeout queue 1h\n{defaults}\
         frontend in\n  bind {}\n  default_backend out\n\
         backend out\n{servers}",
        site.address
    )
}

/// One process, which is the loop of what else would be its only worker: the
/// master would have nothing to do, and would have to be ended by a signal.
fn nginx(site: &Site<'_>) -> String {
    let load = if nginx_build().contains("--with-stream=dynamic") {
        "load_module modules/ngx_stream_module.so;\n"
    } else {
        ""
    };
    let servers = each(site.servers, |_, server| format!("server {server}; "));
    let connections = site.capacity.connections * 2 + 100;
    let address = site.address;
    let pid = site.directory.join("pid");
    format!(
        "{load}daemon off; master_process off; worker_processes 1; pid {};\n\
         error_log stderr crit;\n\
         events {{ worker_connections {connections}; }}\n\
         stream {{\n  access_log off; tcp_nodelay on; proxy_timeout 1h;\n\
           upstream out {{ {servers}}}\n\
           server {{ listen {address} reuseport backlog=4096; proxy_pass out; }}\n}}\n",
        pid.display()
    )
}

fn socat(site: &Site<'_>) -> Command {
    let (address, server) = (site.address, site.servers[0]);
    let mut command = Command::new("socat");
    command.args([
        format!(
            "TCP-LISTEN:{},bind={},reuseport,fork,backlog=4096,nodelay",
            address.port(),
            address.ip()
        ),
        format!("TCP:{server},nodelay"),
    ]);
    command
}

fn each(servers: &[SocketAddr], line: impl Fn(usize, &SocketAddr) -> String) -> String {
    servers
        .iter()
        .enumerate()
        .map(|(n, s)| line(n, s))
        .collect()
}

/// What nginx was built with; empty without nginx.
fn nginx_build() -> String {
    output("nginx", "-V")
}

/// Whether it has the stream module: built in, or as a file.
pub fn nginx_has_streams() -> bool {
    let build = nginx_build();
    let path = build
        .split_whitespace()
        .find_map(|word| word.strip_prefix("--modules-path="));
    let is_file = |path: &str| Path::new(path).join("ngx_stream_module.so").exists();
    if build.contains("--with-stream=dynamic") {
        path.is_some_and(is_file)
    } else {
        build.split_whitespace().any(|word| word == "--with-stream")
    }
}

/// All that a program says; empty if there is none.
pub fn output(program: &str, argument: &str) -> String {
    let output = Command::new(program).arg(argument).output();
    let said = output.map(|output| [output.stdout, output.stderr].concat());
    String::from_utf8_lossy(&said.unwrap_or_default()).into_owned()
}
