//! A Service with very many endpoints.

use std::net::SocketAddr;

use support::sandbox::{Endpoint, PodProgram, Resource};

use super::*;

/// What one reply may hold: the proxy reads no more of it.
const MAX_REPLY_LEN: usize = 4 * 1024 * 1024;

#[test]
fn of_twenty_thousand_endpoints_in_slices_of_a_hundred_the_last_is_dialled() {
    let sandbox = Sandbox::start(Options {
        replicas: 1,
        start_delay: None,
        ..Options::default()
    });
    let nobody = SocketAddr::from(([127, 255, 0, 1], 1));
    let unready = |number: usize| Endpoint {
        ready: Some(false),
        ..Endpoint::ready(&format!("myapp-74c87c966b-{number:05}"), nobody)
    };
    for slice in 0..200 {
        let listed: Vec<_> = (0..100).map(|place| unready(slice * 100 + place)).collect();
        sandbox.publish_slice(&format!("myapp-{slice:03}"), "IPv4", &listed);
    }
    let server = sandbox.lone_server("last", PodProgram::Echo);
    let last = Endpoint::ready("last", server.address());
    sandbox.publish_slice("myapp-last", "IPv4", &[last]);
    let state = sandbox.state();
    let slices = state.store.list(Resource::EndpointSlices);
    let whole: usize = slices.map(|slice| slice.to_string().len()).sum();
    drop(state);
    assert!(whole > MAX_REPLY_LEN, "{whole} bytes fit one reply");

    let zpa = start_zpa(&sandbox, &[]);
    echo(&mut zpa.connect(), "hello");
    let lists = sandbox.requests(&on("list", "endpointslices"));
    let pages = lists.iter().filter(|it| it.query.contains("&continue="));
    assert_eq!(
        pages.count(),
        3,
        "202 slices, 64 to a page: {}",
        sandbox.summary()
    );
}
