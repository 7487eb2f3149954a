//! [`ResourceVersion`]: the version of an object.

use std::cmp::Ordering;
use std::fmt;

/// The version of an object: the guard of a write, and, between two states of one
/// object, what tells the older from the newer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ResourceVersion(pub String);

impl ResourceVersion {
    /// The order in which two versions of one object were written; `None` if that
    /// is not known.
    ///
    /// Kubernetes promises since 1.35 that versions of one resource are decimal numbers
    /// which only grow, without leading zeros and of any length (KEP-5504,
    /// `k8s.io/apimachinery/pkg/util/resourceversion`); its API server has numbered
    /// them so since etcd 3. Versions of other servers are compared for equality alone.
    pub fn compare(&self, other: &ResourceVersion) -> Option<Ordering> {
        let (ours, theirs) = (&self.0, &other.0);
        if ours == theirs {
            return Some(Ordering::Equal);
        }
        let are_numbers = is_number(ours) && is_number(theirs);
        are_numbers.then(|| ours.len().cmp(&theirs.len()).then_with(|| ours.cmp(theirs)))
    }
}

/// Whether it is a positive decimal number without leading zeros.
fn is_number(text: &str) -> bool {
    !text.is_empty() && !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit())
}

impl fmt::Display for ResourceVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_that_are_numbers_of_any_length_are_in_order_and_others_are_not() {
        use Ordering::{Equal, Greater, Less};
        let long = "9".repeat(40);
        let longer = format!("1{}", "0".repeat(40));
        for (older, newer, order) in [
            ("10298", "10299", Some(Less)),
            ("9", "10", Some(Less)),
            ("10", "9", Some(Greater)),
            (&long, &longer, Some(Less)),
            ("7", "7", Some(Equal)),
            ("v7", "v7", Some(Equal)),
            ("v7", "8", None),
            ("07", "8", None),
            ("0", "8", None),
            ("-7", "8", None),
            ("", "8", None),
        ] {
            let version = |text: &str| ResourceVersion(text.to_owned());
            assert_eq!(
                version(older).compare(&version(newer)),
                order,
                "{older}, {newer}"
            );
        }
    }
}
