//! How long packets took: counts in buckets that are a 64th of their value wide, as HDR histograms have them. Recording
//! is a few instructions and no division; quantiles are right to 1.6 %.

/// Buckets of an octave, as a power of two.
const PRECISION: u32 = 6;
const PER_OCTAVE: usize = 1 << PRECISION;
/// Values of `u64` have so many octaves above the exact ones.
const BUCKETS: usize = PER_OCTAVE * (64 - PRECISION as usize + 1);

/// Counts of values.
#[derive(Clone)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    greatest: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: vec![0; BUCKETS],
            total: 0,
            greatest: 0,
        }
    }
}

impl Histogram {
    /// One more of this value.
    #[inline]
    pub fn record(&mut self, value: u64) {
        self.counts[bucket(value)] += 1;
        self.total += 1;
        self.greatest = self.greatest.max(value);
    }

    /// The largest.
    pub const fn greatest(&self) -> u64 {
        self.greatest
    }

    /// The value that this share of all do not exceed; 0 without values.
    pub fn quantile(&self, share: f64) -> u64 {
        let rank = ((share * self.total as f64).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return highest(bucket).min(self.greatest);
            }
        }
        self.greatest
    }
}

#[inline]
fn bucket(value: u64) -> usize {
    let octave = (u64::BITS - value.leading_zeros()).saturating_sub(PRECISION + 1);
    (octave as usize) * PER_OCTAVE + (value >> octave) as usize
}

/// The largest value of a bucket.
fn highest(bucket: usize) -> u64 {
    // Buckets of the first two octaves are exact.
    let octave = (bucket / PER_OCTAVE).saturating_sub(1);
    let lowest = (bucket - octave * PER_OCTAVE) as u64;
    (lowest << octave) + ((1 << octave) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_bucket_is_no_wider_than_a_64th_of_its_values(value in any::<u64>()) {
            let highest = highest(bucket(value));
            prop_assert!(highest >= value);
            prop_assert!(u128::from(highest - value) * 64 <= u128::from(value));
        }

        #[test]
        fn quantiles_are_those_of_the_sorted_values(mut values in prop::collection::vec(0u64..1 << 40, 1..200)) {
            let mut histogram = Histogram::default();
            values.iter().for_each(|&value| histogram.record(value));
            values.sort_unstable();
            for share in [0.0, 0.5, 0.99, 1.0] {
                let rank = ((share * values.len() as f64).ceil() as usize).max(1);
                let exact = values[rank - 1];
                let told = histogram.quantile(share);
                prop_assert!(told >= exact && told - exact <= exact / 64, "{share}: {told} for {exact}");
            }
            prop_assert_eq!(histogram.greatest(), values[values.len() - 1]);
        }
    }
}
