//! A [`ListenerSource`] is where the listener of an app that starts comes from: it is bound, or
//! taken from an app that ends, or that of other apps too.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

use super::app_spec::AppSpec;
use super::start;
use crate::clock::Time;
use crate::engine::{AppId, AppLimits, BoundListener, Engine, NamedListener, PortId};
use crate::settings::{Listener, Settings, apps};

/// The origin of a listener.
#[derive(Debug)]
pub(super) enum ListenerSource {
    /// It was bound for this app.
    Bound(BoundListener),
    /// The same, beside those of apps that end at addresses that overlap with its own. They are
    /// closed once it is there, for else the kernel divides the clients among them.
    BoundBeside(BoundListener, Vec<PortId>),
    /// It is taken from the port of an app that ends.
    TakenFrom(PortId),
    /// It is that of other apps at this address too, where server names choose one.
    SharedAt(SocketAddr),
}

/// The addresses at which server names choose one of the apps that are added, or why they cannot
/// be bound.
pub(super) type SharedAddresses = BTreeMap<SocketAddr, Result<(), String>>;

/// The listeners of an app: bound, except those that it takes from apps that end or shares with
/// others.
///
/// # Errors
/// The addresses that cannot be bound, and why.
pub(super) fn listeners(
    spec: &AppSpec,
    leaving: &[PortId],
    shared: &mut SharedAddresses,
    engine: &Engine,
) -> Result<Vec<ListenerSource>, Vec<(SocketAddr, String)>> {
    let settings = &spec.settings;
    let (mut listeners, mut errors) = (Vec::new(), Vec::new());
    for &Listener { address, .. } in &settings.listen {
        let is_named = !settings.server_names.is_empty() && address.port() != 0;
        let source = match shared.get(&address).filter(|_| is_named) {
            Some(Ok(())) => Ok(ListenerSource::SharedAt(address)),
            Some(Err(why)) => Err(why.clone()),
            None if is_named && engine.is_named(address) => Ok(ListenerSource::SharedAt(address)),
            None => listener(settings, address, leaving, engine),
        };
        if is_named {
            let bound = source.as_ref().map(drop).map_err(String::clone);
            shared.entry(address).or_insert(bound);
        }
        match source {
            Ok(source) => listeners.push(source),
            Err(why) => errors.push((address, why)),
        }
    }
    match errors.is_empty() {
        true => Ok(listeners),
        false => Err(errors),
    }
}

/// The listener of an app at an address that it shares with no other.
fn listener(
    settings: &Settings,
    address: SocketAddr,
    leaving: &[PortId],
    engine: &Engine,
) -> Result<ListenerSource, String> {
    if let Some(&port) = leaving.iter().find(|&&port| engine.is_at(port, address)) {
        return Ok(ListenerSource::TakenFrom(port));
    }
    let overlaps = |port: &PortId| {
        let other = engine.local_addr(*port);
        other.is_some_and(|other| apps::overlap(address, other))
    };
    let overlapping: Vec<PortId> = leaving.iter().copied().filter(overlaps).collect();
    let bound = match overlapping.is_empty() {
        true => BoundListener::bind(address).map(ListenerSource::Bound),
        false => engine
            .bind_beside(&overlapping, address)
            .map(|bound| ListenerSource::BoundBeside(bound, overlapping)),
    };
    bound.map_err(|why| start::explain_bind(settings, address, &why))
}

