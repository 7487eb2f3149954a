//! Objects that cannot be parsed, or are too large, among others.

use serde_json::json;

use super::super::objects::EndpointSlice;
use super::super::testing::recorded_body;
use super::*;

/// A watch line as the API server writes it, whose object has that many bytes of labels.
fn line(kind: &str, filler: usize) -> Vec<u8> {
    let filler = "x".repeat(filler);
    let line = format!(
        r#"{{"type":"{kind}","object":{{"kind":"EndpointSlice","metadata":{{"name":"shop-1","namespace":"a","resourceVersion":"7"}},"addressType":"{filler}"}}}}"#
    );
    line.into_bytes()
}

fn event_of(line: &[u8]) -> Result<WatchEvent<EndpointSlice>, Error> {
    event(&line[..line.len().min(MAX_LINE_LEN)])
}

fn shop() -> Metadata {
    Metadata {
        name: "shop-1".to_owned(),
        namespace: "a".to_owned(),
        resource_version: "7".to_owned(),
    }
}

#[test]
fn an_error_event_carries_its_code() {
    let line = recorded_body("20-slices-watch-too-old");
    let event = event_of(&line).unwrap();
    assert!(matches!(
        event,
        WatchEvent::Error(Status {
            code: Some(410),
            ..
        })
    ));
}

#[test]
fn a_line_that_is_too_long_shows_by_its_beginning_which_object_it_is_about() {
    for kind in ["ADDED", "MODIFIED"] {
        let Ok(WatchEvent::Skipped(skipped)) = event_of(&line(kind, MAX_LINE_LEN)) else {
            panic!("{kind}");
        };
        assert_eq!(skipped.metadata, shop());
        let why = "it has more than 2097152 bytes as JSON";
        assert_eq!(skipped.why, why);
    }
    let deleted = event_of(&line("DELETED", MAX_LINE_LEN)).unwrap();
    assert!(matches!(deleted, WatchEvent::Deleted(metadata) if metadata == shop()));
    assert!(event_of(&vec![b'x'; MAX_LINE_LEN]).is_err());
    assert!(event_of(&line("ERROR", MAX_LINE_LEN)).is_err());
    let short = line("ADDED", 10);
    assert!(
        event_of(&short[..short.len() - 1]).is_err(),
        "a line that is cut and not long is not one of an API server"
    );
}

#[test]
fn each_object_is_named_once_an_hour_and_not_more_than_twenty() {
    let mut log = SkipLog::default();
    let skipped = |name: &str| Skipped {
        metadata: Metadata {
            name: name.to_owned(),
            ..shop()
        },
        why: "no".to_owned(),
    };
    let hour = Time::from_millis(5_000_000);
    log.add(vec![skipped("x\ny"), skipped("x\ny"), skipped("")], hour);
    let named = [
        "a/x\\ny is skipped: no",
        "an object without a name that can be read is skipped: no",
    ];
    assert_eq!(log.take_warnings(), named);
    log.add(vec![skipped("x\ny")], hour + NAMED_FOR / 2);
    assert_eq!(log.take_warnings(), [""; 0]);
    log.add(vec![skipped("x\ny")], hour + NAMED_FOR);
    assert_eq!(log.take_warnings().len(), 1);
    let many = (0..100).map(|n| skipped(&n.to_string()));
    log.add(many.collect(), hour + NAMED_FOR);
    let warnings = log.take_warnings();
    assert_eq!(warnings.len(), MAX_NAMED);
    assert_eq!(
        warnings.last().unwrap(),
        "further objects are skipped, which are not named"
    );
}

#[test]
fn of_a_list_the_objects_that_can_be_parsed_are_taken() {
    let body = json!({
        "metadata": { "resourceVersion": "9" },
        "items": [
            { "metadata": { "name": "one" } },
            { "metadata": { "name": "two" }, "ports": 7 },
            7,
            { "metadata": { "name": "three" } },
        ]
    });
    let (mut names, mut skipped) = (Vec::new(), Vec::new());
    let metadata = page(body.to_string().as_bytes(), |item| match item {
        Ok(EndpointSlice { metadata, .. }) => names.push(metadata.name),
        Err(Skipped { metadata, .. }) => skipped.push(metadata.name),
    });
    assert_eq!(metadata.unwrap().resource_version, "9");
    assert_eq!(names, ["one", "three"]);
    assert_eq!(skipped, ["two", ""]);
}
