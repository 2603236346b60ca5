//! Goal: the fence of design rule 2. The executor underneath can fall asleep with work to do when
//! its preempt timer fires between its look at the rings and its run of the tasks; what bounds that
//! sleep is the one live timer of at most 10 ms that every wait of a shard has. With the fence no
//! request stalls; with it down some do, so the fence is what prevents it.
//!
//! Method: in a child process, a preempt timer of 10 ms, and a process that is stopped for 15 ms
//! and continued, 190 times, while a shard serves one caller, through its inbox or over a socket. A control thread measures its own
//! gaps: a request stalls if it took over 20 ms longer than what the control thread missed
//! meanwhile, and than what the host kept shard and caller waiting for a CPU. The one kind of test
//! that looks at absolute time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]
#![allow(clippy::disallowed_methods, reason = "ordinary threads that measure real time")]

mod child;
mod ring;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use child::{Ended, in_child};
use forebay::affinity::{CpuId, pin_current_thread};
use forebay::net::{Address, ListenOptions, Listener};
use forebay::{RequestOptions, spawn_background};
use ring::{Ring, shards};
use rustix::process::getpid;

const STOPS: usize = 190;
/// Longer than the preempt timer, or it seldom fires where it does harm.
const STOPPED: Duration = Duration::from_millis(15);
/// Longer than what counts as a stall: the next stop ends a wrong sleep.
const CONTINUED: Duration = Duration::from_millis(40);
const PREEMPT: Duration = Duration::from_millis(10);
/// Beyond what the control thread saw.
const STALL: Duration = Duration::from_millis(20);
/// How often to look for stalls with the fence down: most runs of 190 stops show some, not all.
const TRIES: usize = 5;

/// A span of time on one thread.
struct Span {
    begun: Instant,
    ended: Instant,
    /// How long the watched threads were runnable in it and had no CPU.
    unscheduled: Duration,
}

/// Runs `step` again and again until told to end; keeps the spans of those that took long.
fn long_spans(until: &AtomicBool, watched: &[PathBuf], mut step: impl FnMut()) -> Vec<Span> {
    let unscheduled = || watched.iter().map(|schedstat| run_delay(schedstat)).sum::<Duration>();
    let mut spans = Vec::new();
    while !until.load(Ordering::Acquire) {
        let (before, begun) = (unscheduled(), Instant::now());
        step();
        let ended = Instant::now();
        if ended - begun > Duration::from_millis(5) {
            spans.push(Span { begun, ended, unscheduled: unscheduled() - before });
        }
    }
    spans
}

/// What the control thread missed during `span`.
fn gaps_during(control: &[Span], span: &Span) -> Duration {
    let overlapping = control.iter().filter(|gap| gap.begun < span.ended && span.begun < gap.ended);
    overlapping.map(|gap| gap.ended - gap.begun).sum()
}

/// How long a thread has been runnable without a CPU, by its `schedstat` file.
fn run_delay(schedstat: &Path) -> Duration {
    let text = std::fs::read_to_string(schedstat).unwrap();
    Duration::from_nanos(text.split_whitespace().nth(1).unwrap().parse().unwrap())
}

/// The `schedstat` file of the thread of this process that is called `name`.
fn schedstat_of(name: &str) -> PathBuf {
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    let is_it = |dir: &PathBuf| std::fs::read_to_string(dir.join("comm")).unwrap().trim() == name;
    threads.map(|thread| thread.unwrap().path()).find(is_it).unwrap().join("schedstat")
}

/// Stops this very process again and again, from another one.
fn stopper() -> std::process::Child {
    let script = format!(
        "sleep 0.2; for i in $(seq {STOPS}); do kill -STOP {pid}; sleep 0.0{stopped:02}; \
         kill -CONT {pid}; sleep 0.0{continued:02}; done",
        pid = getpid().as_raw_nonzero(),
        stopped = STOPPED.as_millis(),
        continued = CONTINUED.as_millis(),
    );
    std::process::Command::new("sh").args(["-c", &script]).spawn().unwrap()
}

