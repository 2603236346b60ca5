//! Limits of the control group, of both versions.
//!
//! The tightest of the group and of those around it counts. A controller stands either in its own
//! hierarchy (version 1) or in the unified one, and hosts mix the two.

use std::path::Path;

use super::HostFiles;
use crate::dump::{Cgroup, Finite, Measured};

/// Version 1 writes "no limit" as the largest multiple of a page.
const MEMORY_LIMIT_NONE: u64 = 1 << 62;

/// Reads the limits of this process's control groups.
pub(super) fn read(files: &HostFiles) -> Cgroup {
    let groups = match files.text("proc/self/cgroup") {
        Ok(groups) => groups,
        Err(reason) => {
            return Cgroup {
                cpu_max_percent: Measured::absent(reason.clone()),
                memory_max_bytes: Measured::Absent(reason),
            };
        }
    };
    let quota = match own_hierarchy(&groups, "cpu") {
        Some(group) => {
            let quotas = lines(files, "cpu", group, "cpu.cfs_quota_us");
            let periods = lines(files, "cpu", group, "cpu.cfs_period_us");
            let pairs =
                quotas.iter().zip(&periods).map(|(quota, period)| format!("{quota} {period}"));
            pairs.filter_map(|pair| quota_percent(&pair)).reduce(f64::min)
        }
        None => {
            let quotas = lines(files, "", unified(&groups), "cpu.max");
            quotas.iter().filter_map(|line| quota_percent(line)).reduce(f64::min)
        }
    };
    let memory = match own_hierarchy(&groups, "memory") {
        Some(group) => lines(files, "memory", group, "memory.limit_in_bytes"),
        None => lines(files, "", unified(&groups), "memory.max"),
    };
    let memory = memory.iter().filter_map(|line| line.parse().ok());
    Cgroup {
        cpu_max_percent: Measured::from_option(quota.and_then(Finite::new), "no quota is visible"),
        memory_max_bytes: Measured::from_option(
            memory.filter(|bytes| *bytes < MEMORY_LIMIT_NONE).min(),
            "no limit is visible",
        ),
    }
}

/// Returns the group of a controller that has a hierarchy of its own: a line such as `4:memory:/group`.
fn own_hierarchy<'text>(groups: &'text str, controller: &str) -> Option<&'text str> {
    groups.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, group) = rest.split_once(':')?;
        controllers.split(',').any(|name| name == controller).then_some(group)
    })
}

/// Returns the group of the unified hierarchy: the line `0::/group`.
fn unified(groups: &str) -> &str {
    groups.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/")
}

/// Reads one file of the group and of each group around it, where it can be read.
fn lines(files: &HostFiles, hierarchy: &str, group: &str, file: &str) -> Vec<String> {
    let base = Path::new("sys/fs/cgroup").join(hierarchy);
    Path::new(group.trim_start_matches('/'))
        .ancestors()
        .map(|group| base.join(group).join(file))
        .filter_map(|path| files.line(path.to_str()?).ok())
        .collect()
}

/// Reads a quota such as `150000 100000`; `max` and `-1` are none.
fn quota_percent(cpu_max: &str) -> Option<f64> {
    let (quota, period) = cpu_max.split_once(' ')?;
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
    (quota > 0.0 && period > 0.0).then(|| quota / period * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::fake::FakeHost;

    #[test]
    fn the_tightest_group_of_the_unified_hierarchy_counts() {
        let host = FakeHost::new(
            "cgroup-2",
            &[
                ("proc/self/cgroup", "0::/outer/inner\n"),
                ("sys/fs/cgroup/outer/cpu.max", "150000 100000\n"),
                ("sys/fs/cgroup/outer/inner/cpu.max", "max 100000\n"),
                ("sys/fs/cgroup/outer/memory.max", "max\n"),
                ("sys/fs/cgroup/outer/inner/memory.max", "1048576\n"),
            ],
        );
        let cgroup = read(&host.files());
        assert_eq!(cgroup.cpu_max_percent.get(), Some(150.0));
        assert_eq!(cgroup.memory_max_bytes, Measured::Value(1_048_576));
    }

    #[test]
    fn controllers_with_their_own_hierarchy_are_read_there() {
        let host = FakeHost::new(
            "cgroup-1",
            &[
                ("proc/self/cgroup", "4:memory:/job\n1:cpu,cpuacct:/job\n0::/\n"),
                ("sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "50000\n"),
                ("sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "100000\n"),
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
                ("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "2097152\n"),
            ],
        );
        let cgroup = read(&host.files());
        assert_eq!(cgroup.cpu_max_percent.get(), Some(50.0));
        assert_eq!(cgroup.memory_max_bytes, Measured::Value(2_097_152));
    }

    #[test]
    fn no_limit_is_said_to_be_none() {
        let host = FakeHost::new(
            "cgroup-none",
            &[
                ("proc/self/cgroup", "1:cpu:/\n0::/\n"),
                ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"),
                ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
            ],
        );
        let cgroup = read(&host.files());
        assert_eq!(cgroup.cpu_max_percent.reason(), Some("no quota is visible"));
        assert_eq!(cgroup.memory_max_bytes.reason(), Some("no limit is visible"));
    }
}
