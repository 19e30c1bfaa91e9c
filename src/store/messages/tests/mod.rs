//! The message store on a disk in memory: what it keeps, moves, removes and finds again, whatever is cut off or damaged.

mod checkpoints;
mod crashes;
mod findings;
mod full_disk;
mod ledger;
mod moving;
mod reading;
mod support;
