//! The one place that hears SIGINT and SIGTERM.
//!
//! A signal handler may do next to nothing, and a shard must not be interrupted to do it. So the
//! handler only marks the signal in a pipe, and a thread of this module's own reads the pipe and
//! calls back. The first signal asks for a graceful stop, every further one for a stop at once;
//! what either means, and the exit status, is the caller's to say: [`Signal::exit_status`] has the
//! value that shells expect.
//!
//! The handlers themselves stay for the life of the process: the `signal-hook` crate never takes
//! one out. While a [`Signals`] lives they only mark; afterwards they do what the system does by
//! default, so that a process which no longer listens can still be ended.

use std::os::raw::c_int;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::{fmt, io};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag::register_conditional_default;
use signal_hook::iterator::{Handle, Signals as Pending};

// Statics, and atomics: a signal belongs to the process, and its handler may read nothing else.
/// True while nobody listens: the signals then do what they do by default.
static UNHEARD: AtomicBool = AtomicBool::new(true);
/// True from `install` until its `Signals` is gone: two listeners would each count a first signal.
static INSTALLED: AtomicBool = AtomicBool::new(false);

/// A signal that asks the process to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT: Ctrl-C at the terminal.
    Interrupt,
    /// SIGTERM: the service manager's.
    Terminate,
}

impl Signal {
    const ALL: [Self; 2] = [Self::Interrupt, Self::Terminate];

    /// Gives the status of a process that ends because of this signal: 130 or 143.
    #[must_use]
    pub fn exit_status(self) -> i32 {
        128 + self.number()
    }

    fn number(self) -> c_int {
        match self {
            Self::Interrupt => SIGINT,
            Self::Terminate => SIGTERM,
        }
    }
}

/// How soon to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// The first signal: stop accepting, drain, then return.
    Graceful,
    /// A further signal: whoever sent it will not wait.
    AtOnce,
}

/// Listens while it lives; dropping it gives the signals back to the system and joins the thread.
pub struct Signals {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl Signals {
    /// Handles SIGINT and SIGTERM by calling `on_signal`, on a thread of its own, until dropped.
    ///
    /// Meant to be called before any shard is pinned: the thread inherits the caller's CPUs.
    /// Signals of one kind that arrive while `on_signal` runs count as one.
    /// # Errors
    /// `AlreadyExists` while another `Signals` lives; the system's error when the handlers or the
    /// thread cannot be had.
    pub fn install(on_signal: impl FnMut(Signal, Urgency) + Send + 'static) -> io::Result<Self> {
        if INSTALLED.swap(true, Ordering::SeqCst) {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "signals are handled already; install once per process and fan out from there",
            ));
        }
        start(on_signal).inspect_err(|_| INSTALLED.store(false, Ordering::SeqCst))
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        UNHEARD.store(true, Ordering::SeqCst);
        self.handle.close();
        let thread = self.thread.take();
        INSTALLED.store(false, Ordering::SeqCst);
        // Dropped from inside `on_signal`: a thread cannot join itself, and ends after this call.
        let Some(thread) = thread.filter(|t| t.thread().id() != std::thread::current().id()) else {
            return;
        };
        if let Err(panic) = thread.join()
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signals").finish_non_exhaustive()
    }
}

fn start(on_signal: impl FnMut(Signal, Urgency) + Send + 'static) -> io::Result<Signals> {
    static DEFAULTS: Once = Once::new();
    DEFAULTS.call_once(|| {
        for signal in Signal::ALL {
            register_conditional_default(signal.number(), &UNHEARD)
                .expect("both signals are known and may be caught");
        }
    });
    let pending = Pending::new(Signal::ALL.map(Signal::number))?;
    let handle = pending.handle();
    let thread = Builder::new()
        .name("forebay-signals".to_owned())
        .spawn(move || listen(pending, on_signal))?;
    // Only now: until somebody listens, a signal must not be lost.
    UNHEARD.store(false, Ordering::SeqCst);
    Ok(Signals { handle, thread: Some(thread) })
}

fn listen(mut pending: Pending, mut on_signal: impl FnMut(Signal, Urgency)) {
    let mut urgency = Urgency::Graceful;
    for number in pending.forever() {
        let signal = Signal::ALL.into_iter().find(|signal| signal.number() == number);
        on_signal(signal.expect("only these two are registered"), urgency);
        urgency = Urgency::AtOnce;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_statuses_are_those_a_shell_expects() {
        assert_eq!(Signal::Interrupt.exit_status(), 130);
        assert_eq!(Signal::Terminate.exit_status(), 143);
    }
}
