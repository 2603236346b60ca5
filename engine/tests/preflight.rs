//! Goal: on a host that cannot run it, a start ends in one typed error and never in a panic.
//! Method: make this host such a host, in a child process, with the real seccomp filters, limits
//! and masks; then gather and judge as a start does.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod child;

use std::num::NonZeroUsize;
use std::time::Duration;

use child::{Ended, in_child};
use forebay::affinity::{CpuId, CpuList, current_thread_cpus, pin_current_thread};
use forebay::preflight::{BlockCause, HostError, Report, ShardCpus, Wanted, gather, judge};
use forebay::{Builder, Limits, RequestOptions, SocketBack, Sockets};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};

// The same on every architecture.
const IO_URING_SETUP: i64 = 425;
const IO_URING_ENTER: i64 = 426;
const IO_URING_REGISTER: i64 = 427;

/// The second argument of `io_uring_register` that asks for provided buffers (Linux 5.19).
const REGISTER_PBUF_RING: u64 = 22;

const EPERM: i32 = 1;
const EINVAL: i32 = 22;
const ENOSYS: i32 = 38;

fn one_shard() -> Wanted {
    Wanted::new(ShardCpus::Count(NonZeroUsize::MIN))
}

/// Makes a system call fail for the calling thread, as a container's profile does.
fn block(call: i64, errno: i32) {
    filter(call, vec![], errno);
}

/// Makes this kernel one without provided buffers, though not without io_uring.
fn hide_provided_buffers() {
    let asked =
        SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, REGISTER_PBUF_RING);
    filter(IO_URING_REGISTER, vec![SeccompRule::new(vec![asked.unwrap()]).unwrap()], EINVAL);
}

fn filter(call: i64, rules: Vec<SeccompRule>, errno: i32) {
    let filter = SeccompFilter::new(
        [(call, rules)].into(),
        SeccompAction::Allow,
        SeccompAction::Errno(errno.unsigned_abs()),
        std::env::consts::ARCH.try_into().unwrap(),
    );
    let program: BpfProgram = filter.unwrap().try_into().unwrap();
    apply_filter(&program).unwrap();
}

fn lower(resource: Resource, soft: u64) {
    let hard = getrlimit(resource).maximum;
    setrlimit(resource, Rlimit { current: Some(soft), maximum: hard }).unwrap();
}

fn start(wanted: &Wanted) -> Result<Report, HostError> {
    judge(&gather(), wanted)
}

fn said(result: &Result<Report, HostError>) -> String {
    format!("{result:?}")
}

fn start_without(call: i64, errno: i32) -> String {
    block(call, errno);
    said(&start(&one_shard()))
}

fn filtered(call: &'static str, errno: i32) -> Ended {
    refusal(HostError::IoUringBlocked { call, errno, cause: BlockCause::Seccomp })
}

fn refusal(error: HostError) -> Ended {
    Ended::Said(said(&Err(error)))
}

#[test]
fn this_host_can_run_a_shard() {
    let report = start(&one_shard()).unwrap();
    assert_eq!(report.shards.len(), 1);
    assert!(report.allowed.contains(report.shards[0]));
}

#[test]
fn a_filter_that_forbids_setup_is_named() {
    let ended = in_child(|| start_without(IO_URING_SETUP, EPERM));
    assert_eq!(ended, filtered("io_uring_setup", EPERM));
}

#[test]
fn a_filter_that_hides_setup_is_named() {
    let ended = in_child(|| start_without(IO_URING_SETUP, ENOSYS));
    assert_eq!(ended, filtered("io_uring_setup", ENOSYS));
}

#[test]
fn a_filter_that_forbids_register_is_named() {
    let ended = in_child(|| start_without(IO_URING_REGISTER, EPERM));
    assert_eq!(ended, filtered("io_uring_register", EPERM));
}

#[test]
fn a_filter_that_forbids_enter_is_named() {
    let ended = in_child(|| start_without(IO_URING_ENTER, EPERM));
    assert_eq!(ended, filtered("io_uring_enter", EPERM));
}

#[test]
fn memlock_below_the_floor_is_refused_whatever_the_privileges() {
    let ended = in_child(|| {
        lower(Resource::Memlock, 64 << 10);
        said(&start(&one_shard()))
    });
    let (have_bytes, need_bytes) = (64 << 10, 512 << 10);
    assert_eq!(ended, refusal(HostError::MemlockTooLow { have_bytes, need_bytes }));
}

