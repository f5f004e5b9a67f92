/** Metrics of builds, which a running builder tells. */
import { Counter, type Registry } from "prom-client";
import * as v from "valibot";

import { askBuilder } from "./builder.ts";

/** How long the builder may take. */
const limitMs = 2_000;

/** Counted since the builder has started. */
const countsSchema = v.object({
  succeeded: v.number(),
  failed: v.number(),
  /** Steps that have ended, those from the cache included. */
  steps: v.number(),
  cachedSteps: v.number(),
});

/**
 * Begins to measure builds.
 *
 * @returns reads the counts anew, where a builder runs; never fails
 */
export function measureBuilds(socketPath: string, registers: Registry[]): () => Promise<void> {
  const builds = new Counter({
    name: "sockerless_builds_total",
    help: "Builds that have ended, since the builder has started.",
    labelNames: ["outcome"],
    registers,
  });
  const steps = new Counter({
    name: "sockerless_build_steps_total",
    help: "Steps of builds that have ended, whether from the build cache or run, since the builder has started.",
    labelNames: ["cached"],
    registers,
  });
  return async () => {
    const counts = await askBuilder(socketPath, "GET", "/build/counts", AbortSignal.timeout(limitMs))
      .then(({ body }) => v.parse(countsSchema, body))
      .catch(() => undefined); // No builder runs, which is the rule.
    if (counts !== undefined) {
      builds.reset();
      builds.inc({ outcome: "succeeded" }, counts.succeeded);
      builds.inc({ outcome: "failed" }, counts.failed);
      steps.reset();
      steps.inc({ cached: "true" }, counts.cachedSteps);
      steps.inc({ cached: "false" }, counts.steps - counts.cachedSteps);
    }
  };
}
