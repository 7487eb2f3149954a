//! [`Sources`]: the networks whose clients an app ignores or denies.
//!
//! An *ignored* client never wakes the app and never keeps it awake: health checks,
//! scrapers, port scanners. While the app sleeps its connection is accepted and closed;
//! while the app is awake it is served like any other. A *denied* client is not let in.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};

/// The most networks of a list.
const MAX_NETWORKS: usize = 4096;

/// The most errors of a file that are reported.
const MAX_ERRORS: usize = 10;

/// The first 96 bits of an IPv4 address that is written as one of IPv6 (`::ffff:0:0/96`,
/// RFC 4291, 2.5.5.2).
const MAPPED_BITS: u8 = 96;

/// The networks whose clients are ignored or denied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// Those whose clients do not count as use of the app.
    pub ignored: Networks,
    /// Those whose clients are not let in, also if they are ignored.
    pub denied: Networks,
    /// The files that have more of them.
    pub files: SourceFiles,
}

/// The files that have networks, and may change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceFiles {
    /// Those with networks whose clients are ignored.
    pub ignored: Vec<PathBuf>,
    /// Those with networks whose clients are denied.
    pub denied: Vec<PathBuf>,
}

impl SourceFiles {
    /// Whether a file is one of them.
    pub fn contains(&self, path: &Path) -> bool {
        let mut all = self.ignored.iter().chain(&self.denied);
        all.any(|it| it == path)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ignored.is_empty() && self.denied.is_empty()
    }
}

/// Whether a client's connection is admitted, and counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It wakes the app and keeps it awake.
    Counted,
    /// It neither wakes the app nor keeps it awake.
    Ignored,
    /// It is reset at once.
    Denied,
}

/// Splits a list of networks and of files, which have an `@` before them:
/// `10.0.0.0/8,@/etc/zpa/sources`. Commas separate them.
///
/// # Errors
/// If it has neither, or what is wrong in it.
fn split(text: &str) -> Result<(Option<Networks>, Vec<PathBuf>), String> {
    let items = text.split(',').map(str::trim);
    let (files, networks): (Vec<&str>, Vec<&str>) = items.partition(|item| item.starts_with('@'));
    let paths = files.iter().map(|file| match &file[1..] {
        "" => Err("names no file after the @".to_owned()),
        path => Ok(PathBuf::from(path)),
    });
    let paths = paths.collect::<Result<Vec<_>, _>>()?;
    let networks = networks.join(",");
    if !paths.is_empty() && networks.trim_matches([',', ' ']).is_empty() {
        return Ok((None, paths));
    }
    Ok((Some(networks.parse()?), paths))
}

/// Networks and files as a text that [`split`] reads; `None` without any.
fn joined(networks: &Networks, files: &[PathBuf]) -> Option<String> {
    let files = files.iter().map(|path| format!("@{}", path.display()));
    let networks = (!networks.is_empty()).then(|| networks.to_string());
    let all: Vec<String> = networks.into_iter().chain(files).collect();
    (!all.is_empty()).then(|| all.join(","))
}

impl Sources {
    /// Adds networks and files whose clients are ignored.
    ///
    /// # Errors
    /// What is wrong in the text, or if they are too many together.
    pub fn ignore(&mut self, text: &str) -> Result<(), String> {
        let (networks, files) = split(text)?;
        self.files.ignored.extend(files);
        networks.map_or(Ok(()), |networks| self.ignored.extend(networks))
    }

    /// Adds networks and files whose clients are denied.
    ///
    /// # Errors
    /// What is wrong in the text, or if they are too many together.
    pub fn deny(&mut self, text: &str) -> Result<(), String> {
        let (networks, files) = split(text)?;
        self.files.denied.extend(files);
        networks.map_or(Ok(()), |networks| self.denied.extend(networks))
    }

    /// Those that are ignored, as a text that [`Sources::ignore`] reads; `None` without any.
    pub fn show_ignored(&self) -> Option<String> {
        joined(&self.ignored, &self.files.ignored)
    }

    /// The same for those that are denied.
    pub fn show_denied(&self) -> Option<String> {
        joined(&self.denied, &self.files.denied)
    }

    /// The admission of a connection from that address.
    pub fn admission(&self, address: IpAddr) -> Admission {
        if self.denied.contains(address) {
            Admission::Denied
        } else if self.ignored.contains(address) {
            Admission::Ignored
        } else {
            Admission::Counted
        }
    }
}

/// A set of networks of both families.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    /// Disjoint and in order, so that the one which may contain an address is found
    /// by bisection.
    sorted: Vec<IpNet>,
}

