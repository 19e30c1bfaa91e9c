//! The rules of the house: which module may know which, what the pure ones may not do, how files look.
//!
//! In: the sources of this repository, as text; out: a list of offences with file and line. The text is
//! read plainly (comments and strings blanked, paths taken from tokens), which is enough for rules about
//! names. Each rule is also held against snippets that break it.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// The modules of the crate's root.
const MODULES: [&str; 12] = [
    "config", "protocol", "model", "session", "routing", "queue", "store", "auth", "broker",
    "server", "http", "cli",
];

/// What a module may import of the others.
enum May {
    Only(&'static [&'static str]),
    AllBut(&'static [&'static str]),
}

/// docs/architecture.md, the import rules.
const IMPORT_RULES: [(&str, May); 7] = [
    ("protocol", May::Only(&[])),
    ("model", May::Only(&["protocol"])),
    ("session", May::Only(&["model", "protocol"])),
    ("routing", May::Only(&["model", "protocol"])),
    ("queue", May::Only(&["model", "protocol", "store"])),
    (
        "store",
        May::AllBut(&["session", "broker", "server", "http", "cli"]),
    ),
    ("broker", May::AllBut(&["session", "server", "http", "cli"])),
];

/// Folders whose code does no input or output, holds no lock and asks no clock.
const PURE_FOLDERS: [&str; 5] = [
    "src/protocol/",
    "src/model/",
    "src/session/",
    "src/routing/",
    "src/queue/",
];

/// The files among them that own a lock, so that the others need none: around a queue's state, around a
/// connection's inbox, and around the window that several queues share.
const SHELL_FILES: [&str; 3] = [
    "src/queue/handle.rs",
    "src/queue/inbox.rs",
    "src/model/window.rs",
];

/// Paths that do not occur in pure code, by the segments that stand next to each other in them.
const IMPURE: [&[&str]; 16] = [
    &["std", "fs"],
    &["std", "net"],
    &["std", "env"],
    &["std", "process"],
    &["std", "thread"],
    &["Instant", "now"],
    &["SystemTime", "now"],
    &["Mutex"],
    &["RwLock"],
    &["Condvar"],
    &["mpsc"],
    &["tokio"],
    &["parking_lot"],
    &["dashmap"],
    &["rustix"],
    &["getrandom"],
];

/// Lines of a file that was written by hand.
const LINES_MAX: usize = 800;

/// The first line of a file that was not.
const GENERATED_MARK: &str = "// @generated";

/// Words that mark unfinished work, in two halves so that this file does not contain them.
const UNFINISHED_WORDS: [(&str, &str); 3] = [("TO", "DO"), ("FIX", "ME"), ("XX", "X")];

/// Macros and attributes that no committed code has.
const UNFINISHED_CODE: [&str; 4] = ["dbg!", "todo!", "unimplemented!", "#[ignore"];

/// Where paths of somebody's own machine begin, in two halves as well.
const MACHINE_PATHS: [(&str, &str); 4] = [
    ("/wo", "rk/"),
    ("/ho", "me/"),
    ("/ro", "ot/"),
    ("/Us", "ers/"),
];

/// Names of text files in which paths are looked for.
const TEXT_ENDINGS: [&str; 12] = [
    ".rs", ".toml", ".md", ".py", ".sh", ".js", ".ts", ".html", ".css", ".yml", ".yaml", ".conf",
];

/// Folders without text of ours, beside those whose names begin with a dot.
const SKIPPED_FOLDERS: [&str; 3] = ["target", "node_modules", "__pycache__"];

/// The one with a dot that holds ours.
const DOTTED_FOLDER: &str = ".github";

/// A file of this repository.
struct File {
    /// From the repository's root, with `/`.
    path: String,
    text: String,
}

impl File {
    fn is_generated(&self) -> bool {
        self.text.starts_with(GENERATED_MARK)
    }

    /// Whether it is only compiled for tests.
    fn is_test(&self) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        self.path.starts_with("tests/")
            || self.path.contains("/tests/")
            || name.ends_with("tests.rs")
            || name == "fixtures.rs"
    }

    /// The module of the crate's root to which it belongs.
    fn module(&self) -> Option<&str> {
        let inner = self.path.strip_prefix("src/")?;
        let name = inner.split(['/', '.']).next()?;
        MODULES.contains(&name).then_some(name)
    }

    /// Modules between the crate's root and the items of the file.
    fn depth(&self) -> usize {
        let inner = self.path.strip_prefix("src/").unwrap_or(&self.path);
        let folders = inner.matches('/').count();
        folders + usize::from(!inner.ends_with("mod.rs"))
    }
}

