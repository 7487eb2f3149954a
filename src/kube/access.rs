//! Where the API server is, and with what to come to it.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;

use super::text::printable;
use super::token::Token;
use crate::cluster::ApiServer;

/// The way to the API server: its address, whom to trust, and who we are.
///
/// Has no `Debug`: it may hold a token or a private key.
#[derive(Clone)]
pub struct Access {
    pub(super) server: ApiServer,
    /// What comes before `/api` in the path: empty but behind some gateways.
    pub(super) prefix: String,
    /// The name in the server's certificate, if it is not its address.
    pub(super) tls_name: Option<String>,
    pub(super) roots: Roots,
    pub(super) client: Option<ClientCertificate>,
    pub(super) token: TokenSource,
}

/// The certificates that the API server's own must come from.
#[derive(Clone)]
pub(super) enum Roots {
    /// None: plain HTTP.
    None,
    /// A PEM file, which may be replaced while we run.
    File(PathBuf),
    /// PEM.
    Fixed(Vec<u8>),
}

/// A certificate to show, with its key; both PEM.
#[derive(Clone)]
pub(super) struct ClientCertificate {
    pub(super) chain: Vec<u8>,
    pub(super) key: Vec<u8>,
}

/// The bearer token to send.
#[derive(Clone)]
pub(super) enum TokenSource {
    /// None.
    None,
    /// A file, which the kubelet replaces while we run.
    File(PathBuf),
    /// Always the same.
    Fixed(Token),
}

/// Why there is no way to the API server: what, the value, why, what to do.
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

/// What to do where a kubeconfig wants something that this program does not do.
const USE_PROXY: &str = "run `kubectl proxy` and set --api-server=http://127.0.0.1:8001 instead";

impl Access {
    /// Where the API server answers.
    pub fn server(&self) -> &ApiServer {
        &self.server
    }

