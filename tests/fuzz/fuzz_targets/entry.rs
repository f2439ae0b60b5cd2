//! An entry as it comes from a peer, a disk or a backup.

#![no_main]

use atoll_core::wire::entry::{decode_entry, encode_entry};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // What is read keeps the limits, so it can be written and read again.
    if let Ok(entry) = decode_entry(&Bytes::copy_from_slice(data)) {
        let mut bytes = Vec::new();
        encode_entry(&entry, &mut bytes);
        assert_eq!(decode_entry(&Bytes::from(bytes)), Ok(entry));
    }
});
