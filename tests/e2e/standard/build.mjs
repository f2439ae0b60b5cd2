// Makes a component of a JavaScript file with componentize-js: TOOLS SOURCE WIT OUTPUT
import { readFile, writeFile } from 'node:fs/promises';
import { pathToFileURL } from 'node:url';

const [tools, source, wit, output] = process.argv.slice(2);
const api = `${tools}/node_modules/@bytecodealliance/componentize-js/src/componentize.js`;
const { componentize } = await import(pathToFileURL(api));
const code = await readFile(source, 'utf8');
const { component } = await componentize(code, { witPath: wit, worldName: 'component' });
await writeFile(output, component);
