//! Commands that print credentials, that do not, and that do not end.

use std::path::Path;
use std::time::Instant;

use super::super::kubeconfig::ExecVariable;
use super::super::testing::{self, DEADLINE, Directory};
use super::*;

const V1: &str = "client.authentication.k8s.io/v1";

fn config(script: &str) -> ExecConfig {
    ExecConfig {
        command: "sh".into(),
        args: Some(["-c", script].map(str::to_owned).into()),
        api_version: V1.into(),
        ..ExecConfig::default()
    }
}

fn plugin(config: &ExecConfig) -> Plugin {
    Plugin::new(config, || json!({ "server": "https://h" })).unwrap()
}

fn run(script: &str) -> Result<Credential, String> {
    plugin(&config(script)).run(testing::clock, 0)
}

fn token(credential: &Credential) -> String {
    let header = credential.token.as_ref().unwrap().header();
    header.to_str().unwrap().to_owned()
}

/// What prints a credential with that token, a word for the shell.
fn printing(token: &str) -> String {
    format!(r#"printf '{{"apiVersion":"{V1}","status":{{"token":"%s"}}}}' {token}"#)
}

#[test]
fn a_command_has_its_arguments_and_environment_and_gets_what_it_is_for() {
    let mut config = config(&printing(
        r#""$A-$1-$(printf %s "$KUBERNETES_EXEC_INFO" | tr -d '"')""#,
    ));
    config
        .args
        .as_mut()
        .unwrap()
        .extend(["zero".into(), "one".into()]);
    config.env = Some(vec![ExecVariable {
        name: "A".into(),
        value: "b".into(),
    }]);
    let output = |config: &ExecConfig| token(&plugin(config).run(testing::clock, 0).ok().unwrap());
    let info = format!("{{apiVersion:{V1},kind:ExecCredential,spec:{{interactive:false}}}}");
    assert_eq!(output(&config), format!("Bearer b-one-{info}"));
    config.provide_cluster_info = Some(true);
    let spec = "spec:{cluster:{server:https://h},interactive:false}";
    assert!(output(&config).contains(spec), "{}", output(&config));
}

#[test]
fn a_command_that_fails_is_reported_with_its_complaint_and_never_by_its_output() {
    for (label, script, why) in [
        (
            "exits",
            "echo canary; echo 'no\u{1b}[1m login' >&2; exit 3",
            "exit status: 3: no\\u{1b}[1m login",
        ),
        ("is killed", "kill -9 $$", "signal: 9"),
        (
            "prints nothing",
            "true",
            "what it has printed is of no use: it is no ExecCredential",
        ),
        (
            "prints rubbish",
            "echo canary",
            "it is no ExecCredential in JSON",
        ),
        (
            "prints without end",
            "yes canary",
            "it prints more than 262144 bytes and was killed",
        ),
        (
            "complains without end",
            "yes canary >&2 & sleep 0.2; kill $!; exit 1",
            "exit status: 1",
        ),
    ] {
        let error = run(script).err().unwrap_or_default();
        assert!(
            error.starts_with("exec plugin \"sh\": "),
            "{label}: {error}"
        );
        assert!(error.contains(why), "{label}: {error}");
        assert!(error.len() < 1000, "{label}: {error}");
        assert!(
            label.starts_with("complains") || !error.contains("canary"),
            "{label}: {error}"
        );
    }
}

#[test]
fn a_command_that_is_not_there_is_reported_with_the_way_to_have_it() {
    let config = ExecConfig {
        command: "/nonexistent/aws".into(),
        install_hint: Some("install\nit".into()),
        ..config("")
    };
    let error = plugin(&config).run(testing::clock, 0).err().unwrap();
    let expected =
        "exec plugin \"/nonexistent/aws\": No such file or directory (os error 2); install\\nit";
    assert_eq!(error, expected);
}

/// Waits until the process is gone, or is a zombie that nobody waits for.
fn gone(process: &str) -> bool {
    let status = Path::new("/proc").join(process).join("stat");
    let deadline = Instant::now() + DEADLINE;
    while Instant::now() < deadline {
        match std::fs::read_to_string(&status) {
            Ok(text) if !text.contains(") Z ") => std::thread::yield_now(),
            _ => return true,
        }
    }
    false
}

#[test]
fn a_command_that_does_not_end_is_killed_with_all_that_it_has_started() {
    let directory = Directory::new("exec-hangs");
    let path = directory.0.join("pid");
    let script = format!("sleep 600 & echo $! >{}; wait", path.display());
    // Long enough for a shell to write the file on a machine that is busy.
    let hung = Plugin {
        longest: Duration::from_secs(2),
        ..plugin(&config(&script))
    };
    let error = hung.run(testing::clock, 0).err().unwrap();
    assert_eq!(
        error,
        "exec plugin \"sh\": it takes too long and was killed"
    );
    let process = std::fs::read_to_string(path).unwrap();
    assert!(gone(process.trim()), "{process}");
}

#[test]
fn what_a_command_leaves_behind_is_not_waited_for() {
    let directory = Directory::new("exec-leaves");
    let path = directory.0.join("pid");
    let script = format!("sleep 600 & echo $! >{}; {}", path.display(), printing("t"));
    let credential = run(&script).ok().unwrap();
    assert_eq!(token(&credential), "Bearer t");
    let process = std::fs::read_to_string(path).unwrap();
    let ended = Command::new("kill").arg(process.trim()).status().unwrap();
    assert!(ended.success(), "it was left alone");
}

#[test]
fn what_a_command_prints_is_read_as_client_go_reads_it() {
    let wrap =
        |status: &str| format!(r#"{{"apiVersion":"{V1}","kind":"ExecCredential",{status}}}"#);
    let status = |fields: &str| wrap(&format!(r#""spec":{{}},"status":{{{fields}}}"#));
    let bad_version =
        r#"{"apiVersion":"client.authentication.k8s.io/v1beta1","status":{"token":"t"}}"#;
    for (label, output, expected) in [
        ("a token", status(r#""token":"t""#), Ok((true, false, None))),
        (
            "a token that ends",
            status(r#""token":"t","expirationTimestamp":"1970-01-01T00:20:00Z""#),
            Ok((true, false, Some(200))),
        ),
        (
            "a token that has ended",
            status(r#""token":"t","expirationTimestamp":"1970-01-01T00:00:00Z""#),
            Ok((true, false, Some(0))),
        ),
        (
            "a certificate",
            status(r#""clientCertificateData":"c","clientKeyData":"k","token":"""#),
            Ok((false, true, None)),
        ),
        (
            "both",
            status(r#""token":"t","clientCertificateData":"c","clientKeyData":"k""#),
            Ok((true, true, None)),
        ),
        (
            "half a certificate",
            status(r#""token":"t","clientKeyData":"canary""#),
            Err("go together"),
        ),
        (
            "an empty status",
            status(""),
            Err("neither a token nor a certificate"),
        ),
        ("no status", wrap(r#""spec":{}"#), Err("it has no status")),
        (
            "another version",
            bad_version.to_owned(),
            Err("its apiVersion is \"client.authentication.k8s.io/v1beta1\""),
        ),
        (
            "a token of two lines",
            status(r#""token":"canary\nb""#),
            Err("its token cannot be sent"),
        ),
        (
            "no time",
            status(r#""token":"t","expirationTimestamp":"canary""#),
            Err("its expirationTimestamp is no time"),
        ),
    ] {
        match (parse(output.as_bytes(), V1, 1000), expected) {
            (Ok(credential), Ok((token, certificate, seconds))) => {
                assert_eq!(credential.token.is_some(), token, "{label}");
                assert_eq!(credential.identity.is_some(), certificate, "{label}");
                assert_eq!(
                    credential.lifetime,
                    seconds.map(Duration::from_secs),
                    "{label}"
                );
            }
            (Err(error), Err(why)) => {
                assert!(error.contains(why), "{label}: {error}");
                assert!(!error.contains("canary"), "{label}: {error}");
            }
            (Ok(_), Err(why)) => panic!("{label}: taken, and not refused as {why}"),
            (Err(error), Ok(_)) => panic!("{label}: {error}"),
        }
    }
}
