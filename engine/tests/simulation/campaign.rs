//! A campaign: what is asked, what goes wrong, and what must hold.

use std::time::Duration;

use forebay::sim::{Plant, SimOptions, Simulation};
use forebay::{
    BatchRule, BreakerOptions, Builder, CallError, Conditioning, Counts, Dedup, Limits, Phase,
    Placement, Preset, Priority, RateLimit, Reply, RequestOptions, Retry, ScalingRule, ShardId,
    ShedReason, SmallestBatch, StageOptions, StageRef, UnitError, on_shard, scope, sleep,
    yield_now,
};

use crate::stages::{Read, Unruly, Wish, Write, database};

/// What a seed stands for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Campaign {
    pub(crate) seed: u64,
    pub(crate) n_shards: usize,
    pub(crate) n_requests: u64,
    pub(crate) unruly: bool,
    pub(crate) freezes: bool,
    pub(crate) kills: bool,
    pub(crate) stops: bool,
    /// Whether the stages have every controller there is.
    pub(crate) controlled: bool,
    pub(crate) credits: usize,
    pub(crate) lane_parcels: usize,
    pub(crate) plant: Option<Plant>,
}

impl Campaign {
    pub(crate) fn orderly(seed: u64) -> Self {
        Self {
            seed,
            n_shards: 2 + usize::try_from(seed % 3).expect("small"),
            n_requests: 120,
            unruly: false,
            freezes: false,
            kills: false,
            stops: false,
            controlled: false,
            credits: 64,
            lane_parcels: 8,
            plant: None,
        }
    }

    pub(crate) fn unruly(seed: u64) -> Self {
        Self { unruly: true, ..Self::orderly(seed) }
    }

    pub(crate) fn frozen(seed: u64) -> Self {
        Self { freezes: true, ..Self::unruly(seed) }
    }

    pub(crate) fn deadly(seed: u64) -> Self {
        Self { kills: true, n_shards: 3, ..Self::unruly(seed) }
    }

    pub(crate) fn saturated(seed: u64) -> Self {
        Self { credits: 2, lane_parcels: 1, n_requests: 300, ..Self::orderly(seed) }
    }

    pub(crate) fn controlled(seed: u64) -> Self {
        Self { controlled: true, n_requests: 200, ..Self::unruly(seed) }
    }

    pub(crate) fn stopped(seed: u64) -> Self {
        Self { stops: true, ..Self::unruly(seed) }
    }
}

/// The stages under test.
#[derive(Clone, Copy)]
struct Stages {
    read: StageRef<Read>,
    write: StageRef<Write>,
    gathered: StageRef<Unruly>,
    local: StageRef<Unruly>,
}

fn policy(placement: Placement, dedup: Dedup) -> StageOptions {
    let mut options = StageOptions::default();
    options.placement = placement;
    options.dedup = dedup;
    options.items_max = 7;
    options.permits = 3;
    options.queue_max = 40;
    options.run_max = Duration::from_millis(40);
    options.call_max = Duration::from_millis(2_500);
    options
}

/// The same with every controller, each tight enough to act on a few hundred requests. What refuses
/// first hides the others, so a seed leaves some of these out.
fn controlled(mut options: StageOptions, preset: Preset, seed: u64) -> StageOptions {
    let us = Duration::from_micros;
    let mut conditioning = Conditioning::default();
    (conditioning.preset, conditioning.target) = (preset, us(800));
    conditioning.interval = us(400);
    options.conditioning = (!seed.is_multiple_of(3)).then_some(conditioning);
    let mut rate = RateLimit::per_s(4_000);
    (rate.counts, rate.lease) = (Counts::Items, us(500));
    options.rate = Some(rate);
    options.in_flight_max = if seed.is_multiple_of(2) { 12 } else { usize::MAX };
    options.admitted_per_s = seed.is_multiple_of(5).then_some(200);
    options.queue_max = 8;
    let mut retry = Retry::default();
    (retry.attempts_max, retry.backoff, retry.budget_percent) = (2, us(200), 100);
    options.retry = Some(retry);
    let mut breaker = BreakerOptions::default();
    (breaker.calls_min, breaker.window, breaker.open_for) = (6, us(20_000), us(3_000));
    breaker.failures_percent = 70;
    options.breaker = Some(breaker);
    options.permits_rule = ScalingRule::queue_threshold(4);
    options.batch = BatchRule::Smallest(SmallestBatch::default());
    options
}

