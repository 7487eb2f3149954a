//! [`access`] makes an [`Access`] of a cluster and a user of a kubeconfig.

use std::net::IpAddr;
use std::path::PathBuf;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use ureq::http::{HeaderName, HeaderValue, Uri};

use super::super::exec::Plugin;
use super::super::kubeconfig::{Cluster, Selected, User};
use super::super::text::printable;
use super::super::token::Token;
use super::{Access, ClientCertificate, Pem, TokenSource, unbracketed};
use crate::cluster::ApiServer;
use crate::kubeconfig_flags::KubeconfigFlags;

/// The remedy if a kubeconfig has a field that this program does not support.
const USE_PROXY: &str = "run `kubectl proxy` and set --api-server=http://127.0.0.1:8001 instead";

/// The access that `selected` describes, with the overrides of `flags`.
///
/// # Errors
/// What is missing or cannot be used. No secret is quoted.
pub(super) fn access(selected: Selected, flags: &KubeconfigFlags) -> Result<Access, String> {
    let Selected {
        mut cluster,
        mut user,
        ..
    } = selected;
    override_cluster(&mut cluster, flags);
    override_user(&mut user, flags);
    refuse(&cluster, &user)?;
    let (server, prefix) = server(&cluster)?;
    let impersonation = impersonation(&user)?;
    if !server.tls {
        return plain(server, prefix, impersonation, flags);
    }
    let Some(roots) = roots(&cluster)? else {
        return Err(format!(
            "the cluster {server} has no certificate-authority; name one there, or {USE_PROXY}"
        ));
    };
    let token = token(&user)?;
    let plugin = match (&token, &user.exec) {
        // As in client-go, a token takes precedence over a plugin.
        (TokenSource::None, Some(exec)) => {
            Some(Plugin::new(exec, || exec_cluster(&cluster, &roots))?)
        }
        _ => None,
    };
    let client = client_certificate(&user)?;
    if matches!(token, TokenSource::None) && plugin.is_none() && client.is_none() {
        log::warn!(
            "the user has no token, no client certificate and no exec plugin: to the API server \
             {server} every request is anonymous"
        );
    }
    Ok(Access {
        server,
        prefix,
        tls_name: cluster.tls_server_name,
        roots: Some(roots),
        client,
        token,
        plugin,
        impersonation,
        request_timeout: flags.request_timeout,
    })
}

/// The access to a `kubectl proxy` on this machine, which has its own credentials.
fn plain(
    server: ApiServer,
    prefix: String,
    impersonation: Vec<(HeaderName, HeaderValue)>,
    flags: &KubeconfigFlags,
) -> Result<Access, String> {
    let loopback = match server.host.parse::<IpAddr>() {
        Ok(ip) => ip.is_loopback(),
        Err(_) => server.host == "localhost",
    };
    if !loopback {
        return Err(format!(
            "api-server \"{server}\": plain http is for `kubectl proxy` on this machine only; \
             use an address such as http://127.0.0.1:8001, or https"
        ));
    }
    if flags.token.is_some() {
        return Err(format!(
            "--token: it is never sent over plain http, as to {server}; leave it out, or use https"
        ));
    }
    Ok(Access {
        server,
        prefix,
        tls_name: None,
        roots: None,
        client: None,
        token: TokenSource::None,
        plugin: None,
        impersonation,
        request_timeout: flags.request_timeout,
    })
}

/// Overrides as in `DirectClientConfig.getCluster`: another server does not keep the TLS
/// name, and another file of roots replaces roots of any source.
fn override_cluster(cluster: &mut Cluster, flags: &KubeconfigFlags) {
    if let Some(server) = &flags.server {
        cluster.server = Some(server.clone());
        cluster.tls_server_name = None;
    }
    if let Some(file) = &flags.certificate_authority {
        cluster.certificate_authority = Some(file.into());
        cluster.certificate_authority_data = None;
        cluster.insecure_skip_tls_verify = None;
    }
}

fn override_user(user: &mut User, flags: &KubeconfigFlags) {
    if let Some(token) = &flags.token {
        user.token = Some(token.expose().to_owned());
        user.token_file = None;
    }
    if let Some(file) = &flags.client_certificate {
        user.client_certificate = Some(file.into());
        user.client_certificate_data = None;
    }
    if let Some(file) = &flags.client_key {
        user.client_key = Some(file.into());
        user.client_key_data = None;
    }
    if flags.impersonate.is_some() {
        user.impersonate.clone_from(&flags.impersonate);
    }
    if !flags.impersonate_groups.is_empty() {
        user.impersonate_groups = Some(flags.impersonate_groups.clone());
    }
}

fn refuse(cluster: &Cluster, user: &User) -> Result<(), String> {
    if cluster.insecure_skip_tls_verify == Some(true) {
        return Err(format!(
            "insecure-skip-tls-verify would give the token to whoever answers in the API server's \
             place; name its certificate or its CA as certificate-authority, or {USE_PROXY}"
        ));
    }
    if cluster.proxy_url.is_some() {
        return Err(format!(
            "proxy-url: the API server is only spoken to directly; {USE_PROXY}"
        ));
    }
    if let Some(provider) = &user.auth_provider {
        let name = printable(provider.name.as_deref().unwrap_or_default());
        return Err(format!(
            "auth-provider \"{name}\": client-go has dropped these in 1.26; use the exec plugin \
             that has taken its place, or {USE_PROXY}"
        ));
    }
    if user.username.is_some() || user.password.is_some() {
        return Err(format!(
            "username and password: no API server since 1.19 takes them; use a token or a client \
             certificate, or {USE_PROXY}"
        ));
    }
    Ok(())
}

