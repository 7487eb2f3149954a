//! Access to the API server by a kubeconfig, without kubectl.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use support::sandbox::anything;

use super::*;

/// A folder with the kubeconfig and what it names, gone with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str, sandbox: &Sandbox) -> Folder {
        let name = format!("zpa-e2e-kubeconfig-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("a folder of our own");
        let folder = Folder(path);
        let ca = fs::read(sandbox.credentials().join("ca.crt")).expect("the CA");
        folder.write("ca.crt", ca);
        folder
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).expect("a file of our own");
        path
    }

    /// A kubeconfig whose user is `user`, a flow mapping.
    fn kubeconfig(&self, sandbox: &Sandbox, user: &str) -> PathBuf {
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: here\n\
             contexts: [{{name: here, context: {{cluster: c, user: u, namespace: default}}}}]\n\
             clusters: [{{name: c, cluster: {{server: '{}', certificate-authority: ca.crt}}}}]\n\
             users: [{{name: u, user: {user}}}]\n",
            sandbox.url()
        );
        self.write("config", text)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A `zpa` that knows of the sandbox by a kubeconfig alone, with a PATH that
/// has `PATH`'s shell and no kubectl of this machine if `path` is empty.
fn start(kubeconfig: &std::path::Path, path: &str, args: &[&str]) -> Zpa {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zpa"));
    command
        .env_clear()
        .env("PATH", path)
        .env("KUBECONFIG", kubeconfig)
        .env("ZPA_LOG", "debug")
        .env("ZPA_DRAIN_DELAY", "0")
        .args([
            "--deployment=myapp",
            "--listen=127.0.0.1:0",
            "--admin-listen=off",
        ])
        .args(args);
    Zpa::spawn(command)
}

#[test]
fn a_kubeconfig_with_files_is_enough_and_kubectl_is_not_needed() {
    let sandbox = asleep();
    let folder = Folder::new("files", &sandbox);
    let token = sandbox.credentials().join("token");
    let user = format!("{{tokenFile: '{}', token: old}}", token.display());
    let zpa = start(&folder.kubeconfig(&sandbox, &user), "", &[]);
    echo(&mut zpa.connect(), "hello");
    sandbox.rotate_token();
    settle_asleep_now(&sandbox);
    echo(&mut zpa.connect(), "with the new token");
}

/// Puts the app to sleep and sees to it that the pods are gone.
fn settle_asleep_now(sandbox: &Sandbox) {
    sandbox.set_replicas(0);
    sandbox.expect("no pod", |state| state.pods() == 0);
}

#[test]
fn an_exec_plugin_gives_the_token_and_is_run_again_when_it_is_refused() {
    let sandbox = asleep();
    let folder = Folder::new("exec", &sandbox);
    let token = sandbox.credentials().join("token");
    let script = r#"printf "{\"apiVersion\":\"$V\",\"status\":{\"token\":\"%s\"}}" "$(cat "$0")""#;
    let user = format!(
        "{{exec: {{command: sh, args: ['-c', '{script}', '{}'], \
         apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never, \
         env: [{{name: V, value: client.authentication.k8s.io/v1}}]}}}}",
        token.display()
    );
    let path = std::env::var("PATH").unwrap_or_default();
    let zpa = start(&folder.kubeconfig(&sandbox, &user), &path, &[]);
    echo(&mut zpa.connect(), "hello");
    sandbox.rotate_token();
    settle_asleep_now(&sandbox);
    echo(&mut zpa.connect(), "with the new token");
}

#[test]
fn an_exec_plugin_that_fails_is_reported_with_its_error_and_nothing_is_requested() {
    let sandbox = asleep();
    let folder = Folder::new("exec-fails", &sandbox);
    let user = "{exec: {command: sh, args: ['-c', 'echo log in first >&2; exit 1'], \
                apiVersion: client.authentication.k8s.io/v1}}";
    let path = std::env::var("PATH").unwrap_or_default();
    let zpa = start(&folder.kubeconfig(&sandbox, user), &path, &[]);
    zpa.expect_log("exec plugin \"sh\": exit status: 1: log in first");
    assert_eq!(sandbox.count(&anything()), 0, "{}", sandbox.summary());
}

#[test]
fn every_request_names_the_impersonated_user() {
    let sandbox = asleep();
    let folder = Folder::new("as", &sandbox);
    let user = format!("{{token: {}, as: jane, as-groups: [dev]}}", sandbox.token());
    let groups = ["--as-group=ops", "--as-group=dev"];
    let zpa = start(&folder.kubeconfig(&sandbox, &user), "", &groups);
    echo(&mut zpa.connect(), "hello");
    let requests = sandbox.requests(&anything());
    assert!(requests.len() > 3, "{}", sandbox.summary());
    for request in requests {
        assert_eq!(request.impersonated, ["jane", "ops", "dev"], "{request:?}");
    }
}

#[test]
fn while_the_token_file_is_empty_at_the_start_nothing_is_asked_as_anonymous() {
    let sandbox = asleep();
    sandbox.empty_token_file();
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    let mut client = zpa.connect();
    zpa.expect_log("nothing is asked without a token: credentials file");
    assert_eq!(sandbox.count(&anything()), 0, "{}", sandbox.summary());
    sandbox.write_token();
    echo(&mut client, "soon after");
}
