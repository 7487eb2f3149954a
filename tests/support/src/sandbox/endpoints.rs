//! The conversion of pods to EndpointSlices and to `v1` Endpoints.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::objects::{PORT_NAME, TRIGGER};

/// One address of a Service, as a slice lists it.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub pod: String,
    pub uid: String,
    pub address: SocketAddr,
    /// `None` leaves the condition out, which means ready.
    pub ready: Option<bool>,
    pub serving: bool,
    pub terminating: bool,
}

impl Endpoint {
    /// A ready endpoint that the test has made up.
    pub fn ready(pod: &str, address: SocketAddr) -> Endpoint {
        let (pod, uid) = (pod.to_owned(), format!("uid-of-{pod}"));
        Endpoint {
            pod,
            uid,
            address,
            ready: Some(true),
            serving: true,
            terminating: false,
        }
    }

    fn target(&self, namespace: &Value) -> Value {
        json!({ "kind": "Pod", "namespace": namespace, "name": self.pod, "uid": self.uid })
    }
}

/// What the Service says of its endpoints.
#[derive(Clone, Debug)]
pub struct Publishing {
    /// Its `publishNotReadyAddresses`.
    pub not_ready: bool,
    /// Whether its `targetPort` is a port that the pods have. The controllers pass
    /// over one that they do not find: a slice then has endpoints and no ports
    /// (`getEndpointPorts`), and Endpoints have no subset.
    pub has_port: bool,
    /// Its other ports: their names, and the pods' own ports.
    pub others: Vec<(&'static str, u16)>,
    /// The zones for whose clients its endpoints are meant, in turn; none: there are no hints.
    pub zones: Vec<&'static str>,
}

impl Publishing {
    /// The ports, as a slice has them, of endpoints with that first port.
    fn ports(&self, first: u16) -> Vec<Value> {
        let first = std::iter::once((PORT_NAME, first));
        let all = first.chain(self.others.iter().copied());
        let port = |(name, port)| json!({ "name": name, "protocol": "TCP", "port": port });
        all.map(port).collect()
    }
}

impl Default for Publishing {
    fn default() -> Self {
        Publishing {
            not_ready: false,
            has_port: true,
            others: Vec::new(),
            zones: Vec::new(),
        }
    }
}

/// Writes the endpoints into a slice.
pub fn write_slice(
    slice: &mut Value,
    endpoints: &[Endpoint],
    service: &Publishing,
    stamp: Option<&str>,
) {
    set_stamp(slice, stamp);
    let namespace = slice["metadata"]["namespace"].clone();
    let every = service.not_ready;
    let mut zones = service.zones.iter().cycle();
    slice["endpoints"] = list(endpoints.iter().map(|e| {
        let mut endpoint = in_slice(e, every, &namespace);
        if let Some(zone) = zones.next() {
            endpoint["hints"] = json!({ "forZones": [{ "name": zone }] });
        }
        endpoint
    }));
    let first = endpoints.first().filter(|_| service.has_port);
    let ports = first.map(|e| service.ports(e.address.port()));
    slice["ports"] = list(ports.into_iter().flatten());
}

fn in_slice(endpoint: &Endpoint, every: bool, namespace: &Value) -> Value {
    let mut conditions =
        json!({ "serving": endpoint.serving, "terminating": endpoint.terminating });
    if let Some(ready) = endpoint.ready {
        conditions["ready"] = (ready || every).into();
    }
    json!({
        "addresses": [endpoint.address.ip().to_string()],
        "conditions": conditions,
        "targetRef": endpoint.target(namespace),
        "nodeName": "node1",
    })
}

/// Writes the endpoints into a `v1` Endpoints object, which knows neither
/// terminating pods nor empty lists.
pub fn write_endpoints(
    object: &mut Value,
    endpoints: &[Endpoint],
    service: &Publishing,
    stamp: Option<&str>,
) {
    set_stamp(object, stamp);
    let every = service.not_ready;
    let namespace = object["metadata"]["namespace"].clone();
    let address = |endpoint: &&Endpoint| {
        json!({
            "ip": endpoint.address.ip().to_string(),
            "nodeName": "node1",
            "targetRef": endpoint.target(&namespace),
        })
    };
    let listed = || endpoints.iter().filter(|e| every || !e.terminating);
    let is_ready = |e: &&Endpoint| every || e.ready.unwrap_or(true);
    let ready = list(listed().filter(is_ready).map(|e| address(&e)));
    let not_ready = list(listed().filter(|e| !is_ready(e)).map(|e| address(&e)));

    let Some(fields) = object.as_object_mut() else {
        return;
    };
    fields.remove("subsets");
    let first = listed().next().filter(|_| service.has_port);
    let Some(port) = first.map(|e| e.address.port()) else {
        return;
    };
    let mut subset = json!({ "ports": service.ports(port) });
    if ready.is_array() {
        subset["addresses"] = ready;
    }
    if not_ready.is_array() {
        subset["notReadyAddresses"] = not_ready;
    }
    fields.insert("subsets".to_owned(), json!([subset]));
}

/// An empty list is `null`, as Go writes a nil slice.
fn list(items: impl Iterator<Item = Value>) -> Value {
    let items: Vec<Value> = items.collect();
    if items.is_empty() {
        Value::Null
    } else {
        Value::Array(items)
    }
}

fn set_stamp(object: &mut Value, stamp: Option<&str>) {
    let meta = &mut object["metadata"];
    match stamp {
        Some(stamp) => meta["annotations"] = json!({ TRIGGER: stamp }),
        None => drop(
            meta.as_object_mut()
                .and_then(|fields| fields.remove("annotations")),
        ),
    }
}
