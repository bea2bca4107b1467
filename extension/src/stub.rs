use duckdb_neo::Result;
use std::path::PathBuf;
pub struct Runtime {
    paths: std::sync::Mutex<Vec<PathBuf>>,
}
pub struct Program {
    pub name: String,
}
impl Runtime {
    pub fn start() -> Result<&'static Runtime> {
        Ok(Box::leak(Box::new(Runtime { paths: Default::default() })))
    }
    pub fn replace(&self, paths: &[PathBuf]) -> std::result::Result<u64, String> {
        for path in paths {
            std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        *self.paths.lock().unwrap() = paths.to_vec();
        Ok(1)
    }
    pub fn programs(&self) -> Vec<Program> {
        self.paths.lock().unwrap().iter().map(|p| Program { name: p.display().to_string() }).collect()
    }
    pub fn set_sampling(&self, _on: bool) {}
}