#[test]
fn memlock_below_what_the_shards_lock_is_refused_to_the_unprivileged() {
    let ended = in_child(|| {
        let mut sets = capabilities(None).unwrap();
        sets.effective.remove(CapabilitySet::IPC_LOCK);
        sets.permitted.remove(CapabilitySet::IPC_LOCK);
        set_capabilities(None, sets).unwrap();
        lower(Resource::Memlock, 768 << 10);
        said(&start(&Wanted { memlock_per_shard_bytes: 1 << 20, ..one_shard() }))
    });
    let (have_bytes, need_bytes) = (768 << 10, 1 << 20);
    assert_eq!(ended, refusal(HostError::MemlockTooLow { have_bytes, need_bytes }));
}

#[test]
fn more_shards_than_allowed_cpus_are_refused() {
    let first = current_thread_cpus().unwrap().iter().next().unwrap();
    let ended = in_child(|| {
        pin_current_thread(first).unwrap();
        said(&start(&Wanted::new(ShardCpus::Count(NonZeroUsize::new(2).unwrap()))))
    });
    let allowed = CpuList::from_iter([first]);
    assert_eq!(ended, refusal(HostError::TooManyShards { wanted: 2, allowed }));
}

#[test]
fn a_cpu_that_is_not_there_is_refused() {
    let allowed = current_thread_cpus().unwrap();
    let cpu = CpuId(4096);
    let refused = start(&Wanted::new(ShardCpus::Listed(vec![cpu]))).unwrap_err();
    assert_eq!(refused, HostError::NoSuchCpu { cpu, allowed });
}

#[test]
fn too_few_descriptors_are_refused() {
    let ended = in_child(|| {
        lower(Resource::Nofile, 40);
        said(&start(&one_shard()))
    });
    let Ended::Said(said) = ended else { panic!("{ended:?}") };
    assert!(said.starts_with("Err(TooFewDescriptors { have: 40, need: "), "{said}");
}

#[test]
fn a_process_with_no_descriptor_left_is_told_so() {
    let ended = in_child(|| {
        lower(Resource::Nofile, 0);
        said(&start(&one_shard()))
    });
    let Ended::Said(said) = ended else { panic!("{ended:?}") };
    assert!(said.starts_with("Err(TooFewDescriptors { have: 0, need: "), "{said}");
}

#[test]
fn an_engine_whose_kernel_lacks_the_ring_of_sockets_takes_readiness_and_says_why() {
    // A thread started from here on has the filter as well.
    let serve = |sockets| {
        let mut builder = Builder::new();
        builder.shards(1).quiet().sockets(sockets);
        let engine = builder.start().map_err(|error| error.to_string())?;
        let four = engine.handle().submit(0, RequestOptions::default(), || async { 2 + 2 });
        assert_eq!(four.unwrap().wait().unwrap(), 4);
        let line =
            engine.describe().lines().find(|line| line.starts_with("sockets: ")).map(str::to_owned);
        let found = engine.sockets();
        engine.stop(Duration::from_secs(5));
        Ok::<_, String>((found, line.unwrap()))
    };
    let ended = in_child(|| {
        let asked = serve(Sockets::Readiness).unwrap();
        assert_eq!(asked, (SocketBack::Readiness, "sockets: readiness (as asked for)".to_owned()));
        hide_provided_buffers();
        let (found, line) = serve(Sockets::Auto).unwrap();
        assert_eq!(found, SocketBack::Readiness);
        let refused = serve(Sockets::Ring).unwrap_err();
        format!("{line}; {refused}")
    });
    let Ended::Said(said) = ended else { panic!("{ended:?}") };
    let missing =
        "no ring with deferred completions and provided buffers (Linux 6.1): Invalid argument";
    assert!(said.starts_with(&format!("sockets: readiness ({missing}")), "{said}");
    assert!(said.contains("`Sockets::Auto`"), "{said}");
}

#[test]
fn limits_that_nothing_can_run_with_are_refused_before_the_start() {
    let refused = |limits: Limits| {
        let mut builder = Builder::new();
        builder.quiet().limits(limits);
        builder.start().map(drop).unwrap_err().to_string()
    };
    let mut limits = Limits::default();
    limits.net_buffers = 100;
    assert!(refused(limits).starts_with("limits: net_buffers: 100 is no power of two"));
    let mut limits = Limits::default();
    limits.net_buffer_bytes = 0;
    assert!(refused(limits).starts_with("limits: net_buffer_bytes: 0 bytes"));
}
