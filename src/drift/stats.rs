//! The statistics, as functions of counts and shares alone.
//!
//! Every function names its formula and where it is from. The tests hold each
//! against an example worked by hand and against values of scipy.
//!
//! Counts are given bin by bin, the reference's first. Shares are of one whole,
//! so that they add up to 1.

/// The largest product of two sample sizes for which [`ks_p`] is exact.
const KS_EXACT_MAX: u64 = 100_000;

/// Shares of counts with half a count added to each cell, so that none is 0:
/// (cᵢ + ½) / (n + k/2) for k cells.
///
/// Half a count is Jeffreys' prior of a multinomial (Jeffreys 1946, "An
/// invariant form for the prior probability in estimation problems"). A fixed
/// floor such as 1e-4 would make an empty cell of a small window look like
/// drift.
pub fn smoothed(counts: &[u64]) -> Vec<f64> {
    let total = counts.iter().sum::<u64>() as f64 + 0.5 * counts.len() as f64;
    counts.iter().map(|&count| (count as f64 + 0.5) / total).collect()
}

/// One cell's part of the population stability index: (c − r) ln(c / r), for
/// shares above 0.
pub fn psi_part(reference: f64, current: f64) -> f64 {
    (current - reference) * libm::log(current / reference)
}

/// Population stability index: Σ (cᵢ − rᵢ) ln(cᵢ / rᵢ), for shares above 0.
///
/// It is the symmetrised Kullback-Leibler divergence J of Jeffreys; the name is
/// from credit scoring (Siddiqi 2006, "Credit Risk Scorecards"). From 0, for
/// equal shares, without bound.
pub fn psi(reference: &[f64], current: &[f64]) -> f64 {
    reference.iter().zip(current).map(|(&r, &c)| psi_part(r, c)).sum()
}

/// Kullback-Leibler divergence of the current from the reference shares, in
/// nats: Σ cᵢ ln(cᵢ / rᵢ), where the reference's are above 0 (Kullback and
/// Leibler 1951). From 0 without bound.
pub fn kl(reference: &[f64], current: &[f64]) -> f64 {
    let sum: f64 = reference.iter().zip(current).map(|(&r, &c)| kl_part(c, r)).sum();
    // Rounding may leave equal shares a little below.
    sum.max(0.0)
}

fn kl_part(p: f64, q: f64) -> f64 {
    if p > 0.0 { p * libm::log(p / q) } else { 0.0 }
}

/// Jensen-Shannon distance to base 2: √(½ KL₂(r‖m) + ½ KL₂(c‖m)) with
/// m = (r + c) / 2 (Lin 1991; that its root is a metric: Endres and Schindelin
/// 2003). In [0, 1].
pub fn js_distance(reference: &[f64], current: &[f64]) -> f64 {
    let sum: f64 = reference
        .iter()
        .zip(current)
        .map(|(&r, &c)| {
            let middle = 0.5 * (r + c);
            kl_part(r, middle) + kl_part(c, middle)
        })
        .sum();
    (0.5 * sum.max(0.0) / std::f64::consts::LN_2).sqrt().min(1.0)
}

/// Two-sample Kolmogorov-Smirnov statistic: the largest difference of the two
/// empirical distribution functions, looked at after each bin (Smirnov 1939).
/// In [0, 1]; 0 when a sample is empty.
///
/// Of binned values it is a lower bound of the statistic of the values
/// themselves, less than it by at most the largest share of one bin; equal to
/// it where each bin holds one distinct value.
pub fn ks_statistic(reference: &[u64], current: &[u64]) -> f64 {
    let (n, m) = (reference.iter().sum::<u64>(), current.iter().sum::<u64>());
    if n == 0 || m == 0 {
        return 0.0;
    }
    let (mut below_r, mut below_c, mut largest) = (0u64, 0u64, 0.0f64);
    for (&r, &c) in reference.iter().zip(current) {
        below_r += r;
        below_c += c;
        largest = largest.max((below_r as f64 / n as f64 - below_c as f64 / m as f64).abs());
    }
    largest
}

