//! Tokens, roots and certificates, and the files that they are in.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use super::super::access::{ClientCertificate, Pem};
use super::super::exec::Plugin;
use super::super::kubeconfig::ExecConfig;
use super::super::testing::{self, Directory};
use super::*;

fn access() -> Access {
    testing::access(SocketAddr::from(([127, 0, 0, 1], 1)))
}

fn file(path: &Path) -> TokenSource {
    TokenSource::File {
        path: path.to_owned(),
        fallback: None,
    }
}

/// What is sent, or why nothing is.
fn sent(credentials: &Credentials) -> Result<String, String> {
    let token = credentials.token()?;
    let header = token.map(|token| token.header().to_str().unwrap().to_owned());
    Ok(header.unwrap_or_else(|| "nothing".to_owned()))
}

#[test]
fn a_token_is_read_again_after_a_minute_and_kept_while_its_file_is_empty_or_gone() {
    static NOW: AtomicU64 = AtomicU64::new(0);
    let directory = Directory::new("token-minute");
    let path = directory.write("token", "first\n");
    let mut access = access();
    access.token = file(&path);
    let clock = || Time::from_millis(NOW.load(Ordering::Relaxed));
    let credentials = Credentials::new(access, clock).unwrap();
    let token_at = |ms| {
        NOW.store(ms, Ordering::Relaxed);
        let header = credentials.token().unwrap().unwrap().header();
        header.to_str().unwrap().to_owned()
    };
    directory.write("token", "second");
    assert_eq!(token_at(59_999), "Bearer first");
    assert_eq!(token_at(60_000), "Bearer second");
    directory.write("token", " \n");
    assert_eq!(token_at(120_000), "Bearer second", "empty");
    std::fs::remove_file(&path).unwrap();
    assert_eq!(token_at(180_000), "Bearer second", "gone");
    assert!(credentials.renew(), "worth another try all the same");
    directory.write("token", "third");
    assert!(credentials.renew());
    assert_eq!(
        token_at(180_000),
        "Bearer third",
        "read at once when refused"
    );
}

#[test]
fn nothing_is_asked_while_a_token_file_has_no_token_and_the_first_one_is_taken_at_once() {
    let directory = Directory::new("token-empty");
    let path = directory.write("token", " \n");
    let named = format!("credentials file \"{}\": ", path.display());
    let with = |token| Access { token, ..access() };
    let credentials = Credentials::new(with(file(&path)), testing::clock).unwrap();
    let refused = |why: &str| Err(format!("nothing is asked without a token: {named}{why}"));
    assert_eq!(sent(&credentials), refused("it is empty"));
    directory.write("token", "two\nlines");
    assert_eq!(
        sent(&credentials),
        refused("it has characters that no token has")
    );
    std::fs::remove_file(&path).unwrap();
    assert!(sent(&credentials).is_err_and(|why| why.contains(&format!("{named}No such file"))));
    directory.write("token", "first");
    assert_eq!(sent(&credentials), Ok("Bearer first".to_owned()));
}

#[test]
fn a_token_file_goes_before_a_token_as_soon_as_it_can_be_read() {
    let directory = Directory::new("token-both");
    let path = directory.0.join("token");
    let token = TokenSource::File {
        path,
        fallback: Token::new("inline"),
    };
    let credentials = Credentials::new(Access { token, ..access() }, testing::clock).unwrap();
    assert_eq!(sent(&credentials), Ok("Bearer inline".to_owned()));
    directory.write("token", "file");
    assert_eq!(sent(&credentials), Ok("Bearer file".to_owned()));
}

fn certificate() -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

