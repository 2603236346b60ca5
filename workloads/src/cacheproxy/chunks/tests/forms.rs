//! Pieces and metadata without any server: cut, damaged, exchanged, joined.

use rand_xoshiro::rand_core::Rng as _;

use super::super::metadata::{METADATA_BYTES, Token, looks_like_metadata};
use super::*;

const ROUNDS: u64 = 2_000;

struct Random(Xoshiro256PlusPlus);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.0.next_u64() % end as u64).unwrap()
    }
}

/// A value of a random size near the bounds of pieces, cut.
struct Cut {
    value: Bytes,
    metadata: Metadata,
    pieces: Vec<Bytes>,
}

impl Cut {
    fn new(random: &mut Random) -> Self {
        let piece_bytes = 1 + random.below(40);
        let n_full = random.below(6);
        let n_bytes = (n_full * piece_bytes + random.below(3)).saturating_sub(1).max(1);
        let value: Bytes = (0..n_bytes).map(|_| random.below(256).to_le_bytes()[0]).collect();
        Self::of(value, u32::try_from(piece_bytes).unwrap(), random.0.next_u64())
    }

    fn of(value: Bytes, piece_bytes: u32, salt: u64) -> Self {
        let token = Token::of(&key("a"), &value, salt);
        let metadata = Metadata::new(token, &value, piece_bytes);
        let pieces = (0..metadata.n_pieces()).map(|idx| metadata.piece(&value, idx)).collect();
        Self { value, metadata, pieces }
    }
}

/// Cuts many random values, and holds each against a claim.
fn check(claim: impl Fn(&mut Random, Cut)) {
    for seed in 0..ROUNDS {
        let mut random = Random(Xoshiro256PlusPlus::seed_from_u64(seed));
        let cut = Cut::new(&mut random);
        claim(&mut random, cut);
    }
}

#[test]
fn what_was_cut_is_joined_to_what_it_was() {
    check(|_random, cut| {
        let item = cut.metadata.encode();
        assert_eq!(item.len(), METADATA_BYTES);
        assert!(looks_like_metadata(&item));
        let bound = cut.metadata.value_bytes();
        assert_eq!(Form::of(&item, bound), Form::Cut(cut.metadata));
        assert_eq!(Form::of(&item, bound - 1), Form::Damaged);
        assert_eq!(cut.metadata.join(&cut.pieces), Some(cut.value));
    });
}

#[test]
fn metadata_with_any_bit_changed_tells_of_nothing() {
    check(|random, cut| {
        let mut item = cut.metadata.encode().to_vec();
        item[random.below(METADATA_BYTES)] ^= 1 << random.below(8);
        assert!(!matches!(Form::of(&item, u32::MAX), Form::Cut(_)), "{item:?}");
        item.truncate(random.below(METADATA_BYTES));
        assert_eq!(Form::of(&item, u32::MAX), Form::Whole);
    });
}

#[test]
fn metadata_that_is_well_checked_but_impossible_is_damaged() {
    let check = |value_bytes: u32, piece_bytes: u32, possible: bool| {
        let mut item = Cut::of(Bytes::from_static(b"x"), 1, 0).metadata.encode().to_vec();
        item[24..28].copy_from_slice(&value_bytes.to_le_bytes());
        item[28..32].copy_from_slice(&piece_bytes.to_le_bytes());
        let check = xxhash_rust::xxh3::xxh3_64(&item[..32]);
        item[32..].copy_from_slice(&check.to_le_bytes());
        let form = Form::of(&item, u32::MAX);
        assert_eq!(matches!(form, Form::Cut(_)), possible, "{value_bytes} by {piece_bytes}");
        assert_eq!(form == Form::Damaged, !possible, "{value_bytes} by {piece_bytes}");
    };
    check(8_192, 1, true);
    check(8_193, 1, false);
    check(0, 1, false);
    check(1, 0, false);
    check(u32::MAX, u32::MAX, true);
    check(u32::MAX, 1 << 19, true);
    check(u32::MAX, (1 << 19) - 1, false);
}

#[test]
fn pieces_that_are_lost_swapped_cut_damaged_or_another_writes_are_never_joined() {
    check(|random, cut| {
        let mut pieces = cut.pieces.clone();
        let idx = random.below(pieces.len());
        let other = random.below(pieces.len());
        match random.below(6) {
            0 => drop(pieces.remove(idx)),
            1 => pieces.insert(idx, pieces[other].clone()),
            2 if idx != other => pieces.swap(idx, other),
            2 => pieces[idx] = Bytes::new(),
            3 => pieces[idx] = pieces[idx].slice(..random.below(pieces[idx].len())),
            4 => pieces[idx] = [&pieces[idx], &b"x"[..]].concat().into(),
            _ => {
                let value = cut.value.iter().map(|byte| byte ^ 1).collect();
                let piece_bytes = u32::try_from(cut.pieces[0].len()).unwrap() - 20;
                // Of the same key, even under the same salt.
                pieces[idx] =
                    Cut::of(value, piece_bytes, random.0.next_u64() % 2).pieces[idx].clone();
            }
        }
        assert_eq!(cut.metadata.join(&pieces), None);
    });
}

#[test]
fn a_bit_that_changes_in_a_header_is_found() {
    check(|random, cut| {
        let mut pieces = cut.pieces.clone();
        let idx = random.below(pieces.len());
        let mut piece = pieces[idx].to_vec();
        piece[random.below(20)] ^= 1 << random.below(8);
        pieces[idx] = piece.into();
        assert_eq!(cut.metadata.join(&pieces), None);
    });
}

#[test]
fn writes_have_different_tokens_unless_they_are_the_same_write() {
    let token = |key_text: &str, value: &[u8], salt| Token::of(&key(key_text), value, salt);
    let first = token("a", b"bc", 1);
    assert_eq!(first, token("a", b"bc", 1));
    let others = [token("a", b"bc", 2), token("a", b"bd", 1), token("ab", b"c", 1)];
    assert!(others.iter().all(|other| *other != first));
}

#[test]
fn a_piece_has_a_key_that_a_line_of_text_can_hold() {
    let metadata = Cut::of(bytes(8_192).into(), 1, u64::MAX).metadata;
    let piece_key = metadata.piece_key(8_191);
    assert!(piece_key.is_clean() && piece_key.as_bytes().len() <= 64, "{piece_key:?}");
    assert_ne!(piece_key, metadata.piece_key(8_190));
}
