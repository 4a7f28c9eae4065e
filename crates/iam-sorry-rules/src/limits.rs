//! How large and how nested one rule may be. Cedar works through expressions by recursion, at loading and at every decision:
//! a rule nested deeply enough would overflow the stack, which ends the whole process and can't be caught.

use std::ops::Range;

/// Brackets within brackets, and attributes of attributes. Real rules have a handful.
const DEEPEST: usize = 32;
/// Operators, attribute accesses and clauses of one rule. Lists in brackets count nothing, however long.
const MOST_OPERATORS: usize = 500;
/// Arithmetic and negation nest one level each, and with larger frames, so they count for more.
const ARITHMETIC: usize = 10;

/// Cedar's first reading of a text takes a hundred times the text's size, so long files are read in pieces of this many
/// bytes, or one rule more.
const PIECE: usize = 64 << 10;

/// The text in pieces of whole rules, or what is wrong with it, with where; the first thing only, since the rest may
/// follow from it.
///
/// This is no parser: it knows strings, comments, brackets and the end of a rule as Cedar's grammar has them, and counts
/// what could nest.
pub(crate) fn pieces(text: &str) -> Result<Vec<Range<usize>>, (usize, String)> {
    let (mut pieces, mut begun) = (Vec::new(), 0);
    let bytes = text.as_bytes();
    let (mut depth, mut operators, mut chain, mut at) = (0_usize, 0_usize, 0_usize, 0);
    while let Some(byte) = bytes.get(at) {
        let from = at;
        at += 1;
        match byte {
            b'"' => at = end_of_string(bytes, at),
            b'/' if bytes.get(at) == Some(&b'/') => {
                at = bytes[at..]
                    .iter()
                    .position(|b| matches!(b, b'\n' | b'\r'))
                    .map_or(bytes.len(), |end| at + end);
            }
            b'(' | b'[' | b'{' => {
                depth += 1;
                chain += usize::from(*byte == b'[');
            }
            b'.' => {
                operators += 1;
                chain += 1;
            }
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b';' => {
                (depth, operators, chain) = (0, 0, 0);
                if at - begun >= PIECE {
                    pieces.push(begun..at);
                    begun = at;
                }
            }
            b',' => chain = 0,
            b'&' | b'|' | b'=' | b'<' | b'>' | b'!' | b'+' | b'-' | b'*' | b'/' | b'%' | b':' => {
                // `&&`, `<=`, `::` are one; `!!` and `--` are two.
                let pair = matches!(byte, b'&' | b'|' | b'=' | b'<' | b'>' | b':')
                    && matches!(bytes.get(at), Some(b'&' | b'|' | b'=' | b':'));
                at += usize::from(pair);
                chain = 0;
                let arithmetic = matches!(byte, b'+' | b'-' | b'*' | b'/' | b'%' | b'!');
                operators += if arithmetic { ARITHMETIC } else { 1 };
            }
            b'_' | b'a'..=b'z' | b'A'..=b'Z' => {
                let word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
                at += bytes[at..].iter().position(|b| !word(b)).unwrap_or(bytes.len() - at);
                let known: [&[u8]; 7] = [b"if", b"in", b"is", b"has", b"like", b"when", b"unless"];
                operators += usize::from(known.contains(&&bytes[from..at]));
            }
            _ => {}
        }
        if depth > DEEPEST {
            return Err((from, format!("brackets are nested more than {DEEPEST} deep")));
        }
        if chain > DEEPEST {
            return Err((from, format!("attributes of attributes, more than {DEEPEST} deep")));
        }
        if operators > MOST_OPERATORS {
            return Err((
                from,
                format!("the rule has more than {MOST_OPERATORS} operators: make several of it"),
            ));
        }
    }
    pieces.push(begun..bytes.len());
    Ok(pieces)
}

fn end_of_string(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    while let Some(byte) = bytes.get(at) {
        at += match byte {
            b'"' => return at + 1,
            b'\\' => 2,
            _ => 1,
        };
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nests_is_counted_and_nothing_else() {
        let list = vec!["\"x(.&&\""; 5000].join(", ");
        let good = [
            format!("permit (principal, action, resource) when {{ [{list}].contains(principal.name) }};"),
            "// ((((((((((((((((((((((((((((((((((((((((((((((\npermit (principal, action, resource);"
                .to_owned(),
            "permit (principal, action, resource);\n".repeat(2000),
            "\"unended \\\"".to_owned(),
            "\"\\".to_owned(),
            "permit ü (ü".to_owned(),
        ];
        for text in good {
            let found = pieces(&text).unwrap();
            assert_eq!(found.iter().map(|piece| &text[piece.clone()]).collect::<String>(), text);
            assert_eq!(found.len(), 1 + text.len() / (PIECE + 38), "{text:.80}");
        }
        for (text, at) in [
            ("(".repeat(40), 32),
            (format!("// a comment ends at either\r{}", "(".repeat(40)), 60),
            ("a && ".repeat(501), 2502),
            ("a.".repeat(33), 65),
            ("a.b,".repeat(501), 2001),
            ("a[0]".repeat(33), 129),
            ("!".repeat(51), 50),
            ("A::".repeat(501), 1501),
            ("if a then b else ".repeat(501), 8500),
            ("when {} ".repeat(501), 4000),
        ] {
            assert_eq!(pieces(&text).map_err(|(at, _)| at), Err(at), "{text:.20}");
        }
    }
}
