//! Real servers and real clients, through a sleep and a wake, with the settings that
//! `manifests/protocols` has for their protocol. `make protocols` runs them; a test whose
//! server or client is not installed is skipped.
//!
//! ```text
//! recipe   the settings of a protocol
//! server   a server in the pods of a sandbox, and what it needs of the machine
//! trial    such a server asleep behind the real binary
//! client   the commands that use it
//! ```

mod client;
mod ftp;
mod http;
mod mariadb;
mod mqtt;
mod postgresql;
mod recipe;
mod redis;
mod server;
mod smtp;
mod ssh;
mod tls;
mod trial;
mod websocket;
