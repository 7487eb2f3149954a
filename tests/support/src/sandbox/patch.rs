//! PATCH: merge patches, strategic merge patches of a status, JSON Patch, and
//! server-side apply on a scale.

use serde_json::{Value, json};

use super::access::Target;
use super::event_rules;
use super::http::{Reply, Request};
use super::json_patch;
use super::store::{Resource, Store, text};

/// The `Scale` of an object. At zero, `spec.replicas` is left out. A custom kind
/// shows a selector only if its definition says where it is, and the one here
/// does not (recording 53).
pub fn scale_of(object: &Value) -> Value {
    let meta = &object["metadata"];
    let spec = match object["spec"]["replicas"].as_u64() {
        None | Some(0) => json!({}),
        Some(replicas) => json!({ "replicas": replicas }),
    };
    let mut status = json!({ "replicas": object["status"]["replicas"].as_u64().unwrap_or(0) });
    if let Some(labels) = object["spec"]["selector"]["matchLabels"].as_object() {
        let pairs = labels
            .iter()
            .map(|(key, value)| format!("{key}={}", text(value)));
        status["selector"] = pairs.collect::<Vec<String>>().join(",").into();
    }
    json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": meta["name"],
            "namespace": meta["namespace"],
            "uid": meta["uid"],
            "resourceVersion": meta["resourceVersion"],
            "creationTimestamp": meta["creationTimestamp"],
        },
        "spec": spec,
        "status": status,
    })
}

/// How a patch is to be read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Merge,
    StrategicMerge,
    Json,
    Apply,
}

impl Form {
    /// The form of that media type, if the resource takes it. A custom kind has
    /// no Go type whose tags would tell how to merge strategically.
    fn of(media_type: &str, resource: Resource, subresource: Option<&str>) -> Option<Form> {
        match media_type {
            "application/merge-patch+json" => Some(Form::Merge),
            "application/json-patch+json" => Some(Form::Json),
            "application/strategic-merge-patch+json" if !resource.is_custom() => {
                Some(Form::StrategicMerge)
            }
            "application/apply-patch+yaml" if subresource == Some("scale") => Some(Form::Apply),
            _ => None,
        }
    }
}

/// Answers a PATCH of an object or of one of its subresources.
pub fn answer(
    store: &mut Store,
    resource: Resource,
    target: &Target,
    subresource: Option<&str>,
    request: &Request,
) -> Reply {
    let media_type = request.header("content-type").unwrap_or_default();
    let Some(form) = Form::of(media_type, resource, subresource) else {
        return unsupported_media_type(resource);
    };
    let Some(current) = store.get(resource, target.name()).cloned() else {
        return target.not_found();
    };
    let patch: Value = match serde_json::from_slice(&request.body) {
        Ok(patch) => patch,
        Err(error) => return undecodable(&error),
    };
    if subresource == Some("scale") {
        return patch_scale(store, resource, target, form, &patch);
    }
    let mut patched = (*current).clone();
    match (form, subresource) {
        (Form::Json, _) => match json_patch::apply(&mut patched, &patch) {
            Ok(()) => keep_what_is_the_servers(&mut patched, &current, subresource.is_some()),
            Err(_) => return unprocessable(),
        },
        (_, Some(_)) => merge_status(&mut patched, &patch["status"], form == Form::StrategicMerge),
        (_, None) => {
            merge(&mut patched, &patch);
            keep_what_is_the_servers(&mut patched, &current, false);
        }
    }
    if is_stale(&patch, &current) {
        return target.conflict();
    }
    if resource == Resource::Events
        && let Err(reply) = event_rules::check_change(&current, &patched)
    {
        return reply;
    }
    let replicas = patched["spec"]["replicas"].as_i64().unwrap_or_default();
    if resource.is_scalable() && replicas < 0 {
        return negative(target, resource.kind(), replicas);
    }
    let written = store.update(resource, target.name(), |object| *object = patched);
    written.map_or_else(|| target.not_found(), |object| Reply::json(200, &object))
}

fn patch_scale(
    store: &mut Store,
    resource: Resource,
    target: &Target,
    form: Form,
    patch: &Value,
) -> Reply {
    let Some(current) = store.get(resource, target.name()).cloned() else {
        return target.not_found();
    };
    let mut scale = scale_of(&current);
    match form {
        Form::Json if json_patch::apply(&mut scale, patch).is_err() => return unprocessable(),
        Form::Json => {}
        _ => merge(&mut scale, patch),
    }
    let wanted = &scale["spec"]["replicas"];
    let Some(replicas) = (if wanted.is_null() {
        Some(0)
    } else {
        wanted.as_i64()
    }) else {
        let message = format!("json: cannot unmarshal {wanted} into a field of type int32");
        return Reply::failure(400, "BadRequest", &message, None);
    };
    if replicas < 0 {
        return negative(target, "Scale", replicas);
    }
    if is_stale(patch, &current) {
        return target.conflict();
    }
    let scaled = store.update(resource, target.name(), |object| {
        object["spec"]["replicas"] = replicas.into();
    });
    scaled.map_or_else(
        || target.not_found(),
        |object| Reply::json(200, &scale_of(&object)),
    )
}