impl Networks {
    /// Those of a file: on each line any number of networks, separated by commas or spaces; what
    /// comes after a `#` is a comment. A file without any is none.
    ///
    /// # Errors
    /// What is wrong, a line each with its number; ten at most, and how many more there are.
    pub fn of_lines(text: &str) -> Result<Networks, Vec<String>> {
        let (mut all, mut errors) = (Vec::new(), Vec::new());
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.split('#').next().unwrap_or_default();
            let words = line.split(|c: char| c == ',' || c.is_whitespace());
            for word in words.filter(|word| !word.is_empty()) {
                match network(word) {
                    Ok(network) => all.push(network),
                    Err(why) => errors.push(format!("line {number}: {why}")),
                }
            }
        }
        let networks = Networks {
            sorted: IpNet::aggregate(&all),
        };
        errors.extend(networks.check_size().err());
        if errors.is_empty() {
            return Ok(networks);
        }
        let more = errors.len().saturating_sub(MAX_ERRORS);
        errors.truncate(MAX_ERRORS);
        errors.extend((more > 0).then(|| format!("and {more} more errors")));
        Err(errors)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }

    /// How many there are, after those that are parts of others were joined to them.
    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    /// Adds those that another set has, however many there are.
    pub fn add(&mut self, others: &Networks) {
        let all: Vec<IpNet> = self.sorted.iter().chain(&others.sorted).copied().collect();
        self.sorted = IpNet::aggregate(&all);
    }

    /// Whether one of them contains the address. An IPv4 address that is written as one
    /// of IPv6, as a socket of both families has it, is the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let after = self
            .sorted
            .partition_point(|network| network.network() <= address);
        let nearest = after.checked_sub(1).and_then(|at| self.sorted.get(at));
        nearest.is_some_and(|network| network.contains(&address))
    }

    /// Adds those that another set has.
    ///
    /// # Errors
    /// If they are too many together.
    pub fn extend(&mut self, others: Networks) -> Result<(), String> {
        let mut all = std::mem::take(&mut self.sorted);
        all.extend(others.sorted);
        self.sorted = IpNet::aggregate(&all);
        self.check_size()
    }

    fn check_size(&self) -> Result<(), String> {
        match self.sorted.len() {
            ..=MAX_NETWORKS => Ok(()),
            count => Err(format!(
                "has {count} networks, which is more than {MAX_NETWORKS}"
            )),
        }
    }
}

impl FromStr for Networks {
    type Err = String;

    /// Parses networks and addresses, separated by commas or spaces:
    /// `10.0.0.0/8, fd00::/8, 192.0.2.7`.
    fn from_str(text: &str) -> Result<Self, String> {
        let words = text.split([',', ' ']).filter(|word| !word.is_empty());
        let all = words.map(network).collect::<Result<Vec<_>, _>>()?;
        if all.is_empty() {
            return Err("names no network".to_owned());
        }
        let networks = Networks {
            sorted: IpNet::aggregate(&all),
        };
        networks.check_size()?;
        Ok(networks)
    }
}

impl fmt::Display for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.sorted.iter().map(IpNet::to_string).collect();
        f.write_str(&texts.join(","))
    }
}

/// A network, or the address that is its only one.
fn network(text: &str) -> Result<IpNet, String> {
    let shown: String = text.chars().take(50).flat_map(char::escape_debug).collect();
    let read = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text.parse::<IpNet>().map_err(|_| {
            format!("\"{shown}\" is neither a network such as 10.0.0.0/8 nor an IP address")
        })?,
    };
    // Wider or narrower than was meant: which of the two, nobody can tell.
    if read.addr() != read.network() {
        return Err(format!(
            "\"{shown}\" has bits beyond its prefix; the network is {}",
            read.trunc()
        ));
    }
    Ok(canonical(read))
}

