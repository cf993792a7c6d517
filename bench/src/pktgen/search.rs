//! The greatest rate without loss (RFC 2544 26.1, 24): halving the interval a bounded number of times.

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Found {
    /// The highest rate that passed; 0: none did.
    pub rate: f64,
    /// How many trials that took.
    pub trials: u32,
}

/// Between nothing and `most`, to within `most` / 2^`steps`. `passes` makes a trial at a rate and tells whether nothing
/// was lost; one that loses is repeated until it has lost `attempts` times, so that a pause of the machine (a virtual one
/// is stopped for milliseconds now and then) is not taken for the device's limit.
///
/// # Errors
/// The trial's.
pub fn zero_loss_rate<E>(
    most: f64,
    steps: u32,
    attempts: u32,
    mut passes: impl FnMut(f64) -> Result<bool, E>,
) -> Result<Found, E> {
    let mut trials = 0;
    let mut holds = |rate: f64| -> Result<bool, E> {
        for _ in 0..attempts.max(1) {
            trials += 1;
            if passes(rate)? {
                return Ok(true);
            }
        }
        Ok(false)
    };
    let (mut good, mut bad) = (0.0, most);
    if holds(most)? {
        return Ok(Found { rate: most, trials });
    }
    for _ in 0..steps {
        let rate = f64::midpoint(good, bad);
        if holds(rate)? {
            good = rate;
        } else {
            bad = rate;
        }
    }
    Ok(Found { rate: good, trials })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    fn search(most: f64, steps: u32, limit: f64) -> Found {
        let Ok(found) = zero_loss_rate::<Infallible>(most, steps, 1, |rate| Ok(rate <= limit));
        found
    }

    #[test]
    fn the_rate_found_passes_and_is_as_near_to_the_limit_as_the_steps_allow() {
        let found = search(10e6, 8, 3.3e6);
        assert!(found.rate <= 3.3e6 && found.rate > 3.3e6 - 10e6 / 256.0, "{found:?}");
        assert_eq!(found.trials, 9);
    }

    #[test]
    fn a_device_that_loses_nothing_needs_one_trial_and_one_that_passes_nothing_has_no_rate() {
        assert_eq!(search(10.0, 8, 11.0), Found { rate: 10.0, trials: 1 });
        assert!(search(10.0, 8, -1.0).rate == 0.0);
    }

    #[test]
    fn a_trial_that_loses_once_by_chance_is_repeated() {
        let mut losses = 1;
        let found = zero_loss_rate::<Infallible>(8.0, 3, 2, |rate| {
            let by_chance = rate <= 5.0 && losses > 0;
            losses -= i32::from(by_chance);
            Ok(rate <= 5.0 && !by_chance)
        });
        let Ok(found) = found;
        assert!((found.rate - 5.0).abs() < 1e-9, "{found:?}");
    }
}
