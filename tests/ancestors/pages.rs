//! That the fixtures have the args, the rules and the ports of the pages that they
//! stand for. The pages are not part of this repository: they are looked for in a
//! directory `ancestors` of a directory beside the checkout, or where
//! `ZPA_ANCESTORS` says.

use std::fs;
use std::path::{Path, PathBuf};

use support::sandbox::Rule;
use support::skip;

use crate::manifest::Manifest;

/// The pages' directory; none if there is none, which is said.
fn directory() -> Option<PathBuf> {
    let found = match std::env::var_os("ZPA_ANCESTORS") {
        Some(named) => Some(PathBuf::from(named)),
        None => beside_the_checkout(),
    };
    if found.is_none() {
        skip("the ancestors' pages are not here: ZPA_ANCESTORS may say where");
    }
    found
}

fn beside_the_checkout() -> Option<PathBuf> {
    let parent = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    let entries = fs::read_dir(parent).ok()?.map_while(Result::ok);
    let mut candidates = entries.map(|entry| entry.path().join("ancestors"));
    candidates.find(|candidate| candidate.join("facts.md").is_file())
}

fn page(directory: &Path, name: &str) -> String {
    fs::read_to_string(directory.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn the_fixtures_have_what_their_pages_have() {
    let Some(directory) = directory() else {
        return;
    };
    for (fixture, name) in [
        ("go.yaml", "zero-pod-autoscaler.txt"),
        ("python-page.yaml", "traffic-pod-autoscaler.txt"),
    ] {
        let theirs = Manifest::read(&page(&directory, name));
        assert!(theirs.args.len() >= 5, "the args were found: {theirs:?}");
        assert!(theirs.rules.len() >= 3, "the rules were found: {theirs:?}");
        assert_eq!(Manifest::fixture(fixture), theirs, "{fixture}");
    }
}

/// The example is described in prose, not shown.
#[test]
fn the_fixture_of_the_example_has_what_is_written_of_it() {
    let Some(directory) = directory() else {
        return;
    };
    let facts = page(&directory, "facts.md");
    let example = facts
        .lines()
        .find(|line| line.starts_with("**The `example/` manifest**"))
        .expect("a paragraph about it");
    let args = between(example, "args `", "`");
    let fixture = Manifest::fixture("python-example.yaml");
    assert_eq!(fixture.args, args.split(' ').collect::<Vec<_>>());
    assert_eq!(fixture.rules, rules(between(example, "Its Role: ", ". ")));
    for (field, phrase) in [
        ("containerPort", "container ports 9000 and 8080"),
        ("port", "Service with both"),
        ("replicas", "1 replica;"),
        (
            "serviceAccountName",
            "ServiceAccount traffic-pod-autoscaler-sa",
        ),
    ] {
        assert!(example.contains(phrase), "{phrase}");
        let fields = fixture.fields.iter().filter(|(name, _)| *name == field);
        for (_, value) in fields {
            assert!(
                example.contains(value.as_str()),
                "{field} is not {value} there"
            );
        }
    }
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    let (_, rest) = text.split_once(start).unwrap_or_else(|| panic!("{start}"));
    rest.split(end).next().unwrap_or_default()
}

/// The rules in "in `apps`: get, list on a, b; patch on c; in the core group: …".
fn rules(prose: &str) -> Vec<Rule> {
    let mut group = String::new();
    let list = |text: &str| text.split(", ").map(str::to_owned).collect();
    let parts = prose.split("; ").map(|part| {
        let part = match part.split_once(": ") {
            Some((named, rest)) => {
                let name = named.trim_start_matches("in ").trim_matches('`');
                group = match name {
                    "the core group" => String::new(),
                    name => name.to_owned(),
                };
                rest
            }
            None => part,
        };
        let (verbs, resources) = part.split_once(" on ").expect("verbs on resources");
        Rule {
            groups: vec![group.clone()],
            resources: list(resources),
            verbs: list(verbs),
            names: Vec::new(),
        }
    });
    parts.collect()
}
