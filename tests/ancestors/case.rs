//! [`Case`]: a manifest, the app that it is for, and the program as the kubelet
//! would start it.

use std::process::Command;

use support::program::Zpa;
use support::sandbox::{Options, Sandbox};

use crate::manifest::Manifest;

/// A manifest, the app that it is for, and what its args mean.
pub struct Case {
    pub fixture: &'static str,
    pub namespace: &'static str,
    pub app: &'static str,
    pub service: &'static str,
    pub idle_ttl: &'static str,
    /// What `/status` says of where connections go.
    pub through: &'static str,
    /// What the log warns of at the start.
    pub warning: &'static str,
    /// A path of the ancestor's on its admin port, and the answer.
    pub admin: (&'static str, &'static str),
}

/// The page of zero-pod-autoscaler.
pub const GO: Case = Case {
    fixture: "go.yaml",
    namespace: "default",
    app: "myapp",
    service: "myapp",
    idle_ttl: "1h0m0s",
    through: "the pods; the target myapp:80 where no pod can be dialled",
    warning: "--namespace=\"$(NAMESPACE)\" counts as not given",
    admin: ("/healthz", "ok\n"),
};

/// The page of traffic-pod-autoscaler.
pub const PYTHON_PAGE: Case = Case {
    fixture: "python-page.yaml",
    namespace: "my-app",
    app: "my-app-deployment",
    service: "my-app-svc",
    idle_ttl: "10m0s",
    through: "the pods; the target my-app-svc:80 where no pod can be dialled",
    warning: "accepted, but without effect here: --check-interval (",
    admin: ("/healthz", "ok\n"),
};

/// The `example` directory of traffic-pod-autoscaler.
pub const PYTHON_EXAMPLE: Case = Case {
    fixture: "python-example.yaml",
    namespace: "webapp",
    app: "guestbook",
    service: "frontend-svc",
    idle_ttl: "5m0s",
    through: "the pods; the target frontend-svc:80 where no pod can be dialled",
    warning: "accepted, but without effect here: --check-interval (",
    admin: ("/ping", "{\"response\": \"pong\"}"),
};

impl Case {
    /// The fixture.
    pub fn manifest(&self) -> Manifest {
        Manifest::fixture(self.fixture)
    }

    /// Its app, and a cluster that allows what the manifest allows.
    pub fn sandbox(&self, replicas: u32) -> Sandbox {
        let sandbox = Sandbox::start(Options {
            namespace: self.namespace.to_owned(),
            name: self.app.to_owned(),
            service: Some(self.service.to_owned()),
            replicas,
            ..Options::default()
        });
        sandbox.set_rules(self.manifest().rules);
        sandbox
    }
}

/// Starts the program as the kubelet would: with those args, the environment of a
/// container, and the credentials of a service account.
pub fn start(sandbox: &Sandbox, args: &[String], env: &[(&str, &str)]) -> Zpa {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zpa"));
    command
        .args(args)
        .env_clear()
        .env("HOSTNAME", "zpa-5d9c7")
        .env(
            "KUBERNETES_SERVICE_HOST",
            sandbox.address().ip().to_string(),
        )
        .env(
            "KUBERNETES_SERVICE_PORT",
            sandbox.address().port().to_string(),
        )
        // In a container they are where the program looks by itself.
        .env("ZPA_CREDENTIALS", sandbox.credentials())
        .envs(env.iter().copied());
    Zpa::spawn(command)
}
