//! [`Answers`]: the answers at the admin port, and how many bytes they take in all.
//!
//! Whoever reaches the port can ask for the longest page over and over, and not read it. The
//! pages that grow with the number of apps are therefore written once for all who ask within
//! [`SHARED_FOR`], as long as one of them is still reading; and of each there are at most two,
//! the one that is handed out and the one before. Who has not read the latter when a third is
//! needed is cut off: it had that long, which is half of the time that a connection has.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::admin::{self, LongPage, Pages};
use crate::clock::Time;

/// How long the same answer is handed out.
const SHARED_FOR: Duration = Duration::from_millis(2500);

/// The answers that are being read: see the [module](self).
#[derive(Default)]
pub struct Answers {
    pages: BTreeMap<LongPage, Written>,
    withdrawn: Option<Arc<Vec<u8>>>,
}

/// What was written of one page. It is gone once everybody has read it.
#[derive(Default)]
struct Written {
    at: Time,
    latest: Weak<Vec<u8>>,
    before: Weak<Vec<u8>>,
}

impl Answers {
    /// The response to a connection that has sent `received` so far; `None` while that is not a
    /// complete request.
    pub fn answer(
        &mut self,
        received: &[u8],
        pages: &impl Pages,
        now: Time,
    ) -> Option<Arc<Vec<u8>>> {
        let Some(page) = admin::long_page(received, pages) else {
            return admin::answer(received, pages).map(Arc::new);
        };
        let written = self.pages.entry(page).or_default();
        let latest = written.latest.upgrade();
        if let Some(latest) = latest.filter(|_| now < written.at + SHARED_FOR) {
            return Some(latest);
        }
        self.withdrawn = written.before.upgrade();
        let answer = Arc::new(admin::answer(received, pages)?);
        *written = Written {
            at: now,
            before: std::mem::replace(&mut written.latest, Arc::downgrade(&answer)),
            latest: Arc::downgrade(&answer),
        };
        Some(answer)
    }

    /// The answer that nobody is to read further.
    pub fn take_withdrawn(&mut self) -> Option<Arc<Vec<u8>>> {
        self.withdrawn.take()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::admin::page::Page;

    /// Counts how often a long page is written.
    #[derive(Default)]
    struct Counted(Cell<usize>);

    impl Counted {
        fn write(&self) -> String {
            self.0.set(self.0.get() + 1);
            "x".repeat(1 << 20)
        }
    }

    impl Pages for Counted {
        fn unready(&self) -> Vec<String> {
            Vec::new()
        }

        fn metrics(&self) -> (String, &'static str) {
            (self.write(), "text/plain")
        }

        fn status(&self) -> String {
            self.write()
        }

        fn page(&self) -> Page {
            Page::default()
        }

        fn ping_path(&self) -> Option<&str> {
            None
        }

        fn metrics_path(&self) -> Option<&str> {
            None
        }
    }

    const METRICS: &[u8] = b"GET /metrics HTTP/1.1\r\n\r\n";
    const STATUS: &[u8] = b"GET /status HTTP/1.1\r\n\r\n";

    #[test]
    fn a_page_is_written_once_for_all_who_ask_while_one_of_them_reads() {
        let (mut answers, pages) = (Answers::default(), Counted::default());
        let start = Time::default();
        let all: Vec<_> = (0..64)
            .map(|_| answers.answer(METRICS, &pages, start).unwrap())
            .collect();
        assert!(all.iter().all(|it| Arc::ptr_eq(it, &all[0])));
        assert_eq!(pages.0.get(), 1);
        let other = answers.answer(STATUS, &pages, start).unwrap();
        assert!(!Arc::ptr_eq(&other, &all[0]), "another page");
        assert_eq!(pages.0.get(), 2);
        drop(all);
        answers.answer(METRICS, &pages, start);
        assert_eq!(pages.0.get(), 3, "once all have read it, it is news again");
    }

    #[test]
    fn of_a_page_that_nobody_reads_there_are_two_at_most() {
        let (mut answers, pages) = (Answers::default(), Counted::default());
        let mut now = Time::default();
        let mut held: Vec<Arc<Vec<u8>>> = Vec::new();
        for _ in 0..200 {
            let answer = answers.answer(METRICS, &pages, now).unwrap();
            if let Some(withdrawn) = answers.take_withdrawn() {
                held.retain(|it| !Arc::ptr_eq(it, &withdrawn));
            }
            held.push(answer);
            let mut different: Vec<_> = held.iter().map(Arc::as_ptr).collect();
            different.dedup();
            assert!(different.len() <= 2, "{}", different.len());
            now = now + Duration::from_millis(100);
        }
        assert_eq!(pages.0.get(), 8, "in 20 seconds");
    }
}
