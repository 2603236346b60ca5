//! Readers of `/proc` and `/sys`: each gives a value, or the reason why there is none.

use std::path::PathBuf;
use std::{fs, io};

use super::cpu_time::CpuTimes;
use crate::dump::{Finite, Measured};

/// The root under which `proc` and `sys` stand; a test puts its own files there.
#[derive(Debug, Clone)]
pub struct HostFiles {
    root: PathBuf,
}

impl HostFiles {
    /// Returns the files of this host.
    pub fn real() -> Self {
        Self::at("/")
    }

    /// Returns the files under another root.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Reads the CPU times of the host, or says why it cannot.
    ///
    /// # Errors
    /// When `/proc/stat` is missing or has another shape.
    pub fn cpu_times(&self) -> Result<CpuTimes, String> {
        let stat = self.text("proc/stat")?;
        CpuTimes::parse(&stat).ok_or_else(|| "proc/stat has another shape".to_owned())
    }

    pub(super) fn text(&self, path: &str) -> Result<String, String> {
        fs::read_to_string(self.root.join(path)).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => format!("no {path}"),
            kind => format!("{path}: {kind}"),
        })
    }

    pub(super) fn line(&self, path: &str) -> Result<String, String> {
        self.text(path).map(|text| text.trim().to_owned())
    }

    pub(super) fn measured_line(&self, path: &str) -> Measured<String> {
        self.line(path).map_or_else(Measured::Absent, Measured::Value)
    }

    pub(super) fn number(&self, path: &str) -> Measured<u64> {
        match self.line(path) {
            Ok(line) => Measured::from_option(line.parse().ok(), format!("{path} is `{line}`")),
            Err(reason) => Measured::Absent(reason),
        }
    }

    /// Counts a list of CPUs such as `0-3,8`.
    pub(super) fn cpu_list(&self, path: &str) -> Option<u32> {
        count_cpus(&self.line(path).ok()?)
    }

    /// Counts the CPUs that this process may use; at least the one it runs on.
    pub(super) fn cpus_allowed(&self) -> u32 {
        let status = self.text("proc/self/status").unwrap_or_default();
        field(&status, "Cpus_allowed_list").and_then(count_cpus).unwrap_or(1)
    }

    pub(super) fn cpu_model(&self) -> Measured<String> {
        match self.text("proc/cpuinfo") {
            Ok(info) => {
                let model = field(&info, "model name").map(str::to_owned);
                Measured::from_option(model, "proc/cpuinfo names no model")
            }
            Err(reason) => Measured::Absent(reason),
        }
    }

    /// Names the hypervisor by the maker of the virtual board, when the CPU says that there is one.
    pub(super) fn hypervisor(&self) -> Measured<String> {
        let info = match self.text("proc/cpuinfo") {
            Ok(info) => info,
            Err(reason) => return Measured::Absent(reason),
        };
        let flags = field(&info, "flags").unwrap_or_default();
        if !flags.split_whitespace().any(|flag| flag == "hypervisor") {
            return Measured::absent("the CPU names no hypervisor");
        }
        let maker = self.line("sys/class/dmi/id/sys_vendor").unwrap_or_default();
        Measured::Value(if maker.is_empty() { "unnamed".to_owned() } else { maker })
    }

    pub(super) fn memory_bytes(&self) -> Measured<u64> {
        match self.text("proc/meminfo") {
            Ok(info) => {
                let kibibytes = field(&info, "MemTotal")
                    .and_then(|value| value.strip_suffix(" kB"))
                    .and_then(|value| value.trim().parse::<u64>().ok());
                Measured::from_option(
                    kibibytes.and_then(|kibibytes| kibibytes.checked_mul(1024)),
                    "proc/meminfo has no MemTotal",
                )
            }
            Err(reason) => Measured::Absent(reason),
        }
    }

    /// Returns the soft limit of this name.
    pub(super) fn limit(&self, name: &str) -> Measured<u64> {
        let limits = match self.text("proc/self/limits") {
            Ok(limits) => limits,
            Err(reason) => return Measured::Absent(reason),
        };
        let line = limits.lines().find_map(|line| line.strip_prefix(name));
        match line.and_then(|line| line.split_whitespace().next()) {
            Some("unlimited") => Measured::absent("unlimited"),
            Some(soft) => Measured::from_option(soft.parse().ok(), format!("{name} is `{soft}`")),
            None => Measured::Absent(format!("proc/self/limits has no {name}")),
        }
    }

    pub(super) fn load1(&self) -> Measured<Finite> {
        let load = self.line("proc/loadavg");
        float(load, |load| load.split_whitespace().next().map(str::to_owned))
    }

    /// Returns the share of the last ten seconds in which some task waited for a CPU.
    pub(super) fn cpu_pressure(&self) -> Measured<Finite> {
        let pressure = self.line("proc/pressure/cpu");
        float(pressure, |pressure| {
            let some = pressure.lines().find_map(|line| line.strip_prefix("some "))?;
            some.split_whitespace().find_map(|pair| pair.strip_prefix("avg10=")).map(str::to_owned)
        })
    }
}

