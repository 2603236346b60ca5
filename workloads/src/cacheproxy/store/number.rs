//! Numbers in values: what memcached takes for one, and how it writes one back.
//!
//! memcached reads a number as C's `strtoull` does and then asks that a blank or the end follow. So
//! `" 7"`, `"+5"`, `"-0"` and `"9 "` are numbers; and the last is what `decr` leaves of
//! `"10"`, since a number that got shorter keeps its room.

/// The number that a value begins with, if memcached would count with it.
pub(super) fn parse(value: &[u8]) -> Option<u64> {
    let n_blanks = value.iter().take_while(|byte| is_blank(**byte)).count();
    let (negative, digits) = match value.split_at(n_blanks).1 {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let n_digits = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, behind) = digits.split_at(n_digits);
    let ends = behind.first().is_none_or(|byte| *byte == 0 || is_blank(*byte));
    if n_digits == 0 || !ends {
        return None;
    }
    let magnitude = digits.iter().try_fold(0_u64, |number, digit| {
        number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    })?;
    if !negative {
        return Some(magnitude);
    }
    // A minus wraps around; memcached refuses only what then looks negative in 64 bits.
    let wrapped = magnitude.wrapping_neg();
    (wrapped <= i64::MAX.unsigned_abs()).then_some(wrapped)
}

/// C's `isspace`.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// A number as it is stored: in place of one that took `room_bytes`, with blanks behind it if it is
/// shorter; else just its digits.
pub(super) fn format(number: u64, room_bytes: usize) -> Vec<u8> {
    let mut digits = number.to_string().into_bytes();
    if digits.len() < room_bytes {
        digits.resize(room_bytes, b' ');
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_a_number_what_memcached_does() {
        let check = |value: &str, number: Option<u64>| {
            assert_eq!(parse(value.as_bytes()), number, "{value:?}");
        };
        check("10", Some(10));
        check("18446744073709551615", Some(u64::MAX));
        check("18446744073709551616", None);
        check("99999999999999999999", None);
        check("0000000000000000000000000001", Some(1));
        check(" 7", Some(7));
        check("\t\n\x0b\x0c\r 7", Some(7));
        check("+5", Some(5));
        check("-0", Some(0));
        check("-1", None);
        check("-18446744073709551615", Some(1));
        check("7 x", Some(7));
        check("10\n", Some(10));
        check("1\0x", Some(1));
        check("7x", None);
        check("a", None);
        check("", None);
        check("+", None);
        check("+-1", None);
        check("- 1", None);
        check("0x10", None);
    }

    #[test]
    fn a_shorter_number_keeps_the_room_of_the_longer_one() {
        let check = |number, room_bytes, stored: &str| {
            assert_eq!(format(number, room_bytes), stored.as_bytes());
        };
        check(9, 2, "9 ");
        check(10, 1, "10");
        check(0, 20, "0                   ");
        check(12, 2, "12");
    }
}
