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
use std::time::Instant;

use crate::limits::{KEEP_RESIDENT_BYTES, STRETCHES_MAX};

use maps::{Memory, memories, populate, written};
use pages::Pages;

/// Instances with less linear memory have few pages to write, in bytes.
const LARGE_BYTES: usize = 4 << 20;
/// Time between two looks as long as there is news, in ms; without, it doubles.
const PAUSE_MS: u64 = 20;
/// See [`PAUSE_MS`].
const PAUSE_MS_MAX: u64 = 10_000;
/// And it is at least so many times what the look took.
const PAUSE_SHARE: u64 = 50;

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
    /// while there is something new to see every 20 ms, later every ten seconds at most.
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
        let began_ms = self.now_ms();
        // Whoever panicked has left bits that were found, or were not.
        let mut survey = self.survey.lock().unwrap_or_else(PoisonError::into_inner);
        let has_news = survey.look().unwrap_or(false);
        survey.pause_ms = if has_news { PAUSE_MS } else { (survey.pause_ms * 2).min(PAUSE_MS_MAX) };
        let ended_ms = self.now_ms();
        let pause_ms = survey.pause_ms.max((ended_ms - began_ms) * PAUSE_SHARE);
        self.due_ms.store(ended_ms + pause_ms, Ordering::Relaxed);
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
        for (image, known) in &self.images {
            let joined = known.written.joined(STRETCHES_MAX);
            let is_kept = joined.len() * maps::page_bytes() <= KEEP_RESIDENT_BYTES;
            if known.written.stretches().count() <= STRETCHES_MAX || !is_kept {
                continue;
            }
            for (memory, written) in found.iter().filter(|(memory, _)| memory.image == *image) {
                let missing = joined.without(written);
                missing.stretches().for_each(|stretch| populate(memory, stretch));
            }
        }
        Ok(has_news)
    }
}

fn count(found: &[(Memory, Pages)]) -> HashMap<u64, usize> {
    let mut places = HashMap::new();
    for (memory, _) in found {
        *places.entry(memory.image).or_default() += 1;
    }
    places
}
