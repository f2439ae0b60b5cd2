//! Components that are told of changes in the store: those that export `wasi:keyvalue/watcher`.
//!
//! The functions are found by name, in either text of the proposal, so that a component of any world
//! may have them beside what it exports otherwise.

use wasmtime::component::{
    Component as Compiled, ComponentExportIndex, Instance as Made, InstancePre, Lower, Resource,
    TypedFunc,
};
use wasmtime::{AsContextMut as _, Store};

use crate::bindings::standard::wasi::keyvalue0_2_0_draft::store::Bucket as DraftBucket;
use crate::bindings::standard::wasi::keyvalue0_2_0_draft2::store::Bucket as Draft2Bucket;
use crate::error::{CallError, quote};
use crate::host::{Host, KvError};
use crate::instance::{self, Guest};
use crate::limits::Limits;

/// The interface in both texts.
const NAMES: [(&str, Text); 2] = [
    ("wasi:keyvalue/watcher@0.2.0-draft", Text::Draft),
    ("wasi:keyvalue/watcher@0.2.0-draft2", Text::Draft2),
];

/// A change that a guest is told of.
#[derive(Debug, Clone, Copy)]
pub struct Change<'c> {
    /// Name of the bucket.
    pub bucket: &'c str,
    /// The key, as text.
    pub key: &'c str,
    /// What it holds now; `None` where it was deleted.
    pub value: Option<&'c [u8]>,
}

#[derive(Debug, Clone, Copy)]
enum Text {
    Draft,
    Draft2,
}

/// What is called, and how.
pub(super) struct Watch<H: Host> {
    pre: InstancePre<Guest<H>>,
    text: Text,
    on_set: ComponentExportIndex,
    on_delete: ComponentExportIndex,
}

/// Tells whether an export of this name is the interface.
pub(super) fn is_watcher(export: &str) -> bool {
    NAMES.iter().any(|(name, _)| *name == export)
}

impl<H: Host> Watch<H> {
    /// What a component exports of it; `None` where that is nothing.
    pub(super) fn of(component: &Compiled, pre: &InstancePre<Guest<H>>) -> Option<Watch<H>> {
        let found = NAMES.iter().find_map(|(name, text)| {
            let interface = component.get_export_index(None, name)?;
            let function = |name| component.get_export_index(Some(&interface), name);
            Some((*text, function("on-set")?, function("on-delete")?))
        });
        let (text, on_set, on_delete) = found?;
        Some(Watch { pre: pre.clone(), text, on_set, on_delete })
    }

    /// Makes an instance and calls nothing, but compares the types.
    pub(super) async fn try_types(&self, store: &mut Store<Guest<H>>) -> wasmtime::Result<()> {
        let made = self.pre.instantiate_async(&mut *store).await?;
        match self.text {
            Text::Draft => self.functions::<DraftBucket>(&made, store).map(drop),
            Text::Draft2 => self.functions::<Draft2Bucket>(&made, store).map(drop),
        }
    }

    /// Tells a fresh instance of one change.
    pub(super) async fn tell(
        &self,
        store: &mut Store<Guest<H>>,
        change: Change<'_>,
        limits: &Limits,
    ) -> Result<(), CallError> {
        let call = async {
            let made = self.pre.instantiate_async(&mut *store).await?;
            match self.text {
                Text::Draft => self.call::<DraftBucket>(&made, store, change).await,
                Text::Draft2 => self.call::<Draft2Bucket>(&made, store, change).await,
            }
        };
        let told = instance::within(limits, call).await?;
        told.map_err(|error| instance::explain(&error, store.data(), limits))
    }

    #[expect(clippy::type_complexity, reason = "the two functions, as the standard has them")]
    fn functions<'p, B: 'static>(
        &self,
        made: &Made,
        store: &mut Store<Guest<H>>,
    ) -> wasmtime::Result<(
        TypedFunc<(Resource<B>, &'p str, &'p [u8]), ()>,
        TypedFunc<(Resource<B>, &'p str), ()>,
    )>
    where
        (Resource<B>, &'p str, &'p [u8]): Lower,
    {
        let on_set = made.get_typed_func(&mut *store, self.on_set)?;
        Ok((on_set, made.get_typed_func(store.as_context_mut(), self.on_delete)?))
    }

    async fn call<B: 'static>(
        &self,
        made: &Made,
        store: &mut Store<Guest<H>>,
        Change { bucket, key, value }: Change<'_>,
    ) -> wasmtime::Result<()> {
        let (on_set, on_delete) = self.functions::<B>(made, store)?;
        let guest = store.data_mut();
        let opened = guest.host.open(bucket).map_err(refused)?;
        let place = guest.buckets.insert(opened);
        let place = place.map_err(|_| wasmtime::Error::msg("it holds too many buckets"))?;
        let bucket = Resource::new_own(place);
        match value {
            Some(value) => on_set.call_async(store, (bucket, key, value)).await,
            None => on_delete.call_async(store, (bucket, key)).await,
        }
    }
}

fn refused(error: KvError) -> wasmtime::Error {
    wasmtime::Error::msg(quote(&error.to_string()))
}
