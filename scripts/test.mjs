/**
 * `npm test`: everything, from a fresh clone on. Arguments choose integration tests and leave out the rest; `--changed`
 * chooses the tests of what git says is changed.
 */
import { main, prepare } from "./prepare/prepare.mjs";
import { runScript } from "./prepare/run-script.mjs";

await main(async () => {
  const chosen = process.argv.slice(2);
  const ofChanges = chosen.indexOf("--changed");
  await prepare({ packages: "tests", build: chosen.length > 0 && ofChanges < 0 });
  if (ofChanges >= 0) {
    return runScript("changed", chosen.toSpliced(ofChanges, 1));
  }
  if (chosen.length === 0) {
    const checked = await runScript("check");
    if (checked !== 0) {
      return checked;
    }
  }
  const ran = await runScript("integration", chosen);
  return ran !== 0 || chosen.length > 0 ? ran : runScript("kubernetes", ["--sample"]);
});
