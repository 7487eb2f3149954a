//! Files read, merged and chosen from, as client-go does.

use proptest::prelude::*;

use super::super::testing::Directory;
use super::*;

fn parse(text: &str) -> Result<Kubeconfig, String> {
    Kubeconfig::parse(text.as_bytes(), Path::new("/folder"))
}

fn server(selected: &Selected) -> &str {
    selected.cluster.server.as_deref().unwrap_or_default()
}

/// As `kind` and `minikube` write it.
const FILE: &str = "\
apiVersion: v1
kind: Config
preferences: {}
current-context: kind-a
clusters:
- name: kind-a
  cluster:
    certificate-authority-data: Y2E=
    extensions:
    - extension:
        last-update: Wed, 25 Nov 2026 03:18:29 UTC
        provider: minikube.sigs.k8s.io
        version: v1.36.0
      name: cluster_info
    - extension: {audience: kube}
      name: client.authentication.k8s.io/exec
    server: https://127.0.0.1:35433
- cluster: {server: https://b}
  name: b
contexts:
- context: {cluster: kind-a, user: u, namespace: shop, extensions: [{name: x, extension: 1}]}
  name: kind-a
- context: {cluster: gone, user: u}
  name: broken
- context: {}
  name: bare
users:
- name: u
  user: {token: t, as: , as-groups: }
- name: v
  user: {exec: {command: ./bin/get, args: [a, '1'], env: [{name: A, value: b}],
    apiVersion: client.authentication.k8s.io/v1beta1, provideClusterInfo: true,
    interactiveMode: IfAvailable, installHint: 'get it'}}
";

#[test]
fn the_current_context_is_used_or_the_one_of_choice() {
    let config = parse(FILE).unwrap();
    let choice = |context, cluster, user| Choice {
        context,
        cluster,
        user,
    };
    for (label, choice, expected) in [
        (
            "none",
            choice(None, None, None),
            Ok(("https://127.0.0.1:35433", "t", "shop")),
        ),
        (
            "a cluster",
            choice(None, Some("b"), None),
            Ok(("https://b", "t", "shop")),
        ),
        (
            "a user",
            choice(None, None, Some("v")),
            Ok(("https://127.0.0.1:35433", "", "shop")),
        ),
        (
            "a bare context",
            choice(Some("bare"), Some("b"), Some("u")),
            Ok(("https://b", "t", "")),
        ),
        (
            "a bare context alone",
            choice(Some("bare"), None, None),
            Ok(("", "", "")),
        ),
        (
            "no such context",
            choice(Some("x"), None, None),
            Err("there is no context \"x\""),
        ),
        (
            "no such cluster",
            choice(None, Some("x"), None),
            Err("there is no cluster \"x\""),
        ),
        (
            "no such user",
            choice(None, None, Some("x")),
            Err("there is no user \"x\""),
        ),
        (
            "a context without its cluster",
            choice(Some("broken"), None, None),
            Err("cluster \"gone\""),
        ),
    ] {
        match (config.select(choice), expected) {
            (Ok(selected), Ok((url, token, namespace))) => {
                assert_eq!(server(&selected), url, "{label}");
                assert_eq!(selected.user.token.unwrap_or_default(), token, "{label}");
                assert_eq!(selected.namespace.unwrap_or_default(), namespace, "{label}");
            }
            (Err(why), Err(part)) => assert!(why.contains(part), "{label}: {why}"),
            (selected, _) => panic!("{label}: {:?}", selected.err()),
        }
    }
}

#[test]
fn every_field_of_an_exec_plugin_is_read() {
    let config = parse(FILE).unwrap();
    let choice = Choice {
        user: Some("v"),
        ..Choice::default()
    };
    let selected = config.select(choice).ok().unwrap();
    let exec = selected.user.exec.unwrap();
    assert_eq!(
        exec.command, "/folder/./bin/get",
        "from the folder of the file"
    );
    assert_eq!(exec.args.unwrap(), ["a", "1"]);
    let env = exec.env.unwrap();
    assert_eq!((env[0].name.as_str(), env[0].value.as_str()), ("A", "b"));
    assert_eq!(exec.api_version, "client.authentication.k8s.io/v1beta1");
    assert_eq!(exec.provide_cluster_info, Some(true));
    assert_eq!(exec.interactive_mode.as_deref(), Some("IfAvailable"));
    assert_eq!(exec.install_hint.as_deref(), Some("get it"));
    assert_eq!(
        selected.cluster.exec_extension().unwrap()["audience"],
        "kube"
    );
}

#[test]
fn of_several_files_the_first_gives_all_of_what_it_names() {
    let first = "{current-context: '', users: [{name: red, user: {token: first}}], \
                 contexts: [{name: a, context: {cluster: c, user: red}}]}";
    let second = "{current-context: a, users: [{name: red, user: {token: second, as: jane}}, \
                  {name: blue, user: {token: blue}}], clusters: [{name: c, cluster: {server: s}}]}";
    let third = "{current-context: b, clusters: [{name: c, cluster: {server: t}}]}";
    let parsed = [first, second, third].map(|text| parse(text).ok().unwrap());
    let merged = parsed.into_iter().reduce(Kubeconfig::merged).unwrap();
    let selected = merged.select(Choice::default()).ok().unwrap();
    assert_eq!(server(&selected), "s");
    assert_eq!(selected.user.token.as_deref(), Some("first"));
    assert_eq!(selected.user.impersonate, None, "nothing of the second red");
    let blue = Choice {
        user: Some("blue"),
        ..Choice::default()
    };
    assert_eq!(
        merged.select(blue).ok().unwrap().user.token.as_deref(),
        Some("blue")
    );
}

#[test]
fn missing_files_are_skipped_and_each_has_its_own_folder() {
    let directory = Directory::new("kubeconfig-load");
    for folder in ["a", "b"] {
        std::fs::create_dir_all(directory.0.join(folder)).unwrap();
    }
    let user = |name: &str| format!("{{users: [{{name: {name}, user: {{tokenFile: token}}}}]}}");
    let (a, b) = (
        directory.write("a/config", user("a")),
        directory.write("b/config", user("b")),
    );
    let absent = directory.0.join("absent");
    assert!(
        Kubeconfig::load(std::slice::from_ref(&absent))
            .unwrap()
            .is_none()
    );
    let files = [absent, a, PathBuf::new(), b];
    let merged = Kubeconfig::load(&files).ok().unwrap().unwrap();
    for name in ["a", "b"] {
        let choice = Choice {
            user: Some(name),
            ..Choice::default()
        };
        let file = merged.select(choice).ok().unwrap().user.token_file;
        assert_eq!(file, Some(directory.0.join(name).join("token")));
    }
    let error = Kubeconfig::load(std::slice::from_ref(&directory.0))
        .err()
        .unwrap();
    let named = format!("kubeconfig \"{}\": Is a directory", directory.0.display());
    assert!(error.starts_with(&named), "{error}");
    let large = directory.write("large", vec![b'#'; (MAX_FILE_LEN + 1) as usize]);
    let error = Kubeconfig::load(&[large]).err().unwrap();
    assert!(error.ends_with("larger than 2097152 bytes"), "{error}");
}

#[test]
fn what_is_no_kubeconfig_is_reported_by_its_line_and_never_quoted() {
    let deep = format!("users: {}", "[".repeat(40));
    let bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a]\n\
                c: &c [*b, *b, *b, *b, *b, *b, *b, *b]\nd: &d [*c, *c, *c, *c, *c, *c, *c, *c]\n\
                e: &e [*d, *d, *d, *d, *d, *d, *d, *d]\nf: [*e, *e, *e, *e, *e, *e, *e, *e]\n";
    let large = format!(
        "a: &a {}\nusers: [{}]",
        "x".repeat(1 << 20),
        "*a, ".repeat(90)
    );
    for (label, text, why) in [
        ("no mapping", "canary", "it is not a kubeconfig: see line 1"),
        (
            "not YAML",
            "users:\n- {canary: [",
            "it is not a kubeconfig: see line",
        ),
        (
            "a list that is none",
            "current-context: a\nusers: canary",
            "see line 2",
        ),
        (
            "a cluster without a name",
            "clusters:\n- cluster: {server: canary}",
            "see line 2",
        ),
        ("too deep", &deep, "it is not a kubeconfig"),
        ("an alias bomb", bomb, "it is not a kubeconfig"),
        ("a large text, often", &large, "it is not a kubeconfig"),
        (
            "two documents",
            "users: []\n---\nusers: []\n",
            "it is not a kubeconfig",
        ),
        (
            "a name twice",
            "users: [{name: u}, {name: u}]",
            "users: the name \"u\" is there twice",
        ),
    ] {
        let error = parse(text).err().unwrap_or_default();
        assert!(error.contains(why), "{label}: {error}");
        assert!(!error.contains("canary"), "{label}: {error}");
    }
    for (label, text) in [
        ("nothing", ""),
        ("a comment", "# nothing\n"),
        ("null", "~"),
        (
            "no lists",
            "{users: , clusters: null, contexts: ~, current-context: }",
        ),
    ] {
        assert!(
            parse(text).ok().is_some_and(|config| config.is_empty()),
            "{label}"
        );
    }
    assert!(Kubeconfig::parse(b"\xff\xfe\xff", Path::new("/")).is_err());
}

#[test]
fn of_a_key_that_is_there_twice_the_last_counts_as_in_kubectl() {
    let user = |token: &str| format!("users: [{{name: u, user: {{token: {token}}}}}]\n");
    let config = parse(&format!("{}{}", user("first"), user("second"))).unwrap();
    let choice = Choice {
        user: Some("u"),
        ..Choice::default()
    };
    let user = config.select(choice).ok().unwrap().user;
    assert_eq!(user.token.as_deref(), Some("second"));
}

#[test]
fn what_kubectl_writes_as_json_is_read_too() {
    let json = r#"{"kind": "Config", "clusters": [{"name": "c", "cluster": {"server": "s"}}],
        "contexts": [{"name": "a", "context": {"cluster": "c", "user": ""}}],
        "current-context": "a", "users": null}"#;
    let selected = parse(json).unwrap().select(Choice::default());
    assert_eq!(server(&selected.ok().unwrap()), "s");
}

proptest! {
    #[test]
    fn no_text_panics(text in "(\\PC|\n){0,60}|([a-z{}\\[\\]:,&*|>-]|\n| ){0,60}") {
        let _ = parse(&text);
    }
}
