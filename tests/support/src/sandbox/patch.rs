//! PATCH: merge patches, strategic merge patches of a status, and server-side
//! apply on a scale.

use serde_json::{Value, json};

use super::api::Target;
use super::http::{Reply, Request};
use super::store::{Resource, Store, text};

/// The `Scale` of a Deployment. At zero, `spec.replicas` is left out.
pub fn scale_of(deployment: &Value) -> Value {
    let meta = &deployment["metadata"];
    let spec = match deployment["spec"]["replicas"].as_u64() {
        None | Some(0) => json!({}),
        Some(replicas) => json!({ "replicas": replicas }),
    };
    let labels = deployment["spec"]["selector"]["matchLabels"]
        .as_object()
        .into_iter()
        .flatten();
    let selector: Vec<String> = labels
        .map(|(key, value)| format!("{key}={}", text(value)))
        .collect();
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
        "status": {
            "replicas": deployment["status"]["replicas"].as_u64().unwrap_or(0),
            "selector": selector.join(","),
        },
    })
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
    let applies = media_type == "application/apply-patch+yaml" && subresource == Some("scale");
    let merges = matches!(
        media_type,
        "application/merge-patch+json" | "application/strategic-merge-patch+json"
    );
    if !applies && !merges {
        return unsupported_media_type();
    }
    let Some(current) = store.get(resource, target.name()).cloned() else {
        return target.not_found();
    };
    let patch: Value = match serde_json::from_slice(&request.body) {
        Ok(patch) => patch,
        Err(error) => return undecodable(&error),
    };
    if subresource == Some("scale") {
        return patch_scale(store, target, &current, &patch);
    }
    if is_stale(&patch, &current) {
        return target.conflict();
    }
    let strategic = media_type.starts_with("application/strategic");
    let patched = store.update(resource, target.name(), |object| match subresource {
        Some(_) => merge_status(object, &patch["status"], strategic),
        None => merge_object(object, &patch),
    });
    patched.map_or_else(|| target.not_found(), |object| Reply::json(200, &object))
}

fn patch_scale(store: &mut Store, target: &Target, current: &Value, patch: &Value) -> Reply {
    let mut scale = scale_of(current);
    merge(&mut scale, patch);
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
        return negative(target, replicas);
    }
    if is_stale(patch, current) {
        return target.conflict();
    }
    let scaled = store.update(Resource::Deployments, target.name(), |object| {
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

/// Everything but what is the server's own.
fn merge_object(object: &mut Value, patch: &Value) {
    let (status, version) = (
        object["status"].clone(),
        object["metadata"]["resourceVersion"].clone(),
    );
    merge(object, patch);
    object["status"] = status;
    object["metadata"]["resourceVersion"] = version;
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

fn unsupported_media_type() -> Reply {
    let message = "415: Unsupported Media Type";
    Reply::failure(415, "UnsupportedMediaType", message, Some(json!({})))
}

fn undecodable(error: &serde_json::Error) -> Reply {
    let fault = match error.is_eof() {
        true => "unexpected end of JSON input".to_owned(),
        false => format!("invalid JSON: {error}"),
    };
    let message = format!("error decoding patch: {fault}");
    Reply::failure(400, "BadRequest", &message, None)
}

fn negative(target: &Target, replicas: i64) -> Reply {
    let name = target.name();
    let cause = format!("Invalid value: {replicas}: must be greater than or equal to 0");
    let message = format!("Scale.autoscaling \"{name}\" is invalid: spec.replicas: {cause}");
    let details = json!({
        "name": name,
        "group": "autoscaling",
        "kind": "Scale",
        "causes": [{ "reason": "FieldValueInvalid", "message": cause, "field": "spec.replicas" }],
    });
    Reply::failure(422, "Invalid", &message, Some(details))
}
