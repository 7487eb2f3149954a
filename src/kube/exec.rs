//! A [`Plugin`] is a command of a kubeconfig that prints a credential
//! (`client.authentication.k8s.io`, v1 and v1beta1).
//!
//! It has no terminal. If it runs longer, or prints more, than the limits here, its whole
//! process group is killed.

use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::kubeconfig::ExecConfig;
use super::rfc3339;
use super::text::printable;
use super::token::Token;
use crate::clock::{Clock, Time};
use crate::sys;

/// The variable with the `ExecCredential` that describes the request to the command.
const INFO: &str = "KUBERNETES_EXEC_INFO";
/// The API versions that client-go supports.
const VERSIONS: [&str; 2] = [
    "client.authentication.k8s.io/v1",
    "client.authentication.k8s.io/v1beta1",
];
/// The timeout of a run. A command that calls a cloud API takes a second or two.
const MAX_RUN: Duration = Duration::from_secs(30);
/// The interval at which the exit of a command is polled while its output stays open.
const TICK: Duration = Duration::from_millis(20);
/// The most bytes that it may print to stdout.
const MAX_OUTPUT: usize = 256 * 1024;
/// The most bytes of its stderr that are kept.
const MAX_STDERR: usize = 4 * 1024;

/// A command, ready to be run. Has no `Debug`: its environment may have secrets.
#[derive(Clone)]
pub(super) struct Plugin {
    command: String,
    args: Vec<String>,
    env: Vec<(String, String)>,
    version: String,
    install_hint: Option<String>,
    /// The value of [`INFO`].
    info: String,
    longest: Duration,
}

/// The credential that a command has printed.
pub(super) struct Credential {
    /// The bearer token to send.
    pub(super) token: Option<Token>,
    /// A client certificate and its key, both PEM.
    pub(super) identity: Option<(Vec<u8>, Vec<u8>)>,
    /// Its lifetime; `None`: until the server refuses it.
    pub(super) lifetime: Option<Duration>,
}

impl Plugin {
    /// The command of `config`. `cluster` makes the `spec.cluster` that is passed to it if
    /// `config` demands that.
    ///
    /// # Errors
    /// Which part of `config` is not supported.
    pub(super) fn new(
        config: &ExecConfig,
        cluster: impl FnOnce() -> Value,
    ) -> Result<Plugin, String> {
        let version = config.api_version.as_str();
        if config.command.is_empty() {
            return Err("exec: it names no command".to_owned());
        }
        if !VERSIONS.contains(&version) {
            return Err(format!(
                "exec: its apiVersion is \"{}\"; use {}",
                printable(version),
                VERSIONS.join(" or ")
            ));
        }
        let mode = config.interactive_mode.as_deref();
        match mode {
            None | Some("Never" | "IfAvailable") => {}
            Some("Always") => {
                return Err(
                    "exec: its interactiveMode is Always, and there is no terminal here; \
                            use a command that needs none"
                        .to_owned(),
                );
            }
            Some(other) => {
                let other = printable(other);
                return Err(format!("exec: its interactiveMode is \"{other}\""));
            }
        }
        let mut spec = json!({ "interactive": false });
        if config.provide_cluster_info == Some(true) {
            spec["cluster"] = cluster();
        }
        let info = json!({ "kind": "ExecCredential", "apiVersion": version, "spec": spec });
        let env = config.env.iter().flatten();
        Ok(Plugin {
            command: config.command.clone(),
            args: config.args.clone().unwrap_or_default(),
            env: env
                .map(|it| (it.name.clone(), it.value.clone()))
                .filter(|(name, value)| is_variable(name, value))
                .collect(),
            version: version.to_owned(),
            install_hint: config.install_hint.clone(),
            info: info.to_string(),
            longest: MAX_RUN,
        })
    }

    /// Runs the command to its end. `wall` is the time of day in seconds since 1970, from
    /// which the lifetime is computed.
    ///
    /// # Errors
    /// Why there is no credential, in printable characters. The text may contain the
    /// command's stderr, and nothing of its stdout.
    pub(super) fn run(&self, clock: Clock, wall: u64) -> Result<Credential, String> {
        let output = self.output(clock)?;
        parse(&output, &self.version, wall)
            .map_err(|why| self.named(&format!("what it has printed is of no use: {why}")))
    }

    fn output(&self, clock: Clock) -> Result<Vec<u8>, String> {
        let spawned = Command::new(&self.command)
            .args(&self.args)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .env(INFO, &self.info)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn();
        let child = spawned.map_err(|cause| match &self.install_hint {
            Some(hint) => self.named(&format!("{cause}; {}", printable(hint))),
            None => self.named(&cause.to_string()),
        })?;
        let mut run = Run::new(child, clock() + self.longest);
        match run.finish(clock) {
            Ok(status) if status.success() => Ok(std::mem::take(&mut run.stdout.bytes)),
            Ok(status) => {
                let said = printable(&String::from_utf8_lossy(&run.stderr.bytes));
                Err(self.named(&format!("{status}: {said}")))
            }
            Err(why) => Err(self.named(&why)),
        }
    }

