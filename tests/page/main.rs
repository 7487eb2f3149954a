//! The page at `/` in a real browser, where there is one (Debian's `chromium-driver`).
//! `ZPA_SCREENSHOTS` names a directory for pictures of it: `make page`.

mod browser;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use browser::{Browser, Look};
use serde_json::json;
use support::program::Zpa;
use support::sandbox::{Options, PodProgram, Sandbox};
use zpa::admin::page::{App, Next, Page, Problem, Slot, State, Wake};
use zpa::admin::{self, Pages};

const DESKTOP: [u32; 2] = [1024, 1180];
const PHONE: [u32; 2] = [360, 1500];

fn start(sandbox: &Sandbox) -> Zpa {
    let settings = [("ZPA_IDLE_TTL", "1h")];
    Zpa::start(env!("CARGO_BIN_EXE_zpa"), sandbox, &settings)
}

/// The URL of the page.
fn url(zpa: &Zpa) -> String {
    let line = zpa.expect_log("status on http://");
    let (_, address) = line.rsplit_once("http://").unwrap();
    format!("http://{address}/")
}

fn echo(client: &mut TcpStream) {
    client.write_all(b"hello").unwrap();
    client.read_exact(&mut [0; 5]).unwrap();
}

/// Somebody scales the app to zero.
fn settle_asleep(sandbox: &Sandbox) {
    sandbox.set_replicas(0);
    sandbox.expect("no pod", |state| state.pods() == 0);
}

#[test]
fn it_shows_a_wake_as_it_happens_and_nothing_goes_wrong() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let sandbox = Sandbox::start(Options::default());
    let zpa = start(&sandbox);
    zpa.expect_log("found at 0 replicas");
    browser.open(&url(&zpa));
    browser.expect_text("asleep", |text| {
        text.contains("Asleep") && text.contains("The next connection wakes it.")
    });
    browser.expect_text("it is live", |text| text.contains("Updates itself"));
    browser.run("window.isTheSame = true");

    // No pod is found until the endpoints have their port.
    sandbox.set_has_port(false);
    let mut client = zpa.connect();
    browser.expect_text("waking, and why that takes long", |text| {
        text.contains("Waking")
            && text.contains("1 connection waits for a pod")
            && text.contains("zpa explain PORT")
    });
    sandbox.set_has_port(true);
    echo(&mut client);
    browser.expect_text("awake, for a connection", |text| {
        text.contains("Awake") && text.contains("Stays awake: connections are open")
    });
    browser.expect_text("the wake", |text| text.contains("served"));
    assert_eq!(
        browser.run("return document.title"),
        json!("default/myapp: awake · zpa")
    );
    drop(client);
    browser.expect_text("when it sleeps", |text| {
        text.contains("Goes to sleep in 59 min")
    });
    settle_asleep(&sandbox);
    browser.expect_text("asleep again", |text| {
        text.contains("Asleep") && text.contains("somebody else")
    });
    assert_eq!(
        browser.run("return window.isTheSame"),
        json!(true),
        "it was never loaded again"
    );
    assert_eq!(browser.console(), Vec::<serde_json::Value>::new());
}

#[test]
fn it_can_be_read_by_everybody_light_and_dark_and_on_a_phone() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let sandbox = Sandbox::start(Options::default());
    sandbox.deny("*", "endpointslices");
    let zpa = start(&sandbox);
    zpa.expect_log("found at 0 replicas");
    let mut client = zpa.connect();
    echo(&mut client);
    browser.open(&url(&zpa));
    browser.expect_text("a wake and a problem", |text| {
        text.contains("served") && text.contains("zpa explain PERMISSION")
    });
    for (name, size, scheme) in [
        ("light", DESKTOP, "light"),
        ("dark", DESKTOP, "dark"),
        ("phone", PHONE, "light"),
        ("phone-dark", PHONE, "dark"),
    ] {
        browser.set_look(&Look { size, scheme });
        let wrong = browser.run(include_str!("accessible.js"));
        assert_eq!(wrong, json!([]), "{name}");
        browser.save_picture(name);
    }
    sandbox.allow_all();
    drop(client);
    settle_asleep(&sandbox);
    for (name, size, scheme) in [
        ("asleep-dark", DESKTOP, "dark"),
        ("asleep-light", DESKTOP, "light"),
    ] {
        browser.set_look(&Look { size, scheme });
        browser.expect_text("asleep", |text| {
            text.contains("The next connection wakes it.")
        });
        let wrong = browser.run(include_str!("accessible.js"));
        assert_eq!(wrong, json!([]), "{name}");
        browser.save_picture(name);
    }
}

#[test]
fn without_javascript_it_is_a_snapshot_that_says_the_same() {
    let Some(browser) = Browser::start_without_javascript() else {
        return;
    };
    let sandbox = Sandbox::start(Options::default());
    let zpa = start(&sandbox);
    zpa.expect_log("found at 0 replicas");
    let url = url(&zpa);
    browser.open(&url);
    browser.expect_text("asleep, at some time", |text| {
        text.contains("Asleep") && text.contains("Snapshot of")
    });
    let mut client = zpa.connect();
    echo(&mut client);
    zpa.expect_status("it is awake", |status| status["app"]["phase"] == "awake");
    browser.expect_text("nothing has changed by itself", |text| {
        text.contains("Asleep") && !text.contains("Updates itself")
    });
    browser.open(&url);
    browser.expect_text("awake, when it is loaded again", |text| {
        text.contains("Awake") && text.contains("Stays awake: connections are open")
    });
    let wrong = browser.run(include_str!("accessible.js"));
    assert_eq!(wrong, json!([]));
    assert_eq!(browser.console(), Vec::<serde_json::Value>::new());
}

