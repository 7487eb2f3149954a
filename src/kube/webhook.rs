//! [`Webhooks`]: posts the events in the life of apps to URLs, as JSON.
//!
//! `zpa-webhook`, one thread for all apps, posts them, one attempt at a time, so that no connection
//! waits for a receiver. It lives only while there are events. How they are ordered, repeated and
//! dropped is decided by `outbox`.
//!
//! No request goes through a proxy from the environment or follows a redirect. An https
//! receiver's certificate is verified against the file of `--webhook-ca`, or the cluster's CA:
//! the image has no others. The file is read again for each burst of events.

mod outbox;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use log::{Level, debug};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use ureq::Agent;
use ureq::http::header::{AUTHORIZATION, CONTENT_TYPE};
use ureq::http::{HeaderValue, Request};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{Connector, TcpConnector};

use self::outbox::{Item, Next, Outbox};
use super::access::Pem;
use super::client::agent_config;
use super::credentials::{Tls, client_config};
use super::patch;
use super::reply::retry_after;
use super::rfc3339;
use super::text::{LogOnce, printable};
use super::transport::SecureConnector;
use crate::clock::{Clock, WallClock};
use crate::cluster::LifecycleEvent;
use crate::supervisor;
use crate::webhook_url::WebhookUrl;

/// The pauses before an event is posted again.
const PAUSES: &[Duration] = &[
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(20),
];

/// The pause between attempts at a receiver that takes no events.
const REST: Duration = Duration::from_secs(60);

/// The timeout of each phase of a request: to look up the host, to connect, to send, and to receive
/// the head of the reply.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The longest pause that a receiver may ask for with `Retry-After`.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// Posts events. All apps of a process share it.
pub struct Webhooks {
    shared: Arc<Shared>,
}

/// The webhook of an app.
pub struct Webhook {
    shared: Arc<Shared>,
    receiver: Arc<Receiver>,
    app: String,
    target: String,
    counts: Arc<Counts>,
}

/// What was done with the events of an app since the start.
#[derive(Debug, Default)]
struct Counts {
    delivered: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
}

struct Shared {
    roots: Roots,
    /// The name of the pod.
    instance: String,
    clock: Clock,
    wall_clock: WallClock,
    state: Mutex<State>,
    changed: Condvar,
}

/// The certificates that receivers are verified against.
#[derive(Clone)]
pub(super) enum Roots {
    /// Those of the file of `--webhook-ca`.
    File(PathBuf),
    /// Those of the API server; `None` if it is spoken to without TLS.
    Cluster(Option<Pem>),
}

struct State {
    outbox: Outbox<Delivery>,
    receivers: Vec<Weak<Receiver>>,
    next_id: u64,
    has_thread: bool,
}

/// A URL.
struct Receiver {
    id: u64,
    url: WebhookUrl,
    trouble: Mutex<Trouble>,
}

/// What is wrong with a receiver.
#[derive(Default)]
struct Trouble {
    log: LogOnce,
    text: Option<String>,
}

struct Delivery {
    receiver: Arc<Receiver>,
    body: String,
    counts: Arc<Counts>,
}

/// Why an event was not taken.
struct Refusal {
    kind: &'static str,
    text: String,
    /// Whether it is posted again, and after which pause at least.
    again: Option<Duration>,
}

impl Webhooks {
    pub(super) fn new(
        roots: Roots,
        instance: &str,
        clock: Clock,
        wall_clock: WallClock,
    ) -> Webhooks {
        let outbox = Outbox::new(PAUSES, REST);
        Webhooks::with_outbox(outbox, roots, instance, clock, wall_clock)
    }

    fn with_outbox(
        outbox: Outbox<Delivery>,
        roots: Roots,
        instance: &str,
        clock: Clock,
        wall_clock: WallClock,
    ) -> Webhooks {
        let state = State {
            outbox,
            receivers: Vec::new(),
            next_id: 0,
            has_thread: false,
        };
        Webhooks {
            shared: Arc::new(Shared {
                roots,
                instance: patch::writer(instance),
                clock,
                wall_clock,
                state: Mutex::new(state),
                changed: Condvar::new(),
            }),
        }
    }

    /// Whether the certificate of an https receiver can be verified at present.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self) -> Result<(), String> {
        self.shared.roots.config().map(drop)
    }

    /// The webhook of the app `namespace/service`, which scales `target`.
    pub fn of_app(&self, url: &WebhookUrl, app: &str, target: &str) -> Webhook {
        Webhook {
            shared: self.shared.clone(),
            receiver: lock(&self.shared.state).receiver(url),
            app: app.to_owned(),
            target: target.to_owned(),
            counts: Arc::default(),
        }
    }
}