/// A preset for each seed.
fn preset(seed: u64) -> Preset {
    let presets = [Preset::InFlight, Preset::Usits03, Preset::Direct, Preset::Pid, Preset::Codel];
    presets[usize::try_from(seed).expect("small") % presets.len()]
}

fn declare(campaign: &Campaign) -> (Builder, Stages) {
    let mut builder = Builder::new();
    let mut limits = Limits::default();
    limits.credits = campaign.credits;
    limits.lane_parcels = campaign.lane_parcels;
    limits.grace = Duration::from_millis(50);
    builder.limits(limits);
    // The reads rank after the writes: a batch function of the writes touches them.
    let gather = Placement::Gather(ShardId::new(0));
    let read = builder
        .shared_stage("read", policy(Placement::Owner, Dedup::InFlight), |_| async { Ok(Read) });
    let write =
        builder.shared_stage("write", policy(Placement::Owner, Dedup::Off), move |_| async move {
            Ok(Write { reads: read })
        });
    let mut gathering = policy(gather, Dedup::Queued);
    let mut here = policy(Placement::Local, Dedup::Queued);
    if campaign.controlled {
        // Only this preset can tell other shards how much it takes.
        gathering = controlled(gathering, Preset::InFlight, campaign.seed);
        // What counts the calls of one shard's queue is no bound on those of others.
        gathering.admitted_per_s = None;
        here = controlled(here, preset(campaign.seed), campaign.seed);
        // What is tried again may be joined meanwhile.
        (gathering.dedup, here.dedup) = (Dedup::InFlight, Dedup::InFlight);
    }
    let gathered = builder.shared_stage("gathered", gathering, |_| async { Ok(Unruly) });
    let local = builder.stage("local", here, |_| async { Ok(Unruly) });
    (builder, Stages { read, write, gathered, local })
}

/// What a campaign came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ran {
    /// Of its turns.
    digest: u64,
    pub(crate) shed_by: [u64; ShedReason::NAMES.len()],
    pub(crate) degraded: u64,
    pub(crate) retries: u64,
}

/// Runs a campaign; gives what it came to, or what did not hold.
pub(crate) fn run(campaign: &Campaign) -> Result<Ran, String> {
    silence_wished_panics();
    database().borrow_mut().clear();
    let (builder, stages) = declare(campaign);
    let mut options = SimOptions::new(campaign.seed, campaign.n_shards);
    options.plant = campaign.plant;
    let mut sim = builder.simulate(options).map_err(|error| error.to_string())?;
    let mut replies = Vec::new();
    for nonce in 0..campaign.n_requests {
        for _ in 0..sim.draw(12) {
            advance(&mut sim)?;
        }
        inflict(&mut sim, campaign, nonce);
        let shard = usize::try_from(sim.draw(campaign.n_shards as u64)).expect("small");
        let plan = Plan::draw(&sim, campaign, nonce);
        if let Ok(reply) = submit(&sim, shard, stages, plan) {
            replies.push((nonce, reply));
        }
    }
    heal(&mut sim, campaign)?;
    let ran = Ran { digest: sim.digest(), ..check_books(&sim, campaign)? };
    collect(&sim, campaign, &replies)?;
    Ok(ran)
}

fn advance(sim: &mut Simulation) -> Result<bool, String> {
    let more = sim.step();
    sim.violation().map_or(Ok(more), Err)
}

