//! Whether the disk has room: what is left to others on its file system, and a pause after a failure.

use super::limits::{BUDGET_BYTES_DEFAULT, FAILURE_PAUSE, ROOM_BYTES, ROOM_SHARE};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long an answer of the file system is good for.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// The room of a disk.
#[derive(Debug)]
pub(super) struct Room {
    path: PathBuf,
    started: Instant,
    /// In ms since `started`: until when nothing is written, and when the system was asked last.
    paused_until_ms: AtomicU64,
    asked_ms: AtomicU64,
    shortage_bytes: AtomicU64,
}

/// Why nothing is written now.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoRoom {
    /// It failed a moment ago.
    #[error("the disk has just failed")]
    Paused,
    /// The file system is nearly full.
    #[error("the file system has {shortage_bytes} bytes less free than are left to others")]
    Short {
        /// What is missing.
        shortage_bytes: u64,
    },
}

impl Room {
    pub(super) fn of(path: &Path) -> Room {
        Room {
            path: path.to_owned(),
            started: Instant::now(),
            paused_until_ms: AtomicU64::new(0),
            asked_ms: AtomicU64::new(0),
            shortage_bytes: AtomicU64::new(0),
        }
    }

    /// A budget that suits the file system.
    pub(super) fn default_budget_bytes(&self) -> u64 {
        let quarter = sizes(&self.path).map_or(u64::MAX, |(_, all)| all / 4);
        BUDGET_BYTES_DEFAULT.min(quarter)
    }

    /// Whether something may be written.
    pub(super) fn check(&self) -> Result<(), NoRoom> {
        if self.is_paused() {
            return Err(NoRoom::Paused);
        }
        let now_ms = self.now_ms();
        let asked_ms = self.asked_ms.load(Ordering::Relaxed);
        if asked_ms == 0 || now_ms > asked_ms + ASK_EVERY.as_millis() as u64 {
            self.asked_ms.store(now_ms.max(1), Ordering::Relaxed);
            let shortage = match sizes(&self.path) {
                Ok((free, all)) => {
                    ROOM_BYTES.min(all / ROOM_SHARE.1 * ROOM_SHARE.0).saturating_sub(free)
                }
                // What is wrong is seen at the next write.
                Err(_) => 0,
            };
            self.shortage_bytes.store(shortage, Ordering::Relaxed);
        }
        match self.shortage_bytes.load(Ordering::Relaxed) {
            0 => Ok(()),
            shortage_bytes => Err(NoRoom::Short { shortage_bytes }),
        }
    }

    /// Whether it has failed a moment ago.
    pub(super) fn is_paused(&self) -> bool {
        self.now_ms() < self.paused_until_ms.load(Ordering::Relaxed)
    }

    /// Nothing is written for a while. Returns whether that is new.
    pub(super) fn pause(&self) -> bool {
        let (now_ms, pause_ms) = (self.now_ms(), FAILURE_PAUSE.as_millis() as u64);
        let before_ms = self.paused_until_ms.swap(now_ms + pause_ms, Ordering::Relaxed);
        before_ms == 0 || before_ms + pause_ms < now_ms
    }

    /// Whether it takes what is written.
    pub(super) fn is_fine(&self) -> bool {
        self.check().is_ok()
    }

    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }
}

/// Free bytes, and all.
fn sizes(path: &Path) -> io::Result<(u64, u64)> {
    let stat = rustix::fs::statvfs(path)?;
    Ok((stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize))
}
