//! [`Access`]: the address of the API server, the certificates to trust, and the
//! credentials (client-go's `rest.Config`).
//!
//! Flags take precedence over a kubeconfig, and a kubeconfig over the service account of
//! the pod.

use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ureq::http::{HeaderName, HeaderValue};

use super::exec::Plugin;
use super::kubeconfig::{Choice, Kubeconfig, Selected};
use super::text::printable;
use super::token::Token;
use crate::cluster::ApiServer;
use crate::kubeconfig_flags::KubeconfigFlags;

mod selected;

/// The API server's address, the certificates to trust, and the credentials.
///
/// Has no `Debug`: it may hold a token or a private key.
#[derive(Clone)]
pub struct Access {
    pub(super) server: ApiServer,
    /// The path of the server's URL, which comes before `/api` (as behind Rancher); else empty.
    pub(super) prefix: String,
    /// The name in the server's certificate (`tls-server-name`), if it is not the server's
    /// address.
    pub(super) tls_name: Option<String>,
    /// The root certificates to trust; `None` for plain HTTP.
    pub(super) roots: Option<Pem>,
    pub(super) client: Option<ClientCertificate>,
    pub(super) token: TokenSource,
    /// The source of token and certificate if neither `token` nor `client` is set.
    pub(super) plugin: Option<Plugin>,
    /// The headers of impersonation.
    pub(super) impersonation: Vec<(HeaderName, HeaderValue)>,
    /// The timeout of each step of a request (connect, send, receive), if it is shorter than
    /// the default.
    pub(super) request_timeout: Option<Duration>,
}

/// Certificates or a key, in PEM.
#[derive(Clone)]
pub(super) enum Pem {
    /// A file, which is read again when it is replaced.
    File(PathBuf),
    /// The field of a kubeconfig that has the text, and the text.
    Fixed(&'static str, Vec<u8>),
}

/// A client certificate with its key.
#[derive(Clone)]
pub(super) struct ClientCertificate {
    pub(super) chain: Pem,
    pub(super) key: Pem,
}

/// The bearer token to send.
#[derive(Clone)]
pub(super) enum TokenSource {
    /// None.
    None,
    /// A file, which may be replaced at any time.
    File {
        path: PathBuf,
        /// The token to send while none was read from the file.
        fallback: Option<Token>,
    },
    /// A token that never changes.
    Fixed(Token),
}

/// Why no access was found: the setting, its value, the reason, the remedy.
#[derive(Debug, PartialEq, Eq)]
pub struct Error(pub(super) String);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

fn error<T>(text: impl Into<String>) -> Result<T, Error> {
    Err(Error(text.into()))
}

impl Access {
    /// The address of the API server.
    pub fn server(&self) -> &ApiServer {
        &self.server
    }