fn inflict(sim: &mut Simulation, campaign: &Campaign, nonce: u64) {
    if campaign.freezes && sim.draw(10) == 0 {
        let shard = usize::try_from(sim.draw(campaign.n_shards as u64)).expect("small");
        let time = Duration::from_micros(sim.draw(60_000));
        sim.freeze(shard, time);
    }
    let middle = campaign.n_requests / 2;
    if campaign.kills && nonce == middle {
        sim.kill(campaign.n_shards - 1);
    }
    if campaign.stops && nonce == middle {
        sim.enter_phase(Phase::Draining);
    }
    if campaign.stops && nonce == middle + 10 {
        sim.enter_phase(Phase::Cancelled);
    }
}

/// All faults end; then everything must settle, and the shards come to rest.
fn heal(sim: &mut Simulation, campaign: &Campaign) -> Result<(), String> {
    sim.thaw();
    let mut steps = 0_u64;
    while advance(sim)? {
        steps += 1;
        if steps > 2_000_000 {
            return Err(format!("no rest after {steps} steps: {:?}", sim.unsettled()));
        }
    }
    if let Some(unsettled) = sim.unsettled() {
        return Err(format!("unsettled at rest: {unsettled}"));
    }
    if campaign.stops {
        sim.enter_phase(Phase::Ended);
        while advance(sim)? {}
        for shard in 0..campaign.n_shards {
            if sim.phase(shard) != Phase::Ended {
                return Err(format!("shard {shard} stands at {:?}", sim.phase(shard)));
            }
        }
    }
    Ok(())
}

/// What the books of the stages say once all is at rest.
fn check_books(sim: &Simulation, campaign: &Campaign) -> Result<Ran, String> {
    let mut ran = Ran::default();
    for shard in 0..campaign.n_shards {
        for stage in sim.snapshot(shard).stages {
            if stage.settled_twice > 0 {
                // A batch that is tried again must not hold what has been settled.
                return Err(format!("{}: {} settled twice", stage.name, stage.settled_twice));
            }
            if stage.shed != stage.shed_by.iter().sum::<u64>() {
                return Err(format!("{}: {} shed, {:?}", stage.name, stage.shed, stage.shed_by));
            }
            ran.degraded += stage.degraded;
            ran.retries += stage.retries;
            for (sum, n_shed) in ran.shed_by.iter_mut().zip(stage.shed_by) {
                *sum += n_shed;
            }
        }
    }
    Ok(ran)
}

type Outcome = Result<(), String>;

fn collect(
    sim: &Simulation,
    campaign: &Campaign,
    replies: &[(u64, Reply<Outcome>)],
) -> Result<(), String> {
    for (nonce, reply) in replies {
        match reply.try_take() {
            None => return Err(format!("request {nonce} has no reply at {:?}", sim.now())),
            Some(Ok(Err(wrong))) => return Err(format!("request {nonce}: {wrong}")),
            Some(Ok(Ok(()))) => {}
            Some(Err(_)) if campaign.unruly => {}
            Some(Err(error)) => return Err(format!("request {nonce}: {error}")),
        }
    }
    Ok(())
}

/// What one request does, drawn before it starts.
#[derive(Clone, Copy, Debug)]
struct Plan {
    nonce: u64,
    key: u64,
    kind: u64,
    within: Option<Duration>,
    other: ShardId,
    wish: Wish,
    class: u8,
    priority: Option<Priority>,
}

impl Plan {
    fn draw(sim: &Simulation, campaign: &Campaign, nonce: u64) -> Self {
        let n = sim.draw(6);
        let tame = Wish::Answer(n);
        let wish = match sim.draw(16) {
            0 => Wish::Fail(n),
            1 => Wish::Forget(n),
            2 => Wish::FailBatch,
            3 => Wish::Panic,
            4 => Wish::Never,
            _ => tame,
        };
        let other = usize::try_from(sim.draw(campaign.n_shards as u64)).expect("small");
        let short = campaign.unruly && sim.draw(4) == 0;
        Self {
            nonce,
            key: sim.draw(5),
            kind: sim.draw(if campaign.unruly { 9 } else { 5 }),
            within: short.then(|| Duration::from_micros(sim.draw(3_000))),
            other: ShardId::new(other),
            wish: if campaign.unruly { wish } else { tame },
            class: u8::try_from(sim.draw(3)).expect("small"),
            priority: Priority::new(u8::try_from(sim.draw(12)).expect("small")),
        }
    }
}