    fn named(&self, why: &str) -> String {
        format!("exec plugin \"{}\": {why}", printable(&self.command))
    }
}

/// Whether it can be in an environment. If not, every start would fail.
fn is_variable(name: &str, value: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0')
}

/// A running command.
struct Run {
    child: Child,
    stdout: Captured<ChildStdout>,
    stderr: Captured<ChildStderr>,
    deadline: Time,
}

/// The output of a pipe, which is `None` once it has ended.
struct Captured<P> {
    pipe: Option<P>,
    bytes: Vec<u8>,
}

impl Run {
    fn new(mut child: Child, deadline: Time) -> Self {
        Run {
            stdout: Captured::new(child.stdout.take()),
            stderr: Captured::new(child.stderr.take()),
            child,
            deadline,
        }
    }

    /// Reads the output until the command ends. Processes that it leaves in the background
    /// are not waited for, even if they hold its pipes.
    fn finish(&mut self, clock: Clock) -> Result<ExitStatus, String> {
        loop {
            let ended = self.child.try_wait().map_err(|cause| cause.to_string())?;
            let left = self.deadline.since(clock());
            // After its end, only the bytes that are in the pipes already.
            let wait = if ended.is_some() {
                Duration::ZERO
            } else {
                TICK
            };
            let moved = self.take_some(wait.min(left))?;
            match ended {
                Some(status) if !moved => return Ok(status),
                None if left.is_zero() => {
                    return Err("it takes too long and was killed".to_owned());
                }
                _ => {}
            }
        }
    }

    /// Reads from both pipes; returns whether there was anything.
    fn take_some(&mut self, wait: Duration) -> Result<bool, String> {
        let pipes = [
            self.stdout.pipe.as_ref().map(AsFd::as_fd),
            self.stderr.pipe.as_ref().map(AsFd::as_fd),
        ];
        let ready = sys::wait_readable(pipes, wait).map_err(|cause| cause.to_string())?;
        if ready[0] {
            self.stdout.take_some()?;
        }
        if ready[1] {
            self.stderr.take_some()?;
            self.stderr.bytes.truncate(MAX_STDERR);
        }
        if self.stdout.bytes.len() > MAX_OUTPUT {
            Err(format!(
                "it prints more than {MAX_OUTPUT} bytes and was killed"
            ))
        } else {
            Ok(ready.contains(&true))
        }
    }
}

impl<P: Read> Captured<P> {
    fn new(pipe: Option<P>) -> Self {
        Captured {
            pipe,
            bytes: Vec::new(),
        }
    }

    /// Reads once; the caller has checked that this does not block.
    fn take_some(&mut self) -> Result<(), String> {
        let Some(pipe) = &mut self.pipe else {
            return Ok(());
        };
        let mut buffer = [0; 4096];
        match pipe.read(&mut buffer).map_err(|cause| cause.to_string())? {
            0 => self.pipe = None,
            count => self.bytes.extend_from_slice(&buffer[..count]),
        }
        Ok(())
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // A process that was waited for may have another process's id now.
        if let Ok(None) = self.child.try_wait() {
            sys::kill_group(&self.child);
            let _ = self.child.wait();
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExecCredential {
    api_version: String,
    status: Option<Status>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    expiration_timestamp: Option<String>,
    token: Option<String>,
    client_certificate_data: Option<String>,
    client_key_data: Option<String>,
}

/// Reads an ExecCredential of that version.
///
/// # Errors
/// What is wrong with it. Only its version is quoted.
fn parse(output: &[u8], version: &str, wall: u64) -> Result<Credential, String> {
    // The cause is not shown: it could quote a secret.
    let credential: ExecCredential =
        serde_json::from_slice(output).map_err(|_| "it is no ExecCredential in JSON")?;
    if credential.api_version != version {
        return Err(format!(
            "its apiVersion is \"{}\", and that of the kubeconfig {version}",
            printable(&credential.api_version)
        ));
    }
    let status = credential.status.ok_or("it has no status")?;
    let present = |text: Option<String>| text.filter(|text| !text.is_empty());
    let token = match present(status.token) {
        None => None,
        Some(token) => Some(Token::new(&token).ok_or("its token cannot be sent")?),
    };
    let certificate = present(status.client_certificate_data);
    let identity = match (certificate, present(status.client_key_data)) {
        (Some(chain), Some(key)) => Some((chain.into_bytes(), key.into_bytes())),
        (None, None) => None,
        _ => return Err("its clientCertificateData and clientKeyData go together".to_owned()),
    };
    if token.is_none() && identity.is_none() {
        return Err("it has neither a token nor a certificate".to_owned());
    }
    let lifetime = match present(status.expiration_timestamp) {
        None => None,
        Some(time) => {
            let end = rfc3339::unix(&time).ok_or("its expirationTimestamp is no time")?;
            Some(Duration::from_secs(end.saturating_sub(wall)))
        }
    };
    Ok(Credential {
        token,
        identity,
        lifetime,
    })
}

#[cfg(test)]
mod tests;
