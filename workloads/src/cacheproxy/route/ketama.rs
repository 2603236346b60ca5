//! Ketama: points on a ring of MD5 hashes, as libmemcached and twemproxy place them.
//!
//! Each server has 160 points on average, by its weight, four from each digest of `name-number`; a key
//! belongs to the first point at or behind its own hash. All that decides where a key goes, down to the
//! rounding of the number of points in single precision, is twemproxy's, since the point is to agree.

use md5::{Digest, Md5};

use super::{ServerIdx, Weighted};

/// Points of a server of average weight.
const POINTS_PER_SERVER: f32 = 160.0;
/// Points that one digest gives.
const POINTS_PER_DIGEST: f32 = 4.0;
/// What twemproxy adds before it cuts off the fraction.
const ROUNDING: f64 = 0.000_000_000_1;

#[derive(Debug, Clone)]
pub(super) struct Ketama {
    /// In order of their hashes.
    points: Vec<(u32, ServerIdx)>,
}

impl Ketama {
    pub(super) fn new(servers: &[Weighted]) -> Self {
        let total: u64 = servers.iter().map(|server| u64::from(server.weight.get())).sum();
        let mut points = Vec::new();
        for (idx, server) in servers.iter().enumerate() {
            for number in 0..n_digests(server.weight.get(), total, servers.len()) {
                let digest = Md5::digest(format!("{}-{number}", server.name));
                let (quarters, _rest) = digest.as_chunks::<4>();
                let hashes = quarters.iter().map(|quarter| u32::from_le_bytes(*quarter));
                points.extend(hashes.map(|hash| (hash, ServerIdx(idx))));
            }
        }
        points.sort_unstable();
        Self { points }
    }

    pub(super) fn server(&self, key: &[u8]) -> ServerIdx {
        let digest = Md5::digest(key);
        let (quarters, _rest) = digest.as_chunks::<4>();
        let hash = u32::from_le_bytes(quarters[0]);
        let at = self.points.partition_point(|(point, _)| *point < hash);
        // Behind the last point comes the first. A server too light to have a point has no key, and
        // the heaviest always has some.
        let (_, server) = self.points.get(at).unwrap_or(&self.points[0]);
        *server
    }
}

/// Digests of a server of this weight, as twemproxy computes them.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the rounding of single precision is part of what has to agree"
)]
fn n_digests(weight: u32, total: u64, n_servers: usize) -> u32 {
    let part = weight as f32 / total as f32;
    let n_digests = part * POINTS_PER_SERVER / POINTS_PER_DIGEST * n_servers as f32;
    (f64::from(n_digests) + ROUNDING) as f32 as u32
}
