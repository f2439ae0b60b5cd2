//! What requests do that share an instance. Each answers with the most that were in it at once meanwhile.

use std::hint::black_box;
use std::sync::atomic::{AtomicU32, Ordering};

use wasip3::cli::stdout;
use wasip3::clocks::monotonic_clock;
use wasip3::wit_stream;

const MS_NS: u64 = 1_000_000;

static PRESENT: AtomicU32 = AtomicU32::new(0);

/// A request that is in the instance.
struct Visit {
    most: u32,
}

impl Visit {
    fn begin() -> Visit {
        Visit { most: PRESENT.fetch_add(1, Ordering::Relaxed) + 1 }
    }

    /// Lets others run for so long.
    async fn wait(&mut self, ms: u64) {
        monotonic_clock::wait_for(ms * MS_NS).await;
        self.most = self.most.max(PRESENT.load(Ordering::Relaxed));
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        PRESENT.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Does what the name says, as often as the query says, `COUNT` or `COUNT,DETAIL`. `None` if it knows no such name.
pub(crate) async fn as_asked(name: &str, query: &str) -> Option<String> {
    let (count, rest) = query.split_once(',').unwrap_or((query, ""));
    let count = count.parse().unwrap_or(1);
    let mut visit = Visit::begin();
    let mut said = String::new();
    match name {
        "wait" => {
            for _ in 0..count {
                visit.wait(rest.parse().unwrap_or(10)).await;
            }
        }
        "slices" => {
            for _ in 0..count {
                compute(10);
                visit.wait(rest.parse().unwrap_or(1)).await;
            }
        }
        "lines" => {
            let (mut to, from) = wit_stream::new::<u8>();
            let written = stdout::write_via_stream(from);
            for number in 0..count {
                to.write_all(format!("line {number} of {rest}\n").into_bytes()).await;
            }
            visit.wait(200).await;
            to.write_all(format!("the end of {rest}\n").into_bytes()).await;
            drop(to);
            written.await.expect("a log takes all");
        }
        "fetches" => {
            for _ in 0..count {
                said = crate::fetch(rest).await;
                visit.wait(1).await;
            }
        }
        _ => return None,
    }
    Some(format!("most {} {said}\n", visit.most))
}

/// Computes for so long.
fn compute(ms: u64) {
    let end = monotonic_clock::now() + ms * MS_NS;
    while monotonic_clock::now() < end {
        for number in 0..1_000 {
            black_box(number);
        }
    }
}
