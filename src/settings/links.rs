//! [`is_service_link`] recognises the variables that Kubernetes sets for each Service.

use std::ffi::OsStr;

use crate::address::digits;

/// Whether a variable is a service link of Kubernetes, and no setting.
///
/// For each Service of its namespace the kubelet gives every container, after
/// Docker's links of old (`pkg/kubelet/envvars/envvars.go`), and under `ZPA_`
/// those of a Service `zpa` or `zpa-x`:
/// ```text
/// ZPA_SERVICE_HOST=10.0.0.1    ZPA_PORT=tcp://10.0.0.1:80
/// ZPA_SERVICE_PORT=80          ZPA_PORT_80_TCP=tcp://10.0.0.1:80
/// ZPA_SERVICE_PORT_HTTP=80     ZPA_PORT_80_TCP_PROTO, _PORT and _ADDR
/// ```
/// Of these only `ZPA_PORT` is also the variable of a setting; its value decides.
pub(super) fn is_service_link(name: &str, value: &OsStr) -> bool {
    let is_service = name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_");
    is_service || is_port_link(name) || (name.ends_with("_PORT") && is_url(value))
}

/// `…_PORT_80_TCP`, alone or with one word more.
fn is_port_link(name: &str) -> bool {
    let words: Vec<&str> = name.split('_').collect();
    let words = match &words[..] {
        [rest @ .., "PROTO" | "PORT" | "ADDR"] => rest,
        all => all,
    };
    match words {
        [_, .., "PORT", number, "TCP" | "UDP" | "SCTP"] => digits(number).is_some(),
        _ => false,
    }
}

fn is_url(value: &OsStr) -> bool {
    let bytes = value.as_encoded_bytes();
    let mut schemes = [&b"tcp://"[..], b"udp://", b"sctp://"].into_iter();
    schemes.any(|scheme| bytes.starts_with(scheme))
}
