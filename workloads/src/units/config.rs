//! What a workload file says about the units workload.
//!
//! This is the value of `{"workload": {"units": …}}`: plain structs and externally tagged enums
//! that refuse unknown fields, so that every mistake in a file has a place to point at. Serde
//! checks shapes; [`Config::check`] finds what has the right shape and still cannot be run.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most requests one tree may have; each is a live task, so this bounds the memory of a run.
pub const TREE_REQUESTS_MAX: u64 = 1_000_000;
/// Most departures one flight card may list; the busiest airport has about 1,100.
pub const DEPARTURES_MAX: u32 = 1_000;
/// Longest pause or burn that a file may ask for: a minute, beyond which it is surely a slip.
pub const PAUSE_US_MAX: u64 = 60_000_000;

/// The units workload: what is asked, and the downstream that answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What one request does.
    pub request: Request,
    /// What answers its calls.
    #[serde(default)]
    pub downstream: Downstream,
}

/// What one request does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Loads a flight, then its two airports side by side, and checks the distance.
    FlightCard(FlightCard),
    /// Makes one call of one stage; the reply must be twice the key.
    Lookup(Lookup),
    /// Waits for a whole tree of dependent requests.
    Tree(Tree),
    /// Makes lookups, some of which burn CPU, while a probe watches how late tasks run.
    Burner(Burner),
    /// Asks nothing: the cost of being there.
    Idle,
}

/// Settings of the flight card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FlightCard {
    /// Directory of `airports.csv` and `flights.csv`, relative to the workload file.
    pub data_dir: PathBuf,
    /// How many of the origin's next departures the card lists; 0 leaves that stage out.
    pub departures: u32,
    /// Whether each card also adds one durable view to its flight's counter.
    pub count_views: bool,
}

impl Default for FlightCard {
    fn default() -> Self {
        Self { data_dir: PathBuf::from("data"), departures: 0, count_views: false }
    }
}

/// Settings of the lookup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lookup {
    /// How many different keys are asked for, uniformly.
    pub keys: u64,
    /// Which shard owns the keys that a shard's requests ask for.
    #[serde(default)]
    pub owned_by: OwnedBy,
}

/// Which keys a shard's requests ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OwnedBy {
    /// Any key, whoever owns it.
    #[default]
    Any,
    /// Only keys that another shard owns: every call crosses.
    OtherShard,
}

/// Settings of the dependency tree: each request waits for its children, then for its own timer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tree {
    /// Dependencies of every request above the lowest layer.
    pub fan_out: u32,
    /// Layers below the root.
    pub layers_below_root: u32,
    /// How long each request waits once its dependencies are done.
    pub wait_us: u64,
    /// Where the children run.
    #[serde(default)]
    pub spread: Spread,
}

/// Where the children of a tree run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Spread {
    /// On their parent's shard.
    Local,
    /// On all shards in turn.
    #[default]
    Shards,
}

/// Settings of the burner: lookups, a few of which hog the CPU politely.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Burner {
    /// How many different keys are asked for, uniformly.
    pub keys: u64,
    /// Share of requests that burn.
    pub share_percent: u32,
    /// How long such a request burns in all.
    pub burn_us: u64,
    /// How long it burns before it yields.
    pub slice_us: u64,
    /// Pause of each shard's probe between two measurements of runnable to running.
    pub probe_interval_us: u64,
}

/// What answers the calls.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Downstream {
    /// The batch function itself, at once.
    #[default]
    None,
    /// A model that takes its time and sometimes fails.
    Simulated(Simulated),
    /// The embedded database, behind a bridge.
    Sqlite(Sqlite),
    /// A server (cargo feature `postgres`).
    Postgres(Postgres),
}

/// Settings of the embedded database.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sqlite {
    /// Where the database built from the CSV files is kept, relative to the workload file;
    /// by default `forebay` in the user's cache directory.
    pub cache_dir: Option<PathBuf>,
}

/// Settings of the database server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Postgres {
    /// `postgres://user@host:port/database`; the password comes from `PGPASSWORD`, since a dump
    /// repeats the workload file.
    pub url: String,
}

/// Settings of the simulated downstream. One batch takes a drawn latency, plus `per_batch_us`,
/// plus `per_item_ns` for each of its items.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Simulated {
    /// Drawn anew for every batch.
    pub latency: Latency,
    /// Added to every batch.
    #[serde(default)]
    pub per_batch_us: u64,
    /// Added for every item of a batch.
    #[serde(default)]
    pub per_item_ns: u64,
    /// How many items in a million fail, each on its own.
    #[serde(default)]
    pub failures_per_million: u32,
}

