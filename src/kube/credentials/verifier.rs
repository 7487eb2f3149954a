//! [`ServerVerifier`] verifies the certificate of the API server.
//!
//! The rules are webpki's, with one exception. kubectl accepts a server whose own
//! certificate is configured as a root. webpki refuses it if it has CA:TRUE, as
//! `openssl req -x509` sets it, or if another CA has issued it. If that is the only reason
//! of the refusal, a certificate that equals a configured one byte for byte is accepted.
//! Its validity and its name are checked too, and the handshake proves that the server has
//! the key.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

/// Verifies by webpki, and by equality with a root.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    webpki: Arc<WebPkiServerVerifier>,
    roots: Vec<CertificateDer<'static>>,
}

impl ServerVerifier {
    /// A verifier that trusts `roots`.
    ///
    /// # Errors
    /// If none of the roots can be used.
    pub(super) fn new(
        roots: Vec<CertificateDer<'static>>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, String> {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(roots.iter().cloned());
        let webpki = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider)
            .build()
            .map_err(|cause| cause.to_string())?;
        Ok(ServerVerifier { webpki, roots })
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let refusal = match self.webpki.verify_server_cert(
            end_entity,
            intermediates,
            name,
            ocsp_response,
            now,
        ) {
            Err(refusal) => refusal,
            verified => return verified,
        };
        if !says_only_how_it_was_issued(&refusal) || !self.roots.contains(end_entity) {
            return Err(refusal);
        }
        verify_server_name(&ParsedCertificate::try_from(end_entity)?, name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

/// Whether a certificate was refused for who has issued it, or for being a CA's.
/// webpki comes to both after the validity, which is why they say that the
/// certificate is neither expired nor yet to come (`verify_cert.rs`,
/// `check_issuer_independent_properties`). The tests hold it to that.
fn says_only_how_it_was_issued(refusal: &Error) -> bool {
    match refusal {
        // The second: a root has its issuer's name, and is another.
        Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => true,
        Error::InvalidCertificate(CertificateError::Other(other)) => {
            let cause = other.0.downcast_ref::<webpki::Error>();
            matches!(cause, Some(webpki::Error::CaUsedAsEndEntity))
        }
        _ => false,
    }
}
