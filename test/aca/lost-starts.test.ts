/**
 * With SOCKERLESS_SOAK=1 (`npm run soak -- test/aca/lost-starts.test.ts`): starts on Azure that a kill interrupts. `npm test` has those
 * on this machine.
 */
import "./on-aca.ts";

if (process.env["SOCKERLESS_SOAK"] === "1") {
  await import("../fault/lost-starts.test.ts");
}
