//! Networks of clients in files that change while the proxy runs.

use super::*;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::apps_file::{List, address, app, start, three};
use crate::clients::connect_from;

/// A file in a directory of its own, mounted as a ConfigMap is.
struct Mounted {
    directory: PathBuf,
    version: usize,
}

impl Mounted {
    fn new(name: &str, text: &str) -> Mounted {
        let directory = format!("zpa-mounted-{name}-{}", std::process::id());
        let directory = std::env::temp_dir().join(directory);
        fs::create_dir_all(&directory).unwrap();
        std::os::unix::fs::symlink("..data/sources", directory.join("sources")).unwrap();
        let mut file = Mounted {
            directory,
            version: 0,
        };
        file.set(text);
        file
    }

    /// The value of a setting that names it.
    fn value(&self) -> String {
        format!("@{}", self.directory.join("sources").display())
    }

    /// Replaces the text as the kubelet does.
    fn set(&mut self, text: &str) {
        self.version += 1;
        let name = format!("..{}", self.version);
        fs::create_dir(self.directory.join(&name)).unwrap();
        fs::write(self.directory.join(&name).join("sources"), text).unwrap();
        let link = self.directory.join("..data_tmp");
        std::os::unix::fs::symlink(&name, &link).unwrap();
        fs::rename(&link, self.directory.join("..data")).unwrap();
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

const SECOND: [u8; 4] = [127, 0, 0, 2];
const THIRD: [u8; 4] = [127, 0, 0, 3];

#[test]
fn a_file_of_a_single_app_is_followed_and_open_connections_notice_nothing() {
    let sandbox = awake();
    let mut file = Mounted::new("deny", "127.0.0.2\n");
    let denied = file.value();
    let zpa = start_zpa(&sandbox, &[LONG_TTL, ("ZPA_DENY_SOURCES", &denied)]);
    expect_reset(&mut connect_from(&zpa, SECOND));
    let mut open = connect_from(&zpa, THIRD);
    echo(&mut open, "let in");
    let renewals = |sandbox: &Sandbox| sandbox.count(&on("patch", "deployments/status"));
    let before = renewals(&sandbox);

    file.set("# who scans us\n127.0.0.3\n");
    zpa.expect_log("are in force");
    expect_reset(&mut connect_from(&zpa, THIRD));
    let mut other = connect_from(&zpa, SECOND);
    echo(&mut other, "let in now");
    echo(&mut open, "and this one stays");
    zpa.expect_metric("zpa_source_files_total{result=\"taken\"}", 1.0);

    file.set("127.0.0.3\n127.0.0.0/33\n");
    zpa.expect_log("sources: line 2: \"127.0.0.0/33\" is neither a network");
    let state = |status: &Value| status["source_files"][0].clone();
    zpa.expect_status("what is wrong is said", |status| {
        state(status)["wrong"]
            .as_array()
            .is_some_and(|it| it.len() == 1)
    });
    assert_eq!(state(&zpa.status())["networks"], 1);
    assert_eq!(zpa.metric("zpa_source_files_wrong"), Some(1.0));
    expect_reset(&mut connect_from(&zpa, THIRD));

    file.set("");
    zpa.expect_metric("zpa_source_files_wrong", 0.0);
    echo(&mut connect_from(&zpa, THIRD), "nobody is denied");
    echo(&mut open, "all the time");
    assert_eq!(
        renewals(&sandbox),
        before,
        "and its idle clock does not start anew"
    );
    assert_eq!(warnings(&zpa, "are wrong"), 1, "{}", zpa.log());
}

#[test]
fn an_ignored_client_wakes_nothing_until_the_file_has_it_no_more() {
    let sandbox = asleep();
    let mut file = Mounted::new("ignore", "127.0.0.0/8\n");
    let ignored = file.value();
    let zpa = start_zpa(&sandbox, &[LONG_TTL, ("ZPA_IGNORE_SOURCES", &ignored)]);
    settle_asleep(&sandbox, &zpa);
    assert_eq!(zpa.connect().read(&mut [0]).unwrap(), 0, "closed");
    file.set("192.0.2.0/24\n");
    zpa.expect_log("are in force");
    echo(&mut zpa.connect(), "good morning");
}

#[test]
fn a_file_that_is_wrong_at_the_start_is_an_error_and_without_files_nothing_is_said() {
    let file = Mounted::new("wrong", "10.0.0.1/8");
    let output = Command::new(env!("CARGO_BIN_EXE_zpa"))
        .env_clear()
        .args([
            "--deployment=app",
            "--namespace=n",
            "--api-server=http://127.0.0.1:1",
            "--listen=127.0.0.1:0",
            "--admin-listen=off",
            &format!("--deny-sources={}", file.value()),
        ])
        .output()
        .expect("zpa runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    let expected = format!(
        "--deny-sources (ZPA_DENY_SOURCES) {}: line 1:",
        file.value()
    );
    assert!(stderr.contains(&expected), "{stderr}");
    let sandbox = asleep();
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    assert_eq!(zpa.metric("zpa_source_files_wrong"), None);
}

#[test]
fn an_app_of_a_list_may_name_a_file_and_one_that_is_mended_is_taken() {
    let sandbox = three(1);
    let mut list = List::new("sources", &json!([app("myapp"), app("blog")]));
    let zpa = start(&sandbox, &list, &[LONG_TTL]);
    let mut open = zpa.connect_to(address(&zpa, "blog"));
    echo(&mut open, "hello");
    let mut file = Mounted::new("list", "wrong");
    let mut blog = app("blog");
    blog["deny-sources"] = file.value().into();
    list.set(&json!([app("myapp"), blog]).to_string());
    zpa.expect_log("line 1: \"wrong\" is neither a network");
    // The list itself does not change.
    file.set("127.0.0.0/8");
    zpa.expect_log("default/blog: settings changed");
    expect_reset(&mut zpa.connect_to(address(&zpa, "blog")));
    echo(&mut zpa.connect_to(address(&zpa, "myapp")), "another app");
    echo(&mut open, "still there");
    file.set("192.0.2.1");
    zpa.expect_log("sources are in force");
    echo(&mut zpa.connect_to(address(&zpa, "blog")), "let in again");
}
