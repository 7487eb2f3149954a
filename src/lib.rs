//! `zpa`: a TCP proxy in front of a Kubernetes Service. It scales the Deployment behind the
//! Service (or another resource with the scale subresource) to zero when there have been no
//! connections for a while. When a connection then arrives, it scales the Deployment up,
//! holds the connection, and connects it to a pod as soon as one is ready.
//!
//! # Modules
//!
//! `main` parses the arguments, sets up the log and ends with the exit code. It calls one of
//! two modules, which use the others:
//!
//! ```text
//! daemon     runs the proxy: wires engine, policy and kube together, and drains
//! commands   `zpa manifests` prints manifests, `zpa check` checks an installation,
//!            `zpa explain` says more about a finding, `zpa uninstall` removes it,
//!            `zpa wake` scales up what sleeps, `zpa completion` and `zpa help` print what their
//!            tables say
//!
//! settings   one table of flags and variables, with those of the two programs that zpa
//!            replaces (one dialect for each form of them); help, parsers
//! policy     decides when to scale and when to dial, and holds the lease: pure state
//!            machines. `replies`, `failures` and `observations` are its transitions
//! engine     the event loop: listeners, `connection` (preread, dialing, relaying,
//!            closing), `balancer`, buffers, timers
//! kube       the API threads: credentials, HTTP, an executor of requests, reflectors
//!            (list and watch) of the endpoints and of the scale target
//! metrics    one table of metrics; the text format
//! admin      the HTTP of the admin port: bytes in, bytes out
//! resolve    resolves the host name of `--target`
//! accept_probe  dials pods that start, until one accepts or greets (`--ready-gate`)
//!
//! cluster    the types that policy, kube and daemon exchange: requests, outcomes, reports
//! workload   references to the scale target, and its kinds
//! rules      which connections are admitted and count, and how fast they are dialled
//! sys        system calls; every `unsafe` of the crate
//! address, backoff, cgroup, clock, duration, kubeconfig_flags, log_format, log_queue, problems,
//! refusal, schedule, supervisor, webhook_url: one small subject each
//! ```
//!
//! A module of the second group depends only on those of the third, except that engine
//! and `kube` use the histogram of `metrics`. The policy sees counts and versions, never a
//! socket or an address. The engine knows nothing of Kubernetes, and `kube` nothing of client
//! connections.
//! State machines are passed the time; threads are passed a [`clock::Clock`] by `main`.
//! `tests/architecture` holds these rules.
//!
//! # Terms
//!
//! - *App*: a scale target with its Service. [`daemon`] and [`engine`] each have an object for
//!   it, found by an [`AppId`](engine::AppId). *Port* of an app: an address that the proxy
//!   listens on, with the port of the Service to whose pods connections from there go.
//! - *Scale target*, or *target*: the object that is scaled ([`workload`]). *Static backend*:
//!   the address that `--target` names (never called a target here), which is dialled in place
//!   of the pods, or, if it is the Service itself, after them.
//! - *Asleep*: `spec.replicas` is 0. *Awake*: it is not. *Wake* and *sleep*: what changes that:
//!   the write of the scale. As a period, a wake begins with the first connection that waits,
//!   and ends when a pod has taken one. The [`policy::Phase`] is finer: `Awake →
//!   ConfirmingIdle → ScalingDown → Asleep → Waking → Starting → Awake`.
//! - *Idle TTL*, or *TTL* (`--idle-ttl`): the idle timeout of the app: how long it has no
//!   counted connection before it is put to sleep. Other proxies respect a lease for the TTL of
//!   the proxy that wrote it.
//! - *Counted*: a connection counts as use of the app: it wakes the app and keeps it awake. A
//!   setting may make it *uncounted*, by its source, its first bytes or its silence ([`rules`]).
//!   *Resuming*: it was silent, a byte has come, and the byte waits for the gate.
//! - *Preread*: the inspection of a connection's first bytes before it is held or dialled: the
//!   PROXY header is read, the client's own bytes are only peeked at.
//! - *Held*: a connection that was accepted and is not connected to a pod yet. What the client
//!   sends stays in the kernel's receive buffer. *Hold limit* (`--hold-timeout`): how long a
//!   connection is held at most. *Released*: dialled, after it was held.
//! - *Detached*: its backend's side has ended because the app sleeps, and the client's is still
//!   open (`--silent-connections detach`). The client's next byte has it held again.
//! - *Gate*: a flag of an app. While it is open the engine may dial for counted connections.
//!   The policy opens it when there is an address to dial and a lease, or when it *fails open*:
//!   where leases cannot be written, connections are served without one, and the app is not put
//!   to sleep. (A `--ready-gate` is another thing: what makes a pod ready.)
//! - *Server name*: the name in a TLS ClientHello (SNI). Where apps share a listener it chooses
//!   one. A client whose name is awaited is *inspected*, and no app's.
//! - *Lease*: a proxy's claim that it uses the app. It is a *token* in the status (or an
//!   annotation) of the scale target, which the proxy *renews*; several proxies have one at the
//!   same time, and it is no object of `coordination.k8s.io`. While a proxy has one, no other
//!   proxy scales the app to zero. The *final renewal*, before a sleep, states that this proxy
//!   has no connections. [`policy`] documents the protocol.
//! - *Version*: a resourceVersion. *Guard*: the version that is the precondition of a write.
//! - *Quarantine*: pods that are known when the scale is zero are not dialled, until they leave
//!   the endpoints, or have stayed ready for two seconds after a wake.
//! - *Waiting*: a counted connection that is held or being dialled.
//! - *Turn* of the loop: what it does from one `epoll_wait` to the next.
//! - *Backend*: what the balancer picks: a pod, or a static backend (HAProxy: a server; Envoy: a
//!   host); it has one or more *addresses*. *Fallback address*: the cluster IP, dialled if no
//!   backend answers. *Backup target*: what a connection is dialled to that has waited for a
//!   backend in vain (HAProxy, nginx: a backup server). *Avoided*: dialled only where nothing else
//!   is left: *ejected* for a while after a failure, or *on trial* until a dial in progress shows
//!   whether it answers.
//! - *Relay*: moves the bytes of a connection between client and backend, in two *halves*, one
//!   for each direction. *Bulk*: a half whose reads are large, so that it is spliced.
//! - *Refused* (of a permission): with a 403. It counts as missing once the refusal is *confirmed*:
//!   has lasted ([`refusal`]).
//! - *Override*: an operator's exception from the idle rules: a schedule in the settings, or an
//!   annotation on the scale target, which keeps the app awake, wakes it, or pauses all writes.
//! - *Ancestors*: zero-pod-autoscaler (Go) and traffic-pod-autoscaler (Python), which zpa
//!   replaces.
//!
//! # Threads
//!
//! One thread runs the event loop ([`daemon`], [`engine`], [`policy`]), and waits nowhere but in
//! `epoll_wait`. `zpa-api` and `zpa-api-spare` execute the requests of all policies, each of them
//! one at a time: the spare one takes a write while the other is stuck in a request, and repeats a
//! write that has no reply after a second. It ends when nothing was written for 30 s, unless there
//! is a list of apps, at which one of them looks each second. A wake that is given up keeps its
//! thread and connection until its reply comes, for 35 s at most, and another thread takes its
//! place; of these there are eight at most. `zpa-endpoints` lists and watches the
//! endpoints, `zpa-targets` the scale target, of one app, of all in a namespace, or by name of a
//! few that may not be watched together; `zpa-services` those Services by which apps are found, and
//! `zpa-events`, while there are any, writes Events about them and about the scale targets.
//! `zpa-webhook`, while there are any, posts the events of apps that have a webhook, and `zpa-pods`
//! reads the pods of an app whose wake takes long. `zpa-accept` dials the pods that start, for all
//! apps with `--ready-gate accept` or `greeting`. `zpa-resolve-v4` and `-v6` resolve a static
//! backend that is given by name, and `zpa-exec` runs the credential plugin of a kubeconfig. Each
//! of these threads reports through a closure of the daemon's, which puts a [`cluster::Report`]
//! into a channel and wakes the loop.
//!
//! [`supervisor`] starts a thread of these again if it panics; a panic of the loop ends the
//! process. `zpa-log` writes what all of them log ([`log_queue`]), so that no thread waits for
//! a slow reader of stderr.
//!
//! # Four walkthroughs
//!
//! **A connection while asleep.** The engine accepts the connection, prereads it where a rule
//! asks for that, and holds it; if the client resets it, its place is free at once. The daemon
//! passes the new counts to the policy. Its phase goes from `Asleep` to `Waking`, and it
//! requests a write of the scale, guarded by the version of the last reply that showed zero.
//! The reply to the write moves the phase to `Starting`, and the lease is renewed while the pod
//! starts. `zpa-endpoints` sees a ready address. The daemon passes the address to the engine, and
//! the fact that there is one to the policy, which opens the gate. The held connections are
//! dialled in the order in which they came.
//!
//! **A connection while awake.** The gate is open: the connection is accepted and dialled
//! in the same turn of the loop. While the lease is valid, no API call is on its path. If a
//! backend refuses or does not answer, the next address is dialled, which is safe because no
//! byte of the client has been delivered. Once a backend has accepted, the relay runs until
//! both halves have ended.
//!
//! **Falling asleep.** The last close starts the idle time. When the idle TTL is over, the
//! policy requests a fresh read of the scale target, then writes a *final renewal* guarded by
//! the version just read, then writes zero guarded by the version that the renewal has
//! returned. The final renewal states that this proxy has no connections, and fails if another
//! proxy has renewed. The gate is shut from the moment at which the policy requests the write
//! of zero: a connection that comes then is held, and wakes the app again if zero was written.
//!
//! **The end.** After SIGTERM the proxy is unready at once and goes on accepting for the drain
//! delay. Then it stops accepting, and the connections that are open may finish until the
//! drain timeout, when those that are left are reset ([`daemon::proxy`]).
//!
//! # Decisions
//!
//! - *The policy decides every read and write of the scale target* ([`cluster::Request`]); the
//!   API threads execute it and report its [`cluster::Outcome`]. What may be written after a
//!   lost reply is the hardest question here, and `policy::failures` alone answers it.
//! - *A proxy that cannot read or write leases, or could not wake the app, never scales it
//!   to zero.* Whatever is refused, crashes or is lost, an app that is awake stays awake.
//! - *The watches are kept open*, also while the app is asleep: an idle watch costs a request
//!   every few minutes, and a wake finds its connection to the API server open. What a watch
//!   shows may be late. So the app is scaled to zero only under a version that a reply to a
//!   read or a renewal has just shown.
//! - *A connection is bound to a pod by the first byte that is delivered to it.* Before, the
//!   connection may be dialled elsewhere; afterwards it never is, so that nothing is sent
//!   twice.
//! - *A reset is passed on as a reset*, once the receiver has acknowledged all data that came
//!   before it, so that no client takes half an answer for a whole one.
//! - *An outage of the API server does not make a ready proxy unready*: all proxies would leave
//!   the Service at once, though they can serve an app that is awake. What makes one unready is
//!   a permission that stays refused and has no fallback, a Service or a port that never
//!   existed, or a thread that has just panicked ([`daemon::health`]).
//! - *Memory has a ceiling*: one scratch buffer, a bounded pool of blocks, and socket buffers
//!   that are kept within a share of the container's limit ([`engine`]).
//! - *Small messages are copied at once, bulk is spliced*: halves with bulk wait in a queue for
//!   a bounded pool of pipes, and each turn of the loop moves a bounded number of their bytes,
//!   fewer while there are small messages.

pub mod accept_probe;
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
pub mod problems;
pub mod refusal;
pub mod resolve;
pub mod rules;
pub mod schedule;
pub mod settings;
pub mod supervisor;
pub mod sys;
pub mod webhook_url;
pub mod workload;
