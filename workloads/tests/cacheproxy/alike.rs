//! Takes out of answers what no two servers have in common, or no server twice: the numbers of cas,
//! times that pass while a test runs, and how much memory an item takes.

/// What is left open of a `VALUE` line: the word behind flags and length.
const VALUE_WORDS: usize = 5;
const HEADER_BYTES: usize = 24;

/// What a setting cannot promise to be memcached's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Uses {
    /// Whether an item was read before, and who may fill it again, is told as memcached does.
    Told,
    /// Commands that only read go side by side, so one may not know of another.
    SideBySide,
    /// Reads that find a copy in the upper tier are not known below; one that finds none asks below
    /// how long the item has left, and whoever asks that of a stale item has won it.
    Above,
}

/// Text and meta answers.
pub(crate) fn text(answers: &[u8], uses: Uses) -> Vec<u8> {
    let mut alike = Vec::new();
    for line in answers.split_inclusive(|byte| *byte == b'\n') {
        let words: Vec<&[u8]> = line.split(|byte| byte.is_ascii_whitespace()).collect();
        let masked: Vec<Vec<u8>> = match words[0] {
            b"VALUE" if words.len() > VALUE_WORDS => words
                .iter()
                .enumerate()
                .map(
                    |(idx, word)| {
                        if idx + 1 == VALUE_WORDS { b"cas".to_vec() } else { word.to_vec() }
                    },
                )
                .collect(),
            b"HD" | b"VA" => {
                let wins = |word: &&&[u8]| uses == Uses::Above && matches!(word, [b'W' | b'Z']);
                words.iter().filter(|word| !wins(word)).map(|word| meta_word(word, uses)).collect()
            }
            b"ME" => words.iter().map(|word| debug_word(word, uses)).collect(),
            _ => {
                alike.extend(line);
                continue;
            }
        };
        alike.extend(masked.join(&b' '));
    }
    alike
}

/// A word of a meta answer.
fn meta_word(word: &[u8], uses: Uses) -> Vec<u8> {
    match word {
        [b'c', b'1'..=b'9', ..] => b"c".to_vec(),
        // It is -1 for an item that does not expire, and for one that expires by the very request it
        // is beyond any number.
        [b't', b'0'..=b'9', ..] => b"t".to_vec(),
        [b'l', b'0'..=b'9', ..] => b"l".to_vec(),
        [b'h', _] if uses >= Uses::SideBySide => b"h".to_vec(),
        _ => word.to_vec(),
    }
}

/// A word of `me`.
fn debug_word(word: &[u8], uses: Uses) -> Vec<u8> {
    let name: Vec<u8> = word.iter().copied().take_while(|byte| *byte != b'=').collect();
    match &name[..] {
        b"la" | b"cas" | b"cls" | b"size" => name,
        b"exp" if word != b"exp=-1" => name,
        b"fetch" if uses >= Uses::SideBySide => name,
        _ => word.to_vec(),
    }
}

/// Binary answers: every cas that is not 0 is 1.
pub(crate) fn binary(answers: &[u8]) -> Vec<u8> {
    const CAS: usize = 16;
    let mut alike = answers.to_vec();
    let mut rest = &mut alike[..];
    while rest.len() >= HEADER_BYTES {
        let cas = &mut rest[CAS..HEADER_BYTES];
        if cas != [0; 8] {
            cas.copy_from_slice(&1_u64.to_be_bytes());
        }
        let n_bytes = packet_bytes(rest).min(rest.len());
        rest = &mut rest[n_bytes..];
    }
    alike
}

/// Bytes of the packet that begins here, its header whole.
pub(crate) fn packet_bytes(packet: &[u8]) -> usize {
    const BODY_LENGTH: usize = 8;
    let body = u32::from_be_bytes(*packet[BODY_LENGTH..].first_chunk().unwrap());
    HEADER_BYTES + usize::try_from(body).unwrap()
}

/// Whether the last packet of these is whole and has this opcode.
pub(crate) fn ends_with_opcode(mut packets: &[u8], opcode: u8) -> bool {
    while packets.len() >= HEADER_BYTES {
        let n_bytes = packet_bytes(packets);
        if n_bytes == packets.len() {
            return packets[1] == opcode;
        }
        let Some(rest) = packets.get(n_bytes..) else { return false };
        packets = rest;
    }
    false
}