/// Adds a port with a listener of that origin to an app.
///
/// # Errors
/// That the listener is gone, or those of [`Engine::add_bound_port`] and
/// [`Engine::add_named_port`].
pub(super) fn add_port(
    engine: &mut Engine,
    id: AppId,
    spec: &AppSpec,
    limits: AppLimits,
    source: ListenerSource,
    now: Time,
) -> io::Result<PortId> {
    let names = &spec.settings.server_names;
    let mut closed = Vec::new();
    let listener = match source {
        ListenerSource::Bound(listener) => Some(listener),
        ListenerSource::BoundBeside(listener, others) => {
            closed = others;
            Some(listener)
        }
        ListenerSource::TakenFrom(port) => engine.take_listener(port),
        ListenerSource::SharedAt(address) => {
            let listener = NamedListener::Shared(address);
            return engine.add_named_port(id, listener, names, limits);
        }
    };
    let listener = listener.ok_or_else(|| io::Error::other("the listener is gone"))?;
    let port = match names.is_empty() {
        true => engine.add_bound_port(id, listener, limits),
        false => engine.add_named_port(id, NamedListener::New(listener), names, limits),
    }?;
    for other in closed {
        engine.stop_listening(other, now);
    }
    Ok(port)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::time::Duration;

    use super::super::app_spec;
    use super::*;
    use crate::daemon::source_files::SourceLists;
    use crate::engine::Limits;
    use crate::settings::{self, Invocation};

    const LIMITS: AppLimits = AppLimits {
        hold_timeout: Duration::from_secs(1),
        connect_timeout: Duration::from_secs(1),
        abort_on_close: false,
    };

    fn spec(listen: SocketAddr) -> AppSpec {
        let args = ["--apps=/apps.json"].map(Into::into);
        let Ok(Invocation::Run(process)) = settings::parse(args, |_| None) else {
            panic!("it is refused");
        };
        let list = format!(r#"[{{"deployment": "a", "listen": "{listen}"}}]"#);
        let specs = app_spec::of_list(
            &process,
            list.as_bytes(),
            "default",
            &SourceLists::default(),
        );
        specs.unwrap().pop().unwrap()
    }

    /// An engine with one app that has that listener.
    fn engine(listener: BoundListener) -> (Engine, PortId) {
        let limits = Limits {
            max_connections: 10,
            memory: None,
        };
        let mut engine = Engine::new(limits, 1).unwrap();
        let port = engine.add_bound_port(AppId(0), listener, LIMITS).unwrap();
        (engine, port)
    }

    fn source(engine: &Engine, listen: SocketAddr, leaving: &[PortId]) -> ListenerSource {
        let mut shared = SharedAddresses::new();
        let mut all = listeners(&spec(listen), leaving, &mut shared, engine).unwrap();
        all.pop().unwrap()
    }

    /// `:8080` is 0.0.0.0:8080 then.
    #[test]
    fn a_listener_is_handed_over_where_the_kernel_has_no_ipv6_too() {
        let (engine, port) = engine(BoundListener::without_ipv6().unwrap());
        let local = engine.local_addr(port).unwrap();
        assert!(local.is_ipv4());
        for ip in [Ipv6Addr::UNSPECIFIED.into(), local.ip()] {
            let asked = SocketAddr::new(ip, local.port());
            let source = source(&engine, asked, &[port]);
            let is_taken = matches!(source, ListenerSource::TakenFrom(from) if from == port);
            assert!(is_taken, "{asked}: {source:?}");
        }
    }

    #[test]
    fn the_listener_of_an_app_that_ends_is_closed_once_one_that_overlaps_is_there() {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let (mut engine, port) = engine(BoundListener::bind(any).unwrap());
        let local = engine.local_addr(port).unwrap();
        let wide = SocketAddr::from((Ipv4Addr::UNSPECIFIED, local.port()));
        let mut shared = SharedAddresses::new();
        let stays = listeners(&spec(wide), &[], &mut shared, &engine);
        let (_, why) = stays.unwrap_err().pop().unwrap();
        assert!(why.contains("Address already in use"), "{why}");
        // An app that cannot be put into force leaves all as it was.
        drop(source(&engine, wide, &[port]));
        assert_eq!(engine.local_addr(port), Some(local));
        assert!(BoundListener::bind(wide).is_err());

        let source = source(&engine, wide, &[port]);
        let now = Time::default();
        let added = add_port(&mut engine, AppId(1), &spec(wide), LIMITS, source, now).unwrap();
        assert_eq!(engine.local_addr(added), Some(wide));
        assert_eq!(engine.local_addr(port), None);
        assert!(BoundListener::bind(wide).is_err(), "it is nobody else's");
    }
}
