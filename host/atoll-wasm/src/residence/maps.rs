//! What the system says of the process' memory: where instances lie, and what they have written.

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use super::pages::Pages;

/// What wasmtime calls the image of a component's memory, in `/proc/self/maps`.
const IMAGE: &str = "/memfd:wasm-memory-image";
/// Longer memories are not looked at, in bytes.
const MEMORY_BYTES_MAX: usize = 256 << 20;

/// In an entry of `/proc/self/pagemap` (the kernel's `admin-guide/mm/pagemap`): the page is there.
const PRESENT: u64 = 1 << 63;
/// And it is the image's own, or shared: nothing was written.
const OF_A_FILE: u64 = 1 << 61;

/// The memory of an instance, or of one that was: by addresses, all of which can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Memory {
    start: usize,
    end: usize,
    /// The number of the image that is a part of it.
    pub(super) image: u64,
}

/// A line of `/proc/self/maps`.
struct Mapping {
    start: usize,
    end: usize,
    is_writable: bool,
    image: Option<u64>,
}

pub(super) fn page_bytes() -> usize {
    rustix::param::page_size()
}

/// Where the memories of this process' instances are.
pub(super) fn memories() -> io::Result<Vec<Memory>> {
    Ok(memories_in(&fs::read_to_string("/proc/self/maps")?))
}

fn memories_in(maps: &str) -> Vec<Memory> {
    let mappings: Vec<Mapping> = maps.lines().filter_map(mapping).collect();
    let mut memories = Vec::new();
    for (at, mapping) in mappings.iter().enumerate() {
        let Some(image) = mapping.image else { continue };
        // What lies around the image, up to what nobody may touch, is the same memory.
        let (mut start, mut end) = (mapping.start, mapping.end);
        for before in mappings[..at].iter().rev() {
            if before.end != start || !before.is_writable || before.image.is_some() {
                break;
            }
            start = before.start;
        }
        for after in &mappings[at + 1..] {
            if after.start != end || !after.is_writable || after.image.is_some() {
                break;
            }
            end = after.end;
        }
        if end - start <= MEMORY_BYTES_MAX {
            memories.push(Memory { start, end, image });
        }
    }
    memories
}

/// Reads `start-end permissions offset device inode path`.
fn mapping(line: &str) -> Option<Mapping> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let is_writable = words.next()?.starts_with("rw");
    let inode = words.nth(2)?.parse().ok()?;
    let is_image = words.next() == Some(IMAGE) && is_writable;
    Some(Mapping {
        start: usize::from_str_radix(start, 16).ok()?,
        end: usize::from_str_radix(end, 16).ok()?,
        is_writable,
        image: is_image.then_some(inode),
    })
}

/// Which pages of a memory were written. `pagemap` is that of this process.
pub(super) fn written(pagemap: &File, memory: &Memory) -> io::Result<Pages> {
    let (first, count) = (memory.start / page_bytes(), (memory.end - memory.start) / page_bytes());
    let mut entries = vec![0; count * size_of::<u64>()];
    pagemap.read_exact_at(&mut entries, (first * size_of::<u64>()) as u64)?;
    let (entries, _) = entries.as_chunks();
    let is_written = |entry: &[u8; 8]| {
        let entry = u64::from_ne_bytes(*entry);
        entry & PRESENT != 0 && entry & OF_A_FILE == 0
    };
    Ok(entries.iter().map(is_written).collect())
}

/// Makes pages of a memory resident, as a write of what they hold would. Does nothing where that
/// cannot be done: the memory may be gone.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "madvise takes an address")]
pub(super) fn populate(memory: &Memory, pages: Range<usize>) {
    use rustix::mm::{Advice, madvise};

    let (start, bytes) = (memory.start + pages.start * page_bytes(), pages.len() * page_bytes());
    let start = std::ptr::without_provenance_mut(start);
    // SAFETY: this advice changes no byte of memory, whoever uses it meanwhile: it faults pages in, as
    // a write of the bytes that are there would (MADV_POPULATE_WRITE in madvise(2)). Where the
    // memory has been unmapped since it was looked at, or may not be written, it is refused;
    // where another one lies there by now, that one gets pages before it needs them.
    let _ = unsafe { madvise(start, bytes, Advice::LinuxPopulateWrite) };
}

#[cfg(not(target_os = "linux"))]
pub(super) fn populate(_: &Memory, _: Range<usize>) {}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
5600-5700 r-xp 00000000 08:01 77 /usr/bin/atoll
100000-200000 ---p 00000000 00:00 0
200000-210000 rw-p 00000000 00:00 0
210000-290000 rw-p 00000000 00:01 17305 /memfd:wasm-memory-image (deleted)
290000-2a0000 rw-p 00000000 00:00 0
2a0000-400000 ---p 00000000 00:00 0
400000-480000 rw-p 00000000 00:01 17305 /memfd:wasm-memory-image (deleted)
480000-500000 rw-p 00000000 00:01 17306 /memfd:wasm-memory-image (deleted)
600000-680000 r--p 00000000 00:01 17307 /memfd:wasm-memory-image (deleted)
700000-780000 rw-p 00000000 00:01 17308 /memfd:something-else (deleted)
800000-20800000 rw-p 00000000 00:01 17309 /memfd:wasm-memory-image (deleted)
no line at all
";

    #[test]
    fn a_memory_is_an_image_and_what_can_be_written_around_it() {
        let memory = |start, end, image| Memory { start, end, image };
        let want = [
            memory(0x20_0000, 0x2a_0000, 17_305),
            memory(0x40_0000, 0x48_0000, 17_305),
            memory(0x48_0000, 0x50_0000, 17_306),
        ];
        assert_eq!(memories_in(MAPS), want);
    }

    #[test]
    fn what_is_resident_and_not_the_files_was_written() {
        let bytes = 8 * page_bytes();
        let mut buffer = vec![0_u8; bytes + page_bytes()];
        let start = (buffer.as_ptr() as usize).next_multiple_of(page_bytes());
        let at = start - buffer.as_ptr() as usize;
        buffer[at + page_bytes()] = 1;
        let memory = Memory { start, end: start + bytes, image: 1 };
        let pagemap = File::open("/proc/self/pagemap").unwrap();
        assert!(written(&pagemap, &memory).unwrap().stretches().any(|pages| pages.contains(&1)));
        populate(&memory, 0..8);
        assert_eq!(written(&pagemap, &memory).unwrap().len(), 8);
        assert_eq!(buffer.iter().map(|byte| u32::from(*byte)).sum::<u32>(), 1, "nothing else");
        // Where nothing is, nothing happens.
        populate(&Memory { start: page_bytes(), end: 2 * page_bytes(), image: 1 }, 0..1);
    }
}
