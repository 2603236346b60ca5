//! The statistics behind a verdict, small and pure: numbers in, numbers out.
//!
//! The unit of replication is a repetition, so samples are small (4 to some dozens) and every rule here
//! is exact where it can be. None assumes a normal distribution: repetition times are skewed by the host.

mod hodges_lehmann;
mod holm;
mod mann_whitney;
mod median;
mod signed_rank;

pub use hodges_lehmann::{Design, Samples, Shift};
pub use holm::levels as holm_levels;
pub(crate) use mann_whitney::count_to_f64;
pub use median::{median, median_ci95};

/// Returns the standard normal's quantile (Acklam's approximation, relative error below 1.2e-9).
pub(crate) fn normal_quantile(probability: f64) -> f64 {
    const A: [f64; 6] = [
        -3.969_683_028_665_376e1,
        2.209_460_984_245_205e2,
        -2.759_285_104_469_687e2,
        1.383_577_518_672_69e2,
        -3.066_479_806_614_716e1,
        2.506_628_277_459_239,
    ];
    const B: [f64; 5] = [
        -5.447_609_879_822_406e1,
        1.615_858_368_580_409e2,
        -1.556_989_798_598_866e2,
        6.680_131_188_771_972e1,
        -1.328_068_155_288_572e1,
    ];
    const C: [f64; 6] = [
        -7.784_894_002_430_293e-3,
        -3.223_964_580_411_365e-1,
        -2.400_758_277_161_838,
        -2.549_732_539_343_734,
        4.374_664_141_464_968,
        2.938_163_982_698_783,
    ];
    const D: [f64; 4] = [
        7.784_695_709_041_462e-3,
        3.224_671_290_700_398e-1,
        2.445_134_137_142_996,
        3.754_408_661_907_416,
    ];
    const TAIL: f64 = 0.024_25;
    let polynomial =
        |coefficients: &[f64], x: f64| coefficients.iter().fold(0.0, |sum, c| sum * x + c);
    let lower_tail = |p: f64| {
        let q = (-2.0 * p.ln()).sqrt();
        polynomial(&C, q) / (polynomial(&D, q) * q + 1.0)
    };
    if probability < TAIL {
        lower_tail(probability)
    } else if probability > 1.0 - TAIL {
        -lower_tail(1.0 - probability)
    } else {
        let q = probability - 0.5;
        let r = q * q;
        polynomial(&A, r) * q / (polynomial(&B, r) * r + 1.0)
    }
}

/// Returns the standard normal's distribution function (error below 1.2e-7, by the complementary error
/// function's rational Chebyshev fit).
pub(crate) fn normal_cdf(z: f64) -> f64 {
    let x = z.abs() / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + 0.5 * x);
    const FIT: [f64; 10] = [
        0.170_872_77,
        -0.822_152_23,
        1.488_515_87,
        -1.135_203_98,
        0.278_868_07,
        -0.186_288_06,
        0.096_784_18,
        0.374_091_96,
        1.000_023_68,
        -1.265_512_23,
    ];
    let exponent = FIT.iter().fold(0.0, |sum, c| sum * t + c);
    let complementary = t * (-x * x + exponent).exp();
    if z >= 0.0 { 1.0 - complementary / 2.0 } else { complementary / 2.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_normal_functions_agree_with_an_oracle() {
        use statrs::distribution::{ContinuousCDF, Normal};
        let oracle = Normal::standard();
        for step in 1..1000 {
            let probability = f64::from(step) / 1000.0;
            let z = normal_quantile(probability);
            assert!((z - oracle.inverse_cdf(probability)).abs() < 1e-6, "{probability}: {z}");
            assert!((normal_cdf(z) - probability).abs() < 1e-6, "{probability}");
        }
    }
}
