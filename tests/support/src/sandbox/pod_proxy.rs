//! `pods/proxy`: the API server asks a pod, and hands its reply on.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::access::Target;
use super::http::{Reply, Request};
use super::store::{Resource, Store, text};

/// How long a pod may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Asks the port of the pod that the path names (`NAME:PORT`) for what is behind `/proxy`.
pub fn answer(store: &Store, target: &Target, request: &Request) -> Reply {
    let (name, port) = target
        .name()
        .split_once(':')
        .unwrap_or((target.name(), "80"));
    let Some(pod) = store.get(Resource::Pods, name) else {
        return target.not_found();
    };
    let path = request
        .path
        .split_once("/proxy")
        .map_or("/", |(_, path)| path);
    let address = format!("{}:{port}", text(&pod["status"]["podIP"]));
    let asked = address
        .parse()
        .map_err(|_| ())
        .and_then(|address| ask(address, path));
    asked.unwrap_or_else(|()| {
        let message =
            format!("error trying to reach service: dial tcp {address}: connect: refused");
        Reply::failure(503, "ServiceUnavailable", &message, None)
    })
}

fn ask(address: SocketAddr, path: &str) -> Result<Reply, ()> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT).map_err(|_| ())?;
    stream.set_read_timeout(Some(TIMEOUT)).map_err(|_| ())?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(|_| ())?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).map_err(|_| ())?;
    let (head, body) = reply.split_once("\r\n\r\n").ok_or(())?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    Ok(Reply {
        status: status.ok_or(())?,
        headers: Vec::new(),
        body: body.to_owned(),
    }
    .with("Content-Type", "application/json"))
}
