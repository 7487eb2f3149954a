//! What the README says `zpa` may hold in memory of its own.

use zpa::engine::{BLOCK_BYTES, MAX_BLOCKS};

/// What every connection may cost, held or served, idle or busy: a slot, its
/// place in the queue, its timer, and what the allocator adds.
pub const PER_CONNECTION: u64 = 300;
/// The pool of blocks for what slow receivers have not taken yet.
pub const POOL: u64 = (MAX_BLOCKS * BLOCK_BYTES) as u64;
/// Threads, TLS, what is known of the cluster, and what the allocator keeps.
const FIXED: u64 = 2 << 20;

/// The most that it may hold with so many connections, whatever they do.
pub fn ceiling(connections: usize) -> u64 {
    FIXED + PER_CONNECTION * connections as u64 + BLOCK_BYTES as u64 + POOL
}