#[test]
fn a_client_certificate_is_read_again_after_a_minute_and_when_it_is_refused() {
    static NOW: AtomicU64 = AtomicU64::new(0);
    let directory = Directory::new("client-certificate");
    let write = || {
        let (chain, key) = certificate();
        (directory.write("crt", chain), directory.write("key", key))
    };
    let (chain, key) = write();
    let access = Access {
        roots: Some(Pem::Fixed(
            "certificate-authority-data",
            certificate().0.into(),
        )),
        client: Some(ClientCertificate {
            chain: Pem::File(chain),
            key: Pem::File(key),
        }),
        token: TokenSource::None,
        ..access()
    };
    let clock = || Time::from_millis(NOW.load(Ordering::Relaxed));
    let credentials = Credentials::new(access, clock).unwrap();
    let generation_at = |ms| {
        NOW.store(ms, Ordering::Relaxed);
        credentials.tls().0
    };
    write();
    assert_eq!(generation_at(59_999), 0);
    assert_eq!(generation_at(60_000), 1);
    directory.write("key", "half of it");
    assert_eq!(generation_at(120_000), 1, "the old one stands");
    write();
    assert!(!credentials.renew(), "this connection shows the old one");
    assert_eq!(generation_at(120_000), 2, "read at once when refused");
}

#[test]
fn a_client_certificate_of_no_use_is_named_by_its_place_and_not_shown() {
    let (chain, key) = certificate();
    let fixed = |field, text: &str| Pem::Fixed(field, text.into());
    for (chain, key, why) in [
        (
            "canary",
            &*key,
            "client-certificate-data: there is no certificate in it, as PEM",
        ),
        (
            &*chain,
            "canary",
            "client-key-data: there is no private key in it, as PEM",
        ),
        (&*chain, &*certificate().1, "client-certificate-data: "),
    ] {
        let access = Access {
            roots: Some(Pem::Fixed(
                "certificate-authority-data",
                certificate().0.into(),
            )),
            client: Some(ClientCertificate {
                chain: fixed("client-certificate-data", chain),
                key: fixed("client-key-data", key),
            }),
            ..access()
        };
        let error = check(&access).err().unwrap();
        assert!(error.starts_with(&format!("kubeconfig: {why}")), "{error}");
        assert!(!error.contains("canary"), "{error}");
    }
}

#[test]
fn an_exec_plugin_gives_the_token_and_the_certificate_and_is_asked_again_when_refused() {
    let directory = Directory::new("plugin-both");
    let (chain, key) = certificate();
    let credential = |token: &str, chain: &str, key: &str| {
        let status = serde_json::json!({
            "token": token, "clientCertificateData": chain, "clientKeyData": key,
        });
        let version = "client.authentication.k8s.io/v1";
        serde_json::json!({ "apiVersion": version, "status": status }).to_string()
    };
    let path = directory.write("credential", credential("first", &chain, &key));
    let config = ExecConfig {
        command: "cat".into(),
        args: Some(vec![path.to_string_lossy().into_owned()]),
        api_version: "client.authentication.k8s.io/v1".into(),
        ..ExecConfig::default()
    };
    static NOW: AtomicU64 = AtomicU64::new(0);
    let access = Access {
        roots: Some(Pem::Fixed(
            "certificate-authority-data",
            certificate().0.into(),
        )),
        plugin: Some(Plugin::new(&config, Default::default).unwrap()),
        token: TokenSource::None,
        ..access()
    };
    let clock = || Time::from_millis(NOW.load(Ordering::Relaxed));
    let credentials = Credentials::new(access, clock).unwrap();
    assert_eq!(
        credentials.tls().0,
        1,
        "the certificate is shown from the start"
    );
    assert_eq!(credentials.tls().0, 1);
    assert_eq!(sent(&credentials), Ok("Bearer first".to_owned()));
    let (chain, key) = certificate();
    directory.write("credential", credential("second", &chain, &key));
    assert_eq!(
        sent(&credentials),
        Ok("Bearer first".to_owned()),
        "it has no end"
    );
    NOW.store(10_000, Ordering::Relaxed);
    assert!(credentials.renew());
    assert_eq!(sent(&credentials), Ok("Bearer second".to_owned()));
    assert_eq!(credentials.tls().0, 2);
    directory.write("credential", "broken");
    NOW.store(20_000, Ordering::Relaxed);
    assert!(!credentials.renew());
    assert_eq!(
        sent(&credentials),
        Ok("Bearer second".to_owned()),
        "the old one stands"
    );
}

