//! A [`Client`] makes calls to the API server, each with a [`Reply`] or a [`Failure`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use ureq::config::ConfigBuilder;
use ureq::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use ureq::http::{Method, Request, Response};
use ureq::typestate::AgentScope;
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{Connector, TcpConnector};
use ureq::{Agent, AsSendBody, Body, BodyReader, Timeout};

use super::credentials::{Credentials, P521_CURE};
use super::patch::Patch;
use super::reply::{ERROR_BODY, Failure, Reply, whole};
use super::requests::{Reaction, Requests, Verb};
use super::text::printable;
use super::transport::{ConnectionProbe, SecureConnector};
use crate::duration;

/// The timeout of the TCP connect, and also of the TLS handshake.
const CONNECT: Duration = Duration::from_secs(3);
/// The timeout for sending the head of a request, and also its body.
const SEND: Duration = Duration::from_secs(5);
/// The timeout from the end of the request to the head of the reply.
const RECEIVE_HEAD: Duration = Duration::from_secs(10);
/// The same for a wake: a webhook may take 30 s (`timeoutSeconds`), and where its failure is
/// ignored the write is applied after that.
const RECEIVE_HEAD_OF_WAKE: Duration = Duration::from_secs(35);
/// The timeout for the body of a reply that is not a watch.
const RECEIVE_BODY: Duration = Duration::from_secs(15);
/// How long an unused connection is kept. The policy reads every 30 s at least.
const KEEP_IDLE: Duration = Duration::from_secs(60);
/// The size of each of a connection's buffers, in bytes.
const BUFFER: usize = 16 * 1024;

const USER_AGENT: &str = concat!("zpa/", env!("CARGO_PKG_VERSION"));

/// A client with its own connections. One thread at a time makes calls; any thread may
/// call [`Client::cancel`].
pub(super) struct Client {
    credentials: Arc<Credentials>,
    requests: Arc<Requests>,
    base: String,
    current: Mutex<Option<Session>>,
}

/// The connections of a client between two cancellations or changes of roots.
#[derive(Clone)]
struct Session {
    generation: u64,
    agent: Agent,
    probe: Arc<ConnectionProbe>,
}

/// A handle for calls, until the next [`Client::cancel`].
pub(super) struct Calls<'a> {
    client: &'a Client,
    session: Session,
}

/// The reply to a watch.
pub(super) enum Opened {
    /// The stream of events.
    Stream(BodyReader<'static>),
    /// A reply with another status than 200.
    Refused(Reply),
}

impl Client {
    /// A client that counts its requests in `requests`.
    pub(super) fn new(credentials: Arc<Credentials>, requests: Arc<Requests>) -> Self {
        Client {
            base: credentials.base_url(),
            credentials,
            requests,
            current: Mutex::new(None),
        }
    }

    /// A handle for calls. The next [`Client::cancel`] ends them.
    pub(super) fn calls(&self) -> Calls<'_> {
        let (generation, tls) = self.credentials.tls();
        let mut current = self.current();
        let session = match current.take() {
            Some(session) if session.generation == generation => session,
            _ => {
                let probe = Arc::new(ConnectionProbe::default());
                let connector = ().chain(TcpConnector::default()).chain(SecureConnector {
                    tls,
                    probe: probe.clone(),
                });
                Session {
                    generation,
                    agent: self.agent(connector),
                    probe,
                }
            }
        };
        *current = Some(session.clone());
        Calls {
            client: self,
            session,
        }
    }

    /// Ends the calls in progress within a millisecond, and closes the connections. A name
    /// look-up or a TCP connect runs to its end.
    pub(super) fn cancel(&self) {
        let session = self.current().take();
        if let Some(session) = session {
            session.agent.shutdown();
        }
    }

    /// Leaves the call in progress to the thread that makes it: it has its own end, and
    /// [`Client::cancel`] does not end it any more. The next call has a new connection.
    pub(super) fn detach(&self) {
        self.current().take();
    }

