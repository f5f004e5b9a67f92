/** With SOCKERLESS_SOAK=1 (`npm run soak -- test/aca`): `npm test` runs a sample of the client tests on Azure. */
import "../on-aca.ts";

if (process.env["SOCKERLESS_SOAK"] === "1") {
  await import("../../api/attach.test.ts");
}
