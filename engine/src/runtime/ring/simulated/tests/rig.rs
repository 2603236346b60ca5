//! Two shards that talk over the simulated network, driven by hand.
//!
//! Each socket sends what it has, as the completions let it, and keeps what comes; whatever may end
//! in the middle is begun again.

use std::io;
use std::rc::Rc;

use super::super::super::{
    Address, Chunk, Completion, End, How, Kind, ListenSpec, Op, Outcome, Ring, Side, Socket, Token,
};
use super::super::{NetChance, SimulatedRing};
use crate::limits::Limits;
use crate::runtime::ShardId;
use crate::runtime::simulated::World;

pub(super) const SERVER: usize = 0;
pub(super) const CLIENT: usize = 1;

pub(super) const CHANCE: NetChance = NetChance {
    delay_ns: 50_000,
    window_bytes: 4_096,
    reset_per_mille: 0,
    silence_per_mille: 0,
    sockets_max: 100,
};

/// What one socket has come to.
#[derive(Debug, Default)]
pub(super) struct Talk {
    pub(super) shard: usize,
    pub(super) socket: Option<Socket>,
    pub(super) unsent: Vec<u8>,
    pub(super) n_sent: usize,
    pub(super) received: Vec<u8>,
    /// What ended its stream, or why there is none; the code of an error.
    pub(super) end: Option<Result<(), i32>>,
    pub(super) connected: Option<Result<(), i32>>,
    pub(super) send_error: Option<i32>,
    pub(super) accept_error: Option<i32>,
    /// Whether it ends its side when all is sent.
    pub(super) keeps_open: bool,
    /// Whether it begins no receive.
    pub(super) holds: bool,
    /// Whether it begins nothing any more.
    pub(super) quiet: bool,
    pub(super) under_way: Vec<Kind>,
    pub(super) n_starved: usize,
    /// Completions that came with the last word, by kind.
    pub(super) ended: Vec<Kind>,
}

#[derive(Debug)]
pub(super) struct Rig {
    pub(super) world: Rc<World>,
    rings: [SimulatedRing; 2],
    pub(super) talks: Vec<Talk>,
    /// What an accepted connection sends.
    pub(super) greeting: Vec<u8>,
    /// Whether accepted connections stay open.
    pub(super) keeps_open: bool,
    pub(super) holds: bool,
    pub(super) log: Vec<String>,
}

/// The worlds of `n_seeds` seeds, each named before its rig is made.
pub(super) fn seeds(n_seeds: u64) -> impl Iterator<Item = u64> {
    let only = std::env::var("FOREBAY_SIM_SEED").ok().map(|seed| seed.parse().unwrap());
    let seeds = only.map_or(0..n_seeds, |seed| seed..seed + 1);
    seeds.inspect(|seed| println!("seed {seed} (again: FOREBAY_SIM_SEED={seed})"))
}

fn key_of(talk: usize) -> u64 {
    (7 << 32) | talk as u64
}

fn code(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap()
}

impl Rig {
    pub(super) fn new(seed: u64, chance: NetChance) -> Self {
        let world = Rc::new(World::for_tests(seed, 2, chance));
        let limits = Limits { net_buffers: 4, net_buffer_bytes: 512, ..Limits::default() };
        let ring = |shard| SimulatedRing::new(&world, ShardId::new(shard), &limits);
        Self {
            rings: [ring(SERVER), ring(CLIENT)],
            world,
            talks: Vec::new(),
            greeting: Vec::new(),
            keeps_open: false,
            holds: false,
            log: Vec::new(),
        }
    }

    pub(super) fn draw(&self, below: usize) -> usize {
        self.world.rng.borrow_mut().usize(0..below)
    }

    pub(super) fn bytes(&self, n_bytes: usize) -> Vec<u8> {
        (0..n_bytes).map(|_| self.world.rng.borrow_mut().u8(..)).collect()
    }

    pub(super) fn ring(&mut self, shard: usize) -> &mut SimulatedRing {
        &mut self.rings[shard]
    }

    /// Listens and accepts; gives the talk of the listener, and where.
    pub(super) fn listen(&mut self, address: &str, backlog: u32) -> (usize, Address) {
        let spec = ListenSpec { address: address.parse().unwrap(), backlog };
        let socket = self.rings[SERVER].listen(&spec).unwrap();
        let talk = self.add(SERVER, socket);
        (talk, self.address_of(talk, End::Here))
    }

    pub(super) fn connect(&mut self, to: &Address, unsent: Vec<u8>) -> usize {
        let socket = self.rings[CLIENT].open(to, None).unwrap();
        let talk = self.add(CLIENT, socket);
        self.talks[talk].unsent = unsent;
        self.push(talk, Op::Connect(to.clone()));
        talk
    }

    pub(super) fn address_of(&self, talk: usize, end: End) -> Address {
        let talk = &self.talks[talk];
        self.rings[talk.shard].name(talk.socket.as_ref().unwrap(), end).unwrap()
    }

    fn add(&mut self, shard: usize, socket: Socket) -> usize {
        self.talks.push(Talk { shard, socket: Some(socket), ..Talk::default() });
        self.talks.len() - 1
    }

    pub(super) fn push(&mut self, talk: usize, op: Op) {
        let kind = op.kind();
        let token = Token::new(key_of(talk), kind);
        let talk = &mut self.talks[talk];
        let socket = talk.socket.as_ref().expect("not closed");
        self.rings[talk.shard].push(token, socket, op);
        talk.under_way.push(kind);
    }

