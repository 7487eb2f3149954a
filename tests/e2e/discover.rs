//! Apps that are found by their Services.

use super::apps_file::{address, expect_status, renewals, status_of, three};
use super::*;

use serde_json::{Value, json};
use support::process::Process;
use support::sandbox::{Resource, Rule, SandboxApp, anything};

const LABEL: &str = "zero-pod-autoscaler/enabled";

pub(crate) fn start(sandbox: &Sandbox, settings: &[(&str, &str)]) -> Zpa {
    let mut command = command_of_apps(sandbox, settings);
    command.env("ZPA_DISCOVER", format!("{LABEL}=true"));
    Zpa::spawn_without_waiting(command)
}

/// Labels a Service, and gives it these annotations and no other of ours.
pub(crate) fn annotate(sandbox: &Sandbox, service: &str, annotations: &[(&str, &str)]) {
    sandbox.edit_service(service, |service| {
        service["metadata"]["labels"] = json!({ LABEL: "true" });
        service["metadata"]["annotations"] = json!({});
        for (name, value) in annotations {
            let name = format!("zero-pod-autoscaler/{name}");
            service["metadata"]["annotations"][name] = (*value).into();
        }
    });
}

const LISTEN: (&str, &str) = ("listen", "127.0.0.1:0");

/// Whether the apps that are not about to leave are these.
fn are(status: &Value, names: &[&str]) -> bool {
    let apps = status["apps"].as_array().unwrap().iter();
    let here = apps.filter(|app| app["leaving"] == false);
    let mut here: Vec<&str> = here
        .map(|app| app["app"]["name"].as_str().unwrap())
        .collect();
    here.sort_unstable();
    here == names
        .iter()
        .map(|name| format!("default/{name}"))
        .collect::<Vec<_>>()
}

#[track_caller]
fn expect_apps(zpa: &Zpa, names: &[&str]) {
    expect_status(zpa, &format!("the apps {names:?}"), |it| are(it, names));
}

/// What `/status` says is wrong with a Service.
fn wrong(status: &Value, service: &str) -> Option<Value> {
    let mut wrong = status["discovery"]["wrong"].as_array()?.iter();
    let service = format!("default/{service}");
    wrong.find(|it| it["service"] == *service).cloned()
}

#[track_caller]
fn expect_on_page(zpa: &Zpa, text: &str) {
    zpa.expect_page("/", text, |_, body| body.contains(text));
}

#[test]
fn each_service_with_label_and_annotation_is_an_app_that_wakes_and_sleeps_for_itself() {
    let sandbox = three(0);
    annotate(&sandbox, "myapp", &[LISTEN, ("idle-ttl", "1s")]);
    annotate(&sandbox, "blog", &[LISTEN]);
    annotate(&sandbox, "news", &[("idle-ttl", "1s")]);
    let zpa = start(&sandbox, &[LONG_TTL]);
    expect_apps(&zpa, &["blog", "myapp"]);
    zpa.expect_ready();
    let mut client = zpa.connect_to(address(&zpa, "myapp"));
    echo(&mut client, "shop");
    echo(&mut zpa.connect_to(address(&zpa, "blog")), "blog");
    drop(client);
    sandbox.expect("it sleeps after its own TTL", |it| it.replicas() == 0);
    assert_eq!(
        sandbox.state().replicas_of("blog"),
        1,
        "the other's is long"
    );
    let discovery = zpa.status()["discovery"].clone();
    assert_eq!(
        discovery,
        json!({ "services": format!("{LABEL}=true"), "problem": null, "without_listen": 1,
                "wrong_services": 0, "wrong": [] })
    );
    expect_metrics(
        &zpa,
        &[
            ("zpa_apps", 2.0),
            ("zpa_services{state=\"in_force\"}", 2.0),
            ("zpa_services{state=\"wrong\"}", 0.0),
            ("zpa_services_watched", 1.0),
            ("zpa_idle_ttl_seconds{app=\"default/myapp\"}", 1.0),
            ("zpa_idle_ttl_seconds{app=\"default/blog\"}", 3600.0),
        ],
    );
}

