//! What a command is, and how its name is found.

pub mod table;

use super::fault::Fault;
use super::request::Arguments;
use super::session::Call;
use table::ROWS;

/// Executes a command: writes one reply, or returns the fault that is the reply.
pub(super) type Run = for<'a, 'c> fn(&'a mut Call<'c>) -> Result<(), Fault>;

/// How many commands there are.
pub const COMMAND_COUNT: usize = ROWS.len();

/// All commands, in the order of the table.
pub static COMMANDS: [Command; COMMAND_COUNT] = numbered();

/// A command, or a group of subcommands.
#[derive(Clone, Copy, Debug)]
pub struct Command {
    /// In lower case.
    pub name: &'static str,
    pub(super) arity: Arity,
    pub(super) flags: &'static [Flag],
    pub(super) keys: Keys,
    pub(super) group: &'static str,
    pub(super) since: &'static str,
    pub(super) summary: &'static str,
    pub(super) run: Run,
    pub(super) subcommands: &'static [Subcommand],
    pub(super) access: Access,
    /// Whether a client of RESP2 may give it while it listens to messages.
    pub(super) runs_while_listening: bool,
    /// What becomes of it between MULTI and EXEC.
    pub(super) within: Within,
    index: u8,
    word: u128,
}

/// A part of a command that has parts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subcommand {
    /// In lower case.
    pub(super) name: &'static str,
    /// Counts the command's name too.
    pub(super) arity: Arity,
    pub(super) summary: &'static str,
    pub(super) run: Run,
}

/// What a command does with keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Nothing.
    None,
    /// Looks at them.
    Read,
    /// Changes them.
    Write,
}

/// What becomes of a command between MULTI and EXEC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Within {
    /// It waits for EXEC. It touches none but the keys that its arguments name, or nothing.
    Queued,
    /// It is about the transaction or the connection, and runs at once.
    AtOnce,
    /// It would wait for something, or look at more than what a transaction holds.
    Refused,
}

/// A number of arguments, the names included; negative is "at least".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arity(pub(super) i8);

/// What Redis says about a command in COMMAND INFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flag {
    Readonly,
    Write,
    DenyOom,
    Fast,
    Admin,
    NoScript,
    PubSub,
    Loading,
    Stale,
    /// Allowed before AUTH.
    NoAuth,
}

/// Which arguments are keys: the first, the last (negative: from the end), and the step; 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Keys {
    pub(super) first: i8,
    pub(super) last: i8,
    pub(super) step: i8,
}

impl Keys {
    /// The arguments that are keys.
    pub(super) fn of<'a>(self, arguments: Arguments<'a>) -> impl Iterator<Item = &'a [u8]> {
        let (first, step) = (usize::from(self.first.unsigned_abs()), self.step.unsigned_abs());
        let last = match self.last {
            last if last < 0 => arguments.len().saturating_sub(usize::from(last.unsigned_abs())),
            last => usize::from(last.unsigned_abs()),
        };
        let count = if first == 0 { 0 } else { (last + 1).saturating_sub(first) };
        arguments.from(first).take(count).step_by(usize::from(step.max(1)))
    }
}

impl Arity {
    #[inline]
    pub(super) fn accepts(self, count: usize) -> bool {
        let Arity(arity) = self;
        let least = usize::from(arity.unsigned_abs());
        if arity < 0 { count >= least } else { count == least }
    }
}

impl Flag {
    pub(super) fn name(self) -> &'static str {
        match self {
            Flag::Readonly => "readonly",
            Flag::Write => "write",
            Flag::DenyOom => "denyoom",
            Flag::Fast => "fast",
            Flag::Admin => "admin",
            Flag::NoScript => "noscript",
            Flag::PubSub => "pubsub",
            Flag::Loading => "loading",
            Flag::Stale => "stale",
            Flag::NoAuth => "no_auth",
        }
    }
}

impl Command {
    /// A command with `name` in lower case, that takes `arity` arguments.
    pub(super) const fn new(name: &'static str, arity: i8, run: Run) -> Command {
        Command {
            name,
            arity: Arity(arity),
            flags: &[],
            keys: Keys { first: 0, last: 0, step: 0 },
            group: "generic",
            since: "1.0.0",
            summary: "",
            run,
            subcommands: &[],
            access: Access::None,
            runs_while_listening: false,
            within: Within::Refused,
            index: 0,
            word: 0,
        }
    }

    /// A command that has nothing but subcommands.
    pub(super) const fn container(
        name: &'static str,
        subcommands: &'static [Subcommand],
    ) -> Command {
        Command { subcommands, ..Command::new(name, -2, never) }
    }

    pub(super) const fn flags(self, flags: &'static [Flag]) -> Command {
        let (mut access, mut at) = (Access::None, 0);
        while at < flags.len() {
            match flags[at] {
                Flag::Readonly => access = Access::Read,
                Flag::Write => access = Access::Write,
                _ => {}
            }
            at += 1;
        }
        Command { flags, access, ..self }
    }

    pub(super) const fn while_listening(self) -> Command {
        Command { runs_while_listening: true, ..self }
    }

