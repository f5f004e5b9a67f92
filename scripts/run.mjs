/**
 * `node scripts/run.mjs [--build] [--tests] NAME …`: runs `scripts/NAME.ts`, after installing npm packages if need be;
 * with `--tests` also the system packages that tests, benches and the demo run.
 */
import { parseArgs } from "node:util";

import { main, prepare } from "./prepare/prepare.mjs";
import { runScript } from "./prepare/run-script.mjs";

await main(async () => {
  const args = process.argv.slice(2);
  const own = args.findIndex((arg) => !arg.startsWith("--"));
  const { values } = parseArgs({
    args: args.slice(0, own),
    options: { build: { type: "boolean" }, tests: { type: "boolean" } },
  });
  const [name, ...rest] = args.slice(own);
  await prepare({ build: values.build === true, ...(values.tests === true ? { packages: "tests" } : {}) });
  return runScript(name, rest);
});