#[test]
fn a_service_that_appears_changes_or_goes_is_followed_by_the_watch_alone() {
    let sandbox = three(1);
    annotate(&sandbox, "myapp", &[LISTEN]);
    let zpa = start(&sandbox, &[LONG_TTL]);
    expect_apps(&zpa, &["myapp"]);
    let mut kept = zpa.connect_to(address(&zpa, "myapp"));
    echo(&mut kept, "before");
    let renewed = renewals(&sandbox);

    let follows = |what: &str, over: &dyn Fn(&Value) -> bool| expect_status(&zpa, what, over);
    annotate(&sandbox, "blog", &[LISTEN]);
    follows("one appears", &|it| are(it, &["blog", "myapp"]));
    echo(&mut zpa.connect_to(address(&zpa, "blog")), "new");
    let blog = address(&zpa, "blog");
    annotate(&sandbox, "blog", &[LISTEN, ("idle-ttl", "30m")]);
    follows("one changes", &|it| {
        let apps = it["apps"].as_array().unwrap().iter();
        apps.into_iter()
            .any(|app| app["settings"]["idle-ttl"] == "30m0s")
    });
    assert_eq!(address(&zpa, "blog"), blog, "it goes on");
    sandbox.edit_service("blog", |it| it["metadata"]["labels"] = json!({}));
    follows("one loses its label", &|it| are(it, &["myapp"]));
    let refused = TcpStream::connect(blog).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    annotate(&sandbox, "news", &[LISTEN]);
    follows("another appears", &|it| are(it, &["myapp", "news"]));
    sandbox.delete_service_of("news");
    follows("one goes", &|it| are(it, &["myapp"]));

    echo(&mut kept, "after");
    assert_eq!(renewals(&sandbox), renewed, "its lease is the one it had");
    let by_label = |verb| on(verb, "services").with(|it| it.query.contains("labelSelector="));
    assert_eq!(sandbox.count(&by_label("list")), 1);
    assert_eq!(sandbox.count(&by_label("watch")), 1);
}

#[test]
fn a_wrong_annotation_concerns_its_app_alone_and_all_say_so() {
    let sandbox = three(1);
    annotate(&sandbox, "myapp", &[LISTEN]);
    annotate(&sandbox, "blog", &[LISTEN, ("idle-tll", "5m")]);
    let zpa = start(&sandbox, &[LONG_TTL]);
    expect_apps(&zpa, &["myapp"]);
    zpa.expect_ready();
    let why = "\"zero-pod-autoscaler/idle-tll\": there is no such setting; did you mean \
               zero-pod-autoscaler/idle-ttl?";
    zpa.expect_log(&format!("the Service default/blog: {why}"));
    let status = zpa.status();
    let expected = json!({ "service": "default/blog", "why": [why],
                           "earlier_app_in_force": false });
    assert_eq!(wrong(&status, "blog"), Some(expected));
    assert_eq!(status["discovery"]["wrong_services"], 1);
    assert_eq!(zpa.metric("zpa_services{state=\"wrong\"}"), Some(1.0));
    expect_on_page(&zpa, "The Service default/blog is not in force: &quot;zero");

    annotate(&sandbox, "blog", &[LISTEN]);
    expect_apps(&zpa, &["blog", "myapp"]);
    let mut kept = zpa.connect_to(address(&zpa, "blog"));
    echo(&mut kept, "before");
    annotate(&sandbox, "blog", &[LISTEN, ("hold-timeout", "x")]);
    expect_status(&zpa, "it is wrong, and goes on", |it| {
        wrong(it, "blog").is_some_and(|it| it["earlier_app_in_force"] == true)
    });
    expect_on_page(&zpa, "The Service default/blog is wrong, and its app stays");
    echo(&mut kept, "after");
    echo(&mut zpa.connect_to(address(&zpa, "blog")), "as before");
    annotate(&sandbox, "blog", &[LISTEN, ("hold-timeout", "1m")]);
    zpa.expect_log("the Service default/blog: nothing is wrong any more");
    expect_status(&zpa, "nothing is wrong", |it| wrong(it, "blog").is_none());
    assert_eq!(
        warnings(&zpa, "the Service default/blog"),
        2,
        "one line each"
    );
}

