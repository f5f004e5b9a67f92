/** The metrics of one process, in Prometheus' text format; loaded only where metrics are served. */
import { collectDefaultMetrics, Registry } from "prom-client";

/** Gauges of the library whose names Prometheus keeps for counters. */
const misnamed = [
  "nodejs_active_handles_total",
  "nodejs_active_requests_total",
  "nodejs_active_resources_total",
];

/** A registry with Node's own metrics of this process: memory, processor time, event loop. */
export function processRegistry(process: "frontend" | "backend"): Registry {
  const registry = new Registry();
  registry.setDefaultLabels({ process });
  collectDefaultMetrics({ register: registry });
  for (const name of misnamed) {
    registry.removeSingleMetric(name);
  }
  return registry;
}

/**
 * Joins the metrics of several processes: each metric has one `# HELP` and one `# TYPE`, before all its samples.
 *
 * @param texts in Prometheus' text format
 */
export function joinMetrics(texts: readonly string[]): string {
  const families = new Map<string, { readonly head: string[]; readonly samples: string[] }>();
  for (const text of texts) {
    let family: { readonly head: string[]; readonly samples: string[] } | undefined;
    let isKnown = false;
    for (const line of text.split("\n")) {
      const name = /^# HELP (\S+)/.exec(line)?.[1];
      if (name !== undefined) {
        isKnown = families.has(name);
        family = families.get(name) ?? { head: [], samples: [] };
        families.set(name, family);
      }
      if (line.startsWith("#")) {
        if (!isKnown) {
          family?.head.push(line);
        }
      } else if (line !== "") {
        family?.samples.push(line);
      }
    }
  }
  return [...families.values()].flatMap(({ head, samples }) => [...head, ...samples, ""]).join("\n");
}