impl Webhook {
    /// Has an event posted.
    ///
    /// Never blocks.
    pub fn post(&self, event: &LifecycleEvent) {
        let delivery = Delivery {
            receiver: self.receiver.clone(),
            body: self.body(event).to_string(),
            counts: self.counts.clone(),
        };
        let mut state = lock(&self.shared.state);
        let now = (self.shared.clock)();
        if let Some(dropped) = state.outbox.push(self.receiver.id, delivery, now) {
            debug!("an event of a webhook is dropped, because so many wait");
            count(&dropped.counts.dropped);
        }
        let has_thread = std::mem::replace(&mut state.has_thread, true);
        drop(state);
        match has_thread {
            true => self.shared.changed.notify_one(),
            false => self.shared.start_thread(),
        }
    }

    /// The number of events since the start by what was done with them.
    pub fn counts(&self) -> Vec<([&'static str; 1], u64)> {
        let Counts {
            delivered,
            failed,
            dropped,
        } = &*self.counts;
        let counts = [
            ("delivered", delivered),
            ("failed", failed),
            ("dropped", dropped),
        ];
        let read = |(name, count): (_, &AtomicU64)| ([name], count.load(Ordering::Relaxed));
        counts.map(read).to_vec()
    }

    /// Why the receiver does not take events, as far as is known; `None` if it does.
    pub fn trouble(&self) -> Option<String> {
        lock(&self.receiver.trouble).text.clone()
    }

    fn body(&self, event: &LifecycleEvent) -> Value {
        let mut body = json!({
            "event": event.kind.name(),
            "app": self.app,
            "target": self.target,
            "proxy": self.shared.instance,
            "time": rfc3339::utc((self.shared.wall_clock)()),
            "text": event.describe(&self.app),
        });
        if let Some(replicas) = event.replicas {
            body["replicas"] = replicas.into();
        }
        if let Some(waited) = event.waited {
            body["waited_seconds"] = (waited.as_millis() as f64 / 1000.0).into();
        }
        if let Some(reason) = &event.reason {
            body["reason"] = reason.as_str().into();
        }
        body
    }
}

impl State {
    /// The receiver at a URL. Apps that have the same URL share it.
    fn receiver(&mut self, url: &WebhookUrl) -> Arc<Receiver> {
        self.receivers
            .retain(|receiver| receiver.strong_count() > 0);
        let mut known = self.receivers.iter().filter_map(Weak::upgrade);
        if let Some(receiver) = known.find(|receiver| receiver.url == *url) {
            return receiver;
        }
        let receiver = Arc::new(Receiver {
            id: self.next_id,
            url: url.clone(),
            trouble: Mutex::default(),
        });
        self.next_id += 1;
        self.receivers.push(Arc::downgrade(&receiver));
        receiver
    }
}

impl Shared {
    fn start_thread(self: &Arc<Self>) {
        let shared = self.clone();
        let thread = thread::Builder::new().name("zpa-webhook".to_owned());
        if let Err(why) = thread.spawn(move || shared.run()) {
            debug!("no thread can be started to post events: {why}");
            // With the next event it is tried again.
            lock(&self.state).has_thread = false;
        }
    }

    fn run(&self) {
        // While the thread lives; the file may be another one for the next.
        let mut roots = None;
        while let Some(item) = self.next() {
            let delivery = &item.content;
            let posted = supervisor::catch_panic(|| self.post(delivery, &mut roots));
            let posted = posted.unwrap_or_else(|why| Err(Refusal::final_one("bug", why)));
            delivery.receiver.log(posted.as_ref().err());
            match posted {
                Ok(()) => {
                    count(&delivery.counts.delivered);
                    lock(&self.state).outbox.delivered(&item);
                }
                Err(refusal) => self.retry(item, refusal.again),
            }
        }
    }

