//! The attribute `#[handler]` of `atoll-guest`. Use it from there.

mod filter;

use proc_macro::TokenStream;
use quote::quote;
use syn::spanned::Spanned;
use syn::{Error, ItemFn, ItemImpl};

/// Makes a function the handler of this component.
///
/// The function takes a `Request` and returns a `Response`, text, or a `Result` of these whose
/// error can be displayed: an error is logged and answered with a 500. A crate has one handler.
#[proc_macro_attribute]
pub fn handler(attribute: TokenStream, item: TokenStream) -> TokenStream {
    let function = match syn::parse::<ItemFn>(item) {
        Ok(function) => function,
        Err(_) => {
            let message = "#[handler] goes on a function: fn handle(request: Request) -> Response";
            return Error::new(proc_macro2::Span::call_site(), message).into_compile_error().into();
        }
    };
    if let Err(error) = validate(&attribute, &function) {
        return error.into_compile_error().into();
    }
    expand(&function).into()
}

/// Makes an `impl Filter for …` the filter of this component. Only the hooks that it has are called.
#[proc_macro_attribute]
pub fn filter(attribute: TokenStream, item: TokenStream) -> TokenStream {
    let expanded = match syn::parse::<ItemImpl>(item) {
        Ok(block) => filter::expand(&attribute.into(), &block),
        Err(_) => {
            let message = "#[filter] goes on an impl: impl Filter for Edge { … }";
            Err(Error::new(proc_macro2::Span::call_site(), message))
        }
    };
    expanded.unwrap_or_else(Error::into_compile_error).into()
}

fn validate(attribute: &TokenStream, function: &ItemFn) -> Result<(), Error> {
    let signature = &function.sig;
    if !attribute.is_empty() {
        return Err(Error::new(proc_macro2::Span::call_site(), "#[handler] takes no arguments"));
    }
    if let Some(asyncness) = &signature.asyncness {
        return Err(Error::new(
            asyncness.span(),
            "a handler is synchronous: every call to the node returns at once",
        ));
    }
    if !signature.generics.params.is_empty() {
        return Err(Error::new(signature.generics.span(), "a handler has no generic parameters"));
    }
    if signature.inputs.len() != 1 {
        return Err(Error::new(
            signature.inputs.span(),
            "a handler takes one argument: request: Request",
        ));
    }
    Ok(())
}

fn expand(function: &ItemFn) -> proc_macro2::TokenStream {
    let name = &function.sig.ident;
    quote! {
        #function

        #[allow(
            unsafe_code,
            missing_debug_implementations,
            reason = "the export of a component is a raw function; this is its only home"
        )]
        const _: () = {
            use ::atoll_guest::bindings::atoll::edge::types::{Request as Raw, Response as Answer};
            use ::atoll_guest::bindings::exports::atoll::edge::incoming_handler::Guest;

            struct Handler;

            impl Guest for Handler {
                fn handle(request: Raw) -> Answer {
                    ::atoll_guest::export::answer(#name, request)
                }
            }

            #[cfg(target_arch = "wasm32")]
            ::atoll_guest::bindings::export!(Handler with_types_in ::atoll_guest::bindings);

            // Elsewhere nothing is exported, and the handler is a function that unit tests can
            // call. This uses it, so that the compiler does not take it for dead.
            #[cfg(not(target_arch = "wasm32"))]
            const _: fn(Raw) -> Answer = <Handler as Guest>::handle;
        };
    }
}
