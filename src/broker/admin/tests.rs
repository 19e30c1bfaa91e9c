//! Requests of operators against a broker on a folder of its own, and what a restart keeps of them.
