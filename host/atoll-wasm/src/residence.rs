//! Sees to it that what interpreters write can be wiped in place.
//!
//! Before an instance's place is used again, wasmtime asks the kernel which pages were written, and
//! copies them from the component's image: the next instance has them without a page fault. It asks
//! for no more than 32 separate stretches, and lets go of all that lies behind them. An interpreter,
//! whose heap is a part of its image, writes in more (JavaScript 65, Python 159): each request then
//! takes its page faults anew, and interrupts the other cores for them (measured: 1.2 ms of
//! JavaScript's hello, which takes 0.2 ms without).
//!
//! So the shortest gaps between what is written are made resident, too. That changes nothing that
//! memory holds: it is what a first write of each page would do, of the same bytes.

mod maps;
mod pages;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::limits::{KEEP_RESIDENT_BYTES, STRETCHES_MAX};
use crate::processor::kernel_ns;

use maps::{Memory, memories, populate, written};
use pages::Pages;

/// Instances with less linear memory have few pages to write, in bytes.
const LARGE_BYTES: usize = 4 << 20;
/// Time between two looks as long as there is news, in ms; without, it doubles.
const PAUSE_MS: u64 = 20;
/// See [`PAUSE_MS`].
const PAUSE_MS_MAX: u64 = 1_000;
/// And it is at least so many times the processor time that the look took.
const PAUSE_SHARE: u32 = 20;

/// What is known of the memory of a process' instances.
#[derive(Debug)]
pub(crate) struct Residence {
    began: Instant,
    /// When the next look is due, in ms since `began`.
    due_ms: AtomicU64,
    is_looking: AtomicBool,
    survey: Mutex<Survey>,
}

/// What was found so far.
#[derive(Debug)]
struct Survey {
    images: HashMap<u64, Image>,
    pause_ms: u64,
}

/// What was written by the instances of one component's memory, at whatever time.
#[derive(Debug, Default)]
struct Image {
    written: Pages,
    places: usize,
    /// Whether it was written in more stretches than are wiped in place. Those that were joined look
    /// as if all of them had been written.
    is_scattered: bool,
}

impl Residence {
    pub(crate) fn new() -> Arc<Residence> {
        Arc::new(Residence {
            began: Instant::now(),
            due_ms: AtomicU64::new(0),
            is_looking: AtomicBool::new(false),
            survey: Mutex::new(Survey { images: HashMap::new(), pause_ms: PAUSE_MS }),
        })
    }

    /// An instance that had so much memory ends. Once in a while, that is when a thread has a look:
    /// while there is something new to see every 20 ms, later once a second.
    pub(crate) fn note_end(self: &Arc<Self>, held_bytes: usize) {
        if held_bytes < LARGE_BYTES
            || self.now_ms() < self.due_ms.load(Ordering::Relaxed)
            || self.is_looking.swap(true, Ordering::Acquire)
        {
            return;
        }
        let this = Arc::clone(self);
        let thread = thread::Builder::new().name("wasm-residence".to_owned());
        // Without a thread nothing is gained and nothing lost.
        drop(thread.spawn(move || this.look()));
    }

    fn look(&self) {
        // Whoever panicked has left bits that were found, or were not.
        let mut survey = self.survey.lock().unwrap_or_else(PoisonError::into_inner);
        let has_news = survey.look().unwrap_or(false);
        survey.pause_ms = if has_news { PAUSE_MS } else { (survey.pause_ms * 2).min(PAUSE_MS_MAX) };
        // The thread has done nothing else. How long it has waited for its turns says nothing.
        let least = Duration::from_nanos(kernel_ns()) * PAUSE_SHARE;
        let pause = least.max(Duration::from_millis(survey.pause_ms));
        let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        self.due_ms.store(self.now_ms().saturating_add(pause_ms), Ordering::Relaxed);
        self.is_looking.store(false, Ordering::Release);
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Survey {
    /// Looks at the memory of all instances of the process, and fills the gaps. Returns whether it
    /// has seen something that it had not before.
    fn look(&mut self) -> io::Result<bool> {
        let memories = memories()?;
        let pagemap = File::open("/proc/self/pagemap")?;
        let found: Vec<(Memory, Pages)> = memories
            .into_iter()
            .filter_map(|memory| Some((memory, written(&pagemap, &memory).ok()?)))
            .collect();
        self.images.retain(|image, _| found.iter().any(|(memory, _)| memory.image == *image));
        let mut has_news = false;
        for (image, places) in count(&found) {
            let known = self.images.entry(image).or_default();
            has_news |= places > known.places;
            known.places = known.places.max(places);
        }
        for (memory, written) in &found {
            has_news |= self.images.entry(memory.image).or_default().written.add(written);
        }
        for (image, known) in &mut self.images {
            let Some(joined) = known.joined() else { continue };
            for (memory, written) in found.iter().filter(|(memory, _)| memory.image == *image) {
                let missing = joined.without(written);
                missing.stretches().for_each(|stretch| populate(memory, stretch));
            }
        }
        Ok(has_news)
    }
}

impl Image {
    /// What has to be resident in each place, where that is more than was written and not too much.
    fn joined(&mut self) -> Option<Pages> {
        self.is_scattered |= self.written.stretches().count() > STRETCHES_MAX;
        let joined = self.is_scattered.then(|| self.written.joined(STRETCHES_MAX))?;
        (joined.len() * maps::page_bytes() <= KEEP_RESIDENT_BYTES).then_some(joined)
    }
}

fn count(found: &[(Memory, Pages)]) -> HashMap<u64, usize> {
    let mut places = HashMap::new();
    for (memory, _) in found {
        *places.entry(memory.image).or_default() += 1;
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_joined_in_one_place_is_wanted_in_the_next() {
        let scattered = |count| (0..2 * count).map(|page| page % 2 == 0).collect::<Pages>();
        let mut image = Image::default();
        image.written.add(&scattered(STRETCHES_MAX));
        assert_eq!(image.joined(), None, "it is wiped in place as it is");
        image.written.add(&scattered(STRETCHES_MAX + 5));
        let joined = image.joined().expect("there are too many");
        assert_eq!(joined.stretches().count(), STRETCHES_MAX);
        // Seen again, it looks as if it had been written.
        image.written.add(&joined);
        assert_eq!(image.joined(), Some(joined), "another place may lack it");
        image.written.add(&(0..10_000).map(|_| true).collect());
        assert_eq!(image.joined(), None, "it would not be kept");
    }
}
