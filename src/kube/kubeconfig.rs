//! A [`Kubeconfig`]: the clusters, users and contexts of kubeconfig files, read and merged as
//! client-go does (`tools/clientcmd`).
//!
//! If several files have a cluster, a user or a context of the same name, the whole entry is
//! taken from the first file. A missing file is skipped. Relative paths are relative to the
//! folder of the file that contains them.

mod file;

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

pub use self::file::{AuthProvider, Cluster, Context, ExecConfig, ExecVariable, User};
use super::text::printable;

/// The largest file, in bytes: some eight hundred clusters with their
/// certificates.
const MAX_FILE_LEN: u64 = 2 * 1024 * 1024;

/// The merged content of kubeconfig files. Has no `Debug`: it holds tokens and
/// keys.
#[derive(Clone, Default)]
pub struct Kubeconfig {
    current_context: String,
    clusters: BTreeMap<String, Cluster>,
    users: BTreeMap<String, User>,
    contexts: BTreeMap<String, Context>,
}

/// Names that override those of the current context.
#[derive(Clone, Copy, Debug, Default)]
pub struct Choice<'a> {
    /// In place of `current-context`.
    pub context: Option<&'a str>,
    /// In place of the context's cluster.
    pub cluster: Option<&'a str>,
    /// In place of the context's user.
    pub user: Option<&'a str>,
}

/// One API server and one user of a kubeconfig.
#[derive(Clone, Default)]
pub struct Selected {
    /// The API server; empty if neither context nor choice names one.
    pub cluster: Cluster,
    /// The client of the API server; likewise.
    pub user: User,
    /// The context's namespace.
    pub namespace: Option<String>,
}

impl Kubeconfig {
    /// Reads the files and merges them. None if all of them are missing.
    ///
    /// # Errors
    /// Which file cannot be read or is no kubeconfig, and why.
    pub fn load(files: &[PathBuf]) -> Result<Option<Kubeconfig>, String> {
        let mut merged: Option<Kubeconfig> = None;
        for path in files.iter().filter(|path| !path.as_os_str().is_empty()) {
            let named = |why: String| {
                let shown = printable(&path.to_string_lossy());
                format!("kubeconfig \"{shown}\": {why}")
            };
            let text = match read(path) {
                Err(cause) if cause.kind() == io::ErrorKind::NotFound => continue,
                text => text.map_err(|cause| named(cause.to_string()))?,
            };
            let folder = folder_of(path).map_err(|cause| named(cause.to_string()))?;
            let later = Kubeconfig::parse(&text, &folder).map_err(named)?;
            merged = Some(match merged {
                None => later,
                Some(earlier) => earlier.merged(later),
            });
        }
        Ok(merged)
    }

    /// Reads one file's text. Relative paths in it are relative to `folder`.
    ///
    /// # Errors
    /// Where the text is no kubeconfig. It is not quoted: it may be a secret.
    pub fn parse(text: &[u8], folder: &Path) -> Result<Kubeconfig, String> {
        let file = file::parse(text)?;
        let mut config = Kubeconfig {
            current_context: file.current_context.unwrap_or_default(),
            clusters: by_name("clusters", file.clusters)?,
            users: by_name("users", file.users)?,
            contexts: by_name("contexts", file.contexts)?,
        };
        for cluster in config.clusters.values_mut() {
            cluster.resolve_paths(folder);
        }
        for user in config.users.values_mut() {
            user.resolve_paths(folder);
        }
        Ok(config)
    }

    /// The entries of both; of two with the same name, the one of `self`.
    #[must_use]
    pub fn merged(self, later: Kubeconfig) -> Kubeconfig {
        Kubeconfig {
            current_context: if self.current_context.is_empty() {
                later.current_context
            } else {
                self.current_context
            },
            clusters: first_wins(self.clusters, later.clusters),
            users: first_wins(self.users, later.users),
            contexts: first_wins(self.contexts, later.contexts),
        }
    }

    /// Whether it has no entries and no current context.
    pub fn is_empty(&self) -> bool {
        self.current_context.is_empty()
            && self.clusters.is_empty()
            && self.users.is_empty()
            && self.contexts.is_empty()
    }

    /// The cluster, the user and the namespace that `choice` names, or else the current
    /// context.
    ///
    /// # Errors
    /// Which name does not exist.
    pub fn select(&self, choice: Choice<'_>) -> Result<Selected, String> {
        let context = match (choice.context, self.current_context.as_str()) {
            (Some(name), _) => found("context", name, &self.contexts)?,
            (None, "") => Context::default(),
            (None, name) => found("context", name, &self.contexts)
                .map_err(|why| format!("current-context: {why}"))?,
        };
        let cluster = choice.cluster.or(context.cluster.as_deref());
        let user = choice.user.or(context.user.as_deref());
        Ok(Selected {
            cluster: match cluster.unwrap_or_default() {
                "" => Cluster::default(),
                name => found("cluster", name, &self.clusters)?,
            },
            user: match user.unwrap_or_default() {
                "" => User::default(),
                name => found("user", name, &self.users)?,
            },
            namespace: context.namespace,
        })
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let file = std::fs::File::open(path)?;
    file.take(MAX_FILE_LEN + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_FILE_LEN {
        return Err(io::Error::other(format!(
            "larger than {MAX_FILE_LEN} bytes"
        )));
    }
    Ok(text)
}

fn folder_of(path: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    Ok(path.parent().map(Path::to_owned).unwrap_or(path))
}

/// The entries of one list of a file by name. A duplicate name is an error, as in client-go
/// (`Convert_Slice_v1_NamedCluster_To_Map`).
fn by_name<T>(
    list: &str,
    entries: impl Iterator<Item = (String, T)>,
) -> Result<BTreeMap<String, T>, String> {
    let mut map = BTreeMap::new();
    for (name, entry) in entries {
        if map.contains_key(&name) {
            let name = printable(&name);
            return Err(format!("{list}: the name \"{name}\" is there twice"));
        }
        map.insert(name, entry);
    }
    Ok(map)
}

fn first_wins<T>(first: BTreeMap<String, T>, later: BTreeMap<String, T>) -> BTreeMap<String, T> {
    let mut merged = later;
    merged.extend(first);
    merged
}

fn found<T: Clone>(kind: &str, name: &str, all: &BTreeMap<String, T>) -> Result<T, String> {
    all.get(name).cloned().ok_or_else(|| {
        let shortened = |name: &String| printable(&name.chars().take(64).collect::<String>());
        let known: Vec<_> = all.keys().take(5).map(shortened).collect();
        let known = if known.is_empty() {
            "none".to_owned()
        } else {
            known.join(", ")
        };
        let name = printable(name);
        format!("there is no {kind} \"{name}\"; the first ones that there are: {known}")
    })
}

#[cfg(test)]
mod tests;
