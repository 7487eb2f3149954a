//! The manifests as `kubectl` renders them, and copies of them to edit.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use super::OVERLAY;

/// The manifests in a directory of their own, and beside them a copy of
/// [`OVERLAY`]; removed at the end.
pub(super) struct Scratch(pub(super) PathBuf);

impl Scratch {
    pub(super) fn make() -> Scratch {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("zpa-manifests-{}-{number}", std::process::id());
        let copy = Scratch(std::env::temp_dir().join(name));
        for path in files(&root().join("manifests")) {
            Scratch::place(&path, &copy.0.join(path.strip_prefix(root()).unwrap()));
        }
        for path in files(&root().join(OVERLAY)) {
            Scratch::place(
                &path,
                &copy.0.join("my-app-zpa").join(path.file_name().unwrap()),
            );
        }
        copy
    }

    fn place(from: &Path, to: &Path) {
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap();
    }

    pub(super) fn overlay(&self) -> String {
        self.0.join("my-app-zpa").display().to_string()
    }

    /// Puts the second of each pair for the first, which must be there.
    pub(super) fn edit(&self, file: &str, edits: &[(&str, &str)]) {
        let path = self.0.join("my-app-zpa").join(file);
        let mut text = fs::read_to_string(&path).unwrap();
        for (old, new) in edits {
            assert!(text.contains(old), "{file} lacks {old}");
            text = text.replace(old, new);
        }
        fs::write(&path, text).unwrap();
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(super) fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let named = |object: &&Value| object["kind"] == kind && object["metadata"]["name"] == name;
    let found = objects.iter().find(named);
    found.unwrap_or_else(|| panic!("no {kind} {name}"))
}

pub(super) fn text(value: &Value) -> &str {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is not a string"))
}

/// The objects of a directory, or none if there is no kubectl, which is said.
pub(super) fn rendered(directory: &str) -> Option<Vec<Value>> {
    read(&kubectl(&["kustomize", directory], b"")?)
}

/// The objects as kubectl reads them.
pub(super) fn read(yaml: &[u8]) -> Option<Vec<Value>> {
    // Nothing is labelled: this is how kubectl turns YAML into JSON without a
    // server.
    let args = ["label", "--local", "--filename=-", "--output=json", "none-"];
    let json = kubectl(&args, yaml)?;
    let objects = serde_json::Deserializer::from_slice(&json).into_iter();
    Some(
        objects
            .collect::<Result<_, _>>()
            .expect("kubectl prints JSON"),
    )
}

pub(super) fn kubectl(args: &[&str], stdin: &[u8]) -> Option<Vec<u8>> {
    let output = run_tool("kubectl", args, stdin)?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    let status = output.status;
    assert!(status.success(), "kubectl {args:?}: {status}\n{stderr}");
    Some(output.stdout)
}

/// Runs a tool in the root of the project; none if it is not there, which is said.
pub(super) fn run_tool(name: &str, args: &[&str], stdin: &[u8]) -> Option<Output> {
    let child = Command::new(support::tool(name))
        .args(args)
        .current_dir(root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            support::skip_without(name);
            return None;
        }
        Err(error) => panic!("{name} {args:?}: {error}"),
    };
    // Whoever does not read it has ended.
    let _ = child.stdin.take().unwrap().write_all(stdin);
    Some(child.wait_with_output().unwrap())
}

/// Every word that begins with `ZPA_`.
pub(super) fn variables_in(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("ZPA_"))
}

pub(super) fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| {
            if path.is_dir() {
                files(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
