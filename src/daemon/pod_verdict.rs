//! [`PodVerdict`]: what the reads of the pods come to during a wake, and whether waiting is in vain.
//!
//! The status of a container alternates between an attempt and the pause after it, so that no read
//! is taken alone: a problem that lasts does so until its pod is gone, or has run for two reads.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::clock::Time;
use crate::cluster::{Persistence, PodProblem};

/// After this long a pull that goes on failing counts as one that waiting does not solve. A
/// registry that refuses for a moment has recovered by then.
const REPEATS_FOR: Duration = Duration::from_secs(30);

/// The number of restarts during the wake from which on a crash loop counts as such: the pauses of
/// the kubelet between them are 10, 20 and 40 s.
const RESTARTS: u64 = 3;

/// The number of reads in a row without a problem after which none is left.
const QUIET_READS: u32 = 2;

/// What is known of the pods.
#[derive(Clone, Debug, Default)]
pub struct PodVerdict {
    problem: Option<PodProblem>,
    first: Option<Sighting>,
    lasting: Option<&'static str>,
    quiet_reads: u32,
    logged: BTreeSet<&'static str>,
}

/// The first sighting of a pod with a problem.
#[derive(Clone, Debug)]
struct Sighting {
    uid: String,
    at: Time,
    restarts: u64,
}

impl PodVerdict {
    /// What is wrong with the pods, as read last.
    pub fn problem(&self) -> Option<&PodProblem> {
        self.problem.as_ref()
    }

    /// The reason that waiting does not solve, if there is one.
    pub fn lasting(&self) -> Option<&'static str> {
        self.lasting
    }

    /// Applies a read. Returns the problem if its reason is new in this wake.
    pub fn update(&mut self, problem: Option<PodProblem>, now: Time) -> Option<&PodProblem> {
        match &problem {
            Some(problem) if problem.reason != "Unhealthy" => {
                self.quiet_reads = 0;
                self.judge(problem, now);
            }
            // It runs, whether its probe fails or not.
            _ => {
                self.quiet_reads += 1;
                if self.quiet_reads >= QUIET_READS {
                    (self.lasting, self.first) = (None, None);
                }
            }
        }
        self.problem = problem;
        let problem = self.problem.as_ref()?;
        self.logged.insert(problem.reason).then_some(problem)
    }

    fn judge(&mut self, problem: &PodProblem, now: Time) {
        let restarts = match problem.persistence {
            Persistence::Restarts(count) => count,
            _ => 0,
        };
        if self.first.as_ref().is_none_or(|it| it.uid != problem.uid) {
            self.lasting = None;
            self.first = Some(Sighting {
                uid: problem.uid.clone(),
                at: now,
                restarts,
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

    /// The lasting reasons after each of the reads, which are five seconds apart.
    fn lasting(reads: &[Option<PodProblem>]) -> Vec<bool> {
        let mut verdict = PodVerdict::default();
        let mut now = Time::from_millis(1_000_000);
        let judged = reads.iter().map(|read| {
            verdict.update(read.clone(), now);
            now = now + Duration::from_secs(5);
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
        assert_eq!(
            lasting(&[bad("a"), probe.clone(), probe]),
            [true, true, false]
        );
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
            let read = problem(reason, "a", Persistence::Passes);
            logged += usize::from(verdict.update(Some(read), now).is_some());
        }
        assert_eq!(logged, 2);
    }
}
