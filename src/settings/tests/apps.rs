//! The list of apps.

use super::*;
use crate::settings::apps::{MAX_APPS, MAX_LIST_LEN};

/// The settings of a process with a list of apps.
fn process(args: &[&str]) -> Settings {
    settings(&[&["--apps=/apps.json"], args].concat(), &[])
}

fn read(args: &[&str], text: &str) -> Vec<Settings> {
    let apps = process(args).read_apps(text.as_bytes(), "default");
    apps.unwrap_or_else(|errors| panic!("{text}: {errors}"))
}

fn lines(text: &str) -> Vec<String> {
    let errors = process(&[]).read_apps(text.as_bytes(), "default");
    let errors = errors.expect_err(text);
    errors.lines().map(str::to_owned).collect()
}

#[test]
fn an_entry_means_what_the_same_flags_mean() {
    let apps = read(
        &["--credentials=/c"],
        r#"[{"deployment": "shop", "listen": ":8080", "idle-ttl": 90, "single-proxy": true,
             "ignore-sources": ["10.0.0.0/8", "fd00::/8"], "wake-replicas": "previous"},
            {"scale-target": "statefulsets.apps/db", "namespace": "data", "service": "postgres",
             "listen": "5432=pg,5433=metrics", "min-awake": "10m"}]"#,
    );
    let shop = settings(
        &[
            "--deployment=shop",
            "--listen=:8080",
            "--idle-ttl=90",
            "--single-proxy",
            "--ignore-sources=10.0.0.0/8",
            "--ignore-sources=fd00::/8",
            "--wake-replicas=previous",
        ],
        &[],
    );
    let db = settings(
        &[
            "--scale-target=statefulsets.apps/db",
            "--service=postgres",
            "--namespace=data",
            "--listen=5432=pg,5433=metrics",
            "--min-awake=10m",
        ],
        &[],
    );
    let of_app = |settings: &Settings| {
        let own = TABLE.iter().filter(|row| row.scope == Scope::App);
        own.map(|row| (row.flag, (row.show)(settings)))
            .collect::<Vec<_>>()
    };
    let in_default = Settings {
        namespace: Some("default".into()),
        ..shop
    };
    assert_eq!(of_app(&apps[0]), of_app(&in_default));
    assert_eq!(of_app(&apps[1]), of_app(&db));
    assert_eq!(apps[0].rules, in_default.rules);
    assert_eq!(apps[0].credentials, PathBuf::from("/c"), "the process's");
}

#[test]
fn what_the_process_was_given_is_the_default_of_every_app() {
    let text = r#"[{"deployment": "a", "listen": ":1"},
                   {"deployment": "b", "listen": ":2", "idle-ttl": "5m",
                    "ignore-sources": "192.0.2.1"}]"#;
    let args = ["--idle-ttl=20m", "--ignore-sources=10.0.0.0/8", "-n=web"];
    let apps = read(&args, text);
    let seen = apps.iter().map(|app| {
        let ignored = app.rules.sources.ignored.to_string();
        (app.idle_ttl.as_secs(), ignored, app.namespace.as_deref())
    });
    assert_eq!(
        seen.collect::<Vec<_>>(),
        [
            (1200, "10.0.0.0/8".to_owned(), Some("web")),
            (300, "192.0.2.1/32".to_owned(), Some("web")),
        ]
    );
}

#[test]
fn a_process_with_a_list_needs_no_app_and_may_be_given_none() {
    assert_eq!(process(&[]).apps, Some(PathBuf::from("/apps.json")));
    assert_eq!(read(&[], "[]"), []);
    let env = [("ZPA_APPS", "/apps.json"), ("ZPA_SERVICE", "shop")];
    assert_eq!(
        errors(&["--deployment=shop", "--listen=:1", "--idle-ttl=x"], &env),
        [
            "--deployment=\"shop\": is of one app, and cannot be the default of several \
             (--apps (ZPA_APPS)); write it into the list",
            "ZPA_SERVICE=\"shop\": is of one app, and cannot be the default of several \
             (--apps (ZPA_APPS)); write it into the list",
            "--listen=\":1\": is of one app, and cannot be the default of several \
             (--apps (ZPA_APPS)); write it into the list",
            "--idle-ttl=\"x\": not a duration: a number is missing; use e.g. 90s, 5m, 1h30m",
        ]
    );
    let go = errors(
        &["--deployment=a", "--endpoints=a"],
        &[("ZPA_APPS", "/apps.json")],
    );
    assert_eq!(
        go[0],
        "--apps (ZPA_APPS): goes with zpa's own flags, and these are of zero-pod-autoscaler (Go)"
    );
}

