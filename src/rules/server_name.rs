//! [`ServerNames`]: the TLS server names of an app. Where several apps share an address, a
//! [`NameTable`] maps the names of that address to their owners.
//!
//! [`NameTable::route`] chooses one by the first bytes of a connection.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use super::client_hello::{self, Hello, Refusal};
use super::proxy_protocol::{self, Parsed};

/// The most bytes that are peeked at: a PROXY header, and a ClientHello.
pub const MAX_PEEK: usize = proxy_protocol::MAX_LEN + client_hello::MAX_LEN;

/// The most names of an app.
const MAX_NAMES: usize = 256;

/// The longest name, and the longest label of one (RFC 1035, 2.3.4; the length octets left out).
const MAX_NAME_LEN: usize = 253;
const MAX_LABEL_LEN: usize = 63;

/// A name of an app.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ServerName {
    /// This one.
    Exact(String),
    /// Every name that has exactly one label before this parent: `*.example.com` has
    /// `example.com`.
    Wildcard(String),
    /// Every name that no app has, and clients that name none.
    Default,
}

impl FromStr for ServerName {
    type Err = String;

    /// Parses a host name, whatever its case and with a dot at its end or without.
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(ServerName::Default);
        }
        match text.strip_prefix("*.") {
            Some(parent) => host(parent).map(ServerName::Wildcard),
            None => host(text).map(ServerName::Exact),
        }
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServerName::Exact(name) => f.write_str(name),
            ServerName::Wildcard(parent) => write!(f, "*.{parent}"),
            ServerName::Default => f.write_str("*"),
        }
    }
}

/// A host name as a client may send it (RFC 6066, 3), in lower case and without a dot at its
/// end.
fn host(text: &str) -> Result<String, String> {
    let name = text.strip_suffix('.').unwrap_or(text);
    if let Some(wrong) = name.chars().find(|c| !c.is_ascii()) {
        return Err(format!(
            "has {wrong:?}, which TLS does not carry; write the name in its ASCII form, which \
             begins with xn--"
        ));
    }
    if name.contains('*') {
        return Err("has a * that is not its first label; that is where one may be".to_owned());
    }
    if name.len() > MAX_NAME_LEN {
        return Err(format!("is longer than {MAX_NAME_LEN} characters"));
    }
    name.split('.').try_for_each(check_label)?;
    let last = name.rsplit('.').next().unwrap_or_default();
    if last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("is an IP address, and clients name servers by host names alone".to_owned());
    }
    Ok(name.to_ascii_lowercase())
}

fn check_label(label: &str) -> Result<(), String> {
    let inner = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if let Some(wrong) = label.chars().find(|c| !inner(*c)) {
        let cure = match wrong {
            ':' => "; a name has no port, and is no address",
            _ => "",
        };
        return Err(format!("has {wrong:?}, which no host name has{cure}"));
    }
    match label.len() {
        0 => Err("has an empty label".to_owned()),
        1..=MAX_LABEL_LEN if label.starts_with('-') || label.ends_with('-') => {
            Err("has a label that begins or ends with a hyphen".to_owned())
        }
        1..=MAX_LABEL_LEN => Ok(()),
        _ => Err(format!(
            "has a label of more than {MAX_LABEL_LEN} characters"
        )),
    }
}

/// The names of an app: none if it is not chosen by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerNames {
    names: BTreeSet<ServerName>,
}

impl FromStr for ServerNames {
    type Err = String;

    /// Parses names with commas between.
    fn from_str(text: &str) -> Result<Self, String> {
        let names = text.split(',').map(|name| name.trim().parse());
        let names = ServerNames {
            names: names.collect::<Result<_, _>>()?,
        };
        names.checked()
    }
}

impl fmt::Display for ServerNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.iter().map(ServerName::to_string).collect();
        f.write_str(&names.join(","))
    }
}

impl ServerNames {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Each of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &ServerName> {
        self.names.iter()
    }

    /// The first that another app has too.
    pub fn shared_with(&self, other: &ServerNames) -> Option<&ServerName> {
        self.names.iter().find(|name| other.names.contains(name))
    }

    /// Adds those that another set has.
    ///
    /// # Errors
    /// If there are too many.
    pub fn extend(&mut self, others: ServerNames) -> Result<(), String> {
        self.names.extend(others.names);
        std::mem::take(self).checked().map(|names| *self = names)
    }

    fn checked(self) -> Result<ServerNames, String> {
        match self.names.len() {
            0..=MAX_NAMES => Ok(self),
            len => Err(format!("has {len} names, and an app may have {MAX_NAMES}")),
        }
    }
}

/// Who has which name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameTable<T> {
    owners: BTreeMap<ServerName, T>,
}

impl<T> Default for NameTable<T> {
    fn default() -> Self {
        NameTable {
            owners: BTreeMap::new(),
        }
    }
}

/// What the first bytes of a connection lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<T> {
    /// It takes more bytes to decide.
    Undecided,
    /// It is for that one.
    Chosen(T),
    /// It is for none.
    Refused(Refusal),
}

impl<T: Copy + PartialEq> NameTable<T> {
    /// Whether nobody has a name.
    pub fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    /// Gives an owner these names in place of those that it has. Another one who has one of
    /// them has it no more.
    pub fn set(&mut self, owner: T, names: &ServerNames) {
        self.remove(owner);
        let names = names.iter().cloned();
        self.owners.extend(names.map(|name| (name, owner)));
    }

    /// Removes the names of an owner.
    pub fn remove(&mut self, owner: T) {
        self.owners.retain(|_, it| *it != owner);
    }

    /// The owner for the name that a client has sent (`None`: it sent none): that of the exact
    /// name, else of the wildcard, else of the default. Owners for which `accepts` is false are
    /// skipped.
    pub fn find(&self, name: Option<&str>, accepts: impl Fn(T) -> bool) -> Option<T> {
        let accepting = |name| self.owners.get(&name).copied().filter(|it| accepts(*it));
        let own = name.and_then(|name| {
            let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
            let parent = name.split_once('.').map(|(_, parent)| parent.to_owned());
            let exact = accepting(ServerName::Exact(name));
            exact.or_else(|| accepting(ServerName::Wildcard(parent?)))
        });
        own.or_else(|| accepting(ServerName::Default))
    }

    /// Who is to get a connection that begins with these bytes, of those that `accepts` is true
    /// of. `has_header`: a PROXY header comes first, which is not consumed either.
    pub fn route(&self, bytes: &[u8], has_header: bool, accepts: impl Fn(T) -> bool) -> Verdict<T> {
        let hello = match has_header.then(|| proxy_protocol::parse(bytes)) {
            None => bytes,
            Some(Parsed::Complete(_, len)) => &bytes[len..],
            Some(Parsed::Incomplete) => return Verdict::Undecided,
            Some(Parsed::Invalid(_)) => return Verdict::Refused(Refusal::NotTls),
        };
        let name = match client_hello::read(hello) {
            Hello::Incomplete => return Verdict::Undecided,
            Hello::Refused(refusal) => return Verdict::Refused(refusal),
            Hello::Complete(name) => name,
        };
        match self.find(name.as_deref(), accepts) {
            Some(owner) => Verdict::Chosen(owner),
            None if name.is_some() => Verdict::Refused(Refusal::UnknownName),
            None => Verdict::Refused(Refusal::NoName),
        }
    }
}

#[cfg(test)]
mod tests;
