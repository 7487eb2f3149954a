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
    /// Between which the middle half of them is.
    pub quartiles: [f64; 2],
    /// Half the distance from the least to the greatest, as a share of the
    /// median.
    pub spread: f64,
}

impl Summary {
    /// NaN in all if there are none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Summary {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_unstable_by(f64::total_cmp);
        let [least, low, median, high, greatest] =
            [0.0, 0.25, 0.5, 0.75, 1.0].map(|share| quantile(&values, share));
        Summary {
            median,
            quartiles: [low, high],
            spread: (greatest - least) / 2.0 / median,
        }
    }
}

/// What that share of them is below, between the two that are next to it.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    let place = share * last as f64;
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    sorted[below] + (sorted[above] - sorted[below]) * place.fract()
}
