// Makes the component handler.wasm of handler.js and what it imports from below wit/.
import { readFile, writeFile } from 'node:fs/promises';
import { componentize } from '@bytecodealliance/componentize-js';

const source = await readFile('handler.js', 'utf8');
const { component } = await componentize(source, {
  witPath: 'wit',
  worldName: 'handler',
  // The handler is called by the interface in wit/handler.wit, not by `fetch` events.
  disableFeatures: ['http', 'fetch-event'],
});
await writeFile('handler.wasm', component);
