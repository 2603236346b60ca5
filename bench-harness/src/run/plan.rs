//! Which cells a file has, and in which order they run.
//!
//! A cell is one measured phase at one combination of the matrix, ours or a peer's. Warm-up phases
//! are not cells: the closest group of them above a measured phase runs before it in its process.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::dump::LoopKind;
use crate::subject::CellSpec;
use crate::workload_file::{LoadedWorkload, Peer, Phase, Role, Variant, warmups_of};

/// What one file comes to.
#[derive(Debug)]
pub struct Plan {
    /// The file.
    pub workload: LoadedWorkload,
    /// Its cells, each with its peers behind it.
    pub cells: Vec<PlannedCell>,
    /// How often each cell runs.
    pub repetitions: u32,
    /// Peers that the file names and that this build or this host is without.
    pub peers_left_out: Vec<Peer>,
}

/// One cell before it runs.
#[derive(Debug, Clone)]
pub struct PlannedCell {
    /// Its values of the matrix.
    pub parameters: BTreeMap<String, Value>,
    spec: CellSpec,
}

impl PlannedCell {
    /// Its id: `<phase>[@<peer>][/<path=value>,…]`.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.spec.cell_id
    }

    /// Its phase.
    #[must_use]
    pub fn phase(&self) -> &Phase {
        &self.spec.phase
    }

    /// Its peer; `None` for ours.
    #[must_use]
    pub fn peer(&self) -> Option<Peer> {
        self.spec.peer
    }

    /// Whether its requests wait for one another.
    #[must_use]
    pub fn loop_kind(&self) -> LoopKind {
        self.spec.phase.arrival.loop_kind()
    }

    /// What one repetition of it depends on.
    #[must_use]
    pub fn spec(&self, repetition: u32) -> CellSpec {
        CellSpec { repetition, ..self.spec.clone() }
    }
}

/// Makes the plan of a file.
///
/// # Errors
/// When the filter matches no cell; the message names the cells there are.
pub fn plan(workload: LoadedWorkload, filter: Option<&str>) -> Result<Plan, String> {
    let (peers, peers_left_out): (Vec<Peer>, Vec<Peer>) =
        workload.file.peers.iter().copied().partition(|peer| peer.is_there());
    let mut cells = Vec::new();
    let mut ids = BTreeSet::new();
    for variant in &workload.variants {
        for phase_idx in 0..variant.file.phases.len() {
            if variant.file.phases[phase_idx].role != Role::Measure {
                continue;
            }
            for peer in std::iter::once(None).chain(peers.iter().copied().map(Some)) {
                let cell = planned(&workload, variant, phase_idx, peer);
                // A combination that only changes another phase gives the same cell again.
                if ids.insert(cell.id().to_owned()) {
                    cells.push(cell);
                }
            }
        }
    }
    if let Some(filter) = filter {
        let matching = |cell: &PlannedCell| cell.id().contains(filter);
        if !cells.iter().any(matching) {
            let ids: Vec<&str> = cells.iter().map(PlannedCell::id).collect();
            let name = &workload.file.name;
            let ids = ids.join(", ");
            return Err(format!("no cell of {name} contains `{filter}`; it has {ids}"));
        }
        cells.retain(matching);
    }
    let repetitions = workload.file.repetitions;
    Ok(Plan { workload, cells, repetitions, peers_left_out })
}

fn planned(
    workload: &LoadedWorkload,
    variant: &Variant,
    phase_idx: usize,
    peer: Option<Peer>,
) -> PlannedCell {
    let file = &variant.file;
    let phase = &file.phases[phase_idx];
    let parameters: BTreeMap<String, Value> = variant
        .parameters
        .iter()
        .filter(|(path, _)| belongs(path, phase_idx, &file.phases))
        .map(|(path, value)| (path.clone(), value.clone()))
        .collect();
    PlannedCell {
        spec: CellSpec {
            cell_id: cell_id(&phase.name, peer, &parameters),
            base_dir: workload.base_dir.clone(),
            seed: file.seed,
            repetition: 0,
            peer,
            engine: file.engine.clone(),
            workload: file.workload.clone(),
            stages: file.stages.clone(),
            warmups: file.phases[warmups_of(&file.phases, phase_idx)].to_vec(),
            phase: phase.clone(),
        },
        parameters,
    }
}

/// Whether a path of the matrix says anything about the cell of this phase.
fn belongs(path: &str, phase_idx: usize, phases: &[Phase]) -> bool {
    let Some(rest) = path.strip_prefix("phases.") else { return true };
    let named = rest.split('.').next().unwrap_or_default();
    let is = |idx: usize| phases[idx].name == named || idx.to_string() == named;
    let group = warmups_of(phases, phase_idx);
    is(phase_idx) || group.into_iter().any(is)
}

