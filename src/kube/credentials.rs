//! Token and roots, kept fresh while the kubelet replaces their files.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use log::Level;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

use super::access::{Access, ClientCertificate, Roots, TokenSource};
use super::text::{LogOnce, printable};
use super::token::Token;
use crate::clock::{Clock, Time};

/// How old a file's content may get before the file is read again. The kubelet
/// replaces a token when a fifth of its life is left, which is minutes at least.
const FRESH: Duration = Duration::from_secs(60);

/// How to speak TLS with the API server.
#[derive(Clone)]
pub(super) struct Tls {
    pub(super) config: Arc<ClientConfig>,
    pub(super) name: ServerName<'static>,
}

/// Who we are and whom we trust, as the files say now.
pub(super) struct Credentials {
    access: Access,
    clock: Clock,
    state: Mutex<State>,
}

struct State {
    token: Option<Token>,
    token_read: Time,
    roots: Vec<u8>,
    roots_read: Time,
    roots_log: LogOnce,
    tls: Option<Tls>,
    /// Counts the changes of `tls`.
    generation: u64,
}

impl Credentials {
    /// Reads everything once. Fails if the roots or the client certificate
    /// cannot be used, and says where they are from.
    pub(super) fn new(access: Access, clock: Clock) -> Result<Self, String> {
        let (roots, tls) = read_tls(&access)?;
        let token = match &access.token {
            TokenSource::None => None,
            TokenSource::Fixed(token) => Some(token.clone()),
            TokenSource::File(path) => read_token(path),
        };
        let now = clock();
        Ok(Credentials {
            access,
            clock,
            state: Mutex::new(State {
                token,
                token_read: now,
                roots,
                roots_read: now,
                roots_log: LogOnce::default(),
                tls,
                generation: 0,
            }),
        })
    }

    /// `scheme://host:port`, with what comes before `/api`.
    pub(super) fn base_url(&self) -> String {
        format!("{}{}", self.access.server, self.access.prefix)
    }

    /// Whether the API server is spoken to over TLS.
    pub(super) fn is_tls(&self) -> bool {
        self.access.server.tls
    }

    /// The token to send, if one is to be sent, read within the last minute.
    pub(super) fn token(&self) -> Option<Token> {
        let mut state = self.state();
        if (self.clock)().since(state.token_read) >= FRESH {
            self.read_token_again(&mut state);
        }
        state.token.clone()
    }

    /// The server has refused the token: reads it again. Whether there is one
    /// to try again with.
    pub(super) fn renew_token(&self) -> bool {
        self.read_token_again(&mut self.state())
    }

    /// How to speak TLS, if it is to be spoken, and a number that changes with it.
    pub(super) fn tls(&self) -> (u64, Option<Tls>) {
        let mut state = self.state();
        if (self.clock)().since(state.roots_read) >= FRESH {
            self.read_roots_again(&mut state);
        }
        (state.generation, state.tls.clone())
    }

    /// A handshake has failed: the roots may have been replaced.
    pub(super) fn renew_roots(&self) {
        self.read_roots_again(&mut self.state());
    }

    /// Keeps the old token if the file is empty, missing or unreadable, as it
    /// may be for a moment while it is replaced.
    fn read_token_again(&self, state: &mut State) -> bool {
        let TokenSource::File(path) = &self.access.token else {
            return false;
        };
        state.token_read = (self.clock)();
        if let Some(token) = read_token(path) {
            state.token = Some(token);
        }
        state.token.is_some()
    }

