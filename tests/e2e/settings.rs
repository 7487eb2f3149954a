//! What the binary says to its arguments.

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
fn all_wrong_settings_are_told_in_one_run_with_exit_code_2() {
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
