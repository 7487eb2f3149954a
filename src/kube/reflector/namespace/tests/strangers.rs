//! Objects of somebody else that are stored and are nonsense. The API server does not check the
//! number of a slice's port (`validatePorts` in `discovery/validation`).

use super::*;

fn numbered(port: &Value) -> Value {
    let mut slice = slice("other", &["10.0.9.1"]);
    slice["ports"][0]["port"] = port.clone();
    slice
}

/// Both apps are synced, have their addresses, and follow the watch.
fn assert_goes_on(rig: &mut Rig, label: &str) {
    assert_eq!(rig.action, ReflectorAction::Read, "{label}");
    for app in [SHOP, BLOG] {
        assert_eq!(rig.synced(app).last(), Some(&SLICES), "{label}");
    }
    rig.event("MODIFIED", &slice("shop", &["10.0.0.8"]));
    assert_eq!(rig.addresses(SHOP).unwrap(), ["10.0.0.8:80"], "{label}");
}

#[test]
fn a_port_that_is_no_port_is_not_dialled_and_hides_nothing() {
    for port in [json!(70_000), json!(-1), json!(0), json!(null)] {
        let mut rig = Rig::new();
        rig.slices[1] = numbered(&port);
        rig.watch();
        rig.event("MODIFIED", &numbered(&port));
        assert_goes_on(&mut rig, &format!("{port}"));
        assert!(rig.warnings().is_empty(), "{port}: nothing was skipped");
        let mut own = slice("blog", &["10.0.0.2"]);
        own["ports"][0]["port"] = port.clone();
        rig.event("MODIFIED", &own);
        assert_eq!(rig.addresses(BLOG).unwrap(), [""; 0], "{port}");
    }
}

#[test]
fn a_slice_that_cannot_be_parsed_is_named_once_and_hides_nothing() {
    let wrong = numbered(&json!("http"));
    let mut rig = Rig::new();
    rig.slices[1] = wrong.clone();
    rig.watch();
    rig.event("MODIFIED", &wrong);
    rig.event("ADDED", &wrong);
    assert_goes_on(&mut rig, "listed and watched");
    let warnings = rig.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    let named = "of the EndpointSlices, other-1 is skipped: invalid type: string";
    assert!(warnings[0].starts_with(named), "{warnings:?}");
}

#[test]
fn the_watch_goes_on_after_a_line_that_is_too_long_from_the_version_that_it_shows() {
    let mut rig = Rig::watching();
    let mut large = slice("other", &["10.0.9.1"]);
    large["metadata"]["resourceVersion"] = "17".into();
    large["filler"] = "x".repeat(3 * 1024 * 1024).into();
    // As in the order of the API server: the metadata before what may be large.
    let metadata = large["metadata"].clone();
    let rest = json!({ "filler": large["filler"] }).to_string();
    let line = format!(
        "{{\"type\":\"MODIFIED\",\"object\":{{\"metadata\":{metadata},{}}}\n",
        &rest[1..]
    );
    for piece in line.as_bytes().chunks(16 * 1024) {
        rig.handle(WatcherInput::Bytes(piece));
    }
    rig.now = rig.now + Duration::from_secs(60);
    rig.handle(WatcherInput::Ended);
    let ReflectorAction::Watch(path) = &rig.action else {
        panic!("{:?}", rig.action);
    };
    assert!(path.ends_with("&resourceVersion=17"), "{path}");
    rig.watch();
    assert_goes_on(&mut rig, "after the line");
    let warnings = rig.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("other-1 is skipped"), "{warnings:?}");
}

#[test]
fn what_is_known_of_a_slice_that_cannot_be_parsed_any_more_is_dropped() {
    let mut rig = Rig::watching();
    let mut wrong = slice("shop", &["10.0.0.1"]);
    wrong["endpoints"] = 7.into();
    rig.event("MODIFIED", &wrong);
    assert_eq!(rig.addresses(SHOP).unwrap(), [""; 0]);
    assert_eq!(rig.warnings().len(), 1);
    rig.event("MODIFIED", &slice("shop", &["10.0.0.3"]));
    assert_eq!(rig.addresses(SHOP).unwrap(), ["10.0.0.3:80"]);
}

#[test]
fn a_service_that_cannot_be_parsed_leaves_the_others_and_stays_as_it_was() {
    let mut rig = Rig::watching();
    rig.services[1]["spec"]["ports"] = "none".into();
    rig.services[2]["spec"]["ports"] = "none".into();
    rig.now = rig.now + Duration::from_secs(120);
    rig.handle(WatcherInput::Relist);
    rig.watch();
    assert_goes_on(&mut rig, "the port of shop is known");
    let warnings = rig.warnings();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].starts_with("of the Services, other is skipped: "));
    assert!(warnings[1].starts_with("of the Services, shop is skipped: "));
}
