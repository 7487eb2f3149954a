//! A list of apps, and its changes.

use super::*;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use support::sandbox::SandboxApp;

/// A list in a directory of its own, mounted as a ConfigMap is.
pub(crate) struct List {
    directory: PathBuf,
    version: usize,
}

impl List {
    pub fn new(name: &str, apps: &Value) -> List {
        let directory = format!("zpa-list-{name}-{}", std::process::id());
        let directory = std::env::temp_dir().join(directory);
        fs::create_dir_all(&directory).unwrap();
        std::os::unix::fs::symlink("..data/apps.json", directory.join("apps.json")).unwrap();
        let mut list = List {
            directory,
            version: 0,
        };
        list.set(&apps.to_string());
        list
    }

    pub fn path(&self) -> PathBuf {
        self.directory.join("apps.json")
    }

    /// Replaces the text as the kubelet does.
    pub fn set(&mut self, text: &str) {
        self.version += 1;
        let name = format!("..{}", self.version);
        fs::create_dir(self.directory.join(&name)).unwrap();
        fs::write(self.directory.join(&name).join("apps.json"), text).unwrap();
        let link = self.directory.join("..data_tmp");
        std::os::unix::fs::symlink(&name, &link).unwrap();
        fs::rename(&link, self.directory.join("..data")).unwrap();
    }
}

