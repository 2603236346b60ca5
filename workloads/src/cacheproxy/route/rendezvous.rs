//! Rendezvous hashing: every server scores for the key, and the highest has it.
//!
//! A server's score does not depend on the others, so a server that is added takes keys from all, and
//! gives them back when it goes. With weights the score is `weight / -ln(u)` for a `u` in (0, 1) that
//! the hash gives (Wang and Ravishankar 1998; the logarithm is that of the weighted kind, Schindelhauer
//! and Schomaker 2005), which makes each server's part its weight by the sum of all.

use xxhash_rust::xxh3::xxh3_64;

use super::{ServerIdx, Weighted};

#[derive(Debug, Clone)]
pub(super) struct Rendezvous {
    servers: Vec<Seeded>,
}

#[derive(Debug, Clone, Copy)]
struct Seeded {
    seed: u64,
    weight: f64,
}

impl Rendezvous {
    pub(super) fn new(servers: &[Weighted]) -> Self {
        let seeded = |server: &Weighted| Seeded {
            seed: xxh3_64(server.name.as_bytes()),
            weight: f64::from(server.weight.get()),
        };
        Self { servers: servers.iter().map(seeded).collect() }
    }

    pub(super) fn server(&self, key: &[u8]) -> ServerIdx {
        let hash = xxh3_64(key);
        let scores = self.servers.iter().map(|server| server.score(hash));
        let best = scores.enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b));
        ServerIdx(best.expect("a route has at least one server").0)
    }
}

impl Seeded {
    fn score(&self, hash: u64) -> f64 {
        let mixed = mix(hash ^ self.seed);
        // The middle of one of 2^53 steps between 0 and 1: never either end.
        #[expect(clippy::cast_precision_loss, reason = "11 bits are shifted out before")]
        let u = ((mixed >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        self.weight / -u.ln()
    }
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood 2014): each bit of the input turns half of the
/// output's.
const fn mix(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