/// Returns the value of the first line `name: value`.
fn field<'text>(text: &'text str, name: &str) -> Option<&'text str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim())
    })
}

fn float(text: Result<String, String>, find: impl Fn(&str) -> Option<String>) -> Measured<Finite> {
    match text {
        Ok(text) => {
            let number = find(&text).and_then(|number| number.parse().ok()).and_then(Finite::new);
            Measured::from_option(number, "the kernel's text has another shape")
        }
        Err(reason) => Measured::Absent(reason),
    }
}

fn count_cpus(list: &str) -> Option<u32> {
    list.split(',')
        .map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last) = (first.parse::<u32>().ok()?, last.parse::<u32>().ok()?);
            last.checked_sub(first)?.checked_add(1)
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::fake::FakeHost;

    #[test]
    fn the_kernels_texts_are_read() {
        let host = FakeHost::new(
            "texts",
            &[
                (
                    "proc/cpuinfo",
                    "processor\t: 0\nmodel name\t: Fast CPU\nflags\t\t: fpu hypervisor\n",
                ),
                ("sys/class/dmi/id/sys_vendor", "QEMU\n"),
                ("proc/meminfo", "MemTotal:       16 kB\n"),
                ("proc/loadavg", "0.52 0.1 0.1 1/2 3\n"),
                (
                    "proc/pressure/cpu",
                    "some avg10=7.25 avg60=1.00 avg300=0.50 total=9\nfull avg10=0.00\n",
                ),
                (
                    "proc/self/limits",
                    "Limit  Soft  Hard  Units\nMax locked memory  65536  unlimited  bytes\nMax open files  unlimited  4096  files\n",
                ),
                ("proc/self/status", "Name:\tx\nCpus_allowed_list:\t0-2,5\n"),
                ("proc/sys/kernel/io_uring_disabled", "2\n"),
            ],
        );
        let files = host.files();
        assert_eq!(files.cpu_model().value().unwrap(), "Fast CPU");
        assert_eq!(files.hypervisor().value().unwrap(), "QEMU");
        assert_eq!(files.memory_bytes(), Measured::Value(16_384));
        assert_eq!(files.load1().get(), Some(0.52));
        assert_eq!(files.cpu_pressure().get(), Some(7.25));
        assert_eq!(files.limit("Max locked memory"), Measured::Value(65_536));
        assert_eq!(files.limit("Max open files").reason(), Some("unlimited"));
        assert_eq!(files.cpus_allowed(), 4);
        assert_eq!(files.number("proc/sys/kernel/io_uring_disabled"), Measured::Value(2));
    }

    #[test]
    fn lists_of_cpus_are_counted() {
        for (list, count) in
            [("0", Some(1)), ("0-3", Some(4)), ("0-1,4,6-7", Some(5)), ("", None), ("3-1", None)]
        {
            assert_eq!(count_cpus(list), count, "{list}");
        }
    }
}