#[test]
fn all_that_is_wrong_in_a_list_is_said_in_one_go() {
    let text = r#"[
        {"deployment": "a", "listen": ":1", "idle-ttl": "5x", "idel-ttl": "5m", "log": "debug",
         "max-per-source": null, "min-awake": ["1m"], "deny-sources": ["10.0.0.0/8", {}]},
        {"listen": ":1", "listen": ":2"},
        {"deployment": "c", "scale-target": "statefulsets.apps/c", "wake-replicas": 0},
        7,
        {"deployment": "Dot.ted", "listen": "8080", "service": ""}]"#;
    assert_eq!(
        lines(text),
        [
            "app 1 (\"a\"): \"idel-ttl\": there is no such setting; did you mean idle-ttl?",
            "app 1 (\"a\"): log: belongs to the process and not to an app; give it as --log \
             (ZPA_LOG)",
            "app 1 (\"a\"): max-per-source: is null, where a text, a number, true or false may \
             be; use e.g. 100",
            "app 1 (\"a\"): min-awake: is a list, where a text, a number, true or false may be; \
             use e.g. 0, 10m",
            "app 1 (\"a\"): deny-sources: is an object, where a text, a number, true or false or \
             a list of texts may be; use e.g. 10.0.0.0/8, 192.0.2.7,fd00::/8, @/etc/zpa/denied",
            "app 1 (\"a\"): idle-ttl=\"5x\": unknown unit \"x\"; use e.g. 90s, 5m, 1h30m",
            "app 2: \"listen\": is there twice",
            "app 2: deployment: is not set, nor is scale-target, and has no default; use e.g. \
             my-app",
            "app 3 (\"c\"): listen: is not set, and each app of a list has its own; use e.g. :8080",
            "app 3 (\"c\"): deployment and scale-target: both say what to scale; give one of them",
            "app 3 (\"c\"): wake-replicas=\"0\": is not a whole number from 1 to 2147483647; use \
             e.g. 1, 3, previous",
            "app 4: is a number, and no object with settings; use e.g. {\"deployment\": \
             \"my-app\", \"listen\": \":8080\"}",
            "app 5 (\"Dot.ted\"): deployment=\"Dot.ted\": has \"D\", where only lower-case \
             letters, digits and \"-\" may be; use e.g. my-app",
            "app 5 (\"Dot.ted\"): service: needs a value; use e.g. my-app",
            "app 5 (\"Dot.ted\"): listen=\"8080\": is a port alone; put a colon before it, \
             :8080; use e.g. :8080, 0.0.0.0:8080, [::1]:8080, 8080=http,5432=postgres",
        ]
    );
}

#[test]
fn two_apps_share_no_target_no_service_and_no_listener() {
    let text = r#"[
        {"deployment": "a", "listen": ":1"},
        {"deployment": "a", "listen": ":2", "namespace": "default"},
        {"deployment": "b", "listen": ":3", "service": "a"},
        {"deployment": "c", "listen": "127.0.0.1:1"},
        {"deployment": "a", "listen": ":4", "namespace": "other"},
        {"deployment": "d", "listen": "[::1]:8081"},
        {"deployment": "e", "listen": "9=http,2=db"}]"#;
    assert_eq!(
        lines(text),
        [
            "app 2 (\"a\"): deployments.apps/a: is what is scaled by app 1 (\"a\") too",
            "app 3 (\"b\"): service=a: is the Service of app 1 (\"a\") too",
            "app 3 (\"b\"): service=a: is the Service of app 2 (\"a\") too",
            "app 4 (\"c\"): listen=127.0.0.1:1: needs another port, or a server-name in both, \
             since that is of app 1 (\"a\") too",
            "app 6 (\"d\"): listen=[::1]:8081: is where the admin port is, which belongs to the \
             process; use another port, or give --admin-listen another",
            "app 7 (\"e\"): listen=[::]:2=db: needs another port, or a server-name in both, since \
             that is of app 2 (\"a\") too",
        ]
    );
    let apart = r#"[{"deployment": "a", "listen": "127.0.0.1:1"},
                    {"deployment": "b", "listen": "127.0.0.2:1"},
                    {"deployment": "c", "listen": "0.0.0.0:2"},
                    {"deployment": "d", "listen": "[::1]:2"},
                    {"deployment": "e", "listen": ":0"}, {"deployment": "f", "listen": ":0"}]"#;
    assert_eq!(read(&[], apart).len(), 6);
}

