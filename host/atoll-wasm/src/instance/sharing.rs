//! Calls that share an instance: whose turn it is, what each may still use, and who pays.
//!
//! What is a call's own is in the [`Guest`] while it is that call's turn, and waits here else. wasmtime
//! tells of each entry into the guest's code ([`hook`]), so processor time, lines of log, requests and
//! grants are those of the call that runs. What a guest leaves to its event loop between two turns is
//! charged to the call that ran last, which is the one that has caused it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use wasmtime::component::GuestTaskId;
use wasmtime::{CallHook, StoreContextMut, UpdateDeadline};

use super::Guest;
use crate::host::{Host, Usage};
use crate::limits::{Limits, PURGES_MAX};
use crate::log::Lines;
use crate::memory::Refusal;
use crate::standard::Outbound;

/// The calls of one instance, since it was last without any.
#[derive(Debug)]
pub(super) struct Sharing<H> {
    /// Whose turn it is, or was last. None before the first call.
    current: Option<GuestTaskId>,
    account: Account,
    /// The others. Those that were answered stay until the instance has no call at all: a guest may go on
    /// after that, and nobody tells when it ends.
    others: Vec<Own<H>>,
    /// How much of the instance's time was charged so far.
    charged_ns: u64,
    /// Whether no code of the guest has run since that was last noted.
    is_quiet: Arc<AtomicBool>,
}

/// The processor time of one call.
#[derive(Debug, Clone, Copy)]
struct Account {
    limit_ns: u64,
    spent_ns: u64,
}

/// What is one call's own.
#[derive(Debug)]
struct Own<H> {
    task: Option<GuestTaskId>,
    host: H,
    account: Account,
    outbound: Option<Outbound>,
    purges_left: u32,
    cursors: Vec<String>,
    lines: Lines,
    refusal: Option<Refusal>,
    is_called: bool,
    is_reused: bool,
}

impl Account {
    fn new(limits: &Limits) -> Account {
        Account { limit_ns: u64::from(limits.cpu_ms) * 1_000_000, spent_ns: 0 }
    }

    fn is_spent(&self) -> bool {
        self.spent_ns >= self.limit_ns
    }
}

impl<H: Host> Guest<H> {
    /// From now on several calls may share the instance; the present one is the first. `is_quiet` is
    /// cleared whenever code of the guest runs.
    pub(crate) fn begin_sharing(&mut self, limits: &Limits, is_quiet: Arc<AtomicBool>) {
        self.sharing = Some(Box::new(Sharing {
            current: None,
            account: Account::new(limits),
            others: Vec::new(),
            charged_ns: 0,
            is_quiet,
        }));
    }

    /// A call is this task from now on: the first, or one that joins it.
    pub(crate) fn add_call(&mut self, task: GuestTaskId, host: H, limits: &Limits) {
        let Some(sharing) = &mut self.sharing else { return };
        if sharing.current.is_none() {
            sharing.current = Some(task);
            return;
        }
        sharing.others.push(Own {
            task: Some(task),
            host,
            account: Account::new(limits),
            outbound: None,
            purges_left: PURGES_MAX,
            cursors: Vec::new(),
            lines: Lines::new(),
            refusal: None,
            is_called: true,
            is_reused: true,
        });
    }

    /// The call whose turn it is, or was last.
    pub(crate) fn current(&self) -> Option<GuestTaskId> {
        self.sharing.as_ref()?.current
    }

    /// A call is over: tells its host what it has used.
    pub(crate) fn end_call(&mut self, task: GuestTaskId) {
        self.charge();
        if self.current() == Some(task) {
            self.tell_usage();
        } else if let Some(sharing) = &mut self.sharing {
            let memory_bytes = self.memory.held_bytes();
            let own = sharing.others.iter_mut().find(|own| own.task == Some(task));
            own.into_iter().for_each(|own| own.tell_usage(memory_bytes));
        }
    }

    /// No call is left.
    pub(crate) fn end_sharing(&mut self) {
        self.tell_all_usage();
        self.sharing = None;
    }