fn cell_id(phase: &str, peer: Option<Peer>, parameters: &BTreeMap<String, Value>) -> String {
    let mut id = phase.to_owned();
    if let Some(peer) = peer {
        id = format!("{id}@{}", peer.name());
    }
    let values: Vec<String> = parameters
        .iter()
        .map(|(path, value)| match value {
            Value::String(word) => format!("{path}={word}"),
            value => format!("{path}={value}"),
        })
        .collect();
    if values.is_empty() { id } else { format!("{id}/{}", values.join(",")) }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::workload_file::{LoadOptions, Override, load};

    fn planned_file(name: &str, overrides: &[&str]) -> Plan {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads").join(name);
        let overrides = overrides.iter().map(|text| text.parse::<Override>().unwrap()).collect();
        let options = LoadOptions { overrides, ..LoadOptions::default() };
        plan(load(&path, &options).unwrap_or_else(|r| panic!("{r}")), None).unwrap()
    }

    fn ours(plan: &Plan) -> Vec<&str> {
        plan.cells.iter().filter(|cell| cell.peer().is_none()).map(PlannedCell::id).collect()
    }

    #[test]
    fn each_measured_phase_is_a_cell_with_the_warm_up_above_it() {
        let plan = planned_file("units.json", &[]);
        assert_eq!(ours(&plan), ["steady", "saturate"]);
        for cell in &plan.cells {
            let spec = cell.spec(3);
            assert_eq!(spec.warmups.len(), 1, "{}", cell.id());
            assert_eq!((spec.warmups[0].name.as_str(), spec.repetition), ("warmup", 3));
        }
    }

    #[test]
    fn each_combination_of_the_matrix_is_a_cell_named_by_full_paths() {
        let plan = planned_file("units-noop.json", &[]);
        let ids = ours(&plan);
        assert_eq!(ids.len(), 8);
        assert_eq!(ids[0], "saturate/engine.shards=1,phases.saturate.arrival.closed.in_flight=1");
        let spec = plan.cells[0].spec(0);
        assert_eq!(
            spec.phase.arrival,
            crate::workload_file::Arrival::Closed { in_flight: 1, think_time_ns: 0 }
        );
    }

    #[test]
    fn a_parameter_of_another_phase_makes_no_second_cell() {
        let matrix = r#"matrix={"phases.steady.arrival.poisson.rate_per_s":[1000,2000]}"#;
        let plan = planned_file("units.json", &[matrix]);
        let steady = "steady/phases.steady.arrival.poisson.rate_per_s=";
        assert_eq!(
            ours(&plan),
            [format!("{steady}1000"), "saturate".to_owned(), format!("{steady}2000")]
        );
    }

    #[test]
    fn a_warm_up_belongs_to_the_measured_phases_below_it_up_to_the_next() {
        let phases = r#"phases=[
            {"name":"w1","role":"warmup","arrival":{"closed":{"in_flight":1}},"until":{"requests":1}},
            {"name":"w2","role":"warmup","arrival":{"closed":{"in_flight":1}},"until":{"requests":1}},
            {"name":"m1","role":"measure","arrival":{"closed":{"in_flight":1}},"until":{"requests":1}},
            {"name":"m2","role":"measure","arrival":{"closed":{"in_flight":1}},"until":{"requests":1}},
            {"name":"w3","role":"warmup","arrival":{"closed":{"in_flight":1}},"until":{"requests":1}},
            {"name":"m3","role":"measure","arrival":{"closed":{"in_flight":1}},"until":{"requests":1}}
        ]"#;
        let plan = planned_file("smoke.json", &[phases]);
        let groups: Vec<Vec<String>> = plan
            .cells
            .iter()
            .map(|cell| cell.spec(0).warmups.into_iter().map(|phase| phase.name).collect())
            .collect();
        assert_eq!(groups, [vec!["w1", "w2"], vec!["w1", "w2"], vec!["w3"]]);
    }

    #[test]
    fn peers_stand_behind_ours_or_are_named_as_left_out() {
        let plan = planned_file("units-sched.json", &[]);
        if cfg!(feature = "peers") {
            let ids: Vec<_> = plan.cells.iter().map(PlannedCell::id).collect();
            assert_eq!(ids, ["capacity", "capacity@tokio", "burning", "burning@tokio"]);
            assert_eq!(plan.peers_left_out, []);
        } else {
            assert_eq!(ours(&plan), ["capacity", "burning"]);
            assert_eq!(plan.peers_left_out, [Peer::Tokio]);
        }
    }

    #[test]
    fn a_filter_that_matches_nothing_names_what_there_is() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/units.json");
        let workload = load(&path, &LoadOptions::default()).unwrap();
        let message = plan(workload.clone(), Some("nope")).unwrap_err();
        assert!(message.contains("it has steady, saturate"), "{message}");
        assert_eq!(ours(&plan(workload, Some("satur")).unwrap()), ["saturate"]);
    }
}
