//! The values of the chart: their schema has the settings of the table, and refuses others.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};
use zpa::settings::{Scope, Setting, TABLE, Unset, ValueKind};

use super::super::generated;
use super::super::rendering::root;
use super::{CHART, templated};

const SCHEMA: &str = "values.schema.json";

/// A duration as in Go, or plain seconds.
const DURATION: &str = r"^([0-9]*\.?[0-9]+(ns|us|µs|ms|s|m|h))+$|^[0-9]*\.?[0-9]+$";

/// What the chart writes itself, and where the service account is.
const OUTSIDE: [&str; 2] = ["apps", "credentials"];

/// The settings that may be values: not those for use outside a cluster, nor secrets.
fn rows() -> impl Iterator<Item = &'static Setting> {
    TABLE.iter().filter(|row| row.is_own()).filter(|row| {
        let is_refused = |why: &str| {
            let args = [
                "--deployment=my-app",
                &format!("--{}={}", row.flag, row.examples[0]),
            ];
            let errors = generated::printed(&args).err().unwrap_or_default();
            errors.iter().any(|it| it.contains(why))
        };
        let is_of_no_pod = ["is for use outside a cluster", "is a secret"]
            .into_iter()
            .any(is_refused);
        !is_of_no_pod && !OUTSIDE.contains(&row.flag)
    })
}

/// The schema of a setting.
fn schema(row: &Setting) -> Value {
    let is_number = |text: &str| text.parse::<u64>().is_ok();
    let mut form = match (row.flag, row.takes, row.placeholder) {
        ("namespace", ..) => json!({ "const": "*" }),
        (_, ValueKind::Switch, _) => json!({ "enum": [true, false, "true", "false"] }),
        (_, ValueKind::Texts, _) => {
            json!({ "type": ["string", "array"], "items": { "type": "string" } })
        }
        (_, _, "DURATION") => {
            json!({ "type": ["string", "number"], "pattern": DURATION, "minimum": 0 })
        }
        (_, _, "NUMBER") => {
            let words = row.examples.iter().filter(|it| !is_number(it));
            let words: String = words.map(|word| format!("|{word}")).collect();
            json!({ "type": ["string", "integer"], "pattern": format!("^([0-9]+{words})$"), "minimum": 0 })
        }
        _ if row.examples.iter().any(|it| is_number(it)) => {
            json!({ "type": ["string", "integer"] })
        }
        _ => json!({ "type": "string" }),
    };
    form["description"] = json!(row.help);
    if let Unset::Default(value) = row.unset {
        form["default"] = json!(value);
    }
    form
}

fn properties(of: impl Fn(&Setting) -> bool) -> Value {
    let rows = rows().filter(|row| of(row));
    let properties = rows.map(|row| (row.flag.to_owned(), schema(row)));
    properties.collect::<Map<_, _>>().into()
}

#[test]
fn the_schema_has_each_setting_of_the_table() {
    let path = root().join(CHART).join(SCHEMA);
    let text = fs::read_to_string(&path).unwrap();
    let mut wanted: Value = serde_json::from_str(&text).unwrap();
    wanted["properties"]["settings"]["properties"] = properties(|_| true);
    let of_app = |row: &Setting| row.scope == Scope::App && row.flag != "namespace";
    wanted["properties"]["apps"]["items"]["properties"] = properties(of_app);
    let wanted = format!("{:#}\n", wanted);
    if wanted != text {
        let written = Path::new(env!("CARGO_TARGET_TMPDIR")).join(SCHEMA);
        fs::write(&written, wanted).unwrap();
        panic!("{} is to be as in {}", path.display(), written.display());
    }
}

/// Every example of a setting is a value that the schema takes, as text and as number.
#[test]
fn the_schema_takes_every_example_of_a_setting() {
    let most = rows().map(|row| row.examples.len()).max().unwrap();
    for at in 0..most {
        for as_number in [false, true] {
            let rows =
                rows().filter(|row| !["scale-target", "discover", "namespace"].contains(&row.flag));
            let settings: Map<String, Value> = rows
                .map(|row| {
                    let text = row.examples[at % row.examples.len()];
                    let number = text.parse::<u64>().ok().filter(|_| as_number);
                    let takes_number = row.takes != ValueKind::Texts;
                    let value = number
                        .filter(|_| takes_number)
                        .map_or(json!(text), |it| json!(it));
                    (row.flag.to_owned(), value)
                })
                .collect();
            // Some name files there.
            let mount = json!({ "name": "files", "mountPath": "/etc/" });
            let values = json!({ "settings": settings, "extraVolumeMounts": [mount] });
            let Some(templated) = templated(&values, &[]) else {
                return;
            };
            templated.unwrap_or_else(|why| panic!("{values}: {why}"));
        }
    }
}

/// The variable of a setting is made of its flag's name in the chart.
#[test]
fn each_setting_has_the_variable_of_its_name() {
    for row in rows() {
        let name = format!("ZPA_{}", row.flag.to_uppercase().replace('-', "_"));
        assert_eq!(row.variables[0], name);
    }
}

