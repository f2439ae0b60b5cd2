//! Settings that the handler was deployed with.

use crate::bindings::atoll::edge::config;

/// Returns the setting of this name.
pub fn get(key: &str) -> Option<String> {
    config::get(key)
}
