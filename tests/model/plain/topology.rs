//! Declares, deletes and bindings in the plain model, with RabbitMQ's refusals.
//!
//! In: what a client asks for. Out: counts, or the refusal that it must hear. Messages are not known here.

use super::queue::{Arguments, Queue};
use super::routing::{Binding, Exchange, Target};
use super::{Fault, Plain};
use crate::operations::BindingAsked;

impl Plain {
    pub(super) fn declare_exchange(
        &mut self,
        name: &str,
        exchange: &Exchange,
    ) -> Result<(), Fault> {
        match self.routes.exchanges.get(name) {
            Some(existing) if existing == exchange => {}
            Some(_) => return Err(inequivalent()),
            None => {
                let exchanges = &mut self.routes.exchanges;
                exchanges.insert(name.to_owned(), exchange.clone());
            }
        }
        Ok(())
    }

    pub(super) fn find_exchange(&self, name: &str) -> Result<(), Fault> {
        match self.routes.exchanges.get(name) {
            Some(_) => Ok(()),
            None => Err(no_exchange(name)),
        }
    }

    pub(super) fn delete_exchange(&mut self, name: &str, if_unused: bool) -> Result<(), Fault> {
        if name.starts_with("amq.") {
            return Err(Fault::Channel(format!(
                "403 ACCESS_REFUSED - deletion of system exchange '{name}' in vhost '/' not allowed"
            )));
        }
        let is_used = self
            .routes
            .bindings
            .iter()
            .any(|binding| binding.source == name);
        if if_unused && is_used {
            return Err(Fault::Channel(format!(
                "406 PRECONDITION_FAILED - exchange '{name}' in vhost '/' in use"
            )));
        }
        self.routes.delete(name);
        Ok(())
    }

    pub(super) fn change_binding(
        &mut self,
        client: usize,
        asked: &BindingAsked,
        binds: bool,
    ) -> Result<(), Fault> {
        if asked.source.is_empty() || (!asked.is_queue && asked.target.is_empty()) {
            return Err(Fault::Channel(
                "403 ACCESS_REFUSED - operation not permitted on the default exchange".to_owned(),
            ));
        }
        let has_source = self.routes.exchanges.contains_key(&asked.source);
        if binds && !has_source {
            return Err(no_exchange(&asked.source));
        }
        let target = if asked.is_queue {
            if self.queue(&asked.target).is_none() {
                return missing_is_fine(!binds, no_queue(&asked.target));
            }
            self.accessible(client, &asked.target)?;
            Target::Queue(asked.target.clone())
        } else {
            if !self.routes.exchanges.contains_key(&asked.target) {
                return missing_is_fine(!binds, no_exchange(&asked.target));
            }
            Target::Exchange(asked.target.clone())
        };
        let mut arguments = asked.arguments.clone();
        arguments.sort_unstable();
        let binding = Binding {
            source: asked.source.clone(),
            target,
            key: asked.key.clone(),
            arguments,
        };
        if binds {
            self.routes.bind(binding);
        } else {
            self.routes.unbind(&binding);
        }
        Ok(())
    }

    pub(super) fn declare_queue(
        &mut self,
        client: usize,
        name: &str,
        (durable, exclusive, auto_delete): (bool, bool, bool),
        arguments: &Arguments,
    ) -> Result<String, Fault> {
        let durable = durable && !exclusive;
        let owner = exclusive.then(|| (client, self.clients[client].connection));
        let now_ms = self.world.now_ms;
        if self.queue(name).is_some() {
            let queue = self.accessible(client, name)?;
            if queue.owner != owner {
                return Err(locked(name));
            }
            let is_same = queue.durable == durable
                && queue.auto_delete == auto_delete
                && queue.arguments == *arguments;
            if !is_same {
                return Err(inequivalent());
            }
            return Ok(found(queue, now_ms));
        }
        self.last_queue += 1;
        let mut queue = Queue::new(self.last_queue, name, arguments.clone(), now_ms);
        queue.durable = durable;
        queue.owner = owner;
        queue.auto_delete = auto_delete;
        self.queues.push(queue);
        Ok(format!("queue.declare-ok {name} 0 0"))
    }

    pub(super) fn find_queue(&mut self, client: usize, name: &str) -> Result<String, Fault> {
        let now_ms = self.world.now_ms;
        Ok(found(self.accessible(client, name)?, now_ms))
    }

    pub(super) fn delete_queue(
        &mut self,
        client: usize,
        name: &str,
        if_unused: bool,
        if_empty: bool,
    ) -> Result<usize, Fault> {
        if self.queue(name).is_none() {
            return Ok(0);
        }
        let queue = self.accessible(client, name)?;
        if queue.arguments.quorum && (if_unused || if_empty) {
            let flag = if if_unused { "if-unused" } else { "if-empty" };
            return Err(Fault::Connection(format!(
                "540 NOT_IMPLEMENTED - cannot delete queue '{name}' in vhost '/'. queue.delete operations with \
                 {flag} flag set are not supported by quorum queues"
            )));
        }
        let objection = if if_unused && !queue.consumers.is_empty() {
            "in use"
        } else if if_empty && !queue.ready.is_empty() {
            "not empty"
        } else {
            let (id, count) = (queue.id, queue.ready.len());
            self.remove_queue(id);
            return Ok(count);
        };
        Err(Fault::Channel(format!(
            "406 PRECONDITION_FAILED - queue '{name}' in vhost '/' {objection}"
        )))
    }

    /// A queue that is there and that the client may use.
    pub(super) fn accessible(&mut self, client: usize, name: &str) -> Result<&mut Queue, Fault> {
        let connection = (client, self.clients[client].connection);
        let mut queues = self.queues.iter_mut();
        let queue = queues
            .find(|queue| queue.name == name)
            .ok_or_else(|| no_queue(name))?;
        if queue.owner.is_some_and(|owner| owner != connection) {
            return Err(locked(name));
        }
        Ok(queue)
    }
}

/// The counts of a queue that was declared again or looked for, which a classic queue takes as use.
fn found(queue: &mut Queue, now_ms: u64) -> String {
    if !queue.arguments.quorum {
        queue.last_use_ms = now_ms;
    }
    let (ready, consumers) = (queue.ready.len(), queue.consumers.len());
    format!("queue.declare-ok {} {ready} {consumers}", queue.name)
}

fn missing_is_fine(is_fine: bool, fault: Fault) -> Result<(), Fault> {
    if is_fine { Ok(()) } else { Err(fault) }
}

fn inequivalent() -> Fault {
    Fault::Channel("406 PRECONDITION_FAILED - inequivalent arg *".to_owned())
}

fn locked(name: &str) -> Fault {
    Fault::Channel(format!(
        "405 RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{name}' in vhost '/'. It could be *"
    ))
}

fn no_queue(name: &str) -> Fault {
    Fault::Channel(format!("404 NOT_FOUND - no queue '{name}' in vhost '/'"))
}

pub(super) fn no_exchange(name: &str) -> Fault {
    Fault::Channel(format!("404 NOT_FOUND - no exchange '{name}' in vhost '/'"))
}