/// A network of IPv4 addresses that are written as IPv6 ones is one of IPv4.
fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(mapped) = network else {
        return network;
    };
    let prefix = mapped.prefix_len().checked_sub(MAPPED_BITS);
    let ipv4 = mapped.network().to_ipv4_mapped().zip(prefix);
    let ipv4 = ipv4.and_then(|(address, prefix)| Ipv4Net::new(address, prefix).ok());
    ipv4.map_or(network, IpNet::V4)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn networks(text: &str) -> Networks {
        text.parse().unwrap_or_else(|why| panic!("{text}: {why}"))
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_client_is_counted_ignored_or_denied_by_its_address() {
        let sources = Sources {
            ignored: networks("10.0.0.0/8, fd00::/16, ::ffff:172.16.0.0/108"),
            denied: networks("10.1.0.0/16,192.0.2.7 2001:db8::1"),
            ..Sources::default()
        };
        use Admission::{Counted, Denied, Ignored};
        for (label, from, expected) in [
            ("in no list", "192.0.2.6", Counted),
            ("just before a network", "9.255.255.255", Counted),
            ("its first address", "10.0.0.0", Ignored),
            ("its last address", "10.255.255.255", Ignored),
            ("just behind it", "11.0.0.0", Counted),
            ("in both lists", "10.1.2.3", Denied),
            ("an address of its own", "192.0.2.7", Denied),
            ("just behind that", "192.0.2.8", Counted),
            ("IPv4 in the form of IPv6", "::ffff:10.2.3.4", Ignored),
            ("denied in that form", "::ffff:192.0.2.7", Denied),
            ("a network in that form", "172.31.255.255", Ignored),
            ("just behind that", "172.32.0.0", Counted),
            ("IPv6", "fd00:0:ffff::1", Ignored),
            ("just behind it", "fd01::", Counted),
            ("an IPv6 address of its own", "2001:db8::1", Denied),
            ("its neighbour", "2001:db8::2", Counted),
        ] {
            assert_eq!(sources.admission(address(from)), expected, "{label}");
        }
    }

    #[test]
    fn no_list_ignores_or_denies_anybody() {
        for from in ["10.0.0.1", "::1", "::ffff:10.0.0.1"] {
            let admission = Sources::default().admission(address(from));
            assert_eq!(admission, Admission::Counted, "{from}");
        }
    }

    #[test]
    fn all_of_one_family_is_nobody_of_the_other() {
        for (list, from, expected) in [
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "::ffff:203.0.113.9", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("::/0", "2001:db8::1", true),
            ("::/0", "203.0.113.9", false),
            ("::/0,0.0.0.0/0", "203.0.113.9", true),
        ] {
            let contains = networks(list).contains(address(from));
            assert_eq!(contains, expected, "{from} in {list}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused_with_what_to_write_in_its_place() {
        for (text, expected) in [
            ("10.0.0.0/33", "\"10.0.0.0/33\" is neither a network"),
            ("10.0.0/8", "\"10.0.0/8\" is neither a network"),
            ("my-app", "\"my-app\" is neither a network"),
            ("10.0.0.1/8", "the network is 10.0.0.0/8"),
            ("fd00::1/8", "the network is fd00::/8"),
            ("10.0.0.0/8,x", "\"x\" is neither"),
            (" , ", "names no network"),
            ("\u{1b}[2J", "\"\\u{1b}[2J\" is neither"),
        ] {
            let error = text.parse::<Networks>().expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn a_file_has_networks_on_its_lines_and_all_that_is_wrong_is_said() {
        let text = "# ours\n10.0.0.0/8, 192.0.2.7\r\n\n  fd00::/8\t10.1.0.0/16 # in the first\n";
        let read = Networks::of_lines(text).unwrap();
        assert_eq!(read.to_string(), "10.0.0.0/8,192.0.2.7/32,fd00::/8");
        assert_eq!(read.len(), 3);
        assert!(Networks::of_lines("# nobody").unwrap().is_empty());
        let wrong = Networks::of_lines("10.0.0.0/8\nx y\n10.0.0.1/8").unwrap_err();
        let starts = [
            "line 2: \"x\" is",
            "line 2: \"y\" is",
            "line 3: \"10.0.0.1/8\" has",
        ];
        assert_eq!(wrong.len(), starts.len(), "{wrong:?}");
        for (line, start) in wrong.iter().zip(starts) {
            assert!(line.starts_with(start), "{line}");
        }
        let flood = Networks::of_lines(&"x\n".repeat(100)).unwrap_err();
        assert_eq!(
            (flood.len(), flood[10].as_str()),
            (11, "and 90 more errors")
        );
    }

    #[test]
    fn a_list_has_a_limit_that_counts_what_cannot_be_joined() {
        let apart = |count: usize| -> Vec<String> {
            (0..count)
                .map(|n| format!("10.{}.{}.1", n / 256, n % 256))
                .collect()
        };
        let most = networks(&apart(MAX_NETWORKS).join(","));
        let one_more = apart(MAX_NETWORKS + 1).join(",").parse::<Networks>();
        assert!(one_more.is_err_and(|why| why.contains("more than 4096")));
        let mut both = most.clone();
        assert!(both.extend(networks("192.0.2.1")).is_err());
        let mut same = most;
        assert_eq!(same.extend(networks("10.0.0.1")), Ok(()));
    }

    proptest! {
        /// The bisection finds what a look at every network finds, and a list that is
        /// shown is read as the same list.
        #[test]
        fn an_address_is_in_a_list_if_it_is_in_one_of_its_networks(
            parts in prop::collection::vec((any::<u32>(), 0..=32u8), 1..8),
            probe in any::<u32>(),
        ) {
            let all = parts.iter().map(|&(bits, prefix)| {
                Ipv4Net::new(bits.into(), prefix).unwrap().trunc()
            });
            let all: Vec<Ipv4Net> = all.collect();
            let text: Vec<String> = all.iter().map(Ipv4Net::to_string).collect();
            let list = networks(&text.join(","));
            let near = all.iter().flat_map(|it| [it.network(), it.broadcast()]);
            for probe in near.chain([probe.into()]) {
                let expected = all.iter().any(|it| it.contains(&probe));
                prop_assert_eq!(list.contains(probe.into()), expected);
                let mapped = probe.to_ipv6_mapped();
                prop_assert_eq!(list.contains(mapped.into()), expected);
            }
            prop_assert_eq!(networks(&list.to_string()), list);
        }
    }
}