/// Splits the server's URL, `https://host:port/prefix`.
fn server(cluster: &Cluster) -> Result<(ApiServer, String), String> {
    let Some(url) = cluster.server.as_deref() else {
        return Err(
            "it has no current-context, or none with a cluster that names a server; choose one \
             with `kubectl config use-context` or --context"
                .to_owned(),
        );
    };
    parse_url(url).ok_or_else(|| {
        format!(
            "server \"{}\": not an address; use e.g. https://10.0.0.1:6443",
            printable(url)
        )
    })
}

fn parse_url(url: &str) -> Option<(ApiServer, String)> {
    let uri: Uri = url.parse().ok()?;
    let tls = match uri.scheme_str()? {
        "https" => true,
        "http" => false,
        _ => return None,
    };
    let authority = uri.authority()?.as_str();
    if authority.contains('@') {
        return None;
    }
    let server = ApiServer {
        tls,
        host: unbracketed(uri.host()?).to_owned(),
        port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }),
    };
    Some((server, uri.path().trim_end_matches('/').to_owned()))
}

fn roots(cluster: &Cluster) -> Result<Option<Pem>, String> {
    pem(
        "certificate-authority-data",
        cluster.certificate_authority_data.as_deref(),
        cluster.certificate_authority.as_ref(),
    )
}

fn client_certificate(user: &User) -> Result<Option<ClientCertificate>, String> {
    let chain = pem(
        "client-certificate-data",
        user.client_certificate_data.as_deref(),
        user.client_certificate.as_ref(),
    )?;
    let key = pem(
        "client-key-data",
        user.client_key_data.as_deref(),
        user.client_key.as_ref(),
    )?;
    match (chain, key) {
        (Some(chain), Some(key)) => Ok(Some(ClientCertificate { chain, key })),
        (None, None) => Ok(None),
        _ => Err("client-certificate and client-key go together; one is missing".to_owned()),
    }
}

/// As in client-go, data in the kubeconfig itself takes precedence over a file.
fn pem(
    field: &'static str,
    data: Option<&str>,
    file: Option<&PathBuf>,
) -> Result<Option<Pem>, String> {
    match (data, file) {
        (Some(data), _) => match BASE64_STANDARD.decode(data.trim()) {
            Ok(bytes) => Ok(Some(Pem::Fixed(field, bytes))),
            Err(_) => Err(format!("{field} is not base64")),
        },
        (None, Some(file)) => Ok(Some(Pem::File(file.clone()))),
        (None, None) => Ok(None),
    }
}

/// As in client-go, a token file that can be read takes precedence over a token.
fn token(user: &User) -> Result<TokenSource, String> {
    let token = match user.token.as_deref() {
        None => None,
        Some(text) => Some(Token::new(text).ok_or("token: it has characters that no token has")?),
    };
    Ok(match (&user.token_file, token) {
        (Some(path), fallback) => TokenSource::File {
            path: path.clone(),
            fallback,
        },
        (None, Some(token)) => TokenSource::Fixed(token),
        (None, None) => TokenSource::None,
    })
}

/// The headers of impersonation, as client-go sends them
/// (`transport.impersonatingRoundTripper`).
fn impersonation(user: &User) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    let mut headers = Vec::new();
    let mut add = |name: String, value: &str| -> Result<(), String> {
        let bad = || format!("impersonation: \"{}\" cannot be sent", printable(value));
        let name = HeaderName::try_from(name).map_err(|_| bad())?;
        headers.push((name, HeaderValue::from_str(value).map_err(|_| bad())?));
        Ok(())
    };
    let single = [
        ("Impersonate-User", &user.impersonate),
        ("Impersonate-Uid", &user.impersonate_uid),
    ];
    for (name, value) in single {
        if let Some(value) = value {
            add(name.to_owned(), value)?;
        }
    }
    for group in user.impersonate_groups.iter().flatten() {
        add("Impersonate-Group".to_owned(), group)?;
    }
    for (key, values) in user.impersonate_extra.iter().flatten() {
        for value in values {
            add(format!("Impersonate-Extra-{}", escaped_key(key)), value)?;
        }
    }
    // The API server answers 400 to these headers without a user.
    if user.impersonate.is_none() && !headers.is_empty() {
        return Err("impersonation: groups go with a user (--as, or as)".to_owned());
    }
    Ok(headers)
}

/// Percent-encodes `%` and all characters that no header name may have
/// (`transport.headerKeyEscape`).
fn escaped_key(key: &str) -> String {
    let mut out = String::new();
    for byte in key.bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte);
        if plain {
            out.push(char::from(byte))
        } else {
            out.push_str(&format!("%{byte:02X}"))
        }
    }
    out
}

/// The cluster as it is passed to an exec plugin (`spec.cluster` of `ExecCredential`).
fn exec_cluster(cluster: &Cluster, roots: &Pem) -> Value {
    let mut info = json!({ "server": cluster.server });
    let pem = match roots {
        Pem::Fixed(_, pem) => Some(pem.clone()),
        Pem::File(path) => std::fs::read(path).ok(),
    };
    if let Some(pem) = pem {
        info["certificate-authority-data"] = BASE64_STANDARD.encode(pem).into();
    }
    if let Some(name) = &cluster.tls_server_name {
        info["tls-server-name"] = name.as_str().into();
    }
    if let Some(config) = cluster.exec_extension() {
        info["config"] = config.clone();
    }
    info
}
