//! The form of the table of settings, and the macro that makes everything from it.
//!
//! In: the declarations of `table.rs`. Out: the structs of used settings, the rows that describe
//! them, and for each struct how it is read from what was written, printed and reloaded. The macro
//! exists so that a setting is spelled once; no setting is known here.

use super::kind::Kind;
use super::used::Reading;

/// When a changed setting takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// At SIGHUP, without a restart.
    Live,
    /// At the next start.
    Restart,
    /// Once, when the data folder is created.
    FirstBoot,
}

/// What is known about one setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The key with its section, like `limits.channel_max`.
    pub key: &'static str,
    /// The key without its section.
    pub name: &'static str,
    /// The unit of the value.
    pub unit: &'static str,
    /// The default as a TOML literal.
    pub default: &'static str,
    /// When a change takes effect.
    pub effect: Effect,
    /// RabbitMQ's key for the same thing; empty where it has none.
    pub rabbitmq: &'static str,
    /// What it is.
    pub meaning: &'static str,
    /// Why the default is what it is.
    pub reason: &'static str,
    /// What may be written.
    pub allowed: fn() -> String,
}

impl Setting {
    /// The environment variable that overrides the file.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("HAREMQ_{}", self.key.to_ascii_uppercase().replace('.', "_"))
    }
}

/// Settings that stand together in the file.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// The name of the TOML table; empty for the top of the file.
    pub name: &'static str,
    /// What the section is about.
    pub about: &'static str,
    /// Its settings, in the order of the file.
    pub settings: &'static [Setting],
}

/// Ties a kind to the type of its field, so that generic kinds need no type at the table's rows.
pub(super) fn typed<T, K: Kind<Used = T>>(kind: K) -> K {
    kind
}

/// Reads one setting; problems go to `reading`.
pub(super) fn read<K: Kind>(
    reading: &mut Reading<'_>,
    key: &'static str,
    kind: K,
) -> Option<K::Used> {
    reading.value(key, &kind)
}

/// Declares sections of settings: see `table.rs`.
macro_rules! settings {
    (@key "" $name:ident) => { stringify!($name) };
    (@key $path:literal $name:ident) => { concat!($path, ".", stringify!($name)) };
    ($(
        $struct:ident $path:tt $about:literal {
            $(
                $name:ident: $type:ty = $kind:expr, $default:literal, $unit:literal, $effect:ident,
                $rabbitmq:literal, $meaning:literal, $reason:literal;
            )*
            $( + $nested:ident: $nested_struct:ident $nested_about:literal; )*
        }
    )+) => {
        $(
            #[doc = $about]
            #[derive(Clone, Debug, PartialEq)]
            pub struct $struct {
                $(
                    #[doc = $meaning]
                    #[doc = concat!("\n\nUnit: ", $unit, ". Default: `", $default, "`.")]
                    pub $name: $type,
                )*
                $( #[doc = $nested_about] pub $nested: $nested_struct, )*
            }

            impl $struct {
                const SECTION: $crate::config::define::Section = $crate::config::define::Section {
                    name: $path,
                    about: $about,
                    settings: &[$(
                        $crate::config::define::Setting {
                            key: settings!(@key $path $name),
                            name: stringify!($name),
                            unit: $unit,
                            default: $default,
                            effect: $crate::config::define::Effect::$effect,
                            rabbitmq: $rabbitmq,
                            meaning: $meaning,
                            reason: $reason,
                            allowed: || $crate::config::define::typed::<$type, _>($kind).allowed(),
                        },
                    )*],
                };

                /// Reads every field before it gives up, so that all problems are told at once.
                pub(super) fn read(
                    reading: &mut $crate::config::used::Reading<'_>,
                ) -> Option<Self> {
                    $(
                        let $name: Option<$type> =
                            $crate::config::define::read(reading, settings!(@key $path $name), $kind);
                    )*
                    $( let $nested = $nested_struct::read(reading); )*
                    Some(Self { $( $name: $name?, )* $( $nested: $nested?, )* })
                }

                /// The settings with their values as TOML literals, in the order of the table.
                pub(super) fn rows(&self, rows: &mut Vec<(&'static str, String)>) {
                    $(
                        let kind = $crate::config::define::typed::<$type, _>($kind);
                        rows.push((settings!(@key $path $name), kind.render(&self.$name)));
                    )*
                    $( self.$nested.rows(rows); )*
                }

                /// Takes over what can change while the broker runs, and tells what differed.
                pub(super) fn take_live(
                    &mut self,
                    new: &Self,
                    changes: &mut Vec<$crate::config::reload::Change>,
                ) {
                    $(
                        if self.$name != new.$name {
                            let effect = $crate::config::define::Effect::$effect;
                            if effect == $crate::config::define::Effect::Live {
                                self.$name = new.$name.clone();
                            }
                            changes.push($crate::config::reload::Change::new(
                                settings!(@key $path $name),
                                effect,
                            ));
                        }
                    )*
                    $( self.$nested.take_live(&new.$nested, changes); )*
                }
            }
        )+

        /// Every section, in the order of the file.
        pub(super) const SECTIONS: &[$crate::config::define::Section] = &[$($struct::SECTION),+];
    };
}

pub(super) use settings;
