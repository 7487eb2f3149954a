//! [`Yaml`] is a value that is written as YAML, in its order and with its comments.
//!
//! The same value is always written in the same way, so that two versions can be
//! compared. No library does this: those that write YAML keep no comments.

use std::fmt::Write;

/// How long a line of a comment may get, its indentation included.
const WIDTH: usize = 84;

/// A value.
#[derive(Clone, Debug)]
pub enum Yaml {
    /// A text, in quotes where YAML would take it for something else.
    Text(String),
    /// A number.
    Number(i64),
    /// True or false.
    Bool(bool),
    /// A list: on one line if its items are no lists or maps, and have no comment.
    List(Vec<Item>),
    /// A map.
    Map(Map),
}

/// An item of a list.
#[derive(Clone, Debug)]
pub struct Item {
    comment: String,
    value: Yaml,
}

/// A map, in its order.
#[derive(Clone, Debug, Default)]
pub struct Map {
    entries: Vec<Entry>,
    /// For the entry that comes next.
    comment: String,
}

#[derive(Clone, Debug)]
struct Entry {
    comment: String,
    key: String,
    value: Yaml,
}

impl Map {
    /// A map without entries.
    pub fn new() -> Map {
        Map::default()
    }

    /// Writes a comment above the next entry.
    pub fn comment(mut self, text: &str) -> Map {
        self.comment = text.to_owned();
        self
    }

    /// Adds an entry.
    pub fn set(mut self, key: &str, value: impl Into<Yaml>) -> Map {
        self.entries.push(Entry {
            comment: std::mem::take(&mut self.comment),
            key: key.to_owned(),
            value: value.into(),
        });
        self
    }

    /// Adds an entry if there is a value.
    pub fn set_if(self, key: &str, value: Option<impl Into<Yaml>>) -> Map {
        match value {
            Some(value) => self.set(key, value),
            None => self,
        }
    }
}

impl Item {
    /// An item with a comment above it; none if the comment is empty.
    pub fn new(comment: &str, value: impl Into<Yaml>) -> Item {
        Item {
            comment: comment.to_owned(),
            value: value.into(),
        }
    }
}

impl From<&str> for Yaml {
    fn from(text: &str) -> Yaml {
        Yaml::Text(text.to_owned())
    }
}

impl From<String> for Yaml {
    fn from(text: String) -> Yaml {
        Yaml::Text(text)
    }
}

/// The kinds of literals.
impl From<i32> for Yaml {
    fn from(number: i32) -> Yaml {
        Yaml::Number(number.into())
    }
}

impl From<i64> for Yaml {
    fn from(number: i64) -> Yaml {
        Yaml::Number(number)
    }
}

/// A value that was read from the API server.
impl From<&serde_json::Value> for Yaml {
    fn from(value: &serde_json::Value) -> Yaml {
        match value {
            serde_json::Value::Bool(value) => Yaml::Bool(*value),
            serde_json::Value::String(text) => Yaml::Text(text.clone()),
            serde_json::Value::Array(items) => {
                let items = items.iter().map(|item| Item::new("", item));
                Yaml::List(items.collect())
            }
            serde_json::Value::Object(entries) => {
                let entries = entries.iter();
                Yaml::Map(entries.fold(Map::new(), |map, (key, value)| map.set(key, value)))
            }
            other => match other.as_i64() {
                Some(number) => Yaml::Number(number),
                None => Yaml::Text(other.to_string()),
            },
        }
    }
}

impl From<bool> for Yaml {
    fn from(value: bool) -> Yaml {
        Yaml::Bool(value)
    }
}

impl From<Map> for Yaml {
    fn from(map: Map) -> Yaml {
        Yaml::Map(map)
    }
}

impl From<Vec<Item>> for Yaml {
    fn from(items: Vec<Item>) -> Yaml {
        Yaml::List(items)
    }
}

impl<T: Into<Yaml>, const N: usize> From<[T; N]> for Yaml {
    fn from(items: [T; N]) -> Yaml {
        Yaml::List(items.into_iter().map(|item| Item::new("", item)).collect())
    }
}

impl Yaml {
    fn is_scalar(&self) -> bool {
        matches!(self, Yaml::Text(_) | Yaml::Number(_) | Yaml::Bool(_))
    }

    /// What stands behind a key or a dash on the same line; `None` for what takes
    /// lines of its own.
    fn inline(&self) -> Option<String> {
        match self {
            Yaml::Text(text) => Some(scalar(text)),
            Yaml::Number(number) => Some(number.to_string()),
            Yaml::Bool(value) => Some(value.to_string()),
            Yaml::List(items) => {
                let is_flat = |item: &Item| item.value.is_scalar() && item.comment.is_empty();
                let flat = items.iter().all(is_flat);
                let items = || items.iter().filter_map(|item| item.value.inline());
                flat.then(|| format!("[{}]", items().collect::<Vec<_>>().join(", ")))
            }
            Yaml::Map(map) if map.entries.is_empty() => Some("{}".to_owned()),
            Yaml::Map(_) => None,
        }
    }
}

/// One document, with a comment above it; none if the comment is empty.
pub fn document(comment: &str, map: &Map) -> String {
    let mut text = String::new();
    write_comment(&mut text, 0, comment);
    write_map(&mut text, 0, map, false);
    text
}

