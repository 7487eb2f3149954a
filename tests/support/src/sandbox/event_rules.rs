//! What the API server takes for an Event of `events.k8s.io/v1`, as
//! `pkg/apis/core/validation/events.go` has it.

use serde_json::{Value, json};

use super::http::Reply;
use super::store::text;

/// What no write changes but the first one (`ValidateEventUpdate`).
const IMMUTABLE: [&str; 8] = [
    "regarding",
    "reason",
    "note",
    "type",
    "eventTime",
    "action",
    "reportingController",
    "reportingInstance",
];

/// Checks a new Event, and fills in what the server does.
pub fn check_new(event: &mut Value) -> Result<(), Reply> {
    check_time(text(&event["eventTime"]))?;
    for field in [
        "reportingController",
        "reportingInstance",
        "action",
        "reason",
    ] {
        let length = text(&event[field]).len();
        if !(1..=128).contains(&length) {
            return Err(invalid(
                event,
                field,
                "can have at most 128 characters, and at least 1",
            ));
        }
    }
    if text(&event["note"]).len() > 1024 {
        return Err(invalid(event, "note", "can have at most 1024 bytes"));
    }
    if event["regarding"]["namespace"] != event["metadata"]["namespace"] {
        return Err(invalid(
            event,
            "regarding.namespace",
            "does not match event.namespace",
        ));
    }
    check_series(event)?;
    event["deprecatedSource"] = json!({});
    event["deprecatedFirstTimestamp"] = Value::Null;
    event["deprecatedLastTimestamp"] = Value::Null;
    Ok(())
}

/// Checks the Event that a patch makes of another one.
pub fn check_change(before: &Value, after: &Value) -> Result<(), Reply> {
    for field in IMMUTABLE {
        if before[field] != after[field] {
            return Err(invalid(after, field, "field is immutable"));
        }
    }
    check_series(after)
}

/// `validateV1EventSeries`.
fn check_series(event: &Value) -> Result<(), Reply> {
    let series = &event["series"];
    if series.is_null() {
        return Ok(());
    }
    if series["count"].as_u64().is_none_or(|count| count < 2) {
        return Err(invalid(event, "series.count", "should be at least 2"));
    }
    check_time(text(&series["lastObservedTime"]))
}

fn invalid(event: &Value, field: &str, why: &str) -> Reply {
    let name = text(&event["metadata"]["name"]);
    let message = format!("Event.events.k8s.io \"{name}\" is invalid: {field}: {why}");
    Reply::failure(422, "Invalid", &message, None)
}

/// `metav1.MicroTime` wants exactly six digits of a second (recording 32).
fn check_time(time: &str) -> Result<(), Reply> {
    let (seconds, rest) = time
        .split_at_checked("2006-01-02T15:04:05".len())
        .unwrap_or(("", time));
    let digits = rest
        .strip_prefix('.')
        .and_then(|fraction| fraction.get(..6));
    if !seconds.is_empty() && digits.is_some_and(|d| d.bytes().all(|b| b.is_ascii_digit())) {
        return Ok(());
    }
    let message = format!(
        "Event in version \"v1\" cannot be handled as a Event: parsing time \"{time}\" as \
         \"2006-01-02T15:04:05.000000Z07:00\": cannot parse \"{rest}\" as \".000000\""
    );
    Err(Reply::failure(400, "BadRequest", &message, None))
}
