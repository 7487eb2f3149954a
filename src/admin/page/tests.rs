use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;

use super::*;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn asleep(name: &str) -> App {
    App {
        name: name.to_owned(),
        state: State::Asleep,
        state_for: seconds(7_530),
        ..App::default()
    }
}

fn page(apps: Vec<App>) -> Page {
    Page {
        version: "0.1.0",
        is_ready: true,
        uptime: seconds(100_000),
        unix: 1_795_000_000,
        problems: Vec::new(),
        apps,
    }
}

/// The hash of a text as a Content-Security-Policy has it.
fn hash(text: &str) -> String {
    let suite = TLS13_AES_128_GCM_SHA256.tls13().unwrap();
    let hash = suite.common.hash_provider.hash(text.as_bytes());
    format!("'sha256-{}'", BASE64_STANDARD.encode(hash.as_ref()))
}

#[test]
fn the_policy_allows_this_style_and_this_script_and_nothing_else() {
    for (text, field) in [(STYLE, "style-src"), (SCRIPT, "script-src")] {
        let (field, hash) = (format!("{field} "), hash(text));
        assert!(HEADERS.contains(&(field + &hash)), "{HEADERS} lacks {hash}");
        assert!(!text.contains("</"), "it would end before its end");
    }
    let html = render(&page(vec![asleep("default/shop")]));
    assert!(html.contains(&format!("<style>{STYLE}</style>")));
    assert!(html.contains(&format!("<script>{SCRIPT}</script>")));
    for outside in [
        "http:", "https:", "url(", "@import", " src=", " style=", "onclick",
    ] {
        assert!(!html.contains(outside), "{outside}");
    }
}

#[test]
fn what_comes_from_outside_is_no_markup() {
    let hostile = "</title><script>alert(1)</script>'\"&";
    let problem = Problem {
        is_severe: true,
        text: hostile.to_owned(),
        code: Some("PORT"),
    };
    let app = App {
        next: Next::Wakes(hostile.to_owned()),
        problems: vec![problem.clone()],
        ..asleep(hostile)
    };
    let html = render(&Page {
        problems: vec![problem],
        ..page(vec![app.clone(), app])
    });
    assert!(
        !html.contains("<script>alert") && !html.contains("'\"&"),
        "{html}"
    );
    assert_eq!(html.matches("<script>").count(), 1);
    assert!(html.contains("&lt;script&gt;alert(1)"));
}

#[test]
fn it_says_what_the_app_does_and_what_comes_next() {
    let awake = |next| App {
        state: State::Awake,
        waiting: 2,
        next,
        ..asleep("default/shop")
    };
    for (app, texts) in [
        (
            asleep("default/shop"),
            ["Asleep", "for 2 h 5 min", "The next connection wakes it."],
        ),
        (
            awake(Next::SleepsIn(seconds(90), "nobody is there")),
            ["Awake", "in <b>1 min 30 s</b>", "nobody is there."],
        ),
        (
            awake(Next::StaysAwake("connections are open")),
            ["Awake", "Stays awake", ": connections are open."],
        ),
        (
            awake(Next::Wakes("Service shop has no endpoint".into())),
            [
                "<b>2 connections wait</b>",
                "for a pod",
                ": Service shop has no endpoint.",
            ],
        ),
    ] {
        let html = render(&page(vec![app]));
        for text in texts {
            assert!(html.contains(text), "{text} in {html}");
        }
        assert!(html.contains("<html lang=\"en\">"));
    }
}

#[test]
fn of_several_apps_there_is_a_list_the_troubled_first_and_then_the_sleepers() {
    let app = |name, state, is_troubled| App {
        state,
        problems: vec![Problem::default(); usize::from(is_troubled)],
        ..asleep(name)
    };
    let html = render(&page(vec![
        app("b/awake", State::Awake, false),
        app("d/asleep", State::Asleep, false),
        app("a/awake", State::Awake, false),
        app("e/troubled", State::Awake, true),
        app("c/asleep", State::Asleep, false),
    ]));
    let list = html.split("</table>").next().unwrap();
    let places = ["e/troubled", "c/asleep", "d/asleep", "a/awake", "b/awake"]
        .map(|name| list.find(name).unwrap());
    assert!(places.is_sorted(), "{places:?}");
    assert!(html.contains("<title>2 of 5 apps asleep · zpa</title>"));
}

#[test]
fn five_hundred_apps_are_listed_and_some_are_shown_in_full() {
    let apps = (0..500).map(|n| asleep(&format!("default/app-{n:03}")));
    let html = render(&page(apps.collect()));
    assert_eq!(html.matches("<tr><th scope=\"row\">").count(), 500);
    assert_eq!(html.matches("<article ").count(), APPS_IN_FULL);
    assert!(html.len() < 256 * 1024, "{}", html.len());
}

#[test]
fn a_wake_is_shown_with_its_parts() {
    let app = App {
        wakes: vec![Wake {
            ago: seconds(300),
            took: Duration::from_millis(3_250),
            api: Some(Duration::from_millis(20)),
            pod: Some(Duration::from_millis(3_200)),
            dial: None,
            result: "timed_out",
        }],
        ..asleep("default/shop")
    };
    let html = render(&page(vec![app]));
    for text in [
        "5 min ago",
        "<b>3.2 s</b>",
        ">20 ms<",
        ">3.2 s<",
        ">–<",
        "timed out",
    ] {
        assert!(html.contains(text), "{text}");
    }
    assert!(
        html.contains("<rect class=\"pod\" x=\"0.62\" width=\"98.46\""),
        "{html}"
    );
}

#[test]
fn a_day_is_drawn_with_equal_neighbours_as_one() {
    let slot = |asleep, awake| Slot {
        asleep,
        awake,
        waking: 0.0,
    };
    let mut day = vec![slot(1.0, 0.0); 200];
    day.extend([slot(0.5, 0.5); 100]);
    let picture = Timeline {
        day: &day,
        slot: seconds(300),
    }
    .to_string();
    assert!(
        picture.contains("class=\"asleep\" d=\"M0 0.0h188v48.0h-188zM188 0.0h100v24.0h-100z\"")
    );
    assert!(picture.contains("class=\"awake\" d=\"M188 24.0h100v24.0h-100z\""));
    assert!(
        picture.contains("asleep 83 %") && picture.contains("awake 17 %"),
        "{picture}"
    );
    let nothing = Timeline {
        day: &[],
        slot: seconds(300),
    };
    assert!(nothing.to_string().contains("of the 0 s that were watched"));
}