/// A distribution of latencies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Latency {
    /// Always the same.
    Fixed {
        /// The latency.
        latency_us: u64,
    },
    /// Evenly between two bounds, both included.
    Uniform {
        /// Lower bound.
        min_us: u64,
        /// Upper bound.
        max_us: u64,
    },
    /// Exponential, cut off at twenty times its mean.
    Exponential {
        /// Mean before the cut.
        mean_us: u64,
    },
    /// Log-normal, told by two of its quantiles; the tail of a real database.
    LogNormal {
        /// Median.
        p50_us: u64,
        /// 99th percentile.
        p99_us: u64,
    },
}

/// Names of the stages, as `stages` in a workload file and in a dump says them.
pub mod stage {
    /// Flights by id.
    pub const FLIGHTS: &str = "flights";
    /// Airports by code.
    pub const AIRPORTS: &str = "airports";
    /// Next departures of an airport.
    pub const DEPARTURES: &str = "departures";
    /// Durable view counters.
    pub const VIEWS: &str = "views";
    /// Twice the key.
    pub const LOOKUP: &str = "lookup";
}

impl Config {
    /// Names the stages that this workload declares, in order of rank.
    #[must_use]
    pub fn stages(&self) -> Vec<&'static str> {
        match &self.request {
            Request::FlightCard(card) => {
                let mut names = vec![stage::FLIGHTS, stage::AIRPORTS];
                names.extend((card.departures > 0).then_some(stage::DEPARTURES));
                names.extend(card.count_views.then_some(stage::VIEWS));
                names
            }
            Request::Lookup(_) | Request::Burner(_) => vec![stage::LOOKUP],
            Request::Tree(_) | Request::Idle => Vec::new(),
        }
    }

    /// Names the cargo feature that this workload needs and this build was made without.
    #[must_use]
    pub fn left_out(&self) -> Option<&'static str> {
        let needs_postgres = matches!(self.downstream, Downstream::Postgres(_));
        (needs_postgres && !cfg!(feature = "postgres")).then_some("postgres")
    }

    /// Finds everything that has the right shape and cannot be run, as pairs of a JSON pointer
    /// (relative to this value) and what is wrong there.
    #[must_use]
    pub fn check(&self) -> Vec<(String, String)> {
        let mut faults = Faults::default();
        match &self.request {
            Request::FlightCard(card) => card.check(&mut faults),
            Request::Lookup(lookup) => {
                faults.in_range("/request/lookup/keys", lookup.keys, 1, MAX_KEYS);
            }
            Request::Tree(tree) => tree.check(&mut faults),
            Request::Burner(burner) => burner.check(&mut faults),
            Request::Idle => {}
        }
        match &self.downstream {
            Downstream::Simulated(simulated) => simulated.check(&mut faults),
            Downstream::Postgres(postgres) => postgres.check(&mut faults),
            Downstream::None | Downstream::Sqlite(_) => {}
        }
        self.check_pair(&mut faults);
        faults.0
    }

    /// Refuses a downstream that cannot answer what the request asks.
    fn check_pair(&self, faults: &mut Faults) {
        let (request, fits) = match (&self.request, &self.downstream) {
            (Request::FlightCard(_), downstream) => {
                ("flight_card", !matches!(downstream, Downstream::None))
            }
            (Request::Lookup(_), downstream) => ("lookup", downstream.is_without_data()),
            (Request::Burner(_), downstream) => ("burner", downstream.is_without_data()),
            (Request::Tree(_), downstream) => ("tree", matches!(downstream, Downstream::None)),
            (Request::Idle, downstream) => ("idle", matches!(downstream, Downstream::None)),
        };
        if !fits {
            let name = self.downstream.name();
            faults.add("/downstream", format!("{name} cannot answer a {request} request"));
        }
    }
}

impl Downstream {
    /// Names the downstream as a workload file does.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Simulated(_) => "simulated",
            Self::Sqlite(_) => "sqlite",
            Self::Postgres(_) => "postgres",
        }
    }

    fn is_without_data(&self) -> bool {
        matches!(self, Self::None | Self::Simulated(_))
    }
}

impl FlightCard {
    fn check(&self, faults: &mut Faults) {
        let departures = u64::from(self.departures);
        faults.in_range("/request/flight_card/departures", departures, 0, DEPARTURES_MAX.into());
        if self.data_dir.as_os_str().is_empty() {
            faults.add("/request/flight_card/data_dir", "must name a directory".into());
        }
    }
}

impl Tree {
    /// Counts the requests of the tree, the root included; `None` beyond 64 bits.
    #[must_use]
    pub fn requests(&self) -> Option<u64> {
        let mut layer = 1_u64;
        let mut requests = 1_u64;
        for _ in 0..self.layers_below_root {
            layer = layer.checked_mul(self.fan_out.into())?;
            requests = requests.checked_add(layer)?;
        }
        Some(requests)
    }

