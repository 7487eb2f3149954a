//! FTP with passive data connections, with vsftpd and curl.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;

use super::client::{run, succeed};
use super::http::curl;
use super::server::{Server, Volume, are_there, command};
use super::trial::Trial;

/// Serves the file `hello` to anybody; data connections come to its second port.
fn vsftpd() -> Option<Server> {
    if !are_there(&["vsftpd", "curl"]) {
        return None;
    }
    let volume = Volume::new();
    let file = volume.write("hello", "good morning\n");
    // It shows strangers what all may read.
    fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
    Some(Server::new(volume, |volume, at: &[SocketAddr]| {
        let (first, data, root) = (at[0], at[1].port(), volume.path(""));
        let configuration = format!(
            "listen=YES\nlisten_address={}\nlisten_port={}\npasv_min_port={data}\n\
             pasv_max_port={data}\nrun_as_launching_user=YES\nanonymous_enable=YES\n\
             anon_root={}\nseccomp_sandbox=NO\nbackground=NO\nxferlog_enable=NO\n",
            first.ip(),
            first.port(),
            root.display(),
        );
        let mut vsftpd = command("vsftpd");
        vsftpd.arg(volume.write("vsftpd.conf", &configuration));
        vsftpd
    }))
}

#[test]
#[ignore = "make protocols runs it"]
fn curl_fetches_a_file_through_a_data_port_of_the_proxy() {
    let Some(server) = vsftpd() else { return };
    let trial = Trial::with_second_port("ftp", server, "ftp-data");
    let url = format!("ftp://{}/hello", trial.address());
    // Once with EPSV, and once with PASV, whose answer has the pod's own address.
    let mut words: &[&str] = &[];
    trial.wake_twice(|| {
        let mut curl = curl(words);
        assert_eq!(succeed(curl.arg(&url)), "good morning\n");
        words = &["--disable-epsv"];
    });
}

#[test]
#[ignore = "make protocols runs it"]
fn curl_is_asked_to_try_again_if_it_was_held_in_vain() {
    if !are_there(&["curl"]) {
        return;
    }
    let trial = Trial::in_vain("ftp");
    let said = run(&curl(&[
        "--verbose",
        &format!("ftp://{}/hello", trial.address()),
    ]));
    assert!(!said.success && said.err.contains("< 421 "), "{said:?}");
}
