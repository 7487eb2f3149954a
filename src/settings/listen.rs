//! [`Listener`]: where clients connect, and which of the Service's ports that leads to.

use std::fmt;
use std::net::SocketAddr;

use super::quote::quote;
use super::value;
use crate::address::digits;
use crate::cluster::PortRef;

/// How many listeners one app may have.
const MAX_LISTENERS: usize = 64;

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The address. Port 0 lets the kernel choose one. An unspecified IPv6 address (`[::]`)
    /// stands for IPv4 as well.
    pub address: SocketAddr,
    /// The Service's port that it leads to; `None` if `--port` names it, or the Service has only
    /// one.
    pub port: Option<PortRef>,
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)?;
        match &self.port {
            Some(port) => write!(f, "={port}"),
            None => Ok(()),
        }
    }
}

impl Listener {
    /// What metrics call its port: the Service's port, or where that is not named the
    /// number of the port that is listened on.
    pub fn label(&self, port: Option<&PortRef>) -> String {
        match self.port.as_ref().or(port) {
            Some(port) => port.to_string(),
            None => self.address.port().to_string(),
        }
    }
}

/// Parses an address alone, or a list of `ADDRESS=PORT` separated by commas. An address of
/// digits alone is a port of every address.
pub(super) fn parse(text: &str) -> Result<Vec<Listener>, String> {
    if !text.contains(['=', ',']) {
        let address = value::listen(text)?;
        return Ok(vec![Listener {
            address,
            port: None,
        }]);
    }
    let listeners: Vec<Listener> = text.split(',').map(entry).collect::<Result<_, _>>()?;
    if listeners.len() > MAX_LISTENERS {
        return Err(format!("has more than {MAX_LISTENERS} addresses"));
    }
    for (index, listener) in listeners.iter().enumerate() {
        check_unique(listener, &listeners[..index])?;
    }
    Ok(listeners)
}

fn entry(text: &str) -> Result<Listener, String> {
    let text = text.trim();
    let shown = quote(text.as_ref());
    let (address, port) = text
        .split_once('=')
        .ok_or_else(|| format!("{shown} does not say which of the Service's ports it leads to"))?;
    let address = match digits(address) {
        Some(number) => value::listen(&format!(":{number}")),
        None => value::listen(address),
    };
    let of_entry = |why: String| format!("{shown}: {why}");
    Ok(Listener {
        address: address.map_err(of_entry)?,
        port: Some(value::port_ref(port).map_err(of_entry)?),
    })
}

/// Checks that no other listener has the same address, or the same port of the Service, by
/// which metrics tell them apart.
fn check_unique(listener: &Listener, others: &[Listener]) -> Result<(), String> {
    let Listener { address, port } = listener;
    let is_chosen_by_kernel = address.port() == 0;
    if !is_chosen_by_kernel && others.iter().any(|other| other.address == *address) {
        return Err(format!("has the address {address} twice"));
    }
    match port {
        Some(port) if others.iter().any(|other| other.port.as_ref() == Some(port)) => {
            Err(format!("has the Service's port {port} twice"))
        }
        _ => Ok(()),
    }
}
