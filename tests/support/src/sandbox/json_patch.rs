//! JSON Patch (RFC 6902), as far as clients of Kubernetes use it on objects.

use serde_json::Value;

use super::store::text;

/// A patch that cannot be applied; what was done of it is void.
#[derive(Debug, PartialEq, Eq)]
pub struct Inapplicable;

/// Applies the operations of `patch` in turn.
///
/// A `replace` of a missing member adds it where its parent is there (recordings
/// 42 and 43), which is laxer than the RFC.
pub fn apply(object: &mut Value, patch: &Value) -> Result<(), Inapplicable> {
    let operations = patch.as_array().ok_or(Inapplicable)?;
    operations
        .iter()
        .try_for_each(|operation| apply_one(object, operation))
}

fn apply_one(object: &mut Value, operation: &Value) -> Result<(), Inapplicable> {
    let path = text(&operation["path"]);
    let (parent, member) = path.rsplit_once('/').ok_or(Inapplicable)?;
    let parent = object.pointer_mut(parent).ok_or(Inapplicable)?;
    let members = parent.as_object_mut().ok_or(Inapplicable)?;
    let member = member.replace("~1", "/").replace("~0", "~");
    match text(&operation["op"]) {
        "add" | "replace" => {
            members.insert(member, operation["value"].clone());
            Ok(())
        }
        "remove" => members.remove(&member).map(drop).ok_or(Inapplicable),
        "test" if members.get(&member) == Some(&operation["value"]) => Ok(()),
        _ => Err(Inapplicable),
    }
}
