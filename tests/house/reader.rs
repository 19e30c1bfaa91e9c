//! Reads source code plainly: what is code and not comment or string, what is a test, which paths occur.
//!
//! In: the text of a file; out: the same text with blanks in it, and lists of paths. It knows tokens and
//! braces, no grammar; that is enough for rules about names.

/// Comments, strings and characters replaced by blanks; every line stays where it is.
pub fn blank(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => find(bytes, at, b"\n"),
            b'/' if bytes[at..].starts_with(b"/*") => block_comment_end(bytes, at),
            b'"' => string_end(bytes, at),
            b'\'' => character_end(bytes, at),
            b'r' => raw_string_end(bytes, at),
            byte if byte == b'_' || byte.is_ascii_alphanumeric() => {
                at += 1;
                // The rest of a word is none of the cases above, but `br"…"` and `b"…"` end in a string.
                while at < bytes.len() && bytes[at].is_ascii_alphanumeric() && bytes[at] != b'r' {
                    at += 1;
                }
                continue;
            }
            _ => at,
        };
        if end == at {
            at += 1;
            continue;
        }
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end;
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn find(bytes: &[u8], from: usize, wanted: &[u8]) -> usize {
    bytes[from..]
        .windows(wanted.len())
        .position(|window| window == wanted)
        .map_or(bytes.len(), |place| from + place)
}

fn block_comment_end(bytes: &[u8], from: usize) -> usize {
    let (mut at, mut depth) = (from + 2, 1);
    while at < bytes.len() && depth > 0 {
        if bytes[at..].starts_with(b"/*") {
            (at, depth) = (at + 2, depth + 1);
        } else if bytes[at..].starts_with(b"*/") {
            (at, depth) = (at + 2, depth - 1);
        } else {
            at += 1;
        }
    }
    at
}

fn string_end(bytes: &[u8], from: usize) -> usize {
    let mut at = from + 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

/// The end of a character, or `from` if this is a lifetime.
fn character_end(bytes: &[u8], from: usize) -> usize {
    if bytes.get(from + 1) == Some(&b'\\') {
        return (find(bytes, from + 3, b"'") + 1).min(bytes.len());
    }
    let rest = String::from_utf8_lossy(&bytes[from + 1..bytes.len().min(from + 6)]).into_owned();
    let mut characters = rest.chars();
    match (characters.next(), characters.next()) {
        (Some(character), Some('\'')) => from + 2 + character.len_utf8(),
        _ => from,
    }
}

/// The end of `r"…"` or `r#"…"#`, or `from` if this is none.
fn raw_string_end(bytes: &[u8], from: usize) -> usize {
    let hashes = bytes[from + 1..]
        .iter()
        .take_while(|byte| **byte == b'#')
        .count();
    let quote = from + 1 + hashes;
    if bytes.get(quote) != Some(&b'"') {
        return from;
    }
    let closing = [b"\"".as_slice(), &vec![b'#'; hashes]].concat();
    (find(bytes, quote + 1, &closing) + closing.len()).min(bytes.len())
}

/// Blanked code without what stands under `#[cfg(test)]`.
pub fn without_tests(code: &str) -> String {
    let mut out = code.to_owned();
    while let Some(start) = out.find("#[cfg(test)]") {
        let rest = &out[start..];
        let open = rest.find('{').unwrap_or(rest.len());
        let length = match rest.find(';') {
            Some(semicolon) if semicolon < open => semicolon + 1,
            _ => matching_brace(rest, open),
        };
        let blanked: String = rest[..length]
            .chars()
            .map(|character| if character == '\n' { '\n' } else { ' ' })
            .collect();
        out.replace_range(start..start + length, &blanked);
    }
    out
}

fn matching_brace(text: &str, open: usize) -> usize {
    let mut depth = 0;
    for (place, character) in text.char_indices().skip_while(|(place, _)| *place < open) {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return place + 1;
        }
    }
    text.len()
}

/// A path in the code, with the line where it ends.
#[derive(Debug, PartialEq, Eq)]
pub struct CodePath {
    pub segments: Vec<String>,
    pub line: usize,
}