impl Drop for List {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// The app of the sandbox, and two others.
pub(crate) fn three(replicas: u32) -> Sandbox {
    let sandbox = Sandbox::start(Options {
        replicas,
        further_apps: ["blog", "news"]
            .map(|name| SandboxApp::new(name, replicas))
            .to_vec(),
        ..Options::default()
    });
    sandbox.expect("the pods are ready", |state| {
        let others = ["blog", "news"].map(|name| state.ready_pods_of(name));
        state.ready_pods() == replicas as usize && others == [replicas as usize; 2]
    });
    sandbox
}

pub(crate) fn start(sandbox: &Sandbox, list: &List, settings: &[(&str, &str)]) -> Zpa {
    let mut command = command_of_apps(sandbox, settings);
    command.env("ZPA_APPS", list.path());
    Zpa::spawn(command)
}

pub(crate) fn app(name: &str) -> Value {
    json!({ "deployment": name, "listen": "127.0.0.1:0" })
}

/// What `/status` says of an app.
pub(crate) fn status_of(zpa: &Zpa, name: &str) -> Option<Value> {
    let status = zpa.status();
    let mut apps = status["apps"].as_array().unwrap().iter();
    let name = format!("default/{name}");
    apps.find(|app| app["app"]["name"] == *name && app["leaving"] == false)
        .cloned()
}

pub(crate) fn address(zpa: &Zpa, name: &str) -> SocketAddr {
    let app = status_of(zpa, name).unwrap_or_else(|| panic!("{name} in {}", zpa.status()));
    app["ports"][0]["listen"].as_str().unwrap().parse().unwrap()
}

#[track_caller]
pub(crate) fn expect_status(zpa: &Zpa, what: &str, over: impl Fn(&Value) -> bool) {
    zpa.expect_page("/status", what, |_, body| {
        serde_json::from_str(body).is_ok_and(|status| over(&status))
    });
}

/// The renewals of the sandbox's own app.
pub(crate) fn renewals(sandbox: &Sandbox) -> usize {
    let all = on("patch", "deployments/status");
    let requests = sandbox.requests(&all);
    let own = requests.iter().filter(|it| it.path.contains("/myapp/"));
    own.count()
}

#[test]
fn each_app_of_a_list_wakes_by_its_own_listener_and_sleeps_by_its_own_clock() {
    let sandbox = three(0);
    let list = List::new(
        "wake",
        &json!([
            { "deployment": "myapp", "listen": "127.0.0.1:0", "idle-ttl": "1s" },
            app("blog"),
        ]),
    );
    let zpa = start(&sandbox, &list, &[LONG_TTL]);
    zpa.expect_ready();
    let mut client = zpa.connect_to(address(&zpa, "myapp"));
    echo(&mut client, "shop");
    expect_one_patch(&sandbox, 1);
    let state = |name| sandbox.state().replicas_of(name);
    assert_eq!((state("blog"), state("news")), (0, 0), "they sleep on");
    echo(&mut zpa.connect_to(address(&zpa, "blog")), "blog");
    drop(client);
    sandbox.expect("it sleeps after its own TTL", |it| it.replicas() == 0);
    assert_eq!(
        (state("blog"), state("news")),
        (1, 0),
        "the other's is long"
    );
    expect_metrics(
        &zpa,
        &[
            ("zpa_apps", 2.0),
            ("zpa_apps_list_wrong", 0.0),
            ("zpa_connections_total{app=\"default/myapp\"}", 1.0),
            ("zpa_connections_total{app=\"default/blog\"}", 1.0),
            ("zpa_idle_ttl_seconds{app=\"default/myapp\"}", 1.0),
            ("zpa_idle_ttl_seconds{app=\"default/blog\"}", 3600.0),
        ],
    );
}

#[test]
fn a_changed_list_starts_what_is_new_drains_what_is_gone_and_touches_nothing_else() {
    let sandbox = three(1);
    let mut list = List::new("change", &json!([app("myapp"), app("blog")]));
    let zpa = start(&sandbox, &list, &[LONG_TTL, ("ZPA_DRAIN_TIMEOUT", "2s")]);
    let (shop, blog) = (address(&zpa, "myapp"), address(&zpa, "blog"));
    let mut kept = zpa.connect_to(shop);
    let mut cut = zpa.connect_to(blog);
    echo(&mut kept, "before");
    echo(&mut cut, "before");
    let (renewed, started) = (renewals(&sandbox), status_of(&zpa, "myapp").unwrap());
    assert!(renewed > 0, "it has a lease");

    list.set(&json!([app("news"), app("myapp")]).to_string());
    zpa.expect_log("default/blog: drains: it is not in the list any more");
    echo(&mut zpa.connect_to(address(&zpa, "news")), "new");
    let refused = TcpStream::connect(blog).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    echo(&mut cut, "it may finish");
    expect_reset(&mut cut);
    zpa.expect_log("default/blog: removed, with 1 connection cut");
    expect_status(&zpa, "it is gone", |it| {
        it["apps"].as_array().is_some_and(|apps| apps.len() == 2)
    });
    assert_eq!(
        zpa.metric("zpa_connections_total{app=\"default/blog\"}"),
        None
    );

    echo(&mut kept, "after");
    assert_eq!(address(&zpa, "myapp"), shop);
    assert_eq!(renewals(&sandbox), renewed, "its lease is the one it had");
    let now = status_of(&zpa, "myapp").unwrap();
    assert_eq!(now["connections"], started["connections"]);
    assert_eq!(
        zpa.metric("zpa_apps_lists_total{result=\"taken\"}"),
        Some(1.0)
    );
    zpa.expect_ready();
}

/// The loop, the log, two for requests, two for watches.
#[test]
fn a_list_that_is_followed_takes_six_threads() {
    let sandbox = three(0);
    let mut list = List::new("threads", &json!([app("myapp"), app("blog")]));
    let zpa = start(&sandbox, &list, &[LONG_TTL]);
    list.set(&json!([app("news"), app("blog")]).to_string());
    zpa.expect_log("the list of apps");
    echo(&mut zpa.connect_to(address(&zpa, "news")), "new");
    let process = support::process::Process(zpa.id());
    assert_eq!(process.threads().unwrap().len(), 6);
}

#[test]
fn a_wrong_list_leaves_the_old_one_in_force_and_all_say_so() {
    let sandbox = three(1);
    let good = json!([app("myapp")]);
    let mut list = List::new("wrong", &good);
    let zpa = start(&sandbox, &list, &[LONG_TTL]);
    let mut kept = zpa.connect_to(address(&zpa, "myapp"));
    echo(&mut kept, "before");
    list.set(r#"[{"deployment": "myapp", "listen": "127.0.0.1:0", "idle-ttl": "5x"}, {}]"#);
    zpa.expect_log("the list of apps cannot be put into force, and the apps stay as they are");
    let why = "app 1 (\"myapp\"): idle-ttl=\"5x\": unknown unit \"x\"; use e.g. 90s, 5m, 1h30m";
    zpa.expect_log(why);
    zpa.expect_log("app 2: deployment: is not set");
    expect_status(&zpa, "what is wrong", |status| {
        let wrong = status["list"]["wrong"].as_array().unwrap();
        wrong.len() == 3 && wrong[0].as_str().unwrap().ends_with(why)
    });
    assert_eq!(zpa.metric("zpa_apps_list_wrong"), Some(1.0));
    let on_page = "The list of apps is wrong, and the one before is in force: ";
    zpa.expect_page("/", on_page, |_, body| body.contains(on_page));
    echo(&mut kept, "after");
    zpa.expect_ready();

    fs::remove_file(list.path()).unwrap();
    zpa.expect_log("cannot be read: No such file or directory");
    std::os::unix::fs::symlink("..data/apps.json", list.path()).unwrap();
    list.set(&good.to_string());
    expect_status(&zpa, "nothing is wrong", |it| {
        it["list"]["wrong"] == json!([])
    });
    assert_eq!(zpa.metric("zpa_apps_list_wrong"), Some(0.0));
    echo(&mut kept, "through all of it");
}

/// Another address is another listener, and what is relayed is drained; another TTL is not.
#[test]
fn an_app_that_changes_keeps_its_connections_unless_it_leads_elsewhere() {
    let sandbox = three(1);
    let mut list = List::new("live", &json!([app("myapp"), app("blog")]));
    let zpa = start(&sandbox, &list, &[LONG_TTL, ("ZPA_DRAIN_TIMEOUT", "1s")]);
    let (shop, blog) = (address(&zpa, "myapp"), address(&zpa, "blog"));
    let (mut kept, mut moved) = (zpa.connect_to(shop), zpa.connect_to(blog));
    echo(&mut kept, "before");
    echo(&mut moved, "before");
    list.set(
        &json!([
            { "deployment": "myapp", "listen": "127.0.0.1:0", "idle-ttl": "2s",
              "deny-sources": "127.0.0.9" },
            { "deployment": "blog", "listen": blog.to_string(), "port": "http" },
        ])
        .to_string(),
    );
    zpa.expect_log("default/myapp: settings changed; its idle time starts again");
    expect_reset(&mut moved);
    echo(&mut kept, "after");
    assert_eq!(address(&zpa, "myapp"), shop);
    assert_eq!(address(&zpa, "blog"), blog, "the listener was handed on");
    echo(&mut zpa.connect_to(blog), "anew");
    drop(kept);
    sandbox.expect("it sleeps by the new TTL", |it| it.replicas() == 0);
    assert_eq!(sandbox.state().replicas_of("blog"), 1);
}

/// The kernel lets nobody listen at both, not even the same process.
#[test]
fn an_address_may_become_one_that_contains_it_or_is_part_of_it() {
    let sandbox = three(1);
    let port = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port()
    };
    let at =
        |listen: &str| json!([{ "deployment": "myapp", "listen": format!("{listen}:{port}") }]);
    let mut list = List::new("wider", &at("127.0.0.1"));
    let zpa = start(&sandbox, &list, &[LONG_TTL]);
    let mut kept = zpa.connect_to(address(&zpa, "myapp"));
    echo(&mut kept, "before");
    for listen in ["0.0.0.0", "[::]", "127.0.0.1", "", "0.0.0.0"] {
        list.set(&at(listen).to_string());
        let expected = match listen {
            "" => format!("[::]:{port}"),
            ip => format!("{ip}:{port}"),
        };
        expect_status(&zpa, &expected, |status| {
            let mut apps = status["apps"].as_array().unwrap().iter();
            let stays = apps.find(|it| it["leaving"] == false).unwrap();
            status["list"]["wrong"] == json!([]) && stays["settings"]["listen"] == *expected
        });
        let mut anew = zpa.connect_to(([127, 0, 0, 1], port).into());
        echo(&mut anew, &expected);
        let accepted = &status_of(&zpa, "myapp").unwrap()["connections"]["accepted"];
        assert_eq!(
            *accepted, 1,
            "the first one of the app that has started anew"
        );
    }
    echo(&mut kept, "through all of it");
}

#[test]
fn the_troubles_of_an_app_are_not_those_of_the_process_nor_of_another_app() {
    let sandbox = three(1);
    let list = List::new("trouble", &json!([app("myapp"), app("missing")]));
    let zpa = start(&sandbox, &list, &[LONG_TTL]);
    zpa.expect_ready();
    expect_status(&zpa, "its troubles", |status| {
        let apps = status["apps"].as_array().unwrap();
        status["ready"] == true && apps[0]["ready"] == true && apps[1]["ready"] == false
    });
    expect_metrics(
        &zpa,
        &[
            ("zpa_ready", 1.0),
            ("zpa_app_ready{app=\"default/myapp\"}", 1.0),
            ("zpa_app_ready{app=\"default/missing\"}", 0.0),
        ],
    );
    let _held = zpa.connect_to(address(&zpa, "missing"));
    echo(&mut zpa.connect_to(address(&zpa, "myapp")), "as ever");
}

#[test]
fn an_address_that_is_in_use_keeps_the_old_list_until_it_is_free() {
    let sandbox = three(1);
    let mut list = List::new("in-use", &json!([app("myapp")]));
    let zpa = start(&sandbox, &list, &[LONG_TTL]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let blog = json!({ "deployment": "blog", "listen": address });
    list.set(&json!([blog]).to_string());
    zpa.expect_log(&format!(
        "default/blog: listen {address}: Address already in use"
    ));
    assert!(status_of(&zpa, "myapp").is_some(), "nothing was taken away");
    drop(taken);
    expect_status(&zpa, "it is tried again", |it| {
        it["list"]["wrong"] == json!([])
    });
    assert!(status_of(&zpa, "blog").is_some() && status_of(&zpa, "myapp").is_none());
}

#[test]
fn all_that_is_wrong_in_a_list_at_the_start_is_said_and_ends_it() {
    let sandbox = three(0);
    let list = List::new("start", &json!([{ "listen": ":1x", "log": "off" }]));
    let output = Command::new(env!("CARGO_BIN_EXE_zpa"))
        .env_clear()
        .envs(sandbox.env())
        .env_remove("ZPA_DEPLOYMENT")
        .env_remove("ZPA_SERVICE")
        .env("ZPA_APPS", list.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    let subject = format!("--apps (ZPA_APPS) {}: app 1: ", list.path().display());
    assert!(lines.iter().all(|line| line.contains(&subject)), "{text}");
}
