/** `npm test`: everything, from a fresh clone on. Arguments choose integration tests and leave out the rest. */
import { main, prepare } from "./prepare/prepare.mjs";
import { runScript } from "./prepare/run-script.mjs";

await main(async () => {
  const chosen = process.argv.slice(2);
  await prepare({ packages: "tests", build: chosen.length > 0 });
  if (chosen.length === 0) {
    const checked = await runScript("check");
    if (checked !== 0) {
      return checked;
    }
  }
  return runScript("integration", chosen);
});