/// The page that browsers get while the app starts.
#[test]
fn a_browser_waits_for_the_app_in_front_of_a_page_and_is_there_when_it_is() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let sandbox = Sandbox::start(Options {
        app: PodProgram::Http,
        ..Options::default()
    });
    sandbox.set_has_port(false);
    let settings = [("ZPA_IDLE_TTL", "1h"), ("ZPA_WAITING_PAGE", "built-in")];
    let zpa = Zpa::start(env!("CARGO_BIN_EXE_zpa"), &sandbox, &settings);
    zpa.expect_log("found at 0 replicas");
    browser.open(&format!("http://{}/here", zpa.address()));
    browser.expect_text("the page", |text| text.contains("myapp is starting"));
    for (name, size, scheme) in [
        ("waiting-light", DESKTOP, "light"),
        ("waiting-phone", PHONE, "dark"),
    ] {
        browser.set_look(&Look { size, scheme });
        let wrong = browser.run(include_str!("accessible.js"));
        // All that is wrong is that there is no more to read, which is meant.
        assert_eq!(wrong, json!(["only 2 texts"]), "{name}");
        browser.save_picture(name);
    }
    sandbox.expect("it is woken", |state| state.replicas() == 1);
    sandbox.set_has_port(true);
    browser.expect_text("the app", |text| text.contains("myapp-"));
    assert_eq!(browser.run("return location.pathname"), json!("/here"));
}

/// A proxy of which the page alone is known.
struct Painted(Page);

impl Pages for Painted {
    fn unready(&self) -> Vec<String> {
        Vec::new()
    }

    fn metrics(&self) -> (String, &'static str) {
        (String::new(), "text/plain")
    }

    fn status(&self) -> String {
        String::new()
    }

    fn page(&self) -> Page {
        self.0.clone()
    }

    fn ping_path(&self) -> Option<&str> {
        None
    }

    fn metrics_path(&self) -> Option<&str> {
        None
    }
}

/// Serves a page as the admin port does; returns its URL.
fn serve(page: Page) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
            let answer = loop {
                match client.read(&mut buffer) {
                    Ok(0) | Err(_) => break Vec::new(),
                    Ok(len) => request.extend_from_slice(&buffer[..len]),
                }
                if let Some(answer) = admin::answer(&request, &Painted(page.clone())) {
                    break answer;
                }
            };
            let _ = client.write_all(&answer);
        }
    });
    url
}

/// An office app: awake during the day, with a nap at noon.
fn painted(name: &str, state: State, next: Next) -> App {
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    let slot = |n: usize| match n {
        0..30 => Slot::default(),
        102 | 160 => Slot {
            asleep: 0.4,
            waking: 0.1,
            awake: 0.5,
        },
        103..148 | 161..200 | 280.. => Slot {
            awake: 1.0,
            ..Slot::default()
        },
        _ => Slot {
            asleep: 1.0,
            ..Slot::default()
        },
    };
    let wake = |hours: u64, pod: u64, result| Wake {
        ago: minutes(60 * hours + 7),
        took: Duration::from_millis(pod + 61),
        api: Some(Duration::from_millis(23)),
        pod: Some(Duration::from_millis(pod)),
        dial: Some(Duration::from_millis(3)).filter(|_| result == "served"),
        result,
    };
    App {
        name: name.to_owned(),
        state,
        state_for: minutes(64),
        next,
        replicas: Some(u32::from(state != State::Asleep)),
        ready_pods: Some(u32::from(state == State::Awake)),
        counted: usize::from(state != State::Asleep) * 3,
        waiting: usize::from(state == State::Waking),
        uncounted: 2,
        excluded: vec![("ignored", 288), ("probe", 1_440)],
        scaled: Some(("this proxy", 1, minutes(64))),
        day: (0..289).map(slot).collect(),
        slot: minutes(5),
        wakes: vec![
            wake(1, 4_210, "served"),
            wake(10, 3_870, "served"),
            wake(15, 9_400, "abandoned"),
        ],
        asleep: minutes(893),
        replica_hours_saved: 44.7,
        problems: Vec::new(),
    }
}

#[test]
fn several_apps_and_their_day_can_be_read_by_everybody() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let idle = Next::SleepsIn(Duration::from_secs(1_740), "nobody has connected since");
    let mut troubled = painted(
        "shop/reports",
        State::Waking,
        Next::Wakes("none of 1 endpoint of Service reports is ready".to_owned()),
    );
    troubled.problems = vec![Problem {
        is_severe: true,
        text: "Waking takes unusually long: none of 1 endpoint of Service reports is ready."
            .to_owned(),
        code: Some("PROBE"),
    }];
    let url = serve(Page {
        version: "0.1.0",
        is_ready: true,
        uptime: Duration::from_secs(93_600),
        unix: 1_795_000_000,
        problems: Vec::new(),
        apps: vec![
            painted("shop/web", State::Awake, idle),
            painted("shop/admin", State::Asleep, Next::Nothing),
            troubled,
        ],
    });
    browser.open(&url);
    for (name, size, scheme) in [
        ("apps-light", DESKTOP, "light"),
        ("apps-dark", DESKTOP, "dark"),
        ("apps-phone", PHONE, "dark"),
    ] {
        browser.set_look(&Look { size, scheme });
        let wrong = browser.run(include_str!("accessible.js"));
        assert_eq!(wrong, json!([]), "{name}");
        browser.save_picture(name);
    }
    assert_eq!(browser.console(), Vec::<serde_json::Value>::new());
}
