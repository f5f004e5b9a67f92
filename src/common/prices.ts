/** Prices of vCPUs and memory, as of a date. */
import { readFileSync } from "node:fs";

import * as v from "valibot";

import type { Config } from "./config/load.ts";
import { read, object } from "./documents.ts";
import { invalid, messageOf, notImplemented } from "./errors.ts";

const amount = v.pipe(v.number(), v.minValue(0));

const pricesSchema = object({
  /** Day on which they held, `2026-06-01`. */
  date: v.pipe(v.string(), v.isoDate("Invalid ISO date")),
  /** The place that has them: `AWS Fargate, us-east-1, x86_64`. */
  of: v.string(),
  currency: v.string(),
  perVcpuHour: amount,
  perGibHour: amount,
  /** Least seconds of a run that are charged. */
  leastSeconds: v.optional(amount, 0),
});

/** Prices of one place. */
export type Prices = v.InferOutput<typeof pricesSchema>;

interface Rate {
  readonly perVcpuHour: number;
  readonly perGibHour: number;
}

/** Source: https://aws.amazon.com/fargate/pricing, on demand, Linux. */
const fargateDate = "2026-06-01";
const fargateLeastSeconds = 60;
const fargateRegions: ReadonlySet<string> = new Set(["us-east-1", "us-east-2", "us-west-2"]);
const fargate: Readonly<Record<"amd64" | "arm64", Rate>> = {
  amd64: { perVcpuHour: 0.04048, perGibHour: 0.004445 },
  arm64: { perVcpuHour: 0.03238, perGibHour: 0.00356 },
};

/**
 * The prices of a backend's containers.
 *
 * @param file JSON with prices of one's own; undefined for those that are known here
 * @throws invalid: no such file; not-implemented: no prices are known for the place
 */
export function pricesFor(config: Config, file: string | undefined): Prices {
  if (file !== undefined) {
    return readPrices(file);
  }
  if (config.backend === "ecs" && fargateRegions.has(config.ecs.region)) {
    const { region, architecture } = config.ecs;
    return {
      date: fargateDate,
      of: `AWS Fargate, ${region}, ${architecture}, on demand`,
      currency: "USD",
      ...fargate[architecture],
      leastSeconds: fargateLeastSeconds,
    };
  }
  const place = { local: "this machine", ecs: "this region", aca: "Azure", kubernetes: "a cluster" };
  throw notImplemented(
    `the prices of ${place[config.backend]} are not known here: name them with --prices FILE, or pool.prices ` +
      `({"date": "2026-06-01", "of": "…", "currency": "USD", "perVcpuHour": 0.04, "perGibHour": 0.004})`,
  );
}

function readPrices(file: string): Prices {
  let document: unknown;
  try {
    document = JSON.parse(readFileSync(file, "utf8"));
  } catch (error) {
    throw invalid(`${file}: ${messageOf(error)}`, error);
  }
  const { value, misfit } = read(pricesSchema, document);
  if (misfit !== undefined) {
    throw invalid(`${file}: ${misfit.place}: ${misfit.message}`);
  }
  return value;
}
