//! Builds the engine: all of DuckDB with the series in it (hooked), and its twin without (stock).
//!
//! Both are linked from the same objects but for those that the series concerns. DuckDB's own build lumps files together
//! (unity files, `ub_*.cpp`); where a series' unit is in a lump, the lump is compiled without it, once for both engines, and
//! the unit alone, once for each. So a change to a patch compiles one file, and the two engines differ in nothing else.
//! Objects of series' units are the graft's.
//!
//! # What is left behind
//! A build may be killed at any time. Objects count by their records (see [`crate::compile`]), libraries by `manifest.json`,
//! which goes before anything is linked and comes back last. [`Engine::find`] is how others get at an engine: it takes
//! nothing that does not agree with its manifest, and with this checkout.

use crate::compile::{Compiler, Toolchain, Unit};
use crate::icu::{self, Icu};
use crate::link::run;
use crate::{Layout, Prepared, lock, object_name, read, series, sha256, units, write, write_if_different};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// The DuckDB that the sources are of.
const DUCKDB: &str = "v2.0.0";
const SOURCE_ID: &str = "d54cbbe3df";
/// The unit that knows which extensions are linked in.
const EXTENSION_LOADER: &str = "duckdb/generated_extension_loader_package_build.cpp";
/// The shim's own functions are nobody's business; its C entry, duckdb_hookpoints_v1, is.
const EXPORTS: &str = "{ global: *; local: *duckbpf*; };\n";
/// What to do about an engine that can't be used.
fn advice(toolchain: Toolchain) -> String {
    let option = match toolchain {
        Toolchain::Clang => "",
        Toolchain::Gcc => " --compiler gcc",
    };
    format!("`cargo xtask engine{option}` builds it: 20 to 45 minutes on two cores from nothing, a few after a change")
}

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// As it came.
    Stock,
    /// With the hooks.
    Hooked,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Stock => "stock",
            Kind::Hooked => "hooked",
        }
    }
}

/// What was built; `target/engine/manifest.json`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Manifest {
    pub duckdb_version: String,
    pub source_id: String,
    pub compiler: String,
    pub flags: Vec<String>,
    /// As `duckbpf_host.series` says it.
    pub series: String,
    /// SHA-256 over hook-shim's files.
    pub shim: String,
    /// Extensions that are linked in.
    pub extensions: Vec<String>,
    /// Objects that both engines are linked from.
    pub shared_objects: usize,
    /// Objects that are not the same in both, and those that only the hooked one has.
    pub different_objects: Vec<String>,
    pub stock: Library,
    pub hooked: Library,
    /// SHA-256 of what went into the linker.
    linked: String,
}

/// A libduckdb.so.
#[derive(Debug, Serialize, Deserialize)]
pub struct Library {
    /// Bytes, as it is installed.
    pub stripped: u64,
    /// With line tables and all symbols: `libduckdb.so.debug`.
    pub unstripped: u64,
    pub sha256: String,
}

/// An engine that agrees with its manifest and with this checkout.
pub struct Engine {
    folder: PathBuf,
    pub manifest: Manifest,
}

impl Engine {
    /// The engine that was built last. The error says what is wrong with it, and what to do.
    pub fn find(layout: &Layout, toolchain: Toolchain) -> Result<Self> {
        let folder = folder(layout, toolchain);
        let checked = read_manifest(&folder).and_then(|manifest| {
            check_checkout(&manifest, layout)?;
            [Kind::Stock, Kind::Hooked].into_iter().try_for_each(|kind| check_library(&manifest, &folder, kind))?;
            Ok(manifest)
        });
        let manifest = checked
            .with_context(|| format!("there is no usable engine in {}; {}", folder.display(), advice(toolchain)))?;
        Ok(Self { folder, manifest })
    }

    /// `libduckdb.so`.
    pub fn library(&self, kind: Kind) -> PathBuf {
        self.lib(kind).join("libduckdb.so")
    }

    /// The folder that holds it, and `pkgconfig/`.
    pub fn lib(&self, kind: Kind) -> PathBuf {
        self.folder.join(kind.name()).join("lib")
    }
}

fn folder(layout: &Layout, toolchain: Toolchain) -> PathBuf {
    match toolchain {
        Toolchain::Clang => layout.engine.clone(),
        Toolchain::Gcc => layout.engine.with_extension("gcc"),
    }
}

fn read_manifest(folder: &Path) -> Result<Manifest> {
    let path = folder.join("manifest.json");
    if !path.exists() {
        bail!("it was not built, or a build was interrupted: {} is missing", path.display());
    }
    serde_json::from_slice(&read(&path)?).with_context(|| format!("{} is damaged", path.display()))
}