    /// Finds the way to the API server, and the namespace that goes with it.
    ///
    /// In this order: `api_server` if given; `kubeconfig`, or what the
    /// environment variable `KUBECONFIG` names, read by `kubectl`; the
    /// environment of a pod. With `api_server` over https and in a pod, the
    /// files `token`, `ca.crt` and `namespace` in the directory `credentials`
    /// are used; over plain http, which is for `kubectl proxy` on this machine,
    /// no token is ever sent.
    pub fn discover(
        kubeconfig: Option<&Path>,
        api_server: Option<&ApiServer>,
        credentials: &Path,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<(Access, Option<String>), Error> {
        let set = |name| env(name).filter(|value| !value.is_empty());
        if let Some(server) = api_server {
            let access = if server.tls {
                Self::from_files(server.clone(), credentials)?
            } else {
                Self::plain(server.clone())?
            };
            return Ok((access, namespace_file(credentials)));
        }
        let from_env = set("KUBECONFIG").map(PathBuf::from);
        if let Some(path) = kubeconfig.map(Path::to_owned).or(from_env) {
            return from_kubeconfig(&kubectl_view(&path)?);
        }
        let server = in_cluster(
            set("KUBERNETES_SERVICE_HOST"),
            set("KUBERNETES_SERVICE_PORT"),
        )?;
        let access = Self::from_files(server, credentials)?;
        Ok((access, namespace_file(credentials)))
    }

    fn plain(server: ApiServer) -> Result<Access, Error> {
        let loopback = match server.host.parse::<IpAddr>() {
            Ok(ip) => ip.is_loopback(),
            Err(_) => server.host == "localhost",
        };
        if !loopback {
            return error(format!(
                "api-server \"{server}\": plain http is for `kubectl proxy` on this machine only; \
                 use an address such as http://127.0.0.1:8001, or https"
            ));
        }
        Ok(Access {
            server,
            prefix: String::new(),
            tls_name: None,
            roots: Roots::None,
            client: None,
            token: TokenSource::None,
        })
    }

    fn from_files(server: ApiServer, credentials: &Path) -> Result<Access, Error> {
        let (token, ca) = (credentials.join("token"), credentials.join("ca.crt"));
        for file in [&token, &ca] {
            if let Err(cause) = std::fs::read(file) {
                return error(format!(
                    "credentials file \"{}\": {cause}; in a pod, set automountServiceAccountToken; \
                     elsewhere, set --kubeconfig, or --credentials to a directory with token and ca.crt",
                    printable(&file.to_string_lossy())
                ));
            }
        }
        Ok(Access {
            server,
            prefix: String::new(),
            tls_name: None,
            roots: Roots::File(ca),
            client: None,
            token: TokenSource::File(token),
        })
    }
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

/// The kubeconfig at `path` as JSON, with its files and data taken in. A list
/// of paths, as `KUBECONFIG` may hold, is merged as kubectl merges it.
fn kubectl_view(path: &Path) -> Result<Vec<u8>, Error> {
    let shown = printable(&path.to_string_lossy());
    if let Some(cause) = none_of(path) {
        return error(format!(
            "kubeconfig \"{shown}\": {cause}; set --kubeconfig (ZPA_KUBECONFIG, KUBECONFIG) to one \
             that can be read"
        ));
    }
    let output = Command::new("kubectl")
        .args(["config", "view", "--minify", "--flatten", "-o", "json"])
        .env("KUBECONFIG", path)
        .output();
    match output {
        Ok(output) if output.status.success() => Ok(output.stdout),
        Ok(output) => {
            let why = complaint(&String::from_utf8_lossy(&output.stderr));
            error(format!("kubeconfig \"{shown}\": {why}"))
        }
        Err(cause) => error(format!(
            "kubeconfig \"{shown}\": cannot run kubectl, which reads it: {cause}; install kubectl"
        )),
    }
}

/// Why none of the files in that list can be looked at, if that is so: kubectl
/// says nothing of those that are missing, and takes them for empty.
fn none_of(paths: &Path) -> Option<std::io::Error> {
    let mut causes = std::env::split_paths(paths).map(|path| path.metadata().err());
    let first = causes.next()??;
    causes.all(|cause| cause.is_some()).then_some(first)
}

/// What kubectl's complaint means.
fn complaint(stderr: &str) -> String {
    // `clientcmd.MinifyConfig`, and what an empty file leads to.
    if stderr.contains("current-context must exist") {
        return "it has no current-context; choose one with `kubectl config use-context`"
            .to_owned();
    }
    format!("kubectl cannot read it: {}", printable(stderr))
}

#[derive(Deserialize)]
struct Kubeconfig {
    clusters: Option<Vec<NamedCluster>>,
    users: Option<Vec<NamedUser>>,
    contexts: Option<Vec<NamedContext>>,
}

#[derive(Deserialize)]
struct NamedCluster {
    cluster: Cluster,
}

#[derive(Deserialize)]
struct NamedUser {
    user: User,
}

#[derive(Deserialize)]
struct NamedContext {
    context: Context,
}

#[derive(Deserialize)]
struct Context {
    namespace: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Cluster {
    server: String,
    certificate_authority_data: Option<String>,
    insecure_skip_tls_verify: bool,
    tls_server_name: Option<String>,
    proxy_url: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct User {
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key_data: Option<String>,
    exec: Option<serde::de::IgnoredAny>,
    auth_provider: Option<serde::de::IgnoredAny>,
    username: Option<String>,
    #[serde(rename = "as")]
    impersonate: Option<String>,
}

fn from_kubeconfig(json: &[u8]) -> Result<(Access, Option<String>), Error> {
    // The cause is not shown: it could quote a secret.
    let Ok(config) = serde_json::from_slice::<Kubeconfig>(json) else {
        return error("kubeconfig: kubectl printed something that is not a kubeconfig");
    };
    let cluster = config.clusters.into_iter().flatten().next();
    let Some(NamedCluster { cluster }) = cluster else {
        return error(
            "kubeconfig: the current context names no cluster; choose one with `kubectl config use-context`",
        );
    };
    let user = config.users.into_iter().flatten().next();
    let user = user.map(|named| named.user).unwrap_or_default();
    let context = config.contexts.into_iter().flatten().next();
    let namespace = context.and_then(|named| named.context.namespace);
    let access = from_cluster_and_user(cluster, user)?;
    Ok((access, namespace.filter(|name| !name.is_empty())))
}

fn from_cluster_and_user(cluster: Cluster, user: User) -> Result<Access, Error> {
    refuse(&cluster, &user)?;
    let (server, prefix) = parse_server(&cluster.server)?;
    if !server.tls {
        let access = Access::plain(server)?;
        return Ok(Access { prefix, ..access });
    }
    let Some(roots) = decoded(
        "certificate-authority-data",
        cluster.certificate_authority_data,
    )?
    else {
        return error(format!(
            "kubeconfig: the cluster {server} has no certificate-authority; name one there, or {USE_PROXY}"
        ));
    };
    let chain = decoded("client-certificate-data", user.client_certificate_data)?;
    let key = decoded("client-key-data", user.client_key_data)?;
    let client = match (chain, key) {
        (Some(chain), Some(key)) => Some(ClientCertificate { chain, key }),
        (None, None) => None,
        _ => {
            return error(
                "kubeconfig: client-certificate and client-key go together; one is missing",
            );
        }
    };
    let token = match (user.token.as_deref().and_then(Token::new), user.token_file) {
        (Some(token), _) => TokenSource::Fixed(token),
        (None, Some(path)) => TokenSource::File(path),
        (None, None) => TokenSource::None,
    };
    Ok(Access {
        server,
        prefix,
        tls_name: cluster.tls_server_name.filter(|name| !name.is_empty()),
        roots: Roots::Fixed(roots),
        client,
        token,
    })
}

fn refuse(cluster: &Cluster, user: &User) -> Result<(), Error> {
    let refused = [
        (cluster.insecure_skip_tls_verify, "insecure-skip-tls-verify"),
        (cluster.proxy_url.is_some(), "proxy-url"),
        (user.exec.is_some(), "an exec plugin"),
        (user.auth_provider.is_some(), "an auth-provider"),
        (user.username.is_some(), "a username and password"),
        (user.impersonate.is_some(), "impersonation"),
    ];
    match refused.into_iter().find(|(present, _)| *present) {
        Some((_, what)) => error(format!(
            "kubeconfig: it uses {what}, which zpa does not; {USE_PROXY}"
        )),
        None => Ok(()),
    }
}

fn decoded(what: &str, data: Option<String>) -> Result<Option<Vec<u8>>, Error> {
    let Some(data) = data.filter(|data| !data.is_empty()) else {
        return Ok(None);
    };
    match BASE64_STANDARD.decode(data) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(_) => error(format!("kubeconfig: {what} is not base64")),
    }
}

/// The server of a kubeconfig, `https://host:port/prefix`, taken apart.
fn parse_server(url: &str) -> Result<(ApiServer, String), Error> {
    parse_url(url).ok_or_else(|| {
        Error(format!(
            "kubeconfig: server \"{}\": not an address; use e.g. https://10.0.0.1:6443",
            printable(url)
        ))
    })
}

fn parse_url(url: &str) -> Option<(ApiServer, String)> {
    let uri: ureq::http::Uri = url.parse().ok()?;
    let tls = match uri.scheme_str()? {
        "https" => true,
        "http" => false,
        _ => return None,
    };
    let server = ApiServer {
        tls,
        host: unbracketed(uri.host()?).to_owned(),
        port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }),
    };
    Some((server, uri.path().trim_end_matches('/').to_owned()))
}

#[cfg(test)]
mod tests {
    use super::super::testing::Directory;
    use super::*;

