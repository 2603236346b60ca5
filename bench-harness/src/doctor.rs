//! `doctor`: can this host run the engine, and can its timings be believed?
//!
//! The facts are the environment's, the finding is the engine's own pre-flight; here they become lines
//! with a remedy each. Only the engine's refusal ends with exit 10: a noisy host is a warning.

use std::fmt::Write;

use serde::Serialize;

use crate::dump::{Environment, Measured};
use crate::environment::EngineFinding;

/// Exit code: this host cannot run the engine.
pub const EXIT_CANNOT_RUN: u8 = 10;

/// What was looked at, and what was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// `bench-harness.doctor/1`.
    pub schema: &'static str,
    /// False when the engine cannot run here.
    pub usable: bool,
    /// One entry per thing looked at.
    pub findings: Vec<Finding>,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub subject: &'static str,
    /// How it stands.
    pub grade: Grade,
    /// What was found.
    pub detail: String,
    /// What to do about it; empty when nothing needs doing.
    pub remedy: String,
}

/// How a thing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    /// As it should be.
    Ok,
    /// Timings may suffer.
    Warning,
    /// The engine cannot run.
    Refused,
}

/// Judges a host. `counting` says whether the system calls of another process can be counted.
pub fn examine(
    environment: &Environment,
    finding: &EngineFinding,
    counting: Result<(), String>,
) -> Report {
    let mut findings = vec![engine(finding), io_uring_sysctl(environment)];
    findings.extend(sockets(finding));
    findings.extend(facts(environment));
    findings.push(system_calls(counting));
    findings.extend(environment.preflight.warnings.iter().map(|warning| Finding {
        subject: "timings",
        grade: Grade::Warning,
        detail: warning.clone(),
        remedy: String::new(),
    }));
    let usable = findings.iter().all(|finding| finding.grade != Grade::Refused);
    Report { schema: "bench-harness.doctor/1", usable, findings }
}

impl Report {
    /// Returns the exit code: 0, or 10 when the engine cannot run here.
    pub fn exit_code(&self) -> u8 {
        if self.usable { 0 } else { EXIT_CANNOT_RUN }
    }

    /// Returns the report for people.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for finding in &self.findings {
            let grade = match finding.grade {
                Grade::Ok => "ok",
                Grade::Warning => "warning",
                Grade::Refused => "refused",
            };
            let line = format!("{grade:<9}{:<12}{}", finding.subject, finding.detail);
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{}", line.trim_end());
            if !finding.remedy.is_empty() {
                let _ = writeln!(text, "{:<21}remedy: {}", "", finding.remedy);
            }
        }
        text.push_str(match self.usable {
            true => "this host can run the engine\n",
            false => "this host cannot run the engine\n",
        });
        text
    }

    /// Returns the report for programs.
    ///
    /// # Panics
    /// Never: strings and enums always serialise.
    pub fn to_json(&self) -> String {
        let mut text =
            serde_json::to_string_pretty(self).expect("strings and enums always serialise");
        text.push('\n');
        text
    }
}

fn engine(finding: &EngineFinding) -> Finding {
    let (grade, detail, remedy) = match finding {
        EngineFinding::Usable { .. } => (Grade::Ok, "starts here".to_owned(), String::new()),
        EngineFinding::Refused { error, remedy } => (Grade::Refused, error.clone(), remedy.clone()),
        EngineFinding::NotProbed => (Grade::Warning, "was not asked".to_owned(), String::new()),
    };
    Finding { subject: "engine", grade, detail, remedy }
}

/// What sockets stand on, where the engine runs at all.
fn sockets(finding: &EngineFinding) -> Option<Finding> {
    let EngineFinding::Usable { sockets, no_ring } = finding else { return None };
    let (grade, detail, remedy) = match no_ring {
        None => (Grade::Ok, sockets.clone(), ""),
        Some(reason) => (
            Grade::Warning,
            format!("{sockets} ({reason}): each message costs more than on a ring"),
            "run Linux 6.1 or newer, and let the process register provided buffers",
        ),
    };
    Some(Finding { subject: "sockets", grade, detail, remedy: remedy.to_owned() })
}

fn io_uring_sysctl(environment: &Environment) -> Finding {
    let (grade, detail, remedy) = match &environment.io_uring.disabled_sysctl {
        Measured::Value(0) => (Grade::Ok, "allowed for all".to_owned(), ""),
        // Group members and the superuser may still be allowed: the pre-flight decides.
        Measured::Value(1) => (
            Grade::Warning,
            "allowed for one group only".to_owned(),
            "sysctl kernel.io_uring_disabled=0, or join kernel.io_uring_group",
        ),
        Measured::Value(_) => (
            Grade::Refused,
            "forbidden for everybody".to_owned(),
            "sysctl kernel.io_uring_disabled=0",
        ),
        Measured::Absent(reason) => (Grade::Ok, format!("no switch ({reason})"), ""),
    };
    Finding { subject: "io_uring", grade, detail, remedy: remedy.to_owned() }
}

