//! Subgroups in a browser: wgpu does not ask for them there (wgpu#10146), so they are asked for beside it.

use js_sys::{Array, Function, Object, Proxy, Reflect, global};
use wasm_bindgen::prelude::*;

/// What WebGPU calls them.
const FEATURE: &str = "subgroups";
/// What WGSL wants to be told before it knows them. naga refuses it, and is not asked in a browser.
pub(super) const DIRECTIVE: &str = "enable subgroups;\n";

/// Whether a `GPUAdapter` or a `GPUDevice` has them.
pub(super) fn has(of: &JsValue) -> bool {
    let has = || -> Result<bool, JsValue> {
        let features = Reflect::get(of, &"features".into())?;
        let has: Function = Reflect::get(&features, &"has".into())?.dyn_into()?;
        Ok(has.call1(&features, &FEATURE.into())?.is_truthy())
    };
    has().unwrap_or(false)
}

/// What `request` gives, which calls `requestDevice` of an adapter before it returns: the device will have subgroups where the adapter
/// has them. The method is as it was when this returns, so nobody else meets another one.
pub(super) fn asking<T>(request: impl FnOnce() -> T) -> T {
    let method = JsValue::from("requestDevice");
    let found = || -> Result<(JsValue, Function), JsValue> {
        let class = Reflect::get(&global(), &"GPUAdapter".into())?;
        let prototype = Reflect::get(&class, &"prototype".into())?;
        let original = Reflect::get(&prototype, &method)?.dyn_into()?;
        Ok((prototype, original))
    };
    let Ok((prototype, original)) = found() else { return request() };
    // a function of ours is not told its `this`, but what a proxy calls is
    let apply: Closure<dyn Fn(Function, JsValue, Array) -> Result<JsValue, JsValue>> =
        Closure::new(|original: Function, adapter: JsValue, arguments: Array| {
            if has(&adapter) {
                let wanted = Reflect::get(&arguments.get(0), &"requiredFeatures".into())?;
                wanted.dyn_into::<Array>()?.push(&FEATURE.into());
            }
            original.apply(&adapter, &arguments)
        });
    let handler = Object::new();
    // an object that was just made takes any property, and a method of a prototype may be set
    let set = |of: &JsValue, name: &JsValue, value: &JsValue| drop(Reflect::set(of, name, value));
    set(&handler, &"apply".into(), apply.as_ref());
    set(&prototype, &method, &Proxy::new(&original, &handler));
    let result = request();
    set(&prototype, &method, &original);
    result
}
