//! Manifests as kubectl renders them, and a copy of them to edit.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use zpa::settings::{self, Invocation, Settings};

use crate::root;

pub const BASE: &str = "manifests/base";
pub const EXAMPLE: &str = "manifests/example";
/// What is copied for an app of one's own.
pub const OVERLAY: &str = "manifests/example/proxy";
pub const NO_KUBECTL: &str = "no kubectl to render the manifests with";

/// The overlay with a component of `manifests/components` added.
pub fn rendered_with(component: &str) -> Option<Vec<Value>> {
    let copy = Scratch::make(component);
    let components = format!("\ncomponents:\n  - ../manifests/components/{component}\n\npatches:");
    copy.edit(
        "kustomization.yaml",
        &[
            ("- ../../base", "- ../manifests/base"),
            ("\npatches:", &components),
        ],
    );
    rendered(&copy.overlay())
}

pub fn admin_port(settings: &Settings) -> u16 {
    let address = settings.admin_listen.expect("the probes need it");
    address.port()
}

/// The objects of one directory, and the parts of them that are the proxy's.
pub struct Proxy {
    pub directory: &'static str,
    pub objects: Vec<Value>,
    pub deployment: Value,
    pub pod: Value,
    pub container: Value,
}

/// The proxies of the base and of the example; none without kubectl.
pub fn proxies() -> impl Iterator<Item = Proxy> {
    [(BASE, "zpa"), (EXAMPLE, "my-app-zpa")]
        .into_iter()
        .filter_map(|(directory, name)| Some(Proxy::new(directory, name, rendered(directory)?)))
}

impl Proxy {
    pub fn new(directory: &'static str, name: &str, objects: Vec<Value>) -> Proxy {
        let deployment = find(&objects, "Deployment", name).clone();
        let pod = deployment["spec"]["template"]["spec"].clone();
        let container = pod["containers"][0].clone();
        Proxy {
            directory,
            objects,
            deployment,
            pod,
            container,
        }
    }

    /// What zpa makes of the container's environment.
    pub fn settings(&self) -> Settings {
        let variables = self.container["env"].as_array().unwrap();
        let env: BTreeMap<&str, &str> = variables
            .iter()
            .map(|variable| (text(&variable["name"]), text(&variable["value"])))
            .collect();
        match settings::parse([], |name| env.get(name).map(OsString::from)) {
            Ok(Invocation::Run(settings)) => *settings,
            other => panic!("{}: {env:?}: {other:?}", self.directory),
        }
    }

    pub fn service(&self) -> &Value {
        let name = text(&self.deployment["metadata"]["name"]);
        find(&self.objects, "Service", name)
    }

    pub fn only(&self, kind: &str) -> &Value {
        let mut of_kind = self.objects.iter().filter(|object| object["kind"] == kind);
        let (Some(object), None) = (of_kind.next(), of_kind.next()) else {
            panic!("{}: not exactly one {kind}", self.directory);
        };
        object
    }
}

/// The manifests in a directory of their own, and beside them a copy of
/// [`OVERLAY`]; removed at the end.
pub struct Scratch(PathBuf);

impl Scratch {
    /// `label` tells it from those of other tests.
    pub fn make(label: &str) -> Scratch {
        let name = format!("zpa-manifests-{}-{label}", std::process::id());
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

    pub fn overlay(&self) -> String {
        self.0.join("my-app-zpa").display().to_string()
    }

    /// Puts the second of each pair for the first, which must be there.
    pub fn edit(&self, file: &str, edits: &[(&str, &str)]) {
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

pub fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let named = |object: &&Value| object["kind"] == kind && object["metadata"]["name"] == name;
    let found = objects.iter().find(named);
    found.unwrap_or_else(|| panic!("no {kind} {name}"))
}

pub fn text(value: &Value) -> &str {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is not a string"))
}

/// The objects of a directory, or none if there is no kubectl, which is said.
pub fn rendered(directory: &str) -> Option<Vec<Value>> {
    let yaml = kubectl(&["kustomize", directory], b"")?;
    // Nothing is labelled: this is how kubectl turns YAML into JSON without a
    // server.
    let args = ["label", "--local", "--filename=-", "--output=json", "none-"];
    let json = kubectl(&args, &yaml)?;
    let objects = serde_json::Deserializer::from_slice(&json).into_iter();
    Some(
        objects
            .collect::<Result<_, _>>()
            .expect("kubectl prints JSON"),
    )
}

pub fn kubectl(args: &[&str], stdin: &[u8]) -> Option<Vec<u8>> {
    let child = Command::new("kubectl")
        .args(args)
        .current_dir(root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            support::skip(NO_KUBECTL);
            return None;
        }
        Err(error) => panic!("kubectl {args:?}: {error}"),
    };
    child.stdin.take().unwrap().write_all(stdin).unwrap();
    let Output {
        status,
        stdout,
        stderr,
    } = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "kubectl {args:?}: {status}\n{stderr}");
    Some(stdout)
}

/// Every word that begins with `ZPA_`.
pub fn variables_in(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("ZPA_"))
}

pub fn files(directory: &Path) -> Vec<PathBuf> {
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
