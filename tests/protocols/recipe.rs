//! The settings that suit a protocol, as `manifests/protocols` has them.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use zpa::settings::{self, Invocation};

/// Every protocol that has a recipe.
const ALL: [&str; 12] = [
    "ftp",
    "http-detach",
    "http",
    "http2",
    "mariadb",
    "mqtt",
    "postgresql",
    "redis",
    "smtp",
    "ssh",
    "tls",
    "websocket",
];

fn manifests() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/manifests"))
}

/// The variables of a protocol, and their values.
pub fn read(protocol: &str) -> Vec<(String, String)> {
    let path = manifests().join(format!("protocols/{protocol}.env"));
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path:?}: {e}"));
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let setting = |line: &str| {
        let (name, value) = line.split_once('=').unwrap_or_else(|| panic!("{line}"));
        (name.to_owned(), value.to_owned())
    };
    lines.map(setting).collect()
}

#[test]
fn every_recipe_is_accepted_as_settings_and_has_a_row_in_the_page() {
    let page = fs::read_to_string(manifests().join("PROTOCOLS.md")).unwrap();
    let mut files: Vec<String> = fs::read_dir(manifests().join("protocols"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(files, ALL.map(|name| format!("{name}.env")));
    for protocol in ALL {
        let row = format!("[{protocol}.env](protocols/{protocol}.env)");
        assert!(page.contains(&row), "PROTOCOLS.md lacks {row}");
        let recipe = read(protocol);
        let env = |name: &str| {
            let found = recipe.iter().find(|(it, _)| it == name);
            found.map(|(_, value)| OsString::from(value))
        };
        let args = ["--deployment=app", "--namespace=n"].map(OsString::from);
        let parsed = settings::parse(args, env);
        let Ok(Invocation::Run(settings)) = parsed else {
            panic!("{protocol}: {parsed:?}");
        };
        assert_eq!(settings.warnings, [] as [&str; 0], "{protocol}");
        for (name, _) in &recipe {
            assert!(settings::variables().any(|it| it == name), "{name}");
        }
    }
}
