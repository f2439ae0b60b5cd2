//! Everything that `wasi:keyvalue@0.2.0-draft2` can do, once.

use crate::bindings::wasi::keyvalue::atomics::{self, Cas, CasError};
use crate::bindings::wasi::keyvalue::batch;
use crate::bindings::wasi::keyvalue::store::{self, Error};

/// Returns "everything works", or says what does not.
pub(crate) fn try_everything() -> String {
    match everything() {
        Ok(()) => "everything works".to_owned(),
        Err(what) => what,
    }
}

macro_rules! check {
    ($got:expr, $want:pat) => {
        match $got {
            $want => {}
            got => return Err(format!("{} is {got:?}", stringify!($got))),
        }
    };
}

fn everything() -> Result<(), String> {
    let said = |error: Error| format!("{error:?}");
    let bucket = store::open("").map_err(said)?;
    check!(store::open("other"), Err(Error::AccessDenied));
    check!(bucket.get("s:a"), Ok(None));
    check!(bucket.exists("s:a"), Ok(false));
    check!(bucket.set("s:a", b"1"), Ok(()));
    check!(bucket.get("s:a").as_ref().map(|value| value.as_deref()), Ok(Some(b"1")));
    check!(bucket.exists("s:a"), Ok(true));
    check!(bucket.set("", b"1"), Err(Error::Other(_)));
    check!(atomics::increment(&bucket, "s:n", -3), Ok(-3));
    check!(atomics::increment(&bucket, "s:n", 5), Ok(2));

    let swap = Cas::new(&bucket, "s:a").map_err(said)?;
    check!(swap.current().as_ref().map(|value| value.as_deref()), Ok(Some(b"1")));
    check!(bucket.set("s:a", b"2"), Ok(()));
    let Err(CasError::CasFailed(swap)) = atomics::swap(swap, b"3") else {
        return Err("a swap won against a newer value".to_owned());
    };
    check!(atomics::swap(swap, b"3"), Ok(()));
    check!(bucket.get("s:a").as_ref().map(|value| value.as_deref()), Ok(Some(b"3")));
    let absent = Cas::new(&bucket, "s:new").map_err(said)?;
    check!(absent.current(), Ok(None));
    check!(atomics::swap(absent, b"made"), Ok(()));

    let pairs = [("s:x".to_owned(), b"x".to_vec()), ("s:y".to_owned(), b"y".to_vec())];
    check!(batch::set_many(&bucket, &pairs), Ok(()));
    let keys = ["s:x", "s:none"].map(str::to_owned);
    let got = batch::get_many(&bucket, &keys).map_err(said)?;
    check!(&got[..], [(_, Some(_)), (_, None)]);
    let mut listed = bucket.list_keys(None).map_err(said)?.keys;
    listed.retain(|key| key.starts_with("s:"));
    check!(listed.len(), 5);
    check!(batch::delete_many(&bucket, &["s:x", "s:y", "s:none"].map(str::to_owned)), Ok(()));
    check!(bucket.delete("s:new"), Ok(()));
    check!(bucket.exists("s:new"), Ok(false));
    Ok(())
}
