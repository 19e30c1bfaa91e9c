//! The rules of the house: which module may know which, what the pure ones may not do, how files look.
//!
//! In: the sources of this repository; out: a list of offences with file and line. `rules.rs` has the
//! rules, `reader.rs` reads code for them.

#![allow(clippy::unwrap_used)]

mod reader;
mod rules;

use std::fs;
use std::path::{Path, PathBuf};

use rules::{
    File, IMPORT_RULES, MODULES, PURE_FOLDERS, SHELL_FILES, appearance_offences, import_offences,
    machine_path_offences, purity_offences, unfinished_offences,
};

/// Names of text files in which paths are looked for.
const TEXT_ENDINGS: [&str; 12] = [
    ".rs", ".toml", ".md", ".py", ".sh", ".js", ".ts", ".html", ".css", ".yml", ".yaml", ".conf",
];

/// Folders without text of ours, beside those whose names begin with a dot.
const SKIPPED_FOLDERS: [&str; 3] = ["target", "node_modules", "__pycache__"];

/// The one with a dot that holds ours.
const DOTTED_FOLDER: &str = ".github";

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
