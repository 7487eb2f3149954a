//! [`CachedPlugin`]: an exec plugin and its latest credential.
//!
//! The thread that needs a credential and finds none runs the plugin, while the
//! other threads wait for it. Before a credential runs out it is renewed on a thread
//! of its own, so that no request waits for a plugin that works.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::super::exec::{Credential, Plugin};
use super::super::token::Token;
use super::tls::Identity;
use crate::clock::{Clock, Time, WallClock};

/// The time before its expiry at which a credential is renewed, or a tenth of its lifetime
/// if that is shorter.
const AHEAD: Duration = Duration::from_secs(60);
/// The least time between two runs of the plugin, however often it fails or its credential
/// is refused.
const PAUSE: Duration = Duration::from_secs(1);

/// A plugin and its latest credential.
pub(super) struct CachedPlugin {
    plugin: Plugin,
    clock: Clock,
    wall_clock: WallClock,
    state: Mutex<Cache>,
    /// Held while the plugin runs.
    running: Mutex<()>,
}

/// The latest credential and the result of the latest run.
#[derive(Default)]
struct Cache {
    credential: Option<Arc<Cached>>,
    /// The end of the last run, and why it failed if it did.
    last: Option<(Time, Result<(), String>)>,
    renewing: bool,
}

/// A credential in use.
pub(super) struct Cached {
    pub(super) token: Option<Token>,
    pub(super) identity: Option<Identity>,
    /// When to renew it, and when it expires; `None` if it does not state an expiry.
    life: Option<(Time, Time)>,
}

/// The next step of a thread that needs a credential.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Use the credential: it is valid, or the plugin was just run.
    Use,
    /// Use the credential, which expires soon, and renew it on another thread.
    UseAndRenew,
    /// Run the plugin first: there is no credential, or it has expired.
    Run,
}

impl Cache {
    fn step(&self, now: Time) -> Step {
        if self.is_resting(now) {
            return Step::Use;
        }
        match self.credential.as_ref().map(|it| it.life) {
            Some(None) => Step::Use,
            Some(Some((renew, _))) if now < renew => Step::Use,
            Some(Some((_, end))) if now < end => {
                if self.renewing {
                    Step::Use
                } else {
                    Step::UseAndRenew
                }
            }
            _ => Step::Run,
        }
    }

    /// Whether the plugin was run within [`PAUSE`].
    fn is_resting(&self, now: Time) -> bool {
        let last = self.last.as_ref();
        last.is_some_and(|(at, _)| now.since(*at) < PAUSE)
    }

    fn usable(&self, now: Time) -> Result<Arc<Cached>, String> {
        match (&self.credential, &self.last) {
            (Some(credential), _) if !credential.is_expired(now) => Ok(credential.clone()),
            (_, Some((_, Err(why)))) => Err(why.clone()),
            _ => Err("the credentials that the exec plugin prints have expired".to_owned()),
        }
    }

    fn record(&mut self, ran: Result<Credential, String>, now: Time) {
        self.renewing = false;
        self.last = Some((now, ran.as_ref().map(|_| ()).map_err(Clone::clone)));
        if let Ok(credential) = ran {
            self.credential = Some(Arc::new(Cached::new(credential, now)));
        }
    }
}

impl Cached {
    fn new(credential: Credential, now: Time) -> Self {
        let life = credential.lifetime.map(|lifetime| {
            let end = now + lifetime;
            (end - AHEAD.min(lifetime / 10), end)
        });
        Cached {
            token: credential.token,
            identity: credential.identity,
            life,
        }
    }

    fn is_expired(&self, now: Time) -> bool {
        self.life.is_some_and(|(_, end)| now >= end)
    }
}

impl CachedPlugin {
    pub(super) fn new(plugin: Plugin, clock: Clock, wall_clock: WallClock) -> Arc<Self> {
        Arc::new(CachedPlugin {
            plugin,
            clock,
            wall_clock,
            state: Mutex::default(),
            running: Mutex::default(),
        })
    }

    /// The credential to use. Runs the plugin if there is none; see [`Plugin::run`] for how
    /// long that may take.
    ///
    /// # Errors
    /// Why there is no credential.
    pub(super) fn credential(self: &Arc<Self>) -> Result<Arc<Cached>, String> {
        let step = self.state().step((self.clock)());
        match step {
            Step::Use => {}
            Step::UseAndRenew => self.renew_meanwhile(),
            Step::Run => self.run_unless(|cache, now| cache.step(now) != Step::Run),
        }
        self.state().usable((self.clock)())
    }

    /// The server has refused the credential: runs the plugin, unless it was run within
    /// [`PAUSE`]. Returns whether there is a new credential.
    pub(super) fn renew(&self) -> bool {
        self.run_unless(Cache::is_resting);
        matches!(self.state().last, Some((_, Ok(()))))
    }

    /// The latest credential, expired or not.
    pub(super) fn current(&self) -> Option<Arc<Cached>> {
        self.state().credential.clone()
    }

    fn renew_meanwhile(self: &Arc<Self>) {
        self.state().renewing = true;
        let plugin = self.clone();
        let started = thread::Builder::new()
            .name("zpa-exec".to_owned())
            .spawn(move || plugin.run_unless(|_, _| false));
        if let Err(cause) = started {
            log::debug!("no thread to run the exec plugin on: {cause}");
            self.state().renewing = false;
        }
    }

