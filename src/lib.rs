//! `zpa`: a TCP proxy before a Kubernetes Service. It scales the Deployment
//! behind it to zero when there have been no connections for a while; when one
//! comes it scales the Deployment up, holds the connection, and hands it over
//! as soon as a pod is ready.
//!
//! # Modules
//!
//! ```text
//! main       arguments, log set-up, exit code
//! daemon     the composition: counts and reports -> policy -> commands;
//!            and what /readyz, /metrics and /status say
//! ├─ settings   one table: flag, variable, dialects, default, help, parser
//! ├─ policy     when to scale, whom to let through: a pure state machine
//! ├─ engine     listener, connections, relays, buffers, timers: sockets only
//! ├─ kube       the API threads: credentials, HTTP, requests, the watch
//! ├─ metrics    one table: name, type, labels, help; the text of a scrape
//! ├─ admin      the HTTP of the admin port: bytes in, bytes out
//! └─ resolve    the addresses of a target that is given by name
//! core types  cluster, workload, kubeconfig_flags (what modules share),
//!               cgroup, clock, backoff, duration, address, log_queue,
//!               supervisor, sys (every `unsafe` of the crate)
//! ```
//!
//! Each module knows the core types and no other module, save that the engine
//! counts in `metrics`; only the daemon knows them all. `policy` sees counts and
//! versions, never an address or a socket. `engine` knows no Kubernetes, `kube`
//! no client: it reports through a closure. Time is an argument, and only `main`
//! and the daemon know where it comes from. `tests/architecture.rs` keeps these rules.
//!
//! # Threads
//!
//! One thread runs the loop ([`daemon`], [`engine`], [`policy`]) and never
//! blocks but in `epoll_wait`. `zpa-api` executes one request to the API server
//! at a time, with a stand-by, so that a write is never behind a read that
//! hangs; `zpa-watch` lists and watches the EndpointSlices. Both post what they learn into
//! a channel and wake the loop. `zpa-resolve-v4` and `-v6` look up a target that is
//! given by name; `zpa-exec` renews what a kubeconfig's command has printed before
//! it runs out. A panic ends none of them for good ([`supervisor`]).
//! `zpa-log` writes what all of them log ([`log_queue`]), so that none waits for
//! whoever reads stderr.
//!
//! # Four walkthroughs
//!
//! **A connection while asleep.** [`engine`] accepts it and parks it: no byte is
//! read, so the kernel holds them, and a reset frees the slot at once. The next
//! count tells [`policy`] that somebody waits: `Asleep` becomes `Waking`, and
//! the scale is written under the version at which it was last seen at zero. The
//! reply makes it `Starting`. `zpa-watch` sees an address become ready; the
//! daemon gives it to the engine and the fact to the policy, which opens the
//! gate, and everybody is dialled in the order they came.
//!
//! **A connection while awake.** The gate is open: it is accepted and dialled in
//! the same turn. No API call is on its way. A refusal or a silence leads to the
//! next address, which is safe because no byte of the client's was consumed.
//! Then two half-relays with their ends swapped, until both have ended.
//!
//! **Falling asleep.** The last close starts the idle clock. When it runs out the
//! policy has the scale read afresh, and writes zero under the version just read.
//! From that moment the gate is shut: whoever comes is parked, and if the write
//! went through, they wake the app again. The pods known at that time are
//! quarantined and not dialled any more.
//!
//! **A connection to the admin port.** [`engine`] lets it in beside the connections,
//! takes what it says, and hands that to the daemon at the end of the same turn.
//! [`admin`] finds out what was asked; the daemon gathers the answer from where
//! things are counted and decided. So an answer proves that the loop turns.
//!
//! # Decisions
//!
//! - *The policy decides every single request* ([`cluster::Request`]); the API
//!   threads only execute it and say how it ended ([`cluster::Outcome`]). What
//!   may be written after a lost reply is the hardest question here, and this
//!   way the answer stands in one pure place (`policy::failures`). There too is
//!   how long to wait: `kube` reads a `Retry-After` and hands it on.
//! - *The watch never ends*, also while asleep: an idle watch costs a request
//!   every few minutes, and a wake finds its connection warm.
//! - *The service of a pod begins with its first byte.* Until one was handed to
//!   it, another pod can take the connection; afterwards none ever does.
//! - *A reset stays a reset.* It is passed on after all that came before it was
//!   acknowledged, so that nobody takes half an answer for a whole one.
//! - *An outage of the API server does not end readiness*, once there was any:
//!   all proxies would leave the Service at once, and what they can still serve
//!   with them. A right that is refused for good does ([`daemon::health`]).
//! - *Memory has a ceiling*: one scratch buffer, a bounded pool of blocks, and
//!   beyond it the kernel's own buffers ([`engine`]).
//! - *Small messages are copied when they come, bulk is spliced in its turn*: bulk
//!   passes through a bounded pool of pipes, and waits in a queue of which a turn
//!   of the loop serves a piece, a small one while small messages are about.

pub mod address;
pub mod admin;
pub mod backoff;
pub mod cgroup;
pub mod clock;
pub mod cluster;
pub mod daemon;
pub mod duration;
pub mod engine;
pub mod kube;
pub mod kubeconfig_flags;
pub mod log_queue;
pub mod metrics;
pub mod policy;
pub mod resolve;
pub mod settings;
pub mod supervisor;
pub mod sys;
pub mod workload;
