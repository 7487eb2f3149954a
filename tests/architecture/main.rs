//! The rules of the architecture: which module may use which, where the clock is read, where
//! `unsafe` stands, and that the documents ([`pages`]) say what the code says.

mod pages;

use std::fs;
use std::path::{Path, PathBuf};

/// The modules that only the daemon, the commands and `main` may know.
const MODULES: &[&str] = &[
    "daemon",
    "commands",
    "settings",
    "policy",
    "engine",
    "kube",
    "resolve",
    "metrics",
    "admin",
    "accept_probe",
];

/// The exceptions: a module that counts uses the histogram of the metrics.
const EXCEPTIONS: &[(&str, &str)] = &[("engine", "metrics"), ("kube", "metrics")];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every source file below `src`, as its path from there and its text without
/// what is compiled for tests only.
fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    collect(&root().join("src"), &mut found);
    assert!(found.len() > 20, "the sources were found");
    let name = |path: &PathBuf| {
        path.strip_prefix(root().join("src"))
            .unwrap()
            .display()
            .to_string()
    };
    let is_test = |name: &str| name.contains("test");
    found
        .iter()
        .map(|path| {
            (
                name(path),
                without_tests(&fs::read_to_string(path).unwrap()),
            )
        })
        .filter(|(name, _)| !is_test(name))
        .collect()
}