    /// Waits for the event that is to be posted next; if there is none, the thread that asks is
    /// one no more.
    fn next(&self) -> Option<Item<Delivery>> {
        let mut state = lock(&self.state);
        loop {
            let now = (self.clock)();
            match state.outbox.next(now) {
                Next::Deliver(item) => return Some(item),
                Next::WaitUntil(until) => {
                    let waited = self.changed.wait_timeout(state, until.since(now));
                    state = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
                Next::Nothing => {
                    state.has_thread = false;
                    return None;
                }
            }
        }
    }

    fn retry(&self, item: Item<Delivery>, again: Option<Duration>) {
        let given_up = match again {
            None => Some(item.content),
            Some(least) => {
                let least = least.min(MAX_PAUSE);
                lock(&self.state).outbox.retry(item, least, (self.clock)())
            }
        };
        if let Some(delivery) = given_up {
            count(&delivery.counts.failed);
        }
    }

    fn post(
        &self,
        delivery: &Delivery,
        roots: &mut Option<Arc<ClientConfig>>,
    ) -> Result<(), Refusal> {
        let url = &delivery.receiver.url;
        let tls = self.tls(url, roots);
        let tls = tls.map_err(|why| Refusal::passing("certificates", why))?;
        let agent = agent(tls);
        let mut request =
            Request::post(url.url().expose()).header(CONTENT_TYPE, "application/json");
        if let Some(authorization) = url.authorization() {
            let mut value = HeaderValue::try_from(authorization.expose())
                .map_err(|why| Refusal::final_one("url", why.to_string()))?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let request = request
            .body(delivery.body.as_str())
            .map_err(|why| Refusal::final_one("url", why.to_string()))?;
        let reply = agent.run(request);
        let reply = reply.map_err(|why| Refusal::passing("unreachable", why.to_string()))?;
        let status = reply.status();
        let text = || format!("it answers {status}");
        match status.as_u16() {
            200..300 => Ok(()),
            408 | 429 | 500.. => Err(Refusal {
                kind: "failing",
                text: text(),
                again: Some(retry_after(&reply).unwrap_or_default()),
            }),
            300..400 => {
                let text = format!("{}, and redirects are not followed", text());
                Err(Refusal::final_one("refused", text))
            }
            _ => Err(Refusal::final_one("refused", text())),
        }
    }

    fn tls(
        &self,
        url: &WebhookUrl,
        roots: &mut Option<Arc<ClientConfig>>,
    ) -> Result<Option<Tls>, String> {
        if !url.is_tls() {
            return Ok(None);
        }
        let config = match roots {
            Some(config) => config.clone(),
            None => roots.insert(self.roots.config()?).clone(),
        };
        let name = server_name(url)?;
        Ok(Some(Tls { config, name }))
    }
}

impl Roots {
    /// The TLS configuration with these roots.
    fn config(&self) -> Result<Arc<ClientConfig>, String> {
        const CURE: &str = "--webhook-ca (ZPA_WEBHOOK_CA)";
        let (pem, place) = match self {
            Roots::File(path) => (
                std::fs::read(path),
                format!("{CURE} {}", printable(&path.to_string_lossy())),
            ),
            Roots::Cluster(Some(Pem::File(path))) => {
                (std::fs::read(path), "the cluster's CA".to_owned())
            }
            Roots::Cluster(Some(Pem::Fixed(_, text))) => {
                (Ok(text.clone()), "the cluster's CA".to_owned())
            }
            Roots::Cluster(None) => {
                return Err(format!(
                    "nothing is there to verify an https webhook with: give {CURE}"
                ));
            }
        };
        let config = pem.map_err(|why: io::Error| why.to_string());
        let config = config.and_then(|pem| client_config(&pem));
        config.map_err(|why| format!("{place}: {why}"))
    }
}

impl Receiver {
    /// Logs what is wrong with it, once for each trouble.
    fn log(&self, refusal: Option<&Refusal>) {
        let mut trouble = lock(&self.trouble);
        let origin = self.url.origin();
        match refusal {
            None => {
                trouble
                    .log
                    .clear(&format!("the webhook at {origin} takes events again"));
                trouble.text = None;
            }
            Some(refusal) => {
                let why = printable(&refusal.text);
                let end = match refusal.again {
                    Some(_) => "posted a few times and then given up",
                    None => "given up at once",
                };
                let text = format!("the webhook at {origin} takes no event ({why}): each is {end}");
                trouble.log.raise(Level::Warn, refusal.kind, &text);
                trouble.text = Some(why);
            }
        }
    }
}

impl Refusal {
    /// What may be over in a moment.
    fn passing(kind: &'static str, text: String) -> Refusal {
        Refusal {
            kind,
            text,
            again: Some(Duration::ZERO),
        }
    }

    /// What another attempt would meet too.
    fn final_one(kind: &'static str, text: String) -> Refusal {
        Refusal {
            kind,
            text,
            again: None,
        }
    }
}

fn server_name(url: &WebhookUrl) -> Result<ServerName<'static>, String> {
    let name = ServerName::try_from(url.host().to_owned());
    name.map_err(|_| "the host of an https webhook is neither a name nor an address".to_owned())
}

/// An agent for one request.
fn agent(tls: Option<Tls>) -> Agent {
    let connector = ().chain(TcpConnector::default()).chain(SecureConnector {
        tls,
        probe: Arc::default(),
    });
    let config = agent_config()
        .max_idle_connections(0)
        // It takes a thread for each request, of which there are few.
        .timeout_resolve(Some(TIMEOUT))
        .timeout_connect(Some(TIMEOUT))
        .timeout_send_request(Some(TIMEOUT))
        .timeout_send_body(Some(TIMEOUT))
        .timeout_recv_response(Some(TIMEOUT))
        .build();
    Agent::with_parts(config, connector, DefaultResolver::default())
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
