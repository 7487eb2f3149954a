//! [`Candidate`]: a Service that says that it is an app. [`Reader`] makes them of what is
//! reported of the Services, in the thread that watches them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use super::super::app_spec::{self, AppSpec};
use super::super::source_files::SourceLists;
use crate::kube::{MAX_ANNOTATIONS_LEN, SelectedService, ServicesReport};
use crate::settings::Settings;
use crate::supervisor;

/// A Service, as what becomes of it is known by. One that is created again is another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::daemon) struct ServiceKey {
    pub(in crate::daemon) namespace: String,
    pub(in crate::daemon) name: String,
    pub(in crate::daemon) uid: String,
}

impl fmt::Display for ServiceKey {
    /// `namespace/name`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A Service that says that it is an app.
#[derive(Debug)]
pub(in crate::daemon) struct Candidate {
    pub(super) service: Arc<SelectedService>,
    /// The app, or all that is wrong in the annotations.
    pub(super) spec: Result<Arc<AppSpec>, Vec<String>>,
}

impl Candidate {
    pub(super) fn key(&self) -> ServiceKey {
        let SelectedService {
            namespace,
            name,
            uid,
            ..
        } = &*self.service;
        ServiceKey {
            namespace: namespace.clone(),
            name: name.clone(),
            uid: uid.clone(),
        }
    }
}

/// What the thread reports to the event loop.
#[derive(Debug)]
pub(in crate::daemon) enum Update {
    /// All Services that say that they are apps.
    Found {
        /// By namespace and name.
        candidates: Vec<Arc<Candidate>>,
        /// How many others were selected.
        without_listen: usize,
    },
    /// Why the Services cannot be listed and watched; `None` if they can be.
    Trouble(Option<String>),
}

/// The number of errors, of all Services together, from which on those of further ones are not
/// kept: a Service has up to eleven of a few hundred bytes.
const MAX_ERRORS: usize = 2000;

const NOT_SAID: &str = "its annotations are wrong; how is said once fewer Services are";

/// Reads the annotations of Services, each state of them once.
pub(in crate::daemon) struct Reader {
    process: Settings,
    lists: SourceLists,
    /// What was read last, by namespace and name.
    read: Mutex<BTreeMap<(String, String), Read>>,
}

/// A Service that was read, and the candidate that it is, if it says that it is an app.
struct Read {
    service: Arc<SelectedService>,
    candidate: Option<Arc<Candidate>>,
    /// Whether its errors were left out, because there are so many of other Services.
    is_cut: bool,
}

impl Read {
    fn errors(&self) -> usize {
        let spec = self.candidate.as_ref().map(|candidate| &candidate.spec);
        match spec {
            Some(Err(errors)) => errors.len(),
            _ => 0,
        }
    }
}

impl Reader {
    /// `process` are the settings of the process, which has the defaults, and `lists` the networks
    /// of the files that they name.
    pub(in crate::daemon) fn new(process: Settings, lists: SourceLists) -> Reader {
        Reader {
            process,
            lists,
            read: Mutex::default(),
        }
    }

    pub(in crate::daemon) fn read(&self, report: ServicesReport) -> Update {
        let services = match report {
            ServicesReport::Trouble(why) => return Update::Trouble(why),
            ServicesReport::Selected(services) => services,
        };
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *read);
        let mut errors = 0;
        for service in services {
            let key = (service.namespace.clone(), service.name.clone());
            let is_full = errors >= MAX_ERRORS;
            let is_valid = |it: &Read| it.service == service && (is_full || !it.is_cut);
            let known = before.remove(&key).filter(is_valid);
            let mut now = known.unwrap_or_else(|| Read {
                candidate: self.candidate(&service).map(Arc::new),
                service,
                is_cut: false,
            });
            if now.errors() > 0 && is_full && !now.is_cut {
                now.candidate = Some(Arc::new(Candidate {
                    service: now.service.clone(),
                    spec: Err(vec![NOT_SAID.to_owned()]),
                }));
                now.is_cut = true;
            }
            errors += now.errors();
            read.insert(key, now);
        }
        let candidates = read.values().filter_map(|it| it.candidate.clone());
        let candidates: Vec<Arc<Candidate>> = candidates.collect();
        Update::Found {
            without_listen: read.len() - candidates.len(),
            candidates,
        }
    }

    fn candidate(&self, service: &Arc<SelectedService>) -> Option<Candidate> {
        let spec = match &service.annotations {
            None => Some(Err(vec![format!(
                "the annotations zero-pod-autoscaler/... have more than {MAX_ANNOTATIONS_LEN} bytes \
                 together; shorten them"
            )])),
            Some(annotations) => {
                let SelectedService {
                    namespace, name, ..
                } = &**service;
                let read = || {
                    let (process, lists) = (&self.process, &self.lists);
                    app_spec::of_service(process, namespace, name, annotations, lists).transpose()
                };
                supervisor::catch_panic(read).unwrap_or_else(|why| Some(Err(vec![bug(&why)])))
            }
        };
        let service = service.clone();
        spec.map(|spec| Candidate {
            service,
            spec: spec.map(Arc::new),
        })
    }
}

fn bug(why: &str) -> String {
    let why = why.replace(char::is_control, " ");
    format!("the parser of its annotations has panicked, which is a bug: {why}")
}
