//! Every manifest as the API server's own schema judges it: `kubernetes-validate` has the
//! OpenAPI of each version of Kubernetes, and strictly it refuses fields that there are not, as
//! `kubectl apply` does. The kinds that are no part of Kubernetes are held by [`super::custom`].

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use zpa::settings::TABLE;

use super::rendering::{Scratch, files, kubectl, read, root, run_tool};
use super::{custom, generated, overlay_with};

/// The oldest and the newest version that the validator knows.
const VERSIONS: [&str; 2] = ["1.25", "1.37"];

/// What the validator says of a document.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Accepted,
    /// With its lines.
    Refused(String),
    /// Kubernetes knows no such kind.
    NoSchema,
}

/// A directory of its own, removed at the end.
struct Documents(PathBuf);

impl Drop for Documents {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Documents {
    /// Each document is a file with its number.
    fn write(label: &str, documents: &[&str]) -> Documents {
        let name = format!("schema-{}-{label}", std::process::id());
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&directory).unwrap();
        for (at, document) in documents.iter().enumerate() {
            fs::write(directory.join(format!("{at}.yaml")), document).unwrap();
        }
        Documents(directory)
    }

    fn paths(&self, count: usize) -> Vec<String> {
        let path = |at: usize| self.0.join(format!("{at}.yaml")).display().to_string();
        (0..count).map(path).collect()
    }
}

/// The verdict on each document, or none without the validator, which is said.
fn verdicts(label: &str, documents: &[&str]) -> Option<Vec<Verdict>> {
    let written = Documents::write(label, documents);
    let paths = written.paths(documents.len());
    let versions = VERSIONS.iter().flat_map(|version| ["-k", version]);
    let args: Vec<&str> = ["--strict"].into_iter().chain(versions).collect();
    let files: Vec<&str> = paths.iter().map(String::as_str).collect();
    let output = run_tool("kubernetes-validate", &[args, files].concat(), b"")?;
    let printed = String::from_utf8(output.stdout).unwrap();
    // Such as that a document is no YAML, at which it ends.
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!printed.is_empty(), "nothing was judged: {errors}");
    let of = |path: &String| {
        verdict(
            printed
                .lines()
                .filter(|line| line.contains(&format!(" {path} "))),
        )
    };
    Some(paths.iter().map(of).collect())
}

/// The verdict of the lines about one document: one for each version.
fn verdict<'a>(lines: impl Iterator<Item = &'a str>) -> Verdict {
    let lines: Vec<&str> = lines.collect();
    let all = |start: &str| {
        lines.len() == VERSIONS.len() && lines.iter().all(|line| line.starts_with(start))
    };
    match () {
        () if all("INFO ") => Verdict::Accepted,
        () if all("WARN ") => Verdict::NoSchema,
        () => Verdict::Refused(lines.join("\n")),
    }
}

