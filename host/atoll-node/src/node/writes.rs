//! Who learns of writes before they are answered.

use std::fmt;
use std::sync::OnceLock;

type Look = Box<dyn Fn() + Send + Sync>;

/// Nobody, until somebody has to: until then a write costs nothing more for it.
#[derive(Default)]
pub(crate) struct Writes(OnceLock<Look>);

impl fmt::Debug for Writes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Writes")
    }
}

impl Writes {
    /// From now on `look` is called before a write is answered. There is one at most: a second one is
    /// not made.
    pub(crate) fn follow(&self, look: impl FnOnce() -> Look) {
        self.0.get_or_init(look);
    }

    /// Something was written, and is about to be answered.
    pub(crate) fn note(&self) {
        if let Some(look) = self.0.get() {
            look();
        }
    }
}