    fn read_roots_again(&self, state: &mut State) {
        let (Roots::File(path), Some(tls)) = (&self.access.roots, &state.tls) else {
            return;
        };
        state.roots_read = (self.clock)();
        let Ok(pem) = std::fs::read(path) else {
            return;
        };
        if pem == state.roots {
            return;
        }
        let client = self.access.client.as_ref();
        match root_store(&pem).and_then(|store| client_config(store, client)) {
            Ok(config) => {
                let name = tls.name.clone();
                state.tls = Some(Tls { config, name });
                state.generation += 1;
                state.roots = pem;
                log::info!("the cluster's root certificates have changed: using the new ones");
                state.roots_log = LogOnce::default();
            }
            Err(cause) => state.roots_log.raise(
                Level::Warn,
                "roots",
                &format!(
                    "{}: {cause}; keeping the old ones",
                    place_of(&self.access.roots)
                ),
            ),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The roots as they are now, and how to speak TLS with whom they vouch for.
pub(super) fn read_tls(access: &Access) -> Result<(Vec<u8>, Option<Tls>), String> {
    let place = place_of(&access.roots);
    let roots = match &access.roots {
        Roots::None => return Ok((Vec::new(), None)),
        Roots::Fixed(pem) => pem.clone(),
        Roots::File(path) => std::fs::read(path).map_err(|cause| format!("{place}: {cause}"))?,
    };
    let store = root_store(&roots).map_err(|cause| {
        format!("{place}: {cause}; what belongs there is the cluster's CA, as PEM")
    })?;
    let tls = Tls {
        config: client_config(store, access.client.as_ref())?,
        name: server_name(access)?,
    };
    Ok((roots, Some(tls)))
}

/// Where the roots are from, for a log.
fn place_of(roots: &Roots) -> String {
    match roots {
        Roots::File(path) => {
            let path = printable(&path.to_string_lossy());
            format!("credentials file \"{path}\"")
        }
        Roots::None | Roots::Fixed(_) => "kubeconfig: certificate-authority".to_owned(),
    }
}

fn read_token(path: &Path) -> Option<Token> {
    Token::new(&std::fs::read_to_string(path).ok()?)
}

fn server_name(access: &Access) -> Result<ServerName<'static>, String> {
    let name = access.tls_name.as_ref().unwrap_or(&access.server.host);
    ServerName::try_from(name.clone()).map_err(|_| {
        format!(
            "\"{}\": neither a host name nor an address",
            printable(name)
        )
    })
}

/// The cluster's roots and no others.
fn root_store(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    let certificates = CertificateDer::pem_slice_iter(pem).filter_map(Result::ok);
    match store.add_parsable_certificates(certificates) {
        (0, _) => Err("there is no root certificate in it that can be used".to_owned()),
        _ => Ok(store),
    }
}

/// ring alone, named here because a process without a default provider would
/// panic.
fn client_config(
    store: RootCertStore,
    client: Option<&ClientCertificate>,
) -> Result<Arc<ClientConfig>, String> {
    let builder =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|cause| cause.to_string())?
            .with_root_certificates(store);
    let config = match client {
        None => builder.with_no_client_auth(),
        Some(client) => {
            let (chain, key) = client_identity(client)?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|cause| format!("kubeconfig: client-certificate: {cause}"))?
        }
    };
    Ok(Arc::new(config))
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn client_identity(client: &ClientCertificate) -> Result<Identity, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&client.chain).collect();
    let chain = chain.map_err(|_| "kubeconfig: client-certificate: it is not PEM")?;
    // The cause is not shown: it could quote the key.
    let key = PrivateKeyDer::from_pem_slice(&client.key)
        .map_err(|_| "kubeconfig: client-key: it is not PEM")?;
    Ok((chain, key))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::super::testing::{self, Directory};
    use super::*;

    #[test]
    fn a_token_is_read_again_after_a_minute_and_kept_while_its_file_is_empty_or_gone() {
        static NOW: AtomicU64 = AtomicU64::new(0);
        let directory = Directory::new("token-minute");
        let path = directory.write("token", "first\n");
        let mut access = testing::access(SocketAddr::from(([127, 0, 0, 1], 1)));
        access.token = TokenSource::File(path.clone());
        let clock = || Time::from_millis(NOW.load(Ordering::Relaxed));
        let credentials = Credentials::new(access, clock).unwrap();
        let token_at = |ms| {
            NOW.store(ms, Ordering::Relaxed);
            let header = credentials.token().unwrap().header();
            header.to_str().unwrap().to_owned()
        };
        directory.write("token", "second");
        assert_eq!(token_at(59_999), "Bearer first");
        assert_eq!(token_at(60_000), "Bearer second");
        directory.write("token", " \n");
        assert_eq!(token_at(120_000), "Bearer second", "empty");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(token_at(180_000), "Bearer second", "gone");
        assert!(credentials.renew_token(), "worth another try all the same");
        directory.write("token", "third");
        assert!(credentials.renew_token());
        assert_eq!(
            token_at(180_000),
            "Bearer third",
            "read at once when refused"
        );
    }

    #[test]
    fn roots_of_no_use_are_named_by_their_file_and_not_shown() {
        let directory = Directory::new("roots-bad");
        let mut access = testing::access(SocketAddr::from(([127, 0, 0, 1], 1)));
        let why = |access: &Access| read_tls(access).err().unwrap_or_default();
        let path = directory.write("ca.crt", "canary");
        let named = format!("credentials file \"{}\": ", path.display());
        access.roots = Roots::File(path.clone());
        assert_eq!(
            why(&access),
            format!(
                "{named}there is no root certificate in it that can be used; what belongs there \
                 is the cluster's CA, as PEM"
            )
        );
        std::fs::remove_file(&path).unwrap();
        assert!(why(&access).starts_with(&format!("{named}No such file")));
        access.roots = Roots::Fixed(b"canary".to_vec());
        assert!(why(&access).starts_with("kubeconfig: certificate-authority: there is no"));
    }
}