/// Two-sided p-value of a two-sample Kolmogorov-Smirnov statistic of samples of
/// these sizes, for values without ties; with ties and bins the true one is
/// smaller.
///
/// Where the product of the sizes is at most 100,000 it is exact: the share of
/// lattice paths that leave the band (the recursion of Viehmann 2021,
/// "Numerically more stable computation of the p-values for the two-sample
/// Kolmogorov-Smirnov test"). Otherwise it is Kolmogorov's series at
/// λ = (√e + 0.12 + 0.11/√e) d with e = nm / (n + m) (Stephens 1970), which is
/// within 8 % of the exact one down to 1e-4 for samples of 50 and more against
/// 1,000 and more.
pub fn ks_p(statistic: f64, n: u64, m: u64) -> f64 {
    if n == 0 || m == 0 || statistic <= 0.0 {
        return 1.0;
    }
    if n.checked_mul(m).is_some_and(|product| product <= KS_EXACT_MAX) {
        return ks_exact(statistic, n, m);
    }
    let effective = (n as f64 * (m as f64 / (n as f64 + m as f64))).sqrt();
    kolmogorov((effective + 0.12 + 0.11 / effective) * statistic)
}

fn ks_exact(statistic: f64, n: u64, m: u64) -> f64 {
    // The statistic is a multiple of 1/nm; rounding takes its error away.
    let limit = libm::round(statistic * (n * m) as f64) as u64;
    let outside = |i: u64, j: u64| (i * m).abs_diff(j * n) >= limit;
    // The probability that a random path to (i, j) has been outside.
    let mut row: Vec<f64> = vec![0.0; m as usize + 1];
    for i in 0..=n {
        for j in 0..=m {
            let at = j as usize;
            row[at] = if outside(i, j) {
                1.0
            } else if i + j == 0 {
                0.0
            } else {
                let from_left = if j > 0 { row[at - 1] * j as f64 } else { 0.0 };
                (row[at] * i as f64 + from_left) / (i + j) as f64
            };
        }
    }
    row[m as usize].min(1.0)
}

/// The upper tail of Kolmogorov's distribution: 2 Σ (−1)ᵏ⁻¹ exp(−2k²λ²), or by
/// Jacobi's identity 1 − (√2π / λ) Σ exp(−(2k−1)²π² / 8λ²), whichever converges
/// at once.
fn kolmogorov(lambda: f64) -> f64 {
    use std::f64::consts::PI;
    if lambda < 1.18 {
        let step = -PI * PI / (8.0 * lambda * lambda);
        let sum: f64 = [1.0, 9.0, 25.0, 49.0].iter().map(|k| libm::exp(k * step)).sum();
        return (1.0 - (2.0 * PI).sqrt() / lambda * sum).clamp(0.0, 1.0);
    }
    let step = -2.0 * lambda * lambda;
    let term = |k: f64| libm::exp(step * k * k);
    (2.0 * (term(1.0) - term(2.0) + term(3.0) - term(4.0))).clamp(0.0, 1.0)
}

/// What a chi-square test says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChiSquare {
    /// Σ (observed − expected)² / expected over all cells of both rows.
    pub statistic: f64,
    /// Degrees of freedom: the cells of a row, once pooled, less one.
    pub degrees: usize,
    /// The upper tail of the chi-square distribution; 1 with no degree of
    /// freedom.
    pub p: f64,
}

/// Two-sample chi-square test of homogeneity on the 2 × k table of these
/// counts (Pearson 1900), without a correction for continuity.
///
/// Cells whose expected count is below `expected_min` in either row are pooled
/// into one; if that is still too small, the smallest of the others joins it.
/// What is expected depends on the sums of both rows only, so pooling does not
/// favour either. The usual minimum is 5 (Cochran 1954).
pub fn chi_square(reference: &[u64], current: &[u64], expected_min: f64) -> ChiSquare {
    let (n, m) = (reference.iter().sum::<u64>() as f64, current.iter().sum::<u64>() as f64);
    let nothing = ChiSquare {
        statistic: 0.0,
        degrees: 0,
        p: 1.0,
    };
    if n == 0.0 || m == 0.0 {
        return nothing;
    }
    let smaller = n.min(m) / (n + m);
    let small = |cell: &(u64, u64)| (cell.0 + cell.1) as f64 * smaller < expected_min;
    let (pooled, mut cells): (Vec<_>, Vec<_>) = reference.iter().copied().zip(current.iter().copied()).partition(small);
    let mut pool = pooled.iter().fold((0, 0), |sum, cell| (sum.0 + cell.0, sum.1 + cell.1));
    while pool != (0, 0) && small(&pool) {
        let Some(least) = (0..cells.len()).min_by_key(|&i| cells[i].0 + cells[i].1) else {
            return nothing;
        };
        let cell = cells.remove(least);
        pool = (pool.0 + cell.0, pool.1 + cell.1);
    }
    if pool != (0, 0) {
        cells.push(pool);
    }
    let part = |observed: u64, expected: f64| (observed as f64 - expected) * (observed as f64 - expected) / expected;
    let statistic: f64 = cells
        .iter()
        .map(|&(r, c)| {
            let share = (r + c) as f64 / (n + m);
            part(r, share * n) + part(c, share * m)
        })
        .sum();
    let degrees = cells.len().saturating_sub(1);
    ChiSquare {
        statistic: if degrees == 0 { 0.0 } else { statistic },
        degrees,
        p: chi_square_tail(statistic, degrees),
    }
}

