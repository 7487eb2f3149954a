//! WebSocket, with the server and the client of python3-websockets.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::server::{Server, Volume, has_python, python, unprivileged};
use super::trial::Trial;

const SERVER: &str = "
import asyncio, sys, websockets
async def echo(socket, path):
    async for message in socket:
        await socket.send(message)
async def main():
    async with websockets.serve(echo, sys.argv[1], int(sys.argv[2])):
        await asyncio.Future()
asyncio.run(main())
";

/// Sends each line of its input, and prints the answer.
const CLIENT: &str = "
import asyncio, sys, websockets
async def main():
    async with websockets.connect(sys.argv[1]) as socket:
        for line in sys.stdin:
            await socket.send(line.rstrip())
            print(await socket.recv(), flush=True)
asyncio.run(main())
";

fn server() -> Option<Server> {
    if !has_python("websockets") {
        return None;
    }
    Some(Server::new(Volume::new(), |_, at: &[SocketAddr]| {
        let mut server = unprivileged(python());
        let (ip, port) = (at[0].ip().to_string(), at[0].port().to_string());
        server.args(["-c", SERVER, &ip, &port]);
        server
    }))
}

fn client(trial: &Trial) -> Command {
    let mut client = python();
    client.args(["-c", CLIENT, &format!("ws://{}/", trial.address())]);
    client.stdin(Stdio::piped()).stdout(Stdio::piped());
    client
}

#[test]
#[ignore = "make protocols runs it"]
fn a_websocket_wakes_it_and_keeps_it_awake_as_long_as_it_is_open() {
    let Some(server) = server() else { return };
    let trial = Trial::start("websocket", server);
    trial.check();
    let mut wakes = 0;
    trial.wake_twice(|| {
        let mut child = client(&trial).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        let output = child.stdout.take().unwrap();
        let mut lines = BufReader::new(output).lines();
        writeln!(input, "good morning").unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), "good morning");
        // Two TTLs without a message.
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(trial.has_slept(), wakes);
        writeln!(input, "still there?").unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), "still there?");
        drop(input);
        assert!(child.wait().unwrap().success());
        wakes += 1;
    });
}
