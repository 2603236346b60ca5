//! A host made of a few files, for tests.

use std::fs;
use std::path::PathBuf;

use super::HostFiles;

/// A root folder that is removed when it is dropped.
pub(crate) struct FakeHost(PathBuf);

impl FakeHost {
    pub(crate) fn new(name: &str, files: &[(&str, &str)]) -> Self {
        let root =
            std::env::temp_dir().join(format!("bench-harness-host-{name}-{}", std::process::id()));
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Self(root)
    }

    pub(crate) fn files(&self) -> HostFiles {
        HostFiles::at(&self.0)
    }
}

impl Drop for FakeHost {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}