    /// The timeout of a phase of a request: `limit`, or the request timeout if shorter.
    fn longest(&self, limit: Duration) -> Duration {
        let most = self.credentials.request_timeout();
        most.map_or(limit, |most| most.min(limit))
    }

    /// The text of an error; for a timeout it names the phase, the server and the duration.
    fn describe(&self, cause: &ureq::Error, head: Duration) -> String {
        let (what, limit) = match cause {
            ureq::Error::Timeout(Timeout::Connect) => ("connecting to", CONNECT),
            ureq::Error::Timeout(Timeout::SendRequest | Timeout::SendBody) => {
                ("sending a request to", SEND)
            }
            ureq::Error::Timeout(Timeout::RecvResponse) => ("the answer of", head),
            ureq::Error::Timeout(Timeout::RecvBody) => ("the rest of an answer of", RECEIVE_BODY),
            other => return other.to_string(),
        };
        let (server, limit) = (self.credentials.base_url(), self.longest(limit));
        format!(
            "{what} {server} timed out after {}",
            duration::display(limit)
        )
    }

    fn agent(&self, connector: impl Connector) -> Agent {
        let longest = |limit| self.longest(limit);
        let config = agent_config()
            .https_only(self.credentials.is_tls())
            .max_idle_age(KEEP_IDLE)
            .max_idle_connections(1)
            .timeout_connect(Some(longest(CONNECT)))
            .timeout_send_request(Some(longest(SEND)))
            .timeout_send_body(Some(longest(SEND)))
            .timeout_recv_response(Some(longest(RECEIVE_HEAD)))
            .timeout_recv_body(Some(longest(RECEIVE_BODY)))
            .build();
        Agent::with_parts(config, connector, DefaultResolver::default())
    }

    fn current(&self) -> MutexGuard<'_, Option<Session>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What all requests of this program have in common: no proxy from the environment and no
/// redirect. A limit on the whole call would cost a thread for each; the phases have limits.
pub(super) fn agent_config() -> ConfigBuilder<AgentScope> {
    Agent::config_builder()
        .proxy(None)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .user_agent(USER_AGENT)
        .input_buffer_size(BUFFER)
        .output_buffer_size(BUFFER)
}

impl Calls<'_> {
    /// Reads an object; the body may have `cap` bytes.
    pub(super) fn get(&self, path: &str, cap: u64) -> Result<Reply, Failure> {
        self.read(Verb::Get, path, cap)
    }

    /// Reads a list, or a page of one; the body may have `cap` bytes.
    pub(super) fn list(&self, path: &str, cap: u64) -> Result<Reply, Failure> {
        self.read(Verb::List, path, cap)
    }

    fn read(&self, verb: Verb, path: &str, cap: u64) -> Result<Reply, Failure> {
        self.authorized(|| {
            let first = self.read_once(verb, path, cap);
            match first {
                Err(Failure { stale: true, .. }) => self.read_once(verb, path, cap),
                other => other,
            }
        })
    }

    /// Sends a patch; the body of the reply may have `cap` bytes. It is sent a second time
    /// only after a 401.
    pub(super) fn patch(&self, path: &str, patch: &Patch, cap: u64) -> Result<Reply, Failure> {
        self.patch_within(RECEIVE_HEAD, path, patch, cap)
    }

    /// The same for a wake, whose reply is waited for for longer.
    pub(super) fn patch_for_wake(
        &self,
        path: &str,
        patch: &Patch,
        cap: u64,
    ) -> Result<Reply, Failure> {
        self.patch_within(RECEIVE_HEAD_OF_WAKE, path, patch, cap)
    }

