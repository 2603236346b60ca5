//! Goal: a signal ends a run instead of the process.
//! Method: this test binary sends one to itself; one test only, since handlers are of the process.

use bench_harness::run::{Stop, StopSignal};
use rustix::process::{Signal, getpid, kill_process};

#[test]
fn a_signal_is_noted_and_the_process_lives_on() {
    let stop = Stop::on_signals().expect("handlers can be set");
    assert_eq!(stop.signal(), None);
    for (signal, noted) in
        [(Signal::INT, StopSignal::Interrupt), (Signal::TERM, StopSignal::Terminate)]
    {
        kill_process(getpid(), signal).expect("one may signal oneself");
        // A signal to the own process is delivered to some thread, maybe not this one, before long.
        while stop.signal() != Some(noted) {
            std::thread::yield_now();
        }
    }
}
