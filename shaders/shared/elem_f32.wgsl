// Four consecutive elements of a row, stored as f32.
alias Elem4 = vec4<f32>;

fn unpack4(v: Elem4) -> vec4<f32> {
    return v;
}

fn pack4(v: vec4<f32>) -> Elem4 {
    return v;
}