/// The upper tail of the chi-square distribution: Q(degrees / 2, x / 2).
pub fn chi_square_tail(x: f64, degrees: usize) -> f64 {
    if degrees == 0 || x <= 0.0 {
        return 1.0;
    }
    gamma_q(0.5 * degrees as f64, 0.5 * x)
}

/// The regularised upper incomplete gamma function Q(a, x) for a > 0, x ≥ 0:
/// by its series below a + 1, by Legendre's continued fraction in Lentz' form
/// above (DLMF 8.7.1, 8.9.2; Press and others, "Numerical Recipes", 6.2).
fn gamma_q(a: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 1.0;
    }
    let scale = libm::exp(a * libm::log(x) - x - libm::lgamma(a));
    if x < a + 1.0 {
        let (mut term, mut sum, mut n) = (1.0 / a, 1.0 / a, a);
        while term > sum * 1e-17 {
            n += 1.0;
            term *= x / n;
            sum += term;
        }
        return (1.0 - scale * sum).clamp(0.0, 1.0);
    }
    let mut b = x + 1.0 - a;
    let (mut c, mut d) = (f64::MAX, 1.0 / b);
    let mut fraction = d;
    for i in 1..1000 {
        let i = f64::from(i);
        let numerator = i * (a - i);
        b += 2.0;
        d = 1.0 / (numerator * d + b);
        c = b + numerator / c;
        let factor = c * d;
        fraction *= factor;
        if (factor - 1.0).abs() < 1e-16 {
            break;
        }
    }
    (scale * fraction).clamp(0.0, 1.0)
}

/// ln of the binomial coefficient n over k; −∞ where there is no such choice.
fn ln_choose(n: u64, k: u64) -> f64 {
    if k > n {
        return f64::NEG_INFINITY;
    }
    let factorial = |v: u64| libm::lgamma(v as f64 + 1.0);
    factorial(n) - factorial(k) - factorial(n - k)
}

/// One-sided two-proportion test, Fisher's exact one (Fisher 1935): how likely
/// so many or more of the current rows have a mark by chance, when as many in
/// both samples together have it.
///
/// It is right for the smallest counts, where the normal approximation cries
/// wolf; being exact on discrete counts it keeps below its level.
pub fn fisher_greater(reference: u64, reference_rows: u64, current: u64, current_rows: u64) -> f64 {
    let marked = reference + current;
    let all = reference_rows + current_rows;
    if current == 0 || marked > all || current > current_rows {
        return 1.0;
    }
    let mass = |k: u64| {
        libm::exp(ln_choose(marked, k) + ln_choose(all - marked, current_rows - k) - ln_choose(all, current_rows))
    };
    let smallest = current_rows.saturating_sub(all - marked);
    // Both tails are summed outwards from the middle, where their terms fall.
    if current as f64 * all as f64 >= marked as f64 * current_rows as f64 {
        let last = marked.min(current_rows);
        let (mut term, mut sum, mut k) = (mass(current), 0.0, current);
        while term > sum * 1e-17 {
            sum += term;
            if k == last {
                break;
            }
            // In floating point, as the products may exceed 64 bits.
            let up = (marked - k) as f64 * (current_rows - k) as f64;
            let down = (k + 1) as f64 * (all - marked + k + 1 - current_rows) as f64;
            term *= up / down;
            k += 1;
        }
        return sum.min(1.0);
    }
    if current <= smallest {
        return 1.0;
    }
    let mut k = current - 1;
    let (mut term, mut sum) = (mass(k), 0.0);
    while term > sum * 1e-17 {
        sum += term;
        if k == smallest {
            break;
        }
        let down = k as f64 * (all - marked + k - current_rows) as f64;
        let up = (marked - k + 1) as f64 * (current_rows - k + 1) as f64;
        term *= down / up;
        k -= 1;
    }
    (1.0 - sum).clamp(0.0, 1.0)
}

