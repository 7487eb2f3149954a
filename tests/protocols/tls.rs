//! TLS that passes through: the client sees the pod's own certificate.

use std::net::SocketAddr;
use std::process::Command;

use super::client::{run, succeed};
use super::http::{curl, nginx};
use super::server::{Server, Volume, are_there, command, find};
use super::trial::Trial;

/// The name in the certificate, which nobody resolves.
const NAME: &str = "app.example";

/// A volume with a certificate for [`NAME`] that signs itself, and its key.
fn certified() -> Volume {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()]);
    let made = made.expect("a certificate");
    let volume = Volume::new();
    volume.write("cert.pem", &made.cert.pem());
    volume.write("key.pem", &made.signing_key.serialize_pem());
    volume
}

fn s_server(volume: Volume) -> Server {
    Server::new(volume, |volume, at: &[SocketAddr]| {
        let mut openssl = command("openssl");
        openssl.args(["s_server", "-www", "-accept", &at[0].to_string(), "-cert"]);
        openssl
            .arg(volume.path("cert.pem"))
            .arg("-key")
            .arg(volume.path("key.pem"));
        openssl
    })
}

fn s_client(trial: &Trial, certificate: &std::path::Path) -> Command {
    let mut openssl = Command::new(find("openssl").unwrap());
    openssl.args(["s_client", "-connect", &trial.address().to_string()]);
    openssl.args([
        "-servername",
        NAME,
        "-verify_hostname",
        NAME,
        "-verify_return_error",
    ]);
    openssl.arg("-CAfile").arg(certificate);
    openssl
}

#[test]
#[ignore = "make protocols runs it"]
fn openssl_sees_the_certificate_of_the_pod_and_a_check_wakes_nothing() {
    if !are_there(&["openssl"]) {
        return;
    }
    let volume = certified();
    let certificate = volume.path("cert.pem");
    let trial = Trial::start("tls", s_server(volume));
    trial.check();
    trial.wake_twice(|| {
        let said = succeed(&s_client(&trial, &certificate));
        assert!(said.contains("Verify return code: 0 (ok)"), "{said}");
    });
}

#[test]
#[ignore = "make protocols runs it"]
fn curl_speaks_http_2_over_tls() {
    let volume = certified();
    let certificate = volume.path("cert.pem");
    let http = format!(
        "server {{ listen ADDRESS ssl http2; ssl_certificate {}; ssl_certificate_key {}; \
         location / {{ return 200 \"$ssl_server_name\\n\"; }} }}",
        certificate.display(),
        volume.path("key.pem").display(),
    );
    let Some(server) = nginx(volume, &http) else {
        return;
    };
    let trial = Trial::start("tls", server);
    let (certificate, port) = (certificate.display().to_string(), trial.port());
    let resolve = format!("{NAME}:{port}:{}", trial.ip());
    let url = format!("https://{NAME}:{port}/");
    trial.wake_twice(|| {
        let words = ["--http2", "--cacert", &certificate, "--resolve", &resolve];
        let mut curl = curl(&words);
        let said = succeed(curl.args(["-w", "%{http_version}", &url]));
        assert_eq!(said, format!("{NAME}\n2"));
    });
}

#[test]
#[ignore = "make protocols runs it"]
fn openssl_gets_an_alert_if_it_was_held_in_vain() {
    if !are_there(&["openssl"]) {
        return;
    }
    let volume = certified();
    let trial = Trial::in_vain("tls");
    let said = run(&s_client(&trial, &volume.path("cert.pem")));
    let alert = "tlsv1 alert internal error";
    assert!(!said.success && said.err.contains(alert), "{said:?}");
}