    fn patch_within(
        &self,
        head: Duration,
        path: &str,
        patch: &Patch,
        cap: u64,
    ) -> Result<Reply, Failure> {
        self.authorized(|| {
            let request = self
                .request(Method::PATCH, path)?
                .header(CONTENT_TYPE, patch.content_type)
                .body(&patch.body)
                .map_err(|cause| self.failure(cause.into(), head))?;
            let request = self.session.agent.configure_request(request);
            let head = self.client.longest(head);
            let request = request.timeout_recv_response(Some(head)).build();
            self.run_within(head, Verb::Patch, request)
                .and_then(|reply| whole(reply, cap))
        })
    }

    /// Posts an object that the API server answers and does not keep, such as an
    /// access review, with a reply of up to `cap` bytes. It is counted as a read, since it
    /// changes nothing.
    pub(super) fn review(&self, path: &str, object: &Value, cap: u64) -> Result<Reply, Failure> {
        self.post(Verb::Get, path, object, cap)
    }

    /// Creates an object, with a reply of up to `cap` bytes.
    pub(super) fn create(&self, path: &str, object: &Value, cap: u64) -> Result<Reply, Failure> {
        self.post(Verb::Create, path, object, cap)
    }

    /// Deletes an object, with a reply of up to `cap` bytes. It is counted as a patch: the proxy
    /// itself deletes nothing.
    pub(super) fn delete(&self, path: &str, cap: u64) -> Result<Reply, Failure> {
        self.authorized(|| {
            let request = self
                .request(Method::DELETE, path)?
                .body(())
                .map_err(|cause| self.failure(cause.into(), RECEIVE_HEAD))?;
            self.run(Verb::Patch, request)
                .and_then(|reply| whole(reply, cap))
        })
    }

    fn post(&self, verb: Verb, path: &str, object: &Value, cap: u64) -> Result<Reply, Failure> {
        self.authorized(|| {
            let request = self
                .request(Method::POST, path)?
                .header(CONTENT_TYPE, "application/json")
                .body(object.to_string())
                .map_err(|cause| self.failure(cause.into(), RECEIVE_HEAD))?;
            self.run(verb, request).and_then(|reply| whole(reply, cap))
        })
    }

    /// Opens a watch. A read from it fails after `silence` without bytes.
    pub(super) fn watch(&self, path: &str, silence: Duration) -> Result<Opened, Failure> {
        let first = self.watch_once(path, silence)?;
        match first {
            Opened::Refused(reply) if reply.status == 401 && self.renew() => {
                self.watch_once(path, silence)
            }
            other => Ok(other),
        }
    }

    fn watch_once(&self, path: &str, silence: Duration) -> Result<Opened, Failure> {
        let request = self
            .request(Method::GET, path)?
            .body(())
            .map_err(|cause| self.failure(cause.into(), RECEIVE_HEAD))?;
        let request = self
            .session
            .agent
            .configure_request(request)
            .timeout_recv_body(None)
            .timeout_per_read(Some(silence))
            .build();
        let reply = self.run(Verb::Watch, request)?;
        if reply.status().as_u16() == 200 {
            return Ok(Opened::Stream(reply.into_body().into_reader()));
        }
        Ok(Opened::Refused(whole(reply, ERROR_BODY)?))
    }

    fn read_once(&self, verb: Verb, path: &str, cap: u64) -> Result<Reply, Failure> {
        let request = self
            .request(Method::GET, path)?
            .body(())
            .map_err(|cause| self.failure(cause.into(), RECEIVE_HEAD))?;
        self.run(verb, request).and_then(|reply| whole(reply, cap))
    }

    fn authorized(&self, call: impl Fn() -> Result<Reply, Failure>) -> Result<Reply, Failure> {
        match call() {
            Ok(reply) if reply.status == 401 && self.renew() => call(),
            other => other,
        }
    }

    fn renew(&self) -> bool {
        self.client.credentials.renew()
    }

