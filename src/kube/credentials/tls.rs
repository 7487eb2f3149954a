//! [`Tls`]: the TLS configuration for the API server, made of the present files.

use std::sync::Arc;

use rustls::client::WantsClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, TrustAnchor};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore};

use super::super::access::{Access, Pem};
use super::super::text::printable;
use super::verifier::ServerVerifier;

/// A TLS configuration, and the name that the server's certificate must have.
#[derive(Clone)]
pub(in super::super) struct Tls {
    pub(in super::super) config: Arc<ClientConfig>,
    pub(in super::super) name: ServerName<'static>,
}

/// A certificate chain and its key, PEM.
pub(super) type Identity = (Vec<u8>, Vec<u8>);

/// The PEM texts that a [`Tls`] is made of. Comparing them shows whether they have changed.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Material {
    roots: Vec<u8>,
    identity: Option<Identity>,
}

/// The DER of the curve P-521 (RFC 5480, `secp521r1`) in the parameters of a key.
const P521: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23];

/// The remedy for a P-521 key.
pub(in super::super) const P521_CURE: &str = "this program's TLS (ring) cannot verify P-521: use a certificate with a P-256, P-384, RSA or \
     Ed25519 key";

impl Material {
    /// Reads what `access` names; None for plain HTTP. `identity` is used where
    /// `access` names none.
    ///
    /// # Errors
    /// Which file cannot be read, and why.
    pub(super) fn read(
        access: &Access,
        identity: Option<Identity>,
    ) -> Result<Option<Material>, String> {
        let Some(roots) = &access.roots else {
            return Ok(None);
        };
        let identity = match &access.client {
            Some(client) => Some((text(&client.chain)?, text(&client.key)?)),
            None => identity,
        };
        let roots = text(roots)?;
        Ok(Some(Material { roots, identity }))
    }

    /// Whether `identity` is the client certificate.
    pub(super) fn shows(&self, identity: Option<&Identity>) -> bool {
        self.identity.as_ref() == identity
    }

    /// A warning about a root certificate that cannot be used, although another one can.
    pub(super) fn remark(&self, access: &Access) -> Option<String> {
        let certificates = CertificateDer::pem_slice_iter(&self.roots).filter_map(Result::ok);
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(certificates);
        let place = access.roots.as_ref().map(place_of).unwrap_or_default();
        store.roots.iter().any(is_p521).then(|| {
            format!(
                "{place}: one of its certificates is of no use: it has a P-521 key, and {P521_CURE}"
            )
        })
    }

    /// Makes the `Tls`.
    ///
    /// # Errors
    /// Which text cannot be used, its source, and why. No text is quoted: one is a key.
    pub(super) fn tls(&self, access: &Access) -> Result<Tls, String> {
        let place = access.roots.as_ref().map(place_of).unwrap_or_default();
        let builder = verifying(&self.roots).map_err(|why| format!("{place}: {why}"))?;
        let config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let [chain, key] = places_of(access);
                let certificates = client_chain(&identity.0);
                let certificates = certificates.map_err(|why| format!("{chain}: {why}"))?;
                // The cause is not shown: it could quote the key.
                let private = PrivateKeyDer::from_pem_slice(&identity.1)
                    .map_err(|_| format!("{key}: there is no private key in it, as PEM"))?;
                builder
                    .with_client_auth_cert(certificates, private)
                    .map_err(|cause| format!("{chain}: {cause}"))?
            }
        };
        Ok(Tls {
            config: Arc::new(config),
            name: server_name(access)?,
        })
    }
}

/// The TLS configuration that trusts the certificates in `roots`, PEM, and shows none.
///
/// # Errors
/// Why they cannot be used.
pub(in super::super) fn client_config(roots: &[u8]) -> Result<Arc<ClientConfig>, String> {
    Ok(Arc::new(verifying(roots)?.with_no_client_auth()))
}

fn verifying(pem: &[u8]) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = ServerVerifier::new(roots(pem)?, provider.clone())?;
    // rustls calls every custom verifier dangerous; see `verifier` for this one.
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|cause| cause.to_string())?;
    let builder = builder.dangerous();
    Ok(builder.with_custom_certificate_verifier(Arc::new(verifier)))
}

fn text(pem: &Pem) -> Result<Vec<u8>, String> {
    match pem {
        Pem::Fixed(_, text) => Ok(text.clone()),
        Pem::File(path) => {
            std::fs::read(path).map_err(|cause| format!("{}: {cause}", place_of(pem)))
        }
    }
}

/// The source of a text, for the log.
fn place_of(pem: &Pem) -> String {
    match pem {
        Pem::File(path) => {
            let path = printable(&path.to_string_lossy());
            format!("credentials file \"{path}\"")
        }
        Pem::Fixed(field, _) => format!("kubeconfig: {field}"),
    }
}

/// The sources of the client certificate and its key.
fn places_of(access: &Access) -> [String; 2] {
    match &access.client {
        Some(client) => [place_of(&client.chain), place_of(&client.key)],
        None => {
            ["clientCertificateData", "clientKeyData"].map(|field| format!("exec plugin: {field}"))
        }
    }
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

/// The root certificates in `pem`, at least one of which can be used.
fn roots(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates = CertificateDer::pem_slice_iter(pem).filter_map(Result::ok);
    let certificates: Vec<_> = certificates.collect();
    let mut store = RootCertStore::empty();
    let (usable, _) = store.add_parsable_certificates(certificates.iter().cloned());
    if usable == 0 {
        return Err(
            "there is no root certificate in it that can be used; what belongs there is the \
             server's CA, as PEM"
                .to_owned(),
        );
    }
    if store.roots.iter().all(is_p521) {
        Err(format!("its certificate has a P-521 key, and {P521_CURE}"))
    } else {
        Ok(certificates)
    }
}

fn is_p521(root: &TrustAnchor<'_>) -> bool {
    let key = root.subject_public_key_info.as_ref();
    key.windows(P521.len()).any(|window| window == P521)
}

fn client_chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, &'static str> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        _ => Err("there is no certificate in it, as PEM"),
    }
}