    pub(super) fn shutdown(&mut self, talk: usize, side: Side) {
        let talk = &self.talks[talk];
        match self.rings[talk.shard].shutdown(talk.socket.as_ref().unwrap(), side) {
            Ok(()) => {}
            // A connection that is broken off has no ends.
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::NotConnected),
        }
    }

    pub(super) fn close(&mut self, talk: usize) {
        let talk = &mut self.talks[talk];
        self.rings[talk.shard].close(talk.socket.take().unwrap(), How::Closed);
    }

    /// Takes back what is under way, comes to rest and closes.
    pub(super) fn cancel_and_close(&mut self, talk: usize) {
        self.talks[talk].quiet = true;
        for kind in self.talks[talk].under_way.clone() {
            self.push(talk, Op::Cancel(kind));
            self.rest();
        }
        self.close(talk);
    }

    /// One turn of a drawn shard; time moves on when neither has anything to do.
    pub(super) fn turn(&mut self) -> bool {
        let shard = self.draw(2);
        let idle = (0..2).all(|shard| {
            let ring = &mut self.rings[shard];
            !ring.wants_enter() && !ring.arm()
        });
        if idle && !self.let_time_pass() {
            return false;
        }
        let mut completions = Vec::new();
        self.rings[shard].recycle();
        self.rings[shard].reap(1 + shard * 3, &mut completions);
        for completion in completions {
            self.take_in(shard, completion);
        }
        if self.rings[shard].wants_enter() {
            self.rings[shard].enter();
        }
        true
    }

    fn let_time_pass(&mut self) -> bool {
        let network = self.world.network.borrow();
        let next = (0..2).filter_map(|shard| network.next_due(ShardId::new(shard))).min();
        if let Some(due) = next {
            assert!(due > self.world.clock.get(), "what is due was not seen");
            self.world.clock.set(due);
        }
        next.is_some()
    }

    /// Turns until nothing is due and nothing ever will be.
    pub(super) fn rest(&mut self) {
        for _ in 0..1_000_000 {
            if !self.turn() {
                return;
            }
        }
        panic!("it never comes to rest");
    }

    fn take_in(&mut self, shard: usize, completion: Completion) {
        let Completion { token, more, outcome } = completion;
        let talk = usize::try_from(token.key() & 0xffff).unwrap();
        assert_eq!(self.talks[talk].shard, shard);
        let now = self.world.clock.get().as_nanos();
        self.log.push(format!("{now} {talk} {:?} {more}", token.kind()));
        if !more {
            self.talks[talk].under_way.retain(|kind| *kind != token.kind());
            self.talks[talk].ended.push(token.kind());
        }
        match outcome {
            Outcome::Accepted(result) => self.take_accepted(talk, more, result),
            Outcome::Connected(result) => {
                self.talks[talk].connected = Some(result.as_ref().map_err(code).copied());
                if result.is_ok() {
                    self.begin(talk);
                }
            }
            Outcome::Received(result) => self.take_received(talk, more, result),
            Outcome::Sent(_, Ok(n_bytes)) => {
                self.talks[talk].unsent.drain(..n_bytes);
                self.talks[talk].n_sent += n_bytes;
                self.send(talk);
            }
            Outcome::Sent(_, Err(error)) => self.talks[talk].send_error = Some(code(&error)),
            Outcome::Cancelled => {}
        }
    }

    fn begin(&mut self, talk: usize) {
        self.receive(talk);
        self.send(talk);
    }

    pub(super) fn receive(&mut self, talk: usize) {
        if !self.talks[talk].holds && !self.talks[talk].quiet {
            self.push(talk, Op::Receive);
        }
    }

    pub(super) fn send(&mut self, talk: usize) {
        if self.talks[talk].quiet {
            return;
        }
        let unsent = self.talks[talk].unsent.clone();
        if !unsent.is_empty() {
            self.push(talk, Op::Send(unsent.into()));
        } else if !self.talks[talk].keeps_open {
            self.shutdown(talk, Side::Write);
        }
    }

    fn take_accepted(&mut self, listener: usize, more: bool, result: io::Result<Socket>) {
        match result {
            Ok(socket) => {
                let talk = self.add(SERVER, socket);
                self.talks[talk].unsent = self.greeting.clone();
                self.talks[talk].keeps_open = self.keeps_open;
                self.talks[talk].holds = self.holds;
                self.begin(talk);
                if !more && !self.talks[listener].quiet {
                    self.push(listener, Op::Accept);
                }
            }
            Err(error) => self.talks[listener].accept_error = Some(code(&error)),
        }
    }

    fn take_received(&mut self, talk: usize, more: bool, result: io::Result<Chunk>) {
        const NO_BUFFERS: i32 = 105;
        let state = &mut self.talks[talk];
        assert!(state.end.is_none(), "{state:?} goes on after its end");
        let goes_on = match result {
            Ok(chunk) if chunk.is_empty() => {
                state.end = Some(Ok(()));
                false
            }
            Ok(chunk) => {
                state.received.extend_from_slice(&chunk);
                true
            }
            Err(error) if code(&error) == NO_BUFFERS => {
                state.n_starved += 1;
                true
            }
            Err(error) => {
                state.end = Some(Err(code(&error)));
                false
            }
        };
        if goes_on && !more {
            self.receive(talk);
        }
    }
}
