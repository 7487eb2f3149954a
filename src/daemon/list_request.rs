//! [`ListRequest`]: repeats the request for a list of the endpoints until the list has come.
//!
//! All apps of a namespace share the throttle of those requests, so that one may do nothing
//! because another app's came just before it.

use std::time::Duration;

use crate::clock::Time;

/// The first pause between two requests; it doubles. Each request ends a list in progress, which
/// takes some seconds where there are tens of thousands of endpoints.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// The longest of these pauses.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// A list that is wanted.
#[derive(Clone, Copy, Debug, Default)]
pub struct ListRequest {
    /// When it is requested again, and the pause before that; `None` while none is wanted.
    next: Option<(Time, Duration)>,
}

impl ListRequest {
    /// Records that it was requested for the first time.
    pub fn begin(&mut self, now: Time) {
        self.next = Some((now + FIRST_PAUSE, FIRST_PAUSE));
    }

    /// Whether to request it again now. `is_wanted`: whether it has not come yet.
    pub fn update(&mut self, is_wanted: bool, now: Time) -> bool {
        self.next = self.next.filter(|_| is_wanted);
        let Some((due, pause)) = self.next.filter(|(due, _)| *due <= now) else {
            return false;
        };
        let pause = (pause * 2).min(MAX_PAUSE);
        self.next = Some((due.max(now) + pause, pause));
        true
    }

    /// When [`ListRequest::update`] returns true without an event.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.next.map(|(due, _)| due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_requested_again_with_growing_pauses_until_it_has_come() {
        let mut request = ListRequest::default();
        let at = |second| Time::new(Duration::from_secs(second));
        assert!(!request.update(true, at(0)), "none was requested");
        request.begin(at(10));
        let again: Vec<u64> = (10..240)
            .filter(|&it| request.update(true, at(it)))
            .collect();
        assert_eq!(again, [15, 25, 45, 85, 145, 205]);
        assert!(!request.update(false, at(300)));
        assert_eq!(request.poll_timeout(), None);
        assert!(!request.update(true, at(400)));
    }
}
