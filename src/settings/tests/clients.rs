//! The settings about the clients of an app.

use super::*;
use crate::rules::answer::HoldAnswer;
use crate::rules::first_bytes::{FirstBytes, ProbeAnswer, WakeOn};
use crate::rules::idle::SilentConnections;
use crate::rules::proxy_protocol::Version;
use crate::rules::release::ReleaseRate;
use crate::rules::waiting_page::WaitingPage;

#[test]
fn networks_come_from_every_flag_or_from_every_line_of_the_variable() {
    let args = [
        "--deployment=app",
        "--ignore-sources=10.0.0.0/8, 192.0.2.1",
        "--ignore-sources=fd00::/8",
        "--deny-sources=10.1.0.0/16",
    ];
    let shown = |settings: &Settings| {
        let sources = &settings.rules.sources;
        (sources.ignored.to_string(), sources.denied.to_string())
    };
    let expected = ("10.0.0.0/8,192.0.2.1/32,fd00::/8", "10.1.0.0/16");
    let expected = (expected.0.to_owned(), expected.1.to_owned());
    assert_eq!(shown(&settings(&args, &[])), expected);
    let env = [
        ("ZPA_IGNORE_SOURCES", "10.0.0.0/8\n192.0.2.1,fd00::/8\n"),
        ("ZPA_DENY_SOURCES", "10.1.0.0/16"),
    ];
    assert_eq!(shown(&settings(&["--deployment=app"], &env)), expected);
    for flag in ["ignore-sources", "deny-sources"] {
        let error = error(flag, "10.0.0.0/33");
        assert!(error.contains("neither a network"), "{error}");
        assert!(error.contains("; use e.g. 10.0.0.0/8, 192.0.2.7,fd00::/8"));
    }
}

