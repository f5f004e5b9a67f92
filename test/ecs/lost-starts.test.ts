/**
 * With SOCKERLESS_SOAK=1 (`npm run soak -- test/ecs/lost-starts.test.ts`): starts on ECS that a kill interrupts. `npm test` has those
 * on this machine.
 */
import "./on-ecs.ts";

if (process.env["SOCKERLESS_SOAK"] === "1") {
  await import("../fault/lost-starts.test.ts");
}
