//! What the clients ask: a class by its share, and within it a page.
//!
//! The row of asks follows from the seed alone. In an open loop the n-th request is therefore always
//! the same; in a closed one the clients draw from the same row in the order in which they come, so
//! that a run asks for the same pages as the one before, whoever asks. Files are asked as in
//! SPECweb99: size classes by fixed shares, files of a class alike, directories by a Zipf law.

use forebay_workloads::staged::Pattern;
use forebay_workloads::staged::config::{Class, Config, Dynamic, Files, Page};
use forebay_workloads::staged::files::{FILES_PER_CLASS, FileId};
use forebay_workloads::staged::page::{Level, PageId, n_bytes};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rand_distr::{Distribution, Zipf};

/// Share of each size class among requests for files, in percent (SPECweb99).
const SIZE_CLASS_PERCENT: [u64; 4] = [35, 50, 14, 1];
/// The stream of the seed that asks are drawn from: arrivals take the first ones.
const STREAM: u64 = 1 << 32;

/// Draws what is asked next.
#[derive(Debug)]
pub(super) struct Mix {
    rng: ChaCha8Rng,
    classes: Vec<Class>,
    directories: Zipf<f64>,
    n_pages: u64,
}

/// One request, before it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ask {
    /// Its class, by its place in the file.
    pub(super) class_idx: usize,
    pub(super) page: Asked,
}

/// Which page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Front,
    File(FileId),
    Dynamic(PageId),
}

impl Mix {
    pub(super) fn new(config: &Config, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(STREAM);
        let Files { directories, zipf_percent } = config.files;
        let law = Zipf::new(f64::from(directories), f64::from(zipf_percent) / 100.0);
        let directories = law.expect("the file's check bounds directories and their law");
        Self { rng, classes: config.classes.clone(), directories, n_pages: 0 }
    }

    pub(super) fn draw(&mut self) -> Ask {
        let shares = self.classes.iter().map(|class| u64::from(class.share_percent));
        let class_idx = pick(shares, self.rng.next_u64());
        let page = match self.classes[class_idx].page {
            Page::Front => Asked::Front,
            Page::File => Asked::File(self.draw_file()),
            // Each page is asked once, so that a reply to another request is found.
            Page::Dynamic => {
                self.n_pages += 1;
                Asked::Dynamic(PageId(self.n_pages))
            }
        };
        Ask { class_idx, page }
    }

    fn draw_file(&mut self) -> FileId {
        let class = pick(SIZE_CLASS_PERCENT.into_iter(), self.rng.next_u64());
        let class = u8::try_from(class).expect("there are four size classes");
        let below = self.rng.next_u64() % u64::from(FILES_PER_CLASS);
        let file = 1 + u8::try_from(below).expect("fewer than ten files are of a class");
        let rank = self.directories.sample(&mut self.rng);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rank is a whole number from 1 to the number of directories"
        )]
        let directory = rank as u32 - 1;
        FileId::new(directory, class, file).expect("the set has every class and file")
    }
}

/// Which of several shares, in percent, a random number falls on.
fn pick(shares: impl Iterator<Item = u64>, random: u64) -> usize {
    let mut left = random % 100;
    for (idx, share) in shares.enumerate() {
        if left < share {
            return idx;
        }
        left -= share;
    }
    unreachable!("the file's check has shares add up to 100")
}

impl Ask {
    /// Appends the request.
    pub(super) fn put(&self, class: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(b"GET ");
        self.page.put_target(out);
        out.extend_from_slice(b" HTTP/1.1\r\nhost: staged\r\nx-class: ");
        out.extend_from_slice(class.as_bytes());
        out.extend_from_slice(b"\r\n\r\n");
    }
}

impl Asked {
    fn put_target(self, out: &mut Vec<u8>) {
        match self {
            Self::Front => out.extend_from_slice(b"/front"),
            Self::File(id) => out.extend_from_slice(id.to_string().as_bytes()),
            Self::Dynamic(id) => out.extend_from_slice(id.to_string().as_bytes()),
        }
    }
}

