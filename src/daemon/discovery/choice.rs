//! [`choose`]: which Services are apps in force. Of two that ask for the same, the older one has
//! it. So every proxy of the apps comes to the same result, whatever the order in which it has
//! seen them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::super::app_spec::{self, AppSpec, Identity};
use super::candidate::{Candidate, ServiceKey};
use crate::rules::server_name::{ServerName, ServerNames};
use crate::settings::Listener;
use crate::settings::apps::{self, MAX_APPS};

/// The rounds of an update in which all apps are chosen, and then those of one address.
const ROUNDS: usize = 3;

/// What was chosen for a Service.
#[derive(Debug)]
pub(super) struct Choice<'a> {
    pub(super) candidate: &'a Arc<Candidate>,
    /// The app that is to be in force.
    pub(super) spec: Option<&'a Arc<AppSpec>>,
    /// Why that is not the one that the Service describes, a line each.
    pub(super) errors: Vec<String>,
}

/// What has failed in the rounds of an update so far.
#[derive(Debug, Default)]
pub(super) struct Failed {
    /// The attempts to put the app of a Service into force, with the reasons.
    pub(super) attempts: BTreeMap<ServiceKey, Vec<Vec<String>>>,
    /// The addresses that cannot be listened on, and why. Who asks for one next gets that
    /// without another attempt.
    pub(super) addresses: BTreeMap<SocketAddr, String>,
    rounds: usize,
}

/// Which apps may be chosen that are not in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Admitted {
    All,
    /// Those of one address: a failure of one of several is a failure of an app that has taken the
    /// others from younger ones, whose own failures so show in a later round.
    OfOneAddress,
    None,
}

impl Failed {
    /// A round has failed. After a few only such apps are chosen as need few more.
    pub(super) fn end_round(&mut self) {
        self.rounds += 1;
    }

    pub(super) fn is_any(&self) -> bool {
        self.rounds > 0
    }

    /// Whether no round can follow that may succeed.
    pub(super) fn is_last(&self) -> bool {
        self.admitted() == Admitted::None
    }

    fn admitted(&self) -> Admitted {
        match self.rounds {
            0..ROUNDS => Admitted::All,
            rounds if rounds < 2 * ROUNDS => Admitted::OfOneAddress,
            _ => Admitted::None,
        }
    }

    /// Why an app that is not in force is not attempted.
    fn refuses(&self, spec: &AppSpec) -> Option<String> {
        let mut listeners = spec.settings.listen.iter();
        if let Some(why) = listeners.find_map(|it| self.addresses.get(&it.address)) {
            return Some(why.clone());
        }
        match self.admitted() {
            Admitted::All => None,
            Admitted::OfOneAddress if spec.settings.listen.len() == 1 => None,
            Admitted::OfOneAddress | Admitted::None => {
                Some("waits, because too many other apps cannot be put into force".to_owned())
            }
        }
    }
}

/// What is chosen for each Service, the oldest first: the app that it describes; if that cannot
/// be, the one of it that is `in_force`.
pub(super) fn choose<'a>(
    candidates: &'a [Arc<Candidate>],
    in_force: &BTreeMap<&ServiceKey, &'a Arc<AppSpec>>,
    failed: &Failed,
    admin: Option<SocketAddr>,
) -> Vec<Choice<'a>> {
    let mut by_age: Vec<&Arc<Candidate>> = candidates.iter().collect();
    by_age.sort_by_cached_key(|it| {
        let service = &it.service;
        (
            service.created.clone(),
            service.namespace.clone(),
            service.name.clone(),
        )
    });
    let mut taken = Taken::new(admin, failed);
    let choices = by_age.into_iter().map(|candidate| {
        let key = candidate.key();
        taken.choose(candidate, &key, in_force.get(&key).copied())
    });
    choices.collect()
}

/// What older Services have.
struct Taken<'a, 'f> {
    admin: Option<SocketAddr>,
    failed: &'f Failed,
    apps: Vec<(&'a Arc<Candidate>, &'a AppSpec)>,
    /// The places of the apps that listen on a port,
    by_port: BTreeMap<u16, AtPort>,
    /// and of the app that scales something.
    by_target: BTreeMap<Identity, usize>,
}

/// The places of the apps that listen on a port. Thousands may share one by their server names, so
/// that only those are found that one more may clash with.
#[derive(Default)]
struct AtPort {
    /// Of those without server names.
    nameless: Vec<usize>,
    /// Of the first of those that share an address by server names.
    addresses: BTreeMap<SocketAddr, usize>,
    /// Of the one that has a server name at an address.
    names: BTreeMap<(SocketAddr, ServerName), usize>,
}

impl AtPort {
    fn take(&mut self, address: SocketAddr, names: &ServerNames, place: usize) {
        if names.is_empty() {
            return self.nameless.push(place);
        }
        self.addresses.entry(address).or_insert(place);
        let named = names.iter().map(|name| ((address, name.clone()), place));
        self.names.extend(named);
    }

    /// Those that an app at that address may clash with.
    fn others(&self, address: SocketAddr, names: &ServerNames) -> impl Iterator<Item = usize> {
        let named = names
            .iter()
            .filter_map(move |name| self.names.get(&(address, name.clone())));
        let of_all = self.nameless.iter().chain(self.addresses.values());
        of_all.chain(named).copied()
    }
}

