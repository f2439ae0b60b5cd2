//! Writes whose every byte is known: keys by number, values that no compression shortens.

use std::net::SocketAddr;
use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;

use super::resp::{Connection, Reply};

/// Length of each key, in bytes.
pub(super) const KEY_BYTES: usize = 16;
/// How commands follow one another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rhythm {
    /// Commands that are sent before their replies are waited for.
    pub(super) pipeline: u32,
    /// From the beginning of one such batch to that of the next, unless its replies take longer.
    pub(super) every: Duration,
}

impl Rhythm {
    /// Where only the end matters.
    pub(super) const BULK: Rhythm = Rhythm::hurried(500);

    /// A batch as soon as the one before is confirmed.
    pub(super) const fn hurried(pipeline: u32) -> Rhythm {
        Rhythm { pipeline, every: Duration::ZERO }
    }
}

/// Keys and their values. Two sets with different letters share no key.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    /// What the keys begin with.
    pub(super) letter: char,
    pub(super) numbers: Range<u32>,
    pub(super) value_bytes: usize,
}

impl Keys {
    /// How many they are.
    pub(super) fn count(&self) -> u32 {
        self.numbers.end - self.numbers.start
    }

    /// Bytes of all keys and values.
    pub(super) fn payload_bytes(&self) -> u64 {
        u64::from(self.count()) * (KEY_BYTES + self.value_bytes) as u64
    }

    fn key(&self, number: u32) -> String {
        let digits = KEY_BYTES - 1;
        format!("{}{number:0digits$}", self.letter)
    }

    /// The same for the same key, and nothing that one could guess.
    fn value(&self, number: u32) -> Vec<u8> {
        let seed = u64::from(number) << 32 | u64::from(u32::from(self.letter));
        let mut dice = fastrand::Rng::with_seed(seed);
        let mut value = vec![0; self.value_bytes];
        dice.fill(&mut value);
        value
    }

    /// Runs `command` for each key, and looks at each reply.
    fn each(
        &self,
        (address, rhythm): (SocketAddr, Rhythm),
        command: impl Fn(&mut Connection, u32),
        check: impl Fn(u32, Reply) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut connection = Connection::open(address)?;
        let (mut next, mut due) = (self.numbers.start, Instant::now());
        while next < self.numbers.end {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            due += rhythm.every;
            let end = self.numbers.end.min(next.saturating_add(rhythm.pipeline));
            (next..end).for_each(|number| command(&mut connection, number));
            connection.send()?;
            for number in next..end {
                check(number, connection.reply()?)?;
            }
            next = end;
        }
        Ok(())
    }

    /// Sets all of them, and returns when each is confirmed.
    ///
    /// # Errors
    /// If the node refuses one.
    pub(super) fn set(&self, address: SocketAddr, rhythm: Rhythm) -> anyhow::Result<()> {
        self.each(
            (address, rhythm),
            |connection, number| {
                connection.add(&[b"SET", self.key(number).as_bytes(), &self.value(number)]);
            },
            |_, reply| {
                ensure!(reply == Reply::Status("OK".to_owned()), "SET says {reply:?}");
                Ok(())
            },
        )
    }

    /// Deletes all of them, and returns when each is confirmed.
    ///
    /// # Errors
    /// If one was not there.
    pub(super) fn delete(&self, address: SocketAddr) -> anyhow::Result<()> {
        self.each(
            (address, Rhythm::BULK),
            |connection, number| connection.add(&[b"DEL", self.key(number).as_bytes()]),
            |number, reply| {
                ensure!(reply == Reply::Number(1), "DEL of key {number} says {reply:?}");
                Ok(())
            },
        )
    }

    /// Reads all of them.
    ///
    /// # Errors
    /// If one is not what was set.
    pub(super) fn verify(&self, address: SocketAddr) -> anyhow::Result<()> {
        self.each(
            (address, Rhythm::BULK),
            |connection, number| connection.add(&[b"GET", self.key(number).as_bytes()]),
            |number, reply| {
                let is_same = reply == Reply::Bulk(self.value(number));
                ensure!(is_same, "key {} is not what was set", self.key(number));
                Ok(())
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_its_length_and_always_the_same_value() {
        let keys = Keys { letter: 'k', numbers: 7..9, value_bytes: 124 };
        assert_eq!(keys.key(7), "k000000000000007");
        assert_eq!(keys.key(u32::MAX).len(), KEY_BYTES);
        assert_eq!(keys.value(7), keys.value(7));
        assert_ne!(keys.value(7), keys.value(8));
        assert_ne!(keys.value(7), Keys { letter: 'l', ..keys.clone() }.value(7));
        assert_eq!((keys.count(), keys.payload_bytes()), (2, 280));
    }
}
