//! What `judge` says of a host, by table: one fact is changed at a time on a host that can run.

use super::*;

/// Two cores of two threads each, all limits at the defaults of Debian 12.
fn good_host() -> HostFacts {
    let cpu = |id: usize| Cpu { id: CpuId(id), core: CpuId(id % 2) };
    HostFacts {
        kernel: "6.1.0-18-amd64".to_owned(),
        ring: RingFacts::Works { missing: vec![] },
        net_ring: Ok(()),
        io_uring_disabled: Some(0),
        seccomp_filtered: false,
        cpus: Ok((0..4).map(cpu).collect()),
        cpu_quota: None,
        memlock_bytes: Some(8 << 20),
        memlock_exempt: false,
        descriptors: Some(1024),
        descriptors_open: 3,
    }
}

fn count(n: usize) -> Wanted {
    Wanted::new(ShardCpus::Count(NonZeroUsize::new(n).unwrap()))
}

fn listed(ids: &[usize]) -> Wanted {
    Wanted::new(ShardCpus::Listed(ids.iter().copied().map(CpuId).collect()))
}

fn allowed() -> CpuList {
    (0..4).map(CpuId).collect()
}

/// Changes one fact of a good host and asks for two shards.
fn refused(change: impl FnOnce(&mut HostFacts)) -> HostError {
    let mut facts = good_host();
    change(&mut facts);
    judge(&facts, &count(2)).expect_err("this host cannot run")
}

#[test]
fn a_good_host_gets_its_shards_on_whole_cores_first() {
    let check = |wanted: Wanted, cpus: &[usize]| {
        let report = judge(&good_host(), &wanted).unwrap();
        assert_eq!(report.shards.iter().map(|cpu| cpu.0).collect::<Vec<_>>(), cpus);
        assert_eq!(report.allowed, allowed());
        assert!(report.warnings().is_empty());
    };
    check(count(1), &[0]);
    check(count(3), &[0, 1, 2]);
    check(Wanted::new(ShardCpus::All), &[0, 1, 2, 3]);
    check(listed(&[3, 1]), &[3, 1]);
}

#[test]
fn a_blocked_ring_names_who_blocks_it() {
    let check = |errno, io_uring_disabled, seccomp_filtered, cause| {
        let error = refused(|facts| {
            facts.ring = RingFacts::Failed { call: "io_uring_setup", errno };
            facts.io_uring_disabled = io_uring_disabled;
            facts.seccomp_filtered = seccomp_filtered;
        });
        assert_eq!(error, HostError::IoUringBlocked { call: "io_uring_setup", errno, cause });
    };
    check(errno::EPERM, Some(2), false, BlockCause::Sysctl { level: 2 });
    check(errno::EPERM, Some(1), true, BlockCause::Sysctl { level: 1 });
    check(errno::EPERM, Some(0), true, BlockCause::Seccomp);
    check(errno::EPERM, None, true, BlockCause::Seccomp);
    check(errno::ENOSYS, None, true, BlockCause::Seccomp);
    check(errno::ENOSYS, None, false, BlockCause::NotBuilt);
    check(errno::EPERM, Some(0), false, BlockCause::SecurityModule);
    check(errno::EACCES, Some(0), false, BlockCause::SecurityModule);
    check(22, Some(0), false, BlockCause::Unknown);
}

#[test]
fn an_old_kernel_is_named_as_such() {
    let old = |ring: RingFacts| {
        refused(|facts| {
            facts.kernel = "5.4.0-42-generic".to_owned();
            facts.ring = ring;
        })
    };
    let too_old = HostError::KernelTooOld { have: "5.4.0-42-generic".to_owned(), need: (5, 8) };
    assert_eq!(old(RingFacts::Works { missing: vec!["IORING_OP_SEND"] }), too_old);
    let errno = errno::ENOSYS;
    assert_eq!(old(RingFacts::Failed { call: "io_uring_setup", errno }), too_old);

    let missing = refused(|facts| {
        facts.ring = RingFacts::Works { missing: vec!["IORING_OP_SEND", "IORING_OP_RECV"] };
    });
    assert_eq!(missing, HostError::OperationMissing { op: "IORING_OP_SEND" });
}

