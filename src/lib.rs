//! `zpa`: a TCP proxy in front of a Kubernetes Service. It scales the Deployment (or another
//! object with a scale) behind the Service to zero when there have been no connections for a
//! while. When a connection then arrives, it scales the Deployment up, holds the connection,
//! and dials a pod for it as soon as one is ready.
//!
//! # Modules
//!
//! ```text
//! main       arguments, log set-up, exit code
//! commands   `zpa manifests` (prints manifests), `zpa check` (checks an installation)
//! daemon     the main loop: connects engine, policy and kube; readiness, /status,
//!            the drain after a signal
//! ├─ settings   one table of flags and variables, with those of the three programs that
//! │             zpa replaces (one dialect each); help, parsers
//! ├─ policy     when to scale and when to dial: a pure state machine; leases
//! ├─ engine     apps and listeners, connections, balancer, relays, buffers, timers
//! ├─ kube       the API threads: credentials, HTTP, requests, list and watch
//! ├─ metrics    one table of metrics; the text format
//! ├─ admin      the HTTP of the admin port: bytes in, bytes out
//! └─ resolve    looks up a dialled target that is given by name
//! shared     cluster, workload, kubeconfig_flags (types that modules exchange),
//!            rules (which clients count, and how fast they are dialled), refusal (when
//!            a refusal is believed), address, backoff, cgroup, clock, duration, log_format, log_queue, supervisor,
//!            sys (every `unsafe` of the crate)
//! ```
//!
//! A module uses the shared ones and no other, except that the engine uses the
//! histogram of `metrics`; only the daemon and the commands use several. The policy
//! sees counts and versions, never a socket. The engine knows no Kubernetes, and `kube`
//! no client connection: it reports through a closure. Time is an argument of every state
//! machine; threads are given a [`clock::Clock`] by `main`.
//! `tests/architecture` keeps these rules.
//!
//! # Words
//!
//! - *App*: one scale target with its Service; an object of its own in [`daemon`] and in
//!   [`engine`], found by an id. *Port*: one of its listeners, and the port of the Service
//!   to whose pods its connections go.
//! - *Asleep*: the scale is zero. *Awake*: it is not.
//! - *Held*: a connection that was accepted and has no pod yet. No byte is read from
//!   it, so the kernel keeps them.
//! - *Gate*: whether the engine may dial. The [`policy`] opens it when there is an
//!   address and a lease.
//! - *Lease*: a token in the status (or an annotation) of the scaled object, which states
//!   that a proxy is using the app; it is not an object of `coordination.k8s.io`. While a
//!   proxy holds one, no other scales the app to zero. [`policy`] documents the protocol
//!   between several proxies.
//! - *Hold limit*: how long a connection is held at most.
//! - *Quarantine*: pods of an app that was just put to sleep are not dialled, until they
//!   leave the endpoints or turn out to stay.
//! - *Scale target*: the object that is scaled ([`workload`]). *Target* alone: an address
//!   that is dialled in place of the pods (`--target`).
//!
//! # Threads
//!
//! One thread runs the event loop ([`daemon`], [`engine`], [`policy`]) and blocks in
//! `epoll_wait` alone. `zpa-api` and `zpa-api-spare` execute the policy's requests, one
//! at a time: the spare one takes a write that would otherwise wait for a read that
//! hangs. `zpa-watch` lists and watches the endpoints, `zpa-watch-app` the scaled
//! object. They send what they learn through a channel and wake the loop. `zpa-resolve-v4`
//! and `-v6` look up a target that is given by name, `zpa-exec` runs the credential plugin of
//! a kubeconfig. [`supervisor`]
//! starts an API or resolver thread again if it panics; a panic of the loop ends the
//! process. `zpa-log` writes what all of them log ([`log_queue`]), so that no thread
//! waits for a slow reader of stderr.
//!
//! # Four walkthroughs
//!
//! **A connection while asleep.** The engine accepts and holds it; a reset frees its
//! slot at once. The daemon gives the new counts to the policy: `Asleep` becomes
//! `Waking`, and the scale is written with the resourceVersion at which it was last seen
//! at zero as a precondition. The reply makes it `Starting`, and the lease is renewed while
//! the pod starts. `zpa-watch` sees an address become ready; the daemon gives it to the
//! engine and its number to the policy, which opens the gate. Held connections are dialled in
//! the order in which they came.
//!
//! **A connection while awake.** The gate is open: the connection is accepted and dialled
//! in the same iteration of the loop. While the lease holds, no API call is on its path.
//! A refused or unanswered connect leads to the next address, which is safe because no
//! byte of the client was read. Then there is one relay for each direction, until both have ended.
//!
//! **Falling asleep.** The last close starts the idle clock. When it runs out, the policy
//! has the object read afresh, renews its lease a last time under the version just read,
//! and writes zero under the version of that renewal. From the decision on the gate is
//! shut: a connection that comes is held, and wakes the app again if the write went
//! through. Pods that are known at that time are quarantined: not dialled until they
//! leave the endpoints, or turn out to live on.
//!
//! **A connection to the admin port.** The engine accepts it outside the connection limit,
//! reads the request, and hands it to the daemon at the end of the same iteration.
//! [`admin`] parses it; the daemon fills the page from the engine, the policy and its own
//! state. An answer therefore proves that the loop turns.
//!
//! # Decisions
//!
//! - *The policy decides every read and write of the scaled object*
//!   ([`cluster::Request`]); the API threads execute it and report its
//!   [`cluster::Outcome`]. What may be written after a lost reply is the hardest question
//!   here, and `policy::failures` answers it in one pure place.
//! - *A proxy that cannot read or write leases, or could not wake the app, never scales it
//!   to zero.* Every refusal, crash and lost reply leaves the app awake.
//! - *The watches never end*, also while asleep: an idle watch costs a request every few
//!   minutes, and a wake finds its connection open. What they show may be late. An
//!   app is therefore scaled to zero only under a version that was just read.
//! - *A connection is bound to a pod by its first byte.* Before it, the connection may be
//!   dialled elsewhere; afterwards it never is, so that nothing is sent twice.
//! - *A reset is passed on as a reset*, after the data before it was acknowledged, so that
//!   no client takes half an answer for a whole one.
//! - *An outage of the API server does not end the readiness of a proxy that was ready*: all
//!   proxies would leave the Service at once, though they can serve an app that is awake. A permission
//!   that stays refused, a Service or port that does not exist, and a thread that panics
//!   do ([`daemon::health`]).
//! - *Memory has a ceiling*: one scratch buffer, a bounded pool of blocks, and a share of
//!   the container's limit for what waits in the kernel ([`engine`]).
//! - *Small messages are copied when they come, bulk is spliced*: bulk passes through a
//!   bounded pool of pipes in a queue of which each iteration serves a bounded quota, a
//!   smaller one while there are small messages.

pub mod address;
pub mod admin;
pub mod backoff;
pub mod cgroup;
pub mod clock;
pub mod cluster;
pub mod commands;
pub mod daemon;
pub mod duration;
pub mod engine;
pub mod kube;
pub mod kubeconfig_flags;
pub mod log_format;
pub mod log_queue;
pub mod metrics;
pub mod policy;
pub mod refusal;
pub mod resolve;
pub mod rules;
pub mod settings;
pub mod supervisor;
pub mod sys;
pub mod workload;