/// What every page must hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bodies {
    pub(super) dynamic: Dynamic,
    pub(super) seed: u64,
}

/// A body that is right.
#[derive(Debug, Clone, Copy)]
pub(super) struct Body {
    pub(super) content: Pattern,
    pub(super) n_bytes: usize,
}

impl Bodies {
    /// The body of a page at a level of degradation. A file has one content: a stale copy of it is
    /// no other.
    pub(super) fn of(&self, page: Asked, level: Level) -> Body {
        let of_file = |id: FileId| Body { content: id.content(self.seed), n_bytes: id.n_bytes() };
        match page {
            Asked::Front => of_file(FileId::FRONT),
            Asked::File(id) => of_file(id),
            Asked::Dynamic(id) => {
                let n_bytes = n_bytes(&self.dynamic, level);
                Body { content: id.content(self.seed), n_bytes }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(classes: &str) -> Config {
        let text = format!(
            r#"{{"files": {{"directories": 8}}, "classes": {classes}, "clients": {{"connections": 1}}}}"#
        );
        let config: Config = serde_json::from_str(&text).unwrap();
        assert_eq!(config.check(), []);
        config
    }

    #[test]
    fn classes_and_sizes_come_by_their_shares_and_directories_by_their_law() {
        const ASKS: u32 = 40_000;
        let config = config(
            r#"[{"name": "a", "page": "file", "share_percent": 75},
                {"name": "b", "page": "dynamic", "share_percent": 25}]"#,
        );
        let mut mix = Mix::new(&config, 7);
        let (mut n_files, mut of_size, mut of_directory) = (0_u32, [0_u32; 4], [0_u32; 8]);
        for _ in 0..ASKS {
            if let Asked::File(id) = mix.draw().page {
                n_files += 1;
                // From the size of a file alone: classes are ten times apart.
                of_size[[1_024, 10_240, 102_400].iter().filter(|b| id.n_bytes() >= **b).count()] +=
                    1;
                of_directory[id.directory() as usize] += 1;
            }
        }
        let share = |n: u32, of: u32| f64::from(n) * 100.0 / f64::from(of);
        assert!((share(n_files, ASKS) - 75.0).abs() < 1.0, "{n_files} files");
        for (n, percent) in of_size.into_iter().zip([35.0, 50.0, 14.0, 1.0]) {
            assert!((share(n, n_files) - percent).abs() < 1.5, "{of_size:?}");
        }
        // By Zipf's law with exponent 1 the second is asked half as often as the first.
        let ratio = f64::from(of_directory[0]) / f64::from(of_directory[1]);
        assert!((1.8..2.2).contains(&ratio), "{of_directory:?}");
    }

    #[test]
    fn the_same_seed_asks_the_same_and_no_dynamic_page_twice() {
        let config = config(r#"[{"name": "a", "page": "dynamic", "share_percent": 100}]"#);
        let row = |seed| {
            let mut mix = Mix::new(&config, seed);
            (0..50).map(|_| mix.draw()).collect::<Vec<_>>()
        };
        assert_eq!(row(1), row(1));
        let pages: std::collections::BTreeSet<String> =
            row(1).iter().map(|ask| format!("{:?}", ask.page)).collect();
        assert_eq!(pages.len(), 50);
    }

    #[test]
    fn a_request_says_what_and_for_whom() {
        let mut out = Vec::new();
        let file = FileId::new(3, 2, 4).unwrap();
        Ask { class_idx: 0, page: Asked::File(file) }.put("gold", &mut out);
        let text = String::from_utf8(out).unwrap();
        let expected =
            "GET /file/dir00003/class2_4 HTTP/1.1\r\nhost: staged\r\nx-class: gold\r\n\r\n";
        assert_eq!(text, expected);
    }
}
