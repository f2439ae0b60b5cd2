//! Small answers about the server: TIME, and what is not there.

use crate::resp::fault::Fault;
use crate::resp::session::Call;

pub(crate) fn time(call: &mut Call<'_>) -> Result<(), Fault> {
    let micros = call.around.now.micros();
    let mut text = itoa::Buffer::new();
    call.output.array(2);
    call.output.bulk(text.format(micros / 1_000_000).as_bytes());
    call.output.bulk(text.format(micros % 1_000_000).as_bytes());
    Ok(())
}

/// There are no functions, so flushing them is done. Test suites do it between tests.
pub(crate) fn function_flush(call: &mut Call<'_>) -> Result<(), Fault> {
    let known = call.len() == 2 || (call.len() == 3 && (call.is(2, "sync") || call.is(2, "async")));
    if !known {
        let words = "FUNCTION FLUSH only supports SYNC|ASYNC option";
        return Err(Fault::other(words));
    }
    call.output.ok();
    Ok(())
}

/// CLUSTER and what belongs to it: Redis' own word for a server that is not in Cluster mode.
pub(crate) fn no_cluster(_: &mut Call<'_>) -> Result<(), Fault> {
    Err(Fault::other("This instance has cluster support disabled"))
}