    /// Whether it changes keys.
    #[inline]
    pub(super) fn writes(&self) -> bool {
        self.access == Access::Write
    }

    /// Which arguments are keys; they are all that the command touches.
    pub(super) const fn keys(self, first: i8, last: i8, step: i8) -> Command {
        Command { keys: Keys { first, last, step }, within: Within::Queued, ..self }
    }

    /// What becomes of it between MULTI and EXEC, where it names no keys.
    pub(super) const fn within(self, within: Within) -> Command {
        Command { within, ..self }
    }

    /// Whether it may need more memory for what it is given.
    pub(super) fn grows(&self) -> bool {
        self.flags.contains(&Flag::DenyOom)
    }

    pub(super) const fn about(
        self,
        group: &'static str,
        since: &'static str,
        summary: &'static str,
    ) -> Command {
        Command { group, since, summary, ..self }
    }

    /// Its place in [`COMMANDS`].
    #[inline]
    pub fn index(&self) -> usize {
        usize::from(self.index)
    }

    pub(super) fn is_allowed_before_auth(&self) -> bool {
        self.flags.contains(&Flag::NoAuth)
    }

    pub(super) fn subcommand(&self, name: &[u8]) -> Option<&'static Subcommand> {
        self.subcommands.iter().find(|known| name.eq_ignore_ascii_case(known.name.as_bytes()))
    }
}

impl Subcommand {
    pub(super) const fn new(
        name: &'static str,
        arity: i8,
        (run, summary): (Run, &'static str),
    ) -> Subcommand {
        Subcommand { name, arity: Arity(arity), summary, run }
    }
}

/// Stands where only subcommands run.
fn never(_: &mut Call<'_>) -> Result<(), Fault> {
    Err(Fault::Syntax)
}

/// Longest name of a command, in bytes.
const NAME_BYTES_MAX: usize = 16;
/// Slots of the table that finds names; about three times as many as commands.
const SLOT_COUNT: usize = 256;
const EMPTY: u8 = u8::MAX;
const _: () = assert!(COMMAND_COUNT * 2 < SLOT_COUNT, "the table of names stays sparse");

/// For each hash of a name the index of its command, or of one that hashed nearby.
static SLOTS: [u8; SLOT_COUNT] = slots();

/// The command of this name, in any case.
#[inline]
pub fn find(name: &[u8]) -> Option<&'static Command> {
    let mut bytes = [0; NAME_BYTES_MAX];
    bytes.get_mut(..name.len())?.copy_from_slice(name);
    bytes.make_ascii_lowercase();
    let word = u128::from_le_bytes(bytes);
    let mut slot = hash(word);
    loop {
        let index = SLOTS[slot];
        if index == EMPTY {
            return None;
        }
        let command = &COMMANDS[usize::from(index)];
        if command.word == word && command.name.len() == name.len() {
            return Some(command);
        }
        slot = (slot + 1) % SLOT_COUNT;
    }
}

const fn hash(word: u128) -> usize {
    let folded = (word as u64) ^ ((word >> 64) as u64).rotate_left(29);
    (folded.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as usize
}

const fn word(name: &str) -> u128 {
    let name = name.as_bytes();
    assert!(name.len() <= NAME_BYTES_MAX, "names fit in a word");
    let (mut bytes, mut at) = ([0; NAME_BYTES_MAX], 0);
    while at < name.len() {
        assert!(!name[at].is_ascii_uppercase(), "names are in lower case");
        bytes[at] = name[at];
        at += 1;
    }
    u128::from_le_bytes(bytes)
}

const fn numbered() -> [Command; COMMAND_COUNT] {
    let mut commands = [ROWS[0]; COMMAND_COUNT];
    let mut at = 0;
    while at < COMMAND_COUNT {
        commands[at] = Command { index: at as u8, word: word(ROWS[at].name), ..ROWS[at] };
        at += 1;
    }
    commands
}

const fn slots() -> [u8; SLOT_COUNT] {
    let mut slots = [EMPTY; SLOT_COUNT];
    let mut at = 0;
    while at < COMMAND_COUNT {
        let mut slot = hash(word(ROWS[at].name));
        while slots[slot] != EMPTY {
            slot = (slot + 1) % SLOT_COUNT;
        }
        slots[slot] = at as u8;
        at += 1;
    }
    slots
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_found_by_its_own_name_only() {
        for command in &COMMANDS {
            let upper = command.name.to_ascii_uppercase();
            for name in [command.name, &upper] {
                let found = find(name.as_bytes()).map(|found| found.index());
                assert_eq!(found, Some(command.index()), "{name}");
            }
            for other in [format!("{upper}\0"), format!("{upper}x"), upper[1..].to_owned()] {
                let found = find(other.as_bytes());
                assert!(found.is_none_or(|found| found.name.len() == other.len()), "{other}");
                assert!(found.is_none_or(|found| found.name != command.name), "{other}");
            }
        }
        assert!(find(b"").is_none());
        assert!(find(&[b'a'; 17]).is_none());
        assert!(find(b"g\0\0").is_none());
    }
}
