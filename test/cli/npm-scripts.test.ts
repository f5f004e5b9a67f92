/** Tests that npm scripts with options of their own explain these, and mistakes in them, to a stranger. */
import assert from "node:assert/strict";
import { test } from "node:test";

import { runCommand } from "../support/command.ts";
import { checkout } from "../support/daemon.ts";

const programs: Readonly<Record<string, readonly string[]>> = {
  bench: ["dist/test/bench/bench.js"],
  "bench:cloud": ["dist/test/bench/cloud.js"],
  "bench:volumes": ["dist/test/bench/volumes.js"],
  conformance: ["dist/test/conformance/conformance.js"],
  image: ["--import", "tsx", "scripts/image.ts"],
};

const say = (program: readonly string[], ...args: readonly string[]) =>
  runCommand(process.execPath, [...program, ...args], { cwd: checkout });

for (const [name, program] of Object.entries(programs)) {
  test(`npm run ${name} -- --help tells its options`, async () => {
    const { code, text } = await say(program, "--help");
    assert.match(text, new RegExp(`^Usage: npm run ${name} -- \\[options\\]`));
    assert.equal(code, 0);
  });

  test(`npm run ${name} tells a mistake in a line and without a stack`, async () => {
    const { code, errorText } = await say(program, "--nonsense");
    assert.match(errorText.trim(), /^error: (unknown option '--nonsense'|required option .*)\nSee --help\.$/);
    assert.equal(code, 1);
  });
}

test("a number that is none is told, and a suite that there is not", async () => {
  const bench = await say(programs["bench"] ?? [], "--rounds", "many");
  assert.match(bench.errorText, /^error: option '--rounds <number>' argument 'many' is invalid\. A number/);
  const conformance = await say(programs["conformance"] ?? [], "nonsense");
  assert.match(conformance.errorText, /^error: there is no suite nonsense\n/);
});
