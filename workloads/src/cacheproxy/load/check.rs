//! What of a load has the right shape and still cannot be asked, by JSON pointer.

use std::fmt::Display;

use super::{
    ASIDE_BYTES_MAX, CONNECTIONS_MAX, KEY_BYTES_MAX, KEYS_MAX, Load, MULTI_GET_KEYS_MAX, Misses,
    Mix, PIPELINED_MAX, Popularity, Preload, Sizes, UNDER_WAY_BYTES_MAX, VALUE_BYTES_MAX,
    VALUE_BYTES_MIN,
};

/// Most lengths of a list.
const WEIGHTED_MAX: usize = 100;
/// Highest exponent of a Zipf law, in percent: beyond it one key is as good as all.
const ZIPF_PERCENT_MAX: u32 = 400;

impl Load {
    /// Finds everything that has the right shape and cannot be asked, as pairs of a JSON pointer
    /// (relative to this value) and what is wrong there.
    #[must_use]
    pub fn check(&self) -> Vec<(String, String)> {
        let mut faults = Faults(Vec::new());
        faults.range("/connections", self.connections, 1, CONNECTIONS_MAX);
        faults.range("/pipelined_max", self.pipelined_max, 1, PIPELINED_MAX);
        faults.range("/keys", self.keys, 1, KEYS_MAX);
        // A key is its number, in front of which zeros make its length.
        let least = self.keys.saturating_sub(1).max(1).ilog10() + 1;
        let most = u32::try_from(KEY_BYTES_MAX).unwrap_or(u32::MAX);
        faults.sizes("/key_bytes", &self.key_bytes, least, most);
        faults.sizes("/value_bytes", &self.value_bytes, VALUE_BYTES_MIN, VALUE_BYTES_MAX);
        match self.popularity {
            Popularity::Uniform => {}
            Popularity::ZipfPercent(percent) => {
                faults.range("/popularity/zipf_percent", percent, 1, ZIPF_PERCENT_MAX);
            }
            Popularity::HotPercent(percent) => {
                faults.range("/popularity/hot_percent", percent, 1, 100);
            }
        }
        self.check_mix(&mut faults);
        self.check_misses(&mut faults);
        if self.pipelined_max > 1 {
            let under_way = self.under_way_bytes();
            if under_way > UNDER_WAY_BYTES_MAX {
                let why = format!(
                    "puts up to {under_way} bytes under way on a connection, more than \
                     {UNDER_WAY_BYTES_MAX}: ask for fewer at a time, or for less"
                );
                faults.add("/pipelined_max", why);
            }
        }
        faults.0
    }

    fn check_mix(&self, faults: &mut Faults) {
        let Mix { get_percent, multi_get_percent, multi_get_keys, set_percent, delete_percent } =
            self.mix;
        let shares = [get_percent, multi_get_percent, set_percent, delete_percent];
        let sum: u64 = shares.into_iter().map(u64::from).sum();
        if sum != 100 {
            faults.add("/mix", format!("the shares must add up to 100, are {sum}"));
        }
        if multi_get_percent > 0 {
            let most = self.keys.min(MULTI_GET_KEYS_MAX);
            faults.range("/mix/multi_get_keys", multi_get_keys, 1, most);
        }
    }

    fn check_misses(&self, faults: &mut Faults) {
        if self.misses == Misses::Expected {
            return;
        }
        if self.preload == Preload::Nothing {
            faults.add("/misses", "must be `expected` where nothing is preloaded".to_owned());
        } else if self.mix.delete_percent > 0 {
            faults.add("/misses", "must be `expected` where keys are deleted".to_owned());
        }
    }

    /// Most bytes of all requests that may be in flight on a connection, or of all their replies.
    fn under_way_bytes(&self) -> u64 {
        let n_keys = if self.mix.multi_get_percent > 0 { self.mix.multi_get_keys } else { 1 };
        let each = u64::from(self.key_bytes.most()) + u64::from(self.value_bytes.most());
        u64::from(self.pipelined_max) * u64::from(n_keys) * (each + ASIDE_BYTES_MAX)
    }
}

/// What is wrong, by JSON pointer.
struct Faults(Vec<(String, String)>);

