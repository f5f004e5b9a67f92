/** `sockerless gc`: what is left on the disk and in the cloud that no container needs. */
import { existsSync } from "node:fs";
import path from "node:path";

import type { CollectRequest } from "../backends/cloud/orphans/collect.ts";
import { collectLeftovers, type Remnant } from "../backends/state/leftovers.ts";
import { openState } from "../backends/state/state.ts";
import { systemClock } from "../common/clock.ts";
import type { Config } from "../common/config/load.ts";
import { conflict, invalid, isErrorKind, messageOf } from "../common/errors.ts";
import { refuseForeignFiles } from "./state-tree.ts";

/** Entries of a state directory that are opened, or have remnants. */
const examined = ["db", "spare", "set-aside", "damaged", "before-upgrade"];

/** Options of a collection. */
export interface GarbageRequest {
  /** Whether to remove what is found, or only show it. */
  readonly remove: boolean;
  /** Another, permanently lost instance; undefined for this one. */
  readonly instance: string | undefined;
  readonly format: "table" | "json";
  /** Receives each line as it is known; a JSON array comes whole at the end. */
  readonly print: (line: string) => void;
}

/**
 * Shows, and on request removes, what a state directory and its cloud have that no container needs.
 *
 * @throws SockerlessError `conflict`: the daemon runs, or has never run on the state; `invalid`: there is a link, or the like,
 *   where the daemon has files and directories
 */
export async function collectGarbage(config: Config, request: GarbageRequest): Promise<void> {
  const { remove, instance, format, print } = request;
  if (config.backend === "local" && instance !== undefined) {
    throw invalid("--instance is of clouds: on this machine each state directory has its own");
  }
  if (!existsSync(path.join(config.stateDir, "db"))) {
    throw conflict(
      `no backend has run on the state in ${config.stateDir}: name the daemon's with --state-dir`,
    );
  }
  await refuseForeignFiles(config.stateDir, examined);
  const remnants: Remnant[] = [];
  const report = (remnant: Remnant): void => {
    remnants.push(remnant);
    if (format === "table") {
      print(inWords(remnant));
    }
  };
  const state = await openState({ directory: config.stateDir, clock: systemClock }).catch(
    (error: unknown) => {
      throw isErrorKind(error, "conflict")
        ? conflict(`${messageOf(error)}: stop it first, with \`sockerless stop\``, error)
        : error;
    },
  );
  try {
    await collectLeftovers(config.stateDir, { remove, nowMs: systemClock.nowMs(), report });
    await collectInCloud(config, { state, remove, instance, report });
  } finally {
    await state.close();
  }
  if (format === "json") {
    print(JSON.stringify(remnants, undefined, 2));
  }
}

async function collectInCloud(config: Config, request: CollectRequest): Promise<void> {
  switch (config.backend) {
    case "local":
      break; // A backend that starts takes over or removes all that it has made here.
    case "ecs":
      await (await import("../backends/ecs/orphans.ts")).collect(config, request);
      break;
    case "aca":
      await (await import("../backends/aca/orphans.ts")).collect(config, request);
      break;
    case "kubernetes":
      await (await import("../backends/kubernetes/orphans.ts")).collect(config, request);
      break;
  }
}

/** A line for a terminal. */
function inWords({ outcome, kind, id, purpose, instance, bytes, reason }: Remnant): string {
  const size = bytes === undefined ? [] : [`${(bytes / 1024 ** 2).toFixed(1)} MiB`];
  const about = [purpose, ...(instance === undefined ? [] : [`instance ${instance}`]), ...size];
  return `${outcome}: ${kind} ${id} (${about.join(", ")})${reason === undefined ? "" : `: ${reason}`}`;
}
