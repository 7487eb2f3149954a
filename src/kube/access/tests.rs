//! Where the way to the API server is found, and what of a kubeconfig is taken.

use super::super::testing::Directory;
use super::*;
use crate::kubeconfig_flags::Secret;

fn nothing(_: &str) -> Option<String> {
    None
}

type Found = Result<(Access, Option<String>), Error>;

fn message(result: Found) -> String {
    result
        .err()
        .map(|error| error.to_string())
        .unwrap_or_default()
}

fn discover(flags: &KubeconfigFlags, env: impl Fn(&str) -> Option<String>) -> Found {
    Access::discover(flags, None, Path::new("/nonexistent"), env)
}

fn pod_directory(name: &str) -> Directory {
    let directory = Directory::new(name);
    directory.write("token", "canary");
    directory.write("ca.crt", "PEM");
    directory.write("namespace", "shop\n");
    directory
}

/// The environment of a pod whose API server has that address.
fn pod(host: &'static str) -> impl Fn(&str) -> Option<String> {
    move |name| match name {
        "KUBERNETES_SERVICE_HOST" => Some(host.to_owned()),
        "KUBERNETES_SERVICE_PORT" => Some("443".to_owned()),
        "KUBECONFIG" => Some(String::new()),
        _ => None,
    }
}

#[test]
fn in_a_pod_the_environment_names_the_server_be_it_ipv4_or_ipv6() {
    let directory = pod_directory("access-pod");
    for (host, url) in [
        ("10.96.0.1", "https://10.96.0.1:443"),
        ("fd00::1", "https://[fd00::1]:443"),
        ("[fd00::1]", "https://[fd00::1]:443"),
    ] {
        let flags = KubeconfigFlags::default();
        let found = Access::discover(&flags, None, &directory.0, pod(host));
        let (access, namespace) = found.ok().unwrap();
        assert_eq!(access.server.to_string(), url);
        assert_eq!(namespace.as_deref(), Some("shop"));
        assert!(matches!(access.token, TokenSource::File { .. }));
    }
}

#[test]
fn an_https_server_of_ones_own_goes_with_the_same_files() {
    let directory = pod_directory("access-own");
    let server = ApiServer {
        tls: true,
        host: "api.example".into(),
        port: 6443,
    };
    let flags = KubeconfigFlags::default();
    let found = Access::discover(&flags, Some(&server), &directory.0, nothing);
    let (access, namespace) = found.ok().unwrap();
    assert_eq!(access.server, server);
    assert_eq!(namespace.as_deref(), Some("shop"));
}

#[test]
fn plain_http_is_for_loopback_and_carries_no_token() {
    let directory = pod_directory("access-plain");
    let plain = |host: &str| ApiServer {
        tls: false,
        host: host.into(),
        port: 8001,
    };
    let flags = KubeconfigFlags::default();
    let discover = |host| Access::discover(&flags, Some(&plain(host)), &directory.0, nothing);
    for host in ["127.0.0.1", "::1", "localhost"] {
        let (access, _) = discover(host).ok().unwrap();
        assert!(matches!(access.token, TokenSource::None), "{host}");
    }
    assert_eq!(
        message(discover("10.0.0.1")),
        "api-server \"http://10.0.0.1:8001\": plain http is for `kubectl proxy` on this machine \
         only; use an address such as http://127.0.0.1:8001, or https"
    );
}

#[test]
fn a_kubectl_proxy_gets_the_user_to_act_as_and_never_a_token_and_that_is_logged() {
    let server = ApiServer {
        tls: false,
        host: "127.0.0.1".into(),
        port: 8001,
    };
    let discover = |flags| Access::discover(&flags, Some(&server), Path::new("/"), nothing);
    let jane = KubeconfigFlags {
        impersonate: Some("jane".into()),
        ..KubeconfigFlags::default()
    };
    assert_eq!(discover(jane).ok().unwrap().0.impersonation.len(), 1);
    let token = KubeconfigFlags {
        token: Some(Secret::new("canary")),
        ..KubeconfigFlags::default()
    };
    assert_eq!(
        message(discover(token)),
        "--token: it is never sent over plain http, as to http://127.0.0.1:8001; leave it out, or \
         use https"
    );
}

#[test]
fn what_is_missing_is_named_with_its_cure() {
    let flags = KubeconfigFlags::default();
    assert!(message(discover(&flags, nothing)).contains("KUBERNETES_SERVICE_HOST is not set"));
    let none = discover(&flags, pod("10.0.0.1"));
    assert!(message(none).contains("\"/nonexistent/token\": No such file"));
    let env = |name: &str| match name {
        "KUBERNETES_SERVICE_HOST" => Some("10.0.0.1".to_owned()),
        "KUBERNETES_SERVICE_PORT" => Some("https\n".to_owned()),
        _ => None,
    };
    assert_eq!(
        message(discover(&flags, env)),
        "KUBERNETES_SERVICE_PORT=\"https\": not a port; use e.g. 443"
    );
}

