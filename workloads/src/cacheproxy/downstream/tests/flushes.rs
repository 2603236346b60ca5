//! Goal: however many clients flush, a server is told over one connection of a shard at a time, and each
//! of them after it came.
//! Method: a shard in virtual time before a server that notes what it is told, and answers late or never.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use forebay::net::{Connection, ListenOptions, Listener};
use forebay::sim::SimOptions;
use forebay::{RequestOptions, Time, now, sleep, spawn_background};

use super::*;

const N_CLIENTS: usize = 50;
const STEPS_MAX: u64 = 1_000_000;
/// How late a server answers, if it does.
const LATE: Duration = Duration::from_millis(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Late,
    Hangs,
}

/// What a server was told.
#[derive(Debug, Default)]
struct Told {
    /// By connection: when it came, and its lines.
    lines: RefCell<Vec<(Time, String)>>,
}

impl Told {
    fn n_connections(&self) -> usize {
        self.lines.borrow().len()
    }

    async fn serve(self: Rc<Self>, listener: Listener, manner: Manner) {
        while let Ok(connection) = listener.accept().await {
            spawn_background(Rc::clone(&self).answer(connection, manner)).detach();
        }
    }

    async fn answer(self: Rc<Self>, connection: Connection, manner: Manner) {
        let idx = self.n_connections();
        self.lines.borrow_mut().push((now(), String::new()));
        while let Ok(Some(chunk)) = connection.read().await {
            let said = String::from_utf8(chunk.to_vec()).unwrap();
            self.lines.borrow_mut()[idx].1 += &said;
            if manner == Manner::Late {
                sleep(LATE).await;
                let answers = "OK\r\n".repeat(said.lines().count());
                connection.write(answers.into_bytes()).await.unwrap();
            }
        }
    }
}

/// What `work` comes to on a shard before a server of this manner.
fn before_a_server<T: Send + 'static>(
    manner: Manner,
    work: impl AsyncFnOnce(Downstream, Rc<Told>) -> T + Send + 'static,
) -> T {
    let address: Address = "127.0.0.1:11212".parse().unwrap();
    let mut builder = Builder::new();
    let servers = std::slice::from_ref(&address);
    let config = Config { flush_all: FlushAll::Forward, ..Config::of(servers) };
    let downstream = Downstream::declare(&mut builder, "sim", &config, 1).unwrap();
    let mut sim = builder.simulate(SimOptions::new(1, 1)).unwrap();
    let working = sim.handle().submit(0, RequestOptions::default(), move || async move {
        let listener = Listener::bind(&address, ListenOptions::default()).unwrap();
        let told = Rc::<Told>::default();
        spawn_background(Rc::clone(&told).serve(listener, manner)).detach();
        work(downstream, told).await
    });
    let (working, mut done) = (working.unwrap(), None);
    let ended = sim.run_until(STEPS_MAX, |_sim| {
        done = working.try_take();
        done.is_some()
    });
    assert!(ended, "it has no end");
    done.expect("it has ended").unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn clients_that_flush_a_server_that_hangs_have_one_connection_at_a_time() {
    let (flushed, took, n_connections) =
        before_a_server(Manner::Hangs, async |downstream, told| {
            let began_at = now();
            // Each wants another time.
            let delays = (0..N_CLIENTS).map(|delay| ExpTime(i32::try_from(delay).unwrap()));
            let flushed = join_all(delays.map(|delay| downstream.flush_all(delay))).await;
            (flushed, now().since(began_at), told.n_connections())
        });
    assert_eq!(flushed, [Err(Failure::Unanswered); N_CLIENTS]);
    assert_eq!(n_connections, 2, "that of the first, and that of all who came meanwhile");
    let within = ServerLimits::default().operation_within();
    assert!(took <= within, "{took:?}");
}

#[test]
fn whoever_flushes_is_told_of_a_flush_that_began_after_it_came() {
    let (flushed, came_at, told) = before_a_server(Manner::Late, async |downstream, told| {
        let flush = |delay| downstream.flush_all(ExpTime(delay));
        let later = async {
            sleep(LATE / 2).await;
            (now(), join_all([flush(0), flush(60), flush(60), flush(0)]).await)
        };
        let (first, (came_at, others)) = futures_util::future::join(flush(0), later).await;
        assert_eq!(others, [Ok(()); 4]);
        let last = flush(0).await;
        ([first, last], came_at, told.lines.take())
    });
    assert_eq!(flushed, [Ok(()); 2]);
    let lines: Vec<_> = told.iter().map(|(_at, lines)| lines.as_str()).collect();
    let shared = "flush_all 0\r\nflush_all 60\r\nflush_all 0\r\n";
    assert_eq!(lines, ["flush_all 0\r\n", shared, "flush_all 0\r\n"]);
    assert!(told[0].0 < came_at && came_at < told[1].0, "{came_at:?} {told:?}");
}
