/** `node scripts/run.mjs [--build] NAME …`: runs `scripts/NAME.ts`, after installing npm packages if need be. */
import { main, prepare } from "./prepare/prepare.mjs";
import { runScript } from "./prepare/run-script.mjs";

await main(async () => {
  const args = process.argv.slice(2);
  const build = args[0] === "--build";
  const [name, ...rest] = build ? args.slice(1) : args;
  await prepare({ build });
  return runScript(name, rest);
});
