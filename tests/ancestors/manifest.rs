//! [`Manifest`]: what of a manifest decides whether it runs. It is read line by
//! line and no YAML is parsed, so that a page that has a manifest somewhere in its
//! text is read like a file.

use std::fs;
use std::path::Path;

use support::sandbox::Rule;

/// Fields with one value that matter, beside the args and the rules.
const FIELDS: [&str; 5] = [
    "replicas",
    "serviceAccountName",
    "containerPort",
    "port",
    "targetPort",
];

/// A manifest, as far as it matters.
#[derive(Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The args of the only container.
    pub args: Vec<String>,
    /// The rules of all roles.
    pub rules: Vec<Rule>,
    /// The fields of [`FIELDS`], in the order of the text.
    pub fields: Vec<(&'static str, String)>,
}

impl Manifest {
    /// One of the fixtures.
    pub fn fixture(name: &str) -> Manifest {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ancestors");
        let text = fs::read_to_string(directory.join(name)).unwrap();
        let manifest = Manifest::read(&text);
        assert!(!manifest.args.is_empty() && !manifest.rules.is_empty());
        manifest
    }

    /// Reads a text that has a manifest in it.
    pub fn read(text: &str) -> Manifest {
        let mut manifest = Manifest {
            args: Vec::new(),
            rules: Vec::new(),
            fields: Vec::new(),
        };
        for line in text.lines().map(str::trim) {
            let item = line.strip_prefix("- ");
            if let Some(arg) = item.filter(|item| item.starts_with("--")) {
                manifest.args.push(arg.to_owned());
            } else if let Some((key, value)) = item.unwrap_or(line).split_once(": ") {
                manifest.take(key, value.trim());
            }
        }
        manifest
    }

    fn take(&mut self, key: &str, value: &str) {
        if key == "apiGroups" {
            self.rules.push(Rule {
                groups: list(value),
                ..Rule::default()
            });
        }
        if let Some(rule) = self.rules.last_mut() {
            match key {
                "resources" => rule.resources = list(value),
                "verbs" => rule.verbs = list(value),
                "resourceNames" => rule.names = list(value),
                _ => {}
            }
        }
        if let Some(field) = FIELDS.into_iter().find(|field| *field == key) {
            self.fields.push((field, value.to_owned()));
        }
    }

    /// The args, with the value of one of them replaced.
    pub fn args_with(&self, flag: &str, value: &str) -> Vec<String> {
        let (mut args, mut found) = (self.args.clone(), 0);
        for arg in &mut args {
            if arg.split('=').next() == Some(flag) {
                *arg = format!("{flag}={value}");
                found += 1;
            }
        }
        assert_eq!(found, 1, "{flag} in {args:?}");
        args
    }
}

/// The items of `["a", "b"]`.
fn list(value: &str) -> Vec<String> {
    let inner = value
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or_else(|| panic!("not a list in brackets: {value}"));
    let items = inner.split(',').map(|item| item.trim().trim_matches('"'));
    items.map(str::to_owned).collect()
}

#[test]
fn a_manifest_is_read_from_whatever_is_around_it() {
    let read = Manifest::read(
        "Apply this:\n\
         replicas: 2\n\
         - name: x\n  args:\n    - --a=$(B)\n    - --c='d=e'\n\
         - containerPort: 80\n\
         rules:\n  - apiGroups: [\"\", \"apps\"]\n    resources: [\"pods\"]\n    verbs: [\"get\"]\n\
         About: nothing",
    );
    assert_eq!(read.args, ["--a=$(B)", "--c='d=e'"]);
    assert_eq!(read.rules.len(), 1);
    assert_eq!(read.rules[0].groups, ["", "apps"]);
    assert_eq!(read.rules[0].resources, ["pods"]);
    assert_eq!(read.rules[0].verbs, ["get"]);
    let expected = [("replicas", "2"), ("containerPort", "80")];
    assert_eq!(
        read.fields,
        expected.map(|(field, value)| (field, value.to_owned()))
    );
}
