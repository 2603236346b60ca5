//! Clients that wait for their reply, think, and ask again; in steps, more of them and fewer.
//!
//! One that is refused thinks like any other before it asks again, and no longer: if all waited the
//! whole second of a `retry-after`, the load would be gone that a step is to show.

use std::rc::Rc;
use std::time::Duration;

use super::book::Asker;
use super::client::Client;
use super::phase::{Drive, Live, request};
use crate::load::Part;
use crate::subject::CellError;
use crate::workload_file::{Arrival, Phase, Until};

/// When which client asks.
#[derive(Debug, Clone)]
struct Pace {
    think: Duration,
    /// Clients that ask in each step; one endless step where there are none.
    steps: Vec<u64>,
    step_ns: u64,
}

/// How many clients a closed phase has at most.
pub(super) fn n_clients(arrival: &Arrival) -> usize {
    let n_clients = match arrival {
        Arrival::Closed { in_flight, .. } => *in_flight,
        Arrival::Steps { clients, .. } => clients.iter().copied().max().unwrap_or(0),
        Arrival::EachConnection { .. }
        | Arrival::Constant { .. }
        | Arrival::Poisson { .. }
        | Arrival::Relative { .. }
        | Arrival::None => 0,
    };
    usize::try_from(n_clients).expect("the file's check bounds clients by connections")
}

/// Starts every client of the phase.
pub(super) fn start(drive: &Rc<Drive>, phase: &Phase) -> Result<(), CellError> {
    let pace = Rc::new(Pace::of(&phase.arrival));
    let of = u32::try_from(n_clients(&phase.arrival)).expect("connections are fewer");
    for client_idx in 0..of {
        let n_requests = match phase.until {
            Until::DurationMs(_) => u64::MAX,
            Until::Requests(total) => {
                Part::new(client_idx, of).expect("below the number of clients").share(total)
            }
        };
        let client = drive.fleet.take().ok_or_else(|| {
            CellError::Failed(format!("{of} clients, and connections for {client_idx}"))
        })?;
        let asking =
            in_a_loop(Live::new(drive), client, client_idx as usize, n_requests, Rc::clone(&pace));
        forebay::spawn(forebay::RequestOptions::default(), asking).detach();
    }
    Ok(())
}

/// One client, until it has asked so often or the window closes.
async fn in_a_loop(
    live: Live,
    mut client: Client,
    client_idx: usize,
    mut n_requests_left: u64,
    pace: Rc<Pace>,
) {
    let drive = live.drive();
    while n_requests_left > 0 {
        let now_ns = drive.clock.now_ns();
        let Some(start_ns) = pace.next_start(client_idx, now_ns) else { break };
        if start_ns >= drive.end_ns {
            break;
        }
        if start_ns > now_ns {
            forebay::sleep(Duration::from_nanos(start_ns - now_ns)).await;
            continue;
        }
        n_requests_left -= 1;
        let ask = drive.fleet.draw();
        let asker = Asker::Client(client_idx);
        let ended_ns = request(drive, &mut client, &ask, asker, now_ns, now_ns).await;
        if !pace.think.is_zero() && ended_ns < drive.end_ns {
            forebay::sleep(pace.think).await;
        }
    }
    drive.fleet.put(client);
}

impl Pace {
    fn of(arrival: &Arrival) -> Self {
        let (steps, step_ms, think_ns) = match arrival {
            Arrival::Steps { clients, step_ms, think_time_ns } => {
                (clients.clone(), *step_ms, *think_time_ns)
            }
            Arrival::Closed { think_time_ns, .. } => (Vec::new(), 0, *think_time_ns),
            Arrival::EachConnection { .. }
            | Arrival::Constant { .. }
            | Arrival::Poisson { .. }
            | Arrival::Relative { .. }
            | Arrival::None => (Vec::new(), 0, 0),
        };
        let step_ns = step_ms.saturating_mul(1_000_000);
        Self { think: Duration::from_nanos(think_ns), steps, step_ns }
    }

    /// When a client may ask next, from this time on; `None` when it has no step left.
    fn next_start(&self, client_idx: usize, now_ns: u64) -> Option<u64> {
        if self.steps.is_empty() {
            return Some(now_ns);
        }
        let step_now = usize::try_from(now_ns / self.step_ns).unwrap_or(usize::MAX);
        let client_idx = u64::try_from(client_idx).unwrap_or(u64::MAX);
        let steps = self.steps.iter().zip(0..).skip(step_now);
        let (_, step_idx) = steps.into_iter().find(|(n_clients, _)| client_idx < **n_clients)?;
        Some(now_ns.max(self.step_ns.saturating_mul(step_idx)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_asks_in_its_steps_and_waits_for_the_next_of_them() {
        let clients = vec![3, 100, 3, 50];
        let pace = Pace::of(&Arrival::Steps { clients, step_ms: 1, think_time_ns: 0 });
        let (first, last, middle) = (0, 99, 49);
        for now_ns in [0, 999_999, 1_000_000, 2_500_000, 3_999_999] {
            assert_eq!(pace.next_start(first, now_ns), Some(now_ns));
        }
        assert_eq!(pace.next_start(last, 0), Some(1_000_000));
        assert_eq!(pace.next_start(last, 1_500_000), Some(1_500_000));
        assert_eq!(pace.next_start(last, 2_000_000), None);
        assert_eq!(pace.next_start(middle, 2_000_000), Some(3_000_000));
        assert_eq!(pace.next_start(first, 4_000_000), None);
    }

    #[test]
    fn without_steps_a_client_may_always_ask() {
        let pace = Pace::of(&Arrival::Closed { in_flight: 3, think_time_ns: 5 });
        assert_eq!(pace.next_start(1_000, 77), Some(77));
        assert_eq!(pace.think, Duration::from_nanos(5));
    }
}
