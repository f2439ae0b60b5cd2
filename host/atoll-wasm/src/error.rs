//! What can go wrong: making an engine, taking in a component, calling it.

use crate::limits::{
    BLOCK_DEPTH_MAX, CODE_BYTES_MAX, FUNCTIONS_MAX, LOOP_COUNT_MAX, NAMES_SHOWN_MAX,
    QUOTE_BYTES_MAX,
};

/// Why there is no engine. Nothing is left running.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// wasmtime refused the configuration, or could not reserve the address space for so many
    /// instances.
    #[error("cannot start the Wasm engine for {instances_max} instances: {reason}")]
    Refused {
        /// As configured; fewer need less address space.
        instances_max: u32,
        /// wasmtime's words.
        reason: String,
    },
    /// The epoch thread could not be started.
    #[error("cannot start the Wasm engine's clock thread")]
    Thread(#[from] std::io::Error),
}

/// Why a component was not taken in. Nothing is left behind. Messages are for whoever deploys it.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// Larger than the engine takes.
    #[error("the component has {len} bytes; at most {bytes_max} are taken")]
    TooLarge {
        /// Its size.
        len: usize,
        /// The engine's `component_bytes_max`.
        bytes_max: usize,
    },
    /// The bytes are no WebAssembly at all.
    #[error("not a WebAssembly file: it does not begin with \\0asm")]
    NotWasm,
    /// A core module, which is what compilers make before the last step.
    #[error(
        "a core WebAssembly module, not a component. In Rust, build for wasm32-unknown-unknown \
         with `linker = \"wasm-component-ld\"` in .cargo/config.toml; a finished module becomes a \
         component with `wasm-tools component new`"
    )]
    CoreModule,
    /// Broken, or beyond what the engine takes (too many memories, a feature that is off).
    #[error("not a component that this node can run: {0}")]
    Invalid(String),
    /// One of its functions would keep the compiler busy for minutes.
    #[error(
        "a function of the component has {len} bytes of code; at most {bytes_max} are compiled. \
         Split it, or let the compiler optimise for size"
    )]
    FunctionTooLarge {
        /// Its size.
        len: usize,
        /// `FUNCTION_BYTES_MAX`.
        bytes_max: usize,
    },
    /// The same, for how many loops it has, or how deep its blocks lie within one another.
    #[error(
        "a function of the component has more than {LOOP_COUNT_MAX} loops, or more than \
         {BLOCK_DEPTH_MAX} blocks within one another, which is not compiled; split it"
    )]
    FunctionTooComplex,
    /// All of its functions together would take the compiler gigabytes of memory.
    #[error(
        "the component has more than {FUNCTIONS_MAX} functions, or more than {CODE_BYTES_MAX} bytes \
         of code, which is not compiled; leave out what it does not use (let the linker collect \
         garbage, or use `wasm-opt -Os`), or split it into several handlers"
    )]
    TooManyFunctions,
    /// Does not export what the gateway calls.
    #[error(
        "the component exports neither atoll:edge/incoming-handler@0.1.0 nor \
         wasi:http/incoming-handler@0.2 nor wasi:http/handler@0.3 nor wasi:keyvalue/watcher, so it \
         is no handler, nor atoll:edge/route-filter@0.1.0, so it is no filter; it exports {}",
        listed(found)
    )]
    MissingExport {
        /// What it exports instead.
        found: Vec<String>,
    },
    /// Wants from the node what the node does not have.
    #[error("the component imports what this node does not offer: {}", listed(names))]
    UnknownImports {
        /// Every such import: an interface, or `interface: function`.
        names: Vec<String>,
    },
    /// Its imports and exports have the right names and other types.
    #[error("the component was made for another text of the interfaces that it names: {0}")]
    Mismatch(String),
    /// It is the first of `wasi:http` 0.3 here, and the second engine, which it needs, cannot be made.
    #[error("components of wasi:http 0.3 run on a second engine, and this node has none: {0}")]
    NoEngine(#[from] EngineError),
}