#[test]
fn what_is_wrong_is_one_event_on_the_service_whatever_the_number_of_proxies() {
    let sandbox = three(1);
    annotate(&sandbox, "myapp", &[LISTEN]);
    annotate(&sandbox, "blog", &[LISTEN, ("idle-ttl", "5x")]);
    let first = start(&sandbox, &[LONG_TTL]);
    let second = start(&sandbox, &[LONG_TTL]);
    for zpa in [&first, &second] {
        zpa.expect_log("the Service default/blog: zero-pod-autoscaler/idle-ttl=\"5x\"");
    }
    let created = |status| on("create", "events").with(move |it| it.status == Some(status));
    sandbox.expect("one is created, and the other is the same", |state| {
        (state.count(&created(201)), state.count(&created(409))) == (1, 1)
    });
    let state = sandbox.state();
    let event = state.store.list(Resource::Events).next().unwrap();
    let service = state.store.get(Resource::Services, "blog").unwrap();
    assert_eq!(event["regarding"]["uid"], service["metadata"]["uid"]);
    assert_eq!(event["regarding"]["kind"], "Service");
    assert_eq!(event["type"], "Warning");
    let note = event["note"].as_str().unwrap();
    assert!(
        note.starts_with("zero-pod-autoscaler/idle-ttl=\"5x\": unknown unit"),
        "{note}"
    );
}

#[test]
fn without_the_permission_to_create_events_all_else_is_as_ever() {
    let sandbox = three(1);
    sandbox.deny("create", "events");
    annotate(&sandbox, "myapp", &[LISTEN]);
    annotate(&sandbox, "blog", &[LISTEN, ("idle-ttl", "5x")]);
    let zpa = start(&sandbox, &[LONG_TTL]);
    zpa.expect_log("no Event can be created (403 events.events.k8s.io is forbidden");
    expect_apps(&zpa, &["myapp"]);
    zpa.expect_ready();
    assert!(wrong(&zpa.status(), "blog").is_some());
    assert_eq!(warnings(&zpa, "Event"), 0);
}

#[test]
fn the_role_of_the_fleet_grants_all_that_is_asked() {
    let sandbox = three(0);
    sandbox.set_rules(fleet_role());
    annotate(&sandbox, "myapp", &[LISTEN, ("idle-ttl", "1s")]);
    annotate(&sandbox, "blog", &[LISTEN]);
    annotate(&sandbox, "news", &[LISTEN, ("idle-ttl", "5x")]);
    let zpa = start(&sandbox, &[LONG_TTL]);
    expect_apps(&zpa, &["blog", "myapp"]);
    echo(&mut zpa.connect_to(address(&zpa, "myapp")), "woken");
    sandbox.expect("it sleeps again", |it| it.replicas() == 0);
    sandbox.expect("an Event", |it| {
        let events = it.store.list(Resource::Events);
        let of_services = events.filter(|event| event["regarding"]["kind"] == "Service");
        of_services.count() == 1
    });
    let refused = sandbox.requests(&anything().with(|it| it.status == Some(403)));
    assert!(refused.is_empty(), "{refused:?}");
}

#[test]
fn of_two_apps_that_ask_for_one_port_the_older_has_it() {
    let sandbox = three(1);
    let port = {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        taken.local_addr().unwrap().port()
    };
    let listen = format!("127.0.0.1:{port}");
    for (name, created) in [("myapp", "2026-01-02"), ("blog", "2026-01-01")] {
        annotate(&sandbox, name, &[("listen", &listen)]);
        let created = format!("{created}T00:00:00Z");
        sandbox.edit_service(name, |it| {
            it["metadata"]["creationTimestamp"] = created.into()
        });
    }
    let zpa = start(&sandbox, &[LONG_TTL]);
    expect_apps(&zpa, &["blog"]);
    zpa.expect_log(&format!(
        "the Service default/myapp: listen={listen}: needs another port, or a server-name in both, \
         since that is of the older Service default/blog too"
    ));
    let mut kept = zpa.connect_to(address(&zpa, "blog"));
    echo(&mut kept, "before");
    sandbox.delete_service_of("blog");
    expect_apps(&zpa, &["myapp"]);
    let mut taken_over = zpa.connect_to(address(&zpa, "myapp"));
    echo(&mut taken_over, "the port is handed on");
    assert_eq!(address(&zpa, "myapp").port(), port);
    assert!(wrong(&zpa.status(), "myapp").is_none());
}