fn collect(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// The text up to the test module, without comments.
fn without_tests(text: &str) -> String {
    let code = text
        .split("#[cfg(test)]\nmod tests")
        .next()
        .unwrap_or_default();
    let lines = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The module that a file belongs to.
fn module(file: &str) -> &str {
    file.split(['/', '.']).next().unwrap()
}

/// Everything that a text imports from the crate's own modules, in whichever
/// form it is written.
fn knows(text: &str, other: &str) -> bool {
    let direct = [format!("crate::{other}"), format!("zpa::{other}")];
    let grouped = text.match_indices("crate::{").any(|(at, _)| {
        let list = text[at..].split('}').next().unwrap();
        list.split(['{', ','])
            .any(|item| item.trim().split("::").next() == Some(other))
    });
    grouped || direct.iter().any(|path| names_exactly(text, path))
}

fn names_exactly(text: &str, path: &str) -> bool {
    text.match_indices(path).any(|(at, _)| {
        let next = text[at + path.len()..].chars().next();
        !next.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

#[test]
fn no_module_but_the_daemon_knows_another_module() {
    for (file, text) in sources() {
        let own = module(&file);
        if matches!(own, "daemon" | "commands" | "main" | "lib") {
            continue;
        }
        for other in MODULES.iter().filter(|&&other| other != own) {
            let may = EXCEPTIONS.contains(&(own, *other));
            assert!(may || !knows(&text, other), "{file} knows {other}");
        }
    }
}

#[test]
fn main_knows_the_daemon_the_settings_and_the_clock_alone() {
    let (_, main) = sources()
        .into_iter()
        .find(|(file, _)| file == "main.rs")
        .unwrap();
    for other in ["policy", "engine", "kube", "resolve", "metrics", "admin"] {
        assert!(!knows(&main, other), "main knows {other}");
    }
    assert!(main.lines().count() < 100, "main is thin");
}

#[test]
fn nobody_reads_a_clock_but_through_what_main_hands_to_the_daemon() {
    for (file, text) in sources() {
        for clock in ["Instant::now", "SystemTime", "clock_gettime"] {
            assert!(
                !text.contains(clock) || module(&file) == "sys",
                "{file} reads {clock}"
            );
        }
        let names_it = text.contains("boot_time");
        assert!(
            !names_it || matches!(module(&file), "sys" | "main"),
            "{file} names the clock"
        );
    }
}

#[test]
fn the_policy_knows_no_socket_no_thread_and_no_environment() {
    for (file, text) in sources()
        .into_iter()
        .filter(|(file, _)| module(file) == "policy")
    {
        for world in [
            "TcpStream",
            "std::io",
            "std::thread",
            "std::env",
            "std::fs",
            "mio",
            "ureq",
        ] {
            assert!(!text.contains(world), "{file} touches {world}");
        }
    }
}

#[test]
fn within_a_module_files_know_one_another_in_one_direction_only() {
    let sources = sources();
    let mut arrows: Vec<(PathBuf, PathBuf)> = Vec::new();
    for (file, text) in &sources {
        let file = Path::new(file);
        let siblings = sources.iter().map(|(other, _)| Path::new(other));
        let siblings = siblings.filter(|other| other.parent() == file.parent() && *other != file);
        for other in siblings {
            let name = other.file_stem().unwrap().to_str().unwrap();
            if knows_sibling(text, name) {
                arrows.push((file.to_owned(), other.to_owned()));
            }
        }
    }
    assert!(arrows.len() > 20, "files know one another");
    // Whoever knows none of those that are left is in no circle.
    loop {
        let left = arrows.len();
        let knowing: Vec<PathBuf> = arrows.iter().map(|(from, _)| from.clone()).collect();
        arrows.retain(|(_, to)| knowing.contains(to));
        if arrows.len() == left {
            break;
        }
    }
    assert_eq!(arrows, [], "these lead into a circle");
}

/// Whether a text imports a file beside its own, in whichever form it is written.
fn knows_sibling(text: &str, name: &str) -> bool {
    let grouped = text.split("use super::{").skip(1).any(|group| {
        let group = group.split("};").next().unwrap_or_default();
        group
            .split(|c: char| !c.is_alphanumeric() && c != '_')
            .any(|word| word == name)
    });
    let path = format!("super::{name}");
    let named = text.match_indices(&path).any(|(at, _)| {
        let before = &text[..at];
        let after = text[at + path.len()..].chars().next();
        !before.ends_with("super::") && !after.is_some_and(|c| c.is_alphanumeric() || c == '_')
    });
    grouped || named
}

#[test]
fn what_the_policy_is_made_of_knows_its_shared_types_and_neither_the_policy_nor_one_another() {
    let shared = ["super::command::", "super::config::", "super::permission::"];
    let made_of = [
        "command",
        "config",
        "lease",
        "overrides",
        "phase",
        "permission",
        "seen",
    ];
    let files = made_of.map(|name| format!("policy/{name}.rs"));
    let texts: Vec<(String, String)> = sources()
        .into_iter()
        .filter(|(file, _)| files.contains(file))
        .collect();
    assert_eq!(texts.len(), files.len(), "each has a file");
    for (file, text) in texts {
        let beyond_shared = shared
            .iter()
            .fold(text.clone(), |text, name| text.replace(name, ""));
        assert!(!beyond_shared.contains("super::"), "{file} knows too much");
        assert!(!knows(&text, "policy"), "{file} knows the whole policy");
    }
}

#[test]
fn what_is_told_to_admin_connections_is_made_of_bytes_alone() {
    for (file, text) in sources() {
        if !matches!(module(&file), "admin" | "metrics") {
            continue;
        }
        for world in [
            "mio",
            "std::io",
            "std::net",
            "std::thread",
            "std::env",
            "std::fs",
            "sys::",
        ] {
            assert!(!text.contains(world), "{file} touches {world}");
        }
    }
}

#[test]
fn the_engine_knows_no_kubernetes_and_kube_no_event_loop() {
    for (file, text) in sources() {
        let forbidden: &[&str] = match module(&file) {
            "engine" => &["ureq", "serde", "cluster::", "rustls"],
            "kube" => &["mio::", "Waker"],
            _ => &[],
        };
        for word in forbidden {
            assert!(!text.contains(word), "{file} has {word}");
        }
    }
}

#[test]
fn every_unsafe_block_is_in_one_module_and_says_why_it_is_sound() {
    let mut files = Vec::new();
    collect(&root().join("src"), &mut files);
    let mut blocks = 0;
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let in_file = text.matches("unsafe {").count();
        let is_sys = file.starts_with(root().join("src/sys"));
        assert!(in_file == 0 || is_sys, "{file:?} has an unsafe block");
        let reasons = text.matches("// SAFETY: ").count();
        assert_eq!(reasons, in_file, "one reason for each block in {file:?}");
        blocks += in_file;
    }
    assert!(blocks > 10, "the blocks were found");
}

#[test]
fn nothing_that_comes_from_outside_can_reach_a_panic() {
    for (file, text) in sources() {
        for panic in [
            ".unwrap()",
            ".expect(",
            "panic!(",
            "todo!(",
            "unimplemented!(",
        ] {
            assert!(!text.contains(panic), "{file} has {panic}");
        }
    }
}

/// The most lines of a file.
const MAX_LINES: usize = 600;

/// Words that this project once used as a private language, with those in their place.
const PRIVATE_WORDS: &[(&str, &str)] = &[
    ("believed", "confirmed"),
    ("ambush", "a critical moment"),
    ("chore", "periodic task"),
    ("blind", "what is not known, or not read"),
    ("condemned", "refused"),
    ("doubted", "unconfirmed, or on trial"),
    ("doomed", "about to end"),
    ("hear", "see, receive"),
    ("heard", "seen, received"),
    ("hub", "API threads"),
    ("manners", "behaviour"),
    ("patience", "timeout"),
    ("obeys", "keeps to"),
    ("pardoned", "used again"),
    ("repetition", "hedged request"),
    ("rights", "permissions"),
    ("rivals", "other proxies"),
    ("roster", "reconciler"),
    ("sight", "inputs, or what is known"),
    ("suspected", "on trial"),
    ("tally", "counters"),
    ("told", "sent, set, or what it gets"),
    ("visitor", "client"),
    ("whom", "a noun"),
];

#[test]
fn no_file_is_long() {
    let mut files = Vec::new();
    collect(&root().join("src"), &mut files);
    collect(&root().join("tests"), &mut files);
    let long: Vec<String> = files
        .iter()
        .map(|path| {
            (
                path.display(),
                fs::read_to_string(path).unwrap().lines().count(),
            )
        })
        .filter(|(_, lines)| *lines > MAX_LINES)
        .map(|(path, lines)| format!("{path}: {lines} lines"))
        .collect();
    assert!(
        long.is_empty(),
        "a file has one subject, and at most {MAX_LINES} lines: {long:#?}"
    );
}

#[test]
fn the_sources_use_no_private_word() {
    let mut files = Vec::new();
    collect(&root().join("src"), &mut files);
    collect(&root().join("tests"), &mut files);
    // The list itself is in this file.
    files.retain(|path| !path.ends_with(Path::new(file!())));
    let mut found = Vec::new();
    for path in &files {
        // A trait of serde has such a name.
        let text = fs::read_to_string(path).unwrap();
        let text = text.replace("de::Visitor<", "");
        for (line, number) in text.lines().zip(1..) {
            let words = line.split(|c: char| !c.is_alphanumeric());
            for word in words.map(str::to_lowercase) {
                if let Some((_, better)) = PRIVATE_WORDS.iter().find(|(it, _)| *it == word) {
                    let path = path.display();
                    found.push(format!("{path}:{number}: \"{word}\": write {better}"));
                }
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn no_async_runtime_is_in_the_tree() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    for runtime in ["tokio", "async-std", "smol", "futures-executor", "hyper"] {
        assert!(
            !lock.contains(&format!("name = \"{runtime}\"")),
            "{runtime} is in Cargo.lock"
        );
    }
}

/// The fuzzers compile some of `src` by path, with the dependencies of a manifest
/// that no stable build reads.
#[test]
fn the_fuzz_package_has_the_dependencies_of_the_sources_that_it_includes() {
    let checks = root().join("tests/fuzz/checks");
    let manifest = fs::read_to_string(root().join("tests/fuzz/Cargo.toml")).unwrap();
    let ours = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let (_, ours) = ours.split_once("\n[dependencies]\n").unwrap();
    let ours = ours.split("\n[").next().unwrap().lines();
    let dependencies: Vec<&str> = ours
        .filter_map(|line| Some(line.split_once(" = ")?.0))
        .collect();
    let mut files = Vec::new();
    collect(&checks, &mut files);
    let mut included = 0;
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let paths = text.split("#[path = \"").skip(1);
        for path in paths.filter_map(|rest| rest.split('"').next()) {
            included += 1;
            let source = fs::read_to_string(checks.join(path)).unwrap();
            for name in &dependencies {
                let is_used = source.contains(&format!("{name}::"));
                let is_there = manifest.contains(&format!("\n{name} = "));
                assert!(!is_used || is_there, "{path} takes {name}");
            }
        }
    }
    assert!(included > 5, "the included sources were found");
}

#[test]
fn the_image_is_built_with_every_manifest_and_the_build_context_has_what_is_copied() {
    let read = |name: &str| fs::read_to_string(root().join(name)).unwrap();
    let (containerfile, ignored, manifest) = (
        read("Containerfile"),
        read(".dockerignore"),
        read("Cargo.toml"),
    );
    let (builder, _) = containerfile.split_once(" AS prebuilt").unwrap();
    let copies = builder
        .lines()
        .filter_map(|line| line.strip_prefix("COPY "));
    let sources: Vec<&str> = copies
        .filter_map(|copy| copy.rsplit_once(' '))
        .flat_map(|(sources, _)| sources.split(' '))
        .collect();
    assert!(sources.contains(&"src"), "the sources are copied");
    for source in &sources {
        let admitted = format!("!{source}");
        assert!(
            ignored.lines().any(|line| line == admitted),
            ".dockerignore leaves {source} out"
        );
    }
    let (_, members) = manifest.split_once("\nmembers = [").unwrap();
    let members = members.split(']').next().unwrap().split(", ");
    for member in members {
        let path = format!("{}/Cargo.toml", member.trim_matches('"'));
        assert!(
            sources.contains(&&*path),
            "the Containerfile does not copy {path}"
        );
    }
    // What the code includes of what is not code.
    let included = "../../../manifests/";
    for (file, text) in self::sources() {
        for rest in text.split(&format!("include_str!(\"{included}")).skip(1) {
            let path = format!("manifests/{}", rest.split('"').next().unwrap());
            assert!(
                sources.contains(&&*path),
                "the Containerfile does not copy {path}, which {file} includes"
            );
        }
    }
}

#[test]
fn the_visible_top_level_is_what_was_agreed() {
    let agreed = [
        "Cargo.lock",
        "Cargo.toml",
        "Containerfile",
        "LICENSE",
        "Makefile",
        "README.md",
        "manifests",
        "src",
        "tests",
    ];
    let git = std::process::Command::new("git")
        .args(["ls-files"])
        .current_dir(root())
        .output();
    let Some(files) = git.ok().filter(|output| output.status.success()) else {
        support::skip("this is not a git checkout");
        return;
    };
    for file in String::from_utf8(files.stdout).unwrap().lines() {
        let top = file.split('/').next().unwrap();
        assert!(
            top.starts_with('.') || agreed.contains(&top),
            "{file} is not agreed"
        );
    }
}

/// Words in capitals in the files that choose the codes of problems are such codes.
#[test]
fn each_code_that_the_page_shows_is_explained() {
    let mut shown = 0;
    for file in ["pages/page.rs", "app/addresses.rs", "slow_wake.rs"] {
        let code = fs::read_to_string(root().join("src/daemon").join(file)).unwrap();
        let code = code.split("#[cfg(test)]").next().unwrap().to_owned();
        let is_code = |text: &&str| text.len() > 2 && text.chars().all(|c| c.is_ascii_uppercase());
        for text in code.split('"').skip(1).step_by(2).filter(is_code) {
            assert!(zpa::commands::codes().contains(&text), "{file}: {text}");
            shown += 1;
        }
    }
    assert!(shown > 5);
}

/// Code is kept to that by rustfmt, which leaves comments alone.
#[test]
fn no_comment_is_wider_than_the_code() {
    let is_comment = |line: &str| line.starts_with("//") && !line.starts_with("//! |");
    let is_wide = |line: &str| is_comment(line.trim_start()) && line.chars().count() > 100;
    let mut files = Vec::new();
    collect(&root().join("src"), &mut files);
    collect(&root().join("tests"), &mut files);
    let mut wide = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let lines = text.lines().filter(|line| is_wide(line));
        wide.extend(lines.map(|line| format!("{}: {line}", file.display())));
    }
    assert!(wide.is_empty(), "{wide:#?}");
}

/// The first files that a reader opens: each has the list of what is beside it, by subject.
#[test]
fn the_files_of_the_large_modules_stand_under_headings() {
    for module in ["daemon", "engine", "kube"] {
        let text = fs::read_to_string(root().join(format!("src/{module}/mod.rs"))).unwrap();
        let mut group: Vec<&str> = Vec::new();
        for line in text.lines() {
            let is_file = line.starts_with("mod ") || line.starts_with("pub mod ");
            match line.is_empty() {
                true => group.clear(),
                false => group.push(line),
            }
            assert!(
                !is_file || group[0].starts_with("// "),
                "{module}: {line} stands under no heading"
            );
        }
    }
}
