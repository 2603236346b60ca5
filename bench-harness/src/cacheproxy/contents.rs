//! What keys are called, and what every write of them holds: all of it follows from numbers.
//!
//! A value begins with the number of its key and the number of the write, so that a value of another
//! key, and which write it is of, can be told; what follows is made from both and from the seed, in
//! words of eight bytes, so that a value that is put together of two writes is found. Its length is
//! drawn for each write, and a value of the wrong length is found, too.

use bytes::Bytes;
use forebay_workloads::cacheproxy::load::{Load, Sizes};
use forebay_workloads::cacheproxy::operation::Key;

/// Bytes of one of the two numbers at the front.
const NUMBER_BYTES: usize = size_of::<u32>();
const HEAD_BYTES: usize = 2 * NUMBER_BYTES;
const WORD_BYTES: usize = size_of::<u64>();
/// From one word of a filling to the next: odd, so that no two of the first 2^64 are alike. The
/// fraction of the golden ratio, as splitmix64 has it.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Which key, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct KeyIdx(pub(super) u32);

/// Which write of a key, from 1; 0 stands before the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Version(pub(super) u32);

/// All keys, and the law of their values.
#[derive(Debug)]
pub(super) struct Contents {
    keys: Vec<Key>,
    value_bytes: Sizes,
    seed: u64,
}

impl Contents {
    pub(super) fn new(load: &Load, seed: u64) -> Self {
        let key = |idx: u32| {
            let n_bytes = load.key_bytes.at(mixed(seed ^ u64::from(idx))) as usize;
            let name = format!("{idx:0>n_bytes$}");
            Key::new(name.as_bytes()).expect("the file's check bounds the length of keys")
        };
        Self {
            keys: (0..load.keys).map(key).collect(),
            value_bytes: load.value_bytes.clone(),
            seed,
        }
    }

    /// All keys.
    pub(super) fn all(&self) -> impl Iterator<Item = KeyIdx> + use<> {
        let n_keys = u32::try_from(self.keys.len()).expect("the file's check bounds keys");
        (0..n_keys).map(KeyIdx)
    }

    /// What a key is called.
    pub(super) fn key(&self, idx: KeyIdx) -> &Key {
        &self.keys[idx.0 as usize]
    }

    /// The client's own 32 bits of every value of a key.
    pub(super) const fn flags(idx: KeyIdx) -> u32 {
        idx.0
    }

    /// What a write holds.
    pub(super) fn value(&self, idx: KeyIdx, version: Version) -> Bytes {
        let (n_bytes, words) = self.shape(idx, version);
        let mut value = Vec::with_capacity(n_bytes + WORD_BYTES);
        value.extend_from_slice(&idx.0.to_le_bytes());
        value.extend_from_slice(&version.0.to_le_bytes());
        for word in words.take(n_bytes.saturating_sub(HEAD_BYTES).div_ceil(WORD_BYTES)) {
            value.extend_from_slice(&word);
        }
        value.truncate(n_bytes);
        value.into()
    }

    /// Which write of a key a value is, or why it is none.
    pub(super) fn version(&self, idx: KeyIdx, value: &[u8]) -> Result<Version, String> {
        let Some((head, filling)) = value.split_first_chunk::<HEAD_BYTES>() else {
            return Err(format!("a value of {} bytes, shorter than any", value.len()));
        };
        let [k0, k1, k2, k3, v0, v1, v2, v3] = *head;
        let of = u32::from_le_bytes([k0, k1, k2, k3]);
        let version = Version(u32::from_le_bytes([v0, v1, v2, v3]));
        if of != idx.0 {
            return Err(format!("a value of key {of}"));
        }
        let (n_bytes, mut words) = self.shape(idx, version);
        if value.len() != n_bytes {
            let (version, n_bytes_is) = (version.0, value.len());
            return Err(format!("write {version} with {n_bytes_is} bytes instead of {n_bytes}"));
        }
        let is_right = |chunk: &[u8]| words.next().is_some_and(|word| word.starts_with(chunk));
        if filling.chunks(WORD_BYTES).all(is_right) {
            Ok(version)
        } else {
            Err(format!("write {} whose bytes are not those that were written", version.0))
        }
    }

    /// The length of a value, and the words behind its head.
    fn shape(
        &self,
        idx: KeyIdx,
        version: Version,
    ) -> (usize, impl Iterator<Item = [u8; 8]> + use<>) {
        let number = u64::from(idx.0) << u32::BITS | u64::from(version.0);
        let mut word = mixed(self.seed.wrapping_add(number));
        let n_bytes = self.value_bytes.at(word) as usize;
        let words = std::iter::repeat_with(move || {
            word = word.wrapping_add(STEP);
            word.to_le_bytes()
        });
        (n_bytes, words)
    }
}

/// Spreads a number over 64 bits: the finish of splitmix64.
const fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(STEP);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(more: &str) -> Contents {
        let text = format!(r#"{{"connections": 1, "keys": 1000{more}}}"#);
        Contents::new(&serde_json::from_str(&text).unwrap(), 7)
    }

    const KEY: KeyIdx = KeyIdx(42);

    #[test]
    fn keys_differ_and_have_the_lengths_that_were_asked_for() {
        let contents = contents(r#", "key_bytes": {"uniform": {"least": 3, "most": 20}}"#);
        let mut names: Vec<&[u8]> =
            contents.all().map(|idx| contents.key(idx).as_bytes()).collect();
        let lengths: std::collections::BTreeSet<usize> =
            names.iter().map(|name| name.len()).collect();
        assert_eq!(lengths, (3..=20).collect());
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 1_000);
    }

    #[test]
    fn a_value_tells_which_write_it_is() {
        for n_bytes in [8, 9, 15, 16, 100] {
            let contents = contents(&format!(r#", "value_bytes": {{"fixed": {n_bytes}}}"#));
            for version in [1, 2, 70_000].map(Version) {
                let value = contents.value(KEY, version);
                assert_eq!(value.len(), n_bytes);
                assert_eq!(contents.version(KEY, &value), Ok(version));
            }
        }
    }

    #[test]
    fn every_spoiled_byte_is_found() {
        let contents = contents("");
        let value = contents.value(KEY, Version(3));
        for byte_idx in 0..value.len() {
            let mut spoiled = value.to_vec();
            spoiled[byte_idx] ^= 1;
            assert!(contents.version(KEY, &spoiled).is_err(), "byte {byte_idx} is not looked at");
        }
    }

    #[test]
    fn foreign_torn_and_cut_values_are_found() {
        let contents = contents(r#", "value_bytes": {"uniform": {"least": 20, "most": 90}}"#);
        let wrong = |value: &[u8]| contents.version(KEY, value).unwrap_err();
        assert_eq!(wrong(&contents.value(KeyIdx(43), Version(1))), "a value of key 43");
        let (one, other) = (contents.value(KEY, Version(1)), contents.value(KEY, Version(2)));
        let torn = [&one[..16], &other[16..]].concat();
        assert!(wrong(&torn).starts_with("write 1 "), "{}", wrong(&torn));
        assert!(wrong(&one[..one.len() - 1]).contains("instead of"));
        assert!(wrong(b"").contains("shorter than any"));
    }
}
