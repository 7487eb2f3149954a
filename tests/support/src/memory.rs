//! The memory that `zpa` may have by OPERATING.md.

/// What every connection may cost, held or served, idle or busy: a slot, its
/// place in the queue, its timer, and what the allocator adds.
pub const PER_CONNECTION: u64 = 300;
/// Threads, TLS, what is known of the cluster, and what the allocator keeps.
const FIXED: u64 = 5 << 19;

/// The most that `zpa` may hold with so many connections, whatever they do: it has
/// one block to read into, and a pool of at most `blocks` for what slow receivers
/// have not taken yet; `block_bytes` is the size of one.
pub fn ceiling(connections: usize, blocks: usize, block_bytes: usize) -> u64 {
    FIXED + PER_CONNECTION * connections as u64 + ((blocks + 1) * block_bytes) as u64
}