#[derive(Clone, Copy, PartialEq)]
enum Fence {
    Up,
    Down,
}

/// How the caller reaches the shard.
#[derive(Clone, Copy)]
enum Way {
    Inbox,
    Socket,
}

/// Asks the shard for something by this way, once for each call of what it gives.
fn caller(ring: &Ring, way: Way) -> Box<dyn FnMut() + Send> {
    match way {
        Way::Inbox => {
            let handle = ring.handle.clone();
            Box::new(move || {
                let reply = handle.submit(0, RequestOptions::default(), || async {}).unwrap();
                reply.wait().unwrap();
            })
        }
        Way::Socket => {
            let address = ring.run(0, || async {
                let options = ListenOptions::default();
                let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap(), options).unwrap();
                let Address::Tcp(address) = listener.address().clone() else { panic!("not TCP") };
                spawn_background(async move {
                    let connection = listener.accept().await.unwrap();
                    while let Some(chunk) = connection.read().await.unwrap() {
                        connection.write(chunk).await.unwrap();
                    }
                })
                .detach();
                address
            });
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_nodelay(true).unwrap();
            Box::new(move || {
                stream.write_all(b"?").unwrap();
                stream.read_exact(&mut [0]).unwrap();
            })
        }
    }
}

/// Serves one caller while the process is stopped and continued; gives what stalled, and by how
/// much.
fn stalls(fence: Fence, way: Way) -> Vec<Duration> {
    let mut builder = shards(1);
    builder.preempt_timer(PREEMPT);
    if fence == Fence::Down {
        builder.without_wait_cap();
    }
    let ring = Ring::start(builder);
    let cpu = CpuId(ring.shard(0).cpu.unwrap());
    let end = Arc::new(AtomicBool::new(false));
    let (ended, control_ended) = (Arc::clone(&end), Arc::clone(&end));
    // On the shard's own CPU: it sees whatever else takes that.
    let control = std::thread::spawn(move || {
        pin_current_thread(cpu).unwrap();
        long_spans(&control_ended, &[], || std::thread::sleep(Duration::from_micros(500)))
    });
    let call = caller(&ring, way);
    let shard = schedstat_of("forebay-0");
    let caller = std::thread::spawn(move || {
        let watched = [shard, PathBuf::from("/proc/thread-self/schedstat")];
        long_spans(&ended, &watched, call)
    });
    assert!(stopper().wait().unwrap().success());
    end.store(true, Ordering::Release);
    let (control, calls) = (control.join().unwrap(), caller.join().unwrap());
    assert!(calls.len() >= STOPS / 2, "the stops must be seen: {} calls were long", calls.len());
    ring.engine.stop(Duration::from_secs(1));
    let stalled = |span: &Span| {
        let excused = gaps_during(&control, span).max(span.unscheduled);
        (span.ended - span.begun).saturating_sub(excused)
    };
    calls.iter().map(stalled).filter(|stall| *stall > STALL).collect()
}

#[test]
fn with_the_fence_no_request_stalls_and_without_it_some_do() {
    let ended = in_child(|| {
        let fenced = stalls(Fence::Up, Way::Inbox);
        let unfenced =
            (0..TRIES).map(|_| stalls(Fence::Down, Way::Inbox)).find(|stalls| !stalls.is_empty());
        format!("{fenced:?}, {}", if unfenced.is_some() { "some" } else { "none" })
    });
    assert_eq!(ended, Ended::Said("[], some".to_owned()));
}

/// Five runs of it are the figure of `results/echo/stop-and-continue.txt`.
#[test]
fn with_the_fence_no_socket_stalls() {
    let ended = in_child(|| format!("{:?}", stalls(Fence::Up, Way::Socket)));
    assert_eq!(ended, Ended::Said("[]".to_owned()));
}
