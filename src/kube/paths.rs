//! The paths of the API that are asked for.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};

/// A Deployment.
pub(super) fn deployment(namespace: &str, deployment: &str) -> String {
    let (namespace, deployment) = (escaped(namespace), escaped(deployment));
    format!("/apis/apps/v1/namespaces/{namespace}/deployments/{deployment}")
}

/// The scale of the Deployment at `deployment`.
pub(super) fn scale(deployment: &str) -> String {
    format!("{deployment}/scale")
}

/// The status of the Deployment at `deployment`.
pub(super) fn status(deployment: &str) -> String {
    format!("{deployment}/status")
}

/// A Service.
pub(super) fn service(namespace: &str, service: &str) -> String {
    let (namespace, service) = (escaped(namespace), escaped(service));
    format!("/api/v1/namespaces/{namespace}/services/{service}")
}

/// The EndpointSlices of a Service.
pub(super) fn slices(namespace: &str, service: &str) -> String {
    let (namespace, service) = (escaped(namespace), escaped(service));
    format!(
        "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices\
         ?labelSelector=kubernetes.io/service-name%3D{service}"
    )
}

/// The Endpoints of a Service, as a list of at most one.
pub(super) fn endpoints(namespace: &str, service: &str) -> String {
    let (namespace, service) = (escaped(namespace), escaped(service));
    format!("/api/v1/namespaces/{namespace}/endpoints?fieldSelector=metadata.name%3D{service}")
}

/// A page of the list at `list`: at most `limit` items, from where the page
/// before it ended, as its `continue` says; empty for the first page.
pub(super) fn page(list: &str, limit: u32, token: &str) -> String {
    match token {
        "" => format!("{list}&limit={limit}"),
        token => format!("{list}&limit={limit}&continue={}", escaped(token)),
    }
}

/// The watch that goes on where the list at `list` ended.
pub(super) fn watch(list: &str, version: &str, seconds: u64) -> String {
    let version = escaped(version);
    format!(
        "{list}&watch=true&allowWatchBookmarks=true&timeoutSeconds={seconds}\
         &resourceVersion={version}"
    )
}

/// What stands for itself in a path: RFC 3986's unreserved characters, of which the
/// names of Kubernetes objects consist.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// `text` percent-encoded, so that a name stays in its segment of the path.
fn escaped(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, UNRESERVED)
}

#[cfg(test)]
mod tests {
    use super::super::testing::recorded_target;
    use super::*;

    /// The `continue` of the recorded first page.
    const CONTINUE: &str =
        "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6OTU5OCwic3RhcnQiOiIvaGFuZC0xXHUwMDAwIn0";

    #[test]
    fn paths_are_those_of_the_recordings() {
        let myapp = deployment("default", "myapp");
        for (path, recording) in [
            (scale(&myapp), "02-scale-get-zero"),
            (status(&myapp), "16-status-patch-condition"),
            (
                page(&slices("rec2", "hand"), 2, ""),
                "39-slices-list-page-one",
            ),
            (
                page(&slices("rec2", "hand"), 2, CONTINUE),
                "40-slices-list-page-two",
            ),
            (myapp, "03-deployment-get-zero"),
            (slices("default", "myapp"), "05-slices-list-empty"),
            (
                watch(&slices("default", "myapp"), "10298", 12),
                "07-slices-watch-zero-one-zero",
            ),
            (
                watch(&endpoints("default", "myapp"), "10298", 12),
                "09-endpoints-watch-zero-one-zero",
            ),
        ] {
            assert_eq!(path, recorded_target(recording));
        }
    }

    #[test]
    fn a_name_cannot_leave_its_segment() {
        assert_eq!(
            service("a/b", "x?y"),
            "/api/v1/namespaces/a%2Fb/services/x%3Fy"
        );
    }
}
