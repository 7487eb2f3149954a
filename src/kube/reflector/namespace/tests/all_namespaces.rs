//! The reflector of all namespaces.

use super::*;

#[test]
fn apps_of_all_namespaces_have_the_same_two_lists_and_watch() {
    let mut core = NamespaceEndpoints::new(&Namespaces::All, 1);
    for (app, namespace) in [(SHOP, "a"), (BLOG, "b")] {
        let config = WatchedApp {
            namespace: namespace.to_owned(),
            service: "shop".to_owned(),
            ports: vec![Some(PortRef::Name("http".into()))],
            ..testing::config()
        };
        core.add(app, &config);
    }
    let now = Time::default();
    let of = |mut object: Value, namespace: &str| {
        object["metadata"]["namespace"] = namespace.into();
        object
    };
    let action = core.handle(WatcherInput::Relist, now);
    assert_eq!(
        action,
        ReflectorAction::List("/api/v1/services?limit=64".to_owned())
    );
    let services = ["a", "b", "c"].map(|it| of(service("shop", "http"), it));
    let action = core.handle(WatcherInput::Page(Response::Ok(list(&services))), now);
    let path = "/apis/discovery.k8s.io/v1/endpointslices?limit=64";
    assert_eq!(action, ReflectorAction::List(path.to_owned()));
    let slices = [("a", "10.0.0.1"), ("b", "10.0.0.2"), ("c", "10.0.0.3")];
    let slices = slices.map(|(namespace, ip)| of(slice("shop", &[ip]), namespace));
    core.handle(WatcherInput::Page(Response::Ok(list(&slices))), now);
    let outputs = core.take_outputs().into_iter();
    let pods = outputs.filter_map(|output| match output {
        Output::Report((app, Report::Pods { pods, .. })) => {
            Some((app, pods[0].addresses[0].to_string()))
        }
        _ => None,
    });
    let pods: Vec<(AppKey, String)> = pods.collect();
    assert_eq!(
        pods,
        [
            (SHOP, "10.0.0.1:80".to_owned()),
            (BLOG, "10.0.0.2:80".to_owned())
        ]
    );
}
