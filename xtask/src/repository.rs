//! `cargo xtask repository`: signs the extension and puts it into a repository of its own, from which DuckDB installs it with
//! signatures on.
//!
//! The key is made on this machine, once, in `target/signing`, and goes nowhere; `DUCKBPF_SIGNING_KEY` names another one (RSA, 2048
//! bits, PEM). DuckDB pins the public key when a user creates the repository, so another key means that they create it again.
//!
//! What is signed, and how: DuckDB's `src/main/extension/extension_load.cpp`. The file without its last 256 bytes is cut into pieces
//! of 1 MiB; the SHA-256 of the pieces' SHA-256s is signed by RSA with PKCS #1 v1.5, and the signature is the last 256 bytes.

use crate::{extension, paths, process};
use anyhow::{Context, Result, ensure};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const PIECE: usize = 1 << 20;
const SIGNATURE: usize = 256;

#[derive(clap::Args)]
pub struct Args {}

pub fn run(_args: Args) -> Result<()> {
    let extension = extension::build()?;
    let repository = build(&extension)?;
    println!("{}: in DuckDB", repository.display());
    println!("    SET allow_extension_repositories = 'allowed';");
    println!("    CREATE EXTENSION REPOSITORY duckbpf WITH PREFIX '{}';", repository.display());
    println!("    INSTALL duckbpf FROM duckbpf;\n    LOAD duckbpf FROM duckbpf;");
    Ok(())
}

/// Signs the extension into `target/repository`.
pub fn build(extension: &Path) -> Result<PathBuf> {
    let key = signing_key()?;
    let mut bytes = fs::read(extension).with_context(|| format!("cannot read {}", extension.display()))?;
    sign(&mut bytes, &key)?;
    let repository = paths::target("repository");
    extension::replace(&repository.join(extension::place()), &bytes)?;
    // Where DuckDB looks for the keys of a repository that is created without any.
    let public = process::read(Command::new("openssl").args(["pkey", "-pubout", "-in"]).arg(&key))?;
    let keys = json!({ "signature_keys": [public] }).to_string();
    extension::replace(&repository.join(".well-known/duckdb-extension-repo.json"), keys.as_bytes())?;
    Ok(repository)
}

/// The private key's file; made where it is missing.
fn signing_key() -> Result<PathBuf> {
    if let Some(key) = std::env::var_os("DUCKBPF_SIGNING_KEY") {
        return Ok(key.into());
    }
    let key = paths::target("signing").join("private.pem");
    if key.is_file() {
        return Ok(key);
    }
    let folder = paths::target("signing");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let only_me = fs::Permissions::from_mode(0o700);
    fs::set_permissions(&folder, only_me).with_context(|| format!("cannot protect {}", folder.display()))?;
    // Under another name first: a key that was written half-way is none.
    let new = folder.join("new.pem");
    let options = ["genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out"];
    process::read(Command::new("openssl").args(options).arg(&new))?;
    fs::rename(&new, &key).with_context(|| format!("cannot write {}", key.display()))?;
    Ok(key)
}

/// Writes the signature over the file's last bytes, which are its place.
fn sign(bytes: &mut [u8], key: &Path) -> Result<()> {
    let end = bytes.len().checked_sub(SIGNATURE).context("an extension that is shorter than its signature")?;
    let folder = paths::target("signing");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let [digest, signature] = ["digest", "signature"].map(|name| folder.join(format!("{name}.{}", std::process::id())));
    fs::write(&digest, hash(&bytes[..end])).with_context(|| format!("cannot write {}", digest.display()))?;
    let mut command = Command::new("openssl");
    command.args(["pkeyutl", "-sign", "-pkeyopt", "digest:sha256", "-inkey"]).arg(key).arg("-in").arg(&digest);
    let signed = process::read(command.arg("-out").arg(&signature)).and_then(|_| Ok(fs::read(&signature)?));
    let _ = (fs::remove_file(&digest), fs::remove_file(&signature));
    let signed = signed.with_context(|| format!("cannot sign with {}", key.display()))?;
    ensure!(signed.len() == SIGNATURE, "{} is no RSA key of 2048 bits", key.display());
    bytes[end..].copy_from_slice(&signed);
    Ok(())
}

/// The hash of the pieces' hashes.
fn hash(bytes: &[u8]) -> [u8; 32] {
    let mut outer = Sha256::new();
    for piece in bytes.chunks(PIECE) {
        outer.update(Sha256::digest(piece));
    }
    outer.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_of_hashes() {
        let bytes = vec![7u8; PIECE + 1];
        let inner = [Sha256::digest(&bytes[..PIECE]), Sha256::digest(&bytes[PIECE..])].concat();
        assert_eq!(hash(&bytes), <[u8; 32]>::from(Sha256::digest(inner)));
    }
}
