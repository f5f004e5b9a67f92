/** Builds on ECS beside a real BuildKit, with SOCKERLESS_SOAK=1 (`npm run soak -- "builds beside BuildKit"`). */
import "./on-ecs.ts";

if (process.env["SOCKERLESS_SOAK"] === "1") {
  await import("../builds/beside-buildkit.test.ts");
}