/// How likely `count` or more of `values` new values are beyond the smallest
/// and largest of `reference_values` earlier ones, when all are from one
/// distribution, whichever it is:
/// (C(n, k+1) + m C(n, k)) / C(n+m, k+1) for k of n new and m earlier values.
///
/// The share of a distribution that a sample's range leaves out is beta(2,
/// m − 1) distributed (Wilks 1941, "Determination of sample sizes for setting
/// tolerance limits"), the count of new values out of it beta-binomial, and as
/// all gaps between ordered values are alike, k are out of it as often as k
/// come before the second smallest: when at most one of the first k + 1 is an
/// earlier one. With ties the true probability is smaller.
///
/// A two-proportion test would be wrong here: the reference is inside its own
/// range by construction, so its count is 0 whatever it should be.
pub fn exceedance(count: u64, values: u64, reference_values: u64) -> f64 {
    if count == 0 || reference_values < 2 || count > values {
        return 1.0;
    }
    let all = ln_choose(values + reference_values, count + 1);
    let none = libm::exp(ln_choose(values, count + 1) - all);
    let one = libm::exp(ln_choose(values, count) + libm::log(reference_values as f64) - all);
    (none + one).min(1.0)
}

/// Wasserstein-1 distance of two binned distributions, ∫ |F − G| dx between the
/// outermost edges (Vallender 1974), in the unit of the edges.
///
/// There is a count below the first edge, one between each two and one above
/// the last: the outer ones are clipped to the edge. Values of a bin are spread
/// evenly over it, or with `distinct` sit at its lower edge.
///
/// 0 when a sample is empty.
pub fn wasserstein(edges: &[f64], reference: &[u64], current: &[u64], distinct: bool) -> f64 {
    let (n, m) = (reference.iter().sum::<u64>(), current.iter().sum::<u64>());
    if n == 0 || m == 0 {
        return 0.0;
    }
    let (mut below_r, mut below_c) = (0u64, 0u64);
    // The difference at each edge, what lies before it counted.
    let mut differences = reference.iter().zip(current).map(|(&r, &c)| {
        below_r += r;
        below_c += c;
        below_r as f64 / n as f64 - below_c as f64 / m as f64
    });
    let mut before = differences.next().unwrap_or(0.0);
    let mut sum = 0.0;
    for (pair, after) in edges.windows(2).zip(differences) {
        let width = pair[1] - pair[0];
        let (a, b) = (before.abs(), after.abs());
        sum += if distinct {
            width * b
        } else if before * after >= 0.0 {
            width * 0.5 * (a + b)
        } else {
            width * 0.5 * (a * a + b * b) / (a + b)
        };
        before = after;
    }
    sum
}

/// Benjamini-Hochberg adjusted p-values, in the order given: the smallest level
/// of false discoveries at which each would be rejected (Benjamini and Hochberg
/// 1995).
pub fn benjamini_hochberg(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let mut adjusted = vec![1.0; p.len()];
    let mut least = 1.0f64;
    for (rank, &at) in order.iter().enumerate().rev() {
        least = least.min(p[at] * p.len() as f64 / (rank + 1) as f64);
        adjusted[at] = least;
    }
    adjusted
}

/// How likely `count` or more of `rows` are where each is with the probability
/// `share`: the exact one-sided binomial test (Clopper and Pearson 1934).
pub fn binomial_greater(count: u64, rows: u64, share: f64) -> f64 {
    if count == 0 || share >= 1.0 {
        return f64::from(u8::from(count <= rows));
    }
    if count > rows || share <= 0.0 {
        return 0.0;
    }
    let odds = share / (1.0 - share);
    let probability = |k: u64| {
        let ln = ln_choose(rows, k) + k as f64 * libm::log(share) + (rows - k) as f64 * libm::log1p(-share);
        libm::exp(ln)
    };
    // From the end that is farther from the mean terms fall; the others are
    // soon too small to matter.
    let add = |first: f64, next: &mut dyn FnMut() -> Option<f64>| {
        let (mut term, mut sum) = (first, first);
        while let Some(ratio) = next() {
            term *= ratio;
            sum += term;
            if term <= sum * 1e-17 {
                break;
            }
        }
        sum
    };
    let mut at = count;
    if count as f64 > rows as f64 * share {
        let sum = add(probability(count), &mut || {
            at += 1;
            (at <= rows).then(|| (rows - at + 1) as f64 / at as f64 * odds)
        });
        return sum.min(1.0);
    }
    at -= 1;
    let below = add(probability(count - 1), &mut || {
        let ratio = (at > 0).then(|| at as f64 / (rows - at + 1) as f64 / odds);
        at = at.saturating_sub(1);
        ratio
    });
    (1.0 - below).clamp(0.0, 1.0)
}

