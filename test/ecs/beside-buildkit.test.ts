/** Builds on ECS beside a real BuildKit: every step takes seconds, so that it is a part of `npm run soak` alone. */
import "./on-ecs.ts";

if (process.env["SOCKERLESS_SOAK"] === "1") {
  await import("../builds/beside-buildkit.test.ts");
}