#[test]
fn a_ring_that_lacks_room_names_the_limit() {
    let failed =
        |errno| refused(|facts| facts.ring = RingFacts::Failed { call: "io_uring_setup", errno });
    let (have_bytes, need_bytes) = (8 << 20, 512 << 10);
    assert_eq!(failed(errno::ENOMEM), HostError::MemlockTooLow { have_bytes, need_bytes });
    assert_eq!(failed(errno::EMFILE), HostError::TooFewDescriptors { have: 1024, need: 11 });
}

#[test]
fn shards_go_only_to_allowed_cpus_and_to_each_once() {
    let check = |wanted: Wanted, error: HostError| {
        assert_eq!(judge(&good_host(), &wanted), Err(error));
    };
    check(count(5), HostError::TooManyShards { wanted: 5, allowed: allowed() });
    check(listed(&[0, 4096]), HostError::NoSuchCpu { cpu: CpuId(4096), allowed: allowed() });
    check(listed(&[0, 4]), HostError::NoSuchCpu { cpu: CpuId(4), allowed: allowed() });
    check(listed(&[1, 2, 1]), HostError::CpuTwice { cpu: CpuId(1) });
    check(listed(&[]), HostError::NoShards);

    let what = "/sys/devices/system/cpu/online: gone".to_owned();
    let unreadable = refused(|facts| facts.cpus = Err(what.clone()));
    assert_eq!(unreadable, HostError::CpusUnreadable { what });
}

#[test]
fn memlock_is_needed_per_shard_unless_exempt_and_never_below_the_floor() {
    let check = |soft: Option<u64>, memlock_exempt, n_shards, need: Option<u64>| {
        let mut facts = good_host();
        facts.memlock_bytes = soft;
        facts.memlock_exempt = memlock_exempt;
        let error = judge(&facts, &count(n_shards)).err();
        let wanted = need.map(|need_bytes| HostError::MemlockTooLow {
            have_bytes: soft.expect("unlimited is never too low"),
            need_bytes,
        });
        assert_eq!(error, wanted, "soft {soft:?}, exempt {memlock_exempt}, {n_shards} shards");
    };
    check(None, false, 4, None);
    check(Some(1 << 20), false, 4, None);
    check(Some((1 << 20) - 1), false, 4, Some(1 << 20));
    check(Some((1 << 20) - 1), true, 4, None);
    check(Some(512 << 10), false, 1, None);
    check(Some((512 << 10) - 1), false, 1, Some(512 << 10));
    check(Some((512 << 10) - 1), true, 1, Some(512 << 10));
}

#[test]
fn descriptors_are_needed_for_what_is_open_what_shards_open_and_what_is_asked() {
    let check = |soft: Option<u64>, descriptors, need: Option<u64>| {
        let mut facts = good_host();
        facts.descriptors = soft;
        let wanted = Wanted { descriptors, ..count(2) };
        let error = judge(&facts, &wanted).err();
        let too_few =
            need.map(|need| HostError::TooFewDescriptors { have: soft.unwrap_or(u64::MAX), need });
        assert_eq!(error, too_few, "soft {soft:?}, {descriptors} asked for");
    };
    check(Some(119), 100, None);
    check(Some(118), 100, Some(119));
    check(None, u64::MAX, None);
    check(Some(1024), u64::MAX, Some(u64::MAX));
}

#[test]
fn a_quota_below_the_shards_is_a_warning_and_no_error() {
    let check = |quota_us, n_warnings| {
        let mut facts = good_host();
        facts.cpu_quota = Some(CpuQuota { quota_us, period_us: 100_000 });
        let report = judge(&facts, &count(2)).unwrap();
        assert_eq!(report.warnings().len(), n_warnings, "{quota_us}");
        assert_eq!(report.to_string().contains("cpu.max"), n_warnings > 0);
    };
    check(200_000, 0);
    check(199_999, 1);
}

