//! A [`Schedule`] is a list of weekly windows of time, such as `09:00-18:00 Mon-Fri
//! Europe/Berlin`. It is pure: the time of day goes in, and whether a window is open comes out.
//!
//! Time zones are those of the IANA database that is compiled in (jiff): the image has no
//! files. A time that a zone skips when its clocks go forward is the same distance later, and
//! one that it has twice is the first of the two (RFC 5545, 3.3.5).

use std::fmt;
use std::str::FromStr;

use jiff::civil::{Date, Time as TimeOfDay};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

/// How many windows a schedule may have: the event loop looks at all of them when one opens or
/// closes.
const MAX_WINDOWS: usize = 64;

/// A list of windows; by default there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    windows: Vec<Window>,
}

/// A window that opens on some days of the week.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Window {
    opens: TimeOfDay,
    /// The end; `None`: the end of the day. Not later than the start: that of the next day.
    closes: Option<TimeOfDay>,
    /// Whether it opens on that day, from Monday on.
    days: [bool; 7],
    zone: TimeZone,
    /// The window as it was written.
    text: String,
}

/// The state of a schedule at a time. Times are in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// A window is open until then, or for longer.
    OpenUntil(u64),
    /// None is open; the next one opens then, if there is one.
    ClosedUntil(Option<u64>),
}

impl Opening {
    /// When it changes, if it does.
    pub fn changes_at(self) -> Option<u64> {
        match self {
            Opening::OpenUntil(end) => Some(end),
            Opening::ClosedUntil(next) => next,
        }
    }
}

impl Schedule {
    /// The state at `unix`, in seconds since 1970.
    pub fn at(&self, unix: u64) -> Opening {
        let now = timestamp(unix);
        let openings = self.windows.iter().flat_map(|window| window.around(now));
        let mut openings: Vec<_> = openings.collect();
        openings.sort_unstable();
        let open = openings
            .iter()
            .filter(|(opens, closes)| *opens <= now && now < *closes);
        let Some(end) = open.map(|(_, closes)| *closes).max() else {
            let next = openings.iter().find(|(opens, _)| *opens > now);
            return Opening::ClosedUntil(next.map(|(opens, _)| seconds(*opens)));
        };
        // Joined with those that follow at once.
        let end = openings.iter().fold(
            end,
            |end, &(opens, closes)| {
                if opens <= end { end.max(closes) } else { end }
            },
        );
        Opening::OpenUntil(seconds(end))
    }

    /// Adds the windows of another schedule.
    pub fn extend(&mut self, other: Schedule) {
        self.windows.extend(other.windows);
    }

    /// Whether it has no window.
    pub fn is_empty(&self) -> bool {
        self.windows.is_empty()
    }
}

impl Window {
    /// When it opens and closes, from the day before `now` to the same day of the next week.
    fn around(&self, now: Timestamp) -> impl Iterator<Item = (Timestamp, Timestamp)> {
        let today = now.to_zoned(self.zone.clone()).date();
        (-1..=7i64).filter_map(move |days| self.on(today.checked_add(days.days()).ok()?))
    }

    fn on(&self, date: Date) -> Option<(Timestamp, Timestamp)> {
        let day = date.weekday().to_monday_zero_offset();
        if !self.days[usize::try_from(day).ok()?] {
            return None;
        }
        let is_same_day = self.closes.is_some_and(|closes| closes > self.opens);
        let last = if is_same_day {
            date
        } else {
            date.tomorrow().ok()?
        };
        let closes = self.closes.unwrap_or(TimeOfDay::midnight());
        Some((self.instant(date, self.opens)?, self.instant(last, closes)?))
    }

    fn instant(&self, date: Date, time: TimeOfDay) -> Option<Timestamp> {
        let zoned = date.to_datetime(time).to_zoned(self.zone.clone()).ok()?;
        Some(zoned.timestamp())
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<_> = self.windows.iter().map(|it| it.text.as_str()).collect();
        f.write_str(&texts.join(","))
    }
}

impl FromStr for Schedule {
    type Err = String;

    /// Parses windows between commas: `HH:MM-HH:MM`, then days such as `Mon-Fri` or `Sat Sun`
    /// (without any: every day), then a time zone (without: UTC).
    ///
    /// # Errors
    /// What is wrong with which word.
    fn from_str(text: &str) -> Result<Self, String> {
        let count = text.split(',').count();
        if count > MAX_WINDOWS {
            return Err(format!("has {count} windows, and may have {MAX_WINDOWS}"));
        }
        let windows = text.split(',').map(parse_window);
        Ok(Schedule {
            windows: windows.collect::<Result<_, _>>()?,
        })
    }
}

