//! The C library's functions that tract's activations reach through the
//! standard library, from `libm`: the two wasm targets would otherwise link
//! different ones, and answers would differ in the last bit.

macro_rules! from_libm {
    ($($name:ident($($x:ident),*) -> $t:ty;)*) => {$(
        // SAFETY: the C library declares this function with this signature, and
        // a definition in the crate takes the place of the one in its archive.
        #[unsafe(no_mangle)]
        extern "C" fn $name($($x: $t),*) -> $t {
            libm::$name($($x),*)
        }
    )*};
}

from_libm! {
    exp(x) -> f64;
    expf(x) -> f32;
    expm1(x) -> f64;
    expm1f(x) -> f32;
    log(x) -> f64;
    logf(x) -> f32;
    log1p(x) -> f64;
    log1pf(x) -> f32;
    pow(x, y) -> f64;
    powf(x, y) -> f32;
    sin(x) -> f64;
    sinf(x) -> f32;
    cos(x) -> f64;
    cosf(x) -> f32;
    tanh(x) -> f64;
    tanhf(x) -> f32;
}
