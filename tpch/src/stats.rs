//! The few statistics that the report needs.
//!
//! Runs are interleaved, so the n-th run of one configuration lies beside the n-th of another, and whatever disturbed the machine then disturbed both.
//! So a query's ratio is the typical one of the runs' own ratios, and the bootstrap draws whole runs.

/// Resamples behind an interval.
const RESAMPLES: usize = 2000;
/// What `typical` leaves out at each end. A fifth is what Wilcox (Introduction to Robust Estimation and Hypothesis Testing, chapter 4) advises: nearly as
/// precise as the mean where noise is even, while single runs that something disturbed do not count.
const TRIMMED: f64 = 0.2;
/// Fixed, so that a report can be computed again from its samples.
const SEED: u64 = 0x6475_636b_6270_6621;

/// Middle value; the mean of the middle two of an even number. None of none.
pub fn median(values: &[f64]) -> Option<f64> {
    quantile(values, 0.5)
}

/// Quantile by linear interpolation between the two nearest values. None of none.
pub fn quantile(values: &[f64], q: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let position = q.clamp(0.0, 1.0) * sorted.len().checked_sub(1)? as f64;
    let (low, high) = (sorted[position.floor() as usize], sorted[position.ceil() as usize]);
    Some(low + (high - low) * position.fract())
}

/// Arithmetic mean. None of none.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Geometric mean. None of none.
pub fn geomean(values: &[f64]) -> Option<f64> {
    let logarithms: Vec<f64> = values.iter().map(|value| value.ln()).collect();
    mean(&logarithms).map(f64::exp)
}

/// The trimmed geometric mean: the lowest and the highest fifth, in whole values, are left out. None of none.
pub fn typical(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let outer = (sorted.len() as f64 * TRIMMED).floor() as usize;
    geomean(&sorted[outer..sorted.len() - outer])
}

/// The typical time of each series, whose n-th times were taken at the same moment (`slices.rs`): the median of what is left of its times when
/// what they all share is divided out, times the median of that. The ratio of two series is the median of their ratios. Empty where no moment
/// has times of all.
pub fn side_by_side(series: &[Vec<f64>]) -> Vec<f64> {
    let moments = series.iter().map(Vec::len).min().unwrap_or(0);
    let moment = |n: usize| series.iter().map(|times| times[n]).collect::<Vec<_>>();
    let shared: Vec<f64> = (0..moments).filter_map(|n| geomean(&moment(n))).collect();
    let own =
        |times: &Vec<f64>| median(&times.iter().zip(&shared).map(|(time, shared)| time / shared).collect::<Vec<_>>());
    let typical = |times| Some(own(times)? * median(&shared)?);
    series.iter().filter_map(typical).collect()
}

/// One configuration's times beside those of the baseline, of one query or of several. The n-th time of each is of run n.
pub struct Paired<'a> {
    queries: Vec<(&'a [f64], &'a [f64])>,
    runs: usize,
}

impl<'a> Paired<'a> {
    /// Pairs (baseline, configuration), one a query. Runs that only some of them have are left out.
    pub fn new(queries: impl IntoIterator<Item = (&'a [f64], &'a [f64])>) -> Self {
        let queries: Vec<_> = queries.into_iter().collect();
        let runs = queries.iter().map(|(base, other)| base.len().min(other.len())).min().unwrap_or(0);
        Self { queries, runs }
    }

    /// Geometric mean over the queries of each one's typical ratio.
    pub fn ratio(&self) -> Option<f64> {
        let runs: Vec<usize> = (0..self.runs).collect();
        self.ratio_of(&runs)
    }

    /// Its 95% interval. None with less than two runs.
    pub fn interval(&self) -> Option<[f64; 2]> {
        if self.runs < 2 {
            return None;
        }
        let mut random = fastrand::Rng::with_seed(SEED);
        let ratios: Vec<f64> = (0..RESAMPLES)
            .filter_map(|_| {
                let runs: Vec<usize> = (0..self.runs).map(|_| random.usize(..self.runs)).collect();
                self.ratio_of(&runs)
            })
            .collect();
        Some([quantile(&ratios, 0.025)?, quantile(&ratios, 0.975)?])
    }

