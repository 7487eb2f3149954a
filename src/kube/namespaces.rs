//! [`Namespaces`]: the namespaces whose objects a reflector lists together.

use std::fmt;

use super::text::printable;

/// One namespace, or all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Namespaces {
    /// One.
    One(String),
    /// All of the cluster.
    All,
}

impl Namespaces {
    /// The one namespace, as paths have it.
    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Namespaces::One(name) => Some(name),
            Namespaces::All => None,
        }
    }

    /// The key of an object among those that are listed: its name, and where they are of all
    /// namespaces `namespace/name`, as client-go has it (`MetaNamespaceKeyFunc` in
    /// `tools/cache/store.go`).
    pub(super) fn key(&self, namespace: &str, name: &str) -> String {
        match self {
            Namespaces::One(_) => name.to_owned(),
            Namespaces::All => format!("{namespace}/{name}"),
        }
    }
}

impl Default for Namespaces {
    /// A namespace without a name, for a watch of one object, whose path has it.
    fn default() -> Self {
        Namespaces::One(String::new())
    }
}

impl fmt::Display for Namespaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Namespaces::One(name) => write!(f, "the namespace {}", printable(name)),
            Namespaces::All => f.write_str("all namespaces"),
        }
    }
}