/// Why a call gave no answer that can go out. The guest's instance is gone in every case, and what
/// it wrote to the store before stays written.
///
/// The message is one sentence that may be shown to a client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The guest's code failed.
    #[error("the handler failed: {reason}")]
    Trap {
        /// In words; may quote the guest.
        reason: String,
    },
    /// It computed for longer than it may.
    #[error("the handler used up its {cpu_ms} ms of processor time")]
    CpuLimit {
        /// The limit.
        cpu_ms: u32,
    },
    /// It did not answer in time.
    #[error("the handler did not answer within {wall_ms} ms")]
    WallLimit {
        /// The limit.
        wall_ms: u32,
    },
    /// It failed after it was refused memory.
    #[error("the handler needs more than its {memory_bytes} bytes of memory")]
    MemoryLimit {
        /// The limit.
        memory_bytes: usize,
    },
    /// It answered with a body that is too large.
    #[error(
        "the handler answered with {len} bytes; at most {bytes_max} are allowed (atoll deploy \
         --response-mib)"
    )]
    ResponseLimit {
        /// Size of the body.
        len: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// It answered with something that is no HTTP.
    #[error("the handler's answer is not valid: {0}")]
    BadResponse(String),
    /// It answered with an error of `wasi:http` in the place of a response.
    #[error("the handler answered with an error: {0}")]
    Answered(String),
    /// It returned and had not answered.
    #[error("the handler returned without an answer")]
    NoAnswer,
    /// Another request ended the instance that the two shared.
    #[error(
        "another request ended the instance of the handler that both ran in; this one may not be made \
         twice, and whether it was done is not known"
    )]
    InstanceLost,
    /// The guest was not started, or was refused memory, because others use what there is. Later it
    /// may work.
    #[error("{0}")]
    Busy(&'static str),
}

impl CallError {
    /// Returns the kind of the error for programs: it never changes.
    pub fn kind(&self) -> &'static str {
        match self {
            CallError::Trap { .. } => "trap",
            CallError::CpuLimit { .. } => "cpu-limit",
            CallError::WallLimit { .. } => "wall-limit",
            CallError::MemoryLimit { .. } => "memory-limit",
            CallError::ResponseLimit { .. } => "response-limit",
            CallError::BadResponse(_) => "bad-response",
            CallError::Answered(_) => "error",
            CallError::NoAnswer => "no-answer",
            CallError::InstanceLost => "instance-lost",
            CallError::Busy(_) => "busy",
        }
    }
}

pub(crate) const PLACES_TAKEN: &str = "all places for running handlers are taken";
pub(crate) const MEMORY_TAKEN: &str = "the memory for running handlers is used up";

fn listed(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(NAMES_SHOWN_MAX).map(|name| quote(name)).collect();
    match (shown.is_empty(), names.len() - shown.len()) {
        (true, _) => "nothing".to_owned(),
        (false, 0) => shown.join(", "),
        (false, more) => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Returns text that came with a guest, fit for one line of ours: no control characters, not long.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::new();
    for character in text.chars() {
        if quoted.len() + character.len_utf8() > QUOTE_BYTES_MAX {
            quoted.push('…');
            break;
        }
        quoted.push(if character.is_control() { ' ' } else { character });
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_listed_up_to_a_bound() {
        assert_eq!(listed(&[]), "nothing");
        assert_eq!(listed(&["a".to_owned(), "b".to_owned()]), "a, b");
        let many = vec!["x".to_owned(); NAMES_SHOWN_MAX + 3];
        assert!(listed(&many).ends_with("x and 3 more"));
    }

    #[test]
    fn text_of_a_guest_can_neither_break_a_line_nor_fill_a_page() {
        assert_eq!(quote("a\r\nb"), "a  b");
        let long = quote(&"é".repeat(QUOTE_BYTES_MAX));
        assert!(long.len() <= QUOTE_BYTES_MAX + '…'.len_utf8());
        assert!(long.ends_with('…'));
    }
}
