// Counts the visits of each page, on every node together.
//
// What can be imported is in wit/: kv, log, config, clock, random. Names are in camelCase
// (`get-many` is `getMany`), 64-bit numbers are BigInt, bytes are Uint8Array. A failed call throws;
// the reason is in `error.payload`.
import { Bucket } from 'atoll:edge/kv@0.1.0';
import { log } from 'atoll:edge/log@0.1.0';

const bytes = (text) => new TextEncoder().encode(text);

function json(value, status = 200) {
  return { status, headers: [['content-type', bytes('application/json')]], body: bytes(JSON.stringify(value)) };
}

export const incomingHandler = {
  handle(request) {
    const page = request.path;
    const visits = Bucket.open('default').increment(`visits:${page}`, 1n, undefined);
    log('info', `visit ${visits} of ${page}`);
    return json({ page, visits: Number(visits) });
  },
};
