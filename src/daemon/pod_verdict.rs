//! [`PodVerdict`]: what the reads of the pods come to during a wake, and whether waiting is in
//! vain.
//!
//! That waiting is in vain counts for a moment only ([`VALID_FOR`]), and no longer once something
//! about the app has changed: it may have been mended. The next who comes waits until the pods are
//! read again. So nobody is let go for a reason that has been gone for longer, and nothing is read
//! while nobody comes.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::clock::Time;
use crate::cluster::{Persistence, PodProblem, PodsRead};

/// How long a read counts that shows that waiting is in vain.
const VALID_FOR: Duration = Duration::from_secs(5);

/// After this long a pull that goes on failing counts as one that waiting does not solve. A
/// registry that refuses for a moment has recovered by then.
const REPEATS_FOR: Duration = Duration::from_secs(30);

/// The number of restarts during the wake from which on a crash loop counts as such: the pauses of
/// the kubelet between them are 10, 20 and 40 s.
const RESTARTS: u64 = 3;

/// How long a container that has crashed again and again must have run until it counts as mended.
/// Less than the validity, so that the second read finds it so.
const RUNS_FOR: Duration = Duration::from_secs(4);

/// What is known of the pods.
#[derive(Clone, Debug, Default)]
pub struct PodVerdict {
    problem: Option<PodProblem>,
    first: Option<Sighting>,
    lasting: Option<&'static str>,
    /// Until when what lasts counts without another read.
    valid_until: Option<Time>,
    /// Since when another read is needed.
    outdated_since: Option<Time>,
    /// Whether that is so because something has changed.
    has_change: bool,
    /// Since when the reads show no problem.
    quiet_since: Option<Time>,
    logged: BTreeSet<&'static str>,
}

/// The first sighting of a pod with a problem.
#[derive(Clone, Debug)]
struct Sighting {
    uid: String,
    at: Time,
    restarts: u64,
    /// Whether its container was seen in the pause after a crash: between the pauses it runs. Other
    /// reasons are shown until the container has started.
    is_crash_loop: bool,
}

impl PodVerdict {
    /// What is wrong with the pods, as read last.
    pub fn problem(&self) -> Option<&PodProblem> {
        self.problem.as_ref()
    }

