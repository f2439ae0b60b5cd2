//! Running a project's build, and ending it before its time.

use super::Stopped;
use super::project::Project;
use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process_group};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Pause between two looks at whether a build has ended.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// How a build ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Build {
    Done,
    /// What is wrong is on the terminal.
    Failed,
    /// The session is over.
    Stopped,
}

/// Runs one build at a time.
#[derive(Debug, Default)]
pub(super) struct Builder {
    running: Mutex<Option<Child>>,
    stopped: Stopped,
}

impl Builder {
    /// Runs the build to its end. What it prints goes to the terminal as it is.
    pub(super) fn run(&self, project: &Project) -> anyhow::Result<Build> {
        let mut command = Command::new("sh");
        command.arg("-c").arg(&project.build).current_dir(&project.folder).stdin(Stdio::null());
        // A group of its own, so that what the build has started ends with it.
        command.process_group(0);
        let child = command.spawn().context("cannot run sh for the build")?;
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
        loop {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(child) = running.as_mut() else { return Ok(Build::Stopped) };
            if let Some(status) = child.try_wait().context("the build cannot be waited for")? {
                *running = None;
                return Ok(if status.success() { Build::Done } else { Build::Failed });
            }
            drop(running);
            std::thread::sleep(LOOK_PAUSE);
        }
    }

    /// Ends the build that runs, if one does; none begins any more.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut child) = running {
            // It may have ended just now.
            let _ = kill_process_group(Pid::from_child(&child), Signal::TERM);
            let _ = child.wait();
        }
    }

    /// Becomes true when the session is over.
    pub(super) fn is_stopped(&self) -> Stopped {
        Stopped::clone(&self.stopped)
    }
}