#[test]
fn apps_share_an_address_if_each_there_has_names_of_its_own() {
    let apart = r#"[
        {"deployment": "a", "listen": ":443", "server-name": "A.example, *.a.example"},
        {"deployment": "b", "listen": "443=https,5432=pg", "server-name": ["b.example", "*"]},
        {"deployment": "c", "listen": "[::]:443", "server-name": "www.a.example"},
        {"deployment": "d", "listen": "127.0.0.1:444", "server-name": "a.example"}]"#;
    let apps = read(&[], apart);
    let names = apps.iter().map(|app| app.server_names.to_string());
    let expected = [
        "a.example,*.a.example",
        "b.example,*",
        "www.a.example",
        "a.example",
    ];
    assert_eq!(names.collect::<Vec<_>>(), expected);
    let clashing = r#"[
        {"deployment": "a", "listen": ":443", "server-name": "a.example"},
        {"deployment": "b", "listen": ":443", "server-name": "b.example,A.example."},
        {"deployment": "c", "listen": ":443"},
        {"deployment": "d", "listen": "0.0.0.0:443", "server-name": "d.example"},
        {"deployment": "e", "listen": ":444", "server-name": "10.0.0.7"}]"#;
    assert_eq!(
        lines(clashing),
        [
            "app 5 (\"e\"): server-name=\"10.0.0.7\": is an IP address, and clients name servers by \
             host names alone; use e.g. db.example.com, shop.example.com,*.shop.example.com, *",
            "app 2 (\"b\"): server-name=a.example: needs another name, or another port, since at \
             [::]:443 that is of app 1 (\"a\") too",
            "app 3 (\"c\"): listen=[::]:443: needs another port, or a server-name in both, since \
             that is of app 1 (\"a\") too",
            "app 3 (\"c\"): listen=[::]:443: needs another port, or a server-name in both, since \
             that is of app 2 (\"b\") too",
            "app 4 (\"d\"): listen=0.0.0.0:443: needs to be [::]:443, since apps share a port by \
             server-name at one address only, and that is of app 1 (\"a\") too",
            "app 4 (\"d\"): listen=0.0.0.0:443: needs to be [::]:443, since apps share a port by \
             server-name at one address only, and that is of app 2 (\"b\") too",
            "app 4 (\"d\"): listen=0.0.0.0:443: needs another port, or a server-name in both, \
             since that is of app 3 (\"c\") too",
        ]
    );
}

#[test]
fn what_is_no_list_is_refused_and_so_is_one_that_is_too_long() {
    for (text, expected) in [
        (
            "",
            "is no JSON: EOF while parsing a value at line 1 column 0",
        ),
        ("[{]", "is no JSON: key must be a string at line 1 column 3"),
        ("{}", "is an object and no list of apps"),
        ("\"\u{7}\"", "is no JSON: control character"),
    ] {
        let found = lines(text);
        assert!(found[0].starts_with(expected), "{text}: {found:?}");
        assert_eq!(found.len(), 1);
    }
    let nested = "[".repeat(100_000);
    assert!(lines(&nested)[0].contains("recursion limit exceeded"));
    let many = format!("[{}0]", "0,".repeat(MAX_APPS));
    assert_eq!(lines(&many), ["the list has 4097 apps, and may have 4096"]);
    let long = " ".repeat(MAX_LIST_LEN + 1);
    assert_eq!(
        lines(&long),
        ["the list has 1048577 bytes, and may have 1048576"]
    );
}

#[test]
fn a_flood_of_errors_is_cut_short() {
    let text = format!("[{}0]", "0,".repeat(999));
    let found = lines(&text);
    assert_eq!(found.len(), 101);
    assert_eq!(found[100], "and 900 more errors");
    let line = format!(r#"[{{"{}\u001b": 1}}]"#, "x".repeat(500));
    assert!(lines(&line)[0].len() < 200, "{line}");
}

#[test]
fn no_secret_of_the_process_is_kept_for_its_apps() {
    let text = format!("{:?}", process(&["--token=hush"]).defaults);
    assert!(text.contains("apps") && !text.contains("hush"), "{text}");
}

#[test]
fn a_secret_of_an_app_is_a_default_and_its_own_and_never_shown() {
    let text = r#"[{"deployment": "a", "listen": ":1"},
                   {"deployment": "b", "listen": ":2", "webhook": "http://b.example/hush"}]"#;
    let apps = read(&["--webhook=https://all.example/hush"], text);
    let origins = apps
        .iter()
        .map(|app| app.webhook.as_ref().unwrap().origin());
    let origins: Vec<String> = origins.collect();
    assert_eq!(origins, ["https://all.example", "http://b.example"]);
    assert!(!format!("{apps:?}").contains("hush"));
    for app in &apps {
        let shown = in_force(app).find(|(flag, _)| *flag == "webhook");
        assert_eq!(shown, Some(("webhook", None)));
    }
    let wrong = r#"[{"deployment": "a", "listen": ":1", "webhook": "hush://a"}]"#;
    assert_eq!(
        lines(wrong),
        [
            "app 1 (\"a\"): webhook: does not begin with https:// or http://; use e.g. \
          https://hooks.example.com/T0/B0, http://my-app.default.svc:8080/zpa"
        ]
    );
}

proptest! {
    #[test]
    fn no_list_panics(text in "[\\[{\"a-z:, 0-9}\\]-]{0,60}") {
        let _ = process(&[]).read_apps(text.as_bytes(), "default");
    }
}
