/** A life of containers in a cloud that denies one thing, and where that is told. */
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";

import { runCommand } from "./command.ts";
import { checkout, type Daemon } from "./daemon.ts";
import { busyboxRootfsFile } from "./images.ts";

/** A permission as a cloud denies it. */
export interface MissingPermission {
  /** Whether a text names it. */
  isNamedIn(text: string): boolean;
  /** The times of its denials, milliseconds since 1970. */
  deniedAt(): readonly number[];
}

/** A life's trouble, and how it was told. */
export interface TroubledLife {
  /** How often it was denied. */
  readonly denials: number;
  /** From the first denial to the first line of the log that names it, milliseconds; undefined: there is none. */
  readonly loggedAfterMs: number | undefined;
  /** Commands that failed behind a denial, without a word of it in their error or, while they went on, in `sockerless why`. */
  readonly untold: readonly string[];
  /** From a command's first denial until its error, or `sockerless why`, named it: the longest, milliseconds. */
  readonly toldAfterMs: number;
  /** Commands with their results, and the log. */
  readonly transcript: string;
}

const lookEveryMs = 500;

/** Lives through networks, volumes, images, containers and their removal, whatever fails. */
export async function liveWithout(
  missing: MissingPermission,
  start: () => Promise<Daemon>,
): Promise<TroubledLife> {
  const daemon = await start();
  const untold: string[] = [];
  const transcript: string[] = [];
  let toldAfterMs = 0;

  const docker = (...args: string[]): Promise<boolean> => starting("", ...args);
  /** @param name of the container that is started; empty: none is. @returns whether it went well */
  const starting = async (name: string, ...args: string[]): Promise<boolean> => {
    const begunMs = Date.now();
    const over = new AbortController();
    const firstMs = (): number | undefined => missing.deniedAt().find((atMs) => atMs >= begunMs);
    let toldAtMs: number | undefined;
    const asking = (async () => {
      while (name !== "" && !over.signal.aborted && toldAtMs === undefined) {
        if (firstMs() !== undefined && missing.isNamedIn(await why(daemon, name))) {
          toldAtMs = Date.now();
        }
        await setTimeout(lookEveryMs, undefined, { signal: over.signal }).catch(() => {});
      }
    })();
    const { code, errorText } = await daemon.docker(...args);
    over.abort();
    await asking;
    if (missing.isNamedIn(errorText)) {
      toldAtMs ??= Date.now();
    }
    const deniedMs = firstMs();
    if (deniedMs !== undefined && code !== 0) {
      if (toldAtMs === undefined) {
        untold.push(args.join(" "));
      }
      toldAfterMs = Math.max(toldAfterMs, (toldAtMs ?? Date.now()) - deniedMs);
    }
    transcript.push(`docker ${args.join(" ")}: ${code} ${errorText}`);
    return code === 0;
  };

  /** Removals of what was made: that of anything else fails for a reason of its own. */
  const removals: (readonly string[])[] = [];
  const making = async (removal: readonly string[], ...args: string[]): Promise<void> => {
    if (await docker(...args)) {
      removals.unshift(removal);
    }
  };

  await making(["rmi", "--force", "mine"], "import", await busyboxRootfsFile(), "mine");
  await making(["network", "rm", "lane"], "network", "create", "lane");
  await making(["network", "rm", "inner"], "network", "create", "--internal", "inner");
  await making(["volume", "rm", "kept"], "volume", "create", "kept");
  const mounts = ["--network", "lane", "--volume", "kept:/v", "mine"];
  const [isUp] = await Promise.all([
    starting("one", "run", "--detach", "--name", "one", ...mounts, "sh", "-c", "echo hi; sleep 600"),
    starting("two", "run", "--name", "two", "mine", "true"),
  ]);
  await docker("logs", "two");
  if (isUp) {
    await starting("one", "restart", "--time", "1", "one");
  }
  await docker("rm", "--force", "one", "two");
  for (const removal of removals) {
    await docker(...removal);
  }
  const denials = missing.deniedAt();
  return {
    denials: denials.length,
    loggedAfterMs: loggedAfter(missing, daemon.output),
    untold,
    toldAfterMs,
    transcript: [...transcript, daemon.output].join("\n"),
  };
}

async function why(daemon: Daemon, container: string): Promise<string> {
  const command = [join(checkout, "dist/bundle/cli/main.js"), "why", container];
  return (await runCommand(process.execPath, command, { env: daemon.clientEnv })).text;
}

/** By the times of the log itself. */
function loggedAfter(missing: MissingPermission, log: string): number | undefined {
  const line = log.split("\n").find((each) => each.startsWith("{") && missing.isNamedIn(each));
  const [deniedMs = 0] = missing.deniedAt();
  return line === undefined
    ? undefined
    : Math.max(0, Date.parse((JSON.parse(line) as { time: string }).time) - deniedMs);
}
