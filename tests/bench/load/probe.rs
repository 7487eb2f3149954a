//! The latency of a message over a connection of its own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::{MESSAGE_BYTES, STALL_TIMEOUT};
use crate::Result;
use crate::protocol::Request;

/// A connection over which a message went to the server and back.
pub fn probe(address: SocketAddr) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    exchange(&mut stream)?;
    Ok(stream)
}

/// A message to the server and back.
pub fn exchange(stream: &mut TcpStream) -> Result<()> {
    let request = Request {
        serial: u64::from(stream.local_addr()?.port()),
        body_bytes: 0,
        reply_bytes: MESSAGE_BYTES,
        both_ways: false,
    };
    stream.set_read_timeout(Some(STALL_TIMEOUT))?;
    stream.write_all(&request.header())?;
    let mut reply = [0; MESSAGE_BYTES as usize];
    stream.read_exact(&mut reply)?;
    if request.reply().accept(&reply) {
        Ok(())
    } else {
        Err("the reply is not what was asked for".into())
    }
}