/// The kernel lets nobody listen at both, not even the same process.
#[test]
fn the_older_app_has_the_port_at_an_address_that_overlaps_too() {
    let sandbox = three(1);
    let port = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port()
    };
    for (name, created) in [("myapp", "2026-01-02"), ("blog", "2026-01-01")] {
        let created = format!("{created}T00:00:00Z");
        sandbox.edit_service(name, |it| {
            it["metadata"]["creationTimestamp"] = created.into()
        });
    }
    annotate(&sandbox, "myapp", &[("listen", &format!("0.0.0.0:{port}"))]);
    let zpa = start(&sandbox, &[LONG_TTL]);
    expect_apps(&zpa, &["myapp"]);
    let listen = format!("127.0.0.1:{port}");
    annotate(&sandbox, "blog", &[("listen", &listen)]);
    expect_apps(&zpa, &["blog"]);
    let at = address(&zpa, "blog");
    assert_eq!(at.to_string(), listen);
    echo(&mut zpa.connect_to(at), "it is the older one's");
    assert!(wrong(&zpa.status(), "blog").is_none());
    assert!(wrong(&zpa.status(), "myapp").is_some());
    expect_on_page(&zpa, "The Service default/myapp is not in force: ");
}

#[test]
fn an_address_that_is_in_use_concerns_its_app_alone_until_it_is_free() {
    let sandbox = three(1);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    annotate(&sandbox, "myapp", &[LISTEN]);
    annotate(&sandbox, "blog", &[("listen", &listen)]);
    let zpa = start(&sandbox, &[LONG_TTL]);
    expect_apps(&zpa, &["myapp"]);
    zpa.expect_log(&format!(
        "the Service default/blog: zero-pod-autoscaler/listen {listen}: Address already in use"
    ));
    drop(taken);
    expect_apps(&zpa, &["blog", "myapp"]);
    assert!(wrong(&zpa.status(), "blog").is_none());
}

#[test]
fn apps_that_share_an_address_that_is_in_use_are_all_in_force_once_it_is_free() {
    let sandbox = three(1);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    annotate(&sandbox, "myapp", &[LISTEN]);
    for name in ["blog", "news"] {
        let server_name = format!("{name}.example.com");
        let annotations = [("listen", &*listen), ("server-name", &*server_name)];
        annotate(&sandbox, name, &annotations);
    }
    let zpa = start(&sandbox, &[LONG_TTL]);
    expect_apps(&zpa, &["myapp"]);
    for name in ["blog", "news"] {
        zpa.expect_log(&format!(
            "the Service default/{name}: zero-pod-autoscaler/listen {listen}: Address already in use"
        ));
    }
    drop(taken);
    expect_apps(&zpa, &["blog", "myapp", "news"]);
    assert_eq!(zpa.status()["discovery"]["wrong"], json!([]));
}

#[test]
fn a_target_is_what_its_annotation_names() {
    let sandbox = three(0);
    sandbox.edit_service("myapp", |it| {
        it["spec"]["selector"] = json!({ "app": "blog" })
    });
    annotate(
        &sandbox,
        "news",
        &[LISTEN, ("target", "deployments.apps/missing")],
    );
    annotate(
        &sandbox,
        "blog",
        &[LISTEN, ("target", "deployments.apps/blog")],
    );
    let zpa = start(&sandbox, &[LONG_TTL]);
    expect_apps(&zpa, &["blog", "missing"]);
    echo(&mut zpa.connect_to(address(&zpa, "blog")), "woken");
    assert_eq!(sandbox.state().replicas_of("blog"), 1);
    expect_status(&zpa, "its troubles are its own", |it| {
        let apps = it["apps"].as_array().unwrap().iter();
        let ready = |name: &str| {
            let mut apps = apps.clone();
            apps.find(|app| app["app"]["name"] == format!("default/{name}").as_str())
                .map(|app| app["ready"] == true)
        };
        ready("blog") == Some(true) && ready("missing") == Some(false) && it["ready"] == true
    });
    assert!(
        status_of(&zpa, "news").is_none(),
        "an app has the name of what is scaled"
    );
}

