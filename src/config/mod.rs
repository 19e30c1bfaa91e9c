//! Settings in two steps: what was written, and what is used.
//!
//! In: a TOML file, the environment and the command line's flags. Out: [`Settings`], in which nothing
//! is left to a default and every value has its type. The table of all settings, with unit, default
//! and reason, stands once, in `table.rs`; parsing, printing, reloading, `config/haremq.toml` and
//! `docs/configuration.md` all come from it.
//!
//! This module does not know what a setting does: nothing here opens a socket, a log or the store.

mod define;
mod kind;
mod reference;
mod reload;
mod table;
mod used;
mod value;
mod written;

pub use define::{Effect, Section, Setting};
pub use reference::{example_file, reference_page};
pub use reload::{Change, Outcome};
pub use table::{
    AlarmSettings, AnnounceSettings, AuthSettings, DeprecatedFeatureSettings, FirstBootSettings,
    HttpSettings, LimitSettings, ListenSettings, LogLevelSettings, LogSettings, NodeSettings,
    QueueSettings, Settings, StatsSettings, TimeoutSettings,
};
pub use used::{ConfigError, Loaded, Sources};
pub use value::{
    Amount, DefaultQueueType, Listeners, LogFormat, LogLevel, Mechanism, Secret, Sync,
};
pub use written::{Flag, Problem};
