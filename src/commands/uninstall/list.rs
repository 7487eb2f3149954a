//! The list of a proxy with `--apps`: the ConfigMap that it is kept in, and the same list without
//! some of its apps.

use serde_json::Value;

use super::text;

/// Where a file of a proxy's container comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The name of the ConfigMap.
    pub config_map: String,
    /// The key in its data.
    pub key: String,
}

/// The ConfigMap that has a file of the first container of a Deployment.
///
/// # Errors
/// Where the file is instead.
pub fn source_of(deployment: &Value, file: &str) -> Result<Source, String> {
    let pod = &deployment["spec"]["template"]["spec"];
    let mounts = pod["containers"][0]["volumeMounts"].as_array();
    let within = |mount: &&Value| {
        let rest = file.strip_prefix(text(&mount["mountPath"]).trim_end_matches('/'));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    // The innermost mount is the one that is seen.
    let mounts = mounts.into_iter().flatten().filter(within);
    let mount = mounts.max_by_key(|mount| text(&mount["mountPath"]).len());
    let mount = mount.ok_or("is in no volume of the Deployment")?;
    if !mount["subPath"].is_null() || !mount["subPathExpr"].is_null() {
        return Err("is mounted with subPath, and never changes while a pod runs".to_owned());
    }
    let volumes = pod["volumes"].as_array().into_iter().flatten();
    let mut volumes = volumes.filter(|volume| volume["name"] == mount["name"]);
    let volume = &volumes.next().unwrap_or(&Value::Null)["configMap"];
    let Some(config_map) = volume["name"].as_str() else {
        return Err("is in a volume that is no ConfigMap".to_owned());
    };
    let path = &file[text(&mount["mountPath"]).trim_end_matches('/').len()..];
    let path = path.trim_start_matches('/');
    let items = volume["items"].as_array().into_iter().flatten();
    let mut items = items.filter(|item| item["path"] == path);
    let key = items.next().map_or(path, |item| text(&item["key"]));
    Ok(Source {
        config_map: config_map.to_owned(),
        key: key.to_owned(),
    })
}

/// A JSON list without the entries at these places; what is left stays as it was written. The
/// text has to be a list, which the caller has read.
pub fn without(list: &str, places: &[usize]) -> String {
    let spans = spans(list);
    let kept: Vec<&str> = spans
        .iter()
        .enumerate()
        .filter(|(place, _)| !places.contains(place))
        .map(|(_, span)| list[span.clone()].trim_end())
        .collect();
    let (Some(first), Some(last)) = (spans.first(), spans.last()) else {
        return list.to_owned();
    };
    let end = list[last.clone()].trim_end().len() + last.start;
    format!("{}{}{}", &list[..first.start], kept.join(","), &list[end..])
}

/// The entries of a JSON list, each with the white space before it.
fn spans(list: &str) -> Vec<std::ops::Range<usize>> {
    let mut spans = Vec::new();
    let (mut depth, mut start, mut is_quoted, mut is_escaped) = (0, 0, false, false);
    for (at, c) in list.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            _ if is_quoted => {}
            '[' | '{' => {
                depth += 1;
                if depth == 1 {
                    start = at + 1;
                }
            }
            ',' if depth == 1 => {
                spans.push(start..at);
                start = at + 1;
            }
            ']' | '}' => {
                depth -= 1;
                if depth == 0 && !list[start..at].trim().is_empty() {
                    spans.push(start..at);
                }
            }
            _ => {}
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_left_of_a_list_stays_as_it_was_written() {
        let list = "[\n  {\"deployment\": \"a\", \"x\": \"],{\\\"\"},\n  {\"deployment\": \"b\"},\n  {\"deployment\": \"c\"}\n]\n";
        for (places, expected) in [
            (
                &[1][..],
                "[\n  {\"deployment\": \"a\", \"x\": \"],{\\\"\"},\n  {\"deployment\": \"c\"}\n]\n",
            ),
            (&[0, 2], "[\n  {\"deployment\": \"b\"}\n]\n"),
            (&[], list),
        ] {
            assert_eq!(without(list, places), expected);
        }
        assert_eq!(without("[]", &[]), "[]");
    }

    proptest! {
        /// Whatever the entries are, and however they are written.
        #[test]
        fn the_entries_that_are_left_are_those_that_were_there(
            texts in prop::collection::vec("\\PC{0,8}", 0..5),
            place in 0..5_usize,
            is_pretty in any::<bool>(),
        ) {
            let entries: Vec<Value> = texts.iter().map(|text| json!({ text: [text, {}], "b": text })).collect();
            let list = json!(entries);
            let written = if is_pretty { format!("{list:#}") } else { list.to_string() };
            let left: Value = serde_json::from_str(&without(&written, &[place])).unwrap();
            let mut expected = entries;
            if place < expected.len() {
                expected.remove(place);
            }
            prop_assert_eq!(left, json!(expected));
        }
    }

    fn deployment(mounts: &Value, volumes: &Value) -> Value {
        json!({ "spec": { "template": { "spec": {
            "containers": [{ "volumeMounts": mounts }], "volumes": volumes } } } })
    }

    #[test]
    fn the_config_map_of_a_mounted_file_is_found_and_what_else_it_may_be_is_said() {
        let mounts = json!([
            { "name": "all", "mountPath": "/etc" },
            { "name": "list", "mountPath": "/etc/zpa/" },
            { "name": "fixed", "mountPath": "/etc/fixed.json", "subPath": "apps.json" },
            { "name": "secret", "mountPath": "/secret" },
        ]);
        let volumes = json!([
            { "name": "all", "emptyDir": {} },
            { "name": "list", "configMap": { "name": "zpa-list", "items": [{ "key": "b", "path": "b.json" }] } },
            { "name": "secret", "secret": { "secretName": "s" } },
        ]);
        let deployment = deployment(&mounts, &volumes);
        for (file, expected) in [
            ("/etc/zpa/apps.json", Ok("apps.json")),
            ("/etc/zpa/b.json", Ok("b")),
            ("/etc/fixed.json", Err("subPath")),
            ("/etc/other.json", Err("no ConfigMap")),
            ("/secret/apps.json", Err("no ConfigMap")),
            ("/etcetera/apps.json", Err("in no volume")),
            ("/apps.json", Err("in no volume")),
        ] {
            match (source_of(&deployment, file), expected) {
                (Ok(source), Ok(key)) => {
                    assert_eq!((&*source.config_map, &*source.key), ("zpa-list", key));
                }
                (Err(why), Err(part)) => assert!(why.contains(part), "{file}: {why}"),
                (other, _) => panic!("{file}: {other:?}"),
            }
        }
        assert!(source_of(&json!(7), "/a").is_err());
    }
}
