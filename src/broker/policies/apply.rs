//! Puts the policies of a virtual host to use, for what is there and for what is declared later.
//!
//! In: a [`PolicySet`] in the place of another. Out: queues that were reconfigured, one lock at a time, with what they asked for
//! carried out in between; exchanges whose remembered routes are forgotten if their alternate exchange has changed.

use std::sync::Arc;

use super::{Object, PolicyKind, PolicySet, alternate_exchange, keys};
use crate::broker::Broker;
use crate::broker::courier::Courier;
use crate::broker::vhost::{ExchangeCell, Vhost};
use crate::model::{Name, Now};
use crate::queue::QueueHandle;
use crate::store::definitions::Policy;
use crate::store::journal::SyncDemand;

impl Broker {
    /// Lets these policies hold. A declare that takes its policy while this goes on has the topology's lock, and so either
    /// sees the new ones or is found here.
    pub(in crate::broker) fn replace_policies(&self, vhost: &Vhost, policies: PolicySet, now: Now) {
        let policies = Arc::new(policies);
        {
            let _topology = vhost.topology.lock();
            vhost.set_policies(Arc::clone(&policies));
        }
        // Collected first, so that no guard of a map is held while a queue or an exchange is locked.
        let exchanges: Vec<Arc<ExchangeCell>> = vhost
            .exchanges
            .iter()
            .map(|x| Arc::clone(x.value()))
            .collect();
        for cell in exchanges {
            apply_to_exchange(&cell, &policies);
        }
        let queues: Vec<QueueHandle> = vhost.queues.iter().map(|q| q.value().clone()).collect();
        let mut courier = Courier::default();
        for handle in queues {
            let policy = policies.find(Object::Queue(handle.kind(), handle.name()));
            // A queue deleted meanwhile has no policy.
            let _ = handle.reconfigure(&policy, now, &mut courier.effects);
            courier.carry_out(self, now);
        }
    }

    /// What confirms of publishes to this queue wait for: its policy's `sync`, or the node's `store.sync`.
    pub fn queue_sync(&self, queue: &QueueHandle) -> SyncDemand {
        queue
            .sync()
            .unwrap_or_else(|| self.messages.journal().default_demand())
    }
}

/// Gives an exchange its policy.
pub(in crate::broker) fn apply_to_exchange(cell: &ExchangeCell, policies: &PolicySet) {
    let name = cell.read(|exchange| Name::clone(exchange.name()));
    let applied = policies.find(Object::Exchange(&name)).applied.clone();
    let alternate = applied.as_deref().and_then(alternate_exchange);
    cell.set_policy(applied, alternate);
}

/// Whoever lets queues confirm what a power cut can lose is reminded of it.
pub(in crate::broker) fn tell_of_sync(kind: PolicyKind, policy: &Policy) {
    let sync = keys::valid(&policy.definition, keys::SYNC)
        .and_then(|value| SyncDemand::parse(value.as_str()?));
    if let Some(sync) = sync.filter(|sync| sync.is_relaxed()) {
        tracing::warn!(
            target: "haremq::store",
            policy = %policy.name,
            vhost = %policy.vhost,
            pattern = policy.pattern,
            is_operator = kind == PolicyKind::Operator,
            sync = sync.as_str(),
            "confirms for the queues of this policy do not wait for the disk: a power cut may lose messages that were confirmed"
        );
    }
}