/// A kubeconfig of one context, whose server is called `name`.
fn kubeconfig(name: &str) -> String {
    format!(
        "current-context: a\n\
         contexts: [{{name: a, context: {{cluster: c, user: u, namespace: of-{name}}}}}]\n\
         clusters: [{{name: c, cluster: {{server: 'https://{name}', \
         certificate-authority-data: Y2E=}}}}]\n\
         users: [{{name: u, user: {{token: canary}}}}]\n"
    )
}

#[test]
fn flags_come_before_the_environment_and_that_before_the_home_and_that_before_the_pod() {
    let directory = pod_directory("access-order");
    std::fs::create_dir_all(directory.0.join(".kube")).unwrap();
    for (file, name) in [("flag", "flag"), ("env", "env"), (".kube/config", "home")] {
        directory.write(file, kubeconfig(name));
    }
    directory.write("empty", "");
    let path = |name: &str| directory.0.join(name).to_string_lossy().into_owned();
    let absent = path("absent");
    for (label, flag, env, home, pod, expected) in [
        (
            "a flag",
            Some(path("flag")),
            Some(path("env")),
            true,
            true,
            "flag",
        ),
        ("no flag", None, Some(path("env")), true, true, "env"),
        ("neither", None, None, true, true, "home"),
        ("no kubeconfig at all", None, None, false, true, "10.96.0.1"),
        (
            "a list, its first file missing",
            Some(format!("{absent}:{}", path("env"))),
            None,
            true,
            true,
            "env",
        ),
        (
            "a flag that leads nowhere",
            Some(absent.clone()),
            None,
            true,
            true,
            "No such file",
        ),
        (
            "a variable that leads nowhere",
            None,
            Some(absent.clone()),
            true,
            true,
            "No such file",
        ),
        (
            "an empty file that is named",
            Some(path("empty")),
            None,
            true,
            true,
            "no current-context",
        ),
        (
            "nothing anywhere",
            None,
            None,
            false,
            false,
            "this is not a pod",
        ),
    ] {
        let flags = KubeconfigFlags {
            kubeconfig: flag,
            ..KubeconfigFlags::default()
        };
        let env = |name: &str| match name {
            "KUBECONFIG" => env.clone(),
            "HOME" => home.then(|| path("")),
            "KUBERNETES_SERVICE_HOST" => pod.then(|| "10.96.0.1".to_owned()),
            _ => None,
        };
        match Access::discover(&flags, None, &directory.0, env) {
            Ok((access, _)) => assert_eq!(access.server.host, expected, "{label}"),
            Err(error) => assert!(error.to_string().contains(expected), "{label}: {error}"),
        }
    }
    directory.write(".kube/config", "apiVersion: v1\nkind: Config\n");
    let env = |name: &str| match name {
        "HOME" => Some(path("")),
        name => self::pod("10.96.0.1")(name),
    };
    let found = Access::discover(&KubeconfigFlags::default(), None, &directory.0, env);
    assert_eq!(
        found.ok().unwrap().0.server.host,
        "10.96.0.1",
        "an empty file at home"
    );
    let env = |name: &str| match name {
        "HOME" => Some(path("empty")),
        name => self::pod("10.96.0.1")(name),
    };
    let found = Access::discover(&KubeconfigFlags::default(), None, &directory.0, env);
    assert_eq!(
        found.ok().unwrap().0.server.host,
        "10.96.0.1",
        "a home that is no directory"
    );
}

/// What becomes of a kubeconfig of one cluster and one user.
fn access_of(cluster: &str, user: &str, flags: KubeconfigFlags) -> Found {
    let directory = Directory::new(&format!("access-of-{}", unique()));
    let text = format!(
        "{{current-context: a, contexts: [{{name: a, context: {{cluster: c, user: u}}}}], \
         clusters: [{{name: c, cluster: {cluster}}}], users: [{{name: u, user: {user}}}]}}"
    );
    let path = directory.write("config", text);
    let flags = KubeconfigFlags {
        kubeconfig: Some(path.to_string_lossy().into_owned()),
        ..flags
    };
    discover(&flags, nothing)
}

