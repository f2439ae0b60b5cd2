//! What `#[filter]` makes of an `impl Filter for …`: the export of a component.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::{Error, ImplItem, ItemImpl};

const HOOKS: [&str; 4] = ["on_request", "cache_key", "on_response", "on_deliver"];

/// Writes the export, with the hooks that the block has.
pub(crate) fn expand(attribute: &TokenStream, block: &ItemImpl) -> Result<TokenStream, Error> {
    if !attribute.is_empty() {
        return Err(Error::new(Span::call_site(), "#[filter] takes no arguments"));
    }
    if block.trait_.is_none() || !block.generics.params.is_empty() {
        let message = "#[filter] goes on an impl without parameters: impl Filter for Edge { … }";
        return Err(Error::new(Span::call_site(), message));
    }
    let has = |name: &str| {
        block.items.iter().any(|item| matches!(item, ImplItem::Fn(hook) if hook.sig.ident == name))
    };
    if !HOOKS.iter().any(|hook| has(hook)) {
        return Err(Error::new(Span::call_site(), format!("a filter has one of {HOOKS:?}")));
    }
    let [on_request, cache_key, on_response, on_deliver] = HOOKS.map(has);
    let filter = &block.self_ty;
    Ok(quote! {
        #block

        #[allow(
            unsafe_code,
            missing_debug_implementations,
            reason = "the export of a component is a raw function; this is its only home"
        )]
        const _: () = {
            use ::atoll_guest::filter::export;
            use ::atoll_guest::filter_bindings::exports::atoll::edge::route_filter as raw;

            struct Export;

            impl raw::Guest for Export {
                fn wanted() -> raw::Hooks {
                    let hooks = [
                        (#on_request, raw::Hooks::ON_REQUEST),
                        (#cache_key, raw::Hooks::CACHE_KEY),
                        (#on_response, raw::Hooks::ON_RESPONSE),
                        (#on_deliver, raw::Hooks::ON_DELIVER),
                    ];
                    let wanted = hooks.into_iter().filter(|(has, _)| *has);
                    wanted.fold(raw::Hooks::empty(), |all, (_, hook)| all | hook)
                }

                fn on_request(request: raw::RequestHead) -> raw::RequestStep {
                    export::on_request::<#filter>(request)
                }

                fn cache_key(request: raw::RequestHead) -> Vec<String> {
                    export::cache_key::<#filter>(request)
                }

                fn on_response(
                    request: raw::RequestHead,
                    response: raw::ResponseHead,
                ) -> raw::ResponseStep {
                    export::on_response::<#filter>(request, response)
                }

                fn on_deliver(
                    request: raw::RequestHead,
                    response: raw::ResponseHead,
                ) -> Option<Vec<(String, Vec<u8>)>> {
                    export::on_deliver::<#filter>(request, response)
                }
            }

            #[cfg(target_arch = "wasm32")]
            ::atoll_guest::filter_bindings::export_filter!(
                Export with_types_in ::atoll_guest::filter_bindings
            );

            // Elsewhere nothing is exported, and the hooks are functions that unit tests can call.
            #[cfg(not(target_arch = "wasm32"))]
            const _: fn() -> raw::Hooks = <Export as raw::Guest>::wanted;
        };
    })
}
