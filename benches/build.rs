//! Compiles the native references with gcc -O3, as the goals name it.

fn main() {
    println!("cargo::rerun-if-changed=src/reference.c");
    let compile = |name: &str, flags: &[&str]| {
        let mut build = cc::Build::new();
        build.compiler("gcc").file("src/reference.c").define("NAME", name).opt_level(3);
        for flag in flags {
            build.flag(flag);
        }
        build.compile(&format!("reference_{name}"));
    };
    compile("scalar", &["-fno-tree-vectorize"]);
    compile("avx2", &["-mavx2"]);
}