    fn nothing(_: &str) -> Option<String> {
        None
    }

    fn message<T>(result: Result<T, Error>) -> String {
        result
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default()
    }

    fn pod_directory(name: &str) -> Directory {
        let directory = Directory::new(name);
        directory.write("token", "canary");
        directory.write("ca.crt", "PEM");
        directory.write("namespace", "shop\n");
        directory
    }

    #[test]
    fn in_a_pod_the_environment_names_the_server_be_it_ipv4_or_ipv6() {
        let directory = pod_directory("access-pod");
        for (host, url) in [
            ("10.96.0.1", "https://10.96.0.1:443"),
            ("fd00::1", "https://[fd00::1]:443"),
            ("[fd00::1]", "https://[fd00::1]:443"),
        ] {
            let env = |name: &str| match name {
                "KUBERNETES_SERVICE_HOST" => Some(host.to_owned()),
                "KUBERNETES_SERVICE_PORT" => Some("443".to_owned()),
                "KUBECONFIG" => Some(String::new()),
                _ => None,
            };
            let (access, namespace) = Access::discover(None, None, &directory.0, env)
                .ok()
                .unwrap();
            assert_eq!(access.server.to_string(), url);
            assert_eq!(namespace.as_deref(), Some("shop"));
            assert!(matches!(access.token, TokenSource::File(_)));
        }
    }