/// The standard normal quantile of 97.5 %, for intervals of 95 %.
pub const Z_95: f64 = 1.959_963_984_540_054;

/// The bounds of the score interval for a share of `count` of `total`, whose
/// standard normal quantile is `z` (Wilson 1927, "Probable inference, the law
/// of succession, and statistical inference"); (0, 1) of nothing.
pub fn wilson(count: f64, total: f64, z: f64) -> (f64, f64) {
    if total <= 0.0 {
        return (0.0, 1.0);
    }
    let p = count.min(total) / total;
    let z2 = z * z;
    let center = p + z2 / (2.0 * total);
    let spread = z * libm::sqrt(p * (1.0 - p) / total + z2 / (4.0 * total * total));
    let scale = 1.0 + z2 / total;
    // At the ends the roots are exact, which rounding would miss by a little.
    let low = if p <= 0.0 { 0.0 } else { (center - spread) / scale };
    let high = if p >= 1.0 { 1.0 } else { (center + spread) / scale };
    (low.clamp(0.0, 1.0), high.clamp(0.0, 1.0))
}

/// [`wilson`] with a correction for continuity, after which few rows are as
/// unsure as the binomial distribution makes them (Newcombe 1998, "Two-sided
/// confidence intervals for the single proportion: comparison of seven methods",
/// Statistics in Medicine 17, method 4).
pub fn wilson_corrected(count: f64, total: f64, z: f64) -> (f64, f64) {
    if total <= 0.0 {
        return (0.0, 1.0);
    }
    let p = count.min(total) / total;
    let (q, z2) = (1.0 - p, z * z);
    let scale = 2.0 * (total + z2);
    let spread = |side: f64| {
        let square = z2 - side * 2.0 - 1.0 / total + 4.0 * p * (total * q + side);
        1.0 + z * libm::sqrt(square.max(0.0))
    };
    let low = match p <= 0.0 {
        true => 0.0,
        false => (2.0 * total * p + z2 - spread(1.0)) / scale,
    };
    let high = match p >= 1.0 {
        true => 1.0,
        false => (2.0 * total * p + z2 + spread(-1.0)) / scale,
    };
    (low.clamp(0.0, 1.0), high.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(got: f64, expected: f64) {
        assert!(
            (got - expected).abs() <= 1e-12 + 1e-10 * expected.abs(),
            "{got} is not {expected}"
        );
    }

    #[test]
    fn wilsons_interval_by_hand() {
        // 8 of 10: Wilson's interval is [0.4902, 0.9433].
        let (low, high) = wilson(8.0, 10.0, Z_95);
        assert!((low - 0.4902).abs() <= 1e-4, "{low}");
        assert!((high - 0.9433).abs() <= 1e-4, "{high}");
        for total in 1..200 {
            let total = f64::from(total);
            assert_eq!(wilson(0.0, total, Z_95).0, 0.0, "0 of {total}");
            assert_eq!(wilson(total, total, Z_95).1, 1.0, "{total} of {total}");
        }
    }

    /// Newcombe's table I, method 4.
    #[test]
    fn the_corrected_interval_is_newcombes() {
        for (count, total, low, high) in [
            (81.0, 263.0, 0.2535, 0.3682),
            (15.0, 148.0, 0.0598, 0.1644),
            (0.0, 20.0, 0.0, 0.2005),
            (1.0, 29.0, 0.0018, 0.1963),
        ] {
            let got = wilson_corrected(count, total, Z_95);
            assert!((got.0 - low).abs() <= 6e-5 && (got.1 - high).abs() <= 6e-5, "{got:?}");
            let plain = wilson(count, total, Z_95);
            assert!(got.0 <= plain.0 && got.1 >= plain.1, "{got:?} {plain:?}");
        }
        assert_eq!(wilson_corrected(0.0, 0.0, Z_95), (0.0, 1.0));
        assert_eq!(wilson_corrected(7.0, 7.0, Z_95).1, 1.0);
    }

    /// The values are sums of exact fractions.
    #[test]
    fn binomial_tails_are_exact() {
        for (count, rows, share, expected) in [
            (0, 100, 0.01, 1.0),
            (1, 100, 0.01, 0.633_967_658_726_770_8),
            (2, 3, 0.5, 0.5),
            (4, 100, 0.01, 0.018374036444649657),
            (5, 100, 0.01, 0.003432321587754515),
            (10, 2000, 0.01, 0.9951632298136821),
            (120, 10_000, 0.01, 0.02759725630206631),
            (55, 1000, 0.05, 0.252881913852047),
            (3, 2, 0.5, 0.0),
            (2, 2, 1.0, 1.0),
            (1, 2, 0.0, 0.0),
            (1, 0, 0.5, 0.0),
        ] {
            let got = binomial_greater(count, rows, share);
            assert!(
                (got - expected).abs() <= 1e-9 * expected,
                "{count} of {rows}: {got} is not {expected}"
            );
        }
    }

    #[test]
    fn half_a_count_is_added_to_each_cell() {
        // (0 + .5) / (3 + 1) and (3 + .5) / 4.
        assert_eq!(smoothed(&[0, 3]), [0.125, 0.875]);
    }

    #[test]
    fn psi_by_hand() {
        // (.75 - .5) ln(.75 / .5) + (.25 - .5) ln(.25 / .5) = .25 ln 1.5 + .25 ln 2 = .25 ln 3.
        near(psi(&[0.5, 0.5], &[0.75, 0.25]), 0.25 * 3.0f64.ln());
        assert_eq!(psi(&[0.5, 0.5], &[0.5, 0.5]), 0.0);
    }

    #[test]
    fn kl_by_hand() {
        // .75 ln 1.5 + .25 ln .5.
        near(kl(&[0.5, 0.5], &[0.75, 0.25]), 0.75 * 1.5f64.ln() - 0.25 * 2.0f64.ln());
        // The other way round it is another number: .5 ln(2 / 3) + .5 ln 2.
        near(kl(&[0.75, 0.25], &[0.5, 0.5]), 0.5 * (4.0f64 / 3.0).ln());
        near(kl(&[0.5, 0.5], &[1.0, 0.0]), 2.0f64.ln());
    }

    #[test]
    fn js_distance_by_hand() {
        // Nothing in common is the largest distance there is.
        near(js_distance(&[1.0, 0.0], &[0.0, 1.0]), 1.0);
        // m = (.75, .25): ½ (1 · log2(1 / .75)) + ½ (.5 log2(.5 / .75) + .5 log2(.5 / .25)).
        let expected = 0.5 * (4.0f64 / 3.0).log2() + 0.25 * ((2.0f64 / 3.0).log2() + 1.0);
        near(js_distance(&[1.0, 0.0], &[0.5, 0.5]), expected.sqrt());
    }

    #[test]
    fn ks_by_hand() {
        // F = .5, .75, 1 and G = .25, .25, 1: they differ by .25, .5, 0.
        assert_eq!(ks_statistic(&[2, 1, 1], &[1, 0, 3]), 0.5);
        // Two against two: of the 6 orders only aabb and bbaa differ by 1.
        near(ks_p(1.0, 2, 2), 2.0 / 6.0);
        // All orders but abab, abba, baab, baba do not reach .5; those do.
        near(ks_p(0.5, 2, 2), 1.0);
        assert_eq!(ks_p(0.0, 10, 10), 1.0);
    }

    #[test]
    fn kolmogorov_is_one_function_on_both_sides_of_the_switch() {
        near(kolmogorov(1.18 - 1e-13), kolmogorov(1.18));
        // The 5 % point of Smirnov's table of 1948.
        assert!((kolmogorov(1.3581) - 0.05).abs() < 1e-5);
    }

    #[test]
    fn chi_square_by_hand() {
        // Expected 15 and 15 in both rows: 4 · 25 / 15 with one degree of freedom.
        let test = chi_square(&[10, 20], &[20, 10], 5.0);
        near(test.statistic, 100.0 / 15.0);
        assert_eq!(test.degrees, 1);
        // With two degrees the tail is exp(-x / 2).
        near(chi_square_tail(3.0, 2), (-1.5f64).exp());
        near(chi_square_tail(30.0, 2), (-15.0f64).exp());
        // With four, exp(-x / 2) (1 + x / 2).
        near(chi_square_tail(1.0, 4), (-0.5f64).exp() * 1.5);
    }

    #[test]
    fn small_cells_are_pooled() {
        // 8 and 6 of 200 are below 5 in the smaller row; together they are not.
        let pooled = chi_square(&[91, 4, 5], &[95, 4, 1], 5.0);
        assert_eq!(pooled, chi_square(&[91, 9], &[95, 5], 5.0));
        // Four alone are too few, so the smaller of the others joins them.
        let joined = chi_square(&[50, 48, 2], &[40, 58, 2], 5.0);
        assert_eq!(joined, chi_square(&[48, 52], &[58, 42], 5.0));
        assert_eq!(chi_square(&[3], &[4], 5.0).p, 1.0);
        assert_eq!(chi_square(&[3, 1], &[1, 3], 5.0).p, 1.0);
    }

    #[test]
    fn fisher_by_hand() {
        // The lady tasting tea: 3 or 4 of 4 right, (16 + 1) / 70.
        near(fisher_greater(1, 4, 3, 4), 17.0 / 70.0);
        near(fisher_greater(0, 4, 4, 4), 1.0 / 70.0);
        // The other side of the middle: all but the 1 of 70 with none.
        near(fisher_greater(3, 4, 1, 4), 69.0 / 70.0);
        assert_eq!(fisher_greater(5, 10, 0, 10), 1.0);
        // All marked: nothing else could be.
        near(fisher_greater(10, 10, 10, 10), 1.0);
    }

    #[test]
    fn fisher_is_quick_and_finite_on_billions() {
        let p = fisher_greater(1_000_000, 1_000_000_000, 1_003_000, 1_000_000_000);
        // The normal approximation of the same: z = 3000 / √(2 003 000).
        assert!((p - 0.01701).abs() < 1e-4, "{p}");
    }

    #[test]
    fn exceedance_by_hand() {
        // One new value against two: in one of the three places it is between them.
        near(exceedance(1, 1, 2), 2.0 / 3.0);
        // Two new against two: of 6 orders aabb, abba, baab... both are out of
        // the range in bbaa, baab, aabb.
        near(exceedance(2, 2, 2), 0.5);
        assert_eq!(exceedance(0, 10, 10), 1.0);
        // All 3 beyond both of 1,000,000 others is (3 + 1) 3! m! / (m + 3)! · m (m - 1) / 1.
        let m = 1e6;
        let expected = 4.0 * 6.0 / ((m + 3.0) * (m + 2.0) * (m + 1.0));
        assert!((exceedance(3, 3, 1_000_000) / expected - 1.0).abs() < 1e-6);
    }

    #[test]
    fn wasserstein_by_hand() {
        // All of [0, 1) against all of [1, 2): each value goes by 1.
        near(wasserstein(&[0.0, 1.0, 2.0], &[0, 1, 0, 0], &[0, 0, 1, 0], false), 1.0);
        // Spread over [0, 2) against all in [0, 1): from uniform on 2 to uniform on 1 it is ½.
        near(wasserstein(&[0.0, 1.0, 2.0], &[0, 1, 1, 0], &[0, 1, 0, 0], false), 0.5);
        // Half at 0 and half at 3 against all at 0.
        near(wasserstein(&[0.0, 3.0, 3.0], &[0, 1, 1, 0], &[0, 2, 0, 0], true), 1.5);
        // Beyond the range is at its end: half of the values go from the middle of it.
        near(wasserstein(&[0.0, 4.0], &[0, 2, 0], &[1, 1, 0], false), 1.0);
        // Differences of both signs, ½ and -½: two triangles of ½ · ½.
        near(wasserstein(&[0.0, 2.0], &[1, 0, 1], &[0, 2, 0], false), 0.5);
    }

    #[test]
    fn benjamini_hochberg_by_hand() {
        // .01 · 3 / 1, .03 · 3 / 2 but at most .04 · 3 / 3.
        let adjusted = benjamini_hochberg(&[0.04, 0.01, 0.03]);
        for (got, expected) in adjusted.iter().zip([0.04, 0.03, 0.04]) {
            near(*got, expected);
        }
        assert!(benjamini_hochberg(&[]).is_empty());
    }

    /// scipy's values: `tests/oracle/make.py`.
    fn oracle(name: &str) -> Vec<serde_json::Value> {
        let text = include_str!("../../tests/oracle/scipy.json");
        let all: serde_json::Value = serde_json::from_str(text).unwrap();
        let cases = all[name].as_array().unwrap().clone();
        assert!(!cases.is_empty());
        cases
    }

    fn counts(case: &serde_json::Value, name: &str) -> Vec<u64> {
        serde_json::from_value(case[name].clone()).unwrap()
    }

    fn numbers(case: &serde_json::Value, name: &str) -> Vec<f64> {
        serde_json::from_value(case[name].clone()).unwrap()
    }

    #[track_caller]
    fn within(relative: f64, got: f64, case: &serde_json::Value, name: &str) {
        let expected = case[name].as_f64().unwrap();
        // Below 1e-300 there is nothing to be relative to.
        assert!(
            (got - expected).abs() <= relative * expected.abs() + 1e-300,
            "{name}: {got} is not {expected} in {case}"
        );
    }

    #[test]
    fn ks_and_wasserstein_of_values_with_ties_are_scipys() {
        for case in oracle("tied") {
            let (reference, current) = (counts(&case, "reference"), counts(&case, "current"));
            within(1e-12, ks_statistic(&reference, &current), &case, "ks");
            let edges: Vec<f64> = (0..60).chain([59]).map(f64::from).collect();
            let outside = |inside: Vec<u64>| [vec![0], inside, vec![0]].concat();
            let distance = wasserstein(&edges, &outside(reference), &outside(current), true);
            within(1e-12, distance, &case, "wasserstein");
        }
    }

    #[test]
    fn ks_p_values_are_scipys() {
        for case in oracle("ks_p") {
            let size = |name: &str| case[name].as_u64().unwrap();
            let (n, m) = (size("n"), size("m"));
            let p = ks_p(case["statistic"].as_f64().unwrap(), n, m);
            assert_eq!(p, ks_p(case["statistic"].as_f64().unwrap(), m, n));
            let expected = case["p"].as_f64().unwrap();
            let tolerance = match () {
                () if n * m <= KS_EXACT_MAX => 1e-9,
                () if expected >= 1e-4 => 0.08,
                // Far below any threshold only the size matters.
                () if expected >= 1e-12 => 0.5,
                () => {
                    assert!(p < 1e-10, "{p} in {case}");
                    continue;
                }
            };
            within(tolerance, p, &case, "p");
        }
    }

    #[test]
    fn chi_square_and_divergences_are_scipys() {
        for case in oracle("categories") {
            let (reference, current) = (counts(&case, "reference"), counts(&case, "current"));
            let test = chi_square(&reference, &current, 5.0);
            within(1e-10, test.statistic, &case, "chi_square");
            assert_eq!(test.degrees as u64, case["degrees"].as_u64().unwrap());
            within(1e-9, test.p, &case, "p");
            let shares = |counts: &[u64]| -> Vec<f64> {
                let total = counts.iter().sum::<u64>() as f64;
                counts.iter().map(|&count| count as f64 / total).collect()
            };
            // A root of a difference near 0 has half the digits.
            let distance = js_distance(&shares(&reference), &shares(&current));
            within(1e-8, distance, &case, "js_distance");
            let (r, c) = (smoothed(&reference), smoothed(&current));
            within(1e-8, js_distance(&r, &c), &case, "smoothed_js_distance");
            within(1e-8, kl(&r, &c), &case, "kl");
            within(1e-8, psi(&r, &c), &case, "psi");
        }
    }

    #[test]
    fn chi_square_tails_are_scipys() {
        for case in oracle("tails") {
            let degrees = case["degrees"].as_u64().unwrap() as usize;
            within(1e-10, chi_square_tail(case["x"].as_f64().unwrap(), degrees), &case, "p");
        }
    }

    #[test]
    fn fishers_test_is_scipys() {
        for case in oracle("proportions") {
            let count = |name: &str| case[name].as_u64().unwrap();
            let p = fisher_greater(
                count("reference"),
                count("reference_rows"),
                count("current"),
                count("current_rows"),
            );
            within(1e-8, p, &case, "p");
        }
    }

    #[test]
    fn exceedances_are_scipys_beta_binomial() {
        for case in oracle("exceedances") {
            let count = |name: &str| case[name].as_u64().unwrap();
            let p = exceedance(count("count"), count("values"), count("reference_values"));
            within(1e-8, p, &case, "p");
        }
    }

    #[test]
    fn wasserstein_of_spread_values_is_scipys() {
        for case in oracle("spread") {
            let (reference, current) = (counts(&case, "reference"), counts(&case, "current"));
            let distance = wasserstein(&numbers(&case, "edges"), &reference, &current, false);
            // scipy's has 400 values a bin in place of a continuum.
            within(1e-4, distance, &case, "wasserstein");
        }
    }

    #[test]
    fn adjusted_p_values_are_scipys() {
        for case in oracle("adjusted") {
            let adjusted = benjamini_hochberg(&numbers(&case, "p"));
            for (got, expected) in adjusted.iter().zip(numbers(&case, "adjusted")) {
                near(*got, expected);
            }
        }
    }
}
