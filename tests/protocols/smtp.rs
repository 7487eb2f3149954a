//! SMTP, with the server of python3-aiosmtpd and curl.

use std::net::SocketAddr;
use std::process::Command;

use super::client::{run, succeed};
use super::http::curl;
use super::server::{Server, Volume, are_there, has_python, python, unprivileged};
use super::trial::Trial;

fn server() -> Option<Server> {
    if !are_there(&["curl"]) || !has_python("aiosmtpd") {
        return None;
    }
    let start = |volume: &Volume, at: &[SocketAddr]| {
        let mut server = unprivileged(python());
        server.args(["-m", "aiosmtpd", "-n", "-l", &at[0].to_string()]);
        server.args(["-c", "aiosmtpd.handlers.Mailbox"]);
        server.arg(volume.path("mail"));
        server
    };
    Some(Server::new(Volume::new(), start))
}

fn send(trial: &Trial, mail: &std::path::Path) -> Command {
    let mail = mail.display().to_string();
    curl(&[
        "--mail-from",
        "one@app.example",
        "--mail-rcpt",
        "other@app.example",
        "--upload-file",
        &mail,
        &format!("smtp://{}", trial.address()),
    ])
}

#[test]
#[ignore = "make protocols runs it"]
fn curl_delivers_mail_that_wakes_it() {
    let Some(server) = server() else { return };
    let trial = Trial::start("smtp", server);
    let volume = Volume::new();
    let mail = volume.write("mail", "Subject: hello\r\n\r\nGood morning.\r\n");
    trial.wake_twice(|| drop(succeed(&send(&trial, &mail))));
}

#[test]
#[ignore = "make protocols runs it"]
fn curl_is_asked_to_try_again_if_it_was_held_in_vain() {
    if !are_there(&["curl"]) {
        return;
    }
    let trial = Trial::in_vain("smtp");
    let volume = Volume::new();
    let said = run(&send(
        &trial,
        &volume.write("mail", "Subject: hello\r\n\r\n"),
    ));
    assert!(!said.success && said.err.contains("421"), "{said:?}");
}
