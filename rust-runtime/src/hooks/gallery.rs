//! Programs that come with whoever uses the runtime, and are named instead of read from a file.

use std::{fmt, path::Path};

use crate::{
    error::Problem,
    object::{self, ObjectError},
};

/// Objects by name.
pub trait Gallery: fmt::Debug + Sync {
    fn names(&self) -> Vec<&str>;
    /// The object's bytes, as they would be in a file.
    fn object(&self, name: &str) -> Option<Vec<u8>>;
}

/// Whether a path is a name for the gallery: a file's has a slash or ends in `.o`, or in `.c` by mistake.
pub fn is_gallery_name(path: &Path) -> bool {
    path.to_str().is_some_and(|name| !name.contains('/') && !name.ends_with(".o") && !name.ends_with(".c"))
}

/// The bytes of an object, from the gallery or from a file.
pub fn read(path: &Path, gallery: Option<&dyn Gallery>) -> Result<Vec<u8>, Problem> {
    let from_file =
        || object::read(path).map_err(|source: ObjectError| Problem::Object { path: path.to_owned(), source });
    let Some(gallery) = gallery.filter(|_| is_gallery_name(path)) else { return from_file() };
    let name = path.to_string_lossy();
    gallery.object(&name).ok_or_else(|| {
        let known = gallery.names().join(", ");
        Problem::NotInGallery { name: name.into_owned(), known }
    })
}
