//! A whole, valid dump made by hand, for tests to damage.

use std::collections::BTreeMap;

use serde_json::json;

use super::*;

/// Returns a dump with one open cell of the engine and one closed cell of a peer.
pub(crate) fn dump(n_repetitions: u32) -> Dump {
    let ours = repetitions(n_repetitions);
    let mut theirs = repetitions(n_repetitions);
    for repetition in &mut theirs {
        repetition.latency.service = repetition.latency.response.clone();
        repetition.latency.schedule_lag = Latency::absent("closed loop: there is no schedule");
        repetition.stages.clear();
        repetition.shards.clear();
    }
    Dump {
        schema: SCHEMA.to_owned(),
        tool: Tool { name: "bench-harness".to_owned(), version: "0.1.0".to_owned() },
        run: run(),
        workload: WorkloadRecord {
            name: "units".to_owned(),
            digest: "sha256:8c1f03aa".to_owned(),
            resolved: json!({"schema": "bench-harness.workload/1", "name": "units"}),
        },
        environment: environment(),
        measurement: Measurement {
            significant_digits: 3,
            verify: "every_reply".to_owned(),
            clock_read_ns: Measured::number(21.2),
            histogram_record_ns: Measured::number(3.0),
        },
        cells: vec![
            cell("steady/engine.shards=2", None, LoopKind::Open, ours),
            cell("steady@tokio/engine.shards=2", Some("tokio"), LoopKind::Closed, theirs),
        ],
        slo: vec![SloResult {
            cell: "steady/engine.shards=2".to_owned(),
            metric: "response_p99_ns".to_owned(),
            limit_kind: LimitKind::AtMost,
            limit: finite(2_000_000.0),
            pass: true,
            marginal: false,
            observed: Measured::number(412_000.0),
        }],
        warnings: Vec::new(),
    }
}

fn run() -> Run {
    Run {
        id: "20260101T100000Z-3f2c9ab1".to_owned(),
        started_at: "2026-01-01T10:00:00Z".to_owned(),
        finished_at: "2026-01-01T10:03:10Z".to_owned(),
        argv: vec!["bench-harness".to_owned(), "run".to_owned(), "units.json".to_owned()],
        label: None,
        status: RunStatus::Complete,
        quick: false,
        interleaved_with: None,
    }
}

/// Returns a cell whose summary fits its repetitions.
pub(crate) fn cell(
    id: &str,
    peer: Option<&str>,
    loop_kind: LoopKind,
    repetitions: Vec<Repetition>,
) -> Cell {
    let arrival = match loop_kind {
        LoopKind::Open => json!({"poisson": {"rate_per_s": 20000}}),
        LoopKind::Closed => json!({"closed": {"in_flight": 64, "think_time_ns": 0}}),
    };
    Cell {
        id: id.to_owned(),
        phase: "steady".to_owned(),
        peer: peer.map(str::to_owned),
        arrival,
        parameters: BTreeMap::from([("engine.shards".to_owned(), json!(2))]),
        loop_kind,
        valid: true,
        invalid_reasons: Vec::new(),
        summary: summarise(&repetitions),
        repetitions,
    }
}

/// Returns repetitions that differ a little, always in the same way.
pub(crate) fn repetitions(n_repetitions: u32) -> Vec<Repetition> {
    (0..n_repetitions).map(repetition).collect()
}