    /// The reason that waiting does not solve, if there is one, be it valid or not.
    pub fn lasting(&self) -> Option<&'static str> {
        self.lasting
    }

    /// The same while it is valid.
    pub fn in_force(&self) -> Option<&'static str> {
        self.lasting.filter(|_| self.valid_until.is_some())
    }

    /// When it is valid no longer, though nothing happens.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.valid_until.filter(|_| self.lasting.is_some())
    }

    /// Handles the passing of time.
    pub fn handle_timeout(&mut self, now: Time) {
        if let Some(until) = self.valid_until.filter(|&until| until <= now) {
            self.valid_until = None;
            self.outdated_since = Some(until);
        }
    }

    /// Records that the app has changed, so that what lasts may be mended.
    pub fn outdate(&mut self, now: Time) {
        self.valid_until = None;
        self.outdated_since = Some(now);
        self.has_change = true;
    }

    /// Since when what lasts is valid no longer, and whether it is for a change of the app; `None`
    /// if it is valid, or nothing lasts.
    pub fn outdated(&self) -> Option<(Time, bool)> {
        self.lasting?;
        Some((self.outdated_since?, self.has_change))
    }

    /// Applies a read, for which was asked at `asked`. Returns the problem if its reason is new in
    /// this wake.
    pub fn update(&mut self, read: PodsRead, asked: Time, now: Time) -> Option<&PodProblem> {
        let is_gone = |it: &Sighting| !read.uids.contains(&it.uid);
        if self.first.as_ref().is_some_and(is_gone) {
            (self.lasting, self.first) = (None, None);
        }
        match &read.problem {
            Some(problem) if problem.reason != "Unhealthy" => {
                self.quiet_since = None;
                self.judge(problem, now);
            }
            // It runs, whether its probe fails or not.
            _ => self.note_quiet(now),
        }
        // What was read may be older than a change that came after the request.
        if self.outdated_since.is_none_or(|since| since <= asked) {
            (self.outdated_since, self.has_change) = (None, false);
            self.valid_until = self.lasting.map(|_| now + VALID_FOR);
        }
        self.problem = read.problem;
        let problem = self.problem.as_ref()?;
        self.logged.insert(problem.reason).then_some(problem)
    }

    fn note_quiet(&mut self, now: Time) {
        let since = *self.quiet_since.get_or_insert(now);
        if self.first.as_ref().is_none_or(|it| !it.is_crash_loop) {
            (self.lasting, self.first) = (None, None);
        } else if now.since(since) >= RUNS_FOR {
            // Its restarts go on counting from the first sighting, should it crash again.
            self.lasting = None;
        }
    }

    fn judge(&mut self, problem: &PodProblem, now: Time) {
        let (restarts, is_crash_loop) = match problem.persistence {
            Persistence::Restarts(count) => (count, true),
            _ => (0, false),
        };
        let is_same = |it: &Sighting| {
            // A container that crashes has been started: what was in its way before is over.
            it.uid == problem.uid && (it.is_crash_loop || !is_crash_loop)
        };
        if !self.first.as_ref().is_some_and(is_same) {
            self.lasting = None;
            self.first = Some(Sighting {
                uid: problem.uid.clone(),
                at: now,
                restarts,
                is_crash_loop,
            });
        }
        let Some(first) = &self.first else {
            return;
        };
        let lasts = match problem.persistence {
            Persistence::Passes => false,
            Persistence::Repeats => now.since(first.at) >= REPEATS_FOR,
            Persistence::Restarts(count) => count.saturating_sub(first.restarts) >= RESTARTS,
            Persistence::Lasts => true,
        };
        if problem.others_start {
            self.lasting = None;
        } else if lasts {
            self.lasting = Some(problem.reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(reason: &'static str, uid: &str, persistence: Persistence) -> PodProblem {
        PodProblem {
            reason,
            text: reason.to_owned(),
            uid: uid.to_owned(),
            persistence,
            others_start: false,
        }
    }

    /// A read of two pods, of which one may have a problem.
    fn read(problem: Option<PodProblem>) -> PodsRead {
        let uids = ["a", "b"].map(str::to_owned).into();
        PodsRead { problem, uids }
    }

    fn at(seconds: u64) -> Time {
        Time::new(Duration::from_secs(1000 + seconds))
    }

    /// Whether a reason lasts after each of the reads, which are five seconds apart.
    fn lasting(reads: &[Option<PodProblem>]) -> Vec<bool> {
        let mut verdict = PodVerdict::default();
        let judged = reads.iter().zip(0..).map(|(problem, index)| {
            let now = at(5 * index);
            verdict.update(read(problem.clone()), now, now);
            verdict.lasting().is_some()
        });
        judged.collect()
    }

    #[test]
    fn a_pull_that_fails_once_may_pass_and_one_that_goes_on_failing_lasts_through_the_attempts() {
        let pull = || Some(problem("ImagePullBackOff", "a", Persistence::Repeats));
        let attempt = || Some(problem("ErrImagePull", "a", Persistence::Passes));
        let mut reads = vec![attempt(), pull(), pull(), attempt(), pull(), pull(), pull()];
        reads.extend([attempt(), pull()]);
        let expected = [false, false, false, false, false, false, true, true, true];
        assert_eq!(lasting(&reads), expected);
    }

    #[test]
    fn restarts_count_from_the_first_sighting_on() {
        let crash = |count| {
            Some(problem(
                "CrashLoopBackOff",
                "a",
                Persistence::Restarts(count),
            ))
        };
        let reads = [
            crash(7),
            crash(8),
            None,
            crash(9),
            crash(10),
            None,
            crash(10),
            None,
            None,
        ];
        let expected = [false, false, false, false, true, true, true, true, false];
        assert_eq!(
            lasting(&reads),
            expected,
            "weeks of restarts before are none"
        );
    }

    #[test]
    fn what_lasts_ends_with_its_pod_or_when_another_may_start() {
        let bad = |uid| Some(problem("InvalidImageName", uid, Persistence::Lasts));
        let other = Some(problem("ErrImagePull", "b", Persistence::Passes));
        assert_eq!(lasting(&[bad("a"), other]), [true, false]);
        let beside = bad("a").map(|it| PodProblem {
            others_start: true,
            ..it
        });
        assert_eq!(lasting(&[bad("a"), beside]), [true, false]);
        let probe = Some(problem("Unhealthy", "a", Persistence::Passes));
        assert_eq!(lasting(&[bad("a"), probe]), [true, false]);
        let crash = |count| {
            let persistence = Persistence::Restarts(count);
            Some(problem("CrashLoopBackOff", "a", persistence))
        };
        assert_eq!(
            lasting(&[bad("a"), crash(0), crash(3)]),
            [true, false, true],
            "it has been started"
        );
        let mut verdict = PodVerdict::default();
        verdict.update(read(crash(0)), at(0), at(0));
        verdict.update(read(crash(3)), at(1), at(1));
        assert!(verdict.lasting().is_some());
        verdict.update(PodsRead::default(), at(2), at(2));
        assert_eq!(verdict.lasting(), None, "its pod is gone");
    }

    #[test]
    fn what_lasts_counts_for_a_moment_and_until_something_has_changed() {
        let bad = || read(Some(problem("InvalidImageName", "a", Persistence::Lasts)));
        let mut verdict = PodVerdict::default();
        verdict.outdate(at(0));
        assert_eq!(verdict.outdated(), None, "nothing lasts");
        verdict.update(bad(), at(1), at(2));
        assert!(verdict.in_force().is_some());
        assert_eq!(verdict.poll_timeout(), Some(at(7)));
        verdict.handle_timeout(at(7));
        assert_eq!((verdict.in_force(), verdict.poll_timeout()), (None, None));
        assert_eq!(verdict.outdated(), Some((at(7), false)));
        assert!(verdict.lasting().is_some(), "as far as is known");
        verdict.update(bad(), at(9), at(9));
        verdict.outdate(at(10));
        assert_eq!(verdict.outdated(), Some((at(10), true)));
        verdict.update(bad(), at(9), at(11));
        assert_eq!(verdict.in_force(), None, "it was read before the change");
        verdict.update(bad(), at(11), at(11));
        assert!(verdict.in_force().is_some());
        assert_eq!(verdict.outdated(), None);
    }

    #[test]
    fn each_reason_is_logged_once_in_a_wake() {
        let mut verdict = PodVerdict::default();
        let now = Time::from_millis(0);
        let mut logged = 0;
        for reason in [
            "ErrImagePull",
            "ImagePullBackOff",
            "ErrImagePull",
            "ImagePullBackOff",
        ] {
            let read = read(Some(problem(reason, "a", Persistence::Passes)));
            logged += usize::from(verdict.update(read, now, now).is_some());
        }
        assert_eq!(logged, 2);
    }
}