fn check_checkout(manifest: &Manifest, layout: &Layout) -> Result<()> {
    if (manifest.duckdb_version.as_str(), manifest.source_id.as_str()) != (DUCKDB, SOURCE_ID) {
        let (version, id) = (&manifest.duckdb_version, &manifest.source_id);
        bail!("it is of DuckDB {version} (commit {id}), this checkout of {DUCKDB} (commit {SOURCE_ID})");
    }
    let series = series::Series::read(&layout.patches())?.hash;
    if manifest.series != series {
        bail!("it is of other patches than this checkout: series {}, not {series}", manifest.series);
    }
    if manifest.shim != shim_hash(layout)? {
        bail!("it is of another hook-shim than this checkout");
    }
    Ok(())
}

fn check_library(manifest: &Manifest, folder: &Path, kind: Kind) -> Result<()> {
    let library = match kind {
        Kind::Stock => &manifest.stock,
        Kind::Hooked => &manifest.hooked,
    };
    let path = folder.join(kind.name()).join("lib/libduckdb.so");
    if sha256(&read(&path)?) != library.sha256 {
        bail!("{} is not what its manifest describes", path.display());
    }
    Ok(())
}

fn shim_hash(layout: &Layout) -> Result<String> {
    let mut files = units::files(&layout.shim(), &["cpp", "hpp", "h"])?;
    files.sort();
    let text =
        files.iter().map(|file| Ok(format!("{} {}\n", file.display(), sha256(&read(&layout.shim().join(file))?))));
    Ok(sha256(text.collect::<Result<String>>()?.as_bytes()))
}

/// Builds both engines, with DuckDB's ICU extension in them where it is given. Nothing that is up to date is built again.
pub fn build(layout: &Layout, toolchain: Toolchain, icu: Option<&Icu>) -> Result<Manifest> {
    let _only_one = lock(&folder(layout, toolchain))?;
    let compiler = Compiler::find(layout, toolchain)?;
    let started = Instant::now();
    // What both engines share takes the time. It depends on no patch's contents, so graft builds need not wait for it.
    let before = {
        let _sources = lock(&layout.work)?;
        Prepared::new(layout)?
    };
    compiler.compile(&shared_units(layout, &before, icu)?)?;
    eprintln!("what both engines share is there after {:.0} s", started.elapsed().as_secs_f64());

    let _sources = lock(&layout.work)?;
    let prepared = Prepared::new(layout)?;
    if prepared.units != before.units {
        bail!("the patches changed while the engine was built, and concern other files now; run the command again");
    }
    let objects = Objects::compile(layout, &compiler, &prepared, icu)?;
    finish(layout, toolchain, &compiler, &prepared, &objects)
}

/// The units that no patch concerns, lumped together as DuckDB's build does.
fn shared_units(layout: &Layout, prepared: &Prepared, icu: Option<&Icu>) -> Result<Vec<Unit>> {
    let pristine = &prepared.trees.pristine;
    let tree = units::Tree::read(&layout.root, pristine)?;
    let mut shared = Vec::new();
    for path in units::all_sources(pristine)?.difference(&prepared.units) {
        let name = format!("shared/{}", object_name(path));
        if path == Path::new(EXTENSION_LOADER) {
            let loader = Unit::of_tree(&tree, &extension_loader(layout, pristine, icu)?, &name);
            let linked = linked_extensions(pristine, icu)?;
            shared.push(linked.iter().fold(loader, |unit, extension| {
                unit.with(format!("-DDUCKDB_EXTENSION_{}_LINKED=1", extension.to_uppercase()))
            }));
        } else if let Some(source) = without(layout, prepared, &tree, path)? {
            shared.push(Unit::of_tree(&tree, &source, &name));
        }
    }
    shared.extend(icu.iter().flat_map(|icu| icu.units(&tree)));
    Ok(shared)
}

fn linked_extensions(pristine: &Path, icu: Option<&Icu>) -> Result<Vec<String>> {
    let mut linked = units::extensions(pristine)?;
    linked.extend(icu.map(|_| "icu".to_owned()));
    linked.sort();
    Ok(linked)
}

/// The unit that knows which extensions are linked in: DuckDB's own, or one that knows ICU too.
fn extension_loader(layout: &Layout, pristine: &Path, icu: Option<&Icu>) -> Result<PathBuf> {
    let own = pristine.join(EXTENSION_LOADER);
    if icu.is_none() {
        return Ok(layout.below(own));
    }
    instead_of(layout, &own, &icu::loader(&String::from_utf8_lossy(&read(&own)?))?)
}

