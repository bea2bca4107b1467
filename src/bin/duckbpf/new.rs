//! `duckbpf new`: a folder for a policy, which compiles and verifies at once.

use std::{
    fmt::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use duckbpf_runtime::{Class, Hook, Profile, context_fields, judge};

/// Make a policy's folder from a template: program, README, headers; compiled and verified.
#[derive(clap::Args)]
pub struct Arguments {
    /// The folder to make; its name is the program's
    folder: PathBuf,
    /// The hook
    #[arg(long, default_value = "unpin", value_parser = hook)]
    hook: Hook,
}

fn hook(name: &str) -> Result<Hook, String> {
    let known = || format!("hooks are {}", Hook::ALL.map(Hook::name).join(", "));
    Hook::from_name(name).ok_or_else(known)
}

pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { folder, hook } = arguments;
    let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let is_plain = |name: &str| {
        name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !name.starts_with(|c: char| c.is_ascii_digit())
    };
    if name.is_empty() || !is_plain(&name) {
        bail!("{name:?}: the folder's name becomes a C function: letters, digits and _");
    }
    if folder.exists() {
        bail!("{} exists; nothing was changed", folder.display());
    }
    let source = folder.join(format!("{name}.bpf.c"));
    let object = folder.join(format!("{name}.bpf.o"));
    duckbpf::compile::write_headers(&folder.join("include"))?;
    write(&source, &program(&name, *hook))?;
    write(&folder.join("README.md"), &readme(&name, *hook))?;
    // For editors that ask clangd.
    write(&folder.join("compile_flags.txt"), "-target\nbpf\n-Iinclude\n")?;
    duckbpf::compile::compile(&source, &object, &[])?;
    for verdict in judge(&object, Profile::Hooks, false).with_context(|| object.display().to_string())? {
        if let Err(rejection) = verdict.result {
            bail!("{}: {rejection}", object.display());
        }
    }
    println!("{}: compiled and verified. Next:", folder.display());
    println!("  edit {}, then duckbpf compile {}", source.display(), source.display());
    println!("  in DuckDB: CALL hook_attach('{}');", object.display());
    Ok(ExitCode::SUCCESS)
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| path.display().to_string())
}

/// A program that does what stock does, with the context's fields before it.
fn program(name: &str, hook: Hook) -> String {
    let mut fields = String::new();
    for field in context_fields(hook) {
        let sign = if field.signed { "s" } else { "u" };
        let _ = writeln!(fields, " *   ctx->{} (__{sign}{})", field.declarator(), field.size / field.count * 8);
    }
    let body = match hook {
        Hook::Hash => "\t/* What stock does with the key: helpers are in duckbpf/helpers.h. */\n\treturn duckbpf_murmur64(ctx->lo) ^ \
                       duckbpf_murmur64(ctx->hi) ^ ctx->whole;\n"
            .to_owned(),
        _ => "\t(void)ctx;\n\treturn 0; /* stock's decision */\n".to_owned(),
    };
    let decisions = match hook.class() {
        Class::Observer => "The hook observes: what is returned means nothing.",
        Class::Decider => "0 is stock's decision; the others are in duckbpf/hooks.h, at the context's struct.",
        Class::Transformer => "What is returned is the key's hash.",
    };
    format!(
        "/* {name}: what it decides, and why.\n *\n * {decisions} The context has\n{fields} */\n#include \"duckbpf.h\"\n\nLICENSE(\"MIT\");\n\n\
         SEC(\"duckdb/{hook}\")\n__u64 {name}(struct duckbpf_{hook}_ctx *ctx)\n{{\n{body}}}\n"
    )
}

fn readme(name: &str, hook: Hook) -> String {
    format!(
        "# {name}\n\n## What it does\nStock's decision on {hook}, so far.\n\n```sql\nCALL hook_attach('{name}.bpf.o');\nSELECT * FROM \
         hook_programs() WHERE name = '{name}';\nCALL hook_detach('{name}');\n```\n\n## When to use it\n\n## What it costs\n\n## Build\n\
         ```sh\nduckbpf compile {name}.bpf.c\nduckbpf verify {name}.bpf.o\nduckbpf prog run {name}.bpf.o --context '{{}}'\n```\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hooks_template_compiles_and_verifies() {
        let folder = tempfile::tempdir().unwrap();
        for hook in Hook::ALL {
            let arguments = Arguments { folder: folder.path().join(format!("my_{hook}")), hook };
            run(&arguments).unwrap_or_else(|error| panic!("{hook}: {error:#}"));
            let again = run(&arguments).unwrap_err();
            assert!(again.to_string().contains("exists"), "{again}");
        }
    }

    #[test]
    fn names_that_are_no_functions_are_refused() {
        for name in ["1st", "a-b", ".."] {
            assert!(run(&Arguments { folder: name.into(), hook: Hook::Load }).is_err(), "{name}");
        }
    }
}
