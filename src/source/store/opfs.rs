//! The origin's private file system, written by handles that only workers have, from the memory of wasm without a copy.

use super::backend::find;
use crate::source::http::client::sleep;
use crate::source::js;
use js_sys::{Promise, Reflect};
use std::cell::RefCell;
use std::time::Duration;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{
    Blob, FileSystemDirectoryHandle, FileSystemFileHandle, FileSystemGetDirectoryOptions, FileSystemGetFileOptions,
    FileSystemReadWriteOptions, FileSystemRemoveOptions, FileSystemSyncAccessHandle, StorageManager,
};

/// The folder of all that is ours.
const ROOT: &str = "webweft";

#[derive(Clone, Debug)]
pub(super) struct Opfs {
    root: FileSystemDirectoryHandle,
}

impl Opfs {
    pub async fn open() -> Result<Self, JsValue> {
        find(&["FileSystemFileHandle", "prototype", "createSyncAccessHandle"])?;
        find(&["navigator", "storage", "getDirectory"])?;
        let storage: StorageManager = find(&["navigator", "storage"])?.unchecked_into();
        let origin: FileSystemDirectoryHandle = js::wait(storage.get_directory()).await?;
        Ok(Self { root: folder_of(&origin, ROOT, true).await? })
    }

    pub async fn folders(&self) -> Result<Vec<String>, JsValue> {
        names(&self.root).await
    }

    pub async fn files(&self, folder: &str) -> Result<Vec<String>, JsValue> {
        match absent(folder_of(&self.root, folder, false).await)? {
            Some(folder) => names(&folder).await,
            None => Ok(Vec::new()),
        }
    }

    pub async fn get(&self, folder: &str, file: &str) -> Result<Option<Blob>, JsValue> {
        let Some(folder) = absent(folder_of(&self.root, folder, false).await)? else { return Ok(None) };
        let Some(file) = absent(js::wait::<FileSystemFileHandle>(folder.get_file_handle(file)).await)? else {
            return Ok(None);
        };
        absent(js::wait::<Blob>(file.get_file()).await)
    }

    /// # Errors
    /// `NoModificationAllowedError` where another tab writes it.
    pub async fn writer(&self, folder: &str, file: &str, go_on: bool) -> Result<Writing, JsValue> {
        let folder = folder_of(&self.root, folder, true).await?;
        let options = FileSystemGetFileOptions::new();
        options.set_create(true);
        let file = folder.get_file_handle_with_options(file, &options);
        let file: FileSystemFileHandle = js::wait(file).await?;
        let opening = RefCell::new(Opening(None));
        let open = || {
            let promise = file.create_sync_access_handle();
            opening.borrow_mut().0 = Some(promise.clone());
            promise
        };
        let handle: FileSystemSyncAccessHandle = unlocked(open).await?;
        // closed by this from here on, whatever happens
        let mut writing = Writing { handle, prefix: 0 };
        opening.borrow_mut().0 = None;
        if go_on {
            writing.prefix = writing.handle.get_size()? as u64;
        } else {
            writing.handle.truncate_with_f64(0.0)?;
        }
        Ok(writing)
    }

    pub async fn remove(&self, folder: &str, file: &str) -> Result<(), JsValue> {
        let Some(folder) = absent(folder_of(&self.root, folder, false).await)? else { return Ok(()) };
        absent(unlocked::<JsValue>(|| folder.remove_entry(file)).await).map(|_| ())
    }

    /// As [`remove`](Self::remove), without waiting for whoever has it open.
    pub async fn remove_at_once(&self, folder: &str, file: &str) -> Result<(), JsValue> {
        let Some(folder) = absent(folder_of(&self.root, folder, false).await)? else { return Ok(()) };
        absent(js::wait::<JsValue>(folder.remove_entry(file)).await).map(|_| ())
    }

    pub async fn remove_folder(&self, folder: &str) -> Result<bool, JsValue> {
        let options = FileSystemRemoveOptions::new();
        options.set_recursive(true);
        let removed = unlocked::<JsValue>(|| self.root.remove_entry_with_options(folder, &options)).await;
        Ok(absent(removed)?.is_some())
    }
}

/// A handle that was asked for. Whoever waits for it may go away: then it is closed as soon as it comes.
struct Opening(Option<Promise>);

impl Drop for Opening {
    fn drop(&mut self) {
        if let Some(promise) = self.0.take() {
            wasm_bindgen_futures::spawn_local(async {
                if let Ok(handle) = js::wait::<FileSystemSyncAccessHandle>(promise).await {
                    handle.close();
                }
            });
        }
    }
}

/// A file that is being written; nobody else can meanwhile.
#[derive(Debug)]
pub(super) struct Writing {
    handle: FileSystemSyncAccessHandle,
    prefix: u64,
}

impl Writing {
    pub fn prefix(&self) -> u64 {
        self.prefix
    }

    pub fn read(&self, at: u64, out: &mut Vec<u8>, count: usize) -> Result<(), JsValue> {
        let before = out.len();
        out.resize(before + count, 0);
        let read = self.handle.read_with_u8_array_and_options(&mut out[before..], &position(at));
        match read {
            Ok(read) if read as usize == count => Ok(()),
            other => {
                out.truncate(before);
                Err(other.err().unwrap_or_else(|| js::error("it has become shorter")))
            }
        }
    }

    pub fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), JsValue> {
        let written = self.handle.write_with_u8_array_and_options(bytes, &position(at))?;
        if written as usize == bytes.len() { Ok(()) } else { Err(js::error("there is no room for it")) }
    }

    pub fn finish(self) -> Result<(), JsValue> {
        self.handle.flush()
    }
}

impl Drop for Writing {
    /// What was written stays, and others may write.
    fn drop(&mut self) {
        self.handle.close();
    }
}

fn position(at: u64) -> FileSystemReadWriteOptions {
    let options = FileSystemReadWriteOptions::new();
    options.set_at(at as f64);
    options
}

async fn folder_of(
    parent: &FileSystemDirectoryHandle,
    name: &str,
    create: bool,
) -> Result<FileSystemDirectoryHandle, JsValue> {
    let options = FileSystemGetDirectoryOptions::new();
    options.set_create(create);
    js::wait(parent.get_directory_handle_with_options(name, &options)).await
}

async fn names(folder: &FileSystemDirectoryHandle) -> Result<Vec<String>, JsValue> {
    let (keys, mut names) = (folder.keys(), Vec::new());
    loop {
        let next: JsValue = js::wait(keys.next()?).await?;
        if Reflect::get(&next, &"done".into())?.is_truthy() {
            return Ok(names);
        }
        names.extend(Reflect::get(&next, &"value".into())?.as_string());
    }
}

/// Waits for what needs a file that nobody writes. A handle that was closed just now may be held a little longer by the browser,
/// one of another tab for as long as that loads: the first is waited for.
async fn unlocked<T: JsCast>(ask: impl Fn() -> Promise) -> Result<T, JsValue> {
    const TRIES: u32 = 5;
    for wait in 1..TRIES {
        match js::wait(ask()).await {
            Err(error) if js::error_name(&error) == "NoModificationAllowedError" => {
                sleep(Duration::from_millis(10 << wait)).await;
            }
            other => return other,
        }
    }
    js::wait(ask()).await
}

/// `None` for what is not there.
fn absent<T>(result: Result<T, JsValue>) -> Result<Option<T>, JsValue> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if js::error_name(&error) == "NotFoundError" => Ok(None),
        Err(error) => Err(error),
    }
}
