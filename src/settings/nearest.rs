//! [`nearest`]: the name that was probably meant by a misspelt one.

/// The one of the `known` names that was probably meant by `name`: one that begins with it, or
/// the one with the least edit distance.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A longer text is no misspelt name, and the distance takes quadratic time.
    if name.len() < 2 || name.len() > 40 {
        return None;
    }
    let (distance, meant) = known
        .into_iter()
        .map(|known| {
            if known.starts_with(name) {
                (0, known)
            } else {
                (distance(name, known), known)
            }
        })
        .min_by_key(|(distance, _)| *distance)?;
    (distance <= meant.len() / 3).then_some(meant)
}

/// How many bytes to insert, to drop, to replace or to swap with the next one (optimal string
/// alignment).
fn distance(from: &str, to: &str) -> usize {
    let (from, to) = (from.as_bytes(), to.as_bytes());
    let mut rows: Vec<Vec<usize>> = vec![(0..=to.len()).collect()];
    for (i, a) in from.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in to.iter().enumerate() {
            let replaced = rows[i][j] + usize::from(a != b);
            let mut least = replaced.min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == to[j - 1] && from[i - 1] == *b {
                least = least.min(rows[i - 1][j - 1] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_is_within_a_third_of_its_length() {
        let known = ["check", "explain", "completion"];
        for (name, expected) in [
            ("chekc", Some("check")),
            ("chec", Some("check")),
            ("comp", Some("completion")),
            ("xplian", Some("explain")),
            ("chuck", Some("check")),
            ("chick-en", None),
            ("c", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, known), expected, "{name}");
        }
    }

    #[test]
    fn each_edit_counts_one() {
        for (from, to, expected) in [
            ("", "", 0),
            ("abc", "abc", 0),
            ("abc", "acb", 1),
            ("abc", "ab", 1),
            ("ab", "xab", 1),
            ("abc", "axc", 1),
            ("abcd", "badc", 2),
            ("", "abc", 3),
        ] {
            assert_eq!(distance(from, to), expected, "{from} {to}");
            assert_eq!(distance(to, from), expected, "{to} {from}");
        }
    }
}
