//! Goal: both kernel backs do the same, as far as whoever uses sockets can see.
//! Method: one check for both, through `dyn Ring` alone, against real sockets: peers of the standard
//! library, or the ring's own other end. Waiting goes through `arm`, the signal and `disarm`, as a
//! shard's does, so every check is one of these too. What the kernel may answer differently (which
//! of two completions comes first) is not asked for.

mod rig;
mod opening;
mod receiving;
mod sending;

use super::{KINDS, Token};

#[test]
fn a_token_gives_back_what_it_was_made_of() {
    for kind in KINDS {
        for key in [1 << 32, (7 << 32) | 5, (u64::from(u32::MAX) << 32) | 0x00ff_ffff] {
            let token = Token::from_bits(Token::new(key, kind).bits());
            assert_eq!((token.key(), token.kind()), (key, kind));
            assert_eq!(token.slot() as u64, key & 0x00ff_ffff);
        }
    }
}
