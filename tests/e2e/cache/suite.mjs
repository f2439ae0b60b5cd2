// Runs the cache tests of http-tests/cache-tests against a cache and says how each one went.
//
//   node suite.mjs FOLDER-OF-THE-PACKAGE http://CACHE PORT-OF-THE-UPSTREAM
//
// The upstream is part of the package: it answers as each test says. What is printed is one line of
// JSON: { "ID": { "kind": "required", "verdict": "pass", "why": "" } }.

import { spawn } from "node:child_process";
import { connect } from "node:net";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

// The published tests are older than RFC 9111. What it says otherwise is put right here, and so is
// what nothing can pass.
function amend(test) {
  const last = test.requests.at(-1);
  if (/^age-parse-(nonnumeric|negative|float|prefix-twoline|dup-0|dup-0-twoline)$/.test(test.id)) {
    // Section 5.1: what is no number is ignored, and of several the first counts.
    last.expected_type = "cached";
  } else if (/^age-parse-(.*parameter|dup-old)$/.test(test.id)) {
    // The same: nothing asks for parameters, and the first of two equal ages counts. Whether
    // `7200, 7200` is old or no number is not said.
    test.kind = "check";
  } else if (/^304-etag-update-response-(Content-MD5|ETag)$/.test(test.id)) {
    // Section 3.2 keeps nothing but Content-Length from being updated, and section 4.3.4 lets a 304
    // with another strong ETag update nothing.
    test.kind = "check";
  } else if (test.id.startsWith("stale-close-")) {
    // The upstream closes the connection, so that no answer can be its own: it is an error.
    test.requests[1] = { disconnect: true, expected_status: 504, check_body: false };
  } else if (test.id.startsWith("surrogate-")) {
    // Surrogate-Control was never a standard; RFC 9213 is what became of it.
    for (const request of test.requests) {
      for (const header of request.response_headers ?? []) {
        if (header[0] !== "Surrogate-Control") continue;
        header[0] = "CDN-Cache-Control";
        // How one cache of several was named; now it has a field of its own.
        header[1] = header[1].replace(";CAPABILITY_TARGET", "");
      }
    }
    if (/(target|case-insensitive)$/.test(test.id)) test.kind = "check";
  }
}

const [, , folder, base, port] = process.argv;
const load = (file) => import(pathToFileURL(join(folder, file)));

const upstream = spawn(process.execPath, [join(folder, "server/server.mjs")], {
  cwd: folder,
  env: {
    ...process.env,
    npm_config_protocol: "http",
    npm_config_port: port,
    npm_config_pidfile: "/dev/null",
  },
  stdio: ["ignore", "ignore", "inherit"],
});
process.on("exit", () => upstream.kill());

const answers = () =>
  new Promise((resolve) => {
    const socket = connect(Number(port), "localhost");
    socket.on("connect", () => resolve(socket.destroy() && true));
    socket.on("error", () => resolve(false));
  });
while (!(await answers())) {
  await new Promise((resolve) => setTimeout(resolve, 20));
}

const suites = (await load("tests/index.mjs")).default;
suites.push((await load("tests/surrogate-control.mjs")).default);
for (const test of suites.flatMap((suite) => suite.tests)) amend(test);
const { runTests, getResults } = await load("client/runner.mjs");
const { determineTestResult } = await load("lib/display.mjs");
const fetch = (await load("../node-fetch/lib/index.mjs")).default;

await runTests(suites, fetch, false, base);
const results = getResults();

// The marks of the package's own command, in words.
const words = {
  "✅": "pass",
  "⛔️": "fail",
  "⚠️": "optional-fail",
  Y: "yes",
  N: "no",
  "🔹": "setup-fail",
  "⁉️": "harness-fail",
  "⚪️": "dependency-fail",
  "↻": "retry",
  "-": "untested",
};
const told = {};
for (const test of suites.flatMap((suite) => suite.tests)) {
  if (test.browser_only === true) continue;
  const mark = determineTestResult(suites, test.id, results)[2];
  const result = results[test.id];
  told[test.id] = {
    kind: test.kind ?? "required",
    verdict: words[mark] ?? mark,
    why: Array.isArray(result) ? result[1] : "",
  };
}
process.stdout.write(`\n${JSON.stringify(told)}\n`, () => process.exit(0));
