//! The file set: which files there are, where each stands, and what is in it.
//!
//! As in SPECweb99: directories alike, in each nine files of each of four size classes, from a tenth
//! of a KiB to 900 KiB. A file is named by a [`FileId`], and only by that: a client's path is read
//! into one or it names nothing, so no text of a client's ever becomes part of a path.

use std::fmt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use super::pattern::Pattern;

/// Size classes of a directory.
pub const CLASSES: u8 = 4;
/// Files of each class, numbered from 1.
pub const FILES_PER_CLASS: u8 = 9;
/// What every target of a file begins with.
const ROOT: &str = "/file/";
/// Digits of a directory's number.
const DIRECTORY_DIGITS: usize = 5;
/// Bytes of the largest file of a class are this, divided by ten, times nine.
const CLASS_BYTES: [usize; CLASSES as usize] = [1_024, 10_240, 102_400, 1_024_000];
/// Tells the bytes of files from others of the same seed.
const KIND: u64 = 1;

/// Names a file of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId {
    directory: u32,
    class: u8,
    file: u8,
}

impl FileId {
    /// The file of the front page: 1 KiB.
    pub const FRONT: Self = Self { directory: 0, class: 1, file: 1 };

    /// Names a file; `None` if no set has one of that name.
    #[must_use]
    pub fn new(directory: u32, class: u8, file: u8) -> Option<Self> {
        let fits = directory < super::config::DIRECTORIES_MAX
            && class < CLASSES
            && (1..=FILES_PER_CLASS).contains(&file);
        fits.then_some(Self { directory, class, file })
    }

    /// Reads the target of a request, such as `/file/dir00003/class2_4`. There is one spelling.
    #[must_use]
    pub fn parse(target: &str) -> Option<Self> {
        let (directory, name) = target.strip_prefix(ROOT)?.split_once('/')?;
        let directory = directory.strip_prefix("dir")?;
        if directory.len() != DIRECTORY_DIGITS || !directory.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let (class, file) = name.strip_prefix("class")?.split_once('_')?;
        Self::new(directory.parse().ok()?, digit(class)?, digit(file)?)
    }

    /// Its directory, numbered from 0.
    #[must_use]
    pub const fn directory(self) -> u32 {
        self.directory
    }

    /// Its length.
    #[must_use]
    pub fn n_bytes(self) -> usize {
        CLASS_BYTES[usize::from(self.class)] * usize::from(self.file) / 10
    }

    /// Its bytes in a run with this seed.
    #[must_use]
    pub fn content(self, seed: u64) -> Pattern {
        let in_directory = u64::from(self.class) << 8 | u64::from(self.file);
        Pattern::new(seed, KIND, u64::from(self.directory) << 16 | in_directory)
    }

    /// Its place in a directory that holds a set.
    pub(super) fn path_in(self, root: &Path) -> PathBuf {
        let Self { directory, class, file } = self;
        root.join(format!("dir{directory:05}")).join(format!("class{class}_{file}"))
    }
}

/// The target by which it is asked.
impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { directory, class, file } = self;
        write!(f, "{ROOT}dir{directory:05}/class{class}_{file}")
    }
}

/// The value of a single digit.
fn digit(text: &str) -> Option<u8> {
    match text.as_bytes() {
        [digit] if digit.is_ascii_digit() => Some(digit - b'0'),
        _ => None,
    }
}

/// The names of all files of a set, directory by directory.
pub fn all(directories: u32) -> impl Iterator<Item = FileId> {
    let of_class = move |directory, class| {
        (1..=FILES_PER_CLASS).filter_map(move |file| FileId::new(directory, class, file))
    };
    let of_directory =
        move |directory| (0..CLASSES).flat_map(move |class| of_class(directory, class));
    (0..directories).flat_map(of_directory)
}

/// Writes all files of a set. Blocks.
///
/// # Errors
///
/// The system's error.
pub fn write_all(root: &Path, directories: u32, seed: u64) -> io::Result<()> {
    for id in all(directories) {
        let path = id.path_in(root);
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        fs::write(path, id.content(seed).bytes(id.n_bytes()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_four_classes() {
        let sizes = |class| {
            (1..=FILES_PER_CLASS).map(move |file| FileId::new(0, class, file).unwrap().n_bytes())
        };
        assert_eq!(sizes(0).collect::<Vec<_>>(), [102, 204, 307, 409, 512, 614, 716, 819, 921]);
        assert!(sizes(1).eq((1..=9).map(|k| k * 1_024)));
        assert!(sizes(2).eq((1..=9).map(|k| k * 10_240)));
        assert!(sizes(3).eq((1..=9).map(|k| k * 102_400)));
        assert_eq!(FileId::FRONT.n_bytes(), 1_024);
    }

    #[test]
    fn every_name_is_read_back_and_stands_for_one_file() {
        let names: std::collections::BTreeSet<String> = all(20).map(|id| id.to_string()).collect();
        assert_eq!(names.len(), 20 * 36);
        for id in all(20) {
            assert_eq!(FileId::parse(&id.to_string()), Some(id));
        }
    }

    #[test]
    fn what_is_not_exactly_a_name_names_nothing() {
        for target in [
            "",
            "/",
            "/file",
            "/file/",
            "/file/dir00000",
            "/file/dir00000/",
            "/file/dir00000/class0_0",
            "/file/dir00000/class4_1",
            "/file/dir00000/class1_10",
            "/file/dir00000/class1_1/",
            "/file/dir00000/class1_1/../class1_1",
            "/file/dir00000/../dir00000/class1_1",
            "/file/../file/dir00000/class1_1",
            "//file/dir00000/class1_1",
            "/file//dir00000/class1_1",
            "/file/dir00000/class1_1\0",
            "/file/dir00000/class1_1%00",
            "/file/dir0000%30/class1_1",
            "/file/%2e%2e/dir00000/class1_1",
            "/file%2fdir00000/class1_1",
            "/file/dir00000%2fclass1_1",
            "/file/dir0000/class1_1",
            "/file/dir000000/class1_1",
            "/file/dir+0001/class1_1",
            "/file/dir01000/class1_1",
            "/file/dir99999/class1_1",
            "/FILE/dir00000/class1_1",
            "/file/dir00000/class1_+",
            "/file/dir٠٠٠٠٠/class1_1",
            "/etc/passwd",
            "/file/../../../etc/passwd",
        ] {
            assert_eq!(FileId::parse(target), None, "{target}");
        }
    }

    #[test]
    fn what_is_written_is_what_the_content_says() {
        let root = tempfile::tempdir().unwrap();
        write_all(root.path(), 1, 7).unwrap();
        for id in all(1) {
            let bytes = fs::read(id.path_in(root.path())).unwrap();
            assert_eq!(bytes.len(), id.n_bytes(), "{id}");
            assert!(id.content(7).is_at(0, &bytes) && !id.content(8).is_at(0, &bytes), "{id}");
        }
    }
}
