// The flat index of a workgroup: `Graph::dispatch` folds what exceeds 65,535 groups into the second dimension.
fn flat_group(id: vec3<u32>, groups: vec3<u32>) -> u32 {
    return id.x + id.y * groups.x;
}
