//! From a path to a workload that can be run, or to everything that is wrong with it.
//!
//! ```text
//! bytes ─► text ─► tree ─► (--set) ─► types ─► checked ─► one variant for each matrix combination
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::check::check;
use super::diagnostic::{Diagnostic, Report};
use super::digest::digest;
use super::overrides::{self, Override};
use super::phases::{Arrival, Phase, Until};
use super::position::push_segment;
use super::shape::{self, Fault};
use super::source::{self, Source};
use super::types::WorkloadFile;

/// Most combinations of a matrix: 256 cells of 10 repetitions of a second are most of an hour.
const VARIANTS_MAX: usize = 256;
/// Top-level fields that a matrix may vary: what the service and the engine do, not what the
/// experiment is called or how it is judged.
const VARIED: [&str; 5] = ["engine", "workload", "stages", "phases", "seed"];
/// Repetitions of a quick run.
const QUICK_REPETITIONS: u32 = 3;
/// A quick run shortens each phase by this factor, down to the bounds below.
const QUICK_DIVISOR: u64 = 5;
const QUICK_MS_MIN: u64 = 200;
const QUICK_REQUESTS_MIN: u64 = 100;

/// What the command line changes in every file.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// `--set path=value`, in order.
    pub overrides: Vec<Override>,
    /// `--repetitions`.
    pub repetitions: Option<u32>,
    /// `--quick`: fewer repetitions of shorter phases.
    pub quick: bool,
}

/// A workload file that has been checked and can be run.
#[derive(Debug, Clone)]
pub struct LoadedWorkload {
    /// Directory that paths in the file are relative to.
    pub base_dir: PathBuf,
    /// The file without its matrix applied.
    pub file: WorkloadFile,
    /// The file with its defaults filled in, as the dump keeps it.
    pub resolved: Value,
    /// Of `resolved`, without prose and limits.
    pub digest: String,
    /// One for each combination of the matrix, in the order of its paths; one without parameters
    /// when there is no matrix.
    pub variants: Vec<Variant>,
    /// Warnings; there are no errors.
    pub warnings: Report,
}

/// The file at one combination of the matrix.
#[derive(Debug, Clone)]
pub struct Variant {
    /// Dotted path to value.
    pub parameters: BTreeMap<String, Value>,
    /// The file with these values.
    pub file: WorkloadFile,
}

/// Reads and checks one file.
///
/// # Errors
/// Everything that is wrong with it.
///
/// # Panics
/// Never: a file that was read from JSON can be written as JSON.
pub fn load(path: &Path, options: &LoadOptions) -> Result<LoadedWorkload, Box<Report>> {
    let source = source::read(path)?;
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let mut loader = Loader { source, stem, origins: Vec::new() };
    let (mut file, mut variants) = loader.file(options)?;
    let warnings = loader.report(warnings(&file));
    if options.quick {
        shorten(&mut file);
        variants.iter_mut().for_each(|variant| shorten(&mut variant.file));
    }
    if let Some(repetitions) = options.repetitions {
        file.repetitions = repetitions;
    }
    let resolved = serde_json::to_value(&file).expect("a workload file is plain JSON");
    let base_dir = path.parent().map(Path::to_path_buf).unwrap_or_default();
    Ok(LoadedWorkload { base_dir, digest: digest(&resolved), file, resolved, variants, warnings })
}

fn warnings(file: &WorkloadFile) -> Vec<Diagnostic> {
    let left_out = file.workload.left_out().map(|feature| {
        Diagnostic::warning("W101", format!("this build is without the cargo feature `{feature}`"))
            .at_pointer(format!("/workload/{}", file.workload.tag()))
            .with_help(format!("build with `--features {feature}` to run it"))
    });
    left_out.into_iter().collect()
}

/// Makes a file quick: good for a look, not for a comparison.
fn shorten(file: &mut WorkloadFile) {
    file.repetitions = file.repetitions.min(QUICK_REPETITIONS);
    let shorter = |ms: u64| (ms / QUICK_DIVISOR).max(QUICK_MS_MIN.min(ms));
    for Phase { until, arrival, .. } in &mut file.phases {
        if let Arrival::Steps { clients, step_ms, .. } = arrival {
            *step_ms = shorter(*step_ms);
            *until = Until::DurationMs(Arrival::steps_ms(clients, *step_ms));
            continue;
        }
        *until = match *until {
            Until::DurationMs(ms) => Until::DurationMs(shorter(ms)),
            Until::Requests(requests) => {
                let fewest = QUICK_REQUESTS_MIN.min(requests);
                Until::Requests((requests / QUICK_DIVISOR).max(fewest))
            }
        };
    }
}

struct Loader {
    source: Source,
    stem: String,
    /// Pointers that `--set` has written, with its words.
    origins: Vec<(String, String)>,
}

type Loaded = (WorkloadFile, Vec<Variant>);

impl Loader {
    fn file(&mut self, options: &LoadOptions) -> Result<Loaded, Box<Report>> {
        let mut tree = self.source.tree.clone();
        for Override { path, value } in &options.overrides {
            let origin = format!("--set {path}={value}");
            let pointer = overrides::set(&mut tree, path, value.clone()).map_err(|why| {
                let diagnostic = Diagnostic::error("W041", why).from_origin(&origin);
                Box::new(self.report(vec![diagnostic]))
            })?;
            self.origins.push((pointer, origin));
        }
        let file = self.typed(&tree).map_err(|faults| self.refuse(faults))?;
        let variants = self.variants(&tree, &file).map_err(|faults| self.refuse(faults))?;
        Ok((file, variants))
    }