#[test]
fn a_file_with_networks_may_stand_in_place_of_them_and_beside_them() {
    let args = [
        "--deployment=app",
        "--ignore-sources=@/a, 10.0.0.0/8,@/b c",
        "--ignore-sources=192.0.2.1",
        "--deny-sources=@/d",
    ];
    let sources = settings(&args, &[]).rules.sources;
    let shown = "10.0.0.0/8,192.0.2.1/32,@/a,@/b c";
    assert_eq!(sources.show_ignored().as_deref(), Some(shown));
    assert_eq!(sources.show_denied().as_deref(), Some("@/d"));
    assert!(sources.denied.is_empty(), "no file is read here");
    for (text, why) in [
        ("@", "names no file after the @"),
        ("10.0.0.0/8,@", "names no file after the @"),
        ("10.0.0.0/8 @/a", "\"@/a\" is neither a network"),
        (" ,", "names no network"),
    ] {
        let error = error("deny-sources", text);
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn connections_per_pod_and_per_source_are_one_or_more() {
    let most = |text| {
        with("max-connections-per-pod", text)
            .rules
            .max_connections_per_pod
    };
    assert_eq!(most("1"), NonZeroU32::new(1));
    assert_eq!(most("4294967295"), NonZeroU32::new(u32::MAX));
    assert_eq!(
        settings(&["--deployment=app"], &[])
            .rules
            .max_connections_per_pod,
        None
    );
    let most = |text| with("max-per-source", text).rules.max_per_source;
    assert_eq!(most("100"), NonZeroU32::new(100));
    for flag in ["max-connections-per-pod", "max-per-source"] {
        for wrong in ["0", "-1", "4294967296", "many"] {
            let error = error(flag, wrong);
            assert!(error.contains("is not a whole number from 1"), "{error}");
        }
    }
}

#[test]
fn a_release_rate_is_off_unless_it_is_set() {
    let rate = |text| with("release-rate", text).rules.release_rate;
    assert_eq!(rate("doubling"), ReleaseRate::Doubling);
    assert_eq!(rate("off"), ReleaseRate::Off);
    assert_eq!(settings(&["--deployment=app"], &[]).rules, Rules::default());
    assert!(error("release-rate", "fast").contains("is neither off, doubling"));
}

#[test]
fn silence_has_no_limit_unless_one_is_set() {
    let minute = Some(Duration::from_secs(60));
    assert_eq!(with("idle-timeout", "1m").rules.idle.idle_timeout, minute);
    assert_eq!(with("silent-after", "60").rules.idle.silence, minute);
    let half_closed = with("half-close-timeout", "60s").rules.idle;
    assert_eq!(half_closed.half_close_timeout, minute);
    assert!(settings(&["--deployment=app"], &[]).rules.idle.is_off());
    let silent = |text| with("silent-connections", text).rules.idle.silent;
    assert_eq!(silent("detach"), SilentConnections::Detach);
    assert_eq!(silent("close"), SilentConnections::default());
    assert!(error("silent-connections", "drop").contains("is none of keep-awake, close, detach"));
    let detach = [
        "--deployment=app",
        "--silent-connections=detach",
        "--silent-after=2m",
    ];
    for (idle_timeout, is_enough) in [(None, false), (Some("2m"), false), (Some("3m"), true)] {
        let flag = idle_timeout.map(|text| format!("--idle-timeout={text}"));
        let flags: Vec<&str> = detach.iter().copied().chain(flag.as_deref()).collect();
        if is_enough {
            settings(&flags, &[]);
        } else {
            let errors = errors(&flags, &[]);
            assert!(errors[0].contains("needs --idle-timeout"), "{errors:?}");
        }
    }
    for flag in ["idle-timeout", "half-close-timeout", "silent-after"] {
        assert!(error(flag, "0").contains("must be more than zero"));
    }
}

#[test]
fn the_proxy_protocol_is_spoken_where_it_is_set() {
    let version = |text| with("send-proxy-protocol", text).rules.send_proxy_protocol;
    assert_eq!(version("v1"), Some(Version::V1));
    assert_eq!(version("v2"), Some(Version::V2));
    assert!(error("send-proxy-protocol", "2").contains("is neither v1 nor v2"));
    let balancers = with("accept-proxy-protocol", "10.0.0.0/8,fd00::/8").rules;
    let trusted = |address: &str| balancers.preread(address.parse().unwrap()).is_some();
    assert!(trusted("10.1.2.3") && trusted("::ffff:10.1.2.3") && trusted("fd00::1"));
    assert!(!trusted("192.0.2.1"), "nobody else");
    let rules = settings(&["--deployment=app"], &[]).rules;
    assert_eq!(rules.preread("10.1.2.3".parse().unwrap()), None);
}

#[test]
fn what_wakes_is_said_by_a_name_and_checks_by_their_paths() {
    let of = |flag, text| with(flag, text).rules.first_bytes;
    assert_eq!(of("wake-on", "postgres").wake_on, WakeOn::Postgres);
    assert_eq!(of("wake-on", "accept"), FirstBytes::default());
    let probes = of("probe-answer", "503").probes;
    assert_eq!(probes.answer, Some(ProbeAnswer::Unavailable));
    let probes = of("probe-paths", "/healthz, /livez").probes;
    assert_eq!((probes.answer, probes.is_off()), (None, false));
    assert_eq!(probes.paths, ["/healthz", "/livez"]);
    for (flag, text, expected) in [
        ("wake-on", "HTTP", "is none of accept, first-byte"),
        ("probe-answer", "404", "is neither 200 nor 503"),
        (
            "probe-paths",
            "healthz",
            "is not a path that begins with a slash",
        ),
        (
            "probe-paths",
            "/a,,/b",
            "is not a path that begins with a slash",
        ),
        ("probe-paths", "/a?b", "is not the path of a URL"),
        ("hold-answer", "pg", "is none of postgres, mysql"),
    ] {
        let error = error(flag, text);
        assert!(error.contains(expected), "{error}");
    }
    assert_eq!(
        with("hold-answer", "http").rules.hold_answer,
        Some(HoldAnswer::Http)
    );
}

#[test]
fn wakes_and_sleeps_have_no_pace_unless_it_is_set() {
    let ten_minutes = Duration::from_secs(600);
    assert_eq!(with("min-awake", "10m").min_awake, ten_minutes);
    assert_eq!(
        with("wakes-per-minute", "4").wakes_per_minute,
        NonZeroU32::new(4)
    );
    let settings = settings(&["--deployment=app"], &[]);
    assert_eq!(
        (settings.min_awake, settings.wakes_per_minute),
        (Duration::ZERO, None)
    );
    assert!(error("wakes-per-minute", "0").contains("is not a whole number from 1"));
    assert!(error("min-awake", "soon").contains("--min-awake"));
    assert_eq!(with("min-asleep", "10m").min_asleep, ten_minutes);
    assert!(error("min-asleep", "-1s").contains("--min-asleep"));
}

#[test]
fn no_more_pods_are_awaited_than_a_wake_makes() {
    let two = ["--deployment=app", "--min-ready=2", "--min-ready-time=5s"];
    let with = |replicas| settings(&[&two[..], &[replicas]].concat(), &[]);
    let enough = with("--wake-replicas=2");
    assert_eq!(enough.min_ready.get(), 2);
    assert_eq!(enough.min_ready_time, Duration::from_secs(5));
    with("--wake-replicas=previous");
    let error = error("min-ready", "2");
    assert!(
        error.contains("2 pods are never ready after a wake to 1"),
        "{error}"
    );
    for (other, why) in [
        ("--target=app:80", "no pods are counted"),
        ("--ready-gate=accept", "the first pod that accepts"),
        (
            "--ready-gate=greeting",
            "the first pod that accepts or greets",
        ),
    ] {
        let errors = errors(&[&two[..], &["--wake-replicas=2", other]].concat(), &[]);
        assert!(errors.len() == 1 && errors[0].contains(why), "{errors:?}");
    }
}

#[test]
fn windows_add_up_and_a_wrong_word_is_named() {
    let flags = [
        "--deployment=app",
        "--keep-awake=09:00-18:00 Mon-Fri Europe/Berlin,10:00-12:00 Sat",
        "--keep-awake=00:00-24:00 Sun",
        "--no-wake=22:00-06:00",
    ];
    let settings = settings(&flags, &[]);
    assert_eq!(
        settings.keep_awake.to_string(),
        "09:00-18:00 Mon-Fri Europe/Berlin,10:00-12:00 Sat,00:00-24:00 Sun"
    );
    assert_eq!(settings.no_wake.to_string(), "22:00-06:00");
    for (flag, text, word) in [
        ("keep-awake", "9-18", "\"9-18\""),
        ("no-wake", "22:00-06:00 Mars/Olympus", "\"Mars/Olympus\""),
    ] {
        let error = error(flag, text);
        assert!(error.contains(word) && error.contains(flag), "{error}");
    }
}

#[test]
fn a_backup_target_has_a_host_and_a_port() {
    let target = with("backup-target", "page.default.svc:80").backup_target;
    assert_eq!(target.unwrap().to_string(), "page.default.svc:80");
    assert!(error("backup-target", "page").contains("--backup-target"));
    let five = Some(Duration::from_secs(5));
    assert_eq!(with("backup-after", "5s").rules.backup_after, five);
    assert!(error("backup-after", "0").contains("must be more than zero"));
}

#[test]
fn a_waiting_page_is_off_built_in_or_a_file() {
    let page = |text| with("waiting-page", text).rules.waiting_page;
    assert_eq!(page("built-in"), WaitingPage::BuiltIn);
    assert_eq!(page("/page.html"), WaitingPage::File("/page.html".into()));
    assert!(page("off").is_off());
    assert!(error("waiting-page", "on").contains("is neither off nor built-in"));
}
