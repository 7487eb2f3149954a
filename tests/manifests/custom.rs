//! The kinds in our manifests that are no part of Kubernetes, which therefore its schemas do not
//! have: what their definitions have of the fields that we use, written down by hand.

use serde_json::Value;

/// The form of a field.
#[derive(Clone, Copy, Debug)]
enum Form {
    Text,
    /// A port: 1 to 65535.
    Port,
    /// Of Prometheus: `90s`, `10m`.
    Duration,
}

/// A kind with its fields. In their paths `[]` is each item of a list, and `*` any key.
struct Kind {
    kind: &'static str,
    version: &'static str,
    fields: &'static [(&'static str, Form)],
    required: &'static [&'static str],
}

/// What each object has.
const METADATA: [(&str, Form); 4] = [
    ("metadata/name", Form::Text),
    ("metadata/namespace", Form::Text),
    ("metadata/labels/*", Form::Text),
    ("metadata/annotations/*", Form::Text),
];

const KINDS: [Kind; 3] = [
    // prometheus-operator.
    Kind {
        kind: "PodMonitor",
        version: "monitoring.coreos.com/v1",
        fields: &[
            ("spec/selector/matchLabels/*", Form::Text),
            ("spec/podTargetLabels/[]", Form::Text),
            ("spec/podMetricsEndpoints/[]/port", Form::Text),
            ("spec/podMetricsEndpoints/[]/path", Form::Text),
            ("spec/podMetricsEndpoints/[]/interval", Form::Duration),
        ],
        required: &[
            "spec/selector/matchLabels/*",
            "spec/podMetricsEndpoints/[]/port",
        ],
    },
    Kind {
        kind: "PrometheusRule",
        version: "monitoring.coreos.com/v1",
        fields: &[
            ("spec/groups/[]/name", Form::Text),
            ("spec/groups/[]/interval", Form::Duration),
            ("spec/groups/[]/rules/[]/alert", Form::Text),
            ("spec/groups/[]/rules/[]/expr", Form::Text),
            ("spec/groups/[]/rules/[]/for", Form::Duration),
            ("spec/groups/[]/rules/[]/labels/*", Form::Text),
            ("spec/groups/[]/rules/[]/annotations/*", Form::Text),
        ],
        required: &["spec/groups/[]/name", "spec/groups/[]/rules/[]/expr"],
    },
    // The Gateway API, experimental channel.
    Kind {
        kind: "TCPRoute",
        version: "gateway.networking.k8s.io/v1alpha2",
        fields: &[
            ("spec/parentRefs/[]/name", Form::Text),
            ("spec/parentRefs/[]/namespace", Form::Text),
            ("spec/parentRefs/[]/sectionName", Form::Text),
            ("spec/rules/[]/backendRefs/[]/name", Form::Text),
            ("spec/rules/[]/backendRefs/[]/port", Form::Port),
        ],
        required: &[
            "spec/rules/[]/backendRefs/[]/name",
            "spec/rules/[]/backendRefs/[]/port",
        ],
    },
];

/// What is wrong with an object of one of these kinds.
pub(super) fn wrong_in(object: &Value) -> Vec<String> {
    let is_it = |it: &&Kind| object["kind"] == it.kind && object["apiVersion"] == it.version;
    let Some(kind) = KINDS.iter().find(is_it) else {
        let (kind, version) = (&object["kind"], &object["apiVersion"]);
        return vec![format!(
            "{kind} of {version} has no schema, here or in Kubernetes"
        )];
    };
    let fields: Vec<(&str, Form)> = [kind.fields, &METADATA].concat();
    let mut leaves = Vec::new();
    collect(object, &mut Vec::new(), &mut leaves);
    let matched = |path: &[String]| fields.iter().find(|(pattern, _)| is_match(pattern, path));
    let wrong = leaves.iter().filter_map(|(path, value)| {
        let shown = || format!("{} {}: {value}", kind.kind, path.join("/"));
        match matched(path) {
            None if path[0] == "kind" || path[0] == "apiVersion" => None,
            Some((_, form)) if form.has(value) => None,
            Some(_) => Some(format!("{} is of a wrong form", shown())),
            None => Some(format!("{} is no field", shown())),
        }
    });
    let missing = kind.required.iter().filter(|pattern| {
        let mut paths = leaves.iter().map(|(path, _)| path);
        !paths.any(|path| is_match(pattern, path))
    });
    let missing = missing.map(|pattern| format!("{} {pattern} is missing", kind.kind));
    wrong.chain(missing).collect()
}

impl Form {
    fn has(self, value: &Value) -> bool {
        match self {
            Form::Text => value.as_str().is_some_and(|it| !it.is_empty()),
            Form::Port => value.as_u64().is_some_and(|it| (1..=65_535).contains(&it)),
            Form::Duration => value.as_str().is_some_and(|it| {
                let number = it.strip_suffix(['s', 'm', 'h']);
                number.is_some_and(|number| number.parse::<u32>().is_ok())
            }),
        }
    }
}

/// Each value that is neither an object nor a list, nor an empty one, with its path.
fn collect<'a>(
    value: &'a Value,
    path: &mut Vec<String>,
    leaves: &mut Vec<(Vec<String>, &'a Value)>,
) {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(fields) => fields.iter().map(|(key, it)| (key.clone(), it)).collect(),
        Value::Array(items) => items.iter().map(|it| ("[]".to_owned(), it)).collect(),
        _ => Vec::new(),
    };
    if children.is_empty() {
        leaves.push((path.clone(), value));
    }
    for (key, child) in children {
        path.push(key);
        collect(child, path, leaves);
        path.pop();
    }
}

fn is_match(pattern: &str, path: &[String]) -> bool {
    let segments: Vec<&str> = pattern.split('/').collect();
    let mut pairs = segments.iter().zip(path);
    segments.len() == path.len() && pairs.all(|(segment, key)| *segment == "*" || segment == key)
}

#[test]
fn what_the_definitions_do_not_have_is_wrong() {
    let route = serde_json::json!({
        "apiVersion": "gateway.networking.k8s.io/v1alpha2",
        "kind": "TCPRoute",
        "metadata": { "name": "my-app-zpa", "labels": { "app.kubernetes.io/name": "zpa" } },
        "spec": {
            "parentRefs": [{ "name": "edge" }],
            "rules": [{ "backendRefs": [{ "name": "my-app-zpa", "port": 80 }] }],
        },
    });
    assert_eq!(wrong_in(&route), [] as [String; 0]);
    let edits = [
        (
            "/spec/parentRefs/0",
            serde_json::json!({ "gateway": "edge" }),
            "parentRefs/[]/gateway: \"edge\" is no field",
        ),
        (
            "/spec/rules/0/backendRefs/0/port",
            serde_json::json!("80"),
            "port: \"80\" is of a wrong form",
        ),
        (
            "/spec/rules",
            serde_json::json!([]),
            "spec/rules/[]/backendRefs/[]/name is missing",
        ),
        ("/kind", serde_json::json!("UDPRoute"), "has no schema"),
    ];
    for (pointer, value, expected) in edits {
        let mut edited = route.clone();
        *edited.pointer_mut(pointer).unwrap() = value;
        let wrong = wrong_in(&edited);
        assert!(wrong.iter().any(|it| it.contains(expected)), "{wrong:?}");
    }
}