    fn check(&self, faults: &mut Faults) {
        faults.in_range("/request/tree/fan_out", self.fan_out.into(), 1, TREE_REQUESTS_MAX);
        faults.in_range("/request/tree/wait_us", self.wait_us, 0, PAUSE_US_MAX);
        // A fan-out of one makes a chain, whose recursion this keeps shallow.
        let layers = u64::from(self.layers_below_root);
        faults.in_range("/request/tree/layers_below_root", layers, 0, 64);
        match self.requests() {
            Some(requests) if requests <= TREE_REQUESTS_MAX => {}
            Some(requests) => faults.add(
                "/request/tree",
                format!("has {requests} requests, more than {TREE_REQUESTS_MAX}"),
            ),
            None => faults.add(
                "/request/tree",
                format!("has more than 2^64 requests, the most is {TREE_REQUESTS_MAX}"),
            ),
        }
    }
}

impl Burner {
    fn check(&self, faults: &mut Faults) {
        faults.in_range("/request/burner/keys", self.keys, 1, MAX_KEYS);
        faults.in_range("/request/burner/share_percent", self.share_percent.into(), 0, 100);
        faults.in_range("/request/burner/burn_us", self.burn_us, 1, PAUSE_US_MAX);
        faults.in_range("/request/burner/slice_us", self.slice_us, 1, self.burn_us.max(1));
        let probe = self.probe_interval_us;
        faults.in_range("/request/burner/probe_interval_us", probe, 1, PAUSE_US_MAX);
    }
}

impl Simulated {
    fn check(&self, faults: &mut Faults) {
        let at = |field: &str| format!("/downstream/simulated/{field}");
        faults.in_range(&at("per_batch_us"), self.per_batch_us, 0, PAUSE_US_MAX);
        faults.in_range(&at("per_item_ns"), self.per_item_ns, 0, PAUSE_US_MAX);
        let failures = u64::from(self.failures_per_million);
        faults.in_range(&at("failures_per_million"), failures, 0, 1_000_000);
        match self.latency {
            Latency::Fixed { latency_us } => {
                faults.in_range(&at("latency/fixed/latency_us"), latency_us, 0, PAUSE_US_MAX);
            }
            Latency::Uniform { min_us, max_us } => {
                faults.in_range(&at("latency/uniform/max_us"), max_us, 0, PAUSE_US_MAX);
                faults.in_range(&at("latency/uniform/min_us"), min_us, 0, max_us);
            }
            Latency::Exponential { mean_us } => {
                faults.in_range(&at("latency/exponential/mean_us"), mean_us, 1, PAUSE_US_MAX);
            }
            Latency::LogNormal { p50_us, p99_us } => {
                faults.in_range(&at("latency/log_normal/p99_us"), p99_us, 1, PAUSE_US_MAX);
                faults.in_range(&at("latency/log_normal/p50_us"), p50_us, 1, p99_us.max(1));
            }
        }
    }
}

impl Postgres {
    fn check(&self, faults: &mut Faults) {
        let pointer = "/downstream/postgres/url";
        let rest = ["postgres://", "postgresql://"].iter().find_map(|s| self.url.strip_prefix(s));
        let Some(rest) = rest else {
            return faults.add(pointer, "must begin with postgres:// or postgresql://".into());
        };
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        let user = authority.rsplit_once('@').map_or("", |(user, _host)| user);
        if user.contains(':') || rest.contains("password=") {
            let why = "must not hold a password, which every dump would repeat; set PGPASSWORD";
            faults.add(pointer, why.into());
        }
    }
}

/// Most keys of a lookup: the reply is twice the key and must fit 64 bits with room to spare.
const MAX_KEYS: u64 = 1 << 48;

/// What was found so far.
#[derive(Default)]
struct Faults(Vec<(String, String)>);

impl Faults {
    fn add(&mut self, pointer: &str, message: String) {
        self.0.push((pointer.to_owned(), message));
    }

