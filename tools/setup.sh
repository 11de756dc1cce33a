# shellcheck shell=bash disable=SC2034,SC2154
# Helpers that ./run and ./test share: what is missing on this machine, and how it gets here.
# To be sourced; needs $root, the top of the checkout. Everything said goes to stderr.

# Tools that ./test builds into target/tools. wasm-bindgen-cli follows Cargo.lock instead.
WASM_PACK_VERSION=0.15.1

say() { printf '%s\n' "$*" >&2; }

has() { command -v "$1" >/dev/null 2>&1; }

os() {
    case "$(uname -s)" in
        Linux) echo linux ;;
        Darwin) echo macos ;;
        MINGW* | MSYS* | CYGWIN*) echo windows ;;
        *) echo other ;;
    esac
}

# as_root COMMAND...: as it is for root, through sudo otherwise (asking for a password only at a terminal).
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif [ -t 0 ] && [ -t 2 ]; then
        sudo "$@"
    else
        sudo -n "$@"
    fi
}

can_apt() {
    has apt-get || return 1
    [ "$(id -u)" = 0 ] && return 0
    has sudo || return 1
    { [ -t 0 ] && [ -t 2 ]; } || sudo -n true 2>/dev/null
}

# apt_install PACKAGE...
apt_install() {
    say "Installing with apt-get: $*"
    as_root apt-get -o DPkg::Lock::Timeout=300 -qq update >&2 || say "apt-get update failed; going on with the lists at hand."
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 -qq install -y --no-install-recommends "$@" </dev/null >&2
}

need_rust() {
    has cargo || PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"
    has cargo && return 0
    say "Rust is missing. Get it from https://rustup.rs, for example:"
    say "    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh"
    say "then run this again."
    return 1
}

# Cargo needs a C toolchain to link, though nothing here is written in C.
need_linker() {
    { [ "$(os)" != linux ] && [ "$(os)" != macos ]; } || has cc && return 0
    if [ "$(os)" = macos ]; then
        say "A linker is missing. Install Apple's command line tools: xcode-select --install"
        return 1
    fi
    can_apt && apt_install gcc libc6-dev && return 0
    say "A linker is missing. Install a C compiler (gcc or clang) with your package manager."
    return 1
}

has_vulkan_loader() {
    local dir
    for dir in /sbin/ldconfig /usr/sbin/ldconfig ldconfig; do
        has "$dir" && "$dir" -p 2>/dev/null | grep 'libvulkan\.so\.1' >/dev/null && return 0
    done
    local libraries=${LD_LIBRARY_PATH:-}
    for dir in ${libraries//:/ } /usr/lib64 /usr/lib /usr/lib/*-linux-gnu /run/opengl-driver/lib; do
        [ -e "$dir/libvulkan.so.1" ] && return 0
    done
    return 1
}

has_vulkan_icd() {
    [ -n "${VK_DRIVER_FILES:-}${VK_ICD_FILENAMES:-}${VK_ADD_DRIVER_FILES:-}" ] && return 0
    local file
    for file in {/usr/share,/usr/local/share,/etc,"$HOME/.local/share",/run/opengl-driver/share}/vulkan/icd.d/*.json; do
        [ -e "$file" ] && return 0
    done
    return 1
}

# A driver that wgpu can open. Metal and DX12 come with the system; Linux needs Vulkan's loader and a driver.
need_gpu_driver() {
    [ "$(os)" != linux ] && return 0
    has_vulkan_loader && has_vulkan_icd && return 0
    say "No Vulkan driver was found. Mesa has drivers for most GPUs and one for the CPU (lavapipe)."
    can_apt && apt_install mesa-vulkan-drivers libvulkan1 && return 0
    say "Install Vulkan's loader and a driver with your package manager, for example:"
    say "    Debian, Ubuntu:  apt install mesa-vulkan-drivers libvulkan1"
    say "    Fedora:          dnf install mesa-vulkan-drivers vulkan-loader"
    say "    Arch:            pacman -S vulkan-icd-loader vulkan-swrast (or your GPU's driver)"
    return 1
}

# locked_version CRATE: its version in Cargo.lock
locked_version() {
    [ -e "$root/Cargo.lock" ] || cargo generate-lockfile --manifest-path "$root/Cargo.toml" >&2
    awk -v want="name = \"$1\"" '$0 == want { getline; gsub(/"/, ""); print $3; exit }' "$root/Cargo.lock"
}

# tool_is COMMAND VERSION: whether it is on PATH in that version (any, if VERSION is empty)
tool_is() {
    has "$1" || return 1
    [ -z "$2" ] || "$1" --version 2>/dev/null | grep -Fw -- "$2" >/dev/null
}

# cargo_tool COMMAND CRATE [VERSION]: built into target/tools unless PATH has it. In the dev profile: these tools
# are needed once and quickly, and a release build of them takes several times as long.
cargo_tool() {
    tool_is "$1" "${3:-}" && return 0
    say "Building $2${3:+ $3} into target/tools"
    CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_DEV_OPT_LEVEL=0 cargo install --force --profile dev --root "$root/target/tools" \
        --target-dir "$root/target/tools-build" "$2${3:+@$3}" </dev/null >&2
}

# Node builds the npm package; 20 is the oldest that is tested.
need_node() {
    if has node && has npm && [ "$(node -p 'parseInt(process.versions.node) >= 20')" = true ]; then return 0; fi
    say "Node 20 or later is missing: get it from https://nodejs.org."
    return 1
}
