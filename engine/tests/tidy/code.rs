//! Reads Rust source as far as the tidy rules need: what is code, what are its words, where do the
//! tests begin. Not a parser: a scanner over quotes and comments.

/// What the scanner stands in.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Code,
    Line,
    /// Nested this deep.
    Block(u32),
    Text,
    /// A raw string that so many `#` close.
    Raw(usize),
}

/// Blanks comments and the contents of strings; keeps the length of every line.
pub(crate) fn code_of(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let (mut code, mut place, mut at) = (String::with_capacity(text.len()), Place::Code, 0);
    while at < chars.len() {
        let (next, n_chars) = advance(place, &chars[at..], &code);
        let keep = place == Place::Code && next == Place::Code;
        for &c in &chars[at..at + n_chars] {
            code.push(if keep || c == '\n' { c } else { ' ' });
        }
        (place, at) = (next, at + n_chars);
    }
    code
}

/// What comes after the next characters, and how many of them belong together.
fn advance(place: Place, rest: &[char], before: &str) -> (Place, usize) {
    let starts = |with: &str| rest.iter().copied().take(with.len()).eq(with.chars());
    match place {
        Place::Code if starts("//") => (Place::Line, 2),
        Place::Code if starts("/*") => (Place::Block(1), 2),
        Place::Code if starts("\"") => (Place::Text, 1),
        Place::Code if starts("r") && !in_word(before) => raw_string(rest),
        Place::Code if starts("'") => (Place::Code, char_literal(rest)),
        Place::Line if starts("\n") => (Place::Code, 1),
        Place::Block(depth) if starts("/*") => (Place::Block(depth + 1), 2),
        Place::Block(1) if starts("*/") => (Place::Code, 2),
        Place::Block(depth) if starts("*/") => (Place::Block(depth - 1), 2),
        Place::Text if starts("\\") => (Place::Text, rest.len().min(2)),
        Place::Text if starts("\"") => (Place::Code, 1),
        Place::Raw(hashes) if starts(&format!("\"{}", "#".repeat(hashes))) => {
            (Place::Code, 1 + hashes)
        }
        same => (same, 1),
    }
}

fn in_word(before: &str) -> bool {
    before.ends_with(|c: char| c.is_alphanumeric() || c == '_')
}

fn raw_string(rest: &[char]) -> (Place, usize) {
    let hashes = rest.iter().skip(1).take_while(|&&c| c == '#').count();
    match rest.get(1 + hashes) {
        Some('"') => (Place::Raw(hashes), 2 + hashes),
        _ => (Place::Code, 1),
    }
}

/// The length of `'x'` or `'\x'`; 1 for a lifetime.
fn char_literal(rest: &[char]) -> usize {
    let close = match rest.get(1) {
        Some('\\') => rest.iter().skip(3).position(|&c| c == '\'').map(|at| at + 3),
        _ => (rest.get(2) == Some(&'\'')).then_some(2),
    };
    close.map_or(1, |at| at + 1)
}

/// The identifiers of a text, in order.
pub(crate) fn idents(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// The part of a file above its tests, which stand at the foot.
pub(crate) fn production_of(text: &str) -> &str {
    let at = text.find("\n#[cfg(test)]\nmod tests {");
    &text[..at.unwrap_or(text.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_are_blanked_and_code_is_kept() {
        let check = |text: &str, wanted: &[&str]| {
            let code = code_of(text);
            assert_eq!(idents(&code).collect::<Vec<_>>(), wanted, "{text}");
            assert_eq!(code.chars().count(), text.chars().count(), "{text}");
        };
        check("a // b\nc", &["a", "c"]);
        check("a /* b /* c */ d */ e", &["a", "e"]);
        check("a(\"b // \\\" c\") d", &["a", "d"]);
        check("a(r#\"b \" c\"#) d", &["a", "d"]);
        check("a(r\"b\\\") c", &["a", "c"]);
        check("r#type '\"' b", &["r", "type", "b"]);
        check("'\\'' a", &["a"]);
        check("'\\u{41}' a", &["u", "41", "a"]);
        check("fn a<'b>(c: &'b str)", &["fn", "a", "b", "c", "b", "str"]);
        check("a \"never closed", &["a"]);
    }

    #[test]
    fn tests_at_the_foot_are_left_out() {
        let whole = "a\n#[cfg(test)]\nmod tests;\n#[cfg(test)]\nuse b;\n";
        assert_eq!(production_of("a\n#[cfg(test)]\nmod tests {}"), "a");
        assert_eq!(production_of(whole), whole);
    }
}