fn write_map(text: &mut String, indent: usize, map: &Map, behind_dash: bool) {
    for (at, entry) in map.entries.iter().enumerate() {
        let is_behind_dash = behind_dash && at == 0;
        if !is_behind_dash {
            write_comment(text, indent, &entry.comment);
            text.push_str(&" ".repeat(indent));
        }
        text.push_str(&scalar(&entry.key));
        text.push(':');
        write_value(text, indent, &entry.value);
    }
}

/// Writes what stands behind a key at `indent`.
fn write_value(text: &mut String, indent: usize, value: &Yaml) {
    match (value.inline(), value) {
        (Some(inline), _) => {
            let _ = writeln!(text, " {inline}");
        }
        (None, Yaml::List(items)) => {
            text.push('\n');
            write_items(text, indent + 2, items);
        }
        (None, Yaml::Map(map)) => {
            text.push('\n');
            write_map(text, indent + 2, map, false);
        }
        (None, _) => {}
    }
}

fn write_items(text: &mut String, indent: usize, items: &[Item]) {
    for item in items {
        // A comment of the first entry would stand behind the dash.
        let first = match &item.value {
            Yaml::Map(map) => map.entries.first().map(|entry| entry.comment.as_str()),
            _ => None,
        };
        write_comment(text, indent, &item.comment);
        write_comment(text, indent, first.unwrap_or_default());
        let _ = write!(text, "{:indent$}-", "");
        match &item.value {
            Yaml::Map(map) if !map.entries.is_empty() => {
                text.push(' ');
                write_map(text, indent + 2, map, true);
            }
            value => write_value(text, indent, value),
        }
    }
}

/// The comment in lines, each behind `# `; an empty line of it stays one.
fn write_comment(text: &mut String, indent: usize, comment: &str) {
    for paragraph in comment.lines() {
        let mut line = String::new();
        for word in paragraph.split(' ') {
            let is_full = indent + 2 + line.len() + 1 + word.len() > WIDTH;
            if is_full && !line.is_empty() {
                let _ = writeln!(text, "{:indent$}#{line}", "");
                line.clear();
            }
            line.push(' ');
            line.push_str(word);
        }
        let _ = writeln!(text, "{:indent$}#{}", "", line.trim_end());
    }
}

/// A text as YAML reads it as that text: plain if it can be nothing else, else in
/// double quotes, of which JSON's strings are a part (YAML 1.2, "Relation to JSON").
fn scalar(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:".contains(c);
    let begins_well = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    let plain = begins_well && text.chars().all(is_plain) && !text.ends_with(':');
    match plain && !is_special(text) {
        true => text.to_owned(),
        false => serde_json::Value::from(text).to_string(),
    }
}

/// The words that YAML 1.1, which kubectl reads, does not take for a text.
fn is_special(text: &str) -> bool {
    const WORDS: [&str; 9] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];
    WORDS.contains(&text.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn read(text: &str) -> Value {
        serde_saphyr::from_str(text).unwrap()
    }

    #[test]
    fn what_is_written_is_in_order_with_its_comments() {
        let map = Map::new()
            .comment("What it is.")
            .set("kind", "Role")
            .set("empty", Map::new())
            .set("verbs", ["get", "list"])
            .comment("Each is explained.")
            .set(
                "rules",
                vec![
                    Item::new("The first.", Map::new().set("a", 1).set("b", ["x"])),
                    Item::new("", Map::new().comment("Inside.").set("a", true)),
                    Item::new("A text.", "y"),
                ],
            )
            .set("last", Map::new().set("in", Map::new().set("deep", "80")));
        let expected = "\
# All of it,
# in two lines.
# What it is.
kind: Role
empty: {}
verbs: [get, list]
# Each is explained.
rules:
  # The first.
  - a: 1
    b: [x]
  # Inside.
  - a: true
  # A text.
  - \"y\"
last:
  in:
    deep: \"80\"
";
        assert_eq!(document("All of it,\nin two lines.", &map), expected);
    }

    #[test]
    fn a_long_comment_is_wrapped() {
        let comment = "word ".repeat(40);
        let text = document(comment.trim_end(), &Map::new().set("a", 1));
        assert!(text.lines().all(|line| line.len() <= WIDTH), "{text}");
        assert_eq!(text.lines().count(), 4);
    }

    proptest! {
        /// Whatever a text is, it is read as that text, as a key and as a value, alone
        /// and in a list.
        #[test]
        fn a_text_is_read_as_it_was_written(key in "[a-z]{1,5}|\\PC{0,12}", value in "\\PC{0,20}|[0-9eE.+_-]{1,6}|[yYnNoOfFtTrRuUeE~]{1,5}|0[xo][0-7]{1,3}") {
            let list = vec![Item::new("", value.clone()), Item::new("a comment", value.clone())];
            let map = Map::new()
                .set(&key, value.clone())
                .set("+flat", [value.clone()])
                .set("+list", list);
            prop_assume!(key != "+flat" && key != "+list");
            let read = read(&document("", &map));
            prop_assert_eq!(
                read,
                json!({ key: value.clone(), "+flat": [value.clone()], "+list": [value.clone(), value] })
            );
        }
    }
}