    #[test]
    fn an_https_server_of_ones_own_goes_with_the_same_files() {
        let directory = pod_directory("access-own");
        let server = ApiServer {
            tls: true,
            host: "api.example".into(),
            port: 6443,
        };
        let (access, namespace) = Access::discover(None, Some(&server), &directory.0, nothing)
            .ok()
            .unwrap();
        assert_eq!(access.server, server);
        assert_eq!(namespace.as_deref(), Some("shop"));
    }

    #[test]
    fn plain_http_is_for_loopback_and_carries_no_token() {
        let directory = pod_directory("access-plain");
        let plain = |host: &str| ApiServer {
            tls: false,
            host: host.into(),
            port: 8001,
        };
        for host in ["127.0.0.1", "::1", "localhost"] {
            let (access, _) = Access::discover(None, Some(&plain(host)), &directory.0, nothing)
                .ok()
                .unwrap();
            assert!(matches!(access.token, TokenSource::None), "{host}");
        }
        let refused = Access::discover(None, Some(&plain("10.0.0.1")), &directory.0, nothing);
        assert_eq!(
            message(refused),
            "api-server \"http://10.0.0.1:8001\": plain http is for `kubectl proxy` on this machine \
             only; use an address such as http://127.0.0.1:8001, or https"
        );
    }

    #[test]
    fn what_is_missing_is_named_with_its_cure() {
        let none = Access::discover(None, None, Path::new("/nonexistent"), nothing);
        assert!(message(none).contains("KUBERNETES_SERVICE_HOST is not set"));
        let env = |name: &str| (name == "KUBERNETES_SERVICE_HOST").then(|| "10.0.0.1".to_owned());
        let none = Access::discover(None, None, Path::new("/nonexistent"), env);
        assert!(message(none).contains("\"/nonexistent/token\": No such file"));
        let env = |name: &str| match name {
            "KUBERNETES_SERVICE_HOST" => Some("10.0.0.1".to_owned()),
            "KUBERNETES_SERVICE_PORT" => Some("https\n".to_owned()),
            _ => None,
        };
        let none = Access::discover(None, None, Path::new("/nonexistent"), env);
        assert_eq!(
            message(none),
            "KUBERNETES_SERVICE_PORT=\"https\": not a port; use e.g. 443"
        );
    }

