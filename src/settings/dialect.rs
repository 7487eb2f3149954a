//! [`detect`] finds the dialect of a command line: the program whose flags it uses.
//!
//! The dialect is the one that has all the given flags; of several, `zpa`'s own goes first. If
//! no dialect has all of them, flags of several programs were mixed. Unknown flags and
//! abbreviations are ignored; but a flag of another dialect that Python's argparse accepts as
//! an abbreviation counts for the Python dialects too.

use std::ffi::OsString;

use super::table::{self, dashed};
use crate::workload::Dialect;

/// The dialect of a command line.
///
/// # Errors
/// A line with the dialects of the mixed flags.
pub(super) fn detect(args: &[OsString]) -> Result<Dialect, String> {
    let flags: Vec<(&str, Vec<Dialect>)> = names(args)
        .map(|name| (name, dialects(name)))
        .filter(|(_, dialects)| !dialects.is_empty())
        .collect();
    let knows_all = |dialect: &Dialect| {
        let mut known = flags.iter().map(|(_, dialects)| dialects);
        known.all(|dialects| dialects.contains(dialect))
    };
    let detected = Dialect::ALL.into_iter().find(knows_all);
    detected.ok_or_else(|| complaint(&flags))
}

/// The dialects that accept a flag, if at least one has it.
fn dialects(name: &str) -> Vec<Dialect> {
    let exact = table::dialects(name);
    if exact.is_empty() {
        return exact;
    }
    let all = Dialect::ALL.into_iter();
    let understand = all.filter(|dialect| {
        let abbreviated = || dialect.is_python() && table::abbreviated(*dialect, name).is_some();
        exact.contains(dialect) || abbreviated()
    });
    understand.collect()
}

/// The names of all arguments that look like flags, up to a `--`.
fn names(args: &[OsString]) -> impl Iterator<Item = &str> {
    let texts = args.iter().filter_map(|arg| arg.to_str());
    let flags = texts.take_while(|text| *text != "--");
    flags.filter_map(|text| match text.strip_prefix("--") {
        Some(long) => long.split('=').next().filter(|name| name.len() > 1),
        None => short(text.strip_prefix('-')?),
    })
}

/// The letter of a short flag in the text after one dash, which may contain the value too;
/// `None` if the text is a long flag with a missing dash.
pub(super) fn short(word: &str) -> Option<&str> {
    let name = word.split('=').next().unwrap_or_default();
    let is_long = name.len() > 1 && !table::dialects(name).is_empty();
    let letter = word.get(..1).filter(|_| !is_long)?;
    (!table::dialects(letter).is_empty()).then_some(letter)
}

/// The error about mixed flags: which flag belongs to which dialect. Flags that most dialects
/// have are left out, if the others contradict each other without them.
fn complaint(flags: &[(&str, Vec<Dialect>)]) -> String {
    let owned_by = |most: usize| {
        let owned = flags.iter().filter(move |(_, owners)| owners.len() <= most);
        owned.collect::<Vec<_>>()
    };
    let go_together = |flags: &[&(&str, Vec<Dialect>)]| {
        let has_all = |dialect| flags.iter().all(|(_, owners)| owners.contains(&dialect));
        Dialect::ALL.into_iter().any(has_all)
    };
    let mut conflicts = (1..Dialect::ALL.len()).map(owned_by);
    let conflict = conflicts.find(|flags| !go_together(flags));
    let mut lines: Vec<String> = Vec::new();
    for (name, owners) in conflict.unwrap_or_default() {
        let owners: Vec<String> = owners.iter().map(Dialect::to_string).collect();
        let line = format!("{} is a flag of {}", dashed(name), owners.join(" and of "));
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    let mut text = format!(
        "flags of several programs are mixed: {}; use those of one",
        lines.join("; ")
    );
    let own = flags.iter().find_map(|(name, dialects)| {
        let is_own = dialects[..] == [Dialect::Zpa];
        let (setting, _) = table::find(Dialect::Zpa, name).filter(|_| is_own)?;
        setting.variables.first()
    });
    if let Some(variable) = own {
        text += &format!(". Variables such as {variable} go with the flags of each");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detected(line: &str) -> Result<Dialect, String> {
        let args: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        detect(&args)
    }

    #[test]
    fn the_dialect_is_detected_by_the_flags() {
        use Dialect::{Go, PythonDeployment, PythonLabels, Zpa};
        for (label, line, expected) in [
            ("nothing was said", "", Zpa),
            ("zpa's own", "--deployment=a --listen=:80", Zpa),
            (
                "what several have",
                "--deployment a --namespace b -n c",
                Zpa,
            ),
            (
                "the Go page",
                "--namespace=a --address=:80 --deployment=a",
                Go,
            ),
            ("labels by a short flag", "-l app=web", Go),
            ("labels in the same word", "-lapp=web", Go),
            (
                "the Python page",
                "--deployment=a --endpoint=b",
                PythonDeployment,
            ),
            (
                "the example",
                "--rs-label-selector=a=b --endpoint=b",
                PythonLabels,
            ),
            (
                "neither of Python's ways to name it",
                "--endpoint=b",
                PythonDeployment,
            ),
            (
                "only the newer has it",
                "--endpoint=b --ping-url=/p",
                PythonLabels,
            ),
            ("an unknown flag", "--deployment=a --bogus=b", Zpa),
            ("an abbreviation", "--expiration=600", Zpa),
            (
                "an abbreviation that is a flag of zpa",
                "--deployment=a --endpoint=b --log=INFO",
                PythonDeployment,
            ),
            ("a long flag with a dash missing", "-listen=:80", Zpa),
            ("after the end of flags", "-- --endpoints=b", Zpa),
            ("a value", "--deployment --endpoints", Go),
        ] {
            assert_eq!(detected(line), Ok(expected), "{label}: {line}");
        }
    }

    #[test]
    fn of_mixed_flags_it_is_said_which_belongs_to_which() {
        for (line, expected) in [
            (
                "--namespace=a --deployment=x --listen=:80 --endpoints=b --endpoints=c",
                "flags of several programs are mixed: --listen is a flag of zpa; --endpoints is \
                 a flag of zero-pod-autoscaler (Go); use those of one. Variables such as \
                 ZPA_LISTEN go with the flags of each",
            ),
            (
                "--endpoint=a -l b",
                "flags of several programs are mixed: --endpoint is a flag of \
                 traffic-pod-autoscaler (Python, --deployment) and of traffic-pod-autoscaler \
                 (Python, --rs-label-selector); -l is a flag of zero-pod-autoscaler (Go); use \
                 those of one",
            ),
            (
                "--deployment=a --rs-label-selector=b",
                "flags of several programs are mixed: --deployment is a flag of zpa and of \
                 zero-pod-autoscaler (Go) and of traffic-pod-autoscaler (Python, --deployment); \
                 --rs-label-selector is a flag of traffic-pod-autoscaler (Python, \
                 --rs-label-selector); use those of one",
            ),
        ] {
            assert_eq!(detected(line), Err(expected.to_owned()), "{line}");
        }
    }

    #[test]
    fn a_short_flag_is_distinguished_from_a_long_one_with_a_dash_missing() {
        for (word, expected) in [
            ("n", Some("n")),
            ("n=a", Some("n")),
            ("lapp=web", Some("l")),
            ("listen", None),
            ("log=debug", None),
            ("namespace=a", None),
            ("x", None),
            ("", None),
            ("é", None),
        ] {
            assert_eq!(short(word), expected, "{word}");
        }
    }
}
