//! [`Outbox`]: the events that are to be posted, in the order in which they are due.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::clock::Time;

/// The most events that wait for a receiver. Of more, its oldest are dropped.
pub(super) const MAX_WAITING_PER_RECEIVER: usize = 32;

/// The most events that wait for all. Of more, the oldest of the receiver that has the most are
/// dropped.
pub(super) const MAX_WAITING: usize = 1024;

/// The events that wait, each with its receiver. One at a time is in delivery.
///
/// A receiver gets its events in order: the next of them waits until the one before was
/// delivered or given up. Those of other receivers wait for one attempt at most. A receiver that
/// does not take events is tried once a minute, with one attempt for each.
#[derive(Debug)]
pub(super) struct Outbox<T> {
    waiting: VecDeque<Item<T>>,
    /// The pauses after failures. An event that fails once more is given up.
    pauses: &'static [Duration],
    /// The pause between attempts at a receiver that has not taken an event after all its
    /// attempts, until it takes one.
    rest: Duration,
    /// When receivers that take no events are tried next.
    resting: BTreeMap<u64, Time>,
}

/// An event in delivery.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Item<T> {
    receiver: u64,
    /// The event.
    pub(super) content: T,
    failures: usize,
    due: Time,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<T> {
    /// Deliver this event, and then call [`Outbox::retry`] if that has failed.
    Deliver(Item<T>),
    /// Nothing until then.
    WaitUntil(Time),
    /// Nothing.
    Nothing,
}

impl<T> Outbox<T> {
    /// No event waits. `pauses` are those after failures of an event, and `rest` is the one after
    /// it was given up.
    pub(super) fn new(pauses: &'static [Duration], rest: Duration) -> Outbox<T> {
        Outbox {
            waiting: VecDeque::new(),
            pauses,
            rest,
            resting: BTreeMap::new(),
        }
    }

    /// Adds an event. Returns the one that is dropped for it, if so many wait.
    pub(super) fn push(&mut self, receiver: u64, content: T, now: Time) -> Option<T> {
        let loses = if self.count(receiver) >= MAX_WAITING_PER_RECEIVER {
            Some(receiver)
        } else if self.waiting.len() >= MAX_WAITING {
            let receivers = self.waiting.iter().map(|item| item.receiver);
            receivers.max_by_key(|&receiver| self.count(receiver))
        } else {
            None
        };
        let oldest = loses.and_then(|loser| {
            let mut waiting = self.waiting.iter();
            waiting.position(|item| item.receiver == loser)
        });
        let dropped = oldest.and_then(|at| self.waiting.remove(at));
        self.waiting.push_back(Item {
            receiver,
            content,
            failures: 0,
            due: now,
        });
        dropped.map(|item| item.content)
    }

    fn count(&self, receiver: u64) -> usize {
        let waiting = self.waiting.iter();
        waiting.filter(|item| item.receiver == receiver).count()
    }

    /// Takes the event that is to be delivered now.
    pub(super) fn next(&mut self, now: Time) -> Next<T> {
        let first = (0..self.waiting.len()).filter(|&at| self.is_first_of_its_receiver(at));
        let Some(at) = first.min_by_key(|&at| self.due(at)) else {
            return Next::Nothing;
        };
        let due = self.due(at);
        if due > now {
            return Next::WaitUntil(due);
        }
        match self.waiting.remove(at) {
            Some(item) => Next::Deliver(item),
            None => Next::Nothing,
        }
    }

    /// When that event is delivered, if it is the first of its receiver.
    fn due(&self, at: usize) -> Time {
        let item = &self.waiting[at];
        let rests_until = self.resting.get(&item.receiver).copied();
        rests_until.map_or(item.due, |until| until.max(item.due))
    }

    fn is_first_of_its_receiver(&self, at: usize) -> bool {
        let receiver = self.waiting[at].receiver;
        let mut before = self.waiting.iter().take(at);
        before.all(|item| item.receiver != receiver)
    }

    /// An event was delivered.
    pub(super) fn delivered(&mut self, item: &Item<T>) {
        self.resting.remove(&item.receiver);
    }