/// A source file, or, in place of a unity file that holds units of the series, one that does not. None if nothing is left.
fn without(layout: &Layout, prepared: &Prepared, tree: &units::Tree, path: &Path) -> Result<Option<PathBuf>> {
    let text = String::from_utf8_lossy(&read(&prepared.trees.pristine.join(path))?).into_owned();
    let Some(rest) = rest_of_unity(&text, &prepared.units) else { return Ok(Some(tree.file(path))) };
    if rest.is_empty() {
        return Ok(None);
    }
    instead_of(layout, path, &rest).map(Some)
}

/// A file with this text that is compiled in place of one of DuckDB's.
fn instead_of(layout: &Layout, path: &Path, text: &str) -> Result<PathBuf> {
    let file = layout.work.join("unity").join(path.file_name().unwrap_or_default());
    write_if_different(&file, text.as_bytes())?;
    Ok(layout.below(file))
}

/// A unity file without the units of the series. None if it has none of them.
fn rest_of_unity(text: &str, series: &BTreeSet<PathBuf>) -> Option<String> {
    let members = units::unity_members(text);
    let rest = members.iter().filter(|member| !series.contains(*member));
    if rest.clone().count() == members.len() {
        return None;
    }
    let below = rest.filter_map(|member| member.strip_prefix("duckdb").ok());
    Some(below.map(|member| format!("#include \"{}\"\n", member.display())).collect())
}

/// Objects in the order of linking, which is the same for both engines.
struct Objects {
    shared: Vec<PathBuf>,
    /// Names and objects of the series' units.
    stock: Vec<PathBuf>,
    hooked: Vec<PathBuf>,
    names: Vec<String>,
    shim: Vec<PathBuf>,
    shim_names: Vec<String>,
    /// That are among the shared ones.
    extensions: Vec<String>,
}

impl Objects {
    fn compile(layout: &Layout, compiler: &Compiler, prepared: &Prepared, icu: Option<&Icu>) -> Result<Self> {
        let pristine = units::Tree::read(&layout.root, &prepared.trees.pristine)?;
        let patched = units::Tree::read(&layout.root, &prepared.trees.hooked)?;
        // A unit that the series adds is in the hooked engine only.
        let stock = prepared.units.iter().filter(|unit| prepared.trees.pristine.join(unit).is_file());
        let stock: Vec<Unit> = stock
            .map(|path| Unit::of_tree(&pristine, &pristine.file(path), &format!("stock/{}", object_name(path))))
            .collect();
        let parts = [
            shared_units(layout, prepared, icu)?,
            stock,
            prepared.hooked_units(layout, &patched),
            prepared.shim_units(layout, &patched, "ENGINE")?,
        ];
        let counts = parts.each_ref().map(Vec::len);
        let names = |units: &[Unit]| units.iter().map(|unit| unit.name().to_owned()).collect();
        let (names, shim_names) = (names(&parts[2]), names(&parts[3]));
        let mut objects = compiler.compile(&parts.into_iter().flatten().collect::<Vec<_>>())?.into_iter();
        let [shared, stock, hooked, shim] = counts.map(|count| objects.by_ref().take(count).collect());
        let extensions = linked_extensions(&prepared.trees.pristine, icu)?;
        Ok(Self { shared, stock, hooked, names, shim, shim_names, extensions })
    }

    fn of(&self, kind: Kind) -> impl Iterator<Item = &PathBuf> {
        let (own, shim) = match kind {
            Kind::Stock => (&self.stock, &[][..]),
            Kind::Hooked => (&self.hooked, self.shim.as_slice()),
        };
        self.shared.iter().chain(own).chain(shim)
    }

    /// Names of the objects that are not the same in both engines.
    fn different(&self) -> Result<Vec<String>> {
        let bytes: BTreeSet<String> =
            self.stock.iter().map(|object| Ok(sha256(&read(object)?))).collect::<Result<_>>()?;
        let mut different = Vec::new();
        for (name, object) in self.names.iter().zip(&self.hooked) {
            if !bytes.contains(&sha256(&read(object)?)) {
                different.push(name.clone());
            }
        }
        Ok(different.into_iter().chain(self.shim_names.iter().cloned()).collect())
    }

    fn hash(&self, commands: &str) -> Result<String> {
        let mut text = commands.to_owned();
        for object in self.of(Kind::Hooked).chain(&self.stock) {
            text.push_str(&sha256(&read(object)?));
        }
        Ok(sha256(text.as_bytes()))
    }
}