/// The keys of an object of values, and of those in it, with their parents'.
fn keys(value: &Value, parent: &str, found: &mut BTreeSet<String>) {
    for (key, value) in value.as_object().into_iter().flatten() {
        let name = format!("{parent}{key}");
        keys(value, &format!("{name}."), found);
        found.insert(name);
    }
}

fn schema_keys(schema: &Value, parent: &str, found: &mut BTreeSet<String>) {
    for (key, schema) in schema["properties"].as_object().into_iter().flatten() {
        let name = format!("{parent}{key}");
        if name != "settings" {
            schema_keys(schema, &format!("{name}."), found);
        }
        found.insert(name);
    }
}

#[test]
fn every_value_has_a_default_and_a_schema() {
    let read = |name: &str| fs::read_to_string(root().join(CHART).join(name)).unwrap();
    let defaults: Value = serde_saphyr::from_str(&read("values.yaml")).unwrap();
    let schema: Value = serde_json::from_str(&read(SCHEMA)).unwrap();
    let (mut there, mut known) = (BTreeSet::new(), BTreeSet::new());
    keys(&defaults, "", &mut there);
    schema_keys(&schema, "", &mut known);
    // Of the settings some have a value, labels have any name, and what there may be of resources
    // is computed.
    there.retain(|key| !key.starts_with("settings.") && !key.contains(".labels."));
    // Helm's own, which it gives the parts of another chart.
    assert!(known.remove("global"));
    known.retain(|key| !key.starts_with("resources."));
    let differ: Vec<_> = there.symmetric_difference(&known).collect();
    assert!(differ.is_empty(), "in one of both: {differ:?}");
}

#[test]
fn values_that_mean_nothing_are_refused_with_what_to_do() {
    let cases = [
        (json!({}), "Set one of: settings.deployment"),
        (
            json!({ "settings": { "deployment": "a", "discover": "b" } }),
            "and no two of them",
        ),
        (
            json!({ "settings": { "deployment": "a", "scale-target": "statefulsets.apps/a" } }),
            "Set one of settings.deployment and settings.scale-target",
        ),
        (
            json!({ "settings": { "service": "a" }, "apps": [{ "deployment": "a", "listen": ":80" }] }),
            "settings.service is of one app",
        ),
        (
            json!({ "settings": { "deployment": "a", "namespace": "*" } }),
            "settings.namespace goes with settings.discover",
        ),
        (
            json!({ "settings": { "deployment": "a", "listen": "1=a,2=b" },
                    "tcpRoute": { "gateway": "edge", "sectionNames": ["a"] } }),
            "tcpRoute.sectionNames: has 1 for 2 ports",
        ),
        (
            json!({ "settings": { "deployment": "a", "deny-sources": ["10.0.0.0/8", "@/etc/a/b"] },
                    "extraVolumeMounts": [{ "name": "a", "mountPath": "/etc/ab" }] }),
            "deny-sources: the file /etc/a/b is none of the proxy's container",
        ),
        (
            json!({ "apps": [{ "deployment": "a", "listen": ":80", "hold-answer": "/etc/a" }] }),
            "hold-answer: the file /etc/a is none",
        ),
        (
            json!({ "settings": { "deployment": "a", "webhook-ca": "/etc/ca.crt" } }),
            "webhook-ca: the file /etc/ca.crt is none",
        ),
        (
            json!({ "settings": { "deployment": "a".repeat(60) } }),
            "is longer than the 63 characters of a Service's name: set name",
        ),
        (
            json!({ "settings": { "deployment": "a", "idle-tll": "1h" } }),
            "additional properties 'idle-tll' not allowed",
        ),
        (
            json!({ "settings": { "deployment": "a", "idle-ttl": "soon" } }),
            "/settings/idle-ttl",
        ),
        (
            json!({ "settings": { "deployment": "a", "fail-fast": "yes" } }),
            "/settings/fail-fast",
        ),
        (
            json!({ "settings": { "deployment": "a", "webhook": "https://a" } }),
            "'webhook' not allowed",
        ),
        (
            json!({ "settings": { "deployment": "a", "token": "a" } }),
            "'token' not allowed",
        ),
        (
            json!({ "settings": { "deployment": "a" }, "replica": 2 }),
            "'replica' not allowed",
        ),
        (
            json!({ "settings": { "deployment": "a" }, "replicas": 0 }),
            "/replicas",
        ),
        (
            json!({ "settings": { "deployment": "a" }, "service": { "port": 70000 } }),
            "/service/port",
        ),
        (
            json!({ "settings": { "deployment": "a" }, "name": "A" }),
            "/name",
        ),
        (
            json!({ "apps": [{ "deployment": "a" }] }),
            "missing property 'listen'",
        ),
        (
            json!({ "apps": [{ "deployment": "a", "listen": ":80", "log": "info" }] }),
            "'log' not allowed",
        ),
    ];
    for (values, expected) in cases {
        let Some(templated) = templated(&values, &[]) else {
            return;
        };
        let why = templated.expect_err(&format!("{values} is taken"));
        assert!(why.contains(expected), "{values}: {why}");
    }
}
