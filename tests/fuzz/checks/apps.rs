//! A list of apps of any content: apps that keep to their bounds and have no two things in
//! common, or errors of a line each.

use std::collections::BTreeSet;
use std::time::Duration;

use zpa::settings::{self, Invocation, Settings};

/// The most that is said about a list, in bytes: 101 lines, of which each quotes 60 characters
/// of the list at most three times.
const MAX_COMPLAINT_LEN: usize = 101 * 2000;

/// The text of the list.
pub type Input<'a> = &'a [u8];

pub fn check(text: Input) {
    let args = ["--apps=/apps.json", "--idle-ttl=5m", "--ignore-sources=::1"];
    let args = args.into_iter().map(Into::into);
    let Ok(Invocation::Run(process)) = settings::parse(args, |_| None) else {
        panic!("the settings of the process");
    };
    match process.read_apps(text, "default") {
        Ok(apps) => expect_bounds(&apps),
        Err(errors) => {
            assert!(errors.lines().count() > 0);
            assert!(errors.to_string().len() < MAX_COMPLAINT_LEN, "{errors}");
            for line in errors.lines() {
                assert!(!line.contains(char::is_control), "{line:?}");
            }
        }
    }
}

/// Two apps at one address have names there, and none in common.
fn expect_apart(app: &Settings, other: &Settings) {
    let addresses = |app: &Settings| -> BTreeSet<_> {
        let listeners = app.listen.iter().map(|listener| listener.address);
        listeners.filter(|address| address.port() != 0).collect()
    };
    if !addresses(app).is_disjoint(&addresses(other)) {
        let names = [&app.server_names, &other.server_names];
        assert!(!names.iter().any(|names| names.is_empty()));
        assert_eq!(names[0].shared_with(names[1]), None);
    }
}

fn expect_bounds(apps: &[Settings]) {
    for (place, app) in apps.iter().enumerate() {
        apps[..place]
            .iter()
            .for_each(|other| expect_apart(app, other));
    }
    let (mut targets, mut services) = (BTreeSet::new(), BTreeSet::new());
    for app in apps {
        assert!(app.target_ref.name().is_some_and(|name| !name.is_empty()));
        assert!(app.idle_ttl >= Duration::from_secs(1));
        assert!(!app.hold_timeout.is_zero() && !app.listen.is_empty());
        assert!(app.namespace.is_some());
        assert!(targets.insert((&app.namespace, app.target_ref.to_string())));
        assert!(services.insert((&app.namespace, &app.service)));
    }
}
