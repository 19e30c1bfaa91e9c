//! Exchanges and bindings as the plain model keeps them: one list, scanned from its beginning each time.
//!
//! In: declares, bindings, keys. Out: the names of queues. Messages and queues are not known here.

use std::collections::{BTreeMap, BTreeSet};

/// An exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    pub kind: &'static str,
    pub durable: bool,
    pub auto_delete: bool,
    pub internal: bool,
    pub alternate: Option<String>,
}

/// Where a binding leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Queue(String),
    Exchange(String),
}

/// A binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    pub source: String,
    pub target: Target,
    pub key: String,
    /// Sorted by name.
    pub arguments: Vec<(&'static str, &'static str)>,
}

/// All exchanges and bindings of a virtual host.
#[derive(Clone, Debug)]
pub struct Routes {
    pub exchanges: BTreeMap<String, Exchange>,
    pub bindings: Vec<Binding>,
}

impl Default for Routes {
    fn default() -> Self {
        let predeclared = [
            ("amq.direct", "direct"),
            ("amq.fanout", "fanout"),
            ("amq.topic", "topic"),
            ("amq.headers", "headers"),
        ];
        let exchanges = predeclared.into_iter().map(|(name, kind)| {
            let exchange = Exchange {
                kind,
                durable: true,
                auto_delete: false,
                internal: false,
                alternate: None,
            };
            (name.to_owned(), exchange)
        });
        Self {
            exchanges: exchanges.collect(),
            bindings: Vec::new(),
        }
    }
}

impl Routes {
    /// The names of the queues that a message published to `exchange` reaches, the default exchange apart.
    pub fn queues(
        &self,
        exchange: &str,
        keys: &[String],
        texts: &[(&'static str, &'static str)],
    ) -> BTreeSet<String> {
        let mut queues = BTreeSet::new();
        let mut seen: Vec<String> = Vec::new();
        let mut open = vec![exchange.to_owned()];
        while let Some(name) = open.pop() {
            if seen.contains(&name) {
                continue;
            }
            seen.push(name.clone());
            let Some(found) = self.exchanges.get(&name) else {
                continue;
            };
            let matching: Vec<&Binding> = self
                .bindings
                .iter()
                .filter(|binding| binding.source == name && fits(found.kind, binding, keys, texts))
                .collect();
            if matching.is_empty() {
                open.extend(found.alternate.clone());
            }
            for binding in matching {
                match &binding.target {
                    Target::Queue(queue) => {
                        queues.insert(queue.clone());
                    }
                    Target::Exchange(next) => open.push(next.clone()),
                }
            }
        }
        queues
    }

    /// Adds a binding that is not there yet.
    pub fn bind(&mut self, binding: Binding) {
        if !self.bindings.contains(&binding) {
            self.bindings.push(binding);
        }
    }

    /// Removes a binding, with what depends on it.
    pub fn unbind(&mut self, binding: &Binding) {
        if let Some(at) = self.bindings.iter().position(|other| other == binding) {
            self.bindings.remove(at);
            self.source_lost(&binding.source);
        }
    }

    /// Removes every binding to a target that is gone.
    pub fn target_gone(&mut self, target: &Target) {
        let gone: Vec<Binding> = self
            .bindings
            .iter()
            .filter(|binding| binding.target == *target)
            .cloned()
            .collect();
        self.bindings.retain(|binding| binding.target != *target);
        for binding in gone {
            self.source_lost(&binding.source);
        }
    }

    /// Deletes an exchange, with the bindings on both of its sides.
    pub fn delete(&mut self, name: &str) {
        if self.exchanges.remove(name).is_some() {
            self.bindings.retain(|binding| binding.source != name);
            self.target_gone(&Target::Exchange(name.to_owned()));
        }
    }

    /// An auto-delete exchange goes with the last binding from it.
    fn source_lost(&mut self, source: &str) {
        let is_used = self.bindings.iter().any(|binding| binding.source == source);
        let is_auto_delete = self
            .exchanges
            .get(source)
            .is_some_and(|exchange| exchange.auto_delete);
        if is_auto_delete && !is_used {
            self.delete(source);
        }
    }
}

fn fits(kind: &str, binding: &Binding, keys: &[String], texts: &[(&str, &str)]) -> bool {
    match kind {
        "direct" => keys.contains(&binding.key),
        "fanout" => true,
        "topic" => {
            let pattern: Vec<&str> = binding.key.split('.').collect();
            keys.iter().any(|key| {
                let words: Vec<&str> = key.split('.').collect();
                fits_topic(&pattern, &words)
            })
        }
        _ => fits_headers(&binding.arguments, texts),
    }
}

fn fits_topic(pattern: &[&str], words: &[&str]) -> bool {
    match (pattern.first(), words.first()) {
        (None, None) => true,
        (Some(&"#"), _) => (0..=words.len()).any(|at| fits_topic(&pattern[1..], &words[at..])),
        (Some(&"*"), Some(_)) => fits_topic(&pattern[1..], &words[1..]),
        (Some(asked), Some(word)) if asked == word => fits_topic(&pattern[1..], &words[1..]),
        _ => false,
    }
}

fn fits_headers(arguments: &[(&str, &str)], texts: &[(&str, &str)]) -> bool {
    let is_any = arguments.contains(&("x-match", "any"));
    let mut conditions = arguments.iter().filter(|(name, _)| !name.starts_with("x-"));
    if is_any {
        conditions.any(|condition| texts.contains(condition))
    } else {
        conditions.all(|condition| texts.contains(condition))
    }
}