/// Whether the patch names a version, and not the one that the object has.
fn is_stale(patch: &Value, current: &Value) -> bool {
    let guard = &patch["metadata"]["resourceVersion"];
    !text(guard).is_empty() && *guard != current["metadata"]["resourceVersion"]
}

/// A JSON merge patch (RFC 7396).
fn merge(object: &mut Value, patch: &Value) {
    let Some(changes) = patch.as_object() else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = json!({});
    }
    let Some(fields) = object.as_object_mut() else {
        return;
    };
    for (key, change) in changes {
        if change.is_null() {
            fields.remove(key);
        } else {
            merge(fields.entry(key.clone()).or_insert(Value::Null), change);
        }
    }
}

/// A write of the object leaves its status, a write of the status everything
/// else, and no write chooses a version.
fn keep_what_is_the_servers(patched: &mut Value, current: &Value, writes_status: bool) {
    if writes_status {
        let status = patched["status"].take();
        *patched = current.clone();
        patched["status"] = status;
        return;
    }
    match current.get("status") {
        Some(status) => patched["status"] = status.clone(),
        None => drop(
            patched
                .as_object_mut()
                .and_then(|fields| fields.remove("status")),
        ),
    }
    patched["metadata"]["resourceVersion"] = current["metadata"]["resourceVersion"].clone();
}

/// The status alone. Strategic: conditions are merged by type, new ones come
/// first.
fn merge_status(object: &mut Value, patch: &Value, strategic: bool) {
    let mut patch = patch.clone();
    let ours = patch.get_mut("conditions").map(Value::take);
    if let (true, Some(Value::Array(ours)), Some(fields)) =
        (strategic, &ours, patch.as_object_mut())
    {
        fields.remove("conditions");
        merge_conditions(&mut object["status"]["conditions"], ours);
    } else if let Some(ours) = ours {
        patch["conditions"] = ours;
    }
    if patch.is_object() {
        merge(&mut object["status"], &patch);
    }
}

fn merge_conditions(conditions: &mut Value, changes: &[Value]) {
    let mut merged: Vec<Value> = conditions.as_array().cloned().unwrap_or_default();
    for change in changes.iter().rev() {
        // A directive of a strategic merge patch.
        if change["$patch"] == "delete" {
            merged.retain(|condition| condition["type"] != change["type"]);
            continue;
        }
        match merged
            .iter_mut()
            .find(|condition| condition["type"] == change["type"])
        {
            Some(condition) => merge(condition, change),
            None => merged.insert(0, change.clone()),
        }
    }
    *conditions = merged.into();
}

/// 415; the two kinds of API server say it in their own words (recordings 28
/// and 56).
fn unsupported_media_type(resource: Resource) -> Reply {
    let (message, details) = if resource.is_custom() {
        (
            "the body of the request was in an unknown format - accepted media types include: \
             application/json-patch+json, application/merge-patch+json, \
             application/apply-patch+yaml",
            None,
        )
    } else {
        ("415: Unsupported Media Type", Some(json!({})))
    };
    Reply::failure(415, "UnsupportedMediaType", message, details)
}

/// 422, as for a JSON Patch that cannot be applied (recording 43).
fn unprocessable() -> Reply {
    let message = "the server rejected our request due to an error in our request";
    Reply::failure(422, "Invalid", message, Some(json!({})))
}

fn undecodable(error: &serde_json::Error) -> Reply {
    let fault = if error.is_eof() {
        "unexpected end of JSON input".to_owned()
    } else {
        format!("invalid JSON: {error}")
    };
    let message = format!("error decoding patch: {fault}");
    Reply::failure(400, "BadRequest", &message, None)
}

fn negative(target: &Target, kind: &str, replicas: i64) -> Reply {
    let group = if kind == "Scale" {
        "autoscaling"
    } else {
        target.group()
    };
    let name = target.name();
    let cause = format!("Invalid value: {replicas}: must be greater than or equal to 0");
    let message = format!("{kind}.{group} \"{name}\" is invalid: spec.replicas: {cause}");
    let details = json!({
        "name": name,
        "group": group,
        "kind": kind,
        "causes": [{ "reason": "FieldValueInvalid", "message": cause, "field": "spec.replicas" }],
    });
    Reply::failure(422, "Invalid", &message, Some(details))
}
