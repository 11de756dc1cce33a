//! Subgroups in a browser, where wgpu does not ask for them.
#![cfg(target_arch = "wasm32")]

use js_sys::{Function, Object, Promise, Reflect, global};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use wasm_bindgen_test::wasm_bindgen_test;

use webweft::device::{Device, DeviceOptions};

use crate::common::report;

fn get(of: &JsValue, name: &str) -> JsValue {
    Reflect::get(of, &name.into()).expect("an object")
}

async fn call(of: &JsValue, method: &str) -> JsValue {
    let method: Function = get(of, method).dyn_into().expect("a method");
    let promise: Promise = method.call0(of).expect("it can be called").dyn_into().expect("a promise");
    JsFuture::from(promise).await.expect("it is there")
}

/// Whether a `GPUAdapter` or `GPUDevice` has them.
fn has(of: &JsValue) -> bool {
    let features = get(of, "features");
    let has: Function = get(&features, "has").dyn_into().expect("a set");
    has.call1(&features, &"subgroups".into()).expect("a set").is_truthy()
}

/// The device has what the adapter has; the method that asks is the browser's own again, and others who ask get what they ask for.
#[wasm_bindgen_test]
async fn they_are_asked_for_and_nobody_else_notices() {
    let method = || get(&get(&get(&global(), "GPUAdapter"), "prototype"), "requestDevice");
    let before = method();
    let adapter = call(&get(&get(&global(), "navigator"), "gpu"), "requestAdapter").await;
    let device = Device::open(&DeviceOptions::default()).await.expect("an adapter");
    assert!(Object::is(&before, &method()));
    assert_eq!(device.capabilities().subgroups, has(&adapter));
    assert_eq!(device.info().features.contains(&"subgroups"), has(&adapter));
    assert!(!has(&call(&adapter, "requestDevice").await));
    let portable = Device::open(&DeviceOptions { portable: true, ..DeviceOptions::default() }).await.expect("one");
    assert!(!portable.capabilities().subgroups);
    report(if has(&adapter) { "this browser has subgroups" } else { "this browser has no subgroups" });
}