/// All paths of at least two segments in blanked code; `a::{b, c::d}` gives `a::b` and `a::c::d`.
pub fn paths(code: &str) -> Vec<CodePath> {
    let mut tokens = Vec::new();
    for (number, line) in code.lines().enumerate() {
        let mut rest = line;
        while let Some(first) = rest.chars().next() {
            let word = rest
                .find(|character: char| character != '_' && !character.is_alphanumeric())
                .unwrap_or(rest.len());
            let length = if word > 0 {
                word
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            if !first.is_whitespace() {
                tokens.push((&rest[..length], number + 1));
            }
            rest = &rest[length..];
        }
    }
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        at = path_tree(&tokens, at, &mut Vec::new(), &mut found).max(at + 1);
    }
    found.retain(|path| path.segments.len() > 1);
    found
}

/// Reads a path or tree of paths that begins at `at`; gives back where it ends.
fn path_tree(
    tokens: &[(&str, usize)],
    mut at: usize,
    prefix: &mut Vec<String>,
    found: &mut Vec<CodePath>,
) -> usize {
    let inherited = prefix.len();
    while let Some((token, line)) = tokens.get(at) {
        let is_word = token.starts_with(|first: char| first == '_' || first.is_alphanumeric());
        match *token {
            "{" if prefix.len() > inherited || inherited > 0 => {
                at += 1;
                while tokens.get(at).is_some_and(|(token, _)| *token != "}") {
                    let next = path_tree(tokens, at, prefix, found);
                    at = next.max(at + 1);
                }
                at += 1;
                break;
            }
            token if is_word || (token == "*" && !prefix.is_empty()) => {
                prefix.push(token.to_owned());
                at += 1;
                if tokens.get(at).is_some_and(|(next, _)| *next == "::") {
                    at += 1;
                    continue;
                }
                found.push(CodePath {
                    segments: prefix.clone(),
                    line: *line,
                });
                break;
            }
            _ => break,
        }
    }
    prefix.truncate(inherited);
    at
}

mod tests {
    use super::*;

    #[test]
    fn comments_strings_and_characters_are_blanked_and_lines_stay() {
        let check = |source: &str, expected: &str| assert_eq!(blank(source), expected);
        check("a // b\nc", "a     \nc");
        check("a /* b /* c */ d */ e", "a                   e");
        check("a(\"b \\\" c\", d)", "a(        , d)");
        check("r#\"b\"\"# c", "        c");
        check("br\"\\\" c", "b     c");
        check("for r in bar", "for r in bar");
        check("r#type", "r#type");
        check(
            "'\"' x '\\'' y '\\u{1}' z 'é'",
            "    x      y         z     ",
        );
        check("fn f<'a>(x: &'a str)", "fn f<'a>(x: &'a str)");
        check("b'\"' c", "b    c");
        check("\"open", "     ");
    }

    #[test]
    fn paths_are_found_in_uses_trees_and_expressions() {
        let check = |code: &str, expected: &[(&str, usize)]| {
            let found: Vec<(String, usize)> = paths(code)
                .into_iter()
                .map(|path| (path.segments.join("::"), path.line))
                .collect();
            let expected: Vec<(String, usize)> = expected
                .iter()
                .map(|(path, line)| (path.to_string(), *line))
                .collect();
            assert_eq!(found, expected, "{code}");
        };
        check("use crate::a::B;", &[("crate::a::B", 1)]);
        check(
            "use crate::{\n    a::{B, self},\n    c::*,\n};\nx::y()",
            &[
                ("crate::a::B", 2),
                ("crate::a::self", 2),
                ("crate::c::*", 3),
                ("x::y", 5),
            ],
        );
        check(
            "let a = crate :: b :: c(d, e::F { g: h });",
            &[("crate::b::c", 1), ("e::F", 1)],
        );
        check("Vec::<u8>::new() * a", &[]);
        check(
            "match a { B::C { d } => e::f, _ => {} }",
            &[("B::C", 1), ("e::f", 1)],
        );
    }
}