    /// Runs the plugin, unless that is `needless` after the lock was taken.
    fn run_unless(&self, needless: impl Fn(&Cache, Time) -> bool) {
        let _running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if needless(&self.state(), (self.clock)()) {
            return;
        }
        let ran = self.plugin.run(self.clock, (self.wall_clock)());
        if let Err(why) = &ran {
            log::debug!("{why}");
        }
        self.state().record(ran, (self.clock)());
    }

    fn state(&self) -> MutexGuard<'_, Cache> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::super::super::kubeconfig::ExecConfig;
    use super::super::super::testing::{DEADLINE, Directory};
    use super::*;

    fn printed(lifetime: Option<u64>) -> Result<Credential, String> {
        Ok(Credential {
            token: Token::new("t"),
            identity: None,
            lifetime: lifetime.map(Duration::from_secs),
        })
    }

    /// A cache after these runs, each at its second.
    fn after(runs: Vec<(u64, Result<Credential, String>)>) -> Cache {
        let mut cache = Cache::default();
        for (second, ran) in runs {
            cache.record(ran, Time::from_millis(second * 1000));
        }
        cache
    }

    #[test]
    fn a_credential_is_used_renewed_ahead_and_asked_for_when_it_is_expired() {
        let failed = || Err("no".to_owned());
        let hour = || vec![(0, printed(Some(3600)))];
        let failed_later = || vec![(0, printed(Some(3600))), (3590, failed())];
        for (label, runs, millis, step, usable) in [
            ("before any run", vec![], 0, Step::Run, false),
            (
                "without an end",
                vec![(0, printed(None))],
                1 << 40,
                Step::Use,
                true,
            ),
            (
                "a minute before its end, and some",
                hour(),
                3_539_999,
                Step::Use,
                true,
            ),
            (
                "a minute before its end",
                hour(),
                3_540_000,
                Step::UseAndRenew,
                true,
            ),
            (
                "just before its end",
                hour(),
                3_599_999,
                Step::UseAndRenew,
                true,
            ),
            ("at its end", hour(), 3_600_000, Step::Run, false),
            (
                "just before the last tenth of a short life",
                vec![(0, printed(Some(100)))],
                89_999,
                Step::Use,
                true,
            ),
            (
                "a tenth of a short life before its end",
                vec![(0, printed(Some(100)))],
                90_000,
                Step::UseAndRenew,
                true,
            ),
            (
                "just after a failed renewal",
                failed_later(),
                3_590_999,
                Step::Use,
                true,
            ),
            (
                "a second after it",
                failed_later(),
                3_591_000,
                Step::UseAndRenew,
                true,
            ),
            (
                "after a failure",
                vec![(0, failed())],
                999,
                Step::Use,
                false,
            ),
            (
                "a second after it, without any",
                vec![(0, failed())],
                1000,
                Step::Run,
                false,
            ),
            (
                "over when it came",
                vec![(0, printed(Some(0)))],
                999,
                Step::Use,
                false,
            ),
            (
                "a second after that",
                vec![(0, printed(Some(0)))],
                1000,
                Step::Run,
                false,
            ),
        ] {
            let (cache, now) = (after(runs), Time::from_millis(millis));
            assert_eq!(cache.step(now), step, "{label}");
            assert_eq!(cache.usable(now).is_ok(), usable, "{label}");
        }
        let mut renewing = after(hour());
        renewing.renewing = true;
        let late = Time::from_millis(3_550_000);
        assert_eq!(renewing.step(late), Step::Use, "one renewal at a time");
    }

    #[test]
    fn many_who_need_a_credential_run_the_plugin_once_and_a_renewal_keeps_nobody_waiting() {
        static NOW: AtomicU64 = AtomicU64::new(0);
        let clock = || Time::from_millis(NOW.load(Ordering::Relaxed));
        let directory = Directory::new("plugin-cache");
        let runs = directory.0.join("runs");
        let script = format!(
            r#"echo run >>{0}; printf '{{"apiVersion":"client.authentication.k8s.io/v1","status":
            {{"token":"%s","expirationTimestamp":"1970-01-01T01:00:00Z"}}}}' $(wc -l <{0})"#,
            runs.display()
        );
        let config = ExecConfig {
            command: "sh".into(),
            args: Some(vec!["-c".into(), script]),
            api_version: "client.authentication.k8s.io/v1".into(),
            ..ExecConfig::default()
        };
        let plugin = Plugin::new(&config, Default::default).unwrap();
        let cached = CachedPlugin::new(plugin, clock, || 0);
        let token = |credential: Arc<Cached>| {
            let header = credential.token.as_ref().unwrap().header();
            header.to_str().unwrap().to_owned()
        };
        thread::scope(|scope| {
            let askers: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| cached.credential()))
                .collect();
            for asker in askers {
                let credential = asker.join().unwrap();
                assert_eq!(token(credential.ok().unwrap()), "Bearer 1");
            }
        });
        NOW.store(3_550_000, Ordering::Relaxed);
        let old = cached.credential().ok().unwrap();
        assert_eq!(token(old), "Bearer 1", "nobody waits for the renewal");
        let deadline = std::time::Instant::now() + DEADLINE;
        while token(cached.current().unwrap()) != "Bearer 2" {
            assert!(std::time::Instant::now() < deadline, "it is never renewed");
            thread::yield_now();
        }
    }
}