fn parse_window(text: &str) -> Result<Window, String> {
    let mut words = text.split_whitespace();
    let Some(times) = words.next() else {
        return Err("a window is empty".to_owned());
    };
    let (opens, closes) = parse_times(times)?;
    let (mut days, mut zone) = ([false; 7], None);
    for word in words {
        match parse_days(word) {
            Some(range) if zone.is_none() => days = joined(days, range),
            Some(_) => return Err(format!("{word:?} comes after the time zone")),
            None if zone.is_some() => return Err(format!("{word:?} comes after the time zone")),
            None => zone = Some(parse_zone(word)?),
        }
    }
    if days == [false; 7] {
        days = [true; 7];
    }
    Ok(Window {
        opens,
        closes,
        days,
        zone: zone.unwrap_or(TimeZone::UTC),
        text: text.split_whitespace().collect::<Vec<_>>().join(" "),
    })
}

/// The start, and the end unless that is 24:00.
fn parse_times(text: &str) -> Result<(TimeOfDay, Option<TimeOfDay>), String> {
    let wrong = || format!("{text:?} is no span of time such as 09:00-18:00");
    let (opens, closes) = text.split_once('-').ok_or_else(wrong)?;
    let opens = parse_time(opens).ok_or_else(wrong)?;
    if closes == "24:00" {
        return Ok((opens, None));
    }
    let closes = parse_time(closes).ok_or_else(wrong)?;
    if opens == closes {
        return Err(format!("{text:?} is empty; the whole day is 00:00-24:00"));
    }
    Ok((opens, Some(closes)))
}

fn parse_time(text: &str) -> Option<TimeOfDay> {
    let (hour, minute) = text.split_once(':')?;
    let number = |digits: &str| {
        let is_plain = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
        is_plain.then(|| digits.parse().ok()).flatten()
    };
    TimeOfDay::new(number(hour)?, number(minute)?, 0, 0).ok()
}

/// The days of a range such as `Mon-Fri`, or of one day; `None` if it is neither.
fn parse_days(text: &str) -> Option<[bool; 7]> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (parse_day(first)?, parse_day(last)?);
    let mut days = [false; 7];
    let mut day = first;
    loop {
        days[day] = true;
        if day == last {
            return Some(days);
        }
        day = (day + 1) % 7;
    }
}

/// The number of a day, from Monday on.
fn parse_day(text: &str) -> Option<usize> {
    const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let text = text.to_ascii_lowercase();
    DAYS.iter().position(|day| *day == text)
}

fn joined(one: [bool; 7], other: [bool; 7]) -> [bool; 7] {
    std::array::from_fn(|day| one[day] || other[day])
}

fn parse_zone(text: &str) -> Result<TimeZone, String> {
    TimeZone::get(text).map_err(|_| {
        format!("{text:?} is neither a day such as Mon nor a time zone such as Europe/Berlin")
    })
}

fn timestamp(unix: u64) -> Timestamp {
    let seconds = i64::try_from(unix).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
}