fn unique() -> usize {
    static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

const CLUSTER: &str = "{server: 'https://kube.example:6443/k8s/c-1/', \
                       certificate-authority-data: Y2E=, tls-server-name: kube}";

fn plain_flags() -> KubeconfigFlags {
    KubeconfigFlags::default()
}

#[test]
fn a_kubeconfig_gives_server_roots_identity_and_namespace() {
    let user = "{client-certificate-data: Y2hhaW4=, client-key-data: a2V5, token: t}";
    let (access, namespace) = access_of(CLUSTER, user, plain_flags()).ok().unwrap();
    assert_eq!(access.server.to_string(), "https://kube.example:6443");
    assert_eq!(access.prefix, "/k8s/c-1");
    assert_eq!(access.tls_name.as_deref(), Some("kube"));
    let is = |pem: &Pem, text: &[u8]| matches!(pem, Pem::Fixed(_, pem) if pem == text);
    assert!(is(&access.roots.unwrap(), b"ca"));
    let client = access.client.unwrap();
    assert!(is(&client.chain, b"chain") && is(&client.key, b"key"));
    assert!(matches!(access.token, TokenSource::Fixed(_)));
    assert_eq!(namespace.as_deref(), Some("default"), "as kubectl has it");
}

#[test]
fn files_are_named_from_the_folder_of_the_kubeconfig_and_data_goes_before_a_file() {
    let directory = Directory::new("access-files");
    let text = "{current-context: a, contexts: [{name: a, context: {cluster: c, user: u}}], \
                clusters: [{name: c, cluster: {server: 'https://h', certificate-authority: ca}}], \
                users: [{name: u, user: {client-certificate: /abs/crt, client-certificate-data: \
                Y2hhaW4=, client-key: sub/key, tokenFile: token, token: inline}}]}";
    let path = directory.write("config", text);
    let flags = KubeconfigFlags {
        kubeconfig: Some(path.to_string_lossy().into_owned()),
        ..plain_flags()
    };
    let (access, _) = discover(&flags, nothing).ok().unwrap();
    let is_file =
        |pem: &Pem, name: &str| matches!(pem, Pem::File(path) if *path == directory.0.join(name));
    assert!(is_file(&access.roots.unwrap(), "ca"));
    let client = access.client.unwrap();
    assert!(matches!(client.chain, Pem::Fixed(..)));
    assert!(is_file(&client.key, "sub/key"));
    let TokenSource::File { path, fallback } = access.token else {
        panic!("tokenFile goes before token");
    };
    assert_eq!(path, directory.0.join("token"));
    assert!(fallback.is_some(), "until the file can be read");
}

#[test]
fn flags_replace_what_a_kubeconfig_says() {
    let user = "{tokenFile: t, exec: {command: c, apiVersion: client.authentication.k8s.io/v1}, \
                client-certificate-data: Y2hhaW4=, client-key-data: a2V5, as: jane}";
    let flags = KubeconfigFlags {
        server: Some("https://other".into()),
        token: Some(Secret::new("canary")),
        certificate_authority: Some("/ca".into()),
        client_certificate: Some("/crt".into()),
        client_key: Some("/key".into()),
        impersonate: Some("joe".into()),
        impersonate_groups: vec!["a".into(), "b".into()],
        request_timeout: Some(Duration::from_secs(2)),
        ..plain_flags()
    };
    let (access, _) = access_of(CLUSTER, user, flags).ok().unwrap();
    assert_eq!(access.server.to_string(), "https://other:443");
    assert_eq!(access.tls_name, None, "another server has another name");
    assert!(matches!(access.token, TokenSource::Fixed(_)));
    assert!(access.plugin.is_none());
    let is_file = |pem: &Pem, name: &str| matches!(pem, Pem::File(path) if path == Path::new(name));
    assert!(is_file(&access.roots.unwrap(), "/ca"));
    let client = access.client.unwrap();
    assert!(is_file(&client.chain, "/crt") && is_file(&client.key, "/key"));
    let headers = access.impersonation.iter();
    let headers: Vec<_> = headers
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect();
    let expected = [
        ("impersonate-user", "joe"),
        ("impersonate-group", "a"),
        ("impersonate-group", "b"),
    ];
    assert_eq!(headers, expected);
    assert_eq!(access.request_timeout, Some(Duration::from_secs(2)));
}

#[test]
fn flags_are_enough_without_a_kubeconfig_and_in_a_pod_they_replace_what_the_pod_says() {
    let directory = pod_directory("access-flags");
    let flags = KubeconfigFlags {
        server: Some("https://other:6443".into()),
        token: Some(Secret::new("canary")),
        certificate_authority: Some("/ca".into()),
        ..plain_flags()
    };
    let (access, namespace) = discover(&flags, nothing).ok().unwrap();
    assert_eq!((access.server.host.as_str(), namespace), ("other", None));
    let found = Access::discover(&flags, None, &directory.0, pod("10.96.0.1"));
    let (access, namespace) = found.ok().unwrap();
    assert_eq!(access.server.host, "other");
    assert_eq!(namespace.as_deref(), Some("shop"));
    assert!(matches!(access.token, TokenSource::Fixed(_)));
    let only_as = KubeconfigFlags {
        impersonate: Some("joe".into()),
        ..plain_flags()
    };
    let found = Access::discover(&only_as, None, &directory.0, pod("10.96.0.1"));
    let (access, _) = found.ok().unwrap();
    assert_eq!(access.impersonation.len(), 1);
    assert!(matches!(access.token, TokenSource::File { .. }));
}

#[test]
fn everything_that_a_user_may_act_as_becomes_a_header() {
    let user = "{token: t, as: jane, as-uid: '7', as-groups: [dev], \
                as-user-extra: {example.com/a%b: [one, two], Ü: [x]}}";
    let (access, _) = access_of(CLUSTER, user, plain_flags()).ok().unwrap();
    let headers = access.impersonation.iter();
    let headers: Vec<_> = headers
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect();
    let expected = [
        ("impersonate-user", "jane"),
        ("impersonate-uid", "7"),
        ("impersonate-group", "dev"),
        ("impersonate-extra-example.com%2fa%25b", "one"),
        ("impersonate-extra-example.com%2fa%25b", "two"),
        ("impersonate-extra-%c3%9c", "x"),
    ];
    assert_eq!(headers, expected);
}

#[test]
fn what_a_kubeconfig_wants_and_cannot_have_is_refused_with_the_reason_and_never_quoted() {
    let proxied = "{server: 'https://h', certificate-authority-data: Y2E=, proxy-url: 'http://p'}";
    let exec = |rest: &str| format!("{{exec: {{command: canary, {rest}}}}}");
    let v1 = "apiVersion: client.authentication.k8s.io/v1";
    for (cluster, user, why) in [
        (
            "{server: 'https://h', insecure-skip-tls-verify: true}",
            "{}",
            "would give the token to",
        ),
        (
            proxied,
            "{}",
            "proxy-url: the API server is only spoken to directly",
        ),
        (
            CLUSTER,
            "{auth-provider: {name: gcp}}",
            "auth-provider \"gcp\": client-go has dropped",
        ),
        (
            CLUSTER,
            "{username: canary, password: canary}",
            "no API server since 1.19 takes them",
        ),
        (
            CLUSTER,
            "{token: t, as-groups: [a]}",
            "groups go with a user",
        ),
        (
            CLUSTER,
            "{token: t, as: \"a\\nb\"}",
            "impersonation: \"a\\nb\" cannot be sent",
        ),
        (
            CLUSTER,
            "{token: \"canary\\nb\"}",
            "token: it has characters that no token has",
        ),
        (CLUSTER, "{client-key-data: a2V5}", "go together"),
        (
            CLUSTER,
            "{client-key-data: canary}",
            "client-key-data is not base64",
        ),
        ("{server: h}", "{}", "server \"h\": not an address"),
        ("{server: 'https://me:canary@h'}", "{}", "not an address"),
        (
            "{server: 'https://h'}",
            "{}",
            "has no certificate-authority",
        ),
        (
            "{server: 'http://h'}",
            "{}",
            "plain http is for `kubectl proxy`",
        ),
        (
            "{}",
            "{}",
            "it has no current-context, or none with a cluster that names a server",
        ),
        (CLUSTER, &exec("args: []"), "exec: its apiVersion is \"\""),
        (
            CLUSTER,
            &exec("apiVersion: client.authentication.k8s.io/v1alpha1"),
            "/v1alpha1\"; use client.authentication.k8s.io/v1 or",
        ),
        (
            CLUSTER,
            &exec(&format!("{v1}, interactiveMode: Always")),
            "there is no terminal here",
        ),
        (
            CLUSTER,
            &exec(&format!("{v1}, interactiveMode: Odd")),
            "interactiveMode is \"Odd\"",
        ),
        (
            CLUSTER,
            &format!("{{exec: {{{v1}}}}}"),
            "exec: it names no command",
        ),
    ] {
        let error = message(access_of(cluster, user, plain_flags()));
        assert!(error.starts_with("kubeconfig \"/"), "{error}");
        assert!(error.contains(why), "{why}: {error}");
        let secret = error.replace("server \"https://me:canary@h\"", "");
        assert!(!secret.contains("canary"), "{error}");
    }
}