/// Counting is for reading only: a server is measured as well without it.
fn system_calls(counting: Result<(), String>) -> Finding {
    let detail = match counting {
        Ok(()) => "of a server can be counted".to_owned(),
        Err(reason) => format!("of a server are not counted: {reason}"),
    };
    Finding { subject: "calls", grade: Grade::Ok, detail, remedy: String::new() }
}

/// The facts that need no judgement.
fn facts(environment: &Environment) -> Vec<Finding> {
    let Environment { cpu, system, cgroup, limits, build, .. } = environment;
    let shown = |value: &Measured<String>| match value {
        Measured::Value(value) => value.clone(),
        Measured::Absent(reason) => format!("unknown ({reason})"),
    };
    let count = |value: &Measured<u64>| match value {
        Measured::Value(value) => crate::dump::grouped(*value),
        Measured::Absent(reason) => reason.clone(),
    };
    let quota = match cgroup.cpu_max_percent.get() {
        Some(percent) => format!("{percent} % of a CPU"),
        None => cgroup.cpu_max_percent.reason().unwrap_or_default().to_owned(),
    };
    [
        ("cpu", format!("{}, {} online, {} allowed", shown(&cpu.model), cpu.online, cpu.allowed)),
        ("governor", shown(&cpu.governor)),
        ("kernel", shown(&system.kernel)),
        ("hypervisor", shown(&system.hypervisor)),
        ("clock", shown(&system.clocksource)),
        ("cpu quota", quota),
        ("memlock", format!("{} bytes", count(&limits.memlock_bytes))),
        ("open files", count(&limits.open_files)),
        ("build", format!("{}, {}", build.profile, shown(&build.rustc))),
    ]
    .into_iter()
    .map(|(subject, detail)| Finding { subject, grade: Grade::Ok, detail, remedy: String::new() })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dump::sample;

    fn environment() -> Environment {
        sample::dump(1).environment
    }

    fn usable(sockets: &str, no_ring: Option<&str>) -> EngineFinding {
        EngineFinding::Usable { sockets: sockets.to_owned(), no_ring: no_ring.map(str::to_owned) }
    }

    #[test]
    fn sockets_without_a_ring_are_a_warning_with_the_reason() {
        let check = |finding, line: &str| {
            let report = examine(&environment(), &finding, Ok(()));
            assert_eq!(report.exit_code(), 0);
            assert!(report.to_text().contains(line), "{}", report.to_text());
        };
        check(usable("ring", None), "ok       sockets     ring\n");
        check(
            usable("readiness", Some("no multishot receive")),
            "warning  sockets     readiness (no multishot receive): each",
        );
        let report = examine(&environment(), &EngineFinding::NotProbed, Ok(()));
        assert!(!report.to_text().contains("sockets"), "nobody has asked");
    }

    #[test]
    fn a_host_that_runs_the_engine_gets_exit_0() {
        let report = examine(&environment(), &usable("ring", None), Ok(()));
        assert_eq!(report.exit_code(), 0);
        assert!(report.to_text().ends_with("this host can run the engine\n"));
    }

    #[test]
    fn a_refusal_gets_exit_10_and_says_the_remedy() {
        let finding = EngineFinding::Refused {
            error: "memlock limit 65536 is too low".to_owned(),
            remedy: "ulimit -l unlimited".to_owned(),
        };
        let report = examine(&environment(), &finding, Ok(()));
        assert_eq!(report.exit_code(), 10);
        assert!(report.to_text().contains("remedy: ulimit -l unlimited"));
        let json: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
        assert_eq!(json["usable"], false);
        assert_eq!(json["findings"][0]["grade"], "refused");
    }

    #[test]
    fn a_forbidden_io_uring_is_named_even_before_the_engine_is_asked() {
        let mut environment = environment();
        environment.io_uring.disabled_sysctl = 2.into();
        let report = examine(&environment, &EngineFinding::NotProbed, Ok(()));
        assert_eq!(report.exit_code(), 10);
        assert!(report.to_text().contains("sysctl kernel.io_uring_disabled=0"));
    }

    #[test]
    fn a_noisy_host_is_a_warning_and_no_refusal() {
        let mut environment = environment();
        environment.preflight.warnings.push("load is 9 on 2 CPUs: others are at work".to_owned());
        let report = examine(&environment, &usable("ring", None), Ok(()));
        assert_eq!(report.exit_code(), 0);
        assert!(report.to_text().contains("warning  timings     load is 9"));
    }
}