impl Faults {
    fn add(&mut self, pointer: &str, message: String) {
        self.0.push((pointer.to_owned(), message));
    }

    fn range<T: PartialOrd + Display>(&mut self, pointer: &str, value: T, least: T, most: T) {
        if value < least || value > most {
            self.add(pointer, format!("must be between {least} and {most}, is {value}"));
        }
    }

    fn sizes(&mut self, pointer: &str, sizes: &Sizes, least: u32, most: u32) {
        let at = |part: &str| format!("{pointer}/{part}");
        match sizes {
            Sizes::Fixed(bytes) => self.range(&at("fixed"), *bytes, least, most),
            Sizes::Uniform { least: shortest, most: longest } => {
                self.range(&at("uniform/least"), *shortest, least, most);
                self.range(&at("uniform/most"), *longest, *shortest, most);
            }
            Sizes::Weighted(list) => {
                if list.len() > WEIGHTED_MAX {
                    self.add(&at("weighted"), format!("must be at most {WEIGHTED_MAX} lengths"));
                }
                if list.iter().all(|one| one.weight == 0) {
                    let why = "must hold a length whose weight is not 0".to_owned();
                    self.add(&at("weighted"), why);
                }
                for (idx, one) in list.iter().enumerate() {
                    self.range(&at(&format!("weighted/{idx}/bytes")), one.bytes, least, most);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Load {
        serde_json::from_str(text).unwrap()
    }

    fn pointers(load: &Load) -> Vec<String> {
        load.check().into_iter().map(|(pointer, _)| pointer).collect()
    }

    #[test]
    fn what_a_file_leaves_out_can_be_asked() {
        let load = parse(r#"{"connections": 100, "keys": 10000}"#);
        assert_eq!(load.check(), Vec::new());
        assert_eq!((load.key_bytes.most(), load.value_bytes.most()), (11, 100));
        assert_eq!(parse(&serde_json::to_string(&load).unwrap()), load);
    }

    #[test]
    fn every_impossible_value_is_pointed_at() {
        let load = parse(
            r#"{"connections": 0, "pipelined_max": 0, "keys": 10001,
                "key_bytes": {"fixed": 4}, "value_bytes": {"uniform": {"least": 7, "most": 5}},
                "popularity": {"hot_percent": 101},
                "mix": {"get_percent": 50, "multi_get_percent": 40, "multi_get_keys": 0}}"#,
        );
        let expected = [
            "/connections",
            "/pipelined_max",
            "/key_bytes/fixed",
            "/value_bytes/uniform/least",
            "/value_bytes/uniform/most",
            "/popularity/hot_percent",
            "/mix",
            "/mix/multi_get_keys",
        ];
        assert_eq!(pointers(&load), expected);
        let weightless = r#"{"connections": 1, "keys": 9,
            "key_bytes": {"weighted": [{"bytes": 251, "weight": 0}]}}"#;
        let expected = ["/key_bytes/weighted", "/key_bytes/weighted/0/bytes"];
        assert_eq!(pointers(&parse(weightless)), expected);
    }

    #[test]
    fn misses_are_wrong_only_where_all_was_written_and_stays() {
        let with = |more: &str| parse(&format!(r#"{{"connections": 1, "keys": 9, {more}}}"#));
        let nothing = with(r#""preload": "nothing""#);
        let deleting = with(r#""mix": {"get_percent": 90, "delete_percent": 10}"#);
        for load in [nothing, deleting] {
            assert_eq!(pointers(&load), ["/misses"]);
            let load = Load { misses: Misses::Expected, ..load };
            assert_eq!(load.check(), Vec::new());
        }
    }

    #[test]
    fn what_is_under_way_on_a_connection_is_bounded() {
        let with = |pipelined_max: u32, value_bytes: u32| {
            let value_bytes = Sizes::Fixed(value_bytes);
            Load { pipelined_max, value_bytes, ..parse(r#"{"connections": 1, "keys": 9}"#) }
        };
        assert_eq!(pointers(&with(1, VALUE_BYTES_MAX)), Vec::<String>::new());
        assert_eq!(pointers(&with(16, 2_900)), Vec::<String>::new());
        assert_eq!(pointers(&with(16, 3_000)), ["/pipelined_max"]);
    }
}
