import { open } from 'wasi:keyvalue/store@0.2.0-draft';
import { increment } from 'wasi:keyvalue/atomics@0.2.0-draft';
import { getMany, setMany } from 'wasi:keyvalue/batch@0.2.0-draft';

const text = (bytes) => new TextDecoder().decode(bytes);
const bytes = (text) => new TextEncoder().encode(text);

async function keyValue(request, key) {
  const bucket = open(new URL(request.url).searchParams.get('bucket') ?? 'default');
  switch (request.method) {
    case 'PUT':
      bucket.set(key, new Uint8Array(await request.arrayBuffer()));
      return new Response('set\n');
    case 'POST':
      return new Response(`${increment(bucket, key, BigInt(await request.text()))}\n`);
    case 'DELETE':
      bucket.delete(key);
      return new Response('deleted\n');
  }
  const value = bucket.get(key);
  return value ? new Response(value) : new Response('no such key\n', { status: 404 });
}

function many() {
  const bucket = open('default');
  setMany(bucket, [['m:1', bytes('one')], ['m:2', bytes('two')]]);
  const pairs = getMany(bucket, ['m:1', 'm:none', 'm:2']);
  const listed = bucket.listKeys(undefined).keys.filter((key) => key.startsWith('m:')).sort();
  return Response.json({ pairs: pairs.map((pair) => pair && [pair[0], text(pair[1])]), listed });
}

function stream() {
  let count = 0;
  return new Response(new ReadableStream({
    async pull(controller) {
      if (count === 5) return controller.close();
      await new Promise((resolve) => setTimeout(resolve, 100));
      controller.enqueue(bytes(`piece ${count++}\n`));
    },
  }));
}

async function echo(request) {
  const { method, url } = request;
  return Response.json({ method, url, headers: Object.fromEntries(request.headers), body: await request.text() });
}

async function handle(request) {
  const path = new URL(request.url).pathname.replace(/^\/[^/]*/, '');
  try {
    switch (path) {
      case '/hello': return new Response('hello from JavaScript\n');
      case '/echo': return await echo(request);
      case '/stream': return stream();
      case '/pipe': return new Response(request.body);
      case '/many': return many();
      case '/log': console.log('said on stdout'); console.error('said on stderr'); return new Response('logged\n');
      case '/fetch': { const r = await fetch(new URL(request.url).searchParams.get('url')); return new Response(`${r.status} ${await r.text()}`); }
      case '/loop': for (;;);
    }
    if (path.startsWith('/kv/')) return await keyValue(request, path.slice(4));
    return new Response('no such path\n', { status: 404 });
  } catch (error) {
    return new Response(`${error}: ${JSON.stringify(error.payload ?? null)}\n`, { status: 500 });
  }
}

addEventListener('fetch', (event) => event.respondWith(handle(event.request)));
