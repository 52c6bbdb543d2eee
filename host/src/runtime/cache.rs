//! Compiled code on disk, so that only the first start compiles.
//!
//! Compiled code runs with the host's rights, so a file is only believed when
//! this user alone can have written it and its bytes are the ones that were
//! written: each file ends with the SHA-256 of what is before it.

use crate::folders;
use sha2::{Digest, Sha256};
use std::fs::{self, File, Metadata};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use wasmtime::{Engine, Module};

const DIGEST_BYTES: usize = 32;
const EXTENSION: &str = "cwasm";
/// How many files are kept; the oldest go first.
const FILES_MAX: usize = 64;

/// A private directory of compiled modules.
#[derive(Clone, Debug)]
pub(super) struct CodeCache {
    directory: PathBuf,
}

/// The directory that the environment names: `$MODELET_CACHE`, else `modelet`
/// in `$XDG_CACHE_HOME`, else in `~/.cache`.
pub(super) fn default_directory() -> Option<PathBuf> {
    folders::variable("MODELET_CACHE").or_else(|| folders::of_user("XDG_CACHE_HOME", ".cache"))
}

impl CodeCache {
    /// Opens the directory, which is made if it is not there.
    pub(super) fn open(directory: PathBuf) -> io::Result<CodeCache> {
        create_private(&directory)?;
        if !ours(&fs::metadata(&directory)?) {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "the directory belongs to another user, or others may write to it",
            ));
        }
        Ok(CodeCache { directory })
    }

    /// Where the code of a component's module lies, compiled by this engine.
    pub(super) fn file(&self, engine: &Engine, component_sha256: &str) -> PathBuf {
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        self.directory
            .join(format!("{component_sha256}-{:016x}.{EXTENSION}", hasher.finish()))
    }

    /// The module in this file; `None` where there is none to be believed.
    pub(super) fn load(&self, engine: &Engine, file: &Path) -> Option<Module> {
        match intact(file) {
            Ok(true) => {}
            Ok(false) => {
                tracing::warn!(file = %file.display(), "cached code is damaged or not ours: compiling again");
                return None;
            }
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(file = %file.display(), %error, "cached code can't be read: compiling again");
                }
                return None;
            }
        }
        // SAFETY: the bytes are what `store` wrote, by their hash, into a file
        // and a directory that only this user can write to.
        match unsafe { Module::deserialize_file(engine, file) } {
            Ok(module) => Some(module),
            Err(error) => {
                tracing::warn!(file = %file.display(), %error, "cached code does not fit: compiling again");
                None
            }
        }
    }

    /// Writes the code of a module; readers see all of it or nothing.
    pub(super) fn store(&self, file: &Path, code: &[u8]) -> io::Result<()> {
        let mut temporary = tempfile::Builder::new()
            .prefix(".writing-")
            .tempfile_in(&self.directory)?;
        temporary.write_all(code)?;
        temporary.write_all(&Sha256::digest(code))?;
        temporary.persist(file)?;
        self.prune();
        Ok(())
    }

    fn prune(&self) {
        let Ok(entries) = fs::read_dir(&self.directory) else {
            return;
        };
        let mut files: Vec<(SystemTime, PathBuf)> = entries
            .filter_map(Result::ok)
            .filter(|entry| entry.path().extension().is_some_and(|e| e == EXTENSION))
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        files.sort();
        let surplus = files.len().saturating_sub(FILES_MAX);
        for (_, file) in &files[..surplus] {
            // Another process may have removed it.
            let _ = fs::remove_file(file);
        }
    }
}

/// Whether a file is ours and ends with the hash of what is before it.
fn intact(path: &Path) -> io::Result<bool> {
    let mut file = File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || !ours(&metadata) || metadata.len() < DIGEST_BYTES as u64 {
        return Ok(false);
    }
    let mut hasher = Sha256::new();
    let mut remaining = metadata.len() - DIGEST_BYTES as u64;
    let mut buffer = vec![0; 1 << 18];
    while remaining > 0 {
        let part = remaining.min(buffer.len() as u64) as usize;
        file.read_exact(&mut buffer[..part])?;
        hasher.update(&buffer[..part]);
        remaining -= part as u64;
    }
    let mut digest = [0; DIGEST_BYTES];
    file.read_exact(&mut digest)?;
    Ok(hasher.finalize()[..] == digest)
}

/// Whether it belongs to this user and nobody else may write to it.
#[cfg(unix)]
fn ours(metadata: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    metadata.uid() == rustix::process::geteuid().as_raw() && metadata.mode() & 0o022 == 0
}

#[cfg(not(unix))]
fn ours(_: &Metadata) -> bool {
    true
}

fn create_private(directory: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_or_shared_file_is_not_believed() {
        let directory = tempfile::tempdir().unwrap();
        let cache = CodeCache::open(directory.path().join("a/b")).unwrap();
        let file = cache.directory.join("x.cwasm");
        cache.store(&file, b"code").unwrap();
        assert!(intact(&file).unwrap());

        let mut bytes = fs::read(&file).unwrap();
        bytes[1] ^= 1;
        fs::write(&file, &bytes).unwrap();
        assert!(!intact(&file).unwrap());
        fs::write(&file, b"short").unwrap();
        assert!(!intact(&file).unwrap());

        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            cache.store(&file, b"code").unwrap();
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
            assert_eq!(
                fs::metadata(&cache.directory).unwrap().permissions().mode() & 0o777,
                0o700
            );
            fs::set_permissions(&file, fs::Permissions::from_mode(0o660)).unwrap();
            assert!(!intact(&file).unwrap());
            fs::set_permissions(&cache.directory, fs::Permissions::from_mode(0o777)).unwrap();
            assert!(CodeCache::open(cache.directory.clone()).is_err());
        }
    }

    #[test]
    fn old_files_make_room() {
        let directory = tempfile::tempdir().unwrap();
        let cache = CodeCache::open(directory.path().join("c")).unwrap();
        for i in 0..FILES_MAX + 3 {
            cache
                .store(&cache.directory.join(format!("{i:03}.cwasm")), b"code")
                .unwrap();
        }
        assert_eq!(fs::read_dir(&cache.directory).unwrap().count(), FILES_MAX);
        assert!(cache.directory.join(format!("{:03}.cwasm", FILES_MAX + 2)).exists());
    }
}