fn repetition(index: u32) -> Repetition {
    let wobble = u64::from(index * 7 % 5);
    let mut per_op = MeasuredMap::default();
    per_op.insert("allocs", PerOp { value: finite(2.0), kind: MetricKind::Exact }.into());
    per_op.insert("cpu_ns", PerOp { value: finite(2390.0), kind: MetricKind::Sampled }.into());
    per_op.insert("cycles", Measured::absent("no PMU in this guest"));
    Repetition {
        index,
        started_offset_ns: u64::from(index) * 5_200_000_000,
        measured_ns: 5_000_000_000,
        ops: Ops {
            offered: 100_020 + 5 * wobble,
            started: 100_011 + 5 * wobble,
            completed: 100_000 + 5 * wobble,
            failed: 1,
            timed_out: 2,
            shed: 3,
            degraded: 4,
            dropped: 9,
            in_flight_at_end: 5,
            verified: 100_000,
        },
        errors_by_kind: BTreeMap::new(),
        canary: Canary::from_timings(50_120_000, 50_330_000, Measured::number(0.1)),
        latency: LatencySet {
            response: latency(412_000 + wobble * 100),
            service: latency(380_000),
            schedule_lag: latency(41_000),
        },
        stages: BTreeMap::from([("flights".to_owned(), stage())]),
        per_op,
        shards: vec![shard(0, 50_120), shard(1, 49_880 + 5 * wobble)],
        memory: Memory { max_rss_bytes: 18_874_368.into() },
        sockets: Measured::absent("the service has no sockets"),
        generator_in_subject: true,
        extra: BTreeMap::from([(
            "settle_ns".to_owned(),
            ExtraMetric {
                unit: "ns".to_owned(),
                better: Better::Lower,
                value: Measured::number(7.0),
            },
        )]),
        invalid_reasons: Vec::new(),
        throughput_per_s: Measured::number(20_000.0 + to_f64(wobble)),
        goodput_per_s: Measured::number(19_990.0),
    }
}

fn latency(p99_ns: u64) -> Latency {
    Latency {
        count: 100_000,
        overflow_count: 0,
        min_ns: 1_200.into(),
        p50_ns: (p99_ns / 5).into(),
        p90_ns: (p99_ns / 2).into(),
        p99_ns: p99_ns.into(),
        p999_ns: (p99_ns * 3).into(),
        p9999_ns: (p99_ns * 4).into(),
        max_ns: (p99_ns * 5).into(),
        mean_ns: Measured::number(to_f64(p99_ns) / 4.0),
    }
}

fn stage() -> StageStats {
    StageStats {
        calls: 100_010,
        items: 99_010,
        batches: 9_901,
        sealed: Sealed { full: 900, idle: 9_000, lingered: 0, closing: 1 },
        deduplicated: 1_000,
        expired: 0,
        shed: 0,
        items_per_batch_mean: Measured::number(10.0),
        wait_p50_ns: 20_000.into(),
        wait_p99_ns: 90_000.into(),
        run_p50_ns: 60_000.into(),
        permits: 2.into(),
    }
}

fn shard(shard: u32, ops: u64) -> ShardStats {
    ShardStats {
        shard,
        ops,
        cpu: shard.into(),
        busy_percent: Measured::number(47.0),
        p99_ns: 401_000.into(),
        longest_stall_ns: 240_000.into(),
    }
}

fn environment() -> Environment {
    Environment {
        host_fingerprint: "sha256:77aa".to_owned(),
        cpu: Cpu {
            online: 2,
            allowed: 2,
            model: "Xeon".to_owned().into(),
            governor: Measured::absent("no cpufreq in this guest"),
            smt: false.into(),
        },
        system: System {
            kernel: "6.18.44".to_owned().into(),
            hypervisor: "kvm".to_owned().into(),
            clocksource: "tsc".to_owned().into(),
            memory_bytes: 25_769_803_776.into(),
        },
        cgroup: Cgroup {
            cpu_max_percent: Measured::absent("no quota"),
            memory_max_bytes: Measured::absent("no limit"),
        },
        limits: Limits { memlock_bytes: 8_388_608.into(), open_files: 1024.into() },
        io_uring: IoUring { disabled_sysctl: 0.into(), preflight: "usable".to_owned().into() },
        build: Build {
            profile: "release".to_owned(),
            target: "x86_64-unknown-linux-gnu".to_owned(),
            features: Vec::new(),
            git_commit: "3f2c9ab1".to_owned().into(),
            git_dirty: false.into(),
            rustc: "1.95.0".to_owned().into(),
        },
        preflight: Preflight {
            warnings: Vec::new(),
            load1: Measured::number(0.2),
            psi_cpu_some_avg10_percent: Measured::number(0.4),
            steal_percent: Measured::number(0.1),
        },
        idle_policy: "park".to_owned(),
    }
}

/// Wraps a number known to be finite.
pub(crate) fn finite(number: f64) -> Finite {
    Finite::new(number).expect("the test's number is finite")
}