    /// The delivery of an event has failed: it is delivered again after a pause, at least of
    /// `least`, which the receiver may have asked for. Returns the event if it is given up.
    pub(super) fn retry(&mut self, mut item: Item<T>, least: Duration, now: Time) -> Option<T> {
        let rests = self.resting.contains_key(&item.receiver);
        let Some(pause) = self.pauses.get(item.failures).filter(|_| !rests) else {
            self.resting
                .insert(item.receiver, now + self.rest.max(least));
            return Some(item.content);
        };
        if self.count(item.receiver) >= MAX_WAITING_PER_RECEIVER {
            return Some(item.content);
        }
        item.failures += 1;
        item.due = now + least.max(*pause);
        // It is older than all of its receiver.
        self.waiting.push_front(item);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const PAUSES: &[Duration] = &[Duration::from_secs(1), Duration::from_secs(10)];

    fn at(seconds: u64) -> Time {
        Time::new(Duration::from_secs(seconds))
    }

    fn deliver(outbox: &mut Outbox<u64>, now: Time) -> Item<u64> {
        match outbox.next(now) {
            Next::Deliver(item) => item,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_receiver_gets_its_events_in_order_and_one_that_fails_delays_no_other() {
        let mut outbox = Outbox::new(PAUSES, MINUTE);
        for (receiver, content) in [(1, 10), (1, 11), (2, 20)] {
            assert_eq!(outbox.push(receiver, content, at(0)), None);
        }
        let first = deliver(&mut outbox, at(0));
        assert_eq!(first.content, 10);
        assert_eq!(outbox.retry(first, Duration::ZERO, at(0)), None);
        assert_eq!(deliver(&mut outbox, at(0)).content, 20);
        assert_eq!(outbox.next(at(0)), Next::WaitUntil(at(1)));
        assert_eq!(deliver(&mut outbox, at(1)).content, 10);
        assert_eq!(deliver(&mut outbox, at(1)).content, 11);
        assert_eq!(outbox.next(at(1)), Next::Nothing);
    }

    #[test]
    fn an_event_is_given_up_after_the_last_pause_and_a_receiver_may_ask_for_longer_ones() {
        let mut outbox = Outbox::new(PAUSES, MINUTE);
        outbox.push(1, 10, at(0));
        let asked = Duration::from_secs(5);
        for (second, due) in [(0, 5), (5, 15)] {
            let item = deliver(&mut outbox, at(second));
            assert_eq!(outbox.retry(item, asked, at(second)), None);
            assert_eq!(outbox.next(at(second)), Next::WaitUntil(at(due)));
        }
        let item = deliver(&mut outbox, at(15));
        assert_eq!(outbox.retry(item, asked, at(15)), Some(10));
        assert_eq!(outbox.next(at(15)), Next::Nothing);
    }

    #[test]
    fn a_receiver_that_takes_no_events_is_tried_once_a_minute_until_it_takes_one() {
        let mut outbox = Outbox::new(PAUSES, MINUTE);
        for content in 0..4 {
            outbox.push(1, content, at(0));
        }
        let fail = |outbox: &mut Outbox<u64>, second| {
            let item = deliver(outbox, at(second));
            outbox.retry(item, Duration::ZERO, at(second))
        };
        assert_eq!(fail(&mut outbox, 0), None);
        assert_eq!(fail(&mut outbox, 1), None);
        assert_eq!(fail(&mut outbox, 11), Some(0), "after the last pause");
        assert_eq!(outbox.next(at(11)), Next::WaitUntil(at(71)));
        assert_eq!(fail(&mut outbox, 71), Some(1), "one attempt is enough");
        outbox.push(2, 20, at(71));
        assert_eq!(
            deliver(&mut outbox, at(71)).content,
            20,
            "another one does not notice"
        );
        let item = deliver(&mut outbox, at(131));
        outbox.delivered(&item);
        assert_eq!(deliver(&mut outbox, at(131)).content, 3, "at once");
    }

    #[test]
    fn of_too_many_the_oldest_of_the_receiver_that_has_too_many_are_dropped() {
        let mut outbox = Outbox::new(PAUSES, MINUTE);
        let most = MAX_WAITING_PER_RECEIVER as u64;
        outbox.push(2, 1000, at(0));
        for content in 0..most {
            assert_eq!(outbox.push(1, content, at(0)), None);
        }
        assert_eq!(outbox.push(1, most, at(0)), Some(0));
        let other = deliver(&mut outbox, at(0));
        assert_eq!(other.content, 1000);
        assert_eq!(
            outbox.retry(other, Duration::ZERO, at(0)),
            None,
            "it has its retries"
        );
        let item = deliver(&mut outbox, at(0));
        assert_eq!(item.content, 1);
        outbox.push(1, most + 1, at(0));
        let dropped = outbox.retry(item, Duration::ZERO, at(0));
        assert_eq!(dropped, Some(1), "no place is left for its oldest");
    }

    #[test]
    fn of_too_many_receivers_the_one_that_has_the_most_loses() {
        let mut outbox = Outbox::new(PAUSES, MINUTE);
        for content in 0..5 {
            outbox.push(7, content, at(0));
        }
        let others = (MAX_WAITING - 5) as u64;
        for receiver in 0..others {
            assert_eq!(outbox.push(100 + receiver, receiver, at(0)), None);
        }
        assert_eq!(outbox.push(9, 1, at(0)), Some(0));
    }

    proptest! {
        /// Whatever fails, each event is delivered, given up or dropped, once, and those of a
        /// receiver are delivered in order.
        #[test]
        fn no_event_is_lost_or_repeated(
            events in prop::collection::vec((0u64..3, any::<bool>()), 1..40),
            fails in prop::collection::vec(any::<bool>(), 200),
        ) {
            let mut outbox = Outbox::new(PAUSES, MINUTE);
            let (mut now, mut ended, mut fails) = (at(0), Vec::new(), fails.into_iter());
            for (content, (receiver, _)) in events.iter().enumerate() {
                outbox.push(*receiver, content, now);
            }
            loop {
                match outbox.next(now) {
                    Next::Nothing => break,
                    Next::WaitUntil(until) => {
                        prop_assert!(until > now);
                        now = until;
                    }
                    Next::Deliver(item) if fails.next().unwrap_or_default() => {
                        ended.extend(outbox.retry(item, Duration::ZERO, now));
                    }
                    Next::Deliver(item) => {
                        outbox.delivered(&item);
                        ended.push(item.content);
                    }
                }
            }
            for of in 0..3 {
                let mine = |content: &usize| events[*content].0 == of;
                let order: Vec<usize> = ended.iter().copied().filter(mine).collect();
                prop_assert!(order.is_sorted(), "{order:?}");
            }
            ended.sort_unstable();
            prop_assert_eq!(ended, (0..events.len()).collect::<Vec<_>>());
        }
    }
}
