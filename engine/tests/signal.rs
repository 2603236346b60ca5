//! Goal: the first SIGINT or SIGTERM asks, the next one insists, and a process that has stopped
//! listening can be ended again.
//! Method: a child process sends the signals to itself and says what it heard.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod child;

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use child::{Ended, in_child};
use forebay::signal::{Signal, Signals, Urgency};
use rustix::process::{Signal as Raw, getpid, kill_process};

/// Long enough for any machine: only a test that fails waits so long.
const PATIENCE: Duration = Duration::from_secs(30);

type Heard = (Signal, Urgency);

fn install() -> (Signals, Receiver<Heard>) {
    let (tell, heard) = channel();
    let signals = Signals::install(move |signal, urgency| tell.send((signal, urgency)).unwrap());
    (signals.unwrap(), heard)
}

/// Sends a signal to this process, and waits until it was heard.
fn send(raw: Raw, heard: &Receiver<Heard>) -> Result<Heard, RecvTimeoutError> {
    kill_process(getpid(), raw).unwrap();
    heard.recv_timeout(PATIENCE)
}

fn n_threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

#[test]
fn the_first_signal_asks_and_every_further_one_insists() {
    let ended = in_child(|| {
        let (_signals, heard) = install();
        format!("{:?}", [Raw::TERM, Raw::INT, Raw::TERM].map(|raw| send(raw, &heard).unwrap()))
    });
    let wanted = [
        (Signal::Terminate, Urgency::Graceful),
        (Signal::Interrupt, Urgency::AtOnce),
        (Signal::Terminate, Urgency::AtOnce),
    ];
    assert_eq!(ended, Ended::Said(format!("{wanted:?}")));
}

#[test]
fn a_process_that_no_longer_listens_is_ended_by_the_signal() {
    let ended = in_child(|| {
        drop(install());
        kill_process(getpid(), Raw::TERM).unwrap();
        // The signal may reach another thread first; this one only has to outlive that.
        let (_keep, never) = channel::<()>();
        format!("survived: {:?}", never.recv_timeout(PATIENCE))
    });
    assert_eq!(ended, Ended::Killed(15));
}

#[test]
fn a_second_listener_is_refused_until_the_first_is_gone() {
    let ended = in_child(|| {
        let (signals, _heard) = install();
        let refused = Signals::install(|_, _| {}).unwrap_err().kind();
        drop(signals);
        let (_signals, heard) = install();
        format!("{refused:?}, then {:?}", send(Raw::INT, &heard).unwrap())
    });
    let first = (Signal::Interrupt, Urgency::Graceful);
    assert_eq!(ended, Ended::Said(format!("AlreadyExists, then {first:?}")));
}

#[test]
fn dropping_joins_the_thread() {
    let ended = in_child(|| {
        let before = n_threads();
        let (signals, heard) = install();
        let during = n_threads();
        drop(signals);
        // The channel closes when the thread's closure is dropped, which a joined thread has done.
        format!("{} more, then {:?}", during - before, heard.try_recv())
    });
    assert_eq!(ended, Ended::Said("1 more, then Err(Disconnected)".to_owned()));
}