/// Fails for each document that a version of Kubernetes would refuse. `manifests` are texts with
/// a name for each; what several of them have is judged once.
pub(super) fn judge(label: &str, manifests: &[(String, String)]) {
    let mut names: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, text) in manifests {
        let documents: Vec<&str> = text.split("\n---\n").filter(|it| is_object(it)).collect();
        assert!(!documents.is_empty(), "{name}: nothing is in it");
        for document in documents {
            names.entry(document).or_insert(name);
        }
    }
    let documents: Vec<&str> = names.keys().copied().collect();
    let Some(verdicts) = verdicts(label, &documents) else {
        return;
    };
    let mut refused = Vec::new();
    for (document, verdict) in documents.iter().zip(verdicts) {
        let name = names[document];
        match verdict {
            Verdict::Accepted => {}
            Verdict::Refused(why) => refused.push(format!("{name}: {why}\n{document}")),
            Verdict::NoSchema => refused.extend(wrong_in_custom(name, document)),
        }
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

/// Whether there is more than comments.
fn is_object(document: &str) -> bool {
    let mut lines = document.lines().map(str::trim);
    lines.any(|line| !line.is_empty() && line != "---" && !line.starts_with('#'))
}

fn wrong_in_custom(name: &str, document: &str) -> Option<String> {
    let objects = read(document.as_bytes())?;
    let wrong: Vec<String> = objects.iter().flat_map(custom::wrong_in).collect();
    (!wrong.is_empty()).then(|| format!("{name}: {}\n{document}", wrong.join(", ")))
}

/// The options of `zpa manifests`, each by itself, and what else makes objects of other forms.
const ARGUMENTS: &[&[&str]] = &[
    &["--deployment=my-app"],
    &["--deployment=my.app", "--service=my-app"],
    &["--deployment=my-app", "--namespace=shop"],
    &[
        "--deployment=my-app",
        "--image=registry.example.com/zpa@sha256:0",
    ],
    &["--deployment=my-app", "--name=front"],
    &["--deployment=my-app", "--replicas=1"],
    &["--deployment=my-app", "--service-port=5432"],
    &[
        "--deployment=my-app",
        "--take-over=tests/manifests/printed/service.json",
    ],
    &["--deployment=my-app", "--network-policy"],
    &[
        "--deployment=my-app",
        "--network-policy",
        "--metrics-from=prometheus",
    ],
    &["--deployment=my-app", "--pod-monitor"],
    &["--deployment=my-app", "--alerts"],
    &[
        "--deployment=my-app",
        "--pod-monitor",
        "--monitoring-labels=release=stack",
    ],
    &["--deployment=my-app", "--hpa"],
    &["--deployment=my-app", "--config-map=my-files:/etc/zpa"],
    &["--deployment=my-app", "--tcp-route=edge"],
    &["--deployment=my-app", "--read-pods"],
    &["--deployment=my-app", "--openshift"],
    &["--deployment=my-app", "--listen=:80"],
    &[
        "--deployment=my-app",
        "--listen=8080=http,5432=postgres,9000=9090",
    ],
    &["--scale-target=statefulsets.apps/db", "--service=db"],
    &[
        "--scale-target=statefulsets.apps/db",
        "--service=db",
        "--single-proxy",
    ],
    &["--scale-target=rollouts.argoproj.io/my-app"],
    &["--scale-target=replicasets.apps/my-app"],
    &[
        "--deployment=my-app",
        "--namespace=shop",
        "--image=registry.example.com/zpa:1",
        "--name=front",
        "--replicas=3",
        "--take-over=tests/manifests/printed/service.json",
        "--network-policy",
        "--metrics-from=prometheus",
        "--pod-monitor",
        "--alerts",
        "--monitoring-labels=release=stack",
        "--tcp-route=edge/public:http,edge/public:sql",
        "--hpa",
        "--config-map=my-files:/etc/zpa",
        "--hold-answer=/etc/zpa/answer",
        "--read-pods",
        "--openshift",
        "--fail-fast",
        "--min-ready=2",
        "--wake-replicas=2",
        "--max-connections=1000000",
        "--drain-timeout=1h",
    ],
    &[
        "--deployment=my-app",
        "--listen=80=http,5432=postgres",
        "--network-policy",
        "--pod-monitor",
        "--tcp-route=edge:http,edge:sql",
        "--fail-fast",
    ],
];

#[test]
fn what_zpa_manifests_prints_is_accepted_with_each_of_its_options() {
    let printed = ARGUMENTS.iter().map(|args| {
        let name = format!("zpa manifests {}", args.join(" "));
        (name, generated::yaml(args))
    });
    judge("options", &printed.collect::<Vec<_>>());
    let help = generated::yaml(&["--help"]);
    let options = help.lines().filter_map(|line| line.strip_prefix("  --"));
    let given: Vec<&str> = ARGUMENTS.concat();
    let mut found = 0;
    for option in options.map(|line| line.split(' ').next().unwrap()) {
        found += 1;
        let is_it = |arg: &&str| arg[2..].split('=').next() == Some(option);
        // That one reads the cluster, and prints the command that prints the same without.
        assert!(
            option == "lookup" || given.iter().any(is_it),
            "no case has --{option}"
        );
    }
    assert!(found > 10, "the options were found");
}

/// A value such as `true`, `null` or `0` has to be a text to the API server.
#[test]
fn what_zpa_manifests_prints_is_accepted_with_each_setting() {
    let mut printed = Vec::new();
    for row in TABLE.iter().filter(|row| !row.variables.is_empty()) {
        for value in row.examples {
            let setting = format!("--{}={value}", row.flag);
            // Some go with others alone, or are nothing for a pod.
            if let Ok(yaml) = generated::printed(&["--deployment=my-app", &setting]) {
                printed.push((setting, yaml));
            }
        }
    }
    assert!(printed.len() > 60, "most settings stand alone");
    judge("settings", &printed);
}

/// The directories of `manifests` whose kustomization is of that kind.
fn kustomizations(kind: &str) -> Vec<PathBuf> {
    let files = files(&root().join("manifests")).into_iter();
    let named = files.filter(|path| path.ends_with("kustomization.yaml"));
    let line = format!("\nkind: {kind}\n");
    let of_kind = named.filter(|path| fs::read_to_string(path).unwrap().contains(&line));
    of_kind
        .map(|path| path.parent().unwrap().to_owned())
        .collect()
}

fn kustomized(directory: &str) -> Option<(String, String)> {
    let yaml = String::from_utf8(kubectl(&["kustomize", directory], b"")?).unwrap();
    Some((directory.to_owned(), yaml))
}

#[test]
fn the_manifests_for_kustomize_are_accepted() {
    let directories = kustomizations("Kustomization");
    assert!(directories.len() >= 6, "they were found");
    let directories = directories.iter().map(|it| it.display().to_string());
    let rendered: Option<Vec<_>> = directories.map(|it| kustomized(&it)).collect();
    if let Some(rendered) = rendered {
        judge("kustomize", &rendered);
    }
}

#[test]
fn the_components_for_kustomize_are_accepted_each_alone_and_all_together() {
    let components = kustomizations("Component");
    assert!(components.len() >= 4, "they were found");
    let names: Vec<&str> = components
        .iter()
        .map(|it| it.file_name().unwrap().to_str().unwrap())
        .collect();
    let alone = names.iter().map(std::slice::from_ref);
    let overlays: Vec<Scratch> = alone.chain([&names[..]]).map(overlay_with).collect();
    let rendered: Option<Vec<_>> = overlays
        .iter()
        .map(|it| kustomized(&it.overlay()))
        .collect();
    if let Some(rendered) = rendered {
        judge("components", &rendered);
    }
}

#[test]
fn the_manifests_of_the_ancestors_are_accepted() {
    let files = files(&root().join("tests/ancestors")).into_iter();
    let yaml = files.filter(|path| path.extension().is_some_and(|it| it == "yaml"));
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        (path.display().to_string(), text)
    };
    let manifests: Vec<_> = yaml.map(read).collect();
    assert!(manifests.len() >= 3, "they were found");
    judge("ancestors", &manifests);
}