/// A self-signed certificate with a P-521 key, made by `openssl ecparam -name
/// secp521r1 -genkey` and `openssl req -x509`, which ring cannot make.
const P521_CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----
MIIB/DCCAV6gAwIBAgIUZhoCa2cK1Rp1FcilwShtgK6Xj0UwCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEcDUyMTAgFw0yNjExMjgxOTA1NDZaGA8yMTI2MTEwNDE5MDU0
NlowDzENMAsGA1UEAwwEcDUyMTCBmzAQBgcqhkjOPQIBBgUrgQQAIwOBhgAEAaf7
JvygX1yfJBnAdCtus9/dNTGN8/qMxuf3OViknuw8Em5BpyHst7CAiOTfI41tKy4w
ufDEVjU2yU4THsjHla/lASWTwrknxn/I78F053P3OO+zLiEJg7XIn2l4WsMl+7D2
ZkJX/a19oT+UjXJwYniKKts0nYvgN/a3S7vCUj5DbXm2o1MwUTAdBgNVHQ4EFgQU
b5FgBGnhmg+0nrHsQOvJdnfeyQ8wHwYDVR0jBBgwFoAUb5FgBGnhmg+0nrHsQOvJ
dnfeyQ8wDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgOBiwAwgYcCQWHtW36g
Ko+Tk9KuXjCHD7xX8HSqNBA9jK8lBwtSAvwIK6IDz1Mg2JFf+1RnD0sEJdwY3k96
puAPDhDU87yze0ivAkIB8rCQHorw507vRPpNuNiDMgGYsx7KUtaT2NXL7JgtmKss
BkR4oTqVR7NWQ3q73yBR8TXmLkOdIyKS/YVGiBEkF1I=
-----END CERTIFICATE-----
";

#[test]
fn a_root_of_p521_is_refused_with_the_reason_unless_there_are_others() {
    let with = |pem: String| Access {
        roots: Some(Pem::Fixed("certificate-authority-data", pem.into())),
        ..access()
    };
    let error = check(&with(P521_CERTIFICATE.to_owned())).err().unwrap();
    assert_eq!(
        error,
        "kubeconfig: certificate-authority-data: its certificate has a P-521 key, and this \
         program's TLS (ring) cannot verify P-521: use a certificate with a P-256, P-384, RSA or \
         Ed25519 key"
    );
    let both = format!("{P521_CERTIFICATE}{}", certificate().0);
    let both = with(both);
    assert_eq!(check(&both), Ok(()));
    let remark = Material::read(&both, None).unwrap().unwrap().remark(&both);
    assert!(remark.is_some_and(|remark| remark.contains("one of its certificates is of no use")));
    let good = with(certificate().0);
    let remark = Material::read(&good, None).unwrap().unwrap().remark(&good);
    assert_eq!(remark, None);
}

#[test]
fn roots_of_no_use_are_named_by_their_file_and_not_shown() {
    let directory = Directory::new("roots-bad");
    let mut access = access();
    let why = |access: &Access| check(access).err().unwrap_or_default();
    let path = directory.write("ca.crt", "canary");
    let named = format!("credentials file \"{}\": ", path.display());
    access.roots = Some(Pem::File(path.clone()));
    assert_eq!(
        why(&access),
        format!(
            "{named}there is no root certificate in it that can be used; what belongs there \
             is the server's CA, as PEM"
        )
    );
    std::fs::remove_file(&path).unwrap();
    assert!(why(&access).starts_with(&format!("{named}No such file")));
    access.roots = Some(Pem::Fixed("certificate-authority-data", b"canary".to_vec()));
    assert!(why(&access).starts_with("kubeconfig: certificate-authority-data: there is no"));
}
