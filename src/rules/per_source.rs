//! [`PerSource`] limits how many connections one source has open at a time.
//!
//! A source is an IPv4 address, or a /64 network of IPv6: a host has as many addresses of
//! its network as it wants (RFC 8981).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;

/// The open connections of each source.
#[derive(Debug, Default)]
pub struct PerSource {
    limit: Option<NonZeroU32>,
    /// The number of open connections of each source that has any.
    open: HashMap<IpAddr, u32>,
}

/// The place of a connection in the count of its source. It is given back with
/// [`PerSource::release`].
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Entry(IpAddr);

/// The source has as many connections as it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverLimit;

impl PerSource {
    /// Replaces the limit. Connections that are open stay open.
    pub fn set_limit(&mut self, limit: Option<NonZeroU32>) {
        self.limit = limit;
    }

    /// Counts a connection from that address; `None` if there is no limit.
    ///
    /// # Errors
    /// If its source is at the limit: the connection is not counted.
    pub fn acquire(&mut self, address: IpAddr) -> Result<Option<Entry>, OverLimit> {
        let Some(limit) = self.limit else {
            return Ok(None);
        };
        let source = source(address);
        let open = self.open.entry(source).or_default();
        if *open >= limit.get() {
            return Err(OverLimit);
        }
        *open += 1;
        Ok(Some(Entry(source)))
    }

    /// The connection has ended.
    pub fn release(&mut self, entry: Entry) {
        if let Some(open) = self.open.get_mut(&entry.0) {
            *open -= 1;
            if *open == 0 {
                self.open.remove(&entry.0);
            }
        }
    }
}

/// The source that an address belongs to.
pub fn source(address: IpAddr) -> IpAddr {
    const NETWORK: u128 = !0 << 64;
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & NETWORK).into(),
        ipv4 => ipv4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limited(limit: u32) -> PerSource {
        let mut counts = PerSource::default();
        counts.set_limit(NonZeroU32::new(limit));
        counts
    }

    fn enter(counts: &mut PerSource, address: &str) -> Result<Option<Entry>, OverLimit> {
        counts.acquire(address.parse().unwrap())
    }

    #[test]
    fn a_source_has_no_more_connections_than_its_limit() {
        for (label, first, then, is_over) in [
            ("the same address", "192.0.2.1", "192.0.2.1", true),
            ("another one", "192.0.2.1", "192.0.2.2", false),
            ("in the form of IPv6", "192.0.2.1", "::ffff:192.0.2.1", true),
            (
                "another in that form",
                "::ffff:192.0.2.1",
                "::ffff:192.0.2.2",
                false,
            ),
            ("the same network", "2001:db8::1", "2001:db8::ffff:1", true),
            ("the next one", "2001:db8::1", "2001:db8:0:1::1", false),
        ] {
            let mut counts = limited(1);
            let entry = enter(&mut counts, first).unwrap();
            assert_eq!(enter(&mut counts, then).is_err(), is_over, "{label}");
            counts.release(entry.unwrap());
            assert!(enter(&mut counts, first).is_ok(), "{label}: it has left");
        }
    }

    #[test]
    fn without_a_limit_nothing_is_counted() {
        let mut counts = PerSource::default();
        for _ in 0..10 {
            assert_eq!(enter(&mut counts, "192.0.2.1"), Ok(None));
        }
        assert!(counts.open.is_empty());
    }

    #[test]
    fn a_source_without_connections_is_forgotten_and_a_lower_limit_cuts_none() {
        let mut counts = limited(3);
        let mut entries: Vec<Entry> = (0..3)
            .map(|_| enter(&mut counts, "192.0.2.1").unwrap().unwrap())
            .collect();
        assert_eq!(enter(&mut counts, "192.0.2.1"), Err(OverLimit));
        counts.set_limit(NonZeroU32::new(2));
        counts.release(entries.pop().unwrap());
        assert_eq!(
            enter(&mut counts, "192.0.2.1"),
            Err(OverLimit),
            "two are left"
        );
        entries.into_iter().for_each(|entry| counts.release(entry));
        assert!(counts.open.is_empty());
    }
}