    /// Finds the API server, the credentials and the namespace.
    ///
    /// In this order:
    /// 1. `api_server`, with the files `token`, `ca.crt` and `namespace` in the
    ///    directory `credentials`; over plain http, which is for `kubectl proxy`
    ///    on this machine, no token is ever sent.
    /// 2. The kubeconfig that `flags` name, else those in the environment variable
    ///    `KUBECONFIG`, else `~/.kube/config`. At least one of the named files must exist.
    /// 3. The environment of a pod, with the same files as in 1.
    /// 4. `flags` alone, if they name a server.
    ///
    /// In 2 to 4, `flags` override what is found.
    ///
    /// # Errors
    /// What is missing or cannot be used, and the remedy.
    pub fn discover(
        flags: &KubeconfigFlags,
        api_server: Option<&ApiServer>,
        credentials: &Path,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<(Access, Option<String>), Error> {
        let set = |name| env(name).filter(|value| !value.is_empty());
        if let Some(server) = api_server {
            return if server.tls {
                from_pod(server, credentials, flags)
            } else {
                from_proxy(server, credentials, flags)
            };
        }
        let named = flags.kubeconfig.clone().or_else(|| set("KUBECONFIG"));
        let home = set("HOME").map(|home| Path::new(&home).join(".kube/config"));
        if let Some(found) = from_kubeconfig(named.as_deref(), home, flags)? {
            return Ok(found);
        }
        let host = set("KUBERNETES_SERVICE_HOST");
        if host.is_none() && flags.server.is_some() {
            return from_selected(None, Selected::default(), flags);
        }
        let server = in_cluster(host, set("KUBERNETES_SERVICE_PORT"))?;
        from_pod(&server, credentials, flags)
    }
}

/// The access that kubeconfigs describe, if there are any: those in `named`, a
/// list separated by colons, else the one in the home directory.
fn from_kubeconfig(
    named: Option<&str>,
    home: Option<PathBuf>,
    flags: &KubeconfigFlags,
) -> Result<Option<(Access, Option<String>)>, Error> {
    let files: Vec<PathBuf> = match named {
        Some(list) => std::env::split_paths(list).collect(),
        None => home.into_iter().collect(),
    };
    if named.is_none() && files.iter().all(|path| is_out_of_reach(path)) {
        return Ok(None);
    }
    let config = Kubeconfig::load(&files).map_err(Error)?;
    let place = || {
        let shown: Vec<_> = files.iter().map(|path| path.to_string_lossy()).collect();
        format!("kubeconfig \"{}\"", printable(&shown.join(":")))
    };
    let config = match (config, named) {
        (Some(config), _) => config,
        (None, None) => return Ok(None),
        (None, Some(_)) => {
            let place = place();
            return error(format!(
                "{place}: No such file or directory; set --kubeconfig (ZPA_KUBECONFIG, \
                 KUBECONFIG) to one that can be read"
            ));
        }
    };
    // client-go ignores an empty file too.
    if config.is_empty() && named.is_none() {
        return Ok(None);
    }
    let choice = Choice {
        context: flags.context.as_deref(),
        cluster: flags.cluster.as_deref(),
        user: flags.user.as_deref(),
    };
    let selected = config.select(choice);
    let mut selected = selected.map_err(|why| Error(format!("{}: {why}", place())))?;
    // As in kubectl.
    let namespace = selected
        .namespace
        .get_or_insert_with(|| "default".to_owned());
    let namespace = Some(namespace.clone());
    let (access, _) = from_selected(Some(&place()), selected, flags)?;
    Ok(Some((access, namespace)))
}

/// Whether the default kubeconfig cannot be opened. In a pod, `HOME` may be the directory
/// of another user, or not exist.
fn is_out_of_reach(home: &Path) -> bool {
    let Err(cause) = std::fs::File::open(home) else {
        return false;
    };
    match cause.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => true,
        ErrorKind::PermissionDenied => {
            let shown = printable(&home.to_string_lossy());
            log::warn!("kubeconfig \"{shown}\": {cause}: going on without it");
            true
        }
        _ => false,
    }
}

/// The server with the files of a service account.
fn from_pod(
    server: &ApiServer,
    credentials: &Path,
    flags: &KubeconfigFlags,
) -> Result<(Access, Option<String>), Error> {
    let (token, ca) = (credentials.join("token"), credentials.join("ca.crt"));
    let (own_token, own_ca) = (flags.token.is_none(), flags.certificate_authority.is_none());
    for (file, needed) in [(&token, own_token), (&ca, own_ca)] {
        if needed && let Err(cause) = std::fs::read(file) {
            return error(format!(
                "credentials file \"{}\": {cause}; in a pod, set automountServiceAccountToken; \
                 elsewhere, set --kubeconfig, or --credentials to a directory with token and ca.crt",
                printable(&file.to_string_lossy())
            ));
        }
    }
    let mut selected = Selected {
        namespace: namespace_file(credentials),
        ..Selected::default()
    };
    selected.cluster.server = Some(server.to_string());
    selected.cluster.certificate_authority = Some(ca);
    selected.user.token_file = Some(token);
    from_selected(None, selected, flags)
}

/// A `kubectl proxy` on this machine.
fn from_proxy(
    server: &ApiServer,
    credentials: &Path,
    flags: &KubeconfigFlags,
) -> Result<(Access, Option<String>), Error> {
    let mut selected = Selected {
        namespace: namespace_file(credentials),
        ..Selected::default()
    };
    selected.cluster.server = Some(server.to_string());
    from_selected(None, selected, flags)
}

/// Makes the access of `selected`; errors begin with `place`, if there is one.
fn from_selected(
    place: Option<&str>,
    selected: Selected,
    flags: &KubeconfigFlags,
) -> Result<(Access, Option<String>), Error> {
    let namespace = selected.namespace.clone();
    let access = selected::access(selected, flags);
    let access = access.map_err(|why| match place {
        Some(place) => Error(format!("{place}: {why}")),
        None => Error(why),
    })?;
    Ok((access, namespace))
}

fn namespace_file(credentials: &Path) -> Option<String> {
    let text = std::fs::read_to_string(credentials.join("namespace")).ok()?;
    let name = text.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

fn in_cluster(host: Option<String>, port: Option<String>) -> Result<ApiServer, Error> {
    let Some(host) = host else {
        return error(
            "no API server: KUBERNETES_SERVICE_HOST is not set, so this is not a pod; \
             set --kubeconfig or --api-server",
        );
    };
    let port = port.unwrap_or_else(|| "443".to_owned());
    let Ok(port) = port.parse() else {
        return error(format!(
            "KUBERNETES_SERVICE_PORT=\"{}\": not a port; use e.g. 443",
            printable(&port)
        ));
    };
    Ok(ApiServer {
        tls: true,
        host: unbracketed(&host).to_owned(),
        port,
    })
}

fn unbracketed(host: &str) -> &str {
    host.strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host)
}

#[cfg(test)]
mod tests;
