//! A [`Histogram`] counts durations in buckets, as Prometheus does.

use std::time::Duration;

/// The upper bounds of the buckets, in seconds: from what a dial within a
/// cluster takes to what a slow cold start takes.
pub const BOUNDS: [f64; 16] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
];

/// The number of observed durations by bucket, and their sum.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// The number in each bucket, not cumulative; the last one is for what is beyond all
    /// bounds.
    counts: [u64; BOUNDS.len() + 1],
    sum: Duration,
}

impl Histogram {
    /// Counts one observation. A bound belongs to the bucket below it.
    pub fn observe(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = BOUNDS.partition_point(|&bound| bound < seconds);
        self.counts[bucket] += 1;
        self.sum = self.sum.saturating_add(took);
    }

    /// The number in each bucket, with its upper bound; the last has none.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<f64>, u64)> {
        let bounds = BOUNDS.iter().copied().map(Some).chain([None]);
        bounds.zip(self.counts)
    }

    /// The sum of the durations.
    pub fn sum(&self) -> Duration {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_the_bucket_below_it_and_what_is_beyond_all_to_the_last() {
        for (label, took, bucket) in [
            ("nothing at all", Duration::ZERO, 0),
            ("the first bound", Duration::from_millis(1), 0),
            ("just above it", Duration::from_micros(1001), 1),
            ("the last bound", Duration::from_secs(300), 15),
            ("beyond it", Duration::from_secs(301), 16),
            ("for ever", Duration::MAX, 16),
        ] {
            let mut histogram = Histogram::default();
            histogram.observe(took);
            let counts: Vec<u64> = histogram.buckets().map(|(_, count)| count).collect();
            let filled = counts.iter().position(|&count| count == 1);
            assert_eq!((filled, counts.len()), (Some(bucket), 17), "{label}");
            assert_eq!(histogram.sum(), took, "{label}");
        }
    }

    #[test]
    fn sums_saturate() {
        let mut histogram = Histogram::default();
        histogram.observe(Duration::MAX);
        histogram.observe(Duration::MAX);
        assert_eq!(histogram.sum(), Duration::MAX);
    }
}