impl<'a, 'f> Taken<'a, 'f> {
    fn new(admin: Option<SocketAddr>, failed: &'f Failed) -> Self {
        Taken {
            admin,
            failed,
            apps: Vec::new(),
            by_port: BTreeMap::new(),
            by_target: BTreeMap::new(),
        }
    }

    fn choose(
        &mut self,
        candidate: &'a Arc<Candidate>,
        key: &ServiceKey,
        in_force: Option<&'a Arc<AppSpec>>,
    ) -> Choice<'a> {
        let attempts = self.failed.attempts.get(key);
        let attempts = attempts.map_or(&[][..], Vec::as_slice);
        let mut errors: Vec<String> = attempts.first().cloned().unwrap_or_default();
        let described = candidate.spec.as_ref();
        let earlier = in_force.filter(|spec| described.ok() != Some(*spec));
        if let Err(wrong) = described {
            errors.extend(wrong.iter().cloned());
        }
        // Those that have failed come first among them.
        let possible = described.ok().into_iter().chain(earlier);
        let mut chosen = None;
        for spec in possible.skip(attempts.len()) {
            let is_running = in_force == Some(spec);
            match self.conflict(spec, is_running) {
                None => {
                    chosen = Some(spec);
                    break;
                }
                Some(why) if errors.is_empty() => errors.push(why),
                Some(_) => {}
            }
        }
        if let Some(spec) = chosen {
            self.take(candidate, spec);
        }
        Choice {
            candidate,
            spec: chosen,
            errors,
        }
    }

    /// Why an app cannot be beside those of older Services.
    fn conflict(&self, spec: &AppSpec, is_running: bool) -> Option<String> {
        if self.apps.len() >= MAX_APPS {
            return Some(format!(
                "there are {MAX_APPS} apps of older Services, the most that may be"
            ));
        }
        if let Some(why) = apps::clash_with_admin(&spec.settings, self.admin) {
            return Some(why);
        }
        let older = self.contenders(spec).into_iter().find_map(|place| {
            let (candidate, other) = self.apps[place];
            let why = apps::clash(&spec.settings, &other.settings)?;
            Some(format!("{why} the older Service {} too", candidate.key()))
        });
        older.or_else(|| self.failed.refuses(spec).filter(|_| !is_running))
    }

    /// The places of the apps that an app may clash with.
    fn contenders(&self, spec: &AppSpec) -> Vec<usize> {
        let mut contenders = Vec::new();
        for Listener { address, .. } in &spec.settings.listen {
            let at_port = self.by_port.get(&address.port());
            let others = at_port.map(|it| it.others(*address, &spec.settings.server_names));
            contenders.extend(others.into_iter().flatten());
        }
        contenders.sort_unstable();
        contenders.dedup();
        let same_target = self.by_target.get(&app_spec::identity(spec)).copied();
        same_target.into_iter().chain(contenders).collect()
    }

    fn take(&mut self, candidate: &'a Arc<Candidate>, spec: &'a AppSpec) {
        let place = self.apps.len();
        self.apps.push((candidate, spec));
        self.by_target.insert(app_spec::identity(spec), place);
        for listener in &spec.settings.listen {
            let at_port = self.by_port.entry(listener.address.port()).or_default();
            at_port.take(listener.address, &spec.settings.server_names, place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::source_files::SourceLists;
    use crate::settings::{self, Invocation};

    fn spec(process: &settings::Settings, app: usize, listen: &str, names: &str) -> AppSpec {
        let given = [("listen", listen), ("server-name", names)];
        let given = given.iter().filter(|(_, value)| !value.is_empty());
        let annotations = given.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let service = format!("app-{app}");
        let spec = app_spec::of_service(
            process,
            "default",
            &service,
            &annotations.collect(),
            &SourceLists::default(),
        );
        spec.unwrap().unwrap()
    }

    #[test]
    fn of_many_that_share_a_port_few_are_compared_and_all_that_clash_are_found() {
        let args = ["--discover=app"].map(Into::into);
        let Ok(Invocation::Run(process)) = settings::parse(args, |_| None) else {
            panic!("it is refused");
        };
        let failed = Failed::default();
        let mut taken = Taken::new(None, &failed);
        let candidate = Arc::new(Candidate {
            service: Arc::default(),
            spec: Err(Vec::new()),
        });
        let apps: Vec<AppSpec> = (0..300)
            .map(|app| spec(&process, app, ":443", &format!("{app}.example")))
            .collect();
        for app in &apps {
            assert_eq!(taken.conflict(app, false), None);
            assert!(taken.contenders(app).len() <= 1);
            taken.take(&candidate, app);
        }
        let other = spec(&process, 301, "127.0.0.1:80", "");
        taken.take(&candidate, &other);
        for (listen, names, clashes) in [
            (":443", "new.example", false),
            (":443", "new.example,299.example", true),
            (":443", "", true),
            ("127.0.0.1:443", "new.example", true),
            ("127.0.0.2:80", "", false),
            (":80", "", true),
            (":80", "new.example", true),
        ] {
            let app = spec(&process, 302, listen, names);
            let conflict = taken.conflict(&app, false);
            assert_eq!(
                conflict.is_some(),
                clashes,
                "{listen} {names}: {conflict:?}"
            );
            assert!(taken.contenders(&app).len() <= 2, "{listen} {names}");
        }
    }
}
