//! Settings that the handler was deployed with.

use crate::node::config;

/// Returns the setting of this name.
pub fn get(key: &str) -> Option<String> {
    config::get(key)
}