fn seconds(time: Timestamp) -> u64 {
    u64::try_from(time.as_second()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn unix(text: &str) -> u64 {
        seconds(text.parse().unwrap())
    }

    fn at(schedule: &str, now: &str) -> Opening {
        schedule.parse::<Schedule>().unwrap().at(unix(now))
    }

    fn open(end: &str) -> Opening {
        Opening::OpenUntil(unix(end))
    }

    fn closed(next: &str) -> Opening {
        Opening::ClosedUntil(Some(unix(next)))
    }

    /// 2026-11-30 is a Monday.
    #[test]
    fn a_window_is_open_from_its_start_to_just_before_its_end() {
        let office = "09:00-18:00 Mon-Fri";
        for (now, state) in [
            ("2026-11-30T08:59:59Z", closed("2026-11-30T09:00:00Z")),
            ("2026-11-30T09:00:00Z", open("2026-11-30T18:00:00Z")),
            ("2026-11-30T17:59:59Z", open("2026-11-30T18:00:00Z")),
            ("2026-11-30T18:00:00Z", closed("2026-12-01T09:00:00Z")),
            ("2026-12-04T18:00:00Z", closed("2026-12-07T09:00:00Z")),
            ("2026-12-05T12:00:00Z", closed("2026-12-07T09:00:00Z")),
        ] {
            assert_eq!(at(office, now), state, "{now}");
        }
    }

    #[test]
    fn a_window_may_go_on_after_midnight_and_windows_that_meet_are_one() {
        for (schedule, now, state) in [
            (
                "22:00-06:00 Fri",
                "2026-12-05T05:00:00Z",
                open("2026-12-05T06:00:00Z"),
            ),
            (
                "22:00-06:00 Fri",
                "2026-12-05T22:00:00Z",
                closed("2026-12-11T22:00:00Z"),
            ),
            (
                "00:00-24:00 Sat-Sun",
                "2026-12-05T12:00:00Z",
                open("2026-12-07T00:00:00Z"),
            ),
            (
                "08:00-12:00 Mon,12:00-14:00,13:00-15:00 Mon",
                "2026-11-30T09:00:00Z",
                open("2026-11-30T15:00:00Z"),
            ),
            (
                "20:00-24:00 Sun,00:00-01:00 Mon",
                "2026-11-29T21:00:00Z",
                open("2026-11-30T01:00:00Z"),
            ),
        ] {
            assert_eq!(at(schedule, now), state, "{schedule} {now}");
        }
    }

    #[test]
    fn a_schedule_that_is_always_open_has_an_end_that_moves_on() {
        let Opening::OpenUntil(end) = at("00:00-24:00", "2026-11-30T09:00:00Z") else {
            panic!("it is open");
        };
        assert!(end > unix("2026-12-07T00:00:00Z"));
    }

    /// Berlin is an hour ahead of UTC in winter and two in summer. On 2026-03-29 its clocks go
    /// from 02:00 to 03:00, on 2026-10-25 from 03:00 back to 02:00.
    #[test]
    fn a_window_follows_the_clocks_of_its_zone() {
        let berlin = "09:00-18:00 Europe/Berlin";
        for (schedule, now, state) in [
            (berlin, "2026-01-05T08:00:00Z", open("2026-01-05T17:00:00Z")),
            (berlin, "2026-07-06T07:00:00Z", open("2026-07-06T16:00:00Z")),
            (
                "02:30-04:00 Europe/Berlin",
                "2026-03-29T00:59:59Z",
                closed("2026-03-29T01:30:00Z"),
            ),
            (
                "02:30-04:00 Europe/Berlin",
                "2026-10-25T00:30:00Z",
                open("2026-10-25T03:00:00Z"),
            ),
            (
                "09:00-10:00 Mon Asia/Kolkata",
                "2026-11-30T03:30:00Z",
                open("2026-11-30T04:30:00Z"),
            ),
        ] {
            assert_eq!(at(schedule, now), state, "{schedule} {now}");
        }
    }

    #[test]
    fn without_windows_nothing_is_ever_open() {
        assert_eq!(Schedule::default().at(0), Opening::ClosedUntil(None));
        assert_eq!(Schedule::default().at(u64::MAX), Opening::ClosedUntil(None));
    }

    #[test]
    fn what_is_no_window_is_refused_with_the_word() {
        for (text, reason) in [
            ("", "a window is empty"),
            ("09:00-18:00,", "a window is empty"),
            (
                &"01:00-02:00,".repeat(64),
                "has 65 windows, and may have 64",
            ),
            ("9-18", "\"9-18\" is no span"),
            ("09:00", "\"09:00\" is no span"),
            ("09:00-25:00", "\"09:00-25:00\" is no span"),
            ("24:00-01:00", "\"24:00-01:00\" is no span"),
            ("9:00-18:00", "\"9:00-18:00\" is no span"),
            ("+9:00-18:00", "\"+9:00-18:00\" is no span"),
            ("09:00-09:00", "is empty"),
            ("09:00-18:00 Mo-Fr", "\"Mo-Fr\" is neither a day"),
            ("09:00-18:00 Mars/Olympus", "\"Mars/Olympus\" is neither"),
            ("09:00-18:00 UTC Mon", "\"Mon\" comes after"),
            ("09:00-18:00 UTC Asia/Tokyo", "\"Asia/Tokyo\" comes after"),
        ] {
            let error = text.parse::<Schedule>().unwrap_err();
            assert!(error.contains(reason), "{text:?}: {error}");
        }
    }

    #[test]
    fn it_is_shown_as_it_was_written() {
        let schedule: Schedule = " 09:00-18:00  Mon-Fri Europe/Berlin , 10:00-12:00 sat"
            .parse()
            .unwrap();
        let text = "09:00-18:00 Mon-Fri Europe/Berlin,10:00-12:00 sat";
        assert_eq!(schedule.to_string(), text);
        assert_eq!(text.parse(), Ok(schedule));
    }

    proptest! {
        /// Until the end of what is open, or the start of what comes next, nothing changes; and
        /// at that time it does.
        #[test]
        fn the_state_stays_until_it_says(
            schedule in "0[0-9]:[0-5]0-1[0-9]:[0-5]0 (Mon|Tue|Sat-Tue)( Europe/Berlin| America/New_York)?",
            now in 1_700_000_000u64..1_900_000_000,
            part in 0.0..1.0f64,
        ) {
            let schedule: Schedule = schedule.parse().unwrap();
            let state = schedule.at(now);
            let (Opening::OpenUntil(then) | Opening::ClosedUntil(Some(then))) = state else {
                panic!("it opens each week");
            };
            prop_assert!(now < then && then <= now + 8 * 24 * 3600);
            let between = now + ((then - 1 - now) as f64 * part) as u64;
            prop_assert_eq!(schedule.at(between), state);
            prop_assert_ne!(schedule.at(then), state);
        }

        #[test]
        fn nothing_makes_it_panic(text in ".{0,40}", unix in any::<u64>()) {
            if let Ok(schedule) = text.parse::<Schedule>() {
                schedule.at(unix);
            }
        }

        #[test]
        fn no_time_makes_it_panic(unix in any::<u64>()) {
            "22:00-06:00 Fri Pacific/Apia".parse::<Schedule>().unwrap().at(unix);
        }
    }
}
