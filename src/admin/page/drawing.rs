//! The SVG pictures of the page. They take their colours from the style by class, since the
//! Content-Security-Policy of the page allows no `style` attribute.

use std::fmt::{self, Display};
use std::time::Duration;

use super::{Slot, State, Wake};
use crate::admin::page::text::short;

/// The moon, the sun, or a ring.
pub fn icon(state: State) -> &'static str {
    match state {
        State::Asleep | State::ScalingDown => {
            "<svg class=\"icon\" viewBox=\"0 0 24 24\" aria-hidden=\"true\">\
             <path d=\"M20.5 14.6A8.6 8.6 0 0 1 9.4 3.5a8.6 8.6 0 1 0 11.1 11.1z\"/></svg>"
        }
        State::Awake => {
            "<svg class=\"icon\" viewBox=\"0 0 24 24\" aria-hidden=\"true\">\
             <circle cx=\"12\" cy=\"12\" r=\"4.8\"/><path class=\"rays\" d=\"M12 1.8v2.6M12 \
             19.6v2.6M1.8 12h2.6M19.6 12h2.6M4.8 4.8l1.8 1.8M17.4 17.4l1.8 1.8M4.8 19.2l1.8-1.8M17.4 \
             6.6l1.8-1.8\"/></svg>"
        }
        State::Waking => {
            "<svg class=\"icon\" viewBox=\"0 0 24 24\" aria-hidden=\"true\">\
             <path d=\"M4 17a8 8 0 0 1 16 0z\"/><path class=\"rays\" d=\"M1.8 20.4h20.4M12 \
             3v3M4.2 7.4l1.9 1.9M19.8 7.4l-1.9 1.9\"/></svg>"
        }
        State::Unknown => {
            "<svg class=\"icon\" viewBox=\"0 0 24 24\" aria-hidden=\"true\">\
             <circle class=\"rays\" cx=\"12\" cy=\"12\" r=\"8.5\"/></svg>"
        }
    }
}

/// The width of the picture of a day, in its own units: one for each slot.
const WIDTH: usize = 288;
const HEIGHT: f64 = 48.0;

/// A day: for each slot a column, the part that is awake from below and the rest above it.
pub struct Timeline<'a> {
    /// The slots, the latest at the end.
    pub day: &'a [Slot],
    /// The length of a slot.
    pub slot: Duration,
}

impl Display for Timeline<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from = self.day.len().saturating_sub(WIDTH);
        let day = &self.day[from..];
        let sum = |part: fn(&Slot) -> f64| day.iter().map(part).sum::<f64>();
        let (asleep, waking, awake) =
            (sum(|it| it.asleep), sum(|it| it.waking), sum(|it| it.awake));
        let known = asleep + waking + awake;
        let percent = |part: f64| {
            if known > 0.0 {
                100.0 * part / known
            } else {
                0.0
            }
        };
        let seen = self.slot.mul_f64(known.max(0.0));
        let (share_asleep, share_waking, share_awake) =
            (percent(asleep), percent(waking), percent(awake));
        write!(
            f,
            "<svg class=\"day\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" preserveAspectRatio=\"none\" \
             role=\"img\" aria-label=\"Of the last day, {share_asleep:.0} % asleep, \
             {share_waking:.1} % waking, {share_awake:.0} % awake\">\
             <rect class=\"ground\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>"
        )?;
        let first = WIDTH - day.len();
        let columns = [
            ("awake", Column::of(|it| (0.0, it.awake))),
            ("waking", Column::of(|it| (it.awake, it.waking))),
            ("asleep", Column::of(|it| (it.awake + it.waking, it.asleep))),
        ];
        for (class, column) in columns {
            write!(f, "<path class=\"{class}\" d=\"")?;
            column.write(day, first, f)?;
            f.write_str("\"/>")?;
        }
        write!(
            f,
            "</svg><div class=\"axis quiet\" aria-hidden=\"true\"><span>24 h ago</span>\
             <span>18 h</span><span>12 h</span><span>6 h</span><span>now</span></div>\
             <p class=\"legend\"><span><span class=\"key asleep\"></span>asleep {share_asleep:.0} %\
             </span> <span><span class=\"key waking\"></span>waking {share_waking:.1} %</span> \
             <span><span class=\"key awake\"></span>awake {share_awake:.0} %</span> \
             <span class=\"quiet\">of the {} that were watched</span></p>",
            super::long(seen)
        )
    }
}

/// The part of each column that a path fills: where it begins, and how high it is.
struct Column {
    part: fn(&Slot) -> (f64, f64),
}

impl Column {
    fn of(part: fn(&Slot) -> (f64, f64)) -> Column {
        Column { part }
    }

    /// Neighbours that are equal make one rectangle.
    fn write(&self, day: &[Slot], first: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut at = 0;
        for run in day.chunk_by(|one, next| (self.part)(one) == (self.part)(next)) {
            let (from, height) = (self.part)(&run[0]);
            if height > 0.0 {
                let (x, width) = (first + at, run.len());
                let (top, tall) = (HEIGHT * (1.0 - from - height), HEIGHT * height);
                write!(f, "M{x} {top:.1}h{width}v{tall:.1}h-{width}z")?;
            }
            at += run.len();
        }
        Ok(())
    }
}

/// The parts of a wake as a bar, as long as it took beside the longest one.
pub struct WakeBar<'a> {
    pub wake: &'a Wake,
    pub longest: Duration,
}

impl Display for WakeBar<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scale = 100.0 / self.longest.as_secs_f64().max(0.001);
        let width = |part: Duration| part.as_secs_f64() * scale;
        let Wake {
            took,
            api,
            pod,
            dial,
            ..
        } = *self.wake;
        write!(
            f,
            "<svg class=\"parts\" viewBox=\"0 0 100 10\" preserveAspectRatio=\"none\" role=\"img\" \
             aria-label=\"{}\"><rect class=\"rest\" width=\"{:.2}\" height=\"10\"/>",
            short(took),
            width(took)
        )?;
        let mut at = 0.0;
        for (class, part) in [("api", api), ("pod", pod), ("dial", dial)] {
            let width = part.map_or(0.0, width);
            if width > 0.0 {
                write!(
                    f,
                    "<rect class=\"{class}\" x=\"{at:.2}\" width=\"{width:.2}\" height=\"10\"/>"
                )?;
            }
            at += width;
        }
        f.write_str("</svg>")
    }
}
