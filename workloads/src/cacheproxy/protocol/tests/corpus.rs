//! Random commands: right ones, wrong ones, and ones that were right before something happened to
//! them. No store ever keeps what another command reads, so that an empty store answers them all.

use fastrand::Rng;

use super::binary::Asking;

/// A few text and meta commands, one after the other.
pub(super) fn text(rng: &mut Rng) -> Vec<u8> {
    let n_commands = rng.usize(1..6);
    (0..n_commands).flat_map(|_| line(rng)).collect()
}

/// What may stand where a word stands.
const WORDS: &[&str] = &[
    "0",
    "1",
    "-1",
    "5",
    "0x1",
    "4294967296",
    "18446744073709551616",
    "noreply",
    "r1",
    "x",
    "\t7",
    "7\tx",
    "-",
    "b",
    "q",
    "k",
    "Oabc",
    "T0",
    "T-1",
    "Tx",
    "C0",
    "C7",
    "M",
    "MR",
    "MZ",
    "s",
    "!",
    "F1",
    "Fx",
    "v",
    "c",
    "N",
    "YWJj",
    "YWJ",
    "\u{7f}",
    "a\0b",
    "",
];

/// Commands. `S` becomes a key that nobody reads; of those that would store, only with that key.
/// `D` becomes the value of the length before it.
const LINES: &[&str] = &[
    "get r1",
    "get r1 r2 r3",
    "gets r1",
    "gat 0 r1",
    "gats 5 r1 r2",
    "touch r1 5",
    "touch r1 5 noreply",
    "delete r1",
    "delete r1 0",
    "delete r1 noreply",
    "incr r1 5",
    "decr r1 5 noreply",
    "set S 0 0 D",
    "set S 1 5 D noreply",
    "add S 0 0 D",
    "replace r1 0 0 D",
    "append r1 0 0 D",
    "prepend r1 0 0 D noreply",
    "cas r1 0 0 D 7",
    "cas r1 0 0 D 7 noreply",
    "verbosity 0",
    "verbosity 0 noreply",
    "flush_all 900000000",
    "version",
    "mn",
    "mg r1",
    "mg r1 v k Oabc q",
    "mg YWJj b k v",
    "mg r1 t T5 s",
    "md r1",
    "md r1 q k O1",
    "md r1 C7 I",
    "ma r1",
    "ma r1 D5 MD v k",
    "ma r1 q Oabc",
    "me r1",
    "me YWJj b",
    "ms S D",
    "ms S D k Oabc T5",
    "ms S D C7 c",
    "ms S D MR q k",
    "ms S D MA",
    "",
    "stats foo",
    "junk",
];

fn line(rng: &mut Rng) -> Vec<u8> {
    let chosen = LINES[rng.usize(..LINES.len())];
    let mut value = None;
    let mut words: Vec<String> = chosen
        .split(' ')
        .map(|word| match word {
            "S" => format!("s{}", rng.u32(..)),
            "D" => value.insert("d".repeat(rng.usize(..40))).len().to_string(),
            word => word.to_owned(),
        })
        .collect();
    if rng.u8(..) < 100 {
        spoil(&mut words, rng);
    }
    let mut line = words.join(if rng.u8(..) < 20 { "  " } else { " " }).into_bytes();
    line.extend(end(rng));
    if let Some(value) = value {
        line.extend(value.as_bytes());
        line.extend(end(rng));
    }
    line
}

fn end(rng: &mut Rng) -> &'static [u8] {
    match rng.u8(..) {
        0..12 => b"\n",
        12..18 => b"x\r\n",
        _ => b"\r\n",
    }
}

/// Does something to the words after the verb. A store's key stays what it is.
fn spoil(words: &mut Vec<String>, rng: &mut Rng) {
    let word_idx = rng.usize(..=words.len()).max(2);
    let word = WORDS[rng.usize(..WORDS.len())].to_owned();
    match rng.u8(..3) {
        0 if word_idx < words.len() => words[word_idx] = word,
        1 if word_idx < words.len() => drop(words.remove(word_idx)),
        _ => words.insert(word_idx.min(words.len()), word),
    }
}

/// A few binary commands, one after the other.
pub(super) fn binary(rng: &mut Rng) -> Vec<u8> {
    let n_commands = rng.usize(1..6);
    (0..n_commands).flat_map(|_| packet(rng)).collect()
}

const OPCODES: &[u8] = &[
    0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f, 0x11, 0x12,
    0x13, 0x14, 0x15, 0x16, 0x19, 0x1a, 0x1b, 0x1c, 0x1d, 0x1e, 0x23, 0x24, 0x3f,
];

fn packet(rng: &mut Rng) -> Vec<u8> {
    let opcode = OPCODES[rng.usize(..OPCODES.len())];
    let stored = format!("s{}", rng.u32(..));
    let (key, n_extras, has_value) = match opcode {
        0x01 | 0x02 | 0x11 | 0x12 => (&stored[..], 8, true),
        0x03 | 0x13 => ("r1", 8, true),
        0x05 | 0x06 | 0x15 | 0x16 => ("r1", 20, false),
        0x0e | 0x0f | 0x19 | 0x1a => ("r1", 0, true),
        0x0a | 0x0b | 0x1b | 0x3f => ("", 0, false),
        0x1c | 0x1d | 0x1e | 0x23 | 0x24 => ("r1", 4, false),
        _ => ("r1", 0, false),
    };
    // All ones: never, and for a count, make no item.
    let extras = vec![0xff; n_extras];
    let value = vec![b'v'; if has_value { rng.usize(..40) } else { 0 }];
    let cas = if rng.u8(..) < 40 { 7 } else { 0 };
    let mut bytes =
        Asking { opcode, extras: &extras, key: key.as_bytes(), value: &value, cas }.bytes();
    if rng.u8(..) < 10 {
        // No more extras than there are, so that all that is promised is sent.
        bytes[4] = 0;
    }
    bytes
}