#[test]
fn a_proxy_that_was_ready_without_an_app_stays_so_whatever_its_first_one_is_like() {
    let sandbox = three(1);
    let zpa = start(&sandbox, &[LONG_TTL]);
    zpa.expect_ready();
    annotate(
        &sandbox,
        "myapp",
        &[LISTEN, ("target", "deployments.apps/missing")],
    );
    expect_status(&zpa, "the app has troubles, and the process none", |it| {
        let apps = it["apps"].as_array().unwrap();
        let reasons = apps.first().map(|app| app["not_ready_because"].to_string());
        reasons.is_some_and(|it| it.contains("not found")) && it["ready"] == true
    });
    zpa.expect_ready();
}

#[test]
fn without_the_permission_the_proxy_is_not_ready_and_says_why() {
    let sandbox = three(1);
    annotate(&sandbox, "myapp", &[LISTEN]);
    sandbox.deny("list", "services");
    let zpa = start(&sandbox, &[LONG_TTL]);
    zpa.expect_page("/readyz", "why", |status, body| {
        status == 503 && body.contains("the Services cannot be listed: 403")
    });
    assert_eq!(zpa.metric("zpa_services_watched"), Some(0.0));
    sandbox.allow_all();
    zpa.expect_ready();
    expect_apps(&zpa, &["myapp"]);
}

#[test]
fn apps_outlive_an_outage_and_what_has_changed_meanwhile_is_followed() {
    let sandbox = three(1);
    annotate(&sandbox, "myapp", &[LISTEN]);
    annotate(&sandbox, "blog", &[LISTEN]);
    let zpa = start(&sandbox, &[LONG_TTL]);
    expect_apps(&zpa, &["blog", "myapp"]);
    let mut kept = zpa.connect_to(address(&zpa, "myapp"));
    echo(&mut kept, "before");
    sandbox.api_down();
    expect_status(&zpa, "the outage", |it| {
        !it["discovery"]["problem"].is_null()
    });
    assert!(are(&zpa.status(), &["blog", "myapp"]));
    sandbox.delete_service_of("blog");
    annotate(&sandbox, "news", &[LISTEN]);
    sandbox.api_up();
    expect_apps(&zpa, &["myapp", "news"]);
    expect_status(&zpa, "it is over", |it| {
        it["discovery"]["problem"].is_null()
    });
    echo(&mut kept, "after");
}

/// What `manifests/fleet` grants in one namespace, and `manifests/fleet-all-namespaces` in all,
/// as their tests say.
pub(crate) fn fleet_role() -> Vec<Rule> {
    vec![
        Rule::new("apps", &["deployments"], &["get", "list", "watch"]),
        Rule::new(
            "apps",
            &["deployments/scale", "deployments/status"],
            &["patch"],
        ),
        Rule::new("", &["services"], &["get", "list", "watch"]),
        Rule::new("discovery.k8s.io", &["endpointslices"], &["list", "watch"]),
        Rule::new("events.k8s.io", &["events"], &["create", "patch"]),
    ]
}

