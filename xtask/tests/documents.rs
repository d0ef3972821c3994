//! What documents and first lines say of the tree, against the tree.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::fs;
use std::path::{Path, PathBuf};

/// Documents that name files of the tree as readers find them there.
const DOCUMENTS: [&str; 3] = ["ARCHITECTURE.md", "CONTRIBUTING.md", "README.md"];

/// Folders with what is ours and written by hand.
const FOLDERS: [&str; 7] = [
    "bench",
    "docs",
    "pinger",
    "pinger-ebpf",
    "schema",
    "tests",
    "xtask",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All files below a folder, from the root on, each with a slash before it.
fn files(folder: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(root().join(folder)).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{folder}/{}", entry.file_name().to_str().unwrap());
        match entry.file_type().unwrap().is_dir() {
            true => files(&path, found),
            false => found.push(format!("/{path}")),
        }
    }
}

fn all_files() -> Vec<String> {
    let mut found = Vec::new();
    FOLDERS.iter().for_each(|folder| files(folder, &mut found));
    assert!(found.len() > 300, "the tree is beside xtask");
    found
}

/// The Rust files and folders that a document names, in code quotes or as links.
fn named(document: &str) -> impl Iterator<Item = &str> {
    let words = document.split(['`', '(', ')', ' ', '\n']);
    words.filter(|word| {
        let is_path = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
        let is_ours = word.ends_with(".rs") || (word.len() > 1 && word.ends_with('/'));
        is_ours && word.chars().all(is_path) && !word.starts_with(['/', '.']) && !is_built(word)
    })
}

/// What a build makes is nowhere in a fresh clone.
fn is_built(path: &str) -> bool {
    path.starts_with("target/")
}

#[test]
fn documents_name_files_that_exist() {
    let files = all_files();
    for document in DOCUMENTS {
        let text = fs::read_to_string(root().join(document)).unwrap();
        for name in named(&text) {
            let end = format!("/{name}");
            let exists = match name.ends_with('/') {
                true => files.iter().any(|file| file.contains(&end)),
                false => files.iter().any(|file| file.ends_with(&end)),
            };
            assert!(exists, "{document} names {name}, which is nowhere");
        }
    }
}

#[test]
fn every_module_of_the_prober_stands_in_the_map() {
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    for file in all_files() {
        let Some(name) = file.strip_prefix("/pinger/src/") else {
            continue;
        };
        let Some(module) = name.strip_suffix(".rs").filter(|name| !name.contains('/')) else {
            continue;
        };
        let is_named = map.contains(&format!("`{name}`")) || map.contains(&format!("`{module}/"));
        assert!(is_named, "ARCHITECTURE.md does not say what {name} is for");
    }
}

#[test]
fn every_file_says_first_what_it_is_for() {
    for file in all_files() {
        // Tests beside a module are of that module.
        if file.ends_with(".rs") && !file.ends_with("/tests.rs") {
            let text = fs::read_to_string(root().join(&file[1..])).unwrap();
            assert!(
                text.starts_with("//!"),
                "{file} does not begin with what it is for"
            );
        }
    }
}

#[test]
fn the_page_of_queries_is_of_these_queries() {
    let page = fs::read_to_string(root().join("docs/queries.md")).unwrap();
    let mut seen = 0;
    for entry in fs::read_dir(root().join("schema/queries")).unwrap() {
        let path = entry.unwrap().path();
        let query = fs::read_to_string(&path).unwrap();
        let (title, statement) = query.split_once('\n').unwrap();
        let heading = format!("## {}\n", title.trim_start_matches("-- "));
        let statement = format!("```sql\n{}\n```\n", statement.trim_end());
        for part in [heading, statement] {
            assert!(
                page.contains(&part),
                "docs/queries.md does not have this of {}: run `cargo xtask bench queries`\n{part}",
                path.display()
            );
        }
        seen += 1;
    }
    assert!(seen > 10, "the cookbook is there");
}
