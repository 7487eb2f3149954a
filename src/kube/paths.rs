//! The paths of the Kubernetes API.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};

use super::resource::{ApiResource, Object};

/// The scale target.
pub(super) fn object(namespace: &str, object: &Object) -> String {
    let (all, name) = (
        collection(namespace, &object.resource),
        escaped(&object.name),
    );
    format!("{all}/{name}")
}

/// The objects of a kind that `selector` selects by their labels.
pub(super) fn labelled(namespace: &str, resource: &ApiResource, selector: &str) -> String {
    let (all, selector) = (collection(namespace, resource), escaped(selector));
    format!("{all}?labelSelector={selector}")
}

/// The objects of a kind in a namespace.
pub(super) fn collection(namespace: &str, resource: &ApiResource) -> String {
    collection_of(Some(namespace), resource)
}

/// The objects of a kind in a namespace, or in all.
pub(super) fn collection_of(namespace: Option<&str>, resource: &ApiResource) -> String {
    let version = group_version(&resource.group, &resource.version);
    objects_of(&version, namespace, &resource.plural)
}

/// The objects of a namespace, or of all.
fn objects_of(version: &str, namespace: Option<&str>, plural: &str) -> String {
    let plural = escaped(plural);
    match namespace {
        Some(namespace) => format!("{version}/namespaces/{}/{plural}", escaped(namespace)),
        None => format!("{version}/{plural}"),
    }
}

/// The discovery document of an API group.
pub(super) fn group(group: &str) -> String {
    format!("/apis/{}", escaped(group))
}

/// The discovery document of a version of an API group; the core group is the empty text.
pub(super) fn group_version(group: &str, version: &str) -> String {
    let version = escaped(version);
    match group {
        "" => format!("/api/{version}"),
        group => format!("/apis/{}/{version}", escaped(group)),
    }
}

/// The object as a list of at most one, so that it can be watched: a Role with
/// `resourceNames` allows a list and a watch that select by name (recordings 35 to 37).
pub(super) fn named(namespace: &str, object: &Object) -> String {
    let (all, name) = (
        collection(namespace, &object.resource),
        escaped(&object.name),
    );
    format!("{all}?fieldSelector=metadata.name%3D{name}")
}

/// The scale of the object at `object`.
pub(super) fn scale(object: &str) -> String {
    format!("{object}/scale")
}

/// The status of the object at `object`.
pub(super) fn status(object: &str) -> String {
    format!("{object}/status")
}

/// A ConfigMap.
pub(super) fn config_map(namespace: &str, name: &str) -> String {
    let (namespace, name) = (escaped(namespace), escaped(name));
    format!("/api/v1/namespaces/{namespace}/configmaps/{name}")
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

/// The EndpointSlices of a namespace, or of all.
pub(super) fn all_slices(namespace: Option<&str>) -> String {
    objects_of("/apis/discovery.k8s.io/v1", namespace, "endpointslices")
}

/// The Endpoints of a namespace, or of all.
pub(super) fn all_endpoints(namespace: Option<&str>) -> String {
    objects_of("/api/v1", namespace, "endpoints")
}

/// The Services of a namespace, or of all.
pub(super) fn all_services(namespace: Option<&str>) -> String {
    objects_of("/api/v1", namespace, "services")
}

/// The Services that `selector` selects by their labels, of a namespace or of all.
pub(super) fn selected_services(namespace: Option<&str>, selector: &str) -> String {
    let (all, selector) = (all_services(namespace), escaped(selector));
    format!("{all}?labelSelector={selector}")
}

/// A few of the pods that `selector` selects by their labels.
pub(super) fn pods(namespace: &str, selector: &str) -> String {
    let (all, selector) = (
        objects_of("/api/v1", Some(namespace), "pods"),
        escaped(selector),
    );
    // Those that were evicted stay listed.
    let phases = "status.phase%21%3DFailed%2Cstatus.phase%21%3DSucceeded";
    format!("{all}?labelSelector={selector}&fieldSelector={phases}&limit=20")
}

/// The warnings about the object with that UID.
pub(super) fn warnings(namespace: &str, uid: &str) -> String {
    let all = objects_of("/api/v1", Some(namespace), "events");
    let uid = escaped(uid);
    format!("{all}?fieldSelector=involvedObject.uid%3D{uid}%2Ctype%3DWarning&limit=100")
}

/// The Events of a namespace.
pub(super) fn events(namespace: &str) -> String {
    let namespace = escaped(namespace);
    format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events")
}

/// The Event of that name, among those at `events`.
pub(super) fn event(events: &str, name: &str) -> String {
    format!("{events}/{}", escaped(name))
}

/// A page of the list at `list` with at most `limit` items; `token` is the `continue` of the
/// page before, and empty for the first page.
pub(super) fn page(list: &str, limit: u32, token: &str) -> String {
    let first = with(list);
    match token {
        "" => format!("{first}limit={limit}"),
        token => format!("{first}limit={limit}&continue={}", escaped(token)),
    }
}

/// The watch of the objects of `list`, from a version on.
pub(super) fn watch(list: &str, version: &str, seconds: u64) -> String {
    let (version, first) = (escaped(version), with(list));
    format!(
        "{first}watch=true&allowWatchBookmarks=true&timeoutSeconds={seconds}\
         &resourceVersion={version}"
    )
}

/// `list`, which may have a query, before a further parameter of its query.
fn with(list: &str) -> String {
    let separator = if list.contains('?') { '&' } else { '?' };
    format!("{list}{separator}")
}

/// The characters that are not encoded in a path: the unreserved ones of RFC 3986. Names of
/// Kubernetes objects consist of them.
pub(super) const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
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
        let deployment = |name: &str| Object {
            resource: resource("apps", "v1", "deployments"),
            name: name.to_owned(),
        };
        let myapp = object("default", &deployment("myapp"));
        let web = Object {
            resource: resource("argoproj.io", "v1alpha1", "rollouts"),
            name: "web".to_owned(),
        };
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
            (
                config_map("rec2", "plain"),
                "44-configmap-annotation-merge-patch",
            ),
            (group("argoproj.io"), "51-group-discovery"),
            (
                group_version("argoproj.io", "v1alpha1"),
                "52-group-version-discovery",
            ),
            (scale(&object("rec2", &web)), "53-custom-scale-get"),
            (
                labelled("rec2", &resource("apps", "v1", "replicasets"), "app=myapp"),
                "47-replicasets-by-label",
            ),
            (slices("default", "myapp"), "05-slices-list-empty"),
            (
                named("default", &deployment("myapp")),
                "06-deployment-list-one",
            ),
            (
                watch(&named("default", &deployment("myapp")), "10298", 12),
                "08-deployment-watch-zero-one-zero",
            ),
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

    fn resource(group: &str, version: &str, plural: &str) -> ApiResource {
        ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            plural: plural.to_owned(),
            kind: String::new(),
        }
    }

    #[test]
    fn a_kind_of_the_core_group_has_the_old_path() {
        let controllers = resource("", "v1", "replicationcontrollers");
        assert_eq!(
            labelled("default", &controllers, "a in (b,c)"),
            "/api/v1/namespaces/default/replicationcontrollers?labelSelector=a%20in%20%28b%2Cc%29"
        );
    }

    #[test]
    fn a_name_cannot_leave_its_segment() {
        assert_eq!(
            service("a/b", "x?y"),
            "/api/v1/namespaces/a%2Fb/services/x%3Fy"
        );
    }
}