#[test]
fn all_namespaces_are_served_with_two_lists_and_watches_by_a_cluster_role() {
    let sandbox = Sandbox::start(Options {
        further_apps: ["dev", "test"]
            .map(|namespace| SandboxApp::new(&format!("of-{namespace}"), 0).within(namespace))
            .to_vec(),
        ..Options::default()
    });
    sandbox.set_rules(Vec::new());
    sandbox.set_cluster_rules(fleet_role());
    annotate(&sandbox, "myapp", &[LISTEN]);
    for (namespace, annotations) in [
        (
            "dev",
            json!({ "zero-pod-autoscaler/listen": "127.0.0.1:0",
                        "zero-pod-autoscaler/idle-ttl": "1s" }),
        ),
        (
            "test",
            json!({ "zero-pod-autoscaler/listen": "127.0.0.1:0x" }),
        ),
    ] {
        sandbox.edit_service_in(namespace, &format!("of-{namespace}"), |service| {
            service["metadata"]["labels"] = json!({ LABEL: "true" });
            service["metadata"]["annotations"] = annotations;
        });
    }
    let zpa = start(&sandbox, &[LONG_TTL, ("ZPA_NAMESPACE", "*")]);
    zpa.expect_log("in all namespaces");
    let address_of = |name: &str| {
        expect_status(&zpa, name, |it| {
            let mut apps = it["apps"].as_array().unwrap().iter();
            apps.any(|app| app["app"]["name"] == *name)
        });
        let status = zpa.status();
        let mut apps = status["apps"].as_array().unwrap().iter();
        let app = apps.find(|app| app["app"]["name"] == *name).unwrap();
        let listen = app["ports"][0]["listen"].as_str().unwrap();
        listen.parse::<std::net::SocketAddr>().unwrap()
    };
    zpa.expect_ready();
    let mut home = zpa.connect_to(address_of("default/myapp"));
    echo(&mut home, "at home");
    echo(&mut zpa.connect_to(address_of("dev/of-dev")), "elsewhere");
    sandbox.expect("it sleeps again", |it| {
        it.ready_pods_of("of-dev") == 0 && it.replicas_of("of-dev") == 0
    });
    assert_eq!(sandbox.state().replicas(), 1);
    sandbox.expect("an Event in its namespace", |it| {
        it.store
            .get_in("test", Resource::Services, "of-test")
            .is_some()
            && it.count(&on("create", "events").with(|it| it.path.contains("/test/"))) == 1
    });
    let zpa_app = "zpa_connections_total{app=\"dev/of-dev\"}";
    assert_eq!(zpa.metric(zpa_app), Some(1.0));
    let refused = sandbox.requests(&anything().with(|it| it.status == Some(403)));
    assert!(refused.is_empty(), "{refused:?}");
    for resource in ["services", "endpointslices", "deployments"] {
        let watches = sandbox.requests(&on("watch", resource));
        let all = watches.iter().all(|it| !it.path.contains("/namespaces/"));
        assert!(!watches.is_empty() && all, "{watches:?}");
    }
    echo(&mut home, "still");
}

#[test]
fn an_app_that_is_to_be_tried_again_costs_no_processor_time_while_the_others_drain() {
    let sandbox = three(1);
    annotate(&sandbox, "myapp", &[LISTEN]);
    annotate(&sandbox, "blog", &[("listen", "192.0.2.1:80")]);
    let zpa = start(&sandbox, &[LONG_TTL, ("ZPA_DRAIN_TIMEOUT", "1m")]);
    expect_status(&zpa, "blog is wrong", |it| wrong(it, "blog").is_some());
    let mut client = zpa.connect_to(address(&zpa, "myapp"));
    echo(&mut client, "before");
    zpa.signal("TERM");
    zpa.expect_log("SIGTERM");
    // It would have been tried again after 5 s.
    std::thread::sleep(Duration::from_secs(6));
    let before = Process(zpa.id()).cpu_seconds().unwrap();
    std::thread::sleep(Duration::from_secs(1));
    let used = Process(zpa.id()).cpu_seconds().unwrap() - before;
    assert!(used < 0.2, "{used} s of one");
    echo(&mut client, "meanwhile");
}

/// The file is one of the process, and the Services do not change.
#[test]
fn a_file_of_sources_of_all_apps_is_followed() {
    let sandbox = three(1);
    for service in ["myapp", "blog"] {
        annotate(&sandbox, service, &[LISTEN]);
    }
    let name = format!("zpa-discover-sources-{}", std::process::id());
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, "127.0.0.0/8").unwrap();
    let denied = format!("@{}", path.display());
    let zpa = start(&sandbox, &[LONG_TTL, ("ZPA_DENY_SOURCES", &denied)]);
    expect_apps(&zpa, &["blog", "myapp"]);
    for app in ["myapp", "blog"] {
        expect_reset(&mut zpa.connect_to(address(&zpa, app)));
    }
    std::fs::write(&path, "192.0.2.1").unwrap();
    zpa.expect_log("are in force");
    // Also after a change of something else, which brings all Services again.
    annotate(&sandbox, "blog", &[LISTEN, ("hold-timeout", "1m")]);
    zpa.expect_log("default/blog: settings changed");
    for app in ["myapp", "blog"] {
        echo(&mut zpa.connect_to(address(&zpa, app)), "let in");
    }
    std::fs::remove_file(&path).unwrap();
}