fn finish(
    layout: &Layout,
    toolchain: Toolchain,
    compiler: &Compiler,
    prepared: &Prepared,
    objects: &Objects,
) -> Result<Manifest> {
    let folder = folder(layout, toolchain);
    let linked = objects.hash(&format!("{} {:?} {EXPORTS}", compiler.version(), link_flags(toolchain)))?;
    if let Ok(engine) = Engine::find(layout, toolchain)
        && engine.manifest.linked == linked
    {
        return Ok(engine.manifest);
    }
    // Without it nobody takes what is there; it comes back when all is done.
    series::remove_if_present(&folder.join("manifest.json"))?;
    let stock = install(layout, toolchain, prepared, objects, Kind::Stock)?;
    let hooked = install(layout, toolchain, prepared, objects, Kind::Hooked)?;
    let manifest = Manifest {
        duckdb_version: DUCKDB.into(),
        source_id: SOURCE_ID.into(),
        compiler: compiler.version().into(),
        flags: compiler.flags().map(str::to_owned).collect(),
        series: prepared.series.hash.clone(),
        shim: shim_hash(layout)?,
        extensions: objects.extensions.clone(),
        shared_objects: objects.shared.len(),
        different_objects: objects.different()?,
        stock,
        hooked,
        linked,
    };
    write(&folder.join("manifest.json"), &serde_json::to_vec_pretty(&manifest)?)?;
    Ok(manifest)
}

fn link_flags(toolchain: Toolchain) -> &'static [&'static str] {
    match toolchain {
        // Two engines may be in one process: each must find its own functions and data first.
        // Nor does lld map what it writes: on a full disk it would die of that and say nothing.
        Toolchain::Clang => &[
            "-shared",
            "-fuse-ld=lld",
            "-Wl,--no-mmap-output-file",
            "-Wl,-Bsymbolic",
            "-Wl,-soname,libduckdb.so",
            "-Wl,--build-id=sha1",
        ],
        Toolchain::Gcc => &["-shared", "-Wl,-Bsymbolic", "-Wl,-soname,libduckdb.so", "-Wl,--build-id=sha1"],
    }
}

/// Links an engine, with headers and a pkg-config file, as `cmake --install` would lay them out.
fn install(
    layout: &Layout,
    toolchain: Toolchain,
    prepared: &Prepared,
    objects: &Objects,
    kind: Kind,
) -> Result<Library> {
    let folder = folder(layout, toolchain).join(kind.name());
    let lib = folder.join("lib");
    let path = |name: &str| lib.join(name);
    write(&folder.join("exports.map"), EXPORTS.as_bytes())?;
    let list: String = objects.of(kind).map(|object| format!("\"{}\"\n", object.display())).collect();
    write(&folder.join("objects.txt"), list.as_bytes())?;
    std::fs::create_dir_all(&lib).with_context(|| format!("creating {}", lib.display()))?;
    let (library, full, staged) = (path("libduckdb.so"), path("libduckdb.so.debug"), path("libduckdb.so.new"));
    run(Command::new(toolchain.program())
        .args(link_flags(toolchain))
        .arg(format!("-Wl,--version-script={}", folder.join("exports.map").display()))
        .arg(format!("@{}", folder.join("objects.txt").display()))
        .args(["-lpthread", "-ldl"])
        .arg("-o")
        .arg(&full))?;
    run(Command::new("strip").arg("--strip-all").arg(&full).arg("-o").arg(&staged))?;
    std::fs::rename(&staged, &library).with_context(|| format!("writing {}", library.display()))?;
    let tree = match kind {
        Kind::Stock => &prepared.trees.pristine,
        Kind::Hooked => &prepared.trees.hooked,
    };
    install_headers(&tree.join("duckdb/src/include"), &folder.join("include"))?;
    write(&path("pkgconfig/duckdb.pc"), pkg_config(kind).as_bytes())?;
    let size = |path: &Path| {
        std::fs::metadata(path).map(|file| file.len()).with_context(|| format!("reading {}", path.display()))
    };
    Ok(Library { stripped: size(&library)?, unstripped: size(&full)?, sha256: sha256(&read(&library)?) })
}

fn install_headers(from: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        std::fs::remove_dir_all(to).with_context(|| format!("removing {}", to.display()))?;
    }
    for file in units::files(from, &["h", "hpp"])? {
        let target = to.join(&file);
        if let Some(folder) = target.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        }
        std::fs::copy(from.join(&file), &target).with_context(|| format!("writing {}", target.display()))?;
    }
    Ok(())
}

fn pkg_config(kind: Kind) -> String {
    let description = match kind {
        Kind::Stock => "DuckDB as it came",
        Kind::Hooked => "DuckDB with duckbpf's hooks",
    };
    format!(
        "prefix=${{pcfiledir}}/../..\nlibdir=${{prefix}}/lib\nincludedir=${{prefix}}/include\n\n\
         Name: duckdb\nDescription: {description}\nVersion: {}\n\
         Libs: -L${{libdir}} -lduckdb -Wl,-rpath,${{libdir}}\nCflags: -I${{includedir}}\n",
        DUCKDB.trim_start_matches('v'),
    )
}

#[cfg(test)]
mod tests;
