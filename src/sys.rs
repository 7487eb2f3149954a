//! The system calls that no library wraps, and with them every `unsafe` of the crate.
//!
//! rustix was tried (1.1.6). It has safe wrappers for the clocks, the page size, the limits,
//! poll(2), kill(2), pipes and splice(2), which are 9 of the 31 uses of `unsafe` here. It has none
//! for signalfd(2) and the signal mask, names, interfaces, `SIOCOUTQ`, `TCP_INFO`, `SO_BUF_LOCK`
//! and `TCP_RTO_MAX_MS`. So libc would stay, and two more crates would come.

mod clock;
mod names;
mod pipe;
mod process;
mod signals;
mod sockets;
mod usage;

use std::io;

pub use self::clock::{boot_time, unix_time};
pub use self::names::{Family, LookUp, interface_addresses, look_up};
pub use self::pipe::Pipe;
pub use self::process::{kill_group, raise_descriptor_limit, wait_readable};
pub use self::signals::{Signals, SignalsBlocked, block_all_signals};
pub use self::sockets::{
    cap_retransmission, freeze_receive_buffer, is_closed, received_segment_bytes, unacknowledged,
};
pub use self::usage::{Usage, usage};

/// The error of a system call that returned -1.
fn check(status: libc::c_int) -> io::Result<libc::c_int> {
    if status == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(status)
    }
}
