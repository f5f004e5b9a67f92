/** With SOCKERLESS_SOAK=1 (`npm run soak -- test/ecs`): `npm test` runs a sample of the client tests on ECS. */
import "../on-ecs.ts";

if (process.env["SOCKERLESS_SOAK"] === "1") {
  await import("../../api/volumes.test.ts");
}