    fn ratio_of(&self, runs: &[usize]) -> Option<f64> {
        let ratio = |(base, other): &(&[f64], &[f64])| {
            typical(&runs.iter().map(|run| other[*run] / base[*run]).collect::<Vec<_>>())
        };
        geomean(&self.queries.iter().map(ratio).collect::<Option<Vec<_>>>()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_means_and_quantiles() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
        assert_eq!(quantile(&[10.0, 20.0, 30.0], 0.99), Some(29.8));
        assert_eq!(mean(&[1.0, 2.0, 6.0]), Some(3.0));
        assert!((geomean(&[2.0, 8.0]).unwrap() - 4.0).abs() < 1e-12);
        assert_eq!(geomean(&[]), None);
    }

    #[test]
    fn what_is_typical_leaves_a_fifth_out_at_each_end() {
        assert!((typical(&[2.0, 100.0, 8.0, 0.001, 4.0]).unwrap() - 4.0).abs() < 1e-12);
        // Nothing of four.
        assert!((typical(&[1.0, 1.0, 1.0, 16.0]).unwrap() - 2.0).abs() < 1e-12);
        assert_eq!(typical(&[]), None);
    }

    #[test]
    fn a_disturbance_of_all_series_leaves_their_ratio() {
        // The second takes 1.5 times as long; the third moment is slow for both, the fourth disturbs one alone.
        let typical = side_by_side(&[vec![1.0, 1.1, 5.0, 9.0, 1.2], vec![1.5, 1.65, 7.5, 1.5, 1.8]]);
        assert!((typical[1] / typical[0] - 1.5).abs() < 1e-12, "{typical:?}");
        assert_eq!(side_by_side(&[vec![2.0, 1.0, 9.0]]), [2.0]);
        assert!(side_by_side(&[vec![1.0], vec![]]).is_empty());
    }

    #[test]
    fn a_ratio_is_the_geometric_mean_of_typical_ratios() {
        let base = [[1.0, 1.0, 9.0, 1.0, 1.0], [2.0; 5]];
        let other = [[2.0; 5], [1.0, 4.0, 1.0, 1.0, 1.0]];
        let paired = Paired::new(base.iter().zip(&other).map(|(base, other)| (base.as_slice(), other.as_slice())));
        // 2/1 and 1/2
        assert!((paired.ratio().unwrap() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn an_interval_covers_the_ratio_and_forgets_what_disturbed_both() {
        let mut random = fastrand::Rng::with_seed(1);
        // Runs differ by a factor of up to 3, the configurations by 1.05 and 1% of noise.
        let (base, other): (Vec<f64>, Vec<f64>) = (0..40)
            .map(|_| {
                let load = 1.0 + 2.0 * random.f64();
                (load, load * 1.05 * (0.99 + 0.02 * random.f64()))
            })
            .unzip();
        let paired = Paired::new([(base.as_slice(), other.as_slice())]);
        let [low, high] = paired.interval().unwrap();
        let ratio = paired.ratio().unwrap();
        assert!(low <= ratio && ratio <= high, "{low} {ratio} {high}");
        assert!(low > 1.03 && high < 1.07, "{low} {high}");
    }

    #[test]
    fn the_same_samples_give_the_same_interval() {
        let (base, other) = ([1.0, 1.1, 1.2, 1.3], [1.1, 1.1, 1.3, 1.2]);
        let interval = || Paired::new([(base.as_slice(), other.as_slice())]).interval();
        assert_eq!(interval(), interval());
    }

    #[test]
    fn too_few_runs_have_no_interval() {
        assert_eq!(Paired::new([([1.0].as_slice(), [1.0].as_slice())]).interval(), None);
        assert_eq!(Paired::new([]).ratio(), None);
        let uneven = Paired::new([([1.0, 2.0].as_slice(), [1.0].as_slice())]);
        assert_eq!((uneven.ratio(), uneven.interval()), (Some(1.0), None));
    }
}
