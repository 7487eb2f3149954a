//! The engine over real loopback sockets, without Kubernetes. One thread plays
//! the client, the backend and the loop; time can be made to pass.

mod accepting;
mod admin;
mod affinity;
mod apps;
mod clients;
mod dialling;
mod ending;
mod fairness;
mod falling_asleep;
mod holding;
mod memory;
mod ports;
mod relaying;
mod resets;
mod rig;
mod server_name;
