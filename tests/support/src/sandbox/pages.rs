//! Lists: whole, or in pages (`limit`, `continue`) that all show the version of
//! the first one.

use std::sync::Arc;

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD};
use serde_json::{Value, json};

use super::http::{Reply, Request};
use super::selector::Selector;
use super::store::{Resource, Snapshot, Store, text};

/// What a token says where a list may go on with objects of another version.
const ANY_VERSION: i64 = -1;

/// Go's `base64.RawURLEncoding`, which is not strict about the last bits.
const GO_BASE64: GeneralPurpose =
    GeneralPurpose::new(&URL_SAFE, NO_PAD.with_decode_allow_trailing_bits(true));

/// In the words of `handleCompactedErrorForPaging` of etcd3's store.
const EXPIRED: &str = "The provided continue parameter is too old to display a consistent list \
    result. You can start a new list without the continue parameter, or use the continue token in \
    this response to retrieve the remainder of the results. Continuing with the provided token \
    results in an inconsistent list - objects that were created, modified, or deleted between the \
    time the first chunk was returned and now may show up in the list.";

/// Where a page begins: at which version, and after which object.
#[derive(Clone, Debug)]
struct Token {
    version: i64,
    after: String,
}

impl Token {
    /// As the API server writes it (recording 39).
    fn encode(&self) -> String {
        let start = format!("/{}\0", self.after);
        // In this order, which a JSON tree would not keep.
        let text = format!(
            r#"{{"v":"meta.k8s.io/v1","rv":{},"start":{}}}"#,
            self.version,
            Value::from(start)
        );
        GO_BASE64.encode(text)
    }

    fn decode(token: &str) -> Result<Token, String> {
        let bytes = GO_BASE64
            .decode(token)
            .map_err(|_| "illegal base64 data at input byte 0".to_owned())?;
        let token: Value = serde_json::from_slice(&bytes).map_err(|_| {
            let first = bytes.first().copied().unwrap_or_default();
            format!("invalid character '\\x{first:02x}' looking for beginning of value")
        })?;
        let start = text(&token["start"]);
        Ok(Token {
            version: token["rv"].as_i64().unwrap_or_default(),
            after: start.trim_matches(['/', '\0']).to_owned(),
        })
    }
}

/// Answers a list.
pub fn list(
    store: &mut Store,
    resource: Resource,
    selector: &Selector,
    request: &Request,
) -> Reply {
    let limit = request
        .parameter("limit")
        .and_then(|limit| limit.parse().ok())
        .filter(|limit| *limit > 0);
    let asked = request.parameter("continue").unwrap_or_default();
    let (snapshot, after) = if asked.is_empty() {
        (store.snapshot(resource), String::new())
    } else {
        let token = match Token::decode(&asked) {
            Ok(token) => token,
            Err(why) => return bad_token(&why),
        };
        match resumed(store, resource, &token) {
            Some(snapshot) => (snapshot, token.after),
            None => return expired(&token),
        }
    };
    let selected = snapshot
        .objects
        .iter()
        .filter(|object| snapshot.key(object) > after && selector.selects(object));
    let mut items: Vec<&Arc<Value>> = selected.collect();
    let remaining = items.len().saturating_sub(limit.unwrap_or(usize::MAX));
    items.truncate(limit.unwrap_or(usize::MAX));
    let mut metadata = json!({ "resourceVersion": snapshot.version.to_string() });
    if let Some(last) = items.last().filter(|_| remaining > 0) {
        let token = Token {
            version: snapshot.version as i64,
            after: snapshot.key(last),
        };
        metadata["continue"] = token.encode().into();
        // "Servers may leave it out where there is a selector" (`ListMeta`).
        if selector.is_empty() {
            metadata["remainingItemCount"] = remaining.into();
        }
    }
    let reply = json!({
        "kind": format!("{}List", resource.kind()),
        "apiVersion": resource.api_version(),
        "metadata": metadata,
        "items": items.into_iter().map(|object| item(resource, object)).collect::<Vec<_>>(),
    });
    if remaining > 0 {
        store.keep(snapshot);
    }
    Reply::json(200, &reply)
}

/// The objects that a list goes on with, if they are still there.
fn resumed(store: &Store, resource: Resource, token: &Token) -> Option<Snapshot> {
    if token.version == ANY_VERSION {
        return Some(store.snapshot(resource));
    }
    let version = token.version.try_into().ok()?;
    store.kept(resource, version).cloned()
}

impl Snapshot {
    /// The place of an object in the list.
    fn key(&self, object: &Value) -> String {
        let metadata = &object["metadata"];
        let name = text(&metadata["name"]);
        match self.namespace.is_empty() {
            true => format!("{}/{name}", text(&metadata["namespace"])),
            false => name.to_owned(),
        }
    }
}

/// Items of a list carry neither kind nor apiVersion, but for those of custom
/// kinds, which the API server keeps as they are (`UnstructuredList`).
fn item(resource: Resource, object: &Value) -> Value {
    let mut item = object.clone();
    if let Some(fields) = item.as_object_mut().filter(|_| !resource.is_custom()) {
        fields.remove("kind");
        fields.remove("apiVersion");
    }
    item
}

fn bad_token(why: &str) -> Reply {
    let message = format!("invalid continue token: continue key is not valid: {why}");
    Reply::failure(400, "BadRequest", &message, None)
}

/// 410, with a token that goes on all the same.
fn expired(token: &Token) -> Reply {
    let rest = Token {
        version: ANY_VERSION,
        ..token.clone()
    };
    let mut status = super::http::failure_status(410, "Expired", EXPIRED);
    status["metadata"]["continue"] = rest.encode().into();
    Reply::json(410, &status)
}
