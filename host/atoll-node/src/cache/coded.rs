//! Stored bodies with a content coding: made once, behind the answers, and kept beside the body that
//! they were made from.

use super::body::{Identity, StoredBody};
use super::limits::{CODING_COUNT_MAX, ENTRY_OVERHEAD_BYTES};
use super::stored::Stored;
use super::{Cache, Slot};
use atoll_core::http_cache::coding::{CODED_BYTES_MAX, CODED_BYTES_MIN, Coding};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::collections::HashSet;
use std::io::{self, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

/// Those of which 19 in 20 bytes are left are not worth a client's time.
const WORTH: (u64, u64) = (19, 20);

/// A body with a coding.
#[derive(Debug)]
pub(crate) struct Coded {
    of: Identity,
    /// `None` where it would be no shorter.
    body: Option<StoredBody>,
}

impl Coded {
    pub(super) fn weight_bytes(&self) -> usize {
        let bytes = self.body.as_ref().map_or(0, StoredBody::bytes);
        ENTRY_OVERHEAD_BYTES / 2 + bytes as usize
    }
}

/// What is being made, under the keys of what becomes of it.
#[derive(Debug, Default)]
pub(super) struct UnderWay(Mutex<HashSet<Box<[u8]>>>);

impl UnderWay {
    /// Whether this may begin: nobody makes it, and few others are made.
    fn begin(&self, key: &[u8]) -> bool {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        keys.len() < CODING_COUNT_MAX && keys.insert(key.into())
    }

    fn end(&self, key: &[u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

impl Cache {
    /// The body of `stored` with `coding`, where there is one already. Where there is none it is made
    /// behind the answer, for those who come later. `variant` tells those of one key apart.
    pub(crate) fn coded(
        self: &Arc<Self>,
        stored: &Stored,
        coding: Coding,
        variant: &[u8],
    ) -> Option<StoredBody> {
        if !(CODED_BYTES_MIN..=CODED_BYTES_MAX).contains(&stored.body_bytes) {
            return None;
        }
        let mut key = Vec::with_capacity(stored.key.len() + variant.len() + 8);
        key.extend_from_slice(stored.key.as_bytes());
        // Variants go on with eight bytes behind the 0, never with these.
        key.extend_from_slice(&[0, 1]);
        key.extend_from_slice(coding.as_str().as_bytes());
        key.push(0);
        key.extend_from_slice(variant);
        if let Some(Slot::Coded(coded)) = self.slots.get(&key[..])
            && coded.of.is_of(&stored.body)
        {
            return coded.body.clone();
        }
        if self.coding.begin(&key) {
            let (cache, body) = (Arc::clone(self), stored.body.clone());
            // It ends by itself: its input is bounded.
            drop(tokio::task::spawn_blocking(move || {
                cache.keep_coded(&key, &body, coding);
                cache.coding.end(&key);
            }));
        }
        None
    }

    fn keep_coded(&self, key: &[u8], body: &StoredBody, coding: Coding) {
        let Ok(coded) = encode(body, coding) else { return };
        let is_worth_it = coded.len() as u64 * WORTH.1 <= body.bytes() * WORTH.0;
        let coded = is_worth_it.then(|| StoredBody::of(vec![Bytes::from(coded)]));
        let coded = Coded { of: body.identity(), body: coded };
        self.slots.insert(key.into(), Slot::Coded(Arc::new(coded)));
    }
}

/// Levels that take their time: it is done once for many answers.
fn encode(body: &StoredBody, coding: Coding) -> io::Result<Vec<u8>> {
    let pieces = body.slice(0, body.bytes().saturating_sub(1))?;
    match coding {
        Coding::Zstd => {
            let mut encoder = zstd::stream::Encoder::new(Vec::new(), 9)?;
            pieces.iter().try_for_each(|piece| encoder.write_all(piece))?;
            encoder.finish()
        }
        Coding::Brotli => {
            // The window of 4 MiB that the format allows for.
            let mut encoder = brotli::CompressorWriter::new(Vec::new(), 64 * 1024, 6, 22);
            pieces.iter().try_for_each(|piece| encoder.write_all(piece))?;
            Ok(encoder.into_inner())
        }
        Coding::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::new(7));
            pieces.iter().try_for_each(|piece| encoder.write_all(piece))?;
            encoder.finish()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn each_coding_is_undone_by_what_others_undo_it_with() {
        let text: Vec<u8> =
            (0..20_000).flat_map(|n| format!("line {}\n", n % 97).into_bytes()).collect();
        let body = StoredBody::of(text.chunks(7_000).map(Bytes::copy_from_slice).collect());
        for coding in [Coding::Zstd, Coding::Brotli, Coding::Gzip] {
            let coded = encode(&body, coding).expect("memory");
            assert!(coded.len() < text.len() / 10, "{coding:?}: {}", coded.len());
            let mut back = Vec::new();
            match coding {
                Coding::Zstd => back = zstd::decode_all(&coded[..]).expect("zstd"),
                Coding::Brotli => {
                    let mut decoder = brotli::Decompressor::new(&coded[..], 4_096);
                    decoder.read_to_end(&mut back).expect("brotli");
                }
                Coding::Gzip => {
                    let mut decoder = flate2::read::GzDecoder::new(&coded[..]);
                    decoder.read_to_end(&mut back).expect("gzip");
                }
            }
            assert!(back == text, "{coding:?}");
        }
    }
}