/// Comments, strings and characters replaced by blanks; every line stays where it is.
fn blank(source: &str) -> String {
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
fn without_tests(code: &str) -> String {
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
struct CodePath {
    segments: Vec<String>,
    line: usize,
}

/// All paths of at least two segments in blanked code; `a::{b, c::d}` gives `a::b` and `a::c::d`.
fn paths(code: &str) -> Vec<CodePath> {
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

/// The module of the crate's root that a path leads to: through `crate::x`, or through enough `super`.
fn reached(path: &CodePath, depth: usize) -> Option<&str> {
    let segments = &path.segments;
    let supers = segments.iter().take_while(|part| *part == "super").count();
    let place = match segments.first()?.as_str() {
        "crate" => 1,
        "super" if supers >= depth => supers,
        _ => return None,
    };
    segments.get(place).map(String::as_str)
}

fn import_offences(file: &File) -> Vec<String> {
    let Some(module) = file.module() else {
        return Vec::new();
    };
    let Some((_, may)) = IMPORT_RULES.iter().find(|(name, _)| *name == module) else {
        return Vec::new();
    };
    let code = blank(&file.text);
    // Tests inside a file stand one module deeper, where `super` means something else.
    let outside_tests = paths(&without_tests(&code));
    let mut offences = Vec::new();
    for path in paths(&code) {
        let depth = if outside_tests.contains(&path) {
            file.depth()
        } else {
            file.depth() + 1
        };
        let Some(other) = reached(&path, depth) else {
            continue;
        };
        let is_module = MODULES.contains(&other) || other == "*";
        let allowed = match may {
            May::Only(others) => others.contains(&other),
            May::AllBut(others) => !others.contains(&other) && other != "*",
        };
        if is_module && other != module && !allowed {
            offences.push(format!(
                "{}:{}: {module} knows {other}",
                file.path, path.line
            ));
        }
    }
    offences
}

fn purity_offences(file: &File) -> Vec<String> {
    let is_pure = PURE_FOLDERS
        .iter()
        .any(|folder| file.path.starts_with(folder))
        && !SHELL_FILES.contains(&&*file.path)
        && !file.is_test();
    if !is_pure {
        return Vec::new();
    }
    let mut offences = Vec::new();
    for path in paths(&without_tests(&blank(&file.text))) {
        let segments: Vec<&str> = path.segments.iter().map(String::as_str).collect();
        let is_impure = IMPURE
            .iter()
            .any(|impure| segments.windows(impure.len()).any(|part| part == *impure));
        if is_impure {
            let shown = segments.join("::");
            offences.push(format!("{}:{}: {shown} in pure code", file.path, path.line));
        }
    }
    offences
}

fn appearance_offences(file: &File) -> Vec<String> {
    if file.is_generated() {
        return Vec::new();
    }
    let mut offences = Vec::new();
    if !file.text.starts_with("//!") {
        offences.push(format!(
            "{}: does not open with what it is for (//!)",
            file.path
        ));
    }
    let lines = file.text.lines().count();
    if lines > LINES_MAX {
        offences.push(format!("{}: {lines} lines, at most {LINES_MAX}", file.path));
    }
    offences
}

fn unfinished_offences(file: &File) -> Vec<String> {
    let code = blank(&file.text);
    let mut offences = Vec::new();
    for (number, line) in file.text.lines().enumerate() {
        for (start, end) in UNFINISHED_WORDS {
            let word = [start, end].concat();
            let mut words = line.split(|character: char| !character.is_alphanumeric());
            if words.any(|found| found == word) {
                offences.push(format!("{}:{}: {word}", file.path, number + 1));
            }
        }
    }
    for (number, line) in code.lines().enumerate() {
        for mark in UNFINISHED_CODE {
            if line.contains(mark) {
                offences.push(format!("{}:{}: {mark}", file.path, number + 1));
            }
        }
    }
    offences
}

fn machine_path_offences(file: &File) -> Vec<String> {
    let mut offences = Vec::new();
    for (number, line) in file.text.lines().enumerate() {
        for (start, end) in MACHINE_PATHS {
            let machine_path = [start, end].concat();
            if line.contains(&machine_path) {
                offences.push(format!("{}:{}: {machine_path}", file.path, number + 1));
            }
        }
    }
    offences
}

/// All text files below a folder of the repository, in the order of their paths.
fn files(folder: &str, endings: &[&str]) -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pending = vec![root.join(folder)];
    let mut found = Vec::new();
    while let Some(folder) = pending.pop() {
        let mut entries: Vec<PathBuf> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        entries.sort();
        for entry in entries {
            let name = entry.file_name().unwrap().to_string_lossy().into_owned();
            let is_hidden = name.starts_with('.') && name != DOTTED_FOLDER;
            if is_hidden || entry.is_symlink() || SKIPPED_FOLDERS.contains(&&*name) {
                continue;
            } else if entry.is_dir() {
                pending.push(entry);
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                let path = entry.strip_prefix(root).unwrap().to_string_lossy();
                found.push(File {
                    path: path.replace('\\', "/"),
                    text: String::from_utf8_lossy(&fs::read(&entry).unwrap()).into_owned(),
                });
            }
        }
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}

fn assert_none(files: &[File], rule: impl Fn(&File) -> Vec<String>) {
    assert!(!files.is_empty(), "the rule was held against nothing");
    let offences: Vec<String> = files.iter().flat_map(rule).collect();
    assert!(offences.is_empty(), "{}", offences.join("\n"));
}

fn rust_files() -> Vec<File> {
    ["src", "tests", "amqp-spec"]
        .iter()
        .flat_map(|folder| files(folder, &[".rs"]))
        .collect()
}

#[test]
fn modules_import_only_what_they_may_know() {
    assert_none(&files("src", &[".rs"]), import_offences);
}

#[test]
fn pure_modules_do_no_input_or_output_hold_no_lock_and_ask_no_clock() {
    assert_none(&files("src", &[".rs"]), purity_offences);
}

#[test]
fn files_are_short_and_say_first_what_they_are_for() {
    assert_none(&rust_files(), appearance_offences);
}

#[test]
fn nothing_unfinished_is_committed() {
    assert_none(&rust_files(), unfinished_offences);
}

#[test]
fn no_file_names_a_place_on_somebodys_machine() {
    assert_none(&files("", &TEXT_ENDINGS), machine_path_offences);
}

#[test]
fn the_rules_name_modules_and_files_that_exist() {
    let sources = files("src", &[".rs"]);
    for module in MODULES {
        let is_there = sources.iter().any(|file| file.module() == Some(module));
        assert!(is_there, "no file of module {module}");
    }
    let root = sources
        .iter()
        .find(|file| file.path == "src/lib.rs")
        .unwrap();
    for line in root.text.lines() {
        if let Some(module) = line.strip_prefix("pub mod ") {
            let module = module.trim_end_matches(';');
            assert!(MODULES.contains(&module), "module {module} has no rule");
        }
    }
    for folder in PURE_FOLDERS {
        assert!(sources.iter().any(|file| file.path.starts_with(folder)));
    }
    for path in SHELL_FILES {
        assert!(sources.iter().any(|file| file.path == path), "no {path}");
    }
    for (module, _) in IMPORT_RULES {
        assert!(MODULES.contains(&module));
    }
}

/// Each rule held against code that keeps it and code that breaks it.
mod checker {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    fn check(rule: fn(&File) -> Vec<String>, path: &str, text: &str, expected: &[&str]) {
        assert_eq!(rule(&file(path, text)), expected, "{text}");
    }

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

    #[test]
    fn forbidden_imports_are_found_however_they_are_written() {
        let check = |path, text, expected: &[&str]| check(import_offences, path, text, expected);
        check(
            "src/session/channel.rs",
            "use crate::{model::X, protocol};",
            &[],
        );
        check(
            "src/session/channel.rs",
            "use crate::broker::Broker;",
            &["src/session/channel.rs:1: session knows broker"],
        );
        check(
            "src/model/id.rs",
            "use crate::{\n    protocol::X,\n    queue::{self, Y},\n};",
            &[
                "src/model/id.rs:3: model knows queue",
                "src/model/id.rs:3: model knows queue",
            ],
        );
        check(
            "src/protocol/frame.rs",
            "fn f(x: crate::model::X) {}",
            &["src/protocol/frame.rs:1: protocol knows model"],
        );
        check(
            "src/routing/topic.rs",
            "use super::super::queue::X;",
            &["src/routing/topic.rs:1: routing knows queue"],
        );
        check(
            "src/routing/mod.rs",
            "use super::store;",
            &["src/routing/mod.rs:1: routing knows store"],
        );
        check(
            "src/queue.rs",
            "use crate::*;",
            &["src/queue.rs:1: queue knows *"],
        );
        check(
            "src/broker/vhost.rs",
            "#[cfg(test)]\nmod tests {\n    use crate::http::X;\n}",
            &["src/broker/vhost.rs:3: broker knows http"],
        );
    }

    #[test]
    fn what_only_looks_like_a_forbidden_import_is_none() {
        let check = |path, text| check(import_offences, path, text, &[]);
        check("src/session/channel.rs", "//! See [`crate::broker`].");
        check("src/session/channel.rs", "let x = \"crate::broker::X\";");
        check("src/session/channel.rs", "use super::queue::X;");
        check(
            "src/session/channel.rs",
            "#[cfg(test)]\nmod tests {\n    use super::super::queue::X;\n}",
        );
        check("src/queue/state.rs", "use crate::store::Blocks;");
        check("src/broker/mod.rs", "use crate::{queue, routing, store};");
        check("src/server/mod.rs", "use crate::session::Session;");
    }

    #[test]
    fn impure_code_is_found_in_pure_modules_alone() {
        let check = |path, text, expected: &[&str]| check(purity_offences, path, text, expected);
        check(
            "src/session/mod.rs",
            "use std::time::{Duration, Instant};\nfn f() { Instant::now(); }",
            &["src/session/mod.rs:2: Instant::now in pure code"],
        );
        check(
            "src/queue/state.rs",
            "use std::{fs, sync::Mutex};",
            &[
                "src/queue/state.rs:1: std::fs in pure code",
                "src/queue/state.rs:1: std::sync::Mutex in pure code",
            ],
        );
        check(
            "src/routing/mod.rs",
            "use tokio::sync::Notify;",
            &["src/routing/mod.rs:1: tokio::sync::Notify in pure code"],
        );
        check(
            "src/protocol/frame.rs",
            "fn f() { std::time::SystemTime::now() }",
            &["src/protocol/frame.rs:1: std::time::SystemTime::now in pure code"],
        );
        check("src/queue/handle.rs", "use parking_lot::Mutex;", &[]);
        check("src/server/mod.rs", "use std::net::TcpStream;", &[]);
        check(
            "src/model/time.rs",
            "/// [`std::fs`]\nuse std::time::Instant;",
            &[],
        );
    }

    #[test]
    fn tests_inside_a_pure_file_may_do_what_the_code_around_them_may_not() {
        let inside =
            "#[cfg(test)]\n#[allow(a)]\nmod tests {\n    fn f() { { Instant::now(); } }\n}\n";
        let behind = format!("{inside}fn g() {{ Instant::now(); }}");
        let declared = "#[cfg(test)]\nmod tests;\nfn g() { Instant::now(); }";
        check(purity_offences, "src/session/a.rs", inside, &[]);
        check(
            purity_offences,
            "src/session/a.rs",
            &behind,
            &["src/session/a.rs:6: Instant::now in pure code"],
        );
        check(
            purity_offences,
            "src/session/a.rs",
            declared,
            &["src/session/a.rs:3: Instant::now in pure code"],
        );
        check(purity_offences, "src/session/a/tests.rs", declared, &[]);
    }

    #[test]
    fn a_long_file_and_one_without_a_first_word_are_found() {
        let check = |text: &str, expected: &[&str]| {
            check(appearance_offences, "src/a.rs", text, expected);
        };
        let long = "//! A.\n".to_owned() + &"a\n".repeat(LINES_MAX);
        check("//! A.\n", &[]);
        check(
            "use b;\n//! A.\n",
            &["src/a.rs: does not open with what it is for (//!)"],
        );
        check(&long[..long.len() - 2], &[]);
        check(&long, &["src/a.rs: 801 lines, at most 800"]);
        check(&format!("{GENERATED_MARK} by x\n{long}"), &[]);
    }

    #[test]
    fn marks_of_unfinished_work_are_found() {
        let check = |text: &str, expected: &[&str]| {
            check(unfinished_offences, "src/a.rs", text, expected);
        };
        let (start, end) = UNFINISHED_WORDS[0];
        check(
            &format!("a\n// {start}{end}: b"),
            &[&format!("src/a.rs:2: {start}{end}")],
        );
        check(&format!("// MAS{start}{end}NS {start} {end}"), &[]);
        check("fn f() {\n    todo!()\n}", &["src/a.rs:2: todo!"]);
        check("#[ignore = \"slow\"]\nfn f() {}", &["src/a.rs:1: #[ignore"]);
        check("// no dbg! here\nlet x = \"todo!\";", &[]);
    }

    #[test]
    fn paths_of_a_machine_are_found() {
        for (start, end) in MACHINE_PATHS {
            check(
                machine_path_offences,
                "docs/a.md",
                &format!("a\nsee {start}{end}b"),
                &[&format!("docs/a.md:2: {start}{end}")],
            );
        }
        check(
            machine_path_offences,
            "docs/a.md",
            "see docs/network/a.md",
            &[],
        );
    }
}
