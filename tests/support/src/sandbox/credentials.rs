//! The cluster's certificate authority, the service account's directory, and
//! how both are rotated.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::store::random;

/// The names by which the API server may be called.
const SERVER_NAMES: [&str; 4] = [
    "127.0.0.1",
    "localhost",
    "kubernetes.default.svc",
    "kubernetes.default",
];

/// A certificate authority, and a server certificate of its making.
pub struct Authority {
    /// The CA's certificate.
    pub ca_pem: String,
    /// What the API server serves with.
    pub server: Arc<ServerConfig>,
}

impl Authority {
    /// A new CA with new keys.
    pub fn new() -> Authority {
        let ca = new_ca().expect("a certificate authority");
        Authority {
            ca_pem: ca.pem(),
            server: Arc::new(server_config(&ca)),
        }
    }
}

fn new_ca() -> Result<CertifiedIssuer<'static, KeyPair>, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(DnType::CommonName, "kubernetes");
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyCertSign,
    ];
    CertifiedIssuer::self_signed(params, KeyPair::generate()?)
}

fn server_config(ca: &CertifiedIssuer<'static, KeyPair>) -> ServerConfig {
    let names = SERVER_NAMES.map(str::to_owned);
    let mut params = CertificateParams::new(names).expect("names fit for a certificate");
    params
        .distinguished_name
        .push(DnType::CommonName, "kube-apiserver");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate().expect("a key for the server");
    let certificate = params
        .signed_by(&key, ca)
        .expect("a certificate for the server");
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring knows the default protocol versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .expect("a certificate that fits its key")
}

/// A bearer token that no other sandbox has.
pub fn new_token() -> String {
    format!("sandbox-token-{:016x}{:016x}", random(), random())
}

/// A directory as the kubelet mounts it for a service account, removed on drop.
pub struct Directory(PathBuf);

impl Directory {
    /// Creates it, with all three files.
    pub fn create(namespace: &str, token: &str, ca_pem: &str) -> io::Result<Directory> {
        static CREATED: AtomicU32 = AtomicU32::new(0);
        let count = CREATED.fetch_add(1, Ordering::Relaxed);
        let name = format!(
            "zpa-sandbox-{}-{count}-{:08x}",
            std::process::id(),
            random() as u32
        );
        let directory = Directory(std::env::temp_dir().join(name));
        fs::create_dir_all(directory.path())?;
        directory.write("namespace", namespace)?;
        directory.write("token", token)?;
        directory.write("ca.crt", ca_pem)?;
        Ok(directory)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Replaces one file at once, as the kubelet does.
    pub fn write(&self, file: &str, content: &str) -> io::Result<()> {
        let fresh = self.0.join(format!(".{file}.new"));
        fs::write(&fresh, content)?;
        fs::rename(fresh, self.0.join(file))
    }

    /// Removes one file, as seen in the middle of a rotation.
    pub fn remove(&self, file: &str) -> io::Result<()> {
        fs::remove_file(self.0.join(file))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