/// Without this, all of the above might pass by a validator that takes anything.
#[test]
fn a_field_that_there_is_not_a_wrong_type_and_a_missing_field_are_refused() {
    let yaml = generated::yaml(&["--deployment=my-app"]);
    let documents: Vec<&str> = yaml.split("\n---\n").collect();
    let of_kind = |kind: &str| {
        let line = format!("\nkind: {kind}\n");
        *documents.iter().find(|it| it.contains(&line)).unwrap()
    };
    let (deployment, role) = (of_kind("Deployment"), of_kind("Role"));
    let cases = [
        (
            deployment,
            "replicas: 2",
            "replcas: 2",
            "'replcas' was unexpected",
        ),
        (
            deployment,
            "replicas: 2",
            "replicas: two",
            "spec.replicas: 'two'",
        ),
        (
            deployment,
            "enableServiceLinks: false",
            "enableServiceLinks: no-links",
            "enableServiceLinks",
        ),
        (
            deployment,
            "imagePullPolicy:",
            "imagePulPolicy:",
            "containers.0: ",
        ),
        (
            deployment,
            "value: \"10000\"",
            "value: 10000",
            "env.4.value: 10000",
        ),
        (deployment, "  selector:\n", "  selectors:\n", "selector"),
        (role, "verbs:", "verb:", "rules.0: "),
    ];
    let edited = cases.map(|(document, old, new, _)| {
        assert!(document.contains(old), "{old} is not in:\n{document}");
        document.replacen(old, new, 1)
    });
    let Some(verdicts) = verdicts("refused", &edited.each_ref().map(String::as_str)) else {
        return;
    };
    for ((.., new, expected), verdict) in cases.iter().zip(verdicts) {
        let Verdict::Refused(why) = verdict else {
            panic!("{new}: {verdict:?}");
        };
        assert!(why.contains(expected), "{new}: {why}");
        assert_eq!(why.matches("ERROR ").count(), VERSIONS.len(), "{why}");
    }
}
