//! A [`File`] is one parsed kubeconfig file. The size and the nesting of its YAML are limited.
//!
//! Fields that this program has no use for are skipped. A field that is empty
//! counts as absent, as in client-go.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer};

/// How deep the YAML may be nested; a kubeconfig's own fields are seven deep.
const DEEPEST: usize = 32;
/// The most values, and the most bytes in them, aliases counted each time.
const MAX_NODES: usize = 200_000;
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// A kubeconfig file, with its lists in the order of the file.
pub(super) struct File {
    pub(super) current_context: Option<String>,
    pub(super) clusters: std::vec::IntoIter<(String, Cluster)>,
    pub(super) users: std::vec::IntoIter<(String, User)>,
    pub(super) contexts: std::vec::IntoIter<(String, Context)>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Raw {
    #[serde(deserialize_with = "non_empty")]
    current_context: Option<String>,
    clusters: Option<Vec<NamedCluster>>,
    users: Option<Vec<NamedUser>>,
    contexts: Option<Vec<NamedContext>>,
}

#[derive(Deserialize)]
struct NamedCluster {
    name: String,
    cluster: Option<Cluster>,
}

#[derive(Deserialize)]
struct NamedUser {
    name: String,
    user: Option<User>,
}

#[derive(Deserialize)]
struct NamedContext {
    name: String,
    context: Option<Context>,
}

/// Where an API server is, and which certificates to trust there.
#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Cluster {
    /// The URL.
    #[serde(deserialize_with = "non_empty")]
    pub server: Option<String>,
    /// The name that the server's certificate must have, if not that of the URL.
    #[serde(deserialize_with = "non_empty")]
    pub tls_server_name: Option<String>,
    /// Whether not to verify the server's certificate.
    pub insecure_skip_tls_verify: Option<bool>,
    /// A PEM file with the root certificates.
    #[serde(deserialize_with = "non_empty_path")]
    pub certificate_authority: Option<PathBuf>,
    /// The root certificates, PEM in base64; takes precedence over the file.
    #[serde(deserialize_with = "non_empty")]
    pub certificate_authority_data: Option<String>,
    /// A proxy on the way to the server.
    #[serde(deserialize_with = "non_empty")]
    pub proxy_url: Option<String>,
    extensions: Option<Vec<NamedExtension>>,
}

#[derive(Clone, Deserialize)]
struct NamedExtension {
    name: String,
    extension: Option<serde_json::Value>,
}

/// The credentials of a client.
#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct User {
    /// A bearer token.
    #[serde(deserialize_with = "non_empty")]
    pub token: Option<String>,
    /// A file with a bearer token, read again from time to time; takes precedence over the
    /// token.
    #[serde(rename = "tokenFile", deserialize_with = "non_empty_path")]
    pub token_file: Option<PathBuf>,
    /// A PEM file with the client certificate.
    #[serde(deserialize_with = "non_empty_path")]
    pub client_certificate: Option<PathBuf>,
    /// The certificate, PEM in base64; takes precedence over the file.
    #[serde(deserialize_with = "non_empty")]
    pub client_certificate_data: Option<String>,
    /// A PEM file with the key of the certificate.
    #[serde(deserialize_with = "non_empty_path")]
    pub client_key: Option<PathBuf>,
    /// The key, PEM in base64; takes precedence over the file.
    #[serde(deserialize_with = "non_empty")]
    pub client_key_data: Option<String>,
    /// For basic authentication.
    #[serde(deserialize_with = "non_empty")]
    pub username: Option<String>,
    /// For basic authentication.
    #[serde(deserialize_with = "non_empty")]
    pub password: Option<String>,
    /// A command that prints a credential.
    pub exec: Option<ExecConfig>,
    /// The predecessor of `exec`.
    pub auth_provider: Option<AuthProvider>,
    /// The user to act as.
    #[serde(rename = "as", deserialize_with = "non_empty")]
    pub impersonate: Option<String>,
    /// The UID to act as.
    #[serde(rename = "as-uid", deserialize_with = "non_empty")]
    pub impersonate_uid: Option<String>,
    /// The groups to act as.
    #[serde(rename = "as-groups")]
    pub impersonate_groups: Option<Vec<String>>,
    /// Further attributes to act with, each with its values.
    #[serde(rename = "as-user-extra")]
    pub impersonate_extra: Option<BTreeMap<String, Vec<String>>>,
}

