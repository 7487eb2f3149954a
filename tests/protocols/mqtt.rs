//! MQTT, with mosquitto and its clients.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use super::client::succeed;
use super::server::{Server, Volume, are_there, command, find};
use super::trial::Trial;

fn mosquitto() -> Option<Server> {
    if !are_there(&["mosquitto", "mosquitto_pub", "mosquitto_sub"]) {
        return None;
    }
    Some(Server::new(Volume::new(), |volume, at: &[SocketAddr]| {
        let configuration = format!(
            "listener {} {}\nallow_anonymous true\npersistence true\npersistence_location {}/\n",
            at[0].port(),
            at[0].ip(),
            volume.path("").display(),
        );
        let mut mosquitto = command("mosquitto");
        mosquitto
            .arg("-c")
            .arg(volume.write("mosquitto.conf", &configuration));
        mosquitto
    }))
}

fn client(name: &str, trial: &Trial, words: &[&str]) -> Command {
    let mut client = Command::new(find(name).unwrap());
    client.args(["-h", &trial.ip(), "-p", &trial.port(), "-t", "greeting"]);
    client.args(words);
    client
}

#[test]
#[ignore = "make protocols runs it"]
fn a_retained_message_outlives_the_sleep_and_a_check_wakes_nothing() {
    let Some(server) = mosquitto() else { return };
    let trial = Trial::start("mqtt", server);
    trial.check();
    let mut wakes = 0;
    trial.wake_twice(|| {
        wakes += 1;
        match wakes {
            1 => succeed(&client(
                "mosquitto_pub",
                &trial,
                &["-q", "1", "-r", "-m", "hello"],
            )),
            _ => {
                let received = succeed(&client("mosquitto_sub", &trial, &["-C", "1"]));
                assert_eq!(received, "hello\n");
                received
            }
        };
    });
}

#[test]
#[ignore = "make protocols runs it"]
fn a_subscriber_keeps_it_awake() {
    let Some(server) = mosquitto() else { return };
    let trial = Trial::start("mqtt", server);
    let mut subscriber = client("mosquitto_sub", &trial, &["-C", "1"]);
    let subscriber = subscriber.stdout(Stdio::piped()).spawn().unwrap();
    trial.zpa.expect_log("relaying to");
    // Two TTLs in which it says nothing.
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(trial.has_slept(), 0);
    // Until the subscription is there, a message is nobody's.
    succeed(&client(
        "mosquitto_pub",
        &trial,
        &["-q", "1", "-r", "-m", "at last"],
    ));
    let received = subscriber.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&received.stdout), "at last\n");
    trial.expect_sleep();
}
