//! The rules themselves, each a function from a file to its offences, with line numbers.
//!
//! In: a file as text; out: what is wrong with it. Where the files are is not known here. Each rule is
//! also held against snippets that keep it and snippets that break it.

use crate::reader::{CodePath, blank, paths, without_tests};

/// The modules of the crate's root.
pub const MODULES: [&str; 12] = [
    "config", "protocol", "model", "session", "routing", "queue", "store", "auth", "broker",
    "server", "http", "cli",
];

/// What a module may import of the others.
pub enum May {
    Only(&'static [&'static str]),
    AllBut(&'static [&'static str]),
}

/// docs/architecture.md, the import rules.
pub const IMPORT_RULES: [(&str, May); 7] = [
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
pub const PURE_FOLDERS: [&str; 5] = [
    "src/protocol/",
    "src/model/",
    "src/session/",
    "src/routing/",
    "src/queue/",
];

/// The files among them that own a lock, so that the others need none: around a queue's state (twice), around a
/// connection's inbox, and around the window that several queues share.
pub const SHELL_FILES: [&str; 4] = [
    "src/queue/burst.rs",
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

/// A file of this repository.
pub struct File {
    /// From the repository's root, with `/`.
    pub path: String,
    pub text: String,
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
    pub fn module(&self) -> Option<&str> {
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

pub fn import_offences(file: &File) -> Vec<String> {
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

pub fn purity_offences(file: &File) -> Vec<String> {
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

pub fn appearance_offences(file: &File) -> Vec<String> {
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

pub fn unfinished_offences(file: &File) -> Vec<String> {
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

pub fn machine_path_offences(file: &File) -> Vec<String> {
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

mod tests {
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
