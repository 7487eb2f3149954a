//! [`Rig`]: a reflector with an API server that answers from the recordings, on a clock that the
//! tests set.

use super::*;

/// A server as far as permissions go, and the core that asks it.
pub(super) struct Rig {
    pub(super) core: NamedEndpoints,
    pub(super) now: Time,
    pub(super) action: ReflectorAction,
    /// What is answered 403: `services`, or the name of a source.
    pub(super) forbidden: Vec<&'static str>,
    /// What is answered to the Service in place of [`SERVICE`].
    pub(super) service: Option<Response<Vec<u8>>>,
    /// The recording of the list, or its body.
    pub(super) list: String,
    pub(super) reports: Vec<Report>,
    pub(super) log: Vec<(Level, String)>,
    /// What was asked, with the second.
    pub(super) asked: Vec<(u64, &'static str)>,
    /// When the server ends the watch that was opened last.
    pub(super) watch_ends: Time,
}

impl Rig {
    pub(super) fn new(port: Option<PortRef>) -> Self {
        Rig::with_ports(vec![port])
    }

    pub(super) fn with_ports(ports: Vec<Option<PortRef>>) -> Self {
        let config = WatchedApp {
            ports,
            ..testing::config()
        };
        let now = Time::default();
        let mut core = NamedEndpoints::new(&config, 1, now);
        let action = core.handle(WatcherInput::Relist, now);
        Rig {
            core,
            now,
            action,
            forbidden: Vec::new(),
            service: None,
            list: String::from_utf8(recorded_body("15-slices-list-ready")).unwrap(),
            reports: Vec::new(),
            log: Vec::new(),
            asked: Vec::new(),
            watch_ends: now,
        }
    }

    pub(super) fn http() -> Self {
        Rig::new(Some(PortRef::Name("http".into())))
    }

    pub(super) fn handle(&mut self, event: WatcherInput<'_>) {
        self.action = self.core.handle(event, self.now);
        for output in self.core.take_outputs() {
            match output {
                Output::Report(report) => self.reports.push(report),
                Output::Log(level, text) => self.log.push((level, text)),
            }
        }
    }

    pub(super) fn lines(&mut self, lines: &[u8]) {
        self.handle(WatcherInput::Bytes(lines));
    }

    /// What the server says to a request for that.
    pub(super) fn refusal<T>(&self, what: &str) -> Option<Response<T>> {
        self.forbidden.contains(&what).then(|| Response::Status {
            status: 403,
            retry_after: None,
            why: format!("403 {what} is forbidden"),
        })
    }

    /// Answers the request that is made, or lets the time pass that is waited.
    pub(super) fn step(&mut self) {
        match self.action.clone() {
            ReflectorAction::Get(_) => {
                self.ask("services");
                let answer = self.service.clone();
                let answer = answer.unwrap_or(Response::Ok(SERVICE.into()));
                let answer = self.refusal("services").unwrap_or(answer);
                self.handle(WatcherInput::Object(answer));
            }
            ReflectorAction::List(path) => {
                let source = source(&path);
                self.ask(name(source));
                let page = match source {
                    SLICES => self.list.clone(),
                    ENDPOINTS => r#"{"metadata":{"resourceVersion":"1"}}"#.to_owned(),
                };
                let page = Response::Ok(page.into());
                let answer = self.refusal(name(source)).unwrap_or(page);
                self.handle(WatcherInput::Page(answer));
            }
            ReflectorAction::Watch(path) => {
                self.watch_ends = self.now + Duration::from_secs(seconds(&path));
                let answer = self.refusal(name(source(&path)));
                self.handle(WatcherInput::Opened(answer.unwrap_or(Response::Ok(()))));
            }
            ReflectorAction::Wait => {
                let until = self.core.poll_timeout().expect("an end of the pause");
                self.now = self.now.max(until);
                self.handle(WatcherInput::Timeout);
            }
            ReflectorAction::Read => panic!("a watch is open"),
        }
    }

    pub(super) fn ask(&mut self, what: &'static str) {
        self.asked.push((self.second(), what));
    }

    pub(super) fn second(&self) -> u64 {
        self.now.since(Time::default()).as_secs()
    }

    /// Until a watch is open; its source, and for how long it was asked for.
    pub(super) fn watch(&mut self) -> (AddressSource, u64) {
        for _ in 0..1000 {
            let action = self.action.clone();
            self.step();
            if let (ReflectorAction::Watch(path), ReflectorAction::Read) = (action, &self.action) {
                return (source(&path), seconds(&path));
            }
        }
        panic!("no watch is opened: {:?}", self.action);
    }

    /// Lives until that second, with watches that end in order at their time.
    pub(super) fn live_until(&mut self, second: u64) {
        let end = Time::new(Duration::from_secs(second));
        while self.now < end {
            if self.action != ReflectorAction::Read {
                self.step();
            } else if self.watch_ends < end {
                self.now = self.watch_ends;
                self.handle(WatcherInput::Ended);
            } else {
                self.now = end;
            }
        }
    }

    pub(super) fn permissions(&self) -> Vec<(Permission, bool, bool)> {
        let permissions = self.reports.iter().filter_map(|report| match report {
            Report::Permission {
                permission,
                refusal,
            } => {
                let fallback = refusal.as_ref().is_some_and(|it| it.fallback.is_some());
                Some((*permission, refusal.is_some(), fallback))
            }
            _ => None,
        });
        permissions.collect()
    }

    pub(super) fn synced(&self) -> Vec<Option<AddressSource>> {
        let all = self.reports.iter().filter_map(|report| match report {
            Report::Synced(source) => Some(*source),
            _ => None,
        });
        all.collect()
    }

    /// What was logged for an operator to read.
    pub(super) fn warnings(&self) -> Vec<&str> {
        let loud = self.log.iter().filter(|(level, _)| *level <= Level::Warn);
        loud.map(|(_, text)| text.as_str()).collect()
    }
}

/// What is listed or watched at that path.
pub(super) fn source(path: &str) -> AddressSource {
    match path.contains("/endpointslices?") {
        true => SLICES,
        false => ENDPOINTS,
    }
}

/// For how long the watch at that path is asked for.
pub(super) fn seconds(path: &str) -> u64 {
    let (_, rest) = path.split_once("&timeoutSeconds=").unwrap();
    rest.split('&').next().unwrap().parse().unwrap()
}

pub(super) fn name(source: AddressSource) -> &'static str {
    match source {
        AddressSource::EndpointSlices => "endpointslices",
        AddressSource::Endpoints => "endpoints",
    }
}

pub(super) fn refused<T>(status: u16) -> Response<T> {
    Response::Status {
        status,
        retry_after: None,
        why: format!("{status} no"),
    }
}

pub(super) fn line(number: usize) -> Vec<u8> {
    let mut line = recorded_lines("07-slices-watch-zero-one-zero")[number].clone();
    line.push(b'\n');
    line
}

pub(super) fn pods_of(report: &Report) -> Option<usize> {
    match report {
        Report::Pods { pods, .. } => Some(pods.iter().filter(|pod| pod.is_ready()).count()),
        _ => None,
    }
}

pub(super) fn fallback(address: &str) -> Report {
    Report::FallbackAddress {
        port: 0,
        address: Some(address.parse().unwrap()),
    }
}

pub(super) fn no_address(why: Option<NoAddress>) -> Report {
    Report::NoAddress { port: 0, why }
}