fn submit(
    sim: &Simulation,
    shard: usize,
    stages: Stages,
    plan: Plan,
) -> Result<Reply<Outcome>, forebay::SubmitError> {
    let mut options = plan.within.map_or(RequestOptions::default(), RequestOptions::within);
    options.priority = plan.priority;
    sim.handle().submit(shard, options, move || request(stages, plan))
}

/// One request. An error is something that must never happen; what may happen is swallowed.
async fn request(stages: Stages, plan: Plan) -> Outcome {
    match plan.kind {
        0 | 1 => write_then_read(stages, plan).await,
        2 => answer(stages.gathered.call((plan.class, plan.wish)).await, plan.wish),
        3 => answer(stages.local.call((plan.class, plan.wish)).await, plan.wish),
        4 => elsewhere(stages, plan).await,
        5 => {
            // Cancelled at some moment of its life.
            let call = stages.gathered.call((plan.class, plan.wish));
            futures_lite::future::or(async { drop(call.await) }, nap(plan.nonce)).await;
            Ok(())
        }
        6 => units(stages, plan).await,
        7 => panic!("as wished"),
        _ => answer(stages.local.call((plan.class, plan.wish)).fresh().await, plan.wish),
    }
}

async fn nap(nonce: u64) {
    for _ in 0..nonce % 3 {
        yield_now().await;
    }
    sleep(Duration::from_micros(nonce * 7 % 900)).await;
}

/// After one's own write a read never gives an older version.
async fn write_then_read(stages: Stages, plan: Plan) -> Outcome {
    let before = stages.read.call(plan.key).await;
    let Ok(written) = stages.write.call((plan.key, plan.nonce)).await else { return Ok(()) };
    let Ok(read) = stages.read.call(plan.key).await else { return Ok(()) };
    if read < written || before.is_ok_and(|before| before > read) {
        return Err(format!("key {}: wrote version {written}, then read {read}", plan.key));
    }
    Ok(())
}

fn answer<E>(result: Result<u64, CallError<E>>, wish: Wish) -> Outcome {
    match (result, wish) {
        (Ok(got), Wish::Answer(asked)) if got == asked => Ok(()),
        (Ok(got), _) => Err(format!("wished {wish:?}, got {got}")),
        (Err(_), _) => Ok(()),
    }
}

async fn elsewhere(stages: Stages, plan: Plan) -> Outcome {
    let run = on_shard(plan.other, move || write_then_read(stages, plan));
    run.await.unwrap_or(Ok(()))
}

/// A small graph of units, one of them awaited by two others; some close a circle.
async fn units(stages: Stages, plan: Plan) -> Outcome {
    let scope = scope();
    let base = scope.unit("base", async move {
        stages.local.call((plan.class, plan.wish)).await.map_err(|_| ())
    });
    let left = scope.unit(("side", 1), {
        let base = base.clone();
        async move { base.await.map_err(|_| ()) }
    });
    let right = scope.unit(("side", 2), {
        let left = left.clone();
        async move {
            base.await.map_err(|_| ())?;
            left.await.map_err(|_| ())
        }
    });
    if plan.nonce.is_multiple_of(2) {
        let circle = scope.unit("circle", async move {
            let own: forebay::Unit<u64, ()> =
                forebay::scope().unit("circle", async { unreachable!("there is one already") });
            match own.await {
                Err(UnitError::Cycle(path)) => Ok(path.len() as u64),
                _ => Err(()),
            }
        });
        return match circle.await {
            Ok(2) | Err(UnitError::Cancelled) => Ok(()),
            other => Err(format!("a circle of one gave {other:?}")),
        };
    }
    drop(right.await);
    Ok(())
}

/// Panics that the campaign wishes for say nothing; all others do.
fn silence_wished_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if info.payload().downcast_ref::<&str>() != Some(&"as wished") {
                loud(info);
            }
        }));
    });
}
