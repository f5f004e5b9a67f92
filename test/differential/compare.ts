/** Comparing two daemons in the same state by their answers. */
import type { Daemon } from "../support/daemon.ts";
import type { Dockerd } from "../support/dockerd.ts";
import type { Call } from "./calls.ts";
import type { Observation } from "./observe.ts";
import type { Aspect } from "./rules.ts";

/** Decides whether a difference has a reason; one side may be empty. */
export type Intention = (call: Call, aspect: Aspect, ours: string, theirs: string) => boolean;

/** Gives a daemon the containers that the calls are about. */
export async function startContainers(engine: Dockerd | Daemon): Promise<void> {
  await engine.ok("run", "-d", "--network=none", "--name=running", "busybox", "sleep", "1000000");
  await engine.docker("run", "--network=none", "--name=exited", "busybox", "sh", "-c", "echo out; exit 3");
  await engine.ok("create", "--network=none", "--name=created", "busybox", "true");
}

/** Lists the differences between two answers to a call that are not intended, a line each. */
export function differencesOf(
  call: Call,
  ours: Observation,
  theirs: Observation,
  isIntended: Intention,
): string[] {
  const differences: string[] = [];
  const compare = (aspect: Aspect, here: string, there: string): void => {
    if (here !== there && !isIntended(call, aspect, here, there)) {
      differences.push(`${aspect}: ${here || "nothing"} instead of ${there || "nothing"}`);
    }
  };
  const compareLines = (aspect: Aspect, here: readonly string[], there: readonly string[]): void => {
    for (const line of new Set([...here, ...there])) {
      const isOurs = here.includes(line);
      if (isOurs !== there.includes(line)) {
        compare(aspect, isOurs ? line : "", isOurs ? "" : line);
      }
    }
  };
  compare("error", errorOf(ours), errorOf(theirs));
  // Nothing more can be compared if one of them refuses.
  if (ours.status >= 400 === theirs.status >= 400) {
    compare("contentType", ours.contentType, theirs.contentType);
    compareLines("headers", ours.headers, theirs.headers);
    compareLines("shape", ours.shape, theirs.shape);
  }
  return differences;
}

function errorOf({ status, message }: Observation): string {
  return `${status} ${message}`.trim();
}