    fn typed(&self, tree: &Value) -> Result<WorkloadFile, Vec<Fault>> {
        let file: WorkloadFile = shape::read(tree)?;
        let resolved = serde_json::to_value(&file).expect("a workload file is plain JSON");
        let mut faults = shape::lists_for_objects(tree, &resolved);
        faults.extend(check(&file, &self.stem));
        if faults.is_empty() { Ok(file) } else { Err(faults) }
    }

    fn variants(&self, tree: &Value, file: &WorkloadFile) -> Result<Vec<Variant>, Vec<Fault>> {
        let faults: Vec<Fault> = file
            .matrix
            .iter()
            .flat_map(|(path, values)| self.check_axis(tree, path, values))
            .collect();
        if !faults.is_empty() {
            return Err(faults);
        }
        let combinations = file.matrix.values().map(Vec::len).try_fold(1, usize::checked_mul);
        if combinations.is_none_or(|combinations| combinations > VARIANTS_MAX) {
            let message = format!("has more than {VARIANTS_MAX} combinations");
            return Err(vec![Fault::new("W021", "/matrix".to_owned(), message)]);
        }
        combine(&file.matrix)
            .into_iter()
            .map(|parameters| {
                let file = self.variant(tree, &parameters)?;
                Ok(Variant { parameters, file })
            })
            .collect()
    }

    /// Tries every value of one path alone, so that each mistake is told once.
    fn check_axis(&self, tree: &Value, path: &str, values: &[Value]) -> Vec<Fault> {
        let mut pointer = "/matrix".to_owned();
        push_segment(&mut pointer, path);
        let fault =
            |pointer: &str, message: String| Fault::new("W021", pointer.to_owned(), message);
        let root = path.split('.').next().unwrap_or_default();
        if !VARIED.contains(&root) {
            let words: Vec<String> = VARIED.iter().map(ToString::to_string).collect();
            let message = format!("a matrix cannot vary `{path}`");
            let on_key = Fault { on_key: true, allowed: words, ..fault(&pointer, message) };
            return vec![on_key];
        }
        if values.is_empty() {
            return vec![fault(&pointer, "needs at least one value".to_owned())];
        }
        let mut faults = Vec::new();
        let mut told = BTreeSet::new();
        for (value_idx, value) in values.iter().enumerate() {
            let at = format!("{pointer}/{value_idx}");
            if values[..value_idx].contains(value) {
                faults.push(fault(&at, format!("{value} stands twice")));
                continue;
            }
            let parameters = BTreeMap::from([(path.to_owned(), value.clone())]);
            if let Err(inner) = self.variant(tree, &parameters) {
                // A wrong path is wrong with every value: tell it once.
                let new = inner.into_iter().filter(|inner| told.insert(inner.message.clone()));
                faults.extend(new.map(|inner| Fault {
                    code: inner.code,
                    help: inner.help,
                    allowed: inner.allowed,
                    ..fault(&at, format!("with `{path}` = {value}: {}", inner.message))
                }));
            }
        }
        faults
    }

    fn variant(
        &self,
        tree: &Value,
        parameters: &BTreeMap<String, Value>,
    ) -> Result<WorkloadFile, Vec<Fault>> {
        let mut tree = tree.clone();
        for (path, value) in parameters {
            overrides::set(&mut tree, path, value.clone())
                .map_err(|why| vec![Fault::new("W021", "/matrix".to_owned(), why)])?;
        }
        self.typed(&tree).map_err(|faults| {
            let stand = |fault: Fault| {
                let message = format!("{} (at {})", fault.message, fault.pointer);
                Fault { message, pointer: "/matrix".to_owned(), on_key: true, ..fault }
            };
            faults.into_iter().map(stand).collect()
        })
    }

    fn refuse(&self, faults: Vec<Fault>) -> Box<Report> {
        let diagnostics = faults.into_iter().map(|fault| self.diagnostic(fault)).collect();
        Box::new(self.report(diagnostics))
    }

    fn report(&self, diagnostics: Vec<Diagnostic>) -> Report {
        Report::new(self.source.file.clone(), self.source.text.clone(), diagnostics)
    }

    /// Gives a fault its place: the bytes of its value or key, else those of what encloses it.
    fn diagnostic(&self, fault: Fault) -> Diagnostic {
        let mut diagnostic = Diagnostic::error(fault.code, fault.message);
        diagnostic.help = fault.help;
        diagnostic.allowed = fault.allowed;
        let origin = self.origins.iter().rev().find(|(pointer, _)| {
            fault
                .pointer
                .strip_prefix(pointer.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
        let diagnostic = diagnostic.at_pointer(&fault.pointer);
        if let Some((_, origin)) = origin {
            return diagnostic.from_origin(origin);
        }
        let mut pointer = fault.pointer.as_str();
        let mut exact = true;
        loop {
            if let Some(span) = self.source.positions.get(pointer) {
                let on_key = fault.on_key || !exact;
                let bytes = match &span.key {
                    Some(key) if on_key => key.clone(),
                    _ => span.value.clone(),
                };
                return diagnostic.at_bytes(&self.source.text, bytes);
            }
            let Some((parent, _)) = pointer.rsplit_once('/') else { return diagnostic };
            pointer = parent;
            exact = false;
        }
    }
}

/// All combinations of a matrix, the last path varying fastest.
fn combine(matrix: &BTreeMap<String, Vec<Value>>) -> Vec<BTreeMap<String, Value>> {
    matrix.iter().fold(vec![BTreeMap::new()], |rows, (path, values)| {
        let extend = |row: BTreeMap<String, Value>| {
            values.iter().map(move |value| {
                let mut row = row.clone();
                row.insert(path.clone(), value.clone());
                row
            })
        };
        rows.into_iter().flat_map(extend).collect()
    })
}