    fn kubeconfig(cluster: &str, user: &str) -> String {
        format!(
            r#"{{"clusters":[{{"cluster":{cluster}}}],"users":[{{"user":{user}}}],
            "contexts":[{{"context":{{"namespace":"shop"}}}}]}}"#
        )
    }

    const CLUSTER: &str = r#"{"server":"https://kube.example:6443/k8s/c-1/",
        "certificate-authority-data":"Y2E=","tls-server-name":"kube"}"#;

    #[test]
    fn a_kubeconfig_gives_server_roots_identity_and_namespace() {
        let user = r#"{"client-certificate-data":"Y2hhaW4=","client-key-data":"a2V5","token":"t"}"#;
        let (access, namespace) = from_kubeconfig(kubeconfig(CLUSTER, user).as_bytes())
            .ok()
            .unwrap();
        assert_eq!(access.server.to_string(), "https://kube.example:6443");
        assert_eq!(access.prefix, "/k8s/c-1");
        assert_eq!(access.tls_name.as_deref(), Some("kube"));
        assert!(matches!(access.roots, Roots::Fixed(pem) if pem == b"ca"));
        let client = access.client.unwrap();
        assert_eq!(
            (client.chain, client.key),
            (b"chain".to_vec(), b"key".to_vec())
        );
        assert!(matches!(access.token, TokenSource::Fixed(_)));
        assert_eq!(namespace.as_deref(), Some("shop"));
    }

    #[test]
    fn a_kubeconfig_that_wants_what_zpa_does_not_do_is_refused_with_the_way_round() {
        let skips = r#"{"server":"https://h","insecure-skip-tls-verify":true}"#;
        let proxied =
            r#"{"server":"https://h","certificate-authority-data":"Y2E=","proxy-url":"http://p"}"#;
        for (cluster, user, what) in [
            (skips, "{}", "insecure-skip-tls-verify"),
            (proxied, "{}", "proxy-url"),
            (CLUSTER, r#"{"exec":{"command":"aws"}}"#, "an exec plugin"),
            (
                CLUSTER,
                r#"{"auth-provider":{"name":"x"}}"#,
                "an auth-provider",
            ),
            (
                CLUSTER,
                r#"{"username":"u","password":"p"}"#,
                "a username and password",
            ),
            (CLUSTER, r#"{"as":"root"}"#, "impersonation"),
        ] {
            let text = message(from_kubeconfig(kubeconfig(cluster, user).as_bytes()));
            assert!(
                text.contains(what) && text.contains("kubectl proxy"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_broken_kubeconfig_is_explained_and_never_quoted() {
        for (json, text) in [
            ("{\"users\":canary".to_owned(), "not a kubeconfig"),
            (r#"{"clusters":null}"#.to_owned(), "names no cluster"),
            (
                kubeconfig(r#"{"server":"h"}"#, "{}"),
                "server \"h\": not an address",
            ),
            (
                kubeconfig(r#"{"server":"https://h"}"#, "{}"),
                "has no certificate-authority",
            ),
            (
                kubeconfig(
                    r#"{"server":"https://h","certificate-authority-data":"canary!"}"#,
                    "{}",
                ),
                "certificate-authority-data is not base64",
            ),
            (
                kubeconfig(CLUSTER, r#"{"client-key-data":"a2V5"}"#),
                "go together",
            ),
        ] {
            let error = message(from_kubeconfig(json.as_bytes()));
            assert!(error.contains(text), "{error}");
            assert!(!error.contains("canary"), "{error}");
        }
    }

    #[test]
    fn kubectl_reads_a_kubeconfig_where_there_is_one() {
        let directory = Directory::new("access-kubectl");
        let yaml = "
            {apiVersion: v1, kind: Config, current-context: a,
            contexts: [{name: a, context: {cluster: c, user: u, namespace: shop}}],
            clusters: [{name: c, cluster: {server: 'https://h', certificate-authority-data: Y2E=}}],
            users: [{name: u, user: {token: canary}}]}";
        let path = directory.write("config", yaml);
        match Access::discover(Some(&path), None, &directory.0, nothing) {
            Ok((access, namespace)) => {
                assert_eq!(access.server.to_string(), "https://h:443");
                assert_eq!(namespace.as_deref(), Some("shop"));
                assert!(matches!(access.token, TokenSource::Fixed(_)));
            }
            Err(error) => assert!(error.to_string().ends_with("install kubectl"), "{error}"),
        }
        let absent = directory.0.join("absent").to_string_lossy().into_owned();
        let env = |name: &str| (name == "KUBECONFIG").then(|| absent.clone());
        let error = message(Access::discover(None, None, &directory.0, env));
        assert!(
            error.contains("/absent\": No such file or directory"),
            "{error}"
        );
    }

    #[test]
    fn of_a_list_of_kubeconfigs_one_is_enough() {
        let directory = Directory::new("access-list");
        let (here, absent) = (directory.write("config", ""), directory.0.join("absent"));
        let list = |paths: [&Path; 2]| PathBuf::from(std::env::join_paths(paths).unwrap());
        assert!(none_of(&list([&absent, &here])).is_none());
        assert!(none_of(&list([&here, &absent])).is_none());
        assert!(none_of(&list([&absent, &absent])).is_some());
    }

    #[test]
    fn what_kubectl_says_of_an_empty_kubeconfig_is_put_in_its_readers_words() {
        let said = "error: current-context must exist in order to minify\n";
        assert_eq!(
            complaint(said),
            "it has no current-context; choose one with `kubectl config use-context`"
        );
        assert_eq!(
            complaint("error: broken\n"),
            "kubectl cannot read it: error: broken"
        );
    }
}