    fn request(&self, method: Method, path: &str) -> Result<ureq::http::request::Builder, Failure> {
        let credentials = &self.client.credentials;
        let token = credentials.token().map_err(|why| Failure::unsent(&why))?;
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.client.base))
            .header(ACCEPT, "application/json");
        for (name, value) in credentials.impersonation() {
            request = request.header(name, value);
        }
        Ok(match token {
            Some(token) => request.header(AUTHORIZATION, token.header()),
            None => request,
        })
    }

    fn run(
        &self,
        verb: Verb,
        request: Request<impl AsSendBody>,
    ) -> Result<Response<Body>, Failure> {
        self.run_within(RECEIVE_HEAD, verb, request)
    }

    fn run_within(
        &self,
        head: Duration,
        verb: Verb,
        request: Request<impl AsSendBody>,
    ) -> Result<Response<Body>, Failure> {
        self.session.probe.forget();
        let sent = self.client.credentials.now();
        let reply = self.session.agent.run(request);
        let took = self.client.credentials.now().since(sent);
        let reply = reply.map_err(|cause| self.failure(cause, head));
        let reaction = match &reply {
            Ok(reply) => Reaction::to(reply.status().as_u16()),
            Err(failure) if failure.sent => Reaction::NoReply,
            Err(_) => Reaction::Unreachable,
        };
        self.client.requests.count(verb, reaction, took);
        reply
    }

    /// `head`: how long the head of the reply was waited for.
    fn failure(&self, cause: ureq::Error, head: Duration) -> Failure {
        let probe = &self.session.probe;
        let tls = tls_error(&cause);
        if tls.is_some() {
            // The roots or the client certificate may have been replaced.
            self.client.credentials.renew_tls();
        }
        Failure {
            sent: probe.sent(),
            stale: probe.sent() && !probe.connected() && is_disconnect(&cause),
            too_large: false,
            text: printable(&match tls.and_then(hint) {
                Some(hint) => format!("{cause}; {hint}"),
                None => self.client.describe(&cause, head),
            }),
        }
    }
}

fn tls_error(cause: &ureq::Error) -> Option<&rustls::Error> {
    let ureq::Error::Io(cause) = cause else {
        return None;
    };
    cause.get_ref()?.downcast_ref()
}

/// A hint for TLS errors whose text does not show their likely cause.
fn hint(error: &rustls::Error) -> Option<String> {
    use rustls::{AlertDescription::HandshakeFailure, CertificateError, Error};
    match error {
        Error::AlertReceived(HandshakeFailure) => Some(format!(
            "perhaps the server's certificate has a P-521 key: {P521_CURE}"
        )),
        Error::InvalidCertificate(
            CertificateError::UnsupportedSignatureAlgorithmContext { .. }
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. },
        ) => Some(format!("perhaps it is one of P-521: {P521_CURE}")),
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => Some(
            "it was issued by none of the certificates that are configured, and is none of them"
                .to_owned(),
        ),
        _ => None,
    }
}

fn is_disconnect(cause: &ureq::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    match cause {
        ureq::Error::Io(cause) => matches!(
            cause.kind(),
            BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof
        ),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn a_phase_that_took_too_long_is_named_with_the_server_and_the_limit() {
        let server = "127.0.0.1:6443".parse().unwrap();
        let credentials = Credentials::new(testing::access(server), testing::clock).unwrap();
        let client = Client::new(Arc::new(credentials), Arc::default());
        for (phase, what, limit) in [
            (Timeout::Connect, "connecting to", CONNECT),
            (Timeout::RecvResponse, "the answer of", RECEIVE_HEAD),
        ] {
            let limit = duration::display(limit);
            let text = format!("{what} http://127.0.0.1:6443 timed out after {limit}");
            assert_eq!(
                client.describe(&ureq::Error::Timeout(phase), RECEIVE_HEAD),
                text
            );
        }
        let other = ureq::Error::HostNotFound;
        assert_eq!(client.describe(&other, RECEIVE_HEAD), other.to_string());
    }
}
