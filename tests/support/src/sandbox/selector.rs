//! [`Selector`]: the `fieldSelector` and `labelSelector` of a list or a watch.

use serde_json::Value;

use super::http::Request;

/// Which objects a list or a watch is about.
#[derive(Clone, Debug, Default)]
pub struct Selector {
    pub(super) name: Option<String>,
    /// Other fields, which the API server knows of some kinds: here of Events.
    fields: Vec<(String, String)>,
    labels: Vec<Requirement>,
}

/// One part of a label selector: whether the label is there, and has the value.
#[derive(Clone, Debug)]
enum Requirement {
    Equals(String, String),
    Differs(String, String),
    Exists(String),
    Absent(String),
}

impl Requirement {
    /// Reads a part without sets (`in`, `notin`), which the sandbox does not know.
    fn of(part: &str) -> Requirement {
        let own = |text: &str| text.trim().to_owned();
        if let Some((key, value)) = part.split_once("!=") {
            return Requirement::Differs(own(key), own(value));
        }
        if let Some((key, value)) = part.split_once('=') {
            return Requirement::Equals(own(key), own(value.trim_start_matches('=')));
        }
        match part.trim().strip_prefix('!') {
            Some(key) => Requirement::Absent(own(key)),
            None => Requirement::Exists(own(part)),
        }
    }

    fn is_met(&self, labels: &Value) -> bool {
        match self {
            Requirement::Equals(key, value) => labels[key] == value.as_str(),
            Requirement::Differs(key, value) => labels[key] != value.as_str(),
            Requirement::Exists(key) => !labels[key].is_null(),
            Requirement::Absent(key) => labels[key].is_null(),
        }
    }
}

impl Selector {
    /// The object of that name; all objects if the name is empty.
    pub(super) fn by_name(name: &str) -> Selector {
        Selector {
            name: Some(name.to_owned()).filter(|name| !name.is_empty()),
            ..Selector::default()
        }
    }

    pub(super) fn of(request: &Request) -> Selector {
        let field = request.parameter("fieldSelector").unwrap_or_default();
        let labels = request.parameter("labelSelector").unwrap_or_default();
        let parts = labels.split(',').filter(|part| !part.trim().is_empty());
        let fields = field.split(',').filter_map(|part| part.split_once('='));
        let fields = fields.filter(|(key, _)| *key != "metadata.name");
        Selector {
            fields: fields
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
            name: field.strip_prefix("metadata.name=").map(str::to_owned),
            labels: parts.map(Requirement::of).collect(),
        }
    }

    /// Whether it selects every object.
    pub fn is_empty(&self) -> bool {
        self.name.is_none() && self.fields.is_empty() && self.labels.is_empty()
    }

    /// Whether it selects `object`.
    pub fn selects(&self, object: &Value) -> bool {
        let meta = &object["metadata"];
        let labels = &meta["labels"];
        let is_named = |name: &String| meta["name"] == name.as_str();
        let has = |(key, value): &(String, String)| {
            let (key, is_wanted) = match key.strip_suffix('!') {
                Some(key) => (key, false),
                None => (key.as_str(), true),
            };
            let pointer = format!("/{}", key.replace('.', "/"));
            object
                .pointer(&pointer)
                .is_some_and(|it| (it == value.as_str()) == is_wanted)
        };
        self.name.as_ref().is_none_or(is_named)
            && self.fields.iter().all(has)
            && self.labels.iter().all(|part| part.is_met(labels))
    }
}
