//! What memcached takes for a number: what C's `strtol` and its kin take, up to blank space.
//!
//! So a sign may stand before it, anything may follow after a tab, and what does not fit into 32 bits
//! loses its high ones. Odd, but a client that sends `4294967296` as flags gets `0` back from
//! memcached, and so from us.

/// A number of 64 bits without its sign.
struct Integer {
    negative: bool,
    magnitude: u64,
}

/// An expiry or a length. The low 32 bits of up to 64.
pub(super) fn signed(word: &[u8]) -> Option<i32> {
    let Integer { negative, magnitude } = integer(word)?;
    let value = if negative {
        0_i64.checked_sub_unsigned(magnitude)
    } else {
        i64::try_from(magnitude).ok()
    };
    value.map(low_signed)
}

/// Client flags. The low 32 bits of up to 64.
pub(super) fn unsigned(word: &[u8]) -> Option<u32> {
    unsigned_long(word).map(low_unsigned)
}

/// A cas or a delta. A minus counts modulo 2^64, but what it gives must be positive.
pub(super) fn unsigned_long(word: &[u8]) -> Option<u64> {
    let Integer { negative, magnitude } = integer(word)?;
    if !negative {
        return Some(magnitude);
    }
    let value = magnitude.wrapping_neg();
    (value.cast_signed() >= 0).then_some(value)
}

#[allow(clippy::cast_possible_truncation, reason = "memcached keeps the low bits")]
const fn low_signed(value: i64) -> i32 {
    value as i32
}

#[allow(clippy::cast_possible_truncation, reason = "memcached keeps the low bits")]
const fn low_unsigned(value: u64) -> u32 {
    value as u32
}

/// `None` for no digits, for more than 64 bits, and for digits that something else follows.
fn integer(word: &[u8]) -> Option<Integer> {
    let n_space = word.iter().take_while(|byte| is_space(**byte)).count();
    let (negative, digits) = match &word[n_space..] {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] | digits => (false, digits),
    };
    let n_digits = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if n_digits == 0 || digits.get(n_digits).is_some_and(|byte| !is_space(*byte)) {
        return None;
    }
    let magnitude = digits[..n_digits].iter().try_fold(0_u64, |number, digit| {
        number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    })?;
    Some(Integer { negative, magnitude })
}

/// C's `isspace`.
const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_memcached_takes() {
        let cases: &[(&str, Option<i32>, Option<u64>)] = &[
            ("5", Some(5), Some(5)),
            ("+5", Some(5), Some(5)),
            ("-5", Some(-5), None),
            ("-0", Some(0), Some(0)),
            ("010", Some(10), Some(10)),
            ("", None, None),
            ("-", None, None),
            ("--5", None, None),
            ("5a", None, None),
            ("0x5", None, None),
            ("\t5", Some(5), Some(5)),
            ("5\tx", Some(5), Some(5)),
            ("5\u{b}x", Some(5), Some(5)),
            ("\t", None, None),
            ("2147483648", Some(i32::MIN), Some(1 << 31)),
            ("4294967297", Some(1), Some((1 << 32) + 1)),
            ("-9223372036854775808", Some(0), None),
            ("-9223372036854775809", None, Some((1 << 63) - 1)),
            ("18446744073709551615", None, Some(u64::MAX)),
            ("18446744073709551616", None, None),
            ("-18446744073709551615", None, Some(1)),
        ];
        for (word, as_signed, as_unsigned) in cases {
            assert_eq!(signed(word.as_bytes()), *as_signed, "{word:?}");
            assert_eq!(unsigned_long(word.as_bytes()), *as_unsigned, "{word:?}");
        }
    }
}
