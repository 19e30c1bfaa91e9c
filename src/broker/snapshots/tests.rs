//! Snapshots of a broker.
