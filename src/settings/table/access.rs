//! The rows about the API server and the credentials. All except `api-server` and
//! `credentials` are client-go's.

use std::path::Path;
use std::time::Duration;

use super::{Column, GO, PROCESS_ROW, Setting, Unset, ValueKind, reason};
use crate::cluster::ApiServer;
use crate::duration;
use crate::kubeconfig_flags::Secret;
use crate::settings::value;

pub(super) const ROWS: &[Setting] = &[
    Setting {
        flag: "kubeconfig",
        variables: &["ZPA_KUBECONFIG", "KUBECONFIG"],
        placeholder: "FILE",
        unset: Unset::Means("none"),
        help: "The kubeconfig to use outside a cluster",
        examples: &["/home/me/.kube/config"],
        columns: &[Column::new(GO, &["kubeconfig"], Unset::Means("none"))],
        store: |settings, text| {
            settings.kube.kubeconfig = Some(text.to_owned());
            Ok(())
        },
        show: |settings| settings.kube.kubeconfig.clone(),
        ..PROCESS_ROW
    },
    Setting {
        flag: "context",
        variables: &["ZPA_CONTEXT"],
        placeholder: "NAME",
        unset: KUBECONFIGS,
        help: "The kubeconfig's context to use",
        examples: &["kind-kind"],
        columns: &[Column::new(GO, &["context"], KUBECONFIGS)],
        store: |settings, text| {
            settings.kube.context = Some(text.to_owned());
            Ok(())
        },
        show: |settings| settings.kube.context.clone(),
        ..PROCESS_ROW
    },
    Setting {
        flag: "cluster",
        variables: &["ZPA_CLUSTER"],
        placeholder: "NAME",
        unset: CONTEXTS,
        help: "The kubeconfig's cluster to use",
        examples: &["kind-kind"],
        columns: &[Column::new(GO, &["cluster"], CONTEXTS)],
        store: |settings, text| {
            settings.kube.cluster = Some(text.to_owned());
            Ok(())
        },
        show: |settings| settings.kube.cluster.clone(),
        ..PROCESS_ROW
    },
    Setting {
        flag: "user",
        variables: &["ZPA_USER"],
        placeholder: "NAME",
        unset: CONTEXTS,
        help: "The kubeconfig's user to use",
        examples: &["kind-kind"],
        columns: &[Column::new(GO, &["user"], CONTEXTS)],
        store: |settings, text| {
            settings.kube.user = Some(text.to_owned());
            Ok(())
        },
        show: |settings| settings.kube.user.clone(),
        ..PROCESS_ROW
    },
    Setting {
        flag: "server",
        variables: &["ZPA_SERVER"],
        placeholder: "URL",
        unset: CLUSTERS,
        help: "The API server to use in place of the kubeconfig's",
        examples: &["https://api.example.com:6443"],
        columns: &[Column::new(GO, &["server"], CLUSTERS)],
        store: |settings, text| {
            settings.kube.server = Some(text.to_owned());
            Ok(())
        },
        show: |settings| settings.kube.server.clone(),
        ..PROCESS_ROW
    },
    Setting {
        flag: "token",
        variables: &["ZPA_TOKEN"],
        placeholder: "TOKEN",
        takes: ValueKind::Secret,
        unset: USERS,
        help: "The bearer token; the variable is safer, since every user of the machine sees a \
               command line",
        examples: &["a-bearer-token"],
        columns: &[Column::new(GO, &["token"], USERS)],
        store: |settings, text| {
            settings.kube.token = Some(Secret::new(text));
            Ok(())
        },
        ..PROCESS_ROW
    },
    Setting {
        flag: "certificate-authority",
        variables: &["ZPA_CERTIFICATE_AUTHORITY"],
        placeholder: "FILE",
        unset: CLUSTERS,
        help: "The certificates to trust, in PEM",
        examples: &["/etc/kubernetes/ca.crt"],
        columns: &[Column::new(GO, &["certificate-authority"], CLUSTERS)],
        store: |settings, text| {
            settings.kube.certificate_authority = Some(text.to_owned());
            Ok(())
        },
        show: |settings| settings.kube.certificate_authority.clone(),
        ..PROCESS_ROW
    },
    Setting {
        flag: "client-certificate",
        variables: &["ZPA_CLIENT_CERTIFICATE"],
        placeholder: "FILE",
        unset: USERS,
        help: "The certificate to show to the API server, in PEM",
        examples: &["/etc/kubernetes/client.crt"],
        columns: &[Column::new(GO, &["client-certificate"], USERS)],
        store: |settings, text| {
            settings.kube.client_certificate = Some(text.to_owned());
            Ok(())
        },
        show: |settings| settings.kube.client_certificate.clone(),
        ..PROCESS_ROW
    },
    Setting {
        flag: "client-key",
        variables: &["ZPA_CLIENT_KEY"],
        placeholder: "FILE",
        unset: USERS,
        help: "The key of that certificate, in PEM",
        examples: &["/etc/kubernetes/client.key"],
        columns: &[Column::new(GO, &["client-key"], USERS)],
        store: |settings, text| {
            settings.kube.client_key = Some(text.to_owned());
            Ok(())
        },
        show: |settings| settings.kube.client_key.clone(),
        ..PROCESS_ROW
    },
    Setting {
        flag: "as",
        variables: &["ZPA_AS"],
        placeholder: "USER",
        unset: USERS,
        help: "The user to act as (impersonation)",
        examples: &["jane", "system:serviceaccount:default:zpa"],
        columns: &[Column::new(GO, &["as"], USERS)],
        store: |settings, text| {
            settings.kube.impersonate = Some(text.to_owned());
            Ok(())
        },
        show: |settings| settings.kube.impersonate.clone(),
        ..PROCESS_ROW
    },
    Setting {
        flag: "as-group",
        variables: &["ZPA_AS_GROUP"],
        placeholder: "GROUP",
        takes: ValueKind::Texts,
        unset: USERS,
        help: "A group to act as; repeat the flag for more, or put one on each line of the \
               variable",
        examples: &["system:masters"],
        columns: &[Column::new(GO, &["as-group"], USERS)],
        store: |settings, text| {
            settings.kube.impersonate_groups.push(text.to_owned());
            Ok(())
        },
        show: |settings| {
            let groups = &settings.kube.impersonate_groups;
            (!groups.is_empty()).then(|| groups.join("\n"))
        },
        ..PROCESS_ROW
    },
    Setting {
        flag: "request-timeout",
        variables: &["ZPA_REQUEST_TIMEOUT"],
        placeholder: "DURATION",
        unset: Unset::Means("at most 5s where a connection may wait for it"),
        help: "The longest that each step of a request to the API server (connect, send, receive) \
               may take, if that is less than the default; 0 is the default",
        examples: &["5s", "0"],
        columns: &[Column::new(GO, &["request-timeout"], Unset::Default("0"))],
        store: |settings, text| {
            let timeout = value::duration(text)?;
            settings.kube.request_timeout = Some(timeout).filter(|it| *it > Duration::ZERO);
            Ok(())
        },
        show: |settings| settings.kube.request_timeout.map(duration::display),
        ..PROCESS_ROW
    },
    Setting {
        flag: "api-server",
        variables: &["ZPA_API_SERVER"],
        placeholder: "URL",
        unset: Unset::Means("the cluster's own"),
        help: "The API server to use with `--credentials`, without a kubeconfig; http:// on a \
               loopback address only, for `kubectl proxy`",
        examples: &["https://10.96.0.1:443", "http://127.0.0.1:8001"],
        store: |settings, text| {
            settings.api_server = Some(text.parse().map_err(reason)?);
            Ok(())
        },
        show: |settings| settings.api_server.as_ref().map(ApiServer::to_string),
        ..PROCESS_ROW
    },
    Setting {
        flag: "credentials",
        variables: &["ZPA_CREDENTIALS"],
        placeholder: "DIRECTORY",
        unset: Unset::Default("/var/run/secrets/kubernetes.io/serviceaccount"),
        help: "The directory that has the files token, ca.crt and namespace",
        examples: &["/var/run/secrets/kubernetes.io/serviceaccount"],
        store: |settings, text| {
            settings.credentials = text.into();
            Ok(())
        },
        show: |settings| Some(path(&settings.credentials)),
        ..PROCESS_ROW
    },
];

const KUBECONFIGS: Unset = Unset::Means("the kubeconfig's");
const CONTEXTS: Unset = Unset::Means("the context's");
const CLUSTERS: Unset = Unset::Means("the cluster's");
const USERS: Unset = Unset::Means("the user's");

fn path(path: &Path) -> String {
    path.display().to_string()
}