    /// Tells the hosts of all calls what they have used, once each.
    pub(super) fn tell_all_usage(&mut self) {
        self.tell_usage();
        let memory_bytes = self.memory.held_bytes();
        let others = self.sharing.iter_mut().flat_map(|sharing| &mut sharing.others);
        others.for_each(|own| own.tell_usage(memory_bytes));
    }

    /// The processor time of the call whose turn it is.
    pub(super) fn spent(&mut self) -> Duration {
        self.charge();
        match &self.sharing {
            None => self.meter.end_turn(),
            Some(sharing) => Duration::from_nanos(sharing.account.spent_ns),
        }
    }

    /// Returns whether that call was found to have spent what it may.
    pub(super) fn is_spent(&self) -> bool {
        match &self.sharing {
            None => self.meter.is_spent(),
            Some(sharing) => sharing.account.is_spent(),
        }
    }

    /// Decides what happens to a guest that computes.
    pub(super) fn tick(&mut self) -> UpdateDeadline {
        let Some(sharing) = &mut self.sharing else { return self.meter.tick() };
        sharing.charge(self.meter.count_exactly_ns());
        match sharing.account.is_spent() {
            true => UpdateDeadline::Interrupt,
            false => self.meter.pause(),
        }
    }

    /// Charges the call whose turn it is for what the instance has taken since the last time.
    fn charge(&mut self) {
        if let Some(sharing) = &mut self.sharing {
            sharing.charge(self.meter.count_ns());
        }
    }

    /// It is this task's turn.
    fn turn_to(&mut self, task: GuestTaskId) {
        let Some(sharing) = &mut self.sharing else { return };
        if sharing.current == Some(task) {
            return;
        }
        let Some(place) = sharing.others.iter().rposition(|own| own.task == Some(task)) else {
            return;
        };
        sharing.charge(self.meter.count_ns());
        let own = &mut sharing.others[place];
        std::mem::swap(&mut sharing.current, &mut own.task);
        std::mem::swap(&mut sharing.account, &mut own.account);
        std::mem::swap(&mut self.host, &mut own.host);
        std::mem::swap(&mut self.outbound, &mut own.outbound);
        std::mem::swap(&mut self.purges_left, &mut own.purges_left);
        std::mem::swap(&mut self.is_called, &mut own.is_called);
        std::mem::swap(&mut self.is_reused, &mut own.is_reused);
        self.keyvalue.exchange_cursors(&mut own.cursors);
        self.memory.exchange_refusal(&mut own.refusal);
        // Made when the first line is written: until then nobody has written any.
        if let Some(log) = &self.log {
            own.lines = log.turn_to(own.lines.clone());
        }
    }
}

impl<H> Sharing<H> {
    fn charge(&mut self, used_ns: u64) {
        self.account.spent_ns += used_ns.saturating_sub(self.charged_ns);
        self.charged_ns = used_ns;
    }
}

impl<H: Host> Own<H> {
    fn tell_usage(&mut self, memory_bytes: usize) {
        if std::mem::take(&mut self.is_called) {
            let cpu = Duration::from_nanos(self.account.spent_ns);
            self.host.used(Usage { cpu, memory_bytes, is_reused: self.is_reused });
        }
    }
}

/// Notes whose turn it is whenever code of the guest begins to run, or goes on after a host call, in
/// which it may have waited while others ran.
pub(crate) fn hook<H: Host>(
    mut store: StoreContextMut<'_, Guest<H>>,
    hook: CallHook,
) -> wasmtime::Result<()> {
    if !matches!(hook, CallHook::CallingWasm | CallHook::ReturningFromHost) {
        return Ok(());
    }
    let Some(sharing) = &store.data().sharing else { return Ok(()) };
    sharing.is_quiet.store(false, Ordering::Relaxed);
    // The last is the call of the host's that all others are made for.
    let task = store.async_call_stack().ok().and_then(Iterator::last);
    if let Some(task) = task {
        store.data_mut().turn_to(task);
    }
    Ok(())
}
