//! Frames in words, for whoever reads the story of a seed.

use atoll_core::clock::Hlc;
use atoll_core::entry::Entry;
use atoll_core::replica::vector::Vector;
use atoll_core::wire::chunk::{Item, read_chunk};
use atoll_core::wire::frame::Frame;
use bytes::Bytes;
use uuid::Uuid;

/// What a frame says, in one line.
pub fn of(frame: &Frame) -> String {
    match frame {
        Frame::Ops { index, first_seq, count, .. } => format!("Ops[{index}] {first_seq}+{count}"),
        Frame::Large { index, seq, .. } => format!("Large[{index}] {seq}"),
        Frame::Report(report) => format!(
            "Report of {} v{} {} gone {:?} holds {}",
            report.member.name,
            report.version,
            vector(&report.vector),
            report.gone.iter().copied().map(short).collect::<Vec<_>>(),
            report.holds
        ),
        Frame::SyncBegin(begin) => format!(
            "SyncBegin {:?} floor {} {} members {:?} gone {:?}",
            begin.freshness,
            time(begin.floor),
            vector(&begin.vector),
            begin.members.iter().map(|member| short(member.origin)).collect::<Vec<_>>(),
            begin.gone.iter().copied().map(short).collect::<Vec<_>>(),
        ),
        Frame::SyncRequest(held, freshness) => {
            format!("SyncRequest {freshness:?} {}", vector(held))
        }
        Frame::SyncDone(held) => format!("SyncDone {}", vector(held)),
        Frame::Chunk(bytes) => chunk(bytes),
        other => format!("{other:?}"),
    }
}

fn chunk(bytes: &Bytes) -> String {
    let mut text = String::from("Chunk");
    let read = read_chunk(bytes, |item| {
        text += &match item {
            Item::Entry { bucket, key, entry } => {
                format!(" {bucket:?}/{}={}", String::from_utf8_lossy(key), parts(&entry))
            }
            Item::Listed { bucket, key, entry } => {
                format!(" listed {bucket:?}/{}={}", String::from_utf8_lossy(key), parts(&entry))
            }
            Item::Flush { bucket, stamp } => {
                format!(" flush {bucket:?} {}@{}", time(stamp.hlc), short(stamp.origin))
            }
        };
    });
    if let Err(error) = read {
        text += &error.to_string();
    }
    text
}

/// The stamps of an entry's parts.
pub fn parts(entry: &Entry) -> String {
    let register = &entry.register;
    let mut text = format!("[{}@{}", time(register.stamp.hlc), short(register.stamp.origin));
    if let Some(touch) = entry.touch {
        text += &format!(" touched {}@{}", time(touch.stamp.hlc), short(touch.stamp.origin));
    }
    for tally in &entry.tallies {
        text += &format!(" {} closed {}", short(tally.origin), time(tally.closed));
        for cell in &tally.cells {
            let reset = time(cell.reset.by.hlc);
            text += &format!(" {}..{} reset by {reset}", time(cell.birth), time(cell.last));
        }
    }
    text + "]"
}

fn vector(vector: &Vector) -> String {
    let mark = |(origin, mark): (Uuid, atoll_core::replica::vector::Mark)| {
        format!("{}:{}<{}", short(origin), mark.seq, time(mark.head))
    };
    vector.iter().map(mark).collect::<Vec<_>>().join(" ")
}

/// Origins are numbered in the order in which they start.
fn short(origin: Uuid) -> u64 {
    (origin.as_u128() >> 64) as u64
}

/// A stamp's time since the beginning of a run, in ms.
pub fn time(hlc: Hlc) -> String {
    let since_us = hlc.micros().saturating_sub(crate::node::START_US);
    format!("{:.3}", since_us as f64 / 1_000.0)
}