/// A command that prints an ExecCredential (`client.authentication.k8s.io`).
#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExecConfig {
    /// A name to find in `PATH`, or a path.
    pub command: String,
    /// Its arguments.
    pub args: Option<Vec<String>>,
    /// Its environment, beside this process's own.
    pub env: Option<Vec<ExecVariable>>,
    /// The version of what it reads and prints.
    pub api_version: String,
    /// How to install it.
    #[serde(deserialize_with = "non_empty")]
    pub install_hint: Option<String>,
    /// Whether it gets the address of the API server.
    pub provide_cluster_info: Option<bool>,
    /// Whether it needs a terminal: `Never`, `IfAvailable` or `Always`.
    #[serde(deserialize_with = "non_empty")]
    pub interactive_mode: Option<String>,
}

/// A variable of a command's environment.
#[derive(Clone, Deserialize)]
pub struct ExecVariable {
    /// Its name.
    pub name: String,
    /// Its value.
    #[serde(default)]
    pub value: String,
}

/// `auth-provider`, which client-go dropped in 1.26: only its name is read, for the error.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub struct AuthProvider {
    /// Such as `gcp`.
    pub name: Option<String>,
}

/// A cluster, a user and a namespace under one name.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub struct Context {
    /// The name of an entry of `clusters`.
    #[serde(deserialize_with = "non_empty")]
    pub cluster: Option<String>,
    /// The name of an entry of `users`.
    #[serde(deserialize_with = "non_empty")]
    pub user: Option<String>,
    /// Where to look for objects.
    #[serde(deserialize_with = "non_empty")]
    pub namespace: Option<String>,
}

/// The extension whose content is passed to an exec plugin (`ExecCredential`'s
/// `spec.cluster.config`).
const EXEC_EXTENSION: &str = "client.authentication.k8s.io/exec";

impl Cluster {
    pub(super) fn resolve_paths(&mut self, folder: &Path) {
        resolve(&mut self.certificate_authority, folder);
    }

    /// The cluster's configuration for an exec plugin.
    pub fn exec_extension(&self) -> Option<&serde_json::Value> {
        let mut extensions = self.extensions.iter().flatten();
        let extension = extensions.find(|extension| extension.name == EXEC_EXTENSION);
        extension?.extension.as_ref()
    }
}

impl User {
    pub(super) fn resolve_paths(&mut self, folder: &Path) {
        resolve(&mut self.token_file, folder);
        resolve(&mut self.client_certificate, folder);
        resolve(&mut self.client_key, folder);
        // A bare name is looked for in PATH.
        if let Some(exec) = &mut self.exec
            && exec.command.contains('/')
        {
            exec.command = folder.join(&exec.command).to_string_lossy().into_owned();
        }
    }
}

/// Joining replaces the folder if the path is absolute.
fn resolve(path: &mut Option<PathBuf>, folder: &Path) {
    if let Some(path) = path {
        *path = folder.join(&*path);
    }
}

/// Reads a file's text.
///
/// # Errors
/// At which line it is no kubeconfig.
pub(super) fn parse(text: &[u8]) -> Result<File, String> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: DEEPEST,
            flow_nesting_limit: DEEPEST,
            max_nodes: MAX_NODES,
            max_total_scalar_bytes: MAX_BYTES,
            max_recorded_anchor_bytes: MAX_BYTES,
        },
        // As in kubectl.
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::LastWins,
        // The cause would quote the text.
        with_snippet: false,
    };
    let raw: Option<Raw> =
        serde_saphyr::from_slice_with_options(text, options).map_err(|cause| {
            let line = cause.location().map(|at| at.line()).unwrap_or_default();
            match line {
                0 => "it is not a kubeconfig".to_owned(),
                line => format!("it is not a kubeconfig: see line {line}"),
            }
        })?;
    let raw = raw.unwrap_or_default();
    let clusters = raw.clusters.unwrap_or_default().into_iter();
    let clusters = clusters.map(|it| (it.name, it.cluster.unwrap_or_default()));
    let users = raw.users.unwrap_or_default().into_iter();
    let users = users.map(|it| (it.name, it.user.unwrap_or_default()));
    let contexts = raw.contexts.unwrap_or_default().into_iter();
    let contexts = contexts.map(|it| (it.name, it.context.unwrap_or_default()));
    Ok(File {
        current_context: raw.current_context,
        clusters: clusters.collect::<Vec<_>>().into_iter(),
        users: users.collect::<Vec<_>>().into_iter(),
        contexts: contexts.collect::<Vec<_>>().into_iter(),
    })
}

fn non_empty<'de, D: Deserializer<'de>>(field: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(field)?;
    Ok(text.filter(|text| !text.is_empty()))
}

fn non_empty_path<'de, D: Deserializer<'de>>(field: D) -> Result<Option<PathBuf>, D::Error> {
    non_empty(field).map(|text| text.map(PathBuf::from))
}
