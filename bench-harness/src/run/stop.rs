//! Signals that end a run: noted here, acted on between and within repetitions.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};

use crate::exit::Exit;

/// Whether, and by which signal, the run is to end.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    /// 0, or the number of the last signal.
    signal: Arc<AtomicUsize>,
}

/// A signal that ends a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopSignal {
    /// From the keyboard.
    Interrupt,
    /// From another process.
    Terminate,
}

impl StopSignal {
    /// How the program ends after it.
    #[must_use]
    pub const fn exit(self) -> Exit {
        match self {
            Self::Interrupt => Exit::Interrupted,
            Self::Terminate => Exit::Terminated,
        }
    }
}

impl Stop {
    /// Notes SIGINT and SIGTERM from now on instead of dying of them.
    ///
    /// # Errors
    /// When the kernel refuses the handlers.
    pub fn on_signals() -> std::io::Result<Self> {
        let stop = Self::default();
        for signal in [SIGINT, SIGTERM] {
            let number = usize::try_from(signal).unwrap_or_default();
            signal_hook::flag::register_usize(signal, Arc::clone(&stop.signal), number)?;
        }
        Ok(stop)
    }

    /// Asks the run to end, as the signal would.
    pub fn ask(&self, signal: StopSignal) {
        let number = match signal {
            StopSignal::Interrupt => SIGINT,
            StopSignal::Terminate => SIGTERM,
        };
        self.signal.store(usize::try_from(number).unwrap_or_default(), Ordering::Relaxed);
    }

    /// Returns the signal that has come, if one has.
    #[must_use]
    pub fn signal(&self) -> Option<StopSignal> {
        let number = i32::try_from(self.signal.load(Ordering::Relaxed)).ok()?;
        match number {
            SIGINT => Some(StopSignal::Interrupt),
            SIGTERM => Some(StopSignal::Terminate),
            _ => None,
        }
    }
}
