//! The output of the binary for its arguments.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

fn zpa(args: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zpa"));
    command
        .env_clear()
        .envs(env.iter().copied())
        .args(args)
        .output()
        .expect("zpa runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

#[test]
fn help_and_version_go_to_stdout_and_end_well() {
    for (flag, expected) in [
        ("--help", "ZPA_IDLE_TTL"),
        (
            "--version",
            concat!("zpa ", env!("CARGO_PKG_VERSION"), "\n"),
        ),
    ] {
        let output = zpa(&[flag], &[]);
        assert!(output.status.success(), "{output:?}");
        let stdout = text(&output.stdout);
        assert!(
            stdout.contains(expected) && !stdout.contains("zpa zpa"),
            "{stdout}"
        );
    }
}

#[test]
fn all_wrong_settings_are_reported_in_one_run_with_exit_code_2() {
    let output = zpa(
        &["--idle-ttl=5x", "--wake-replicas", "0"],
        &[("ZPA_LISTEN", "nowhere"), ("ZPA_DEPLOYMENT", "Bad_Name")],
    );
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let stderr = text(&output.stderr);
    for name in [
        "--idle-ttl",
        "--wake-replicas",
        "ZPA_LISTEN",
        "ZPA_DEPLOYMENT",
    ] {
        assert!(stderr.contains(name), "{name} in {stderr}");
    }
    assert_eq!(stderr.lines().count(), 4, "{stderr}");
}

#[test]
fn without_credentials_it_says_where_it_has_looked_and_ends_with_2() {
    let output = zpa(&["--deployment=app", "--credentials=/nonexistent"], &[]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let stderr = text(&output.stderr);
    assert!(stderr.contains("KUBERNETES_SERVICE_HOST") || stderr.contains("/nonexistent"));
}

/// A directory that is gone with the test.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let name = format!("zpa-e2e-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("a directory of our own");
        Directory(path)
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).expect("a file of our own");
        path.display().to_string()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What it says where it cannot start.
#[track_caller]
fn complaint(args: &[&str], env: &[(&str, &str)]) -> String {
    let output = zpa(args, env);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let stderr = text(&output.stderr);
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    stderr
}

#[test]
fn roots_of_no_use_are_reported_by_their_file_before_it_listens_and_no_secret_with_them() {
    let directory = Directory::new("roots");
    directory.write("token", "canary");
    let roots = directory.write("ca.crt", "canary");
    let credentials = directory.0.display().to_string();
    let args = [
        "--deployment=app",
        "--namespace=n",
        "--listen=127.0.0.1:0",
        "--admin-listen=off",
        "--api-server=https://127.0.0.1:1",
        "--credentials",
        &credentials,
    ];
    let stderr = complaint(&args, &[]);
    let named = format!("zpa: credentials file \"{roots}\": there is no root certificate");
    assert!(stderr.starts_with(&named), "{stderr}");
    assert!(!stderr.contains("canary"), "{stderr}");
}

#[test]
fn a_kubeconfig_that_is_not_there_or_empty_is_reported_as_such() {
    let directory = Directory::new("kubeconfig");
    let empty = directory.write("empty", "");
    for (file, why) in [
        ("/nonexistent/config", "No such file or directory"),
        (&empty, "it has no current-context"),
    ] {
        let args = [
            "--deployment=app",
            "--listen=127.0.0.1:0",
            "--kubeconfig",
            file,
        ];
        let stderr = complaint(&args, &[]);
        let named = format!("zpa: kubeconfig \"{file}\": {why}");
        assert!(stderr.starts_with(&named), "{stderr}");
    }
}

#[test]
fn a_variable_that_is_no_setting_is_warned_of_and_kubernetes_own_are_not() {
    let env = [
        ("ZPA_IDLE_TLL", "canary"),
        ("ZPA_SERVICE_HOST", "10.0.0.1"),
        ("ZPA_PORT", "tcp://10.0.0.1:80"),
        ("ZPA_PORT_80_TCP_ADDR", "10.0.0.1"),
    ];
    let output = zpa(&["--deployment=app"], &env);
    let stderr = text(&output.stderr);
    let [warning, _no_credentials] = stderr.lines().collect::<Vec<_>>()[..] else {
        panic!("{stderr}");
    };
    assert!(warning.contains("WARN"), "{warning}");
    assert!(warning.contains("did you mean ZPA_IDLE_TTL?"), "{warning}");
    assert!(!stderr.contains("canary"), "{stderr}");
}

#[test]
fn an_address_in_use_is_an_error_that_names_the_setting() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let args = [
        "--deployment=app",
        "--namespace=n",
        "--api-server=http://127.0.0.1:1",
    ];
    let output = zpa(&args, &[("ZPA_LISTEN", &address)]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let stderr = text(&output.stderr);
    assert!(
        stderr.contains("ZPA_LISTEN") && stderr.contains(&address),
        "{stderr}"
    );
}

#[test]
fn an_admin_address_in_use_is_an_error_that_names_the_setting_and_the_way_out() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let args = [
        "--deployment=app",
        "--namespace=n",
        "--listen=127.0.0.1:0",
        "--api-server=http://127.0.0.1:1",
    ];
    let output = zpa(&args, &[("ZPA_ADMIN_LISTEN", &address)]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let stderr = text(&output.stderr);
    for part in ["ZPA_ADMIN_LISTEN", &address, "off"] {
        assert!(stderr.contains(part), "{part} in {stderr}");
    }
}