    fn in_range(&mut self, pointer: &str, value: u64, least: u64, most: u64) {
        if value < least || value > most {
            self.add(pointer, format!("must be between {least} and {most}, is {value}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Config {
        serde_json::from_str(text).unwrap()
    }

    fn pointers(text: &str) -> Vec<String> {
        parse(text).check().into_iter().map(|(pointer, _)| pointer).collect()
    }

    #[test]
    fn accepts_every_shape_that_the_shipped_files_use() {
        for text in [
            r#"{"request": {"flight_card": {}}, "downstream": {"sqlite": {}}}"#,
            r#"{"request": {"flight_card": {"departures": 5, "count_views": true}},
                "downstream": {"postgres": {"url": "postgres://postgres@127.0.0.1:5432/units"}}}"#,
            r#"{"request": {"flight_card": {}}, "downstream": {"simulated":
                {"latency": {"log_normal": {"p50_us": 500, "p99_us": 4000}},
                 "per_batch_us": 10, "per_item_ns": 50, "failures_per_million": 1000}}}"#,
            r#"{"request": {"lookup": {"keys": 10000}}}"#,
            r#"{"request": {"lookup": {"keys": 10000, "owned_by": "other_shard"}}}"#,
            r#"{"request": {"tree": {"fan_out": 10, "layers_below_root": 4, "wait_us": 1000}}}"#,
            r#"{"request": {"burner": {"keys": 10000, "share_percent": 1, "burn_us": 200,
                "slice_us": 20, "probe_interval_us": 500}}}"#,
            r#"{"request": "idle", "downstream": "none"}"#,
        ] {
            let config = parse(text);
            assert_eq!(config.check(), Vec::new(), "{text}");
            let again = serde_json::to_string(&config).unwrap();
            assert_eq!(parse(&again), config, "{again}");
        }
    }

    #[test]
    fn refuses_unknown_fields_at_every_level() {
        for text in [
            r#"{"request": "idle", "downstraem": "none"}"#,
            r#"{"request": {"lookup": {"keys": 1, "key": 2}}}"#,
            r#"{"request": {"flight_card": {"departure": 1}}}"#,
            r#"{"request": "idle", "downstream": {"simulated":
                {"latency": {"fixed": {"latency_us": 1, "more": 2}}}}}"#,
        ] {
            let error = serde_json::from_str::<Config>(text).unwrap_err().to_string();
            assert!(error.contains("unknown field"), "{text}: {error}");
        }
    }

    #[test]
    fn points_at_every_impossible_value() {
        for (text, expected) in [
            (r#"{"request": {"lookup": {"keys": 0}}}"#, vec!["/request/lookup/keys"]),
            (
                r#"{"request": {"tree": {"fan_out": 10, "layers_below_root": 9, "wait_us": 1}}}"#,
                vec!["/request/tree"],
            ),
            (
                r#"{"request": {"tree": {"fan_out": 0, "layers_below_root": 1, "wait_us": 1}}}"#,
                vec!["/request/tree/fan_out"],
            ),
            (
                r#"{"request": {"burner": {"keys": 1, "share_percent": 101, "burn_us": 10,
                    "slice_us": 20, "probe_interval_us": 0}}}"#,
                vec![
                    "/request/burner/share_percent",
                    "/request/burner/slice_us",
                    "/request/burner/probe_interval_us",
                ],
            ),
            (
                r#"{"request": {"flight_card": {}}, "downstream": {"simulated":
                    {"latency": {"uniform": {"min_us": 5, "max_us": 4}}}}}"#,
                vec!["/downstream/simulated/latency/uniform/min_us"],
            ),
            (
                r#"{"request": {"flight_card": {}},
                    "downstream": {"postgres": {"url": "mysql://here/x"}}}"#,
                vec!["/downstream/postgres/url"],
            ),
            (r#"{"request": {"flight_card": {}}}"#, vec!["/downstream"]),
            (
                r#"{"request": {"lookup": {"keys": 1}}, "downstream": {"sqlite": {}}}"#,
                vec!["/downstream"],
            ),
        ] {
            assert_eq!(pointers(text), expected, "{text}");
        }
    }

    #[test]
    fn refuses_a_password_that_a_dump_would_publish() {
        let with = r#"{"request": {"flight_card": {}},
            "downstream": {"postgres": {"url": "postgres://me:secret@host/db"}}}"#;
        assert_eq!(pointers(with), ["/downstream/postgres/url"]);
        let port_only = with.replace("me:secret@host", "me@host:5433");
        assert_eq!(pointers(&port_only), Vec::<String>::new());
    }

    #[test]
    fn counts_the_reference_tree() {
        let text =
            r#"{"request": {"tree": {"fan_out": 10, "layers_below_root": 4, "wait_us": 1}}}"#;
        let Request::Tree(tree) = parse(text).request else { panic!("not a tree") };
        assert_eq!(tree.requests(), Some(11_111));
    }

    #[test]
    fn declares_only_the_stages_that_are_asked_for() {
        let card = r#"{"request": {"flight_card": {"departures": 3, "count_views": true}}}"#;
        assert_eq!(parse(card).stages(), ["flights", "airports", "departures", "views"]);
        assert_eq!(parse(r#"{"request": {"flight_card": {}}}"#).stages(), ["flights", "airports"]);
        assert_eq!(parse(r#"{"request": "idle"}"#).stages(), Vec::<&str>::new());
    }
}
