/** Metrics of builds, as reported by a running builder. */
import { Counter, type Registry } from "prom-client";
import * as v from "valibot";

import { callBuilder } from "./builder.ts";

/** Time limit for the builder's answer. */
const limitMs = 2_000;

/** Counts since the builder's start. */
const countsSchema = v.object({
  succeeded: v.number(),
  failed: v.number(),
  /** Completed steps, including those from the cache. */
  steps: v.number(),
  cachedSteps: v.number(),
});

/**
 * Registers the metrics of builds.
 *
 * @returns updates the counts if a builder runs; never fails
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
    const counts = await callBuilder(socketPath, "GET", "/build/counts", AbortSignal.timeout(limitMs))
      .then(({ body }) => v.parse(countsSchema, body))
      .catch(() => undefined); // Usually no builder runs.
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
