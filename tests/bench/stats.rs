//! Medians, percentiles and spreads.

use std::time::Duration;

/// Durations in order, for percentiles.
#[derive(Clone, Debug, Default)]
pub struct Latencies(Vec<Duration>);

impl Latencies {
    pub fn new(mut all: Vec<Duration>) -> Latencies {
        all.sort_unstable();
        Latencies(all)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// What that share of them does not exceed (nearest rank), in µs; NaN if
    /// there are none.
    pub fn percentile_us(&self, percent: f64) -> f64 {
        let rank = (percent / 100.0 * self.0.len() as f64).ceil() as usize;
        let at = rank.clamp(1, self.0.len().max(1)) - 1;
        self.0.get(at).map_or(f64::NAN, |d| d.as_secs_f64() * 1e6)
    }
}

/// What several rounds have shown.
#[derive(Clone, Copy, Debug)]
pub struct Summary {
    pub median: f64,
    /// Half the distance from the least to the greatest, as a share of the
    /// median.
    pub spread: f64,
}

impl Summary {
    pub fn of(values: impl IntoIterator<Item = f64>) -> Summary {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_unstable_by(f64::total_cmp);
        let median = median(&values);
        let range = match (values.first(), values.last()) {
            (Some(least), Some(greatest)) => greatest - least,
            _ => f64::NAN,
        };
        Summary {
            median,
            spread: range / 2.0 / median,
        }
    }
}

fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => sorted[middle],
        _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
    }
}
