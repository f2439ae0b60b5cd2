//! From samples to one figure: medians, ratios, and how they are written.

/// What one run against one server gave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sample {
    pub(crate) ops_per_second: f64,
    /// Processor time of the server, in microseconds.
    pub(crate) cpu_us_per_op: f64,
}

/// The median of each figure by itself.
///
/// # Panics
/// If there is no sample.
pub(crate) fn typical(samples: &[Sample]) -> Sample {
    let of = |figure: fn(&Sample) -> f64| median(samples.iter().map(figure).collect());
    Sample {
        ops_per_second: of(|sample| sample.ops_per_second),
        cpu_us_per_op: of(|sample| sample.cpu_us_per_op),
    }
}

/// The middle value, or the mean of the two middle ones.
///
/// # Panics
/// If there is no value.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    assert!(!values.is_empty(), "a median needs a value");
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    }
}

/// The value below which `percent` of the values lie (nearest rank).
///
/// # Panics
/// If there is no value.
pub(crate) fn percentile(sorted: &[u64], percent: usize) -> u64 {
    assert!(!sorted.is_empty(), "a percentile needs a value");
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted[rank.clamp(1, sorted.len()) - 1]
}

/// `0.93x`.
pub(crate) fn ratio(ours: f64, theirs: f64) -> String {
    if theirs > 0.0 { format!("{:.2}x", ours / theirs) } else { "-".to_owned() }
}

/// A rate in thousands: `123.4 k`.
pub(crate) fn thousands(per_second: f64) -> String {
    format!("{:.1} k", per_second / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_median(values: &[f64], want: f64) {
        let found = median(values.to_vec());
        assert!((found - want).abs() < 1e-9, "{found} instead of {want}");
    }

    #[test]
    fn one_slow_round_does_not_move_the_median() {
        check_median(&[3.0], 3.0);
        check_median(&[3.0, 1.0, 900.0], 3.0);
        check_median(&[4.0, 1.0, 2.0, 900.0], 3.0);
    }

    #[test]
    fn each_figure_has_its_own_median() {
        let sample = |ops_per_second, cpu_us_per_op| Sample { ops_per_second, cpu_us_per_op };
        let found = typical(&[sample(1.0, 9.0), sample(2.0, 7.0), sample(3.0, 8.0)]);
        assert_eq!(found, sample(2.0, 8.0));
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let values: Vec<u64> = (1..=200).collect();
        assert_eq!(percentile(&values, 50), 100);
        assert_eq!(percentile(&values, 99), 198);
        assert_eq!(percentile(&values, 100), 200);
        assert_eq!(percentile(&values, 0), 1);
        assert_eq!(percentile(&[7], 99), 7);
    }

    #[test]
    fn figures_are_short() {
        assert_eq!(ratio(1.0, 3.0), "0.33x");
        assert_eq!(ratio(1.0, 0.0), "-");
        assert_eq!(thousands(123_456.0), "123.5 k");
    }
}