#[test]
fn every_error_is_one_lowercase_line_with_a_remedy() {
    let blocked = |cause| HostError::IoUringBlocked { call: "io_uring_setup", errno: 1, cause };
    let errors = [
        (blocked(BlockCause::Sysctl { level: 1 }), "kernel.io_uring_group"),
        (blocked(BlockCause::Sysctl { level: 2 }), "sysctl -w kernel.io_uring_disabled=0"),
        (blocked(BlockCause::Seccomp), "--security-opt seccomp="),
        (blocked(BlockCause::SecurityModule), "policy"),
        (blocked(BlockCause::NotBuilt), "CONFIG_IO_URING=y"),
        (blocked(BlockCause::Unknown), "man 2 io_uring_setup"),
        (HostError::KernelTooOld { have: "5.4".to_owned(), need: (5, 8) }, "run Linux 5.8"),
        (HostError::OperationMissing { op: "IORING_OP_SEND" }, "run a kernel"),
        (HostError::MemlockTooLow { have_bytes: 1, need_bytes: 524_289 }, "ulimit -l 513`"),
        (HostError::TooManyShards { wanted: 9, allowed: allowed() }, "at most 4"),
        (HostError::NoSuchCpu { cpu: CpuId(9), allowed: allowed() }, "name some of 0-3"),
        (HostError::CpuTwice { cpu: CpuId(1) }, "each cpu once"),
        (HostError::NoShards, "at least one cpu"),
        (HostError::CpusUnreadable { what: "x: gone".to_owned() }, "mount /sys"),
        (HostError::TooFewDescriptors { have: 1, need: 70 }, "ulimit -n 70`"),
        (HostError::NoSocketRing { missing: "x: gone".to_owned() }, "run Linux 6.1"),
    ];
    for (error, remedy) in errors {
        let line = error.to_string();
        assert!(line.contains(remedy), "{line} lacks {remedy}");
        assert!(!line.contains('\n') && !line.ends_with('.'), "{line}");
        assert!(line.starts_with(|c: char| !c.is_uppercase()), "{line}");
    }
}

#[test]
fn a_release_gives_its_first_two_numbers() {
    let check = |release, wanted| assert_eq!(kernel_version(release), wanted, "{release:?}");
    check("6.1.0-18-amd64", Some((6, 1)));
    check("5.15-rc1", Some((5, 15)));
    check("6", None);
    check("linux", None);
}

#[test]
fn the_report_prints_one_fact_a_line() {
    let report = judge(&good_host(), &count(2)).unwrap();
    let wanted = "shards: 2 on cpus 0 1 of 0-3 allowed\nkernel: 6.1.0-18-amd64\n\
                  memlock_bytes: 8388608\ndescriptors: 1024\nsockets: ring";
    assert_eq!(report.to_string(), wanted);
}

#[test]
fn sockets_stand_on_what_the_kernel_has_and_the_report_says_why() {
    let check = |sockets, net_ring: Result<(), &str>, wanted: Result<(SocketBack, &str), &str>| {
        let mut facts = good_host();
        facts.net_ring = net_ring.map_err(str::to_owned);
        let found = judge(&facts, &Wanted { sockets, ..count(2) });
        match wanted {
            Ok((back, line)) => {
                let report = found.unwrap();
                assert_eq!(report.sockets, back, "{sockets:?}");
                assert_eq!(report.to_string().lines().last(), Some(line), "{sockets:?}");
            }
            Err(missing) => {
                let missing = missing.to_owned();
                assert_eq!(found, Err(HostError::NoSocketRing { missing }), "{sockets:?}");
            }
        }
    };
    let none = Err("multishot receive");
    check(Sockets::Auto, Ok(()), Ok((SocketBack::Ring, "sockets: ring")));
    check(Sockets::Ring, Ok(()), Ok((SocketBack::Ring, "sockets: ring")));
    let asked = "sockets: readiness (as asked for)";
    check(Sockets::Readiness, Ok(()), Ok((SocketBack::Readiness, asked)));
    let lacking = "sockets: readiness (no multishot receive)";
    check(Sockets::Auto, none, Ok((SocketBack::Readiness, lacking)));
    check(Sockets::Readiness, none, Ok((SocketBack::Readiness, lacking)));
    check(Sockets::Ring, none, Err("multishot receive"));
}

#[test]
fn without_io_uring_no_back_of_sockets_helps() {
    for sockets in [Sockets::Auto, Sockets::Readiness] {
        let mut facts = good_host();
        facts.ring = RingFacts::Failed { call: "io_uring_setup", errno: errno::EPERM };
        facts.net_ring = Err("a ring".to_owned());
        let refused = judge(&facts, &Wanted { sockets, ..count(2) }).unwrap_err();
        assert!(matches!(refused, HostError::IoUringBlocked { .. }), "{refused}");
    }
}
