//! The text that `zpa manifests` prints, as a whole: what a change of it does to whoever compares
//! two versions is seen in the change of these files.

use std::fs;

use super::generated::yaml;
use super::rendering::root;

/// Compares with the file, or writes it with `WRITE=1` in the environment.
#[track_caller]
fn expect_printed(file: &str, args: &[&str]) {
    let path = root().join("tests/manifests/printed").join(file);
    let printed = yaml(args);
    if std::env::var_os("WRITE").is_some() {
        fs::write(&path, &printed).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap();
    let mut lines = expected.lines().zip(printed.lines()).enumerate();
    let differing = lines.find(|(_, (expected, printed))| expected != printed);
    assert!(
        expected == printed,
        "{file} is not what is printed from line {} on; if that is meant: WRITE=1 cargo test \
         --test manifests printed",
        differing.map_or(0, |(at, _)| at + 1)
    );
}

#[test]
fn the_output_for_one_app_is_this_text() {
    expect_printed(
        "my-app.yaml",
        &[
            "--deployment=my-app",
            "--namespace=shop",
            "--service-port=5432",
        ],
    );
}

#[test]
fn the_output_for_a_service_that_is_taken_over_is_this_text() {
    expect_printed(
        "take-over.yaml",
        &[
            "--deployment=my-app",
            "--namespace=shop",
            "--take-over=tests/manifests/printed/service.json",
            "--network-policy",
            "--pod-monitor",
            "--monitoring-labels=release=monitoring",
            "--tcp-route=edge/public:http,edge/public:sql",
            "--hpa",
            "--config-map=my-files:/etc/zpa",
            "--hold-answer=/etc/zpa/answer",
        ],
    );
}
