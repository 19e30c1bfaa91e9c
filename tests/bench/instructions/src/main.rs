//! Fixed work for the broker without sockets: a scenario, so many times. Run under callgrind, it says how many instructions
//! that takes (`tests/bench/instructions.py`); run alone, how long.
//!
//! In: the name of a scenario, how many times, a folder to write to. Out: nothing but an exit code, so that nothing but the
//! scenario's own work grows with the number.

mod octets;
mod peer;
mod scenarios;

use std::path::Path;
use std::process::ExitCode;

/// As in the broker itself.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words == ["--list"] {
        for (name, unit, _) in scenarios::ALL {
            println!("{name} {unit}");
        }
        return ExitCode::SUCCESS;
    }
    let [name, times, folder] = words.as_slice() else {
        return wrong("instructions SCENARIO TIMES FOLDER, or instructions --list");
    };
    let scenario = scenarios::ALL.iter().find(|(known, ..)| known == name);
    let Some((_, _, run)) = scenario else {
        return wrong("no such scenario; instructions --list names them");
    };
    let Ok(times) = times.parse() else {
        return wrong("TIMES is a number");
    };
    run(Path::new(folder), times);
    ExitCode::SUCCESS
}

fn wrong(what: &str) -> ExitCode {
    eprintln!("instructions: {what}");
    ExitCode::from(64)
}
