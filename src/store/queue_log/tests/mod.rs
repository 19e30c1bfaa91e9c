//! Tests of the log as a whole.

#![allow(clippy::unwrap_used)]

mod model;

use std::sync::Arc;

use super::*;
