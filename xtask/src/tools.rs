//! What a task needs from the machine: found, or installed, or named in an
//! error together with the one command that installs it.

use std::env;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::workspace::{heading, output, program, run, shell_quoted};

/// The compilation targets of the components and of the browser module.
pub const WASI: &str = "wasm32-wasip2";
pub const BROWSER: &str = "wasm32-unknown-unknown";

pub fn rustc() -> PathBuf {
    env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()).into()
}

pub fn sysroot() -> Result<PathBuf> {
    let sysroot = output(program(rustc()).args(["--print", "sysroot"]))?;
    Ok(sysroot.into())
}

/// Installs the standard library for the targets that have none.
pub fn need_wasm_targets() -> Result<()> {
    let installed = sysroot()?.join("lib/rustlib");
    let missing: Vec<&str> = [WASI, BROWSER]
        .into_iter()
        .filter(|target| !installed.join(target).join("lib").is_dir())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let line = format!("rustup target add {}", missing.join(" "));
    let Some(rustup) = find("rustup") else {
        bail!(
            "this Rust toolchain has no {} target and there is no rustup; install Rust from https://rustup.rs, then: {line}",
            missing.join(" and no ")
        );
    };
    heading(&format!("installing the {} target", missing.join(" and ")));
    run(program(rustup).args(["target", "add"]).args(&missing))
        .with_context(|| format!("the wasm targets are missing; install them with: {line}"))
}

/// Chromium's path, from the environment variable `CHROMIUM` if it is set.
pub fn need_chromium() -> Result<PathBuf> {
    if let Some(path) = env::var_os("CHROMIUM").map(PathBuf::from) {
        if !path.is_file() {
            bail!("CHROMIUM={} is not a file", path.display());
        }
        return Ok(path);
    }
    need(
        &["chromium", "chromium-browser", "google-chrome"],
        &["chromium", "fonts-liberation"],
        "or set CHROMIUM to the path of one",
    )
}

pub fn need_node() -> Result<PathBuf> {
    need(&["node"], &["nodejs"], "or from https://nodejs.org")
}

pub fn need_npm() -> Result<PathBuf> {
    need(&["npm"], &["npm"], "or Node.js from https://nodejs.org, which has it")
}

/// The server that replicas share their state by; tests start it themselves.
pub fn need_redis_server() -> Result<PathBuf> {
    need(
        &["redis-server", "valkey-server"],
        &["redis-server"],
        "or Valkey's server",
    )
}

/// What checks and tests rules of Prometheus.
pub fn need_promtool() -> Result<PathBuf> {
    need(&["promtool"], &["prometheus"], "or from https://prometheus.io/download")
}

/// The first of `programs` that is on the path; failing that, apt's `packages`
/// are installed if this user may.
fn need(programs: &[&str], packages: &[&str], otherwise: &str) -> Result<PathBuf> {
    let found = || programs.iter().find_map(|program| find(program));
    if let Some(path) = found() {
        return Ok(path);
    }
    let name = programs[0];
    let line = format!("apt-get install -y {}", packages.join(" "));
    let Some(apt) = find("apt-get").filter(|_| is_root()) else {
        bail!("{name} is not installed; install it with: sudo {line} ({otherwise})");
    };
    heading(&format!("installing {name}"));
    let apt = |args: &[&str]| {
        run(program(&apt)
            .args(["-qq", "-o", "Dpkg::Use-Pty=0"])
            .args(args)
            .env("DEBIAN_FRONTEND", "noninteractive"))
    };
    apt(&["update"])
        .and_then(|()| apt(&[&["install", "-y", "--no-install-recommends"], packages].concat()))
        .with_context(|| format!("{name} is not installed, and installing it failed ({otherwise})"))?;
    found().with_context(|| format!("`{line}` installed no {name} on the path"))
}

/// Where a program is on the path.
fn find(program: &str) -> Option<PathBuf> {
    let file = format!("{program}{}", env::consts::EXE_SUFFIX);
    env::split_paths(&env::var_os("PATH")?)
        .map(|folder| folder.join(&file))
        .find(|path| is_executable(path))
}

#[cfg(unix)]
fn is_executable(path: &std::path::Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_executable(path: &std::path::Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file())
}

fn is_root() -> bool {
    find("id").is_some_and(|id| output(program(id).arg("-u")).is_ok_and(|user| user == "0"))
}

/// Installs the packages that a folder's package-lock.json names, unless that
/// has been done since it was last written. A folder without one needs none.
pub fn need_node_modules(folder: &str) -> Result<()> {
    let folder = crate::workspace::root().join(folder);
    let modified = |file: &str| fs::metadata(folder.join(file)).and_then(|meta| meta.modified()).ok();
    let Some(wanted) = modified("package-lock.json") else {
        return Ok(());
    };
    if modified("node_modules/.package-lock.json").is_some_and(|installed| installed >= wanted) {
        return Ok(());
    }
    run(program(need_npm()?)
        .current_dir(&folder)
        .args(["ci", "--no-audit", "--no-fund"]))
    .with_context(|| format!("in {}", shell_quoted(&folder.to_string_lossy())))
}
